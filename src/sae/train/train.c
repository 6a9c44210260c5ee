/* Joint training: every batch is read once, and each SAE (a trainee) takes its step on it. */
#include "sae/train/trainee.h"
#include "sae/rows/prefetch.h"
#include "sae/shards.h"

#include <math.h>
#include <stdio.h>

/* SAEs that are trained on the same batches. */
typedef struct group {
    const mw_comm *comm;
    feed feed;
    int64_t n;          /* trainees */
    int64_t begin, end; /* this rank's rows of a batch */
    trainee *trainees;  /* [n] */
    prefetcher *prefetcher;
    mw_backend *memory; /* in whose memory the rows of a step are */
    float *x, *y;       /* this rank's rows, scaled: scratch of the trainees; y NULL: x is reconstructed */
} group;

/* ---- opening ------------------------------------------------------------------------------------------- */

static mw_status check_width(const mw_sae *sae, const mw_store_view *in, const mw_store_view *out) {
    int64_t width = out ? out->width : in->width;
    if (sae->d == in->width && sae->d_out == width) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "an SAE of width %lld to %lld cannot be trained on sites of width %lld to %lld",
                    (long long)sae->d, (long long)sae->d_out, (long long)in->width, (long long)width);
}

bool mw_training_same_batches(const mw_train_options *a, const mw_train_options *b) {
    return a->batch == b->batch && shards_of(a) == shards_of(b) && a->order_seed == b->order_seed &&
           a->shuffle_block == b->shuffle_block && a->shuffle_window == b->shuffle_window && a->nan_rule == b->nan_rule;
}

static mw_backend *device_of(const mw_training *job) {
    return job->options->device ? job->options->device : job->sae->backend;
}

/* Checks that a training can use the batches of the first. */
static mw_status check_training(const mw_training *job, const mw_training *first, const mw_store_view *in,
                                const mw_store_view *out) {
    MW_TRY(check_width(job->sae, in, out));
    if (job->sae->shard.count != shards_of(job->options))
        return mw_error(MW_ERR_ARG, "train.shards = %lld: expected the %lld shards of the SAE",
                        (long long)shards_of(job->options), (long long)job->sae->shard.count);
    if (!mw_training_same_batches(first->options, job->options))
        return mw_error(MW_ERR_ARG,
                        "SAEs trained together: expected the same batches, found other options of batch or order");
    if (device_of(job) != device_of(first) && !(device_of(job)->ops->host_memory && device_of(first)->ops->host_memory))
        return mw_error(MW_ERR_ARG, "SAEs trained together: expected one device, found several");
    return MW_OK;
}

static mw_status open_group(group *g, mw_training *jobs, const mw_store_view *in, const mw_store_view *out) {
    const mw_train_options *first = jobs[0].options;
    if (first->batch < 1)
        return mw_error(MW_ERR_CONFIG, "train.batch: expected at least 1, found %lld", (long long)first->batch);
    shard_rows(jobs[0].sae, mw_comm_rank(g->comm), mw_comm_size(g->comm), first->batch, &g->begin, &g->end);
    int64_t rows = g->end - g->begin;
    for (int64_t i = 0; i < g->n; i++) MW_TRY(check_training(&jobs[i], &jobs[0], in, out));
    MW_TRY(feed_open(in, out, first, &g->feed));
    g->trainees = mw_calloc((size_t)g->n, sizeof *g->trainees);
    if (!g->trainees) return MW_ERR_MEMORY;
    g->memory = device_of(&jobs[0]);
    MW_TRY(prefetch_open(&g->feed, rows, g->memory, &g->prefetcher));
    MW_TRY(mw_backend_floats(g->memory, rows * in->width, &g->x));
    if (out) MW_TRY(mw_backend_floats(g->memory, rows * out->width, &g->y));
    for (int64_t i = 0; i < g->n; i++) {
        jobs[i].status = MW_OK;
        jobs[i].last = (mw_step_report){0};
        jobs[i].seconds = jobs[i].waiting = 0;
        jobs[i].late_fall = NAN;
        g->trainees[i] =
            (trainee){.job = &jobs[i], .comm = g->comm, .feed = &g->feed, .memory = g->memory, .x = g->x, .y = g->y};
    }
    return MW_OK;
}

static void close_group(group *g) {
    for (int64_t i = 0; i < g->n && g->trainees; i++) trainee_free(&g->trainees[i]);
    prefetch_close(&g->prefetcher);
    feed_close(&g->feed);
    if (g->x) g->memory->ops->free(g->memory, g->x);
    if (g->y) g->memory->ops->free(g->memory, g->y);
    mw_free(g->trainees);
}

/* ---- the run ------------------------------------------------------------------------------------------- */

/* Ends a trainee that failed; the others continue, unless another rank is lost. */
static mw_status drop_if_failed(trainee *t, mw_status status) {
    if (status == MW_OK) return MW_OK;
    t->job->status = status;
    trainee_free(t);
    return status == MW_ERR_COMM ? status : MW_OK;
}

