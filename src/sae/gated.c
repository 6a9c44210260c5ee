/* Gated SAEs (Rajamanoharan et al. 2024, arXiv 2404.16014). With u = W_enc (x - b_dec):
 *     pi = u + b_gate,  m = exp(r_mag) u + b_mag,  z = m where pi > 0 and m > 0,
 *     L = E|x - x_hat(z)|^2 + lambda E|relu(pi)|_1 + E|x - x_hat'(relu(pi))|^2, the last with a decoder that does not learn.
 * b_enc is b_gate. Part 0 holds z, part 1 relu(pi); both have all latents whose gate is open, in the same places. */
#include "sae/variants.h"

#include <math.h>

static float magnitude(const mw_sae *sae, int64_t i, float pi) {
    return expf(sae->extra[0][i]) * (pi - sae->b_enc[i]) + sae->extra[1][i];
}

static float positive_magnitude(const mw_sae *sae, int64_t i, float pi) {
    float m = magnitude(sae, i, pi);
    return m > 0 ? m : NAN;
}

mw_status gated_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return open_codes(sae, x, rows, (opening){.level = 0, .value = positive_magnitude}, out);
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
    mw_codes *z = &t->part[0].c.mine, *gate = &t->part[1].c.mine;
    MW_TRY(open_codes(t->sae, x, t->end - t->begin, (opening){.level = 0}, gate));
    MW_TRY(mw_codes_begin(z, gate->rows));
    MW_TRY(mw_codes_reserve(z, 0, gate->start[gate->rows]));
    for (int64_t r = 0; r < gate->rows; r++) z->start[r + 1] = gate->start[r + 1];
    for (int64_t j = 0; j < gate->start[gate->rows]; j++) {
        z->index[j] = gate->index[j];
        z->value[j] = fmaxf(magnitude(t->sae, gate->index[j], gate->value[j]), 0);
    }
    return MW_OK;
}

/* Gradients with respect to u. */
void gated_shape(mw_trainer *t) {
    codes *z = &t->part[0].c, *gate = &t->part[1].c;
    for (int64_t j = z->start[t->begin]; j < z->start[t->end]; j++) {
        z->grad[j] *= z->value[j] > 0 ? expf(t->sae->extra[0][z->index[j]]) : 0;
        gate->grad[j] += (float)t->penalty_unit;
    }
}

double gated_penalty(const mw_trainer *t) {
    const codes *gate = &t->part[1].c;
    double sum = 0;
    for (int64_t j = 0; j < gate->start[t->options.batch]; j++) sum += gate->value[j];
    return sum / (double)t->options.batch;
}

/* dm/dr_mag = exp(r_mag) u = m - b_mag, and dL/dm = dL/du exp(-r_mag). */
void gated_finish(mw_trainer *t) {
    for (int64_t i = 0; i < t->n_latents; i++) {
        const double *sums = t->part[0].sums + i * PART_SUMS;
        double shrink = exp(-(double)t->sae->extra[0][t->first_latent + i]), b = t->sae->extra[1][t->first_latent + i];
        t->parameter[P_EXTRA].grad[i] = (float)(shrink * (sums[SUM_GRAD_VALUE] - b * sums[SUM_GRAD]));
        t->parameter[P_EXTRA + 1].grad[i] = (float)(shrink * sums[SUM_GRAD]);
    }
}
