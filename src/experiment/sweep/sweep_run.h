/* The points that a team of ranks runs: trained on shared batches, then each through its other stages. */
#ifndef MICROW_EXPERIMENT_SWEEP_SWEEP_RUN_H
#define MICROW_EXPERIMENT_SWEEP_SWEEP_RUN_H

#include "experiment/sweep/sweep.h"
#include "experiment/run/train_job.h"

typedef struct point_run {
    const sweep_point *point;
    const mw_run_options *options;
    mw_experiment *e;
    experiment_run r;
    train_job job;
    mw_training training;
    mw_status status;
    bool finished; /* by an earlier command */
    bool opened;   /* r is open */
    bool chosen;   /* for this round of training */
    bool tried;    /* trained, complete or failed */
} point_run;

/* Plans each point, and finds out which are finished; an error of a point is in its status. Collective. */
mw_status points_plan(const sweep *s, const mw_comm *comm, const mw_run_options *options,
                      point_run *points) MW_MUST_USE;
/* Trains the unfinished points, as many at once as fit into `bytes` of memory per rank, and runs discover, evaluate
 * and steer for each. `base` has a backend, and lends it, its model and texts. MW_INTERRUPTED if an end is
 * requested; an error of a point is in its status. Collective. */
mw_status points_run(point_run *const *points, int64_t n, double bytes, experiment_run *base) MW_MUST_USE;
/* Computes the fingerprint of a point's stages, which the manifest of a finished point has. */
mw_status sweep_fingerprint(const mw_experiment *e, char out[MW_SHA256_TEXT]) MW_MUST_USE;
void points_close(point_run *points, int64_t n);

#endif