/* trainee_finish may read from the feed: the prefetch thread must not. */
static mw_status finish_if_done(group *g, trainee *t) {
    if (t->active || t->job->status != MW_OK) return MW_OK;
    prefetch_wait(g->prefetcher);
    return drop_if_failed(t, trainee_finish(t));
}

static mw_status begin_all(group *g) {
    for (int64_t i = 0; i < g->n; i++) {
        MW_TRY(drop_if_failed(&g->trainees[i], trainee_begin(&g->trainees[i])));
        MW_TRY(finish_if_done(g, &g->trainees[i]));
    }
    return MW_OK;
}

/* The SAEs of a group have the same number of steps. */
static void warn_if_few_steps(const group *g) {
    enum { FEW_STEPS = 300, USUAL_STEPS = 500, SMALL_BATCH = 256 };
    const mw_train_options *o = g->trainees[0].job->options;
    int64_t rows = o->steps * o->batch, batch = rows / USUAL_STEPS / MW_ROW_TILE * MW_ROW_TILE;
    if (mw_comm_rank(g->comm) != 0 || o->steps == 0 || o->steps >= FEW_STEPS) return;
    if (batch >= SMALL_BATCH)
        mw_log(MW_LOG_WARNING,
               "%lld steps of %lld rows are few for an SAE: more train.tokens, or train.batch=%lld, lower FVU",
               (long long)o->steps, (long long)o->batch, (long long)batch);
    else
        mw_log(MW_LOG_WARNING, "%lld steps of %lld rows are few for an SAE: more train.tokens lower FVU",
               (long long)o->steps, (long long)o->batch);
}

/* A run of a million rows on a small model falls by a quarter, and four times the rows lower its FVU by a sixth. */
static void warn_if_steep(const mw_training *job) {
    static const double steep = 0.35;
    if (!(job->late_fall > steep)) return;
    mw_log(MW_LOG_WARNING,
           "FVU was still falling when the learning rate began to fall: by %.0f %% over the second half of the steps "
           "before. More train.tokens lower it further",
           100 * job->late_fall);
}

/* Returns the next step of the trainees with the fewest steps done; -1: all are done. */
static int64_t next_step(const group *g) {
    int64_t next = -1;
    for (int64_t i = 0; i < g->n; i++) {
        const trainee *t = &g->trainees[i];
        int64_t done = t->active ? mw_trainer_steps_done(t->trainer) : -1;
        if (t->active && (next < 0 || done < next)) next = done;
    }
    return next;
}

/* A step that failed because some rank has no rows, or was interrupted, has changed nothing: this is the status of all
 * trainees. */
static mw_status why_not_ready(const group *g, mw_status step, mw_status ready) {
    return step == MW_OK || step == MW_ERR_COMM ? MW_OK : mw_comm_agree(g->comm, ready);
}

/* `ready`: whether this rank has the rows; the first step carries it to the other ranks. Counts the time of waiting for
 * rows for every trainee, as if it were trained alone. */
static mw_status step_all(group *g, int64_t step, mw_status ready, const float *x, const float *y, double waited) {
    for (int64_t i = 0; i < g->n; i++) {
        trainee *t = &g->trainees[i];
        if (!t->active || mw_trainer_steps_done(t->trainer) != step) continue;
        t->job->seconds += waited;
        t->job->waiting += waited;
        mw_status status = trainee_step(t, ready, x, y);
        MW_TRY(why_not_ready(g, status, ready));
        MW_TRY(drop_if_failed(t, status));
        MW_TRY(finish_if_done(g, t));
    }
    return MW_OK;
}

static mw_status interrupt_all(group *g) {
    for (int64_t i = 0; i < g->n; i++)
        if (g->trainees[i].active) MW_TRY(trainee_interrupt(&g->trainees[i]));
    return MW_INTERRUPTED;
}

/* Returns the number of rows left, summed over the trainees. */
static int64_t rows_left(const group *g) {
    int64_t rows = 0;
    for (int64_t i = 0; i < g->n; i++) {
        const trainee *t = &g->trainees[i];
        const mw_train_options *o = t->job->options;
        if (t->active) rows += (o->steps - mw_trainer_steps_done(t->trainer)) * o->batch;
    }
    return rows;
}

typedef struct description {
    char pairs[512], words[512]; /* JSON pairs; text. A loss may have 300 digits */
    mw_progress_extra extra;
} description;

