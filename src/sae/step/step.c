/* One training step: forward, backward, update.
 *
 * B rows x [d] with targets y [d_out] (an autoencoder's y is x), c = options.loss_scale, and reconstructions g with
 * weights w_g:
 *     L = c / (B d_out) sum_g w_g sum_r |x_hat_g,r - y_r|^2  +  AuxK's loss  +  the variant's penalty.
 */
#include "sae/step/step.h"
#include "sae/variants/variants.h"

static void begin_step(mw_trainer *t) {
    t->report = (mw_step_report){0};
    t->k = k_of_step(&t->options, t->sae, t->step);
    t->penalty_unit = sparsity_of_step(&t->options, t->sae, t->step) * t->loss_scale /
                      ((double)t->options.batch * (double)t->sae->d_out);
}

mw_status step_forward(mw_trainer *t, const float *x, const float *y) {
    begin_step(t);
    MW_TRY(encode_and_gather_input(t, x)); /* z = select(W_enc (x - b_dec) + b_enc) */
    MW_TRY(reconstruct_batch(t, x, y));    /* x_hat - y, with x_hat = sum_i z_i W_dec,i + b_dec + W_skip x */
    MW_TRY(measure_errors(t, y));          /* sum_r |x_hat_r - y_r|^2 */
    MW_TRY(gather_batch(t));               /* z and dL/dx_hat = 2 c w_g (x_hat - y) / (B d_out) of all ranks' rows */
    return find_dead_latents(t);
}

mw_status step_backward(mw_trainer *t) {
    LOCALLY(t, code_gradients(t));   /* dL/dz_i = W_dec,i . dL/dx_hat; dL/da_i by the variant */
    MW_TRY(auxk(t));                 /* the same for the dead latents, which reconstruct y - x_hat */
    LOCALLY(t, latent_gradients(t)); /* dL/dW_dec,i = sum_r z_ri dL/dx_hat_r,
                                        dL/dW_enc,i = sum_r dL/da_ri (x_r - b_dec) */
    LOCALLY(t, sum_squares(t));      /* |g|^2 */
    MW_TRY(gather_latent_sums(t));   /* lambda E sum_i penalty(z_i); dL/dW_skip = sum_r dL/dx_hat_r x_r^T;
                                        dL/db_dec = sum_r dL/dx_hat_r - sum_i W_enc,i sum_r dL/da_ri */
    return report_loss(t);           /* L */
}

static mw_status step_update(mw_trainer *t) {
    float factor = 1;
    t->report.lr = learning_rate(&t->options, t->sae, t->step);
    if (t->options.clip_norm > 0) LOCALLY(t, clip_gradients(t, &factor)); /* g <- g min(1, clip_norm / |g|) */
    MW_TRY(update_parameters(t, factor));                                 /* Adam; |W_dec,i| = 1 */
    MW_TRY(resample_dead_latents(t));
    LOCALLY(t, update_running_means(t)); /* ema <- beta ema + (1 - beta) value */
    LOCALLY(t, sae_refresh(t->sae));
    return MW_OK;
}

/* Follows a running mean of the loss: single batches differ too much to compare. */
static void follow_loss(mw_trainer *t) {
    static const double decay = 0.98;
    if (t->step < steps_of_schedules(&t->options)) return;
    t->smooth = t->smooth > 0 ? decay * t->smooth + (1 - decay) * t->report.loss : t->report.loss;
    if (t->best > 0 && t->smooth > t->best * (1 - t->options.min_gain)) return;
    t->best = t->smooth;
    t->best_step = t->step;
}

static mw_status step_whole(mw_trainer *t, const float *x, const float *y) {
    MW_TRY(step_forward(t, x, y));
    MW_TRY(step_backward(t));
    return step_update(t);
}

/* A failure of all ranks ends the step on all. What fails on one rank after the last exchange ends the next step, or
 * what is done with the SAE instead; one rank alone does not wait. */
mw_status mw_trainer_step_on_device(mw_trainer *t, const float *x, const float *y, mw_step_report *report) {
    mw_status status = step_whole(t, x, y ? y : x);
    if (status == MW_OK && mw_comm_size(t->comm) == 1) status = t->local;
    if (status != MW_OK) t->local = MW_OK;
    MW_TRY(status);
    follow_loss(t);
    t->report.steps = ++t->step;
    if (report) *report = t->report;
    return MW_OK;
}

/* Copies this rank's rows to the device, if the device has memory other than the host's. */
static mw_status copy_rows(mw_trainer *t, const float *from, int64_t width, float **copy, const float **out) {
    int64_t count = (t->end - t->begin) * width;
    *out = from;
    if (t->backend->ops->host_memory) return MW_OK;
    if (!*copy) MW_TRY(mw_backend_floats(t->backend, count, copy));
    *out = *copy;
    return t->backend->ops->upload(t->backend, *copy, from, (size_t)count * sizeof *from);
}

mw_status mw_trainer_step(mw_trainer *t, const float *x, const float *y, mw_step_report *report) {
    LOCALLY(t, copy_rows(t, x, t->sae->d, &t->x, &x));
    if (y) LOCALLY(t, copy_rows(t, y, t->sae->d_out, &t->y, &y));
    return mw_trainer_step_on_device(t, x, y, report);
}

bool mw_trainer_stalled(const mw_trainer *t) {
    return t->options.patience > 0 && t->best > 0 && t->step - t->best_step > t->options.patience;
}
