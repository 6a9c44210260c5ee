#include "sae/train/trainee.h"
#include "sae/train/checkpoint_folder.h"
#include "sae/formats/sae_file.h"
#include "sae/shards.h"

#include <string.h>

static bool is_root(const trainee *m) {
    return mw_comm_rank(m->comm) == 0;
}

static int64_t steps_done(const trainee *m) {
    return mw_trainer_steps_done(m->trainer);
}

/* Without a folder nothing is written or gone on from. */
static bool writes(const trainee *m) {
    return m->job->folder != NULL;
}

/* ---- before the first step ------------------------------------------------------------------------------- */

static mw_status start_from(trainee *m, float *x, float *y, int64_t rows, double *loss_scale) {
    mw_sae *sae = m->job->sae;
    const mw_store_view *in = m->feed->in, *out = m->feed->out;
    mw_normalize kind = m->job->options->normalize;
    choose_scale(kind, in, x, rows, m->scales.in);
    scale_columns(x, rows, in->width, m->scales.in);
    if (out) {
        choose_scale(kind, out, y, rows, m->scales.out);
        scale_columns(y, rows, out->width, m->scales.out);
    } else {
        memcpy(m->scales.out, m->scales.in, (size_t)sae->d_out * sizeof *m->scales.out);
    }
    *loss_scale = loss_scale_of(out ? y : x, rows, sae->d_out);
    return mw_sae_initialize(sae, x, out ? y : NULL, rows, m->job->options);
}

/* Every rank does the same on the same sample: only shards have something to tell each other. */
static mw_status initialize(trainee *m, double *loss_scale) {
    const mw_sae *sae = m->job->sae;
    const mw_store_view *in = m->feed->in, *out = m->feed->out;
    int64_t all = mw_store_rows(in->store), wanted = m->job->options->init_rows, n = wanted < all ? wanted : all;
    float *x = mw_alloc((size_t)(n * in->width) * sizeof *x);
    float *y = out ? mw_alloc((size_t)(n * out->width) * sizeof *y) : NULL;
    m->scales.in = mw_alloc((size_t)sae->d * sizeof *m->scales.in);
    m->scales.out = mw_alloc((size_t)sae->d_out * sizeof *m->scales.out);
    mw_status status = x && (y || !out) && m->scales.in && m->scales.out ? MW_OK : MW_ERR_MEMORY;
    int64_t replaced = m->feed->replaced;
    if (status == MW_OK) status = feed_sample(m->feed, 0, n, x, y);
    m->feed->replaced = replaced; /* these rows come again */
    status = shard_agree(sae, status);
    if (status == MW_OK) status = start_from(m, x, y, n, loss_scale);
    mw_free(x);
    mw_free(y);
    return status;
}

/* One that is damaged, or of other data or settings, is no error: the one before it is tried, and with none left the
 * run starts anew. */
static mw_status try_checkpoint(trainee *m, int64_t step, bool *loaded) {
    char *path = checkpoint_path(m->job->folder, step);
    MW_TRY(mw_comm_agree(m->comm, path ? MW_OK : MW_ERR_MEMORY));
    mw_log_quiet(true);
    mw_status status = mw_trainer_load(m->trainer, path);
    mw_log_quiet(false);
    *loaded = status == MW_OK;
    if (!*loaded)
        mw_log(MW_LOG_WARNING, "%s is %s: it is not used", path,
               status == MW_ERR_STATE ? "of other data or settings" : "damaged");
    mw_free(path);
    return status == MW_ERR_MEMORY || status == MW_ERR_COMM ? status : MW_OK;
}

static mw_status resume(trainee *m) {
    int64_t steps[TRAINEE_UNUSABLE] = {0}, count = 0;
    bool loaded = false;
    if (is_root(m)) count = checkpoints_list(m->job->folder, steps, TRAINEE_UNUSABLE);
    MW_TRY(mw_comm_broadcast(m->comm, &count, sizeof count, 0));
    MW_TRY(mw_comm_broadcast(m->comm, steps, sizeof steps, 0));
    for (int64_t i = 0; i < count && !loaded; i++) {
        MW_TRY(try_checkpoint(m, steps[i], &loaded));
        if (!loaded) m->unusable[m->n_unusable++] = steps[i];
    }
    if (loaded)
        mw_log(MW_LOG_INFO, "training goes on at step %lld of %lld", (long long)steps_done(m),
               (long long)m->job->options->steps);
    return MW_OK;
}

static mw_status send_factors(const trainee *m, const double *scale, int64_t width, float **out) {
    float *host = mw_alloc((size_t)width * sizeof *host);
    if (!host) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < width; i++) host[i] = (float)scale[i];
    mw_status status = mw_backend_floats(m->memory, width, out);
    if (status == MW_OK) status = m->memory->ops->upload(m->memory, *out, host, (size_t)width * sizeof *host);
    mw_free(host);
    return status;
}

