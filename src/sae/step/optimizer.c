/* The update of a step: unit decoder rows, the gradient's part along them removed, its norm limited, Adam. */
#include "sae/variants/variants.h"

#include <math.h>

int64_t parameter_count(const mw_trainer *t, const parameter *p) {
    return (p->shared ? t->n_latents : p->rows) * p->columns;
}

int64_t parameter_first(const mw_trainer *t, const parameter *p) {
    return p->shared ? t->first_latent * p->columns : 0;
}

/* ---- clipping -------------------------------------------------------------------------------------------- */

/* Squares of the share's gradients by block of latents, over all their parameters. */
static mw_status squares_of_share(mw_trainer *t) {
    mw_backend *b = t->backend;
    double *mine = t->encoder_sums + first_latent_block(t); /* its first numbers are free by now */
    bool add = false;
    for (int i = 0; i < P_COUNT; i++) {
        const parameter *p = &t->parameter[i];
        if (!p->value || !p->shared) continue;
        MW_TRY(b->ops->square_sums(b, mine, p->grad, t->n_latents * p->columns, LATENT_BLOCK * p->columns, add));
        add = true;
    }
    return MW_OK;
}

/* The others are whole on every rank. */
static mw_status squares_of_whole(mw_trainer *t, double *out) {
    mw_backend *b = t->backend;
    *out = 0;
    for (int i = 0; i < P_COUNT; i++) {
        const parameter *p = &t->parameter[i];
        double one = 0;
        if (!p->value || p->shared) continue;
        MW_TRY(b->ops->square_sums(b, t->sums, p->grad, p->rows * p->columns, p->rows * p->columns, false));
        MW_TRY(b->ops->download(b, &one, t->sums, sizeof one));
        *out += one;
    }
    return MW_OK;
}

/* Norm of the whole gradient, by blocks of latents in order. */
static mw_status gradient_norm(mw_trainer *t, double *out) {
    int64_t blocks = latent_blocks(t);
    MW_TRY(mw_comm_agree(t->comm, squares_of_share(t)));
    MW_TRY(gather_blocks(t, t->encoder_sums, sizeof(double)));
    mw_status status = squares_of_whole(t, out);
    if (status == MW_OK)
        status = t->backend->ops->download(t->backend, t->block_sums, t->encoder_sums, (size_t)blocks * sizeof(double));
    MW_TRY(mw_comm_agree(t->comm, status));
    for (int64_t b = 0; b < blocks; b++) *out += t->block_sums[b];
    *out = sqrt(*out);
    return MW_OK;
}

/* What the gradients are to be multiplied by. The limit is meant for the loss sum_d e^2; ours is loss_scale / d of that. */
static mw_status clip(mw_trainer *t, float *factor) {
    double norm = 0, limit = t->options.clip_norm * t->loss_scale / (double)t->sae->d_out;
    MW_TRY(gradient_norm(t, &norm));
    if (norm > limit) *factor = (float)(limit / norm);
    return MW_OK;
}

/* ---- the step -------------------------------------------------------------------------------------------- */

static mw_adam adam_of_step(const mw_trainer *t, float factor) {
    const mw_train_options *o = &t->options;
    double count = (double)(t->step + 1);
    return (mw_adam){.beta1 = (float)o->beta1,
                     .beta2 = (float)o->beta2,
                     .one_minus_beta1 = (float)(1 - o->beta1),
                     .one_minus_beta2 = (float)(1 - o->beta2),
                     .eps = (float)o->eps,
                     .correction1 = (float)(1 - pow(o->beta1, count)),
                     .correction2 = (float)(1 - pow(o->beta2, count)),
                     .grad_scale = factor};
}

/* This rank's share of it. */
static mw_status update(mw_trainer *t, parameter_index i, mw_adam adam) {
    const parameter *p = &t->parameter[i];
    const variant_row *variant = variant_of(t->sae);
    adam.lr = (float)(t->report.lr * p->lr_factor);
    MW_TRY(t->backend->ops->adam(t->backend, p->value + parameter_first(t, p), p->grad, p->m, p->v,
                                 parameter_count(t, p) / p->columns, p->columns, &adam));
    return i == P_EXTRA && variant->constrain ? variant->constrain(t) : MW_OK;
}

/* Each is on its way to the other ranks while the next is updated. `unit`: of the decoder's rows, which are free or of unit length
 * already otherwise. */
