/* The record of a training run: a JSON line for each logged step, and all of them by column at the end. */
#ifndef MICROW_HISTORY_H
#define MICROW_HISTORY_H

#include "microw/sae.h"

typedef struct history {
    char *lines_path,
        *columns_path; /* history.jsonl, training_history.json: of a former training until this one is finished */
    char *lines_begun, *columns_begun;
    void *stream;
} history;

/* history.jsonl.partial, from which lines of steps after `step` are dropped: a resumed run writes them again. */
mw_status history_open(const char *folder, int64_t step, history *out) MW_MUST_USE;
/* rate: rows a second. */
mw_status history_add(history *h, int64_t step, int64_t rows, double rate, const mw_step_report *r) MW_MUST_USE;
/* Makes all that can fail of the finished record, under other names; then gives it its own. */
mw_status history_finish(history *h) MW_MUST_USE;
mw_status history_publish(history *h) MW_MUST_USE;
void history_close(history *h);

#endif
