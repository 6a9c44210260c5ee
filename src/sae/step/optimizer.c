/* The update of a step: the gradient's part along unit decoder rows is removed, its norm is limited, Adam. */
#include "sae/step/step.h"
#include "sae/variants/variants.h"

#include <math.h>

/* ---- clipping -------------------------------------------------------------------------------------------- */

/* Over all parameters. */
static mw_status squares_of_share(mw_trainer *t) {
    mw_backend *b = t->backend;
    double *mine = t->square_sums + first_latent_block(t);
    bool add = false;
    for (int i = 0; i < P_COUNT; i++) {
        const parameter *p = &t->parameter[i];
        if (!p->value || !p->shared) continue;
        MW_TRY(b->ops->square_sums(b, mine, p->grad, t->n_latents * p->columns, LATENT_BLOCK * p->columns, add));
        add = true;
    }
    return MW_OK;
}

/* Sum of squares of the gradients that are whole on every rank. */
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

/* Norm of the whole gradient; blocks of latents are added in order. */
static mw_status gradient_norm(mw_trainer *t, double *out) {
    mw_backend *b = t->backend;
    int64_t blocks = latent_blocks(t);
    MW_TRY(squares_of_whole(t, out));
    MW_TRY(b->ops->download(b, t->block_sums, t->square_sums, (size_t)blocks * sizeof *t->block_sums));
    for (int64_t i = 0; i < blocks; i++) *out += t->block_sums[i];
    *out = sqrt(*out);
    return MW_OK;
}

/* Removes from dL/dW_dec,i its part along W_dec,i, which the unit length takes away anyway; brings W_dec,i to unit
 * length. */
static mw_status project_decoder_gradient(mw_trainer *t) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out;
    return b->ops->unit_rows(b, t->sae->w_dec + t->first_latent * d, t->parameter[P_W_DEC].grad, t->n_latents, d);
}

mw_status sum_squares(mw_trainer *t) {
    if (!(t->options.clip_norm > 0)) return MW_OK;
    if (!variant_of(t->sae)->free_decoder) MW_TRY(project_decoder_gradient(t));
    return squares_of_share(t);
}

/* clip_norm is a limit for the loss sum_d e^2; the trainer's loss is loss_scale / d of it. */
mw_status clip_gradients(mw_trainer *t, float *factor) {
    double norm = 0, limit = t->options.clip_norm * t->loss_scale / (double)t->sae->d_out;
    MW_TRY(gradient_norm(t, &norm));
    if (norm > limit) *factor = (float)(limit / norm);
    return MW_OK;
}

/* ---- Adam -------------------------------------------------------------------------------------------- */

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

/* Raises b_enc of this rank's share of the latents that AuxK trains, until they are selected. Adam's moments do not
 * see it. Where more than a third of all latents are silent the rise falls with the eighth power of the others' share:
 * so many at once would push out those that reconstruct. */
static mw_status lift_silent(mw_trainer *t) {
    double others = 1 - (double)t->all_dead / (double)t->sae->shard.total;
    float rise = (float)(t->report.lr * t->options.aux_lift * pow(fmin(1, 1.5 * others), 8));
    if (!(t->aux_k > 0 && rise > 0)) return MW_OK;
    return t->backend->ops->raise_silent(t->backend, t->sae->b_enc + t->first_latent, t->since_fired + t->first_latent,
                                         t->n_latents, silent_after(&t->options), rise);
}

/* Updates this rank's share of parameter i. */
static mw_status update_share(mw_trainer *t, parameter_index i, mw_adam adam) {
    const parameter *p = &t->parameter[i];
    const variant_row *variant = variant_of(t->sae);
    adam.lr = (float)(t->report.lr * p->lr_factor);
    MW_TRY(t->backend->ops->adam(t->backend, p->value + parameter_first(t, p), p->grad, p->m, p->v,
                                 parameter_count(t, p) / p->columns, p->columns, &adam));
    if (i == P_B_ENC) MW_TRY(lift_silent(t));
    return i == P_EXTRA && variant->constrain ? variant->constrain(t) : MW_OK;
}

/* All but the decoder's: the next step needs W_dec only when it has encoded. */
static mw_status end_gathers_of_encoder(const mw_trainer *t) {
    for (int i = 0; i < P_COUNT; i++)
        if (i != P_W_DEC) MW_TRY(end_gather(t, i));
    return MW_OK;
}

/* sum_squares has brought decoder rows to unit length, if gradients are clipped. */
static mw_status update_shares(mw_trainer *t, float factor) {
    bool unit = !variant_of(t->sae)->free_decoder && !(t->options.clip_norm > 0);
    mw_adam adam = adam_of_step(t, factor);
    for (int i = 0; i < P_COUNT; i++) {
        adam.unit = unit && i == P_W_DEC;
        if (t->parameter[i].value) MW_TRY(update_share(t, i, adam));
    }
    return MW_OK;
}

static mw_status gather_parameters(mw_trainer *t) {
    exchange e = data_exchange(t);
    for (int i = 0; i < P_COUNT; i++)
        if (t->parameter[i].value && t->parameter[i].shared) add_parameter(t, &e, i);
    return run_exchange(t, &e);
}

mw_status update_parameters(mw_trainer *t, float factor) {
    LOCALLY(t, update_shares(t, factor));
    MW_TRY(gather_parameters(t));
    LOCALLY(t, end_gathers_of_encoder(t));
    return MW_OK;
}

/* ---- running means ---------------------------------------------------------------------------------------- */

mw_status update_running_means(mw_trainer *t) {
    float keep = (float)t->options.ema;
    for (int i = 0; i < P_COUNT && t->options.ema > 0; i++) {
        parameter *p = &t->parameter[i];
        if (p->value)
            MW_TRY(t->backend->ops->combine(t->backend, p->ema, keep, p->ema, 1 - keep,
                                            p->value + parameter_first(t, p), parameter_count(t, p)));
    }
    return MW_OK;
}

/* value = ema / whole */
static mw_status take_running_mean(mw_trainer *t, parameter *p, double whole) {
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

mw_status take_running_means(mw_trainer *t) {
    double whole = 1 - pow(t->options.ema, (double)t->step);
    LOCALLY(t, end_gathers(t));
    if (!(t->options.ema > 0) || t->step == 0) return MW_OK;
    for (int i = 0; i < P_COUNT; i++)
        if (t->parameter[i].value) LOCALLY(t, take_running_mean(t, &t->parameter[i], whole));
    MW_TRY(gather_parameters(t));
    LOCALLY(t, end_gathers(t));
    LOCALLY(t, sae_refresh(t->sae));
    return MW_OK;
}
