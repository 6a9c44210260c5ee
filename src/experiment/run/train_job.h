/* The training of an experiment's SAE, from its settings to the finished stage. */
#ifndef MICROW_EXPERIMENT_RUN_TRAIN_JOB_H
#define MICROW_EXPERIMENT_RUN_TRAIN_JOB_H

#include "experiment/run/stage_work.h"

typedef struct train_job {
    site_views views;
    mw_train_options options;
    stage_work work;
    const char *folder;
    char replaced[MW_SHA256_TEXT]; /* fingerprint of the SAE that is replaced; "": there is none */
    bool complete;                 /* the SAE is complete already */
} train_job;

/* Opens the store and computes the fingerprint, and whether the training is complete; train_job_free frees.
 * Collective. */
mw_status train_job_plan(experiment_run *r, train_job *job) MW_MUST_USE;
/* Computes the shape of the SAE that reads and rebuilds the job's sites; `part` gets their widths and must live as
 * long as `out`. Local. */
mw_status train_job_shape(const train_job *job, const mw_experiment *e, int64_t part[MW_SITES_MAX],
                          mw_sae_shape *out) MW_MUST_USE;
/* Compares the checksums of the activations, if train.verify is set. Collective. */
mw_status train_job_verify(const experiment_run *r, const train_job *job) MW_MUST_USE;
/* Takes the lock and makes a new SAE in r->sae; `out` is ready for mw_sae_train_many. If another process has
 * completed the training since, job->complete is set and nothing is opened. Collective. */
mw_status train_job_open(experiment_run *r, train_job *job, mw_training *out) MW_MUST_USE;
/* Prints the result and records the stage as finished. Collective. */
mw_status train_job_finish(experiment_run *r, train_job *job, const mw_training *done) MW_MUST_USE;
void train_job_free(train_job *job);

#endif
