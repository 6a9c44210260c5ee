/* Gated SAEs (Rajamanoharan et al. 2024, arXiv 2404.16014). With u = W_enc (x - b_dec):
 *     pi = u + b_gate,  m = exp(r_mag) u + b_mag,  z = m where pi > 0 and m > 0,
 *     L = E|x - x_hat(z)|^2 + lambda E|relu(pi)|_1 + E|x - x_hat'(relu(pi))|^2, the last term with a frozen decoder.
 * b_enc is b_gate. Code set 0 holds z, code set 1 relu(pi); both have an entry for each latent with an open gate, in
 * the same order. */
#include "sae/variants/variants.h"

#include <math.h>

/* Replaces pi of open gates by z = max(m, 0). */
static mw_status replace_by_magnitudes(const mw_sae *s, mw_codes *codes) {
    const mw_entry_map how = {.map = MW_MAP_MAGNITUDE, .table = {s->extra[0], s->b_enc, s->extra[1]}};
    return s->backend->ops->map_entries(s->backend, &how, codes->value, codes->index, codes->value,
                                        codes->start[codes->rows]);
}

mw_status gated_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    mw_codes gates = {.memory = out->memory};
    const mw_filter positive = above(sae, 0);
    mw_status status = codes_above(sae, x, rows, (mw_threshold){.level = 0}, &gates);
    if (status == MW_OK) status = replace_by_magnitudes(sae, &gates);
    if (status == MW_OK) status = keep_codes(sae->backend, &gates, rows, &positive, out);
    mw_codes_free(&gates);
    return status;
}

void gated_lay_out(const mw_trainer *t, layout *out) {
    (void)t;
    *out = (layout){.n_sets = 2,
                    .n_recons = 2,
                    .zeros = true,
                    .bias_recons = 1,
                    .uses = {SET_DECODES | SET_ENCODES | SET_FIRES, SET_ENCODES | SET_BIASES},
                    .recon = {0, 1},
                    .weight = {1, 1}};
}

mw_status gated_select(mw_trainer *t, mw_status ready, const float *x) {
    mw_codes *gates = &t->set[1].mine, *magnitudes = &t->set[0].mine;
    const mw_filter all = above(t->sae, -INFINITY);
    MW_TRY(ready);
    MW_TRY(codes_above(t->sae, x, t->end - t->begin, (mw_threshold){.level = 0}, gates));
    MW_TRY(keep_codes(t->backend, gates, gates->rows, &all, magnitudes));
    return replace_by_magnitudes(t->sae, magnitudes);
}

/* Turns dL/dz and dL/dpi into dL/du. */
mw_status gated_shape(mw_trainer *t) {
    MW_TRY(map_gradients(t, &t->set[0], &(mw_entry_map){.map = MW_MAP_GATE, .table = {t->sae->extra[0]}}));
    return map_gradients(t, &t->set[1], &(mw_entry_map){.map = MW_MAP_ADD, .a = t->penalty_unit});
}

/* Sums over rows: dL/du, and z dL/du. */
mw_status gated_sum(mw_trainer *t) {
    const code_set *open = &t->set[0];
    MW_TRY(sum_over_rows(t, open, open->grad, t->share_sums[0]));
    MW_TRY(sum_mapped(t, open, &(mw_entry_map){.map = MW_MAP_TIMES}, open->grad, t->share_sums[1]));
    return sum_over_rows(t, &t->set[1], t->set[1].share.value, t->costs);
}

/* Host copies of the parameters by latent. */
typedef struct gate {
    float *r_mag, *b_mag;
} gate;

static void close_gate(const mw_sae *s, gate *g) {
    give_back(s->backend, g->r_mag);
    give_back(s->backend, g->b_mag);
}

static mw_status open_gate(const mw_sae *s, gate *g) {
    size_t bytes = (size_t)s->n * sizeof(float);
    *g = (gate){0};
    mw_status status = borrow(s->backend, s->extra[0], bytes, &g->r_mag);
    if (status == MW_OK) status = borrow(s->backend, s->extra[1], bytes, &g->b_mag);
    if (status != MW_OK) close_gate(s, g);
    return status;
}

/* dm/dr_mag = exp(r_mag) u = m - b_mag, and dL/dm = dL/du exp(-r_mag). */
static void finish_share(const mw_trainer *t, const gate *g, float *r_grad, float *b_grad) {
    for (int64_t i = 0; i < t->n_latents; i++) {
        double sum = t->share_sums[0][i], with_z = t->share_sums[1][i];
        double shrink = exp(-(double)g->r_mag[t->first_latent + i]), b = g->b_mag[t->first_latent + i];
        r_grad[i] = (float)(shrink * (with_z - b * sum));
        b_grad[i] = (float)(shrink * sum);
    }
}

mw_status gated_finish(mw_trainer *t) {
    parameter *p = &t->parameter[P_EXTRA];
    size_t bytes = (size_t)t->n_latents * sizeof(float);
    float *grad[MW_EXTRAS] = {NULL};
    gate g;
    MW_TRY(open_gate(t->sae, &g));
    mw_status status = borrow(t->backend, p[0].grad, bytes, &grad[0]);
    if (status == MW_OK) status = borrow(t->backend, p[1].grad, bytes, &grad[1]);
    if (status == MW_OK) finish_share(t, &g, grad[0], grad[1]);
    for (int i = 0; i < MW_EXTRAS && status == MW_OK; i++) status = write_back(t->backend, p[i].grad, bytes, grad[i]);
    for (int i = 0; i < MW_EXTRAS; i++) give_back(t->backend, grad[i]);
    close_gate(t->sae, &g);
    return status;
}
