/* What the ranks tell each other in a step. */
#include "sae/trainer.h"

#include <string.h>

mw_status gather_rows_of(mw_trainer *t, void *data, size_t row_bytes) {
    return mw_comm_gather_shares(t->comm, data, t->options.batch, MW_ROW_TILE, row_bytes);
}

/* Entries of which each rank has filled those of its rows; 4 bytes each. */
static mw_status gather_entries(mw_trainer *t, const codes *c, void *data) {
    int size = mw_comm_size(t->comm);
    for (int r = 0; r < size; r++) {
        int64_t begin, end;
        mw_comm_share(r, size, t->options.batch, MW_ROW_TILE, &begin, &end);
        t->bytes[r] = (size_t)(c->start[end] - c->start[begin]) * 4;
    }
    return mw_comm_gather_all_v(t->comm, NULL, t->bytes, data);
}

static mw_status reserve_entries(codes *c, int64_t entries) {
    if (entries <= c->capacity && c->index) return MW_OK;
    int64_t capacity = entries + entries / 4 + 64;
    mw_free(c->index);
    mw_free(c->value);
    mw_free(c->grad);
    c->index = mw_alloc((size_t)capacity * sizeof *c->index);
    c->value = mw_alloc((size_t)capacity * sizeof *c->value);
    c->grad = mw_alloc((size_t)capacity * sizeof *c->grad);
    c->capacity = capacity;
    return c->index && c->value && c->grad ? MW_OK : MW_ERR_MEMORY;
}

mw_status gather_codes(mw_trainer *t, codes *c) {
    int64_t batch = t->options.batch, *counts = c->start + 1; /* counts first, then their running sum in place */
    for (int64_t r = t->begin; r < t->end; r++)
        counts[r] = c->mine.start[r - t->begin + 1] - c->mine.start[r - t->begin];
    MW_TRY(gather_rows_of(t, counts, sizeof *counts));
    c->start[0] = 0;
    for (int64_t r = 0; r < batch; r++) c->start[r + 1] += c->start[r];
    MW_TRY(mw_comm_agree(t->comm, reserve_entries(c, c->start[batch])));
    size_t mine = (size_t)(c->start[t->end] - c->start[t->begin]) * 4;
    if (mine) {
        memcpy(c->index + c->start[t->begin], c->mine.index, mine);
        memcpy(c->value + c->start[t->begin], c->mine.value, mine);
    }
    MW_TRY(gather_entries(t, c, c->index));
    return gather_entries(t, c, c->value);
}

mw_status gather_code_grads(mw_trainer *t, codes *c) {
    return gather_entries(t, c, c->grad);
}

void codes_free(codes *c) {
    mw_codes_free(&c->mine);
    void *all[] = {c->start, c->index, c->value, c->grad};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *c = (codes){0};
}
