/* The results of a run, for reports and figures. */
#ifndef MICROW_EXPERIMENT_RUN_RESULTS_H
#define MICROW_EXPERIMENT_RUN_RESULTS_H

#include "experiment/run/run.h"

/* NULL or false: absent. */
typedef struct results {
    json_t *harvest, *history, *evaluation, *steering, *sweep;
    mw_discovery discovery;
    bool discovered;
    mw_names names;
} results;
/* Reads the results, and opens the run's SAE if there is one. results_release frees. Local. */
mw_status results_collect(experiment_run *r, results *out) MW_MUST_USE;
bool results_is_empty(const results *m);
void results_release(results *m);

#endif
