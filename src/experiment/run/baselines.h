/* The SAE of a run and its baselines: the SAEs whose scores stand side by side. */
#ifndef MICROW_EXPERIMENT_RUN_BASELINES_H
#define MICROW_EXPERIMENT_RUN_BASELINES_H

#include "experiment/run/run.h"

enum { COMPARED_MAX = 1 + MW_BASELINES };

typedef struct compared_saes {
    int64_t n;
    const char *name[COMPARED_MAX]; /* static: "trained", then the names of the baselines */
    const mw_sae *sae[COMPARED_MAX];
    mw_sae *made[COMPARED_MAX]; /* the baselines, which are owned; NULL at 0 */
} compared_saes;

/* Makes the baselines of the SAE that is open, on its device. `l0`: its active latents per row, for variants without k.
 * A transcoder has no baselines, which is logged. compared_free frees. Collective. */
mw_status run_compared(experiment_run *r, const site_views *v, double l0, compared_saes *out) MW_MUST_USE;
void compared_free(compared_saes *c);

#endif
