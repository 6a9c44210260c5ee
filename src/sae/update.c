/* The update of a step: unit decoder rows, the gradient's part along them removed, its norm limited, Adam. */
#include "sae/trainer.h"

#include <math.h>

double learning_rate(const mw_train_options *o, int64_t n, int64_t step) {
    double base = isnan(o->lr) ? 2e-4 / sqrt((double)n / 16384.0) : o->lr;
    double warm = o->warmup_steps > 0 ? fmin(1, (double)(step + 1) / (double)o->warmup_steps) : 1;
    double decay_steps = o->decay_fraction * (double)o->steps, left = (double)(o->steps - step);
    double decay = decay_steps >= 1 && left < decay_steps ? left / decay_steps : 1;
    return base * warm * decay;
}

mw_status gather_latents(mw_trainer *t, void *data, size_t row_bytes) {
    return mw_comm_gather_shares(t->comm, data, t->sae->n, LATENT_BLOCK, row_bytes);
}

/* ---- clipping -------------------------------------------------------------------------------------------- */

static double sum_of_squares(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

/* Squared norm of the whole gradient, by blocks of latents in order. */
static mw_status gradient_norm(mw_trainer *t, double *out) {
    int64_t d = t->sae->d, blocks = (t->sae->n + LATENT_BLOCK - 1) / LATENT_BLOCK,
            last = t->first_latent + t->n_latents;
    double *sums = t->encoder_sums; /* its first numbers are free by now */
#pragma omp parallel for schedule(static)
    for (int64_t block = t->first_latent / LATENT_BLOCK; block < (last + LATENT_BLOCK - 1) / LATENT_BLOCK; block++) {
        int64_t begin = block * LATENT_BLOCK - t->first_latent, end = begin + LATENT_BLOCK;
        if (end > t->n_latents) end = t->n_latents;
        sums[block] = sum_of_squares(t->g_enc + begin * d, (end - begin) * d) +
                      sum_of_squares(t->g_dec + begin * d, (end - begin) * d) +
                      sum_of_squares(t->g_benc + begin, end - begin);
    }
    MW_TRY(mw_comm_gather_shares(t->comm, sums, blocks, 1, sizeof *sums));
    *out = sum_of_squares(t->g_bdec, d);
    for (int64_t b = 0; b < blocks; b++) *out += sums[b];
    *out = sqrt(*out);
    return MW_OK;
}

static void scale_run(float factor, float *x, int64_t n) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

/* The limit is meant for the loss sum_d e^2; ours is loss_scale / d of that. */
static mw_status clip(mw_trainer *t) {
    int64_t d = t->sae->d;
    double norm = 0, limit = t->options.clip_norm * t->loss_scale / (double)d;
    if (!(t->options.clip_norm > 0)) return MW_OK;
    MW_TRY(gradient_norm(t, &norm));
    if (!(norm > limit)) return MW_OK;
    float factor = (float)(limit / norm);
    scale_run(factor, t->g_enc, t->n_latents * d);
    scale_run(factor, t->g_dec, t->n_latents * d);
    scale_run(factor, t->g_benc, t->n_latents);
    scale_run(factor, t->g_bdec, d);
    return MW_OK;
}

/* ---- the step -------------------------------------------------------------------------------------------- */

static mw_status update_share(mw_trainer *t, const mw_adam *adam) {
    mw_sae *sae = t->sae;
    mw_backend *backend = sae->backend;
    int64_t d = sae->d, n = t->n_latents, at = t->first_latent * d;
    MW_TRY(backend->ops->adam(backend, sae->w_enc + at, t->g_enc, t->m_enc, t->v_enc, n * d, adam));
    MW_TRY(backend->ops->adam(backend, sae->w_dec + at, t->g_dec, t->m_dec, t->v_dec, n * d, adam));
    MW_TRY(backend->ops->adam(backend, sae->b_enc + t->first_latent, t->g_benc, t->m_benc, t->v_benc, n, adam));
    return backend->ops->adam(backend, sae->b_dec, t->g_bdec, t->m_bdec, t->v_bdec, d, adam);
}

mw_status step_update(mw_trainer *t) {
    const mw_train_options *o = &t->options;
    double count = (double)(t->step + 1);
    t->report.lr = learning_rate(o, t->sae->n, t->step);
    mw_adam adam = {.lr = (float)t->report.lr,
                    .beta1 = (float)o->beta1,
                    .beta2 = (float)o->beta2,
                    .eps = (float)o->eps,
                    .correction1 = (float)(1 - pow(o->beta1, count)),
                    .correction2 = (float)(1 - pow(o->beta2, count))};
    mw_backend *backend = t->sae->backend;
    float *share = t->sae->w_dec + t->first_latent * t->sae->d;
    MW_TRY(mw_comm_agree(t->comm, backend->ops->unit_rows(backend, share, t->g_dec, t->n_latents, t->sae->d)));
    MW_TRY(clip(t));
    MW_TRY(mw_comm_agree(t->comm, update_share(t, &adam)));
    size_t row = (size_t)t->sae->d * sizeof(float);
    MW_TRY(gather_latents(t, t->sae->w_enc, row));
    MW_TRY(gather_latents(t, t->sae->w_dec, row));
    return gather_latents(t, t->sae->b_enc, sizeof(float));
}
