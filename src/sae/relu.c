/* ReLU with an L1 penalty weighted by decoder norms (Anthropic, April 2024 update):
 *     L = E|x - x_hat|^2 + lambda E sum_i z_i |W_dec,i|
 * with a free decoder. For a crosscoder |W_dec,i| is the sum of the norms at the sites (Anthropic 2024, Crosscoders). */
#include "sae/variants.h"

#include <math.h>

mw_status relu_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return open_codes(sae, x, rows, (opening){.level = 0}, out);
}

void relu_shape(mw_trainer *t) {
    codes *c = &t->part[0].c;
    decoder_norms(t->sae, 0, t->sae->n, t->norms);
    for (int64_t j = c->start[t->begin]; j < c->start[t->end]; j++)
        c->grad[j] += (float)(t->penalty_unit * t->norms[c->index[j]]);
}

double relu_penalty(const mw_trainer *t) {
    const codes *c = &t->part[0].c;
    double sum = 0;
    for (int64_t j = 0; j < c->start[t->options.batch]; j++) sum += (double)c->value[j] * t->norms[c->index[j]];
    return sum / (double)t->options.batch;
}

/* d|W_dec,i| / dW_dec,i = W_dec,i / |W_dec,i|, at each site. */
void relu_finish(mw_trainer *t) {
    const mw_sae *sae = t->sae;
    int64_t d = sae->d_out;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < t->n_latents; i++) {
        double weight = t->penalty_unit * t->part[0].sums[i * PART_SUMS + SUM_VALUE];
        const float *w = sae->w_dec + (t->first_latent + i) * d;
        float *g = t->parameter[P_W_DEC].grad + i * d;
        for (int64_t p = 0, at = 0; p < sae->n_parts; at = sae->part_end[p++]) {
            double square = 0;
            for (int64_t j = at; j < sae->part_end[p]; j++) square += (double)w[j] * w[j];
            if (!(square > 0)) continue;
            for (int64_t j = at; j < sae->part_end[p]; j++) g[j] += (float)(weight * w[j] / sqrt(square));
        }
    }
}
