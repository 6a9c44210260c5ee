/* The training run: rows in order, steps, history, checkpoints. */
#include "sae/checkpoints.h"
#include "sae/history.h"
#include "sae/scales.h"
#include "sae/variants.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct training {
    mw_sae *sae;
    const mw_store_view *in, *out; /* out NULL: what is read is what is rebuilt */
    const mw_comm *comm;
    const mw_train_options *options;
    mw_trainer *trainer;
    scales scales;
    const char *folder;
    history history;
    int64_t *rows; /* scratch */
    float *x, *y;
} training;

/* Raw rows at positions begin .. begin + count of the training order. y may be NULL. */
static mw_status read_positions(const training *t, int64_t begin, int64_t count, int64_t *rows, float *x, float *y) {
    uint64_t n = (uint64_t)mw_store_rows(t->in->store);
    for (int64_t i = 0; i < count; i++) {
        uint64_t p = (uint64_t)(begin + i);
        rows[i] = (int64_t)mw_permute((uint64_t)t->options->seed, p / n, n, p % n);
    }
    MW_TRY(mw_store_view_rows(t->in, rows, count, x));
    return t->out ? mw_store_view_rows(t->out, rows, count, y) : MW_OK;
}

static mw_status read_batch(training *t, int64_t begin, int64_t count) {
    MW_TRY(read_positions(t, begin, count, t->rows, t->x, t->y));
    scale_columns(t->x, count, t->in->width, t->scales.in);
    if (t->out) scale_columns(t->y, count, t->out->width, t->scales.out);
    return MW_OK;
}

/* ---- before the first step ------------------------------------------------------------------------------- */

static mw_status start_from(training *t, float *x, float *y, int64_t rows, double *loss_scale) {
    mw_normalize kind = t->options->normalize;
    choose_scale(kind, t->in, x, rows, t->scales.in);
    scale_columns(x, rows, t->in->width, t->scales.in);
    const mw_store_view *out = t->out ? t->out : t->in;
    if (t->out) {
        choose_scale(kind, out, y, rows, t->scales.out);
        scale_columns(y, rows, out->width, t->scales.out);
    } else {
        memcpy(t->scales.out, t->scales.in, (size_t)out->width * sizeof *t->scales.out);
    }
    *loss_scale = loss_scale_of(t->out ? y : x, rows, out->width);
    return mw_sae_initialize(t->sae, x, t->out ? y : NULL, rows, t->options);
}

/* Every rank does the same on the same sample: nothing to communicate. */
static mw_status initialize(training *t, double *loss_scale) {
    int64_t all = mw_store_rows(t->in->store), n = t->options->init_rows < all ? t->options->init_rows : all;
    int64_t *rows = mw_alloc((size_t)n * sizeof *rows);
    float *x = mw_alloc((size_t)(n * t->in->width) * sizeof *x);
    float *y = t->out ? mw_alloc((size_t)(n * t->out->width) * sizeof *y) : NULL;
    t->scales.in = mw_alloc((size_t)t->sae->d * sizeof *t->scales.in);
    t->scales.out = mw_alloc((size_t)t->sae->d_out * sizeof *t->scales.out);
    mw_status status = rows && x && (y || !t->out) && t->scales.in && t->scales.out ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) status = read_positions(t, 0, n, rows, x, y);
    if (status == MW_OK) status = start_from(t, x, y, n, loss_scale);
    mw_free(rows);
    mw_free(x);
    mw_free(y);
    return status;
}

/* One that is damaged, or of other data or settings, is no error: the one before it is tried, and with none left the
 * run starts anew. */
static mw_status try_checkpoint(training *t, int64_t step, bool *loaded) {
    char *path = checkpoint_path(t->folder, step);
    MW_TRY(mw_comm_agree(t->comm, path ? MW_OK : MW_ERR_MEMORY));
    mw_log_quiet(true);
    mw_status status = mw_trainer_load(t->trainer, path);
    mw_log_quiet(false);
    *loaded = status == MW_OK;
    if (!*loaded)
        mw_log(MW_LOG_WARNING, "%s is %s: it is not used", path,
               status == MW_ERR_STATE ? "of other data or settings" : "damaged");
    mw_free(path);
    return status == MW_ERR_MEMORY || status == MW_ERR_COMM ? status : MW_OK;
}

