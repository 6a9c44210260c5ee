/* Harvest: forward passes over a dataset, with detectors that copy the stored rows, and resuming. */
#include "microw/harvest.h"
#include "harvest/write_queue.h"
#include "store/block_digest.h"

#include <stdio.h>
#include <omp.h>
#include <string.h>

/* Detector of one site: copies the kept rows of a pass to the current block, in the stored type. A device with its
 * own memory collects them there first; the copy to the host overlaps the next pass. */
typedef struct tap {
    const bool *keep; /* of the following rows */
    mw_dtype dtype;
    char *to;     /* in the backend's memory */
    size_t bytes; /* copied so far */
} tap;

static mw_status copy_run(tap *t, mw_backend *b, const float *x, int64_t count) {
    char *to = t->to + t->bytes;
    t->bytes += (size_t)count * mw_dtype_size(t->dtype);
    return b->ops->convert(b, t->dtype, to, x, count);
}

static mw_status copy_kept(void *self, const mw_hook_event *event) {
    tap *t = self;
    int64_t rows = event->x.shape[0], width = event->x.shape[1];
    const float *x = event->x.data;
    for (int64_t r = 0; r < rows;) { /* one copy per run of kept rows */
        int64_t run = 0;
        while (r + run < rows && t->keep[r + run]) run++;
        if (run > 0) MW_TRY(copy_run(t, event->backend, x + r * width, run * width));
        r += run > 0 ? run : 1;
    }
    t->keep += rows; /* logits arrive in pieces: the next one continues here */
    return MW_OK;
}

typedef struct harvest {
    mw_model *model;
    const mw_dataset *dataset;
    const mw_harvest_options *options;
    const row_plan *plan;
    tap *taps;
    mw_hook_id *hooks;
    int64_t attached;
    mw_backend *backend;
    void **staging[MW_COPY_SLOTS]; /* each [n_sites]; NULL: on a host backend */
} harvest;

/* A step whose copies may be in progress. */
typedef struct pending {
    queue_slot *slot;
    int copy;
} pending;

static mw_status attach(harvest *h) {
    for (; h->attached < h->options->n_sites; h->attached++) {
        mw_hook hook = {.site = h->options->sites[h->attached],
                        .kind = MW_DETECTOR,
                        .call = copy_kept,
                        .self = &h->taps[h->attached],
                        .name = "harvest"};
        MW_TRY(mw_hooks_attach(mw_model_hooks(h->model), &hook, &h->hooks[h->attached]));
    }
    return MW_OK;
}

/* MW_ERR_STATE for a site that the pass did not reach: its block would be stored uninitialized. */
static mw_status check_reached(const harvest *h, int64_t block) {
    const mw_store_layout *layout = &h->plan->layout;
    size_t rows = (size_t)(layout->block_row[block + 1] - layout->block_row[block]);
    for (int64_t s = 0; s < layout->n_sites; s++) {
        char name[MW_SITE_TEXT], where[MW_SITE_TEXT] = "";
        const char *who = "";
        mw_site stop;
        if (h->taps[s].bytes == rows * (size_t)layout->widths[s] * mw_dtype_size(layout->dtype)) continue;
        mw_site_format(layout->sites[s], name);
        if (!mw_hooks_stopped(mw_model_hooks(h->model), &stop, &who))
            return mw_error(MW_ERR_STATE, "site %s was not reached in all rows of block %lld", name, (long long)block);
        mw_site_format(stop, where);
        return mw_error(MW_ERR_STATE, "hook '%s' on %s ended a pass before site %s, which must be stored", who, where,
                        name);
    }
    return MW_OK;
}

