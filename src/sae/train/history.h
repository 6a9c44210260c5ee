/* The record of a training run: a JSON line for each logged step, and all of them by column at the end. */
#ifndef MICROW_SAE_TRAIN_HISTORY_H
#define MICROW_SAE_TRAIN_HISTORY_H

#include "microw/sae.h"

typedef struct history {
    char *lines_path, *columns_path;       /* history.jsonl, training_history.json */
    char *lines_partial, *columns_partial; /* what is written until the training is finished */
    void *stream;
} history;

/* history.jsonl; where the folder has an SAE already, a file of another name with the training's fingerprint until that is finished. Lines
 * of steps after `step` are dropped: a resumed run writes them again. */
mw_status history_open(const char *folder, int64_t step, const char *fingerprint, history *out) MW_MUST_USE;
/* rate: rows a second. */
mw_status history_add(history *h, int64_t step, int64_t rows, double rate, const mw_step_report *r) MW_MUST_USE;
/* Makes all that can fail of the finished record, under other names; then gives it its own. */
mw_status history_finish(history *h) MW_MUST_USE;
mw_status history_publish(history *h) MW_MUST_USE;
/* Removes what trainings that are not finished have left in a folder whose SAE is: checkpoints and records. */
void history_clean(const char *folder);
void history_close(history *h);

#endif
