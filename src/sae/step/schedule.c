/* Schedules: the learning rate, k and the coefficient of the penalty as functions of the step. */
#include "sae/variants/variants.h"

#include <math.h>

static double half_cosine(double left) {
    static const double pi = 3.14159265358979323846;
    return 0.5 - 0.5 * cos(pi * left);
}

double wanted_l0(const mw_train_options *o, int64_t k) {
    return k > 0 ? (double)k : o->l0_target;
}

/* A step of Adam moves a row of W_enc, whose length is about 1, by up to lr sqrt(d): this length is what a rate limits.
 * The mean latent is active in batch k / n rows of a step, and the noise of its gradient falls with that number.
 * Where no L0 is wanted the length is half, since most such variants have no AuxK. docs/design/step.md has the
 * measurements. */
static double usual_rate(const mw_train_options *o, const mw_sae *sae) {
    static const double length = 0.0625, length_max = 0.2, active_rows = 32, steps = 500, short_run_max = 2.5;
    double l0 = wanted_l0(o, sae->k), root = sqrt((double)sae->d);
    if (!(l0 > 0)) return length / 2 / root;
    double active = (double)o->batch * l0 / (double)sae->shard.total;
    double short_run = fmin(short_run_max, fmax(1, pow(steps / fmax(1, (double)o->steps), 0.4)));
    return fmin(length_max, length * cbrt(active / active_rows) * short_run) / root;
}

double learning_rate(const mw_train_options *o, const mw_sae *sae, int64_t step) {
    double base = isnan(o->lr) ? usual_rate(o, sae) : o->lr;
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
