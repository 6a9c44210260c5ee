/* New starts for dead latents (Bricken et al. 2023, "Towards Monosemanticity", neuron resampling): a row of the batch is drawn
 * with chance proportional to its squared loss; the latent takes its direction, in the decoder at the length of the others,
 * in the encoder at 0.2 of the mean length of live ones, or at all of it where latents compete for k places, since at 0.2 they
 * would never win one; bias and Adam's moments become 0. What is drawn depends on the
 * seed, the step and the latent alone. */
#include "sae/variants.h"

#include <math.h>
#include <string.h>

enum { STREAM_RESAMPLE = 3 };

static const double timid_length = 0.2;

/* Running sums over rows of the squared loss of a row. */
static mw_status weigh_rows(mw_trainer *t, double *sums) {
    int64_t d = t->sae->d_out;
    for (int64_t r = t->begin; r < t->end; r++) {
        double loss = 0;
        for (int64_t i = 0; i < d; i++) loss += pow(t->error[(r - t->begin) * d + i], 2);
        sums[r] = loss * loss;
    }
    MW_TRY(gather_rows_of(t, sums, sizeof *sums));
    for (int64_t r = 1; r < t->options.batch; r++) sums[r] += sums[r - 1];
    return MW_OK;
}

static int64_t draw_row(const mw_trainer *t, const double *sums, int32_t latent) {
    int64_t low = 0, high = t->options.batch - 1;
    uint64_t place = (uint64_t)t->step * (uint64_t)t->sae->n + (uint64_t)latent;
    double at = mw_rng_uniform((uint64_t)t->options.seed, STREAM_RESAMPLE, place) * sums[high];
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (sums[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Mean length of rows [n, width] of live latents. */
static double live_length(const mw_trainer *t, const float *w, int64_t width) {
    double sum = 0;
    int64_t live = 0;
    for (int64_t i = 0, next = 0; i < t->sae->n; i++) {
        if (next < t->n_dead && t->dead[next] == i) {
            next++;
            continue;
        }
        sum += length_of(w + i * width, width);
        live++;
    }
    return live ? sum / (double)live : 1;
}

/* Parameters are whole on every rank and set by each; moments are of the share. */
static void start_anew(mw_trainer *t, int32_t latent, int64_t row, double decoder, double encoder) {
    mw_sae *sae = t->sae;
    int64_t d = sae->d, d_out = sae->d_out, mine = latent - t->first_latent;
    const float *input = t->input + row * d, *residual = t->out_grad + row * d_out; /* dL/dx_hat: the other way round */
    set_direction(sae->w_enc + latent * d, input, d, encoder);
    set_direction(sae->w_dec + latent * d_out, sae->transcoder ? residual : input, d_out,
                  sae->transcoder ? -decoder : decoder);
    sae->b_enc[latent] = 0;
    for (int i = 0; i < MW_EXTRAS && sae->extra[i]; i++) sae->extra[i][latent] = 0;
    if (variant_of(sae)->start) variant_of(sae)->start(sae, &t->options, latent, 1);
    for (int i = 0; i < P_COUNT && mine >= 0 && mine < t->n_latents; i++) {
        parameter *p = &t->parameter[i];
        if (!p->value || !p->shared) continue;
        memset(p->m + mine * p->columns, 0, (size_t)p->columns * sizeof *p->m);
        memset(p->v + mine * p->columns, 0, (size_t)p->columns * sizeof *p->v);
    }
}

mw_status resample(mw_trainer *t) {
    const mw_sae *sae = t->sae;
    double *sums = mw_calloc((size_t)t->options.batch, sizeof *sums);
    mw_status status = mw_comm_agree(t->comm, sums ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = weigh_rows(t, sums);
    if (status == MW_OK && t->n_dead < sae->n && sums[t->options.batch - 1] > 0) {
        double decoder = live_length(t, sae->w_dec, sae->d_out), encoder = live_length(t, sae->w_enc, sae->d);
        if (!variant_of(sae)->uses_k) encoder *= timid_length;
        for (int64_t i = 0; i < t->n_dead; i++) {
            start_anew(t, t->dead[i], draw_row(t, sums, t->dead[i]), decoder, encoder);
            t->since_fired[t->dead[i]] = 0;
        }
    }
    mw_free(sums);
    return status;
}
