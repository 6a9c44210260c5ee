/* One SAE of a joint training. The words: a training (mw_training) is the public description of the job and its
 * results; a trainee is that job while it runs: scales, history, checkpoints; its trainer (mw_trainer) is the state of
 * its steps. */
#ifndef MICROW_SAE_TRAIN_TRAINEE_H
#define MICROW_SAE_TRAIN_TRAINEE_H

#include "sae/rows/feed.h"
#include "sae/train/history.h"
#include "sae/rows/scales.h"

enum { UNUSABLE_MAX = 64 };

typedef struct trainee {
    mw_training *job; /* borrowed, as are comm, feed, memory, x and y, which all trainees use */
    const mw_comm *comm;
    feed *feed;
    mw_backend *memory; /* in whose memory the rows of a step are */
    float *x, *y;       /* scratch: this rank's rows, scaled; y NULL: x is reconstructed */
    mw_trainer *trainer;
    scales scales;
    float *factor_x, *factor_y; /* [d], [d_out] the scales in that memory */
    history history;
    int64_t unusable[UNUSABLE_MAX], n_unusable; /* steps of checkpoints that cannot be resumed */
    int64_t first_step;                         /* step at which it started or resumed */
    double saved_at;                            /* time of the last checkpoint, as mw_seconds */
    bool active;                                /* has steps to do */
} trainee;

/* Sets initial weights from a sample, or resumes from the newest valid checkpoint. All of these functions are
 * collective. */
mw_status trainee_begin(trainee *t) MW_MUST_USE;
/* Does one step on this rank's rows of a batch as stored, x [rows, d] and y [rows, d_out], in `memory`; logs it and
 * saves a checkpoint when one is due. Clears `active` after the last step. `ready`: this rank's status so far; where it
 * is not MW_OK on all ranks, the step fails on all and changes nothing. */
mw_status trainee_step(trainee *t, mw_status ready, const float *raw_x, const float *raw_y) MW_MUST_USE;
/* Saves a checkpoint of the steps done, after a signal. */
mw_status trainee_interrupt(trainee *t) MW_MUST_USE;
/* Completes the SAE after its last step: running means, threshold, scales folded in; saves it. */
mw_status trainee_finish(trainee *t) MW_MUST_USE;
void trainee_free(trainee *t);

#endif