static mw_status resume(training *t) {
    enum { MOST = 64 };
    int64_t steps[MOST] = {0}, count = 0;
    bool loaded = false;
    if (mw_comm_rank(t->comm) == 0) count = checkpoints_list(t->folder, steps, MOST);
    MW_TRY(mw_comm_broadcast(t->comm, &count, sizeof count, 0));
    MW_TRY(mw_comm_broadcast(t->comm, steps, sizeof steps, 0));
    for (int64_t i = 0; i < count && !loaded; i++) MW_TRY(try_checkpoint(t, steps[i], &loaded));
    if (loaded)
        mw_log(MW_LOG_INFO, "training goes on at step %lld of %lld", (long long)mw_trainer_steps_done(t->trainer),
               (long long)t->options->steps);
    return MW_OK;
}

static mw_status save_checkpoint(training *t) {
    char *path = checkpoint_path(t->folder, mw_trainer_steps_done(t->trainer));
    MW_TRY(mw_comm_agree(t->comm, path ? MW_OK : MW_ERR_MEMORY));
    mw_status status = mw_trainer_save(t->trainer, path);
    int64_t keep = t->options->keep_checkpoints > 0 ? t->options->keep_checkpoints : 1;
    if (status == MW_OK && mw_comm_rank(t->comm) == 0) checkpoints_prune(t->folder, keep);
    mw_free(path);
    return status;
}

/* Asked to end: what the steps so far made is kept. */
static mw_status interrupted(training *t) {
    MW_TRY(save_checkpoint(t));
    mw_log(MW_LOG_INFO, "training interrupted by signal %d at step %lld of %lld: saved; the same command goes on",
           mw_signal_seen(), (long long)mw_trainer_steps_done(t->trainer), (long long)t->options->steps);
    return MW_INTERRUPTED;
}

static mw_status prepare(training *t, const char *folder) {
    double loss_scale = 1;
    MW_TRY(mw_comm_agree(t->comm, mw_comm_rank(t->comm) == 0 ? mw_make_directories(folder) : MW_OK));
    t->folder = folder;
    MW_TRY(mw_comm_agree(t->comm, initialize(t, &loss_scale)));
    MW_TRY(mw_trainer_new(t->sae, t->comm, t->options, loss_scale, &t->trainer));
    MW_TRY(resume(t));
    int64_t begin, end;
    mw_trainer_rows(t->trainer, &begin, &end);
    t->rows = mw_alloc((size_t)(end - begin) * sizeof *t->rows);
    t->x = mw_alloc((size_t)((end - begin) * t->in->width) * sizeof *t->x);
    if (t->out) t->y = mw_alloc((size_t)((end - begin) * t->out->width) * sizeof *t->y);
    mw_status status = t->rows && t->x && (t->y || !t->out) ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mw_comm_rank(t->comm) == 0)
        status = history_open(folder, mw_trainer_steps_done(t->trainer), &t->history);
    return mw_comm_agree(t->comm, status);
}

static mw_status after_step(training *t, const mw_step_report *report, int64_t step, double seconds, int64_t rows) {
    const mw_train_options *o = t->options;
    mw_status status = MW_OK;
    bool log = o->log_every > 0 && (step % o->log_every == 0 || step == o->steps || step == 1);
    if (log && mw_comm_rank(t->comm) == 0) {
        status = history_add(&t->history, step, rows, seconds, report);
    }
    if (log) MW_TRY(mw_comm_agree(t->comm, status));
    if (o->checkpoint_every > 0 && step % o->checkpoint_every == 0 && step < o->steps) return save_checkpoint(t);
    return MW_OK;
}

