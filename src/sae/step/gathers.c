/* The exchanges of a step. */
#include "sae/variants/variants.h"

#include <math.h>

/* ---- shares ------------------------------------------------------------------------------------------------------ */

/* Items of a batch: rows in tiles of MW_ROW_TILE, or tiles. */
static exchange_share share_of_batch(const mw_trainer *t, int64_t total, int64_t block) {
    return (exchange_share){.ranks = mw_comm_size(t->data), .total = total, .block = block};
}

static exchange_share share_of_rows(const mw_trainer *t) {
    return share_of_batch(t, t->options.batch, MW_ROW_TILE);
}

/* The shares of the ranks of t->data, which are neighbours among the shares of all ranks. */
static exchange_share share_of_latents(const mw_trainer *t) {
    return (exchange_share){.first = mw_comm_rank(t->comm) - mw_comm_rank(t->data),
                            .ranks = mw_comm_size(t->comm),
                            .total = t->sae->shard.total,
                            .block = LATENT_BLOCK};
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

exchange data_exchange(const mw_trainer *t) {
    return exchange_of(t->data, t->backend);
}

exchange whole_exchange(const mw_trainer *t) {
    return exchange_of(t->comm, t->backend);
}

void add_rows(const mw_trainer *t, exchange *e, void *data, size_t row_bytes) {
    exchange_add(e, &(exchanged){.data = data, .item = row_bytes, .device = true, .share = share_of_rows(t)});
}

void add_tiles(const mw_trainer *t, exchange *e, void *data, size_t item_bytes) {
    exchange_add(
        e,
        &(exchanged){.data = data, .item = item_bytes, .device = true, .share = share_of_batch(t, batch_tiles(t), 1)});
}

void add_tallies(const mw_trainer *t, exchange *e) {
    exchange_add(e, &(exchanged){.data = t->tallies,
                                 .item = TALLIES * sizeof *t->tallies,
                                 .share = share_of_batch(t, mw_comm_size(t->data), 1)});
}

void add_row_losses(const mw_trainer *t, exchange *e, double *losses) {
    exchange_add(e, &(exchanged){.data = losses, .item = sizeof *losses, .share = share_of_rows(t)});
}

void add_blocks(const mw_trainer *t, exchange *e, void *data, size_t item_bytes, bool on_host) {
    exchange_add(e, &(exchanged){.data = data,
                                 .item = item_bytes,
                                 .device = !on_host,
                                 .share = {.ranks = mw_comm_size(t->comm), .total = latent_blocks(t), .block = 1}});
}

void add_skip_rows(const mw_trainer *t, exchange *e) {
    const parameter *p = &t->parameter[P_W_SKIP];
    exchange_add(e, &(exchanged){.data = p->grad,
                                 .item = (size_t)p->columns * sizeof *p->grad,
                                 .device = true,
                                 .share = {.ranks = mw_comm_size(t->comm), .total = p->rows, .block = MW_ROW_TILE}});
}

/* Without overlap in a grid of shards: two communicators at once can wait for each other's resources of a GPU. */
void add_parameter(const mw_trainer *t, exchange *e, parameter_index i) {
    const parameter *p = &t->parameter[i];
    exchange_add(e, &(exchanged){.data = p->value,
                                 .item = (size_t)p->columns * sizeof *p->value,
                                 .device = true,
                                 .beside = !t->own_data,
                                 .request = i,
                                 .share = share_of_latents(t)});
}

mw_status run_exchange(mw_trainer *t, exchange *e) {
    mw_status status = exchange_run(e, t->local);
    if (!t->own_data) return status;
    keep_first(t, status);
    return lost(status);
}

/* ---- overlapping allgathers -------------------------------------------------------------------------------------- */

bool gathers_input_early(const mw_trainer *t) {
    return !t->backend->ops->host_memory && !t->own_data;
}

mw_status begin_input(mw_trainer *t) {
    exchange e = data_exchange(t);
    exchange_add(&e, &(exchanged){.data = t->input,
                                  .item = (size_t)t->sae->d * sizeof *t->input,
                                  .device = true,
                                  .beside = true,
                                  .request = REQUEST_INPUT,
                                  .share = share_of_rows(t)});
    return run_exchange(t, &e);
}

mw_status end_gather(const mw_trainer *t, int request) {
    return mw_comm_end_allgather(t->data, t->backend, request);
}

mw_status end_gathers(const mw_trainer *t) {
    for (int request = 0; request < REQUESTS; request++) MW_TRY(end_gather(t, request));
    return MW_OK;
}

/* ---- codes ------------------------------------------------------------------------------------------------------- */

static void free_entries(mw_backend *b, code_set *c) {
    void *all[] = {c->index, c->value};
    for (int i = 0; i < 2; i++)
        if (all[i]) b->ops->free(b, all[i]);
    c->index = NULL;
    c->value = NULL;
    c->capacity = 0;
}

static void free_grads(mw_backend *b, code_set *c) {
    if (c->grad) b->ops->free(b, c->grad);
    c->grad = NULL;
    c->grads = 0;
}

/* Room for so many entries and some more: batches have different numbers of them. */
static int64_t room_for(int64_t entries) {
    return entries + entries / 4 + 64;
}

static mw_status reserve_entries(mw_backend *b, code_set *c, int64_t entries) {
    if (entries <= c->capacity && c->index) return MW_OK;
    int64_t capacity = room_for(entries);
    void *index = NULL;
    free_entries(b, c);
    MW_TRY(b->ops->alloc(b, (size_t)capacity * sizeof *c->index, &index));
    c->index = index;
    MW_TRY(mw_backend_floats(b, capacity, &c->value));
    c->capacity = capacity;
    return MW_OK;
}

static mw_status reserve_grads(mw_backend *b, code_set *c, int64_t entries) {
    if (entries <= c->grads && c->grad) return MW_OK;
    free_grads(b, c);
    MW_TRY(mw_backend_floats(b, room_for(entries), &c->grad));
    c->grads = room_for(entries);
    return MW_OK;
}

/* c->start + 1 holds counts, then their running sum in place. */
void add_counts(const mw_trainer *t, exchange *e, code_set *c) {
    int64_t *counts = c->start + 1;
    for (int64_t r = t->begin; r < t->end; r++)
        counts[r] = t->local == MW_OK ? c->mine.start[r - t->begin + 1] - c->mine.start[r - t->begin] : 0;
    exchange_add(e, &(exchanged){.data = counts,
                                 .item = sizeof *counts,
                                 .wire = exchange_wire(t->sae->n + 1),
                                 .share = share_of_rows(t)});
}

/* Copies this rank's entries to their offset among those of all rows. */
static mw_status copy_mine(mw_trainer *t, code_set *c) {
    mw_backend *b = t->backend;
    int64_t at = c->start[t->begin], count = c->start[t->end] - at;
    MW_TRY(reserve_entries(b, c, c->start[t->options.batch]));
    if (count == 0) return MW_OK;
    MW_TRY(copy_latents(b, c->index + at, count, c->mine.index, 1, count));
    return b->ops->copy_2d(b, c->value + at, count, c->mine.value, count, 1, count);
}

void add_codes(mw_trainer *t, exchange *e, code_set *c) {
    c->start[0] = 0;
    for (int64_t r = 0; r < t->options.batch; r++) c->start[r + 1] += c->start[r];
    LOCALLY(t, copy_mine(t, c));
    exchange_share share = share_of_rows(t);
    share.start = c->start;
    exchange_add(e, &(exchanged){.data = c->index,
                                 .item = sizeof *c->index,
                                 .wire = exchange_wire(t->sae->n),
                                 .device = true,
                                 .share = share});
    exchange_add(e, &(exchanged){.data = c->value, .item = sizeof *c->value, .device = true, .share = share});
}

mw_status take_share(mw_trainer *t, code_set *c) {
    mw_backend *b = t->backend;
    const mw_filter mine = {.first = t->first_latent, .last = t->first_latent + t->n_latents, .level = -INFINITY};
    const mw_codes all = {.rows = t->options.batch, .start = c->start, .index = c->index, .value = c->value};
    c->share = (batch_codes){c->start, c->index, c->value};
    if (mw_comm_size(t->data) > 1) {
        MW_TRY(keep_codes(b, &all, all.rows, &mine, &c->selected));
        c->share = (batch_codes){c->selected.start, c->selected.index, c->selected.value};
    }
    return reserve_grads(b, c, c->share.start[t->options.batch]);
}

void codes_free(mw_backend *backend, code_set *c) {
    mw_codes_free(&c->mine);
    mw_codes_free(&c->selected);
    free_entries(backend, c);
    free_grads(backend, c);
    mw_free(c->start);
    *c = (code_set){0};
}
