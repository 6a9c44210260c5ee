/* One SAE of a joint training: initial weights or checkpoint, steps, saving. */
#include "sae/train/trainee.h"
#include "sae/train/checkpoint_folder.h"
#include "sae/formats/sae_file.h"
#include "sae/shards.h"

#include <string.h>

static bool is_root(const trainee *t) {
    return mw_comm_rank(t->comm) == 0;
}

static int64_t steps_done(const trainee *t) {
    return mw_trainer_steps_done(t->trainer);
}

/* Without a folder nothing is written or resumed. */
static bool writes(const trainee *t) {
    return t->job->folder != NULL;
}

/* ---- before the first step ------------------------------------------------------------------------------- */

static mw_status initialize_from(trainee *t, float *x, float *y, int64_t rows, double *loss_scale) {
    mw_sae *sae = t->job->sae;
    const mw_store_view *in = t->feed->in, *out = t->feed->out;
    mw_normalize kind = t->job->options->normalize;
    choose_scale(kind, in, x, rows, t->scales.in);
    scale_columns(x, rows, in->width, t->scales.in);
    if (out) {
        choose_scale(kind, out, y, rows, t->scales.out);
        scale_columns(y, rows, out->width, t->scales.out);
    } else {
        memcpy(t->scales.out, t->scales.in, (size_t)sae->d_out * sizeof *t->scales.out);
    }
    *loss_scale = loss_scale_of(out ? y : x, rows, sae->d_out);
    return mw_sae_initialize(sae, x, out ? y : NULL, rows, t->job->options);
}

/* All ranks compute the same from the same sample; only shards communicate. */
static mw_status initialize(trainee *t, double *loss_scale) {
    const mw_sae *sae = t->job->sae;
    const mw_store_view *in = t->feed->in, *out = t->feed->out;
    int64_t all = mw_store_rows(in->store), wanted = t->job->options->init_rows, n = wanted < all ? wanted : all;
    float *x = mw_alloc((size_t)(n * in->width) * sizeof *x);
    float *y = out ? mw_alloc((size_t)(n * out->width) * sizeof *y) : NULL;
    t->scales.in = mw_alloc((size_t)sae->d * sizeof *t->scales.in);
    t->scales.out = mw_alloc((size_t)sae->d_out * sizeof *t->scales.out);
    mw_status status = x && (y || !out) && t->scales.in && t->scales.out ? MW_OK : MW_ERR_MEMORY;
    int64_t replaced = t->feed->replaced;
    if (status == MW_OK) status = feed_sample(t->feed, 0, n, x, y);
    t->feed->replaced = replaced; /* training reads these rows again */
    status = shard_agree(sae, status);
    if (status == MW_OK) status = initialize_from(t, x, y, n, loss_scale);
    mw_free(x);
    mw_free(y);
    return status;
}

/* A checkpoint that is damaged, or of other data or settings, is not an error: the one before it is tried, and without
 * any the training starts at step 0. */
static mw_status try_checkpoint(trainee *t, int64_t step, bool *loaded) {
    char *path = checkpoint_path(t->job->folder, step);
    MW_TRY(mw_comm_agree(t->comm, path ? MW_OK : MW_ERR_MEMORY));
    mw_log_quiet(true);
    mw_status status = mw_trainer_load(t->trainer, path);
    mw_log_quiet(false);
    *loaded = status == MW_OK;
    if (!*loaded)
        mw_log(MW_LOG_WARNING, "%s is %s: ignored", path,
               status == MW_ERR_STATE ? "of other data or settings" : "damaged");
    mw_free(path);
    return status == MW_ERR_MEMORY || status == MW_ERR_COMM ? status : MW_OK;
}

static mw_status resume(trainee *t) {
    int64_t steps[UNUSABLE_MAX] = {0}, count = 0;
    bool loaded = false;
    if (is_root(t)) count = checkpoints_list(t->job->folder, steps, UNUSABLE_MAX);
    MW_TRY(mw_comm_broadcast(t->comm, &count, sizeof count, 0));
    MW_TRY(mw_comm_broadcast(t->comm, steps, sizeof steps, 0));
    for (int64_t i = 0; i < count && !loaded; i++) {
        MW_TRY(try_checkpoint(t, steps[i], &loaded));
        if (!loaded) t->unusable[t->n_unusable++] = steps[i];
    }
    if (loaded)
        mw_log(MW_LOG_INFO, "resuming training at step %lld of %lld", (long long)steps_done(t),
               (long long)t->job->options->steps);
    return MW_OK;
}

static mw_status send_factors(const trainee *t, const double *scale, int64_t width, float **out) {
    float *host = mw_alloc((size_t)width * sizeof *host);
    if (!host) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < width; i++) host[i] = (float)scale[i];
    mw_status status = mw_backend_floats(t->memory, width, out);
    if (status == MW_OK) status = t->memory->ops->upload(t->memory, *out, host, (size_t)width * sizeof *host);
    mw_free(host);
    return status;
}