static mw_status prepare(trainee *m, double *loss_scale) {
    MW_TRY(initialize(m, loss_scale));
    MW_TRY(send_factors(m, m->scales.in, m->job->sae->d, &m->factor_x));
    return send_factors(m, m->scales.out, m->job->sae->d_out, &m->factor_y);
}

mw_status trainee_begin(trainee *m) {
    double loss_scale = 1;
    MW_TRY(mw_comm_agree(m->comm, is_root(m) && writes(m) ? mw_make_directories(m->job->folder) : MW_OK));
    MW_TRY(mw_comm_agree(m->comm, prepare(m, &loss_scale)));
    MW_TRY(mw_trainer_new(m->job->sae, m->comm, m->job->options, loss_scale, &m->trainer));
    if (writes(m)) MW_TRY(resume(m));
    m->first = steps_done(m);
    m->saved = mw_seconds();
    m->active = m->first < m->job->options->steps;
    return mw_comm_agree(m->comm, is_root(m) && writes(m) ? history_open(m->job->folder, m->first,
                                                                         m->job->options->fingerprint, &m->history)
                                                          : MW_OK);
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static mw_status save_checkpoint(trainee *m) {
    char *path = checkpoint_path(m->job->folder, steps_done(m));
    MW_TRY(mw_comm_agree(m->comm, path ? MW_OK : MW_ERR_MEMORY));
    mw_status status = mw_trainer_save(m->trainer, path);
    int64_t keep = m->job->options->keep_checkpoints > 0 ? m->job->options->keep_checkpoints : 1;
    if (status == MW_OK && is_root(m)) {
        /* those that cannot be gone on from may have more steps, and would be kept in place of this one */
        checkpoints_remove(m->job->folder, m->unusable, m->n_unusable, steps_done(m));
        checkpoints_prune(m->job->folder, keep);
    }
    if (status == MW_OK) m->n_unusable = 0;
    mw_free(path);
    m->saved = mw_seconds();
    return status;
}

mw_status trainee_interrupt(trainee *m) {
    if (writes(m)) MW_TRY(save_checkpoint(m));
    mw_log(MW_LOG_INFO, "training interrupted by signal %d at step %lld of %lld%s", mw_signal_seen(),
           (long long)steps_done(m), (long long)m->job->options->steps,
           writes(m) ? ": saved; the same command goes on" : "");
    return MW_OK;
}

/* Rank 0's clock decides for all, at the steps at which they meet anyway. */
static mw_status time_for_checkpoint(trainee *m, bool *due) {
    double minutes = m->job->options->checkpoint_minutes;
    int64_t now = minutes > 0 && mw_seconds() - m->saved >= 60 * minutes;
    if (minutes > 0) MW_TRY(mw_comm_broadcast(m->comm, &now, sizeof now, 0));
    *due = now != 0;
    return MW_OK;
}

static mw_status after_step(trainee *m) {
    const mw_train_options *o = m->job->options;
    int64_t step = steps_done(m);
    bool due = o->checkpoint_every > 0 && step % o->checkpoint_every == 0;
    if (o->log_every > 0 && (step % o->log_every == 0 || step == o->steps || step == 1)) {
        double rate = (double)((step - m->first) * o->batch) / (m->job->seconds > 0 ? m->job->seconds : 1);
        mw_status status =
            is_root(m) && writes(m) ? history_add(&m->history, step, step * o->batch, rate, &m->job->last) : MW_OK;
        bool late = false;
        MW_TRY(mw_comm_agree(m->comm, status));
        MW_TRY(time_for_checkpoint(m, &late));
        due = due || late;
    }
    return due && step < o->steps && writes(m) ? save_checkpoint(m) : MW_OK;
}

static void tell_stalled(const trainee *m) {
    if (!is_root(m)) return;
    mw_log(MW_LOG_INFO, "training ends at step %lld of %lld: no better loss for %lld steps", (long long)steps_done(m),
           (long long)m->job->options->steps, (long long)m->job->options->patience);
}

/* Where `to` may be `from`. */
static mw_status scale(const trainee *m, float *to, const float *from, const float *factor, int64_t width) {
    int64_t begin, end;
    mw_trainer_rows(m->trainer, &begin, &end);
    return m->memory->ops->scale_columns(m->memory, to, from, factor, end - begin, width);
}

static mw_status take_rows(const trainee *m, const float *raw_x, const float *raw_y) {
    MW_TRY(scale(m, m->x, raw_x, m->factor_x, m->feed->in->width));
    return m->feed->out ? scale(m, m->y, raw_y, m->factor_y, m->feed->out->width) : MW_OK;
}

mw_status trainee_step(trainee *m, const float *raw_x, const float *raw_y) {
    double start = mw_seconds();
    MW_TRY(mw_comm_agree(m->comm, take_rows(m, raw_x, raw_y)));
    MW_TRY(mw_trainer_step_on_device(m->trainer, m->x, m->feed->out ? m->y : NULL, &m->job->last));
    m->job->seconds += mw_seconds() - start;
    MW_TRY(after_step(m));
    bool stalled = mw_trainer_stalled(m->trainer);
    if (stalled && steps_done(m) < m->job->options->steps) tell_stalled(m);
    m->active = !stalled && steps_done(m) < m->job->options->steps;
    return MW_OK;
}

/* ---- after the last step --------------------------------------------------------------------------------- */

/* x and y are the host's. */
static mw_status read_scaled(const trainee *m, int64_t position, float *x, float *y) {
    int64_t begin, end, width = m->feed->in->width;
    mw_trainer_rows(m->trainer, &begin, &end);
    MW_TRY(feed_read(m->feed, position + begin, end - begin, x, y));
    MW_TRY(m->memory->ops->upload(m->memory, m->x, x, (size_t)((end - begin) * width) * sizeof *x));
    return scale(m, m->x, m->x, m->factor_x, width);
}

static mw_status mean_of_kth(trainee *m, float *x, float *y) {
    const mw_train_options *o = m->job->options;
    int64_t seen = 0;
    double sum = 0;
    for (int64_t b = 0; b < o->threshold_batches; b++) {
        MW_TRY(mw_comm_agree(m->comm, read_scaled(m, (steps_done(m) + b) * o->batch, x, y)));
        MW_TRY(mw_comm_agree(m->comm, encode_batch(m->trainer, m->x)));
        if (!(m->trainer->kth > 0)) continue;
        sum += m->trainer->kth;
        seen++;
    }
    if (seen) m->job->sae->threshold = (float)(sum / (double)seen);
    return MW_OK;
}

/* The threshold followed weights that moved; now that they rest it is the mean over some more batches. */
static mw_status calibrate(trainee *m) {
    int64_t begin, end, of_y = m->feed->out ? m->feed->out->width : 0;
    if (!variant_of(m->job->sae)->after_selection) return MW_OK;
    mw_trainer_rows(m->trainer, &begin, &end);
    float *x = mw_alloc((size_t)((end - begin) * m->feed->in->width) * sizeof *x);
    float *y = of_y ? mw_alloc((size_t)((end - begin) * of_y) * sizeof *y) : NULL;
    mw_status status = mw_comm_agree(m->comm, x && (y || !of_y) ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = mean_of_kth(m, x, y);
    mw_free(x);
    mw_free(y);
    return status;
}

static mw_status prepare_to_save(trainee *m) {
    const mw_train_options *o = m->job->options;
    if (o->lock) MW_TRY(mw_lock_check(o->lock));
    MW_TRY(history_finish(&m->history));
    return o->before_save ? o->before_save(o->before_save_self) : MW_OK;
}

/* One rank of those with the same latents writes them. What was there before stays until the last moment. */
static mw_status save(trainee *m) {
    MW_TRY(mw_comm_agree(m->comm, unit_decoder(m->job->sae)));
    fold_scales(m->job->sae, &m->scales);
    MW_TRY(mw_comm_agree(m->comm, sae_check_finite(m->job->sae, "the trained SAE")));
    if (!writes(m)) return MW_OK;
    mw_status status = mw_comm_agree(m->comm, is_root(m) ? prepare_to_save(m) : MW_OK);
    if (status == MW_OK && mw_comm_rank(m->trainer->data) == 0) status = mw_sae_save(m->job->sae, m->job->folder);
    MW_TRY(mw_comm_agree(m->comm, status));
    MW_TRY(mw_comm_agree(m->comm, is_root(m) ? history_publish(&m->history) : MW_OK));
    if (is_root(m)) history_clean(m->job->folder);
    return MW_OK;
}

mw_status trainee_finish(trainee *m) {
    MW_TRY(take_running_means(m->trainer));
    MW_TRY(mw_comm_agree(m->comm, mw_trainer_pull(m->trainer)));
    MW_TRY(calibrate(m));
    return mw_comm_agree(m->comm, save(m));
}

void trainee_free(trainee *m) {
    history_close(&m->history);
    mw_trainer_free(&m->trainer);
    mw_free(m->scales.in);
    mw_free(m->scales.out);
    m->scales = (scales){0};
    if (m->factor_x) m->memory->ops->free(m->memory, m->factor_x);
    if (m->factor_y) m->memory->ops->free(m->memory, m->factor_y);
    m->factor_x = m->factor_y = NULL;
    m->active = false;
}
