/* The points of a sweep that were given to these ranks: trained on shared batches, then each through its other stages. */
#ifndef MICROW_EXPERIMENT_SWEEP_SWEEP_RUN_H
#define MICROW_EXPERIMENT_SWEEP_SWEEP_RUN_H

#include "experiment/sweep/sweep.h"
#include "experiment/run/train_job.h"

typedef struct point_run {
    const sweep_point *point;
    const mw_run_options *options;
    mw_experiment *e;
    run r;
    train_job job;
    mw_training training;
    mw_status status;
    bool finished; /* before: nothing to do */
    bool opened;   /* r is open */
    bool chosen;   /* in the round at hand */
    bool tried;
} point_run;

/* What is to be done, one by one. A point that cannot be has a status. Collective. */
mw_status points_plan(const sweep *s, const mw_comm *comm, const mw_run_options *options,
                      point_run *points) MW_MUST_USE;
/* Trains those of `points` that are not finished, as many at once as fit into `bytes` of memory a rank, and takes
 * each through discover, evaluate and steer. `base` has a backend, and lends it, its model and texts. MW_INTERRUPTED if asked to
 * end; what goes wrong with a point is in its status. Collective. */
mw_status points_go(point_run *const *points, int64_t n, double bytes, run *base) MW_MUST_USE;
/* Of all that a point's stages do: the manifest has it of a point that is finished. */
mw_status sweep_mark(const mw_experiment *e, char out[MW_SHA256_TEXT]) MW_MUST_USE;
void points_close(point_run *points, int64_t n);

#endif
