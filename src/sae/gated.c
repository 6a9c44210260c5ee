/* Gated SAEs (Rajamanoharan et al. 2024, arXiv 2404.16014). With u = W_enc (x - b_dec):
 *     pi = u + b_gate,  m = exp(r_mag) u + b_mag,  z = m where pi > 0 and m > 0,
 *     L = E|x - x_hat(z)|^2 + lambda E|relu(pi)|_1 + E|x - x_hat'(relu(pi))|^2, the last with a decoder that does not learn.
 * b_enc is b_gate. Part 0 holds z, part 1 relu(pi); both have all latents whose gate is open, in the same places. */
#include "sae/variants.h"

#include <math.h>

/* What is by latent, on the host. */
typedef struct gate {
    float *r_mag, *b_mag, *b_gate;
} gate;

static void close_gate(const mw_sae *s, gate *g) {
    give_back(s->backend, g->r_mag);
    give_back(s->backend, g->b_mag);
    give_back(s->backend, g->b_gate);
}

static mw_status open_gate(const mw_sae *s, gate *g) {
    size_t bytes = (size_t)s->n * sizeof(float);
    *g = (gate){0};
    mw_status status = borrow(s->backend, s->extra[0], bytes, &g->r_mag);
    if (status == MW_OK) status = borrow(s->backend, s->extra[1], bytes, &g->b_mag);
    if (status == MW_OK) status = borrow(s->backend, s->b_enc, bytes, &g->b_gate);
    if (status != MW_OK) close_gate(s, g);
    return status;
}

static float magnitude(const gate *g, int64_t i, float pi) {
    return expf(g->r_mag[i]) * (pi - g->b_gate[i]) + g->b_mag[i];
}

/* pi of open gates becomes z; where that is not positive the entry goes, or stays as 0. */
static mw_status measure(const mw_sae *sae, mw_codes *codes, bool keep) {
    gate g;
    int64_t at = 0, j = 0;
    MW_TRY(open_gate(sae, &g));
    for (int64_t r = 0; r < codes->rows; r++) {
        for (; j < codes->start[r + 1]; j++) {
            float m = magnitude(&g, codes->index[j], codes->value[j]);
            if (!(m > 0) && !keep) continue;
            codes->index[at] = codes->index[j];
            codes->value[at++] = fmaxf(m, 0);
        }
        codes->start[r + 1] = at;
    }
    close_gate(sae, &g);
    return MW_OK;
}

/* From the pi of open gates in `from`, by the host. */
static mw_status magnitudes(const mw_sae *sae, const mw_codes *from, bool keep, mw_codes *out) {
    mw_codes host = {0};
    mw_status status = codes_to_host(from, &host);
    if (status == MW_OK) status = measure(sae, &host, keep);
    if (status == MW_OK) status = codes_from_host(&host, out);
    mw_codes_free(&host);
    return status;
}

mw_status gated_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    MW_TRY(open_codes(sae, x, rows, (mw_opening){.level = 0}, out));
    return magnitudes(sae, out, false, out);
}

void gated_lay_out(const mw_trainer *t, layout *out) {
    (void)t;
    *out = (layout){.n_parts = 2,
                    .n_blocks = 2,
                    .bias_blocks = 1,
                    .uses = {PART_DECODES | PART_ENCODES | PART_FIRES, PART_ENCODES | PART_BIASES},
                    .block = {0, 1},
                    .weight = {1, 1}};
}

mw_status gated_select(mw_trainer *t, const float *x) {
    mw_codes *gates = &t->part[1].c.mine;
    MW_TRY(open_codes(t->sae, x, t->end - t->begin, (mw_opening){.level = 0}, gates));
    return magnitudes(t->sae, gates, true, &t->part[0].c.mine);
}

/* Gradients with respect to u. */
mw_status gated_shape(mw_trainer *t, entries *of) {
    const codes *c = &t->part[0].c;
    gate g;
    MW_TRY(open_gate(t->sae, &g));
    for (int64_t j = 0; j < c->start[t->end] - c->start[t->begin]; j++) {
        of[0].grad[j] *= of[0].value[j] > 0 ? expf(g.r_mag[of[0].index[j]]) : 0;
        of[1].grad[j] += (float)t->penalty_unit;
    }
    close_gate(t->sae, &g);
    return MW_OK;
}

double gated_cost(const mw_trainer *t, int64_t latent, float value) {
    (void)t;
    (void)latent;
    return value;
}

/* dm/dr_mag = exp(r_mag) u = m - b_mag, and dL/dm = dL/du exp(-r_mag). */
static void finish_share(const mw_trainer *t, const gate *g, float *r_grad, float *b_grad) {
    for (int64_t i = 0; i < t->n_latents; i++) {
        const double *sums = t->part[0].sums + i * PART_SUMS;
        double shrink = exp(-(double)g->r_mag[t->first_latent + i]), b = g->b_mag[t->first_latent + i];
        r_grad[i] = (float)(shrink * (sums[SUM_GRAD_VALUE] - b * sums[SUM_GRAD]));
        b_grad[i] = (float)(shrink * sums[SUM_GRAD]);
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