/* Describes the progress: the last step of one SAE, or how many of several are still trained. */
static const mw_progress_extra *describe(const group *g, description *out) {
    int64_t active = 0;
    for (int64_t i = 0; i < g->n; i++) active += g->trainees[i].active;
    const mw_step_report *r = &g->trainees[0].job->last;
    char fvu[32] = "null"; /* undefined: the line is JSON */
    if (isfinite(r->fvu)) snprintf(fvu, sizeof fvu, "%.4f", r->fvu);
    if (g->n == 1) {
        snprintf(out->pairs, sizeof out->pairs,
                 "\"loss\":%.4f,\"fvu\":%s,\"l0\":%.2f,\"dead\":%lld,\"candidates\":%.1f", r->loss, fvu, r->l0,
                 (long long)r->dead, r->candidates);
        snprintf(out->words, sizeof out->words, "loss %.4g, FVU %s, L0 %.1f, %lld dead", r->loss,
                 mw_show(r->fvu, 4).text, r->l0, (long long)r->dead);
    } else {
        snprintf(out->pairs, sizeof out->pairs, "\"saes\":%lld,\"training\":%lld", (long long)g->n, (long long)active);
        snprintf(out->words, sizeof out->words, "%lld of %lld SAEs still trained", (long long)active, (long long)g->n);
    }
    out->extra = (mw_progress_extra){out->pairs, out->words};
    return &out->extra;
}

/* Returns the last step of all active trainees. */
static int64_t last_step(const group *g) {
    int64_t last = -1;
    for (int64_t i = 0; i < g->n; i++)
        if (g->trainees[i].active && g->trainees[i].job->options->steps - 1 > last)
            last = g->trainees[i].job->options->steps - 1;
    return last;
}

/* Returns the rows of this step and prefetches those of the next. */
static mw_status take_batch(group *g, int64_t step, int64_t batch, const float **x, const float **y) {
    int64_t next = step < last_step(g) ? (step + 1) * batch + g->begin : -1;
    return prefetch_take(g->prefetcher, step * batch + g->begin, next, x, y);
}

static mw_status run_steps(group *g) {
    const float *x = NULL, *y = NULL;
    description last;
    mw_progress progress;
    int64_t total = rows_left(g), batch = g->trainees[0].job->options->batch;
    if (total == 0) return MW_OK;
    mw_progress_begin(&progress, "train", "tokens", total, mw_comm_rank(g->comm) == 0);
    for (int64_t step; (step = next_step(g)) >= 0;) {
        double start = mw_seconds();
        mw_status ready = take_batch(g, step, batch, &x, &y);
        double waited = mw_seconds() - start;
        mw_status status = step_all(g, step, mw_if_interrupted(ready), x, y, waited);
        if (status == MW_INTERRUPTED) return interrupt_all(g);
        MW_TRY(status);
        mw_progress_update(&progress, total - rows_left(g), describe(g, &last));
    }
    mw_progress_end(&progress, total, describe(g, &last));
    return MW_OK;
}

/* Logs the number of replaced rows, summed over the ranks. */
static mw_status report_replaced(group *g) {
    int64_t replaced = g->feed.replaced + prefetch_replaced(g->prefetcher);
    MW_TRY(mw_comm_allreduce_sum(g->comm, &replaced, 1));
    if (replaced && mw_comm_rank(g->comm) == 0)
        mw_log(MW_LOG_WARNING, "activations: %lld rows were not finite; the next finite rows took their places",
               (long long)replaced);
    return MW_OK;
}

mw_status mw_sae_train_many(mw_training *jobs, int64_t n, const mw_store_view *in, const mw_store_view *out,
                            const mw_comm *comm) {
    group g = {.comm = comm, .n = n};
    mw_status status = mw_comm_agree(comm, open_group(&g, jobs, in, out));
    if (status == MW_OK) status = begin_all(&g);
    if (status == MW_OK) warn_if_few_steps(&g);
    if (status == MW_OK) status = run_steps(&g);
    if (g.prefetcher) prefetch_wait(g.prefetcher);
    if (status == MW_OK) status = report_replaced(&g);
    for (int64_t i = 0; status == MW_OK && i < n; i++) warn_if_steep(&jobs[i]);
    close_group(&g);
    return status;
}

mw_status mw_sae_train(mw_sae *sae, const mw_store_view *in, const mw_store_view *out, const mw_comm *comm,
                       const mw_train_options *options, const char *folder, mw_step_report *last) {
    mw_training job = {.sae = sae, .options = options, .folder = folder};
    MW_TRY(mw_sae_train_many(&job, 1, in, out, comm));
    if (job.status == MW_OK && last) *last = job.last;
    return job.status;
}

mw_status mw_sae_train_array(mw_sae *sae, const float *rows, int64_t n, const mw_comm *comm,
                             const mw_train_options *options, mw_step_report *last) {
    mw_store *store = NULL;
    mw_store_view view;
    mw_status status = mw_store_of_array(rows, n, sae->d, "0.resid_post", &store);
    if (status == MW_OK) status = mw_store_view_open(store, "0.resid_post", &view);
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = mw_sae_train(sae, &view, NULL, comm, options, NULL, last);
    mw_store_close(&store);
    return status;
}