static mw_status compute_block(harvest *h, int64_t block, int copy, queue_slot *slot) {
    const mw_dataset *d = h->dataset;
    mw_backend *b = h->backend;
    int64_t first = block * h->options->batch, left = d->n_sequences - first;
    mw_batch batch = {.n_seq = left < h->options->batch ? left : h->options->batch,
                      .ids = d->ids + d->first[first],
                      .length = d->length + first};
    for (int64_t s = 0; s < h->options->n_sites; s++)
        h->taps[s] = (tap){.keep = h->plan->keep + d->first[first],
                           .dtype = h->plan->layout.dtype,
                           .to = h->staging[copy] ? h->staging[copy][s] : slot->values[s]};
    MW_TRY(mw_model_forward(h->model, &batch, NULL));
    MW_TRY(check_reached(h, block));
    for (int64_t s = 0; s < h->options->n_sites && h->staging[copy]; s++)
        MW_TRY(b->ops->fetch(b, copy, slot->values[s], h->staging[copy][s], h->taps[s].bytes));
    return MW_OK;
}

/* ---- device memory ---------------------------------------------------------------------------------------- */

static void free_staging(harvest *h) {
    for (int i = 0; i < MW_COPY_SLOTS; i++) {
        for (int64_t s = 0; h->staging[i] && s < h->options->n_sites; s++)
            if (h->staging[i][s]) h->backend->ops->free(h->backend, h->staging[i][s]);
        mw_free(h->staging[i]);
        h->staging[i] = NULL;
    }
}

static mw_status make_staging(harvest *h) {
    const mw_store_layout *layout = &h->plan->layout;
    size_t row = mw_dtype_size(layout->dtype), rows = (size_t)largest_block(layout);
    if (h->backend->ops->host_memory) return MW_OK;
    for (int i = 0; i < MW_COPY_SLOTS; i++) {
        if (!(h->staging[i] = mw_calloc((size_t)h->options->n_sites, sizeof(void *)))) return MW_ERR_MEMORY;
        for (int64_t s = 0; s < h->options->n_sites; s++)
            MW_TRY(h->backend->ops->alloc(h->backend, rows * (size_t)layout->widths[s] * row, &h->staging[i][s]));
    }
    return MW_OK;
}

/* ---- steps ------------------------------------------------------------------------------------------------- */

static int64_t tokens_before(const mw_dataset *d, int64_t sequence) {
    return sequence < d->n_sequences ? d->first[sequence] : d->n_ids;
}

/* Waits for a step's copies and submits it for writing. False: the step failed and is the last. */
static bool settle(harvest *h, write_queue *queue, pending *p) {
    if (!p->slot) return true;
    queue_slot *slot = p->slot;
    if (slot->local == MW_OK && h->staging[p->copy]) slot->local = h->backend->ops->fetched(h->backend, p->copy);
    bool good = slot->local == MW_OK;
    p->slot = NULL;
    write_queue_submit(queue);
    return good;
}

/* In step s rank r computes block first + s * size + r. A failed step stops all ranks at the same step. While a device
 * computes a step, the step before it is copied and submitted; a CPU submits its steps at once. */
static mw_status run_steps(harvest *h, write_queue *queue, const mw_comm *comm, int64_t first) {
    int64_t n = h->plan->layout.n_blocks, size = mw_comm_size(comm), rank = mw_comm_rank(comm);
    int64_t skipped = tokens_before(h->dataset, first * h->options->batch);
    bool good = true;
    pending before = {0};
    mw_progress progress;
    mw_progress_begin(&progress, "harvest", "tokens", h->dataset->n_ids - skipped, rank == 0);
    for (int64_t at = first, step = 0; at < n && good; at += size, step++) {
        pending now = {write_queue_acquire(queue), (int)(step % MW_COPY_SLOTS)};
        queue_slot *slot = now.slot;
        if (!slot) return MW_OK; /* write_queue_close has the status */
        slot->done = at + size < n ? at + size : n;
        slot->block = at + rank < n ? at + rank : -1;
        slot->local = mw_if_interrupted(slot->block >= 0 ? compute_block(h, slot->block, now.copy, slot) : MW_OK);
        good = settle(h, queue, &before);
        before = now;
        if (good && (h->backend->ops->host_memory || slot->local != MW_OK)) good = settle(h, queue, &before);
        if (good)
            mw_progress_update(&progress, tokens_before(h->dataset, slot->done * h->options->batch) - skipped, NULL);
    }
    if (good) good = settle(h, queue, &before);
    if (good) mw_progress_end(&progress, h->dataset->n_ids - skipped, NULL);
    return MW_OK;
}

