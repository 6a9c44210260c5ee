/* What a run left behind, for those who show it. */
#ifndef MICROW_EXPERIMENT_RUN_RESULTS_H
#define MICROW_EXPERIMENT_RUN_RESULTS_H

#include "experiment/run/run.h"

/* NULL or false: not there. */
typedef struct results {
    json_t *harvest, *history, *evaluation, *steering, *sweep;
    mw_discovery discovery;
    bool discovered;
    mw_names names;
} results;
/* Local; opens the run's SAE if there is one. */
mw_status results_collect(run *r, results *out) MW_MUST_USE;
bool results_is_empty(const results *m);
void results_release(results *m);

#endif
