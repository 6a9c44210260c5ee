/* The checkpoints of a training in its folder: checkpoint-STEP.safetensors. */
#ifndef MICROW_SAE_TRAIN_CHECKPOINT_FOLDER_H
#define MICROW_SAE_TRAIN_CHECKPOINT_FOLDER_H

#include "microw/sae.h"

/* Returns the path of the checkpoint of a step. The caller frees it; NULL: out of memory. */
char *checkpoint_path(const char *folder, int64_t step);
/* Lists the steps of at most `most` checkpoints, newest first; returns their number. A missing folder has none. */
int64_t checkpoints_list(const char *folder, int64_t *steps, int64_t most);
/* Removes the checkpoints of the given steps, except that of step `except`. */
void checkpoints_remove(const char *folder, const int64_t *steps, int64_t count, int64_t except);
/* Removes all but the newest `keep` checkpoints, and unfinished ones. */
void checkpoints_prune(const char *folder, int64_t keep);
/* Removes the files of a folder whose names are `unwanted`. */
void remove_files(const char *folder, bool (*unwanted)(const char *name));

#endif
