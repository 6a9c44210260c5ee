/* The update of a step: unit decoder rows, the gradient's part along them removed, its norm limited, Adam. */
#include "sae/variants.h"

#include <math.h>
#include <string.h>

mw_status gather_latents(mw_trainer *t, void *data, size_t row_bytes) {
    return mw_comm_gather_shares(t->comm, data, t->sae->n, LATENT_BLOCK, row_bytes);
}

int64_t parameter_count(const mw_trainer *t, const parameter *p) {
    return (p->shared ? t->n_latents : p->rows) * p->columns;
}

int64_t parameter_first(const mw_trainer *t, const parameter *p) {
    return p->shared ? t->first_latent * p->columns : 0;
}

/* ---- clipping -------------------------------------------------------------------------------------------- */

static double sum_of_squares(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

/* Of latents begin .. end of the share. */
static double squares_of_latents(const mw_trainer *t, int64_t begin, int64_t end) {
    double sum = 0;
    for (int i = 0; i < P_COUNT; i++) {
        const parameter *p = &t->parameter[i];
        if (p->value && p->shared) sum += sum_of_squares(p->grad + begin * p->columns, (end - begin) * p->columns);
    }
    return sum;
}

/* Norm of the whole gradient, by blocks of latents in order. */
static mw_status gradient_norm(mw_trainer *t, double *out) {
    int64_t blocks = (t->sae->n + LATENT_BLOCK - 1) / LATENT_BLOCK, last = t->first_latent + t->n_latents;
    double *sums = t->encoder_sums; /* its first numbers are free by now */
#pragma omp parallel for schedule(static)
    for (int64_t block = t->first_latent / LATENT_BLOCK; block < (last + LATENT_BLOCK - 1) / LATENT_BLOCK; block++) {
        int64_t begin = block * LATENT_BLOCK - t->first_latent, end = begin + LATENT_BLOCK;
        sums[block] = squares_of_latents(t, begin, end > t->n_latents ? t->n_latents : end);
    }
    MW_TRY(mw_comm_gather_shares(t->comm, sums, blocks, 1, sizeof *sums));
    *out = 0;
    for (int i = 0; i < P_COUNT; i++) {
        const parameter *p = &t->parameter[i];
        if (p->value && !p->shared) *out += sum_of_squares(p->grad, p->rows * p->columns);
    }
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
    double norm = 0, limit = t->options.clip_norm * t->loss_scale / (double)t->sae->d_out;
    if (!(t->options.clip_norm > 0)) return MW_OK;
    MW_TRY(gradient_norm(t, &norm));
    if (!(norm > limit)) return MW_OK;
    for (int i = 0; i < P_COUNT; i++) {
        const parameter *p = &t->parameter[i];
        if (p->value) scale_run((float)(limit / norm), p->grad, parameter_count(t, p));
    }
    return MW_OK;
}

/* ---- the step -------------------------------------------------------------------------------------------- */

static mw_status update_share(mw_trainer *t) {
    const mw_train_options *o = &t->options;
    mw_backend *backend = t->sae->backend;
    double count = (double)(t->step + 1);
    mw_adam adam = {.beta1 = (float)o->beta1,
                    .beta2 = (float)o->beta2,
                    .rest1 = (float)(1 - o->beta1),
                    .rest2 = (float)(1 - o->beta2),
                    .eps = (float)o->eps,
                    .correction1 = (float)(1 - pow(o->beta1, count)),
                    .correction2 = (float)(1 - pow(o->beta2, count))};
    for (int i = 0; i < P_COUNT; i++) {
        parameter *p = &t->parameter[i];
        if (!p->value) continue;
        adam.lr = (float)(t->report.lr * p->lr_factor);
        MW_TRY(backend->ops->adam(backend, p->value + parameter_first(t, p), p->grad, p->m, p->v, parameter_count(t, p),
                                  &adam));
    }
    if (variant_of(t->sae)->constrain) variant_of(t->sae)->constrain(t);
    return MW_OK;
}

static void update_means(mw_trainer *t) {
    float keep = (float)t->options.ema;
    for (int i = 0; i < P_COUNT && t->options.ema > 0; i++) {
        parameter *p = &t->parameter[i];
        if (!p->value) continue;
        const float *now = p->value + parameter_first(t, p);
#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < parameter_count(t, p); j++) p->ema[j] = keep * p->ema[j] + (1 - keep) * now[j];
    }
}

static mw_status gather_parameters(mw_trainer *t) {
    for (int i = 0; i < P_COUNT; i++) {
        parameter *p = &t->parameter[i];
        if (p->value && p->shared) MW_TRY(gather_latents(t, p->value, (size_t)p->columns * sizeof(float)));
    }
    return MW_OK;
}

mw_status take_means(mw_trainer *t) {
    double whole = 1 - pow(t->options.ema, (double)t->step);
    if (!(t->options.ema > 0) || t->step == 0) return MW_OK;
    for (int i = 0; i < P_COUNT; i++) {
        parameter *p = &t->parameter[i];
        if (!p->value) continue;
        float *to = p->value + parameter_first(t, p);
        for (int64_t j = 0; j < parameter_count(t, p); j++) to[j] = (float)(p->ema[j] / whole);
    }
    return gather_parameters(t);
}

mw_status step_update(mw_trainer *t) {
    mw_sae *sae = t->sae;
    mw_backend *backend = sae->backend;
    t->report.lr = learning_rate(&t->options, sae->n, t->step);
    float *share = sae->w_dec + t->first_latent * sae->d_out;
    if (!variant_of(sae)->free_decoder)
        MW_TRY(mw_comm_agree(
            t->comm, backend->ops->unit_rows(backend, share, t->parameter[P_W_DEC].grad, t->n_latents, sae->d_out)));
    MW_TRY(clip(t));
    MW_TRY(mw_comm_agree(t->comm, update_share(t)));
    MW_TRY(gather_parameters(t));
    int64_t every = t->options.resample_every;
    if (every > 0 && (t->step + 1) % every == 0) MW_TRY(resample(t));
    update_means(t);
    return MW_OK;
}