static mw_status run_steps(training *t, mw_step_report *last) {
    int64_t begin, end, first = mw_trainer_steps_done(t->trainer);
    const mw_train_options *o = t->options;
    mw_trainer_rows(t->trainer, &begin, &end);
    mw_progress progress;
    double start = mw_seconds();
    mw_progress_begin(&progress, "train", "tokens", (o->steps - first) * o->batch, mw_comm_rank(t->comm) == 0);
    for (int64_t step = first; step < o->steps; step++) {
        char extra[96];
        mw_status ready = mw_if_interrupted(read_batch(t, step * o->batch + begin, end - begin));
        ready = mw_comm_agree(t->comm, ready);
        if (ready == MW_INTERRUPTED) return interrupted(t);
        MW_TRY(ready);
        MW_TRY(mw_trainer_step(t->trainer, t->x, t->y, last));
        int64_t rows = (step + 1 - first) * o->batch;
        double seconds = mw_seconds() - start;
        mw_status status = after_step(t, last, step + 1, seconds, (step + 1) * o->batch);
        if (status != MW_OK) return status;
        snprintf(extra, sizeof extra, "\"loss\":%.4f,\"fvu\":%.4f,\"l0\":%.2f,\"dead\":%lld", last->loss, last->fvu,
                 last->l0, (long long)last->dead);
        mw_progress_update(&progress, rows, extra);
        bool stalled = mw_trainer_stalled(t->trainer);
        if (stalled || step + 1 == o->steps) mw_progress_end(&progress, rows, extra);
        if (!stalled) continue;
        if (mw_comm_rank(t->comm) == 0)
            mw_log(MW_LOG_INFO, "training ends at step %lld of %lld: no better loss for %lld steps",
                   (long long)step + 1, (long long)o->steps, (long long)o->patience);
        break;
    }
    return MW_OK;
}

/* ---- after the last step --------------------------------------------------------------------------------- */

/* The threshold followed weights that moved; now that they rest it is the mean over some more batches. */
static mw_status calibrate(training *t) {
    const variant_row *variant = variant_of(t->sae);
    mw_trainer *trainer = t->trainer;
    if (!variant->after_selection) return MW_OK;
    int64_t begin, end, seen = 0, done = mw_trainer_steps_done(trainer);
    double sum = 0;
    mw_trainer_rows(trainer, &begin, &end);
    mw_status status = MW_OK;
    for (int64_t b = 0; b < t->options->threshold_batches && status == MW_OK; b++) {
        int64_t first = (done + b) * t->options->batch + begin;
        status = mw_comm_agree(t->comm, read_batch(t, first, end - begin));
        if (status == MW_OK) status = mw_comm_agree(t->comm, variant->select(trainer, t->x));
        if (status != MW_OK || !(trainer->kth > 0)) continue;
        sum += trainer->kth;
        seen++;
    }
    if (seen) t->sae->threshold = (float)(sum / (double)seen);
    return status;
}

static mw_status finish(training *t, const char *folder) {
    MW_TRY(unit_decoder(t->sae));
    fold_scales(t->sae, &t->scales);
    if (mw_comm_rank(t->comm) != 0) return MW_OK;
    MW_TRY(history_finish(&t->history));
    MW_TRY(mw_sae_save(t->sae, folder));
    checkpoints_prune(folder, 0);
    return MW_OK;
}

mw_status mw_sae_train(mw_sae *sae, const mw_store_view *in, const mw_store_view *out, const mw_comm *comm,
                       const mw_train_options *options, const char *folder, mw_step_report *last) {
    int64_t width = out ? out->width : in->width;
    if (sae->d != in->width || sae->d_out != width)
        return mw_error(MW_ERR_CONFIG, "an SAE of width %lld to %lld cannot be trained on sites of width %lld to %lld",
                        (long long)sae->d, (long long)sae->d_out, (long long)in->width, (long long)width);
    training t = {.sae = sae, .in = in, .out = out, .comm = comm, .options = options};
    mw_step_report report = {0};
    mw_status status = prepare(&t, folder);
    if (status == MW_OK) status = run_steps(&t, &report);
    if (status == MW_OK) status = take_means(t.trainer);
    if (status == MW_OK) status = calibrate(&t);
    if (status == MW_OK) status = mw_comm_agree(comm, finish(&t, folder));
    history_close(&t.history);
    mw_trainer_free(&t.trainer);
    void *all[] = {t.rows, t.x, t.y, t.scales.in, t.scales.out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    if (status == MW_OK && last) *last = report;
    return status;
}
