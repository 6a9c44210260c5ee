/* The history of a training: history.jsonl with a line per logged step, and its columns in training_history.json. */
#ifndef MICROW_SAE_TRAIN_HISTORY_H
#define MICROW_SAE_TRAIN_HISTORY_H

#include "microw/sae.h"

typedef struct history {
    char *lines_path, *columns_path;       /* history.jsonl, training_history.json */
    char *lines_partial, *columns_partial; /* the files written until the training ends */
    void *stream;                          /* FILE of lines_partial */
} history;

/* Opens history.jsonl, or, where the folder has an SAE already, history.jsonl.FINGERPRINT.partial. Drops the lines of
 * steps after `step`: a resumed training writes them again. */
mw_status history_open(const char *folder, int64_t step, const char *fingerprint, history *out) MW_MUST_USE;
/* Appends a line. `rows`: rows seen until `step`; `rate`: rows per second. */
mw_status history_add(history *h, int64_t step, int64_t rows, double rate, const mw_step_report *r) MW_MUST_USE;
/* Writes the columns under a temporary name, with `late_fall`: the fraction by which FVU fell over the second half of
 * the steps before `until`, from the mean of the last tenth of the first half to the mean of the last tenth; NaN where
 * a tenth has no line. */
mw_status history_finish(history *h, int64_t until, double *late_fall) MW_MUST_USE;
/* Gives both files their final names. */
mw_status history_publish(history *h) MW_MUST_USE;
/* Removes checkpoints and unfinished histories from a folder whose SAE is saved. */
void history_clean(const char *folder);
void history_close(history *h);

#endif
