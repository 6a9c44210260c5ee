/* The checkpoints of a run in its folder: checkpoint-STEP.safetensors, of which the last few are kept. */
#ifndef MICROW_SAE_TRAIN_CHECKPOINT_FOLDER_H
#define MICROW_SAE_TRAIN_CHECKPOINT_FOLDER_H

#include "microw/sae.h"

/* Caller frees; NULL: out of memory. */
char *checkpoint_path(const char *folder, int64_t step);
/* Steps of the checkpoints in a folder, newest first, at most `most`. A folder that is not there has none. */
int64_t checkpoints_list(const char *folder, int64_t *steps, int64_t most);
/* Removes those of these steps, but one. */
void checkpoints_remove(const char *folder, const int64_t *steps, int64_t count, int64_t except);
/* Removes all but the newest `keep`, and what was never finished. */
void checkpoints_prune(const char *folder, int64_t keep);
/* Removes what a training leaves in its folder beside them, by name. */
void remove_files(const char *folder, bool (*unwanted)(const char *name));

#endif