/* Flushes the written blocks after a signal, so that a resumed run skips them. */
static mw_status save_written_blocks(mw_store_writer *writer) {
    int64_t done = 0;
    mw_status status = mw_store_writer_flush(writer, &done);
    if (status == MW_OK)
        mw_log(MW_LOG_INFO, "harvest interrupted by signal %d after %lld blocks; the same command resumes it",
               mw_signal_seen(), (long long)done);
    return status;
}

static mw_status write_store(harvest *h, const mw_comm *comm, const mw_comm *writing, const char *folder,
                             mw_harvest_report *report) {
    mw_store_writer *writer = NULL;
    write_queue *queue = NULL;
    int64_t first = 0;
    MW_TRY(mw_store_writer_open(folder, &h->plan->layout, writing, &writer, &first));
    mw_status status = write_queue_open(writer, &h->plan->layout, h->backend, mw_comm_threads(writing), &queue);
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) {
        status = run_steps(h, queue, comm, first);
        report->waiting = write_queue_waiting(queue);
    }
    if (queue) {
        mw_status written = write_queue_close(&queue);
        if (status == MW_OK) status = written;
    }
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = mw_store_writer_finish(writer);
    if (status == MW_INTERRUPTED) {
        mw_status saved = save_written_blocks(writer);
        if (saved != MW_OK) status = saved;
    }
    mw_store_writer_free(&writer);
    report->resumed_blocks = first;
    return status;
}

static mw_status run(harvest *h, const mw_comm *comm, const char *folder, mw_harvest_report *report) {
    mw_comm *writing = NULL; /* for the writer thread */
    MW_TRY(mw_comm_duplicate(comm, &writing));
    mw_status status = attach(h);
    if (status == MW_OK) status = make_staging(h);
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = write_store(h, comm, writing, folder, report);
    while (h->attached > 0) mw_hooks_detach(mw_model_hooks(h->model), h->hooks[--h->attached]);
    free_staging(h);
    mw_comm_free(&writing);
    return status;
}

static mw_status is_complete(const char *folder, const mw_comm *comm, bool *complete) {
    int64_t found = mw_comm_rank(comm) == 0 && mw_file_is_in(folder, "activations.h5");
    MW_TRY(mw_comm_broadcast(comm, &found, sizeof found, 0));
    *complete = found != 0;
    return MW_OK;
}

/* With a GPU the cores are free for the writer; else the model uses them. */
static int writer_threads(const mw_backend *backend) {
    return backend->ops->host_memory ? 1 : omp_get_max_threads();
}

mw_status mw_harvest(mw_model *model, const mw_dataset *dataset, const mw_tokenizer *tokenizer, const mw_comm *comm,
                     const char *folder, const mw_harvest_options *options, mw_harvest_report *report) {
    double start = mw_seconds();
    mw_harvest_report made = {0};
    bool complete = false;
    if (!options->replace) MW_TRY(is_complete(folder, comm, &complete));
    row_plan plan = {0};
    MW_TRY(mw_comm_agree(comm, row_plan_make(model, dataset, tokenizer, options, &plan)));
    plan.layout.threads = writer_threads(mw_model_backend(model));
    harvest h = {
        .model = model, .dataset = dataset, .options = options, .plan = &plan, .backend = mw_model_backend(model)};
    h.taps = mw_calloc((size_t)options->n_sites, sizeof *h.taps);
    h.hooks = mw_calloc((size_t)options->n_sites, sizeof *h.hooks);
    mw_status status = mw_comm_agree(comm, h.taps && h.hooks ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK && !complete) status = run(&h, comm, folder, &made);
    made.rows = plan.layout.n_rows;
    made.tokens = dataset->n_ids;
    made.blocks = plan.layout.n_blocks;
    made.seconds = mw_seconds() - start;
    mw_free(h.taps);
    mw_free(h.hooks);
    row_plan_free(&plan);
    if (status == MW_OK && report) *report = made;
    return status;
}
