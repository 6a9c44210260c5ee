/* What a run left behind, for those who show it. */
#ifndef MICROW_EXPERIMENT_RUN_RESULTS_H
#define MICROW_EXPERIMENT_RUN_RESULTS_H

#include "experiment/run/run.h"

/* NULL or false: not there. */
typedef struct material {
    json_t *harvest, *history, *evaluation, *steering, *sweep;
    mw_discovery discovery;
    bool discovered;
    mw_names names;
} material;
/* Local; opens the run's SAE if there is one. */
mw_status material_collect(run *r, material *out) MW_MUST_USE;
bool material_is_empty(const material *m);
void material_release(material *m);

#endif