static mw_status update_all(mw_trainer *t, float factor, bool unit) {
    mw_adam adam = adam_of_step(t, factor);
    for (int i = 0; i < P_COUNT; i++) {
        const parameter *p = &t->parameter[i];
        if (!p->value) continue;
        adam.unit = unit && i == P_W_DEC;
        MW_TRY(mw_comm_agree(t->comm, update(t, i, adam)));
        if (p->shared) MW_TRY(begin_latents(t, p->value, (size_t)p->columns * sizeof(float), i));
    }
    return MW_OK;
}

/* All but the decoder, which the next step needs when it has encoded. */
static mw_status wait_for_encoder(const mw_trainer *t) {
    for (int i = 0; i < P_COUNT; i++)
        if (i != P_W_DEC) MW_TRY(end_gather(t, i));
    return MW_OK;
}

static mw_status update_means(mw_trainer *t) {
    float keep = (float)t->options.ema;
    for (int i = 0; i < P_COUNT && t->options.ema > 0; i++) {
        parameter *p = &t->parameter[i];
        if (p->value)
            MW_TRY(t->backend->ops->combine(t->backend, p->ema, keep, p->ema, 1 - keep,
                                            p->value + parameter_first(t, p), parameter_count(t, p)));
    }
    return MW_OK;
}

static mw_status gather_parameters(mw_trainer *t) {
    for (int i = 0; i < P_COUNT; i++) {
        parameter *p = &t->parameter[i];
        if (p->value && p->shared) MW_TRY(gather_latents(t, p->value, (size_t)p->columns * sizeof(float)));
    }
    return MW_OK;
}

mw_status parameters_changed(mw_trainer *t) {
    mw_sae *s = t->sae;
    if (s->w_enc16) MW_TRY(t->backend->ops->convert(t->backend, MW_BF16, s->w_enc16, s->w_enc, s->n * s->d));
    return training_packs(&t->options) ? sae_pack(s) : MW_OK;
}

/* value = ema / whole */
static mw_status take_mean(mw_trainer *t, parameter *p, double whole) {
    size_t bytes = (size_t)parameter_count(t, p) * sizeof(float);
    float *to = p->value + parameter_first(t, p), *value = NULL, *ema = NULL;
    mw_status status = borrow(t->backend, to, bytes, &value);
    if (status == MW_OK) status = borrow(t->backend, p->ema, bytes, &ema);
    for (int64_t j = 0; status == MW_OK && j < parameter_count(t, p); j++) value[j] = (float)(ema[j] / whole);
    if (status == MW_OK) status = write_back(t->backend, to, bytes, value);
    give_back(t->backend, ema);
    give_back(t->backend, value);
    return status;
}

mw_status take_means(mw_trainer *t) {
    double whole = 1 - pow(t->options.ema, (double)t->step);
    mw_status status = end_gathers(t);
    if (!(t->options.ema > 0) || t->step == 0) return status;
    for (int i = 0; i < P_COUNT && status == MW_OK; i++)
        if (t->parameter[i].value) status = take_mean(t, &t->parameter[i], whole);
    MW_TRY(mw_comm_agree(t->comm, status));
    MW_TRY(gather_parameters(t));
    return mw_comm_agree(t->comm, parameters_changed(t));
}

mw_status step_update(mw_trainer *t) {
    mw_sae *sae = t->sae;
    mw_backend *b = t->backend;
    t->report.lr = learning_rate(&t->options, sae->shard.total, t->step);
    bool unit = !variant_of(sae)->free_decoder, clipped = t->options.clip_norm > 0;
    float factor = 1, *share = sae->w_dec + t->first_latent * sae->d_out;
    if (unit && clipped) /* the norm is that of the gradients without what is along the rows */
        MW_TRY(
            mw_comm_agree(t->comm, b->ops->unit_rows(b, share, t->parameter[P_W_DEC].grad, t->n_latents, sae->d_out)));
    if (clipped) MW_TRY(clip(t, &factor));
    MW_TRY(update_all(t, factor, unit && !clipped));
    MW_TRY(mw_comm_agree(t->comm, wait_for_encoder(t)));
    int64_t every = t->options.resample_every;
    if (every > 0 && (t->step + 1) % every == 0) MW_TRY(resample(t));
    mw_status status = update_means(t);
    if (status == MW_OK) status = parameters_changed(t);
    return mw_comm_agree(t->comm, status);
}
