/* Schedules: the learning rate, k and the coefficient of the penalty as functions of the step. */
#include "sae/variants/variants.h"

#include <math.h>

static double half_cosine(double left) {
    static const double pi = 3.14159265358979323846;
    return 0.5 - 0.5 * cos(pi * left);
}

double learning_rate(const mw_train_options *o, int64_t n, int64_t step) {
    double base = isnan(o->lr) ? 2e-4 / sqrt((double)n / 16384.0) : o->lr;
    double warm = o->warmup_steps > 0 ? fmin(1, (double)(step + 1) / (double)o->warmup_steps) : 1;
    double decay_steps = o->decay_fraction * (double)o->steps, left = (double)(o->steps - step);
    if (o->decay == MW_DECAY_NONE || decay_steps < 1 || left >= decay_steps) return base * warm;
    left /= decay_steps;
    return base * warm * (o->decay == MW_DECAY_COSINE ? half_cosine(left) : left);
}

int64_t k_of_step(const mw_train_options *o, const mw_sae *sae, int64_t step) {
    if (!sae->k || o->k_anneal_steps <= 0 || step >= o->k_anneal_steps) return sae->k;
    int64_t n = sae->shard.total, start = o->k_start < n ? o->k_start : n;
    if (start < sae->k) return sae->k;
    return start - (int64_t)((double)(start - sae->k) * (double)step / (double)o->k_anneal_steps);
}

double sparsity_of_step(const mw_train_options *o, const mw_sae *sae, int64_t step) {
    const variant_row *variant = variant_of(sae);
    if (!variant->penalty) return 0;
    double usual = variant->sparsity + variant->sparsity_of_d * (double)sae->d;
    double base = !isnan(o->sparsity) ? o->sparsity : o->l0_target > 0 ? (double)sae->d : usual;
    return o->sparsity_warmup > 0 ? base * fmin(1, (double)(step + 1) / (double)o->sparsity_warmup) : base;
}

int64_t steps_of_schedules(const mw_train_options *o) {
    int64_t last = o->warmup_steps;
    if (o->sparsity_warmup > last) last = o->sparsity_warmup;
    return o->k_anneal_steps > last ? o->k_anneal_steps : last;
}
