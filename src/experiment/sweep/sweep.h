/* The points of a sweep: experiments that differ from the file in some keys.
 *
 *     sweep:
 *       sae.k: [16, 32, 64]                       # a grid: every combination
 *       train.lr: [1e-4, 3e-4]
 *     sweep:
 *       points:                                   # a list; with a grid beside it, each point over the whole grid
 *         - {name: small, sae.n_latents: 4096}
 *         - {name: large, sae.n_latents: 65536, train.tokens: 1e9}
 */
#ifndef MICROW_EXPERIMENT_SWEEP_SWEEP_H
#define MICROW_EXPERIMENT_SWEEP_SWEEP_H

#include "experiment/settings.h"

typedef struct sweep_value {
    char *key; /* sae.k */
    const mw_node *node;
} sweep_value;

typedef struct sweep_point {
    char *name; /* k16_lr1e-4 */
    sweep_value *values;
    int64_t n_values, capacity;
} sweep_point;

typedef struct sweep {
    const mw_experiment *base; /* borrowed */
    sweep_point *points;
    int64_t n, capacity;
    double memory_gb; /* of a rank; 0: half of the free memory */
    int64_t teams;    /* MW_AUTO_INT: one for each point, if there are enough ranks */
} sweep;

/* Reads the sweep section; sweep_free frees. MW_ERR_CONFIG, with the line: no section, a key that points cannot
 * have, two points of one name. Local. */
mw_status sweep_read(const mw_experiment *base, sweep *out) MW_MUST_USE;
void sweep_free(sweep *s);
/* Makes the experiment of a point, named BASE.POINT, which reads the base's harvest. The caller frees. Errors of
 * mw_experiment_load. */
mw_status sweep_experiment(const sweep *s, int64_t point, mw_experiment **out) MW_MUST_USE;
/* Finds a point by its name, or by its number from 0. MW_ERR_CONFIG if there is none. */
mw_status sweep_find(const sweep *s, const char *name, int64_t *out) MW_MUST_USE;

#endif
