#include "experiment/run/train_job.h"

static mw_status train(run *r, train_job *job) {
    mw_training training;
    MW_TRY(training_plan(r, job));
    if (job->complete) return MW_OK;
    MW_TRY(training_verify(r, job));
    MW_TRY(training_open(r, job, &training));
    if (job->complete) return MW_OK;
    /* job->v.out may point into job->v, which stays where it is */
    MW_TRY(mw_sae_train_many(&training, 1, &job->v.in, job->v.out, r->comm));
    return training_close(r, job, &training);
}

mw_status stage_train(run *r) {
    train_job job;
    mw_status status = train(r, &job);
    training_free(&job);
    return status;
}
