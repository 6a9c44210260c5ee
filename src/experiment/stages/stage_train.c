/* Stage train. */
#include "experiment/run/train_job.h"

static mw_status train(experiment_run *r, train_job *job) {
    mw_training training;
    MW_TRY(train_job_plan(r, job));
    if (job->complete) return MW_OK;
    MW_TRY(train_job_verify(r, job));
    MW_TRY(train_job_open(r, job, &training));
    if (job->complete) return MW_OK;
    /* job->views.out may point into job->views, which stays in place */
    MW_TRY(mw_sae_train_many(&training, 1, &job->views.in, job->views.out, r->comm));
    return train_job_finish(r, job, &training);
}

mw_status stage_train(experiment_run *r) {
    train_job job;
    mw_status status = train(r, &job);
    train_job_free(&job);
    return status;
}
