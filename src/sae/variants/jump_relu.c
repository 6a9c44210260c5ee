/* JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435): z = a where a > theta_i. The loss adds lambda E L0, or with a
 * target lambda (E L0 / target - 1)^2 (the form with a target of dictionary_learning and SAELens), or lambda E sum_i
 * tanh(4 z_i |W_dec,i|) (Anthropic, January 2025 update). theta learns through the rectangle kernel of width eps, K = 1
 * where |a - theta| < eps / 2: dz/dtheta = -(theta / eps) K, dL0/dtheta = -(1 / eps) K, dL0/da = 0. The parameter is
 * theta, not its logarithm, which Adam moves too slowly in runs of usual length. Its learning rate is sqrt(d) times
 * that of the weights, because theta has the scale of activations. Code set 0 holds the active latents, code set 1 all
 * whose pre-activation lies in the kernel, active or not. */
#include "sae/variants/variants.h"

#include <math.h>

static const double tanh_scale = 4;

static double bandwidth(const mw_train_options *o) {
    return isnan(o->bandwidth) ? 2 : o->bandwidth;
}

mw_status jump_relu_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return codes_above(sae, x, rows, (mw_threshold){.floor = sae->extra[0]}, out);
}

void jump_relu_start(mw_sae *sae, const mw_train_options *o, int64_t first, int64_t count) {
    double theta = !isnan(o->threshold_init) ? o->threshold_init : o->penalty == MW_PENALTY_TANH ? 0.1 : 0.01;
    for (int64_t i = first; i < first + count; i++) sae->extra[0][i] = (float)theta;
}

void jump_relu_lay_out(const mw_trainer *t, layout *out) {
    (void)t;
    *out =
        (layout){.n_sets = 2, .n_recons = 1, .bias_recons = 1, .uses = {SET_WHOLE, 0}, .recon = {0, 0}, .weight = {1}};
}

mw_status jump_relu_select(mw_trainer *t, mw_status ready, const float *x) {
    const float *theta = t->sae->extra[0];
    const mw_threshold how[2] = {{.floor = theta}, {.floor = theta, .margin = (float)(bandwidth(&t->options) / 2)}};
    mw_codes *const out[2] = {&t->set[0].mine, &t->set[1].mine};
    MW_TRY(ready);
    return codes_above_both(t->sae, x, t->end - t->begin, how, out);
}

/* d penalty / d L0 of a row. */
static double l0_slope(const mw_trainer *t) {
    double target = t->options.l0_target, l0 = (double)t->active / (double)t->options.batch;
    return t->penalty_unit * (target > 0 ? 2 * (l0 / target - 1) / target : 1);
}

static bool is_smooth(const mw_trainer *t) {
    return t->options.penalty == MW_PENALTY_TANH;
}

/* Turns the gradients of code set 1 into dL/dtheta, without the factor -1 / eps. */
mw_status jump_relu_shape(mw_trainer *t) {
    mw_entry_map active = {.map = MW_MAP_ADD_SLOPE, .a = t->penalty_unit, .c = tanh_scale}, near = active;
    near.map = MW_MAP_EDGE;
    near.table[1] = t->sae->extra[0];
    if (!is_smooth(t)) {
        near.b = l0_slope(t);
        return map_gradients(t, &t->set[1], &near);
    }
    MW_TRY(decoder_norms(t));
    active.table[0] = near.table[0] = t->norms;
    MW_TRY(map_gradients(t, &t->set[0], &active));
    return map_gradients(t, &t->set[1], &near);
}

mw_status jump_relu_sum(mw_trainer *t) {
    const code_set *active = &t->set[0];
    const mw_entry_map cost = {.map = MW_MAP_TANH, .c = tanh_scale, .table = {t->norms}};
    MW_TRY(sum_over_rows(t, &t->set[1], t->set[1].grad, t->share_sums[0]));
    return is_smooth(t) ? sum_mapped(t, active, &cost, active->share.value, t->costs)
                        : count_over_rows(t, active, t->costs);
}

double jump_relu_penalty(const mw_trainer *t, double cost) {
    double target = t->options.l0_target;
    return t->options.penalty == MW_PENALTY_L0 && target > 0 ? pow(cost / target - 1, 2) : cost;
}

mw_status jump_relu_finish(mw_trainer *t) {
    double eps = bandwidth(&t->options);
    size_t bytes = (size_t)t->n_latents * sizeof(float);
    float *grad = NULL;
    MW_TRY(borrow(t->backend, t->parameter[P_EXTRA].grad, bytes, &grad));
    for (int64_t i = 0; i < t->n_latents; i++) grad[i] = (float)(-t->share_sums[0][i] / eps);
    mw_status status = write_back(t->backend, t->parameter[P_EXTRA].grad, bytes, grad);
    give_back(t->backend, grad);
    return status;
}

mw_status jump_relu_constrain(mw_trainer *t) {
    return t->backend->ops->clamp(t->backend, t->sae->extra[0] + t->first_latent, t->n_latents, 0, INFINITY);
}
