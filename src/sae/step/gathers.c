/* The allgathers of a step. */
#include "sae/step/step.h"

/* Each rank of `comm` has filled its t->bytes[rank] bytes of `data`. */
static mw_status gather(mw_trainer *t, const mw_comm *comm, void *data) {
    return mw_comm_allgather_device(comm, t->backend, t->bytes, data);
}

static void size_shares(mw_trainer *t, const mw_comm *comm, int64_t total, int64_t block, size_t item_bytes) {
    int size = mw_comm_size(comm);
    for (int r = 0; r < size; r++) {
        int64_t begin, end;
        mw_comm_share(r, size, total, block, &begin, &end);
        t->bytes[r] = (size_t)(end - begin) * item_bytes;
    }
}

mw_status gather_shares(mw_trainer *t, const mw_comm *comm, void *data, int64_t total, int64_t block,
                        size_t item_bytes) {
    size_shares(t, comm, total, block, item_bytes);
    return gather(t, comm, data);
}

mw_status gather_rows_of(mw_trainer *t, void *data, size_t row_bytes) {
    return gather_shares(t, t->data, data, t->options.batch, MW_ROW_TILE, row_bytes);
}

mw_status gather_tiles(mw_trainer *t, void *data, size_t item_bytes) {
    return gather_shares(t, t->data, data, batch_tiles(t), 1, item_bytes);
}

mw_status gather_blocks(mw_trainer *t, void *data, size_t item_bytes) {
    return gather_shares(t, t->comm, data, latent_blocks(t), 1, item_bytes);
}

/* The shares of the ranks of t->data, which are neighbours among the shares of all ranks. */
static void size_latents(mw_trainer *t, size_t row_bytes) {
    int group = mw_comm_size(t->data), before = mw_comm_rank(t->comm) - mw_comm_rank(t->data);
    for (int r = 0; r < group; r++) {
        int64_t begin, end;
        mw_comm_share(before + r, mw_comm_size(t->comm), t->sae->shard.total, LATENT_BLOCK, &begin, &end);
        t->bytes[r] = (size_t)(end - begin) * row_bytes;
    }
}

mw_status gather_latents(mw_trainer *t, void *data, size_t row_bytes) {
    size_latents(t, row_bytes);
    return gather(t, t->data, data);
}

/* ---- overlapping allgathers -------------------------------------------------------------------------------------- */

/* Without overlap in a grid of shards: two communicators at once can wait for each other's resources of a GPU. */
static mw_status gather_beside(mw_trainer *t, void *data, int request) {
    if (t->own_data) return gather(t, t->data, data);
    return mw_comm_begin_allgather(t->data, t->backend, t->bytes, data, request);
}

mw_status begin_rows(mw_trainer *t, void *data, size_t row_bytes, int request) {
    size_shares(t, t->data, t->options.batch, MW_ROW_TILE, row_bytes);
    return gather_beside(t, data, request);
}

mw_status begin_latents(mw_trainer *t, void *data, size_t row_bytes, int request) {
    size_latents(t, row_bytes);
    return gather_beside(t, data, request);
}

mw_status end_gather(const mw_trainer *t, int request) {
    return mw_comm_end_allgather(t->data, t->backend, request);
}

mw_status end_gathers(const mw_trainer *t) {
    for (int request = 0; request < REQUESTS; request++) MW_TRY(end_gather(t, request));
    return MW_OK;
}

/* ---- codes ------------------------------------------------------------------------------------------------------- */

/* Entries of 4 bytes, of which each rank has filled those of its rows. */
static mw_status gather_entries(mw_trainer *t, const code_set *c, void *data) {
    int size = mw_comm_size(t->data);
    for (int r = 0; r < size; r++) {
        int64_t begin, end;
        mw_comm_share(r, size, t->options.batch, MW_ROW_TILE, &begin, &end);
        t->bytes[r] = (size_t)(c->start[end] - c->start[begin]) * 4;
    }
    return gather(t, t->data, data);
}

static void free_entries(mw_backend *b, code_set *c) {
    void *all[] = {c->index, c->value, c->grad};
    for (int i = 0; i < 3; i++)
        if (all[i]) b->ops->free(b, all[i]);
    c->index = NULL;
    c->value = c->grad = NULL;
    c->capacity = 0;
}

static mw_status reserve_entries(mw_backend *b, code_set *c, int64_t entries) {
    if (entries <= c->capacity && c->index) return MW_OK;
    int64_t capacity = entries + entries / 4 + 64;
    void *index = NULL;
    free_entries(b, c);
    MW_TRY(b->ops->alloc(b, (size_t)capacity * sizeof *c->index, &index));
    c->index = index;
    MW_TRY(mw_backend_floats(b, capacity, &c->value));
    MW_TRY(mw_backend_floats(b, capacity, &c->grad));
    c->capacity = capacity;
    return MW_OK;
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

mw_status gather_codes(mw_trainer *t, code_set *c) {
    int64_t batch = t->options.batch, *counts = c->start + 1; /* counts, then their running sum in place */
    for (int64_t r = t->begin; r < t->end; r++)
        counts[r] = c->mine.start[r - t->begin + 1] - c->mine.start[r - t->begin];
    MW_TRY(mw_comm_allgather_shares(t->data, counts, batch, MW_ROW_TILE, sizeof *counts));
    c->start[0] = 0;
    for (int64_t r = 0; r < batch; r++) c->start[r + 1] += c->start[r];
    MW_TRY(mw_comm_agree(t->comm, copy_mine(t, c)));
    MW_TRY(gather_entries(t, c, c->index));
    return gather_entries(t, c, c->value);
}

mw_status gather_code_grads(mw_trainer *t, code_set *c) {
    return gather_entries(t, c, c->grad);
}

void codes_free(mw_backend *backend, code_set *c) {
    mw_codes_free(&c->mine);
    free_entries(backend, c);
    mw_free(c->start);
    *c = (code_set){0};
}
