/* From an experiment to an SAE that is trained: before, and after. */
#ifndef MICROW_EXPERIMENT_RUN_TRAIN_JOB_H
#define MICROW_EXPERIMENT_RUN_TRAIN_JOB_H

#include "experiment/run/stage_work.h"

typedef struct train_job {
    views v;
    mw_train_options options;
    work w;
    const char *folder;
    char former[MW_SHA256_TEXT]; /* fingerprint of the SAE that is replaced; "": there is none */
    bool complete;               /* it is there already */
} train_job;

/* Opens the store and says what is to be done; training_free ends what was planned. Collective, as all of these but the last. */
mw_status training_plan(run *r, train_job *job) MW_MUST_USE;
/* What the file says the SAE is to be: reading so many columns, and rebuilding sites of these widths, as a transcoder or not. */
mw_status training_shape(const mw_experiment *e, int64_t d, bool transcoder, const int64_t *part, int64_t n_targets,
                         mw_sae_shape *out) MW_MUST_USE;
/* The same for what the store holds; `part` must live as long as `out`. */
mw_status training_shape_of(const train_job *job, const mw_experiment *e, int64_t part[MW_SITES_MAX],
                            mw_sae_shape *out) MW_MUST_USE;
/* Compares the checksums of what is read, if the experiment asks for it. */
mw_status training_verify(const run *r, const train_job *job) MW_MUST_USE;
/* r->sae: new, untrained; `out` is ready for mw_sae_train_many. Takes the lock; where somebody has done the work meanwhile, the job is
 * complete, and nothing is opened. */
mw_status training_open(run *r, train_job *job, mw_training *out) MW_MUST_USE;
/* Prints the result and marks the stage as done. */
mw_status training_close(run *r, train_job *job, const mw_training *done) MW_MUST_USE;
void training_free(train_job *job);

#endif
