/* One SAE of a training run: what it has of its own beside the batches that all share. */
#ifndef MICROW_SAE_TRAIN_TRAINEE_H
#define MICROW_SAE_TRAIN_TRAINEE_H

#include "sae/rows/feed.h"
#include "sae/train/history.h"
#include "sae/rows/scales.h"

enum { UNUSABLE_MAX = 64 };

typedef struct trainee {
    mw_training *job;
    const mw_comm *comm;
    feed *feed;         /* shared */
    mw_backend *memory; /* of the rows that steps read */
    float *x, *y;       /* shared scratch there: this rank's rows, scaled; y NULL: x is rebuilt */
    mw_trainer *trainer;
    scales scales;
    float *factor_x, *factor_y; /* the scales, there */
    history history;
    int64_t unusable[UNUSABLE_MAX], n_unusable; /* steps of checkpoints that are damaged, or of other settings */
    int64_t first_step;                         /* step it began at */
    double saved_at;                            /* when the last checkpoint was */
    bool active;
} trainee;

/* Initial weights from the sample, or those of the newest whole checkpoint. Collective, as all of these. */
mw_status trainee_begin(trainee *t) MW_MUST_USE;
/* Its step on rows of the batch as stored, [rows, width], in `memory`. Ends it after its last one. */
mw_status trainee_step(trainee *t, const float *raw_x, const float *raw_y) MW_MUST_USE;
/* Asked to end: what the steps so far made is kept. */
mw_status trainee_interrupt(trainee *t) MW_MUST_USE;
/* After its last step: means, threshold, scales folded in, saved. */
mw_status trainee_finish(trainee *t) MW_MUST_USE;
void trainee_free(trainee *t);

#endif
