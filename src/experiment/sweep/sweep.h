/* The points of a sweep: experiments that differ from the file in a few keys.
 *
 *     sweep:
 *       sae.k: [16, 32, 64]                       # a grid: every combination
 *       train.lr: [1e-4, 3e-4]
 *     sweep:
 *       points:                                   # a list; with a grid beside it, each of them over the whole grid
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
    double memory_gb; /* of a rank; 0: half of what is free */
    int64_t teams;    /* MW_AUTO_INT: as many as there are points for */
} sweep;

/* MW_ERR_CONFIG names the line: no sweep section, a key that no point can have, two points of one name. */
mw_status sweep_read(const mw_experiment *base, sweep *out) MW_MUST_USE;
void sweep_free(sweep *s);
/* The experiment of a point: named BASE.POINT, reading the base's harvest. Errors: as for any experiment file. */
mw_status sweep_experiment(const sweep *s, int64_t point, mw_experiment **out) MW_MUST_USE;
/* By name, or by number from 0. */
mw_status sweep_find(const sweep *s, const char *name, int64_t *out) MW_MUST_USE;

#endif
