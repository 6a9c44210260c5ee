/* The training run: rows in order, steps, history, checkpoints. */
#include "sae/history.h"
#include "microw/safetensors.h"
#include "sae/variants.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct training {
    mw_sae *sae;
    const mw_store *store;
    const mw_store_site *site;
    const mw_comm *comm;
    const mw_train_options *options;
    mw_trainer *trainer;
    float scale; /* of the input */
    char *checkpoint;
    history history;
    int64_t *rows; /* scratch */
    float *x;
} training;

/* Rows at positions begin .. begin + count of the training order. */
static mw_status read_positions(training *t, int64_t begin, int64_t count, int64_t *rows, float *x) {
    uint64_t n = (uint64_t)mw_store_rows(t->store);
    for (int64_t i = 0; i < count; i++) {
        uint64_t p = (uint64_t)(begin + i);
        rows[i] = (int64_t)mw_permute((uint64_t)t->options->seed, p / n, n, p % n);
    }
    MW_TRY(mw_store_read_rows(t->store, t->site, rows, count, x));
    if (t->scale != 1)
        for (int64_t i = 0; i < count * t->site->width; i++) x[i] *= t->scale;
    return MW_OK;
}

/* 1 / mean over dimensions of the sample's variance. */
static double loss_scale_of(const float *x, int64_t rows, int64_t d) {
    double spread = 0;
    for (int64_t i = 0; i < d; i++) {
        double sum = 0, squares = 0;
        for (int64_t r = 0; r < rows; r++) {
            sum += x[r * d + i];
            squares += (double)x[r * d + i] * x[r * d + i];
        }
        spread += squares - sum * sum / (double)rows;
    }
    return spread > 0 ? (double)rows * (double)d / spread : 1;
}

/* Every rank does the same on the same sample: nothing to communicate. */
static mw_status initialize(training *t, double *loss_scale) {
    int64_t n = t->options->init_rows < mw_store_rows(t->store) ? t->options->init_rows : mw_store_rows(t->store);
    int64_t *rows = mw_alloc((size_t)n * sizeof *rows);
    float *x = mw_alloc((size_t)(n * t->site->width) * sizeof *x);
    mw_status status = rows && x ? read_positions(t, 0, n, rows, x) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_sae_initialize(t->sae, x, n, t->options->seed);
    if (status == MW_OK) *loss_scale = loss_scale_of(x, n, t->site->width);
    mw_free(rows);
    mw_free(x);
    return status;
}

/* A checkpoint that is damaged, or of other data or settings, is no error: the run starts anew. */
static bool can_go_on(const training *t) {
    if (!mw_file_exists(t->checkpoint)) return false;
    mw_safetensors *file;
    mw_log_quiet(true);
    mw_status status = mw_safetensors_open(t->checkpoint, &file);
    mw_log_quiet(false);
    if (status == MW_OK) {
        const char *mark = mw_safetensors_metadata(file, "fingerprint");
        const char *wanted = t->options->fingerprint ? t->options->fingerprint : "";
        bool same = mark && strcmp(mark, wanted) == 0;
        mw_safetensors_free(&file);
        if (same) return true;
    }
    mw_log(MW_LOG_WARNING, "%s is %s: training starts anew", t->checkpoint,
           status == MW_OK ? "of other data or settings" : "damaged");
    return false;
}

static mw_status resume(training *t) {
    int64_t go_on = mw_comm_rank(t->comm) == 0 && can_go_on(t);
    MW_TRY(mw_comm_broadcast(t->comm, &go_on, sizeof go_on, 0));
    if (!go_on) return MW_OK;
    MW_TRY(mw_trainer_load(t->trainer, t->checkpoint));
    mw_log(MW_LOG_INFO, "training goes on at step %lld of %lld", (long long)mw_trainer_steps_done(t->trainer),
           (long long)t->options->steps);
    return MW_OK;
}

