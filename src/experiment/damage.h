/* What it does to the model's predictions when sites are replaced: all that the SAE rebuilds, by what it made of the sites it
 * reads in the undamaged model, by zeros, or by their means. */
#ifndef MICROW_DAMAGE_H
#define MICROW_DAMAGE_H

#include "experiment/run.h"

typedef enum damage_kind { DAMAGE_NONE, DAMAGE_SAE, DAMAGE_ZERO, DAMAGE_MEAN, DAMAGE_COUNT } damage_kind;

/* Means over predicted tokens, in nats. */
typedef struct damage {
    double ce[DAMAGE_COUNT]; /* cross-entropy of the next token */
    double kl[DAMAGE_COUNT]; /* from the undamaged prediction, KL(clean || damaged); 0 for DAMAGE_NONE */
    int64_t tokens, sequences;
} damage;

/* On sequences of the dataset up to evaluate.tokens tokens. Collective; the same at any number of ranks. */
mw_status measure_damage(run *r, const views *v, damage *out) MW_MUST_USE;
/* Share of the gap between a baseline (zero or mean ablation) and the clean model that the SAE keeps. NaN, undefined, where the baseline
 * is worse than the clean model by less than RECOVERED_FROM nats: the ablation does next to nothing, and the ratio would be one of noise. */
#define RECOVERED_FROM 1e-3
double recovered(double clean, double with_sae, double baseline);

#endif