static mw_status prepare(trainee *t, double *loss_scale) {
    MW_TRY(initialize(t, loss_scale));
    MW_TRY(send_factors(t, t->scales.in, t->job->sae->d, &t->factor_x));
    return send_factors(t, t->scales.out, t->job->sae->d_out, &t->factor_y);
}

mw_status trainee_begin(trainee *t) {
    double loss_scale = 1;
    MW_TRY(mw_comm_agree(t->comm, is_root(t) && writes(t) ? mw_make_directories(t->job->folder) : MW_OK));
    MW_TRY(mw_comm_agree(t->comm, prepare(t, &loss_scale)));
    MW_TRY(mw_trainer_new(t->job->sae, t->comm, t->job->options, loss_scale, &t->trainer));
    if (writes(t)) MW_TRY(resume(t));
    t->first_step = steps_done(t);
    t->saved_at = mw_seconds();
    t->active = t->first_step < t->job->options->steps;
    return mw_comm_agree(t->comm, is_root(t) && writes(t) ? history_open(t->job->folder, t->first_step,
                                                                         t->job->options->fingerprint, &t->history)
                                                          : MW_OK);
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static mw_status save_checkpoint(trainee *t) {
    char *path = checkpoint_path(t->job->folder, steps_done(t));
    MW_TRY(mw_comm_agree(t->comm, path ? MW_OK : MW_ERR_MEMORY));
    mw_status status = mw_trainer_save(t->trainer, path);
    int64_t keep = t->job->options->keep_checkpoints > 0 ? t->job->options->keep_checkpoints : 1;
    if (status == MW_OK && is_root(t)) {
        /* checkpoints that cannot be resumed may have more steps, and would be kept instead of this one */
        checkpoints_remove(t->job->folder, t->unusable, t->n_unusable, steps_done(t));
        checkpoints_prune(t->job->folder, keep);
    }
    if (status == MW_OK) t->n_unusable = 0;
    mw_free(path);
    t->saved_at = mw_seconds();
    return status;
}

mw_status trainee_interrupt(trainee *t) {
    if (writes(t)) MW_TRY(save_checkpoint(t));
    mw_log(MW_LOG_INFO, "training interrupted by signal %d at step %lld of %lld%s", mw_signal_seen(),
           (long long)steps_done(t), (long long)t->job->options->steps,
           writes(t) ? ": saved; run the same command to resume" : "");
    return MW_OK;
}

/* Rank 0's clock decides for all ranks, at logged steps, at which they synchronize anyway. */
static mw_status time_for_checkpoint(trainee *t, bool *due) {
    double minutes = t->job->options->checkpoint_minutes;
    int64_t now = minutes > 0 && mw_seconds() - t->saved_at >= 60 * minutes;
    if (minutes > 0) MW_TRY(mw_comm_broadcast(t->comm, &now, sizeof now, 0));
    *due = now != 0;
    return MW_OK;
}

static mw_status after_step(trainee *t) {
    const mw_train_options *o = t->job->options;
    int64_t step = steps_done(t);
    bool due = o->checkpoint_every > 0 && step % o->checkpoint_every == 0;
    if (o->log_every > 0 && (step % o->log_every == 0 || step == o->steps || step == 1)) {
        double rate = (double)((step - t->first_step) * o->batch) / (t->job->seconds > 0 ? t->job->seconds : 1);
        mw_status status =
            is_root(t) && writes(t) ? history_add(&t->history, step, step * o->batch, rate, &t->job->last) : MW_OK;
        bool late = false;
        MW_TRY(mw_comm_agree(t->comm, status));
        MW_TRY(time_for_checkpoint(t, &late));
        due = due || late;
    }
    return due && step < o->steps && writes(t) ? save_checkpoint(t) : MW_OK;
}

static void log_stalled(const trainee *t) {
    if (!is_root(t)) return;
    mw_log(MW_LOG_INFO, "training ends at step %lld of %lld: no better loss for %lld steps", (long long)steps_done(t),
           (long long)t->job->options->steps, (long long)t->job->options->patience);
}

/* Scales this rank's rows of a batch. `to` may be `from`. */
static mw_status scale(const trainee *t, float *to, const float *from, const float *factor, int64_t width) {
    int64_t begin, end;
    mw_trainer_rows(t->trainer, &begin, &end);
    return t->memory->ops->scale_columns(t->memory, to, from, factor, end - begin, width);
}

static mw_status scale_batch(const trainee *t, const float *raw_x, const float *raw_y) {
    MW_TRY(scale(t, t->x, raw_x, t->factor_x, t->feed->in->width));
    return t->feed->out ? scale(t, t->y, raw_y, t->factor_y, t->feed->out->width) : MW_OK;
}

mw_status trainee_step(trainee *t, mw_status ready, const float *raw_x, const float *raw_y) {
    double start = mw_seconds();
    keep_first(t->trainer, ready);
    LOCALLY(t->trainer, scale_batch(t, raw_x, raw_y));
    MW_TRY(mw_trainer_step_on_device(t->trainer, t->x, t->feed->out ? t->y : NULL, &t->job->last));
    t->job->seconds += mw_seconds() - start;
    MW_TRY(after_step(t));
    bool stalled = mw_trainer_stalled(t->trainer);
    if (stalled && steps_done(t) < t->job->options->steps) log_stalled(t);
    t->active = !stalled && steps_done(t) < t->job->options->steps;
    return MW_OK;
}

/* ---- after the last step --------------------------------------------------------------------------------- */

/* Reads a batch into x and y, in host memory, and its scaled input into t->x. */
static mw_status read_scaled(const trainee *t, int64_t position, float *x, float *y) {
    int64_t begin, end, width = t->feed->in->width;
    mw_trainer_rows(t->trainer, &begin, &end);
    MW_TRY(feed_read(t->feed, position + begin, end - begin, x, y));
    MW_TRY(t->memory->ops->upload(t->memory, t->x, x, (size_t)((end - begin) * width) * sizeof *x));
    return scale(t, t->x, t->x, t->factor_x, width);
}

static mw_status mean_threshold(trainee *t, float *x, float *y) {
    const mw_train_options *o = t->job->options;
    int64_t seen = 0;
    double sum = 0;
    for (int64_t b = 0; b < o->threshold_batches; b++) {
        LOCALLY(t->trainer, read_scaled(t, (steps_done(t) + b) * o->batch, x, y));
        MW_TRY(encode_batch(t->trainer, t->x));
        if (!(t->trainer->kth > 0)) continue;
        sum += t->trainer->kth;
        seen++;
    }
    if (seen) t->job->sae->threshold = (float)(sum / (double)seen);
    return MW_OK;
}

/* During training the threshold follows changing weights; afterwards it becomes the mean over some more batches. */
static mw_status calibrate(trainee *t) {
    int64_t begin, end, of_y = t->feed->out ? t->feed->out->width : 0;
    if (!variant_of(t->job->sae)->after_selection) return MW_OK;
    mw_trainer_rows(t->trainer, &begin, &end);
    float *x = mw_alloc((size_t)((end - begin) * t->feed->in->width) * sizeof *x);
    float *y = of_y ? mw_alloc((size_t)((end - begin) * of_y) * sizeof *y) : NULL;
    mw_status status = mw_comm_agree(t->comm, x && (y || !of_y) ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = mean_threshold(t, x, y);
    mw_free(x);
    mw_free(y);
    return status;
}

static mw_status prepare_to_save(trainee *t) {
    const mw_train_options *o = t->job->options;
    double constant = o->decay == MW_DECAY_NONE ? 1 : 1 - o->decay_fraction;
    if (o->lock) MW_TRY(mw_lock_check(o->lock));
    MW_TRY(history_finish(&t->history, (int64_t)(constant * (double)o->steps), &t->job->late_fall));
    return o->before_save ? o->before_save(o->before_save_self) : MW_OK;
}

/* One rank of each shard writes its latents. An earlier SAE in the folder stays until the new one is complete. */
static mw_status save(trainee *t) {
    MW_TRY(mw_comm_agree(t->comm, unit_decoder(t->job->sae)));
    fold_scales(t->job->sae, &t->scales);
    MW_TRY(mw_comm_agree(t->comm, sae_check_finite(t->job->sae, "the trained SAE")));
    if (!writes(t)) return MW_OK;
    mw_status status = mw_comm_agree(t->comm, is_root(t) ? prepare_to_save(t) : MW_OK);
    if (status == MW_OK && mw_comm_rank(t->trainer->data) == 0) status = mw_sae_save(t->job->sae, t->job->folder);
    MW_TRY(mw_comm_agree(t->comm, status));
    MW_TRY(mw_comm_agree(t->comm, is_root(t) ? history_publish(&t->history) : MW_OK));
    if (is_root(t)) history_clean(t->job->folder);
    return MW_OK;
}

mw_status trainee_finish(trainee *t) {
    MW_TRY(take_running_means(t->trainer));
    MW_TRY(mw_comm_agree(t->comm, mw_trainer_pull(t->trainer)));
    MW_TRY(calibrate(t));
    return mw_comm_agree(t->comm, save(t));
}

void trainee_free(trainee *t) {
    history_close(&t->history);
    mw_trainer_free(&t->trainer);
    mw_free(t->scales.in);
    mw_free(t->scales.out);
    t->scales = (scales){0};
    if (t->factor_x) t->memory->ops->free(t->memory, t->factor_x);
    if (t->factor_y) t->memory->ops->free(t->memory, t->factor_y);
    t->factor_x = t->factor_y = NULL;
    t->active = false;
}