static mw_status prepare(training *t, const char *folder) {
    double loss_scale = 1;
    MW_TRY(mw_comm_agree(t->comm, mw_comm_rank(t->comm) == 0 ? mw_make_directories(folder) : MW_OK));
    t->checkpoint = mw_path_join(folder, "checkpoint.safetensors");
    MW_TRY(mw_comm_agree(t->comm, t->checkpoint ? initialize(t, &loss_scale) : MW_ERR_MEMORY));
    MW_TRY(mw_trainer_new(t->sae, t->comm, t->options, loss_scale, &t->trainer));
    MW_TRY(resume(t));
    int64_t begin, end;
    mw_trainer_rows(t->trainer, &begin, &end);
    t->rows = mw_alloc((size_t)(end - begin) * sizeof *t->rows);
    t->x = mw_alloc((size_t)((end - begin) * t->site->width) * sizeof *t->x);
    mw_status status = t->rows && t->x ? MW_OK : MW_ERR_MEMORY;
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
    if (o->checkpoint_every > 0 && step % o->checkpoint_every == 0 && step < o->steps)
        return mw_trainer_save(t->trainer, t->checkpoint);
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
        MW_TRY(mw_comm_agree(t->comm, read_positions(t, step * o->batch + begin, end - begin, t->rows, t->x)));
        MW_TRY(mw_trainer_step(t->trainer, t->x, last));
        int64_t rows = (step + 1 - first) * o->batch;
        double seconds = mw_seconds() - start;
        mw_status status = after_step(t, last, step + 1, seconds, (step + 1) * o->batch);
        if (status != MW_OK) return status;
        snprintf(extra, sizeof extra, "\"loss\":%.4f,\"fvu\":%.4f,\"l0\":%.2f,\"dead\":%lld", last->loss, last->fvu,
                 last->l0, (long long)last->dead);
        mw_progress_update(&progress, rows, extra);
        if (step + 1 == o->steps) mw_progress_end(&progress, rows, extra);
    }
    return MW_OK;
}

/* The threshold followed weights that moved; now that they rest it is the mean over some more batches. */
static mw_status calibrate(training *t) {
    enum { BATCHES = 16 };
    const variant_row *variant = variant_of(t->sae);
    if (!variant->select) return MW_OK;
    int64_t begin, end, seen = 0;
    double sum = 0;
    mw_trainer_rows(t->trainer, &begin, &end);
    mw_codes codes = {0};
    mw_status status = MW_OK;
    for (int64_t b = 0; b < BATCHES && status == MW_OK; b++) {
        int64_t first = (t->options->steps + b) * t->options->batch + begin;
        status = mw_comm_agree(t->comm, read_positions(t, first, end - begin, t->rows, t->x));
        if (status == MW_OK) status = mw_comm_agree(t->comm, variant->select(t->trainer, t->x, &codes));
        if (status != MW_OK || !(t->trainer->kth > 0)) continue;
        sum += t->trainer->kth;
        seen++;
    }
    if (seen) t->sae->threshold = (float)(sum / (double)seen);
    mw_codes_free(&codes);
    return status;
}

/* x was scaled by s: a(s x) = s a'(x) with b_enc' = b_enc / s and b_dec' = b_dec / s, so the selection is the same, the
 * codes are in the data's own units, and the decoder keeps its unit rows. */
static mw_status finish(training *t, const char *folder) {
    mw_sae *sae = t->sae;
    MW_TRY(sae->backend->ops->unit_rows(sae->backend, sae->w_dec, NULL, sae->n, sae->d));
    for (int64_t i = 0; i < sae->n; i++) sae->b_enc[i] /= t->scale;
    for (int64_t i = 0; i < sae->d; i++) sae->b_dec[i] /= t->scale;
    if (sae->threshold > 0) sae->threshold /= t->scale;
    if (mw_comm_rank(t->comm) != 0) return MW_OK;
    MW_TRY(history_finish(&t->history));
    MW_TRY(mw_sae_save(sae, folder));
    unlink(t->checkpoint);
    return MW_OK;
}

mw_status mw_sae_train(mw_sae *sae, const mw_store *store, const mw_store_site *site, const mw_comm *comm,
                       const mw_train_options *options, const char *folder, mw_step_report *last) {
    if (sae->d != site->width)
        return mw_error(MW_ERR_CONFIG, "an SAE of width %lld cannot be trained on a site of width %lld",
                        (long long)sae->d, (long long)site->width);
    training t = {.sae = sae, .store = store, .site = site, .comm = comm, .options = options, .scale = 1};
    if (options->normalize && site->norm_mean > 0) t.scale = (float)(sqrt((double)site->width) / site->norm_mean);
    mw_step_report report = {0};
    mw_status status = prepare(&t, folder);
    if (status == MW_OK) status = run_steps(&t, &report);
    if (status == MW_OK) status = calibrate(&t);
    if (status == MW_OK) status = mw_comm_agree(comm, finish(&t, folder));
    history_close(&t.history);
    mw_trainer_free(&t.trainer);
    mw_free(t.checkpoint);
    mw_free(t.rows);
    mw_free(t.x);
    if (status == MW_OK && last) *last = report;
    return status;
}
