/* Sparse codes: memory, copies between host and device, rows selected from matrices and from other codes. */
#include "sae/variants/variants.h"

#include <string.h>

mw_status mw_codes_begin(mw_codes *codes, int64_t rows) {
    if (rows + 1 > codes->rows_capacity || !codes->start) {
        int64_t grown = rows + rows / 2 + 16;
        int64_t *moved = mw_realloc(codes->start, 0, (size_t)grown * sizeof *moved);
        if (!moved) return MW_ERR_MEMORY;
        codes->start = moved;
        codes->rows_capacity = grown;
    }
    codes->rows = rows;
    codes->start[0] = 0;
    return MW_OK;
}

/* ---- memory of the entries -------------------------------------------------------------------------- */

/* Items have 4 bytes: latents and values. */
static mw_status grow_on_host(void **array, int64_t kept, int64_t capacity) {
    void *moved = mw_realloc(*array, (size_t)kept * 4, (size_t)capacity * 4);
    if (!moved) return MW_ERR_MEMORY;
    *array = moved;
    return MW_OK;
}

static mw_status grow_on_device(mw_backend *memory, void **array, int64_t kept, int64_t capacity) {
    float *grown = NULL;
    MW_TRY(mw_backend_floats(memory, capacity, &grown));
    if (kept) MW_TRY(memory->ops->copy_2d(memory, grown, kept, *array, kept, 1, kept));
    memory->ops->free(memory, *array);
    *array = grown;
    return MW_OK;
}

static mw_status grow(mw_backend *memory, void **array, int64_t kept, int64_t capacity) {
    return memory ? grow_on_device(memory, array, kept, capacity) : grow_on_host(array, kept, capacity);
}

mw_status mw_codes_reserve(mw_codes *codes, int64_t kept, int64_t entries) {
    if (entries <= codes->capacity && codes->index && codes->value) return MW_OK;
    int64_t capacity = entries + entries / 2 + 16;
    MW_TRY(grow(codes->memory, (void **)&codes->index, kept, capacity));
    MW_TRY(grow(codes->memory, (void **)&codes->value, kept, capacity));
    codes->capacity = capacity;
    return MW_OK;
}

void mw_codes_free(mw_codes *codes) {
    mw_backend *memory = codes->memory;
    mw_free(codes->start);
    void *all[] = {codes->index, codes->value};
    for (int i = 0; i < 2; i++) {
        if (memory && all[i])
            memory->ops->free(memory, all[i]);
        else
            mw_free(all[i]);
    }
    *codes = (mw_codes){.memory = memory};
}

/* ---- between host and device ---------------------------------------------------------------------------- */

static mw_status copy_starts(const mw_codes *from, mw_codes *to) {
    int64_t entries = from->start[from->rows];
    MW_TRY(mw_codes_begin(to, from->rows));
    memcpy(to->start, from->start, (size_t)(from->rows + 1) * sizeof *to->start);
    return mw_codes_reserve(to, 0, entries);
}

mw_status codes_to_host(const mw_codes *from, mw_codes *host) {
    MW_TRY(copy_starts(from, host));
    size_t bytes = (size_t)from->start[from->rows] * 4;
    if (from->memory) {
        MW_TRY(from->memory->ops->download(from->memory, host->index, from->index, bytes));
        return from->memory->ops->download(from->memory, host->value, from->value, bytes);
    }
    memcpy(host->index, from->index, bytes);
    memcpy(host->value, from->value, bytes);
    return MW_OK;
}

mw_status codes_from_host(const mw_codes *host, mw_codes *to) {
    MW_TRY(copy_starts(host, to));
    size_t bytes = (size_t)host->start[host->rows] * 4;
    if (to->memory) {
        MW_TRY(to->memory->ops->upload(to->memory, to->index, host->index, bytes));
        return to->memory->ops->upload(to->memory, to->value, host->value, bytes);
    }
    memcpy(to->index, host->index, bytes);
    memcpy(to->value, host->value, bytes);
    return MW_OK;
}

float mw_codes_find(const mw_codes *codes, int64_t row, int64_t latent) {
    for (int64_t j = codes->start[row]; j < codes->start[row + 1]; j++)
        if (codes->index[j] == latent) return codes->value[j];
    return 0;
}

/* ---- rows of codes --------------------------------------------------------------------------------------- */

/* Turns the counts of rows first .. first + rows, stored in start[first + 1] .., into starts; reserves the entries. */
static mw_status reserve_rows(mw_codes *out, int64_t first, int64_t rows) {
    int64_t *start = out->start + first;
    for (int64_t r = 0; r < rows; r++) start[r + 1] += start[r];
    return mw_codes_reserve(out, start[0], start[rows]);
}

mw_status append_above(mw_backend *backend, mw_codes *out, int64_t first, int64_t rows, int64_t n,
                       const mw_threshold *how, const float *x) {
    int64_t *start = out->start + first;
    MW_TRY(backend->ops->count_open(backend, how, x, rows, n, start + 1));
    MW_TRY(reserve_rows(out, first, rows));
    return backend->ops->write_open(backend, how, x, rows, n, start, out->index, out->value);
}

/* Appends the entries of `from` that pass the filter as rows first .. first + rows. */
static mw_status append_kept(mw_backend *b, const mw_codes *from, int64_t rows, const mw_filter *how, int64_t first,
                             mw_codes *to) {
    int64_t *start = to->start + first;
    MW_TRY(b->ops->count_kept(b, how, from->start, from->index, from->value, rows, start + 1));
    MW_TRY(reserve_rows(to, first, rows));
    return b->ops->write_kept(b, how, from->start, from->index, from->value, rows, start, to->index, to->value);
}

mw_status keep_codes(mw_backend *b, const mw_codes *from, int64_t rows, const mw_filter *how, mw_codes *to) {
    MW_TRY(mw_codes_begin(to, from->rows));
    return append_kept(b, from, rows, how, 0, to);
}

/* The filter of values that a threshold passes. */
static mw_filter filter_of(const mw_sae *sae, const mw_threshold *how) {
    return (mw_filter){.last = sae->n, .level = how->level, .floor = how->floor, .margin = how->margin};
}

/* Candidates pass by their upper bounds; then their dot products decide. */
static mw_status append_screened(const mw_sae *sae, const chunk *c, int count, const mw_threshold *how, mw_codes *found,
                                 mw_codes *const *out) {
    mw_backend *b = sae->backend;
    mw_threshold widest = how[0];
    for (int i = 1; i < count; i++)
        if (how[i].margin > widest.margin) widest = how[i];
    widest.upper = true;
    MW_TRY(mw_codes_begin(found, c->rows));
    MW_TRY(append_above(b, found, 0, c->rows, sae->n, &widest, c->pre));
    MW_TRY(
        b->ops->sparse_dot(b, found->value, c->x, found->start, found->index, c->rows, sae->w_enc, sae->d, sae->b_enc));
    if (sae->encoder.dots) *sae->encoder.dots += found->start[c->rows];
    for (int i = 0; i < count; i++) {
        const mw_filter filter = filter_of(sae, &how[i]);
        MW_TRY(append_kept(b, found, c->rows, &filter, c->first, out[i]));
    }
    return MW_OK;
}

mw_status append_chunk(const mw_sae *sae, const chunk *c, int count, const mw_threshold *how, mw_codes *const *out) {
    mw_codes found = {.memory = out[0]->memory};
    mw_status status = MW_OK;
    if (c->screened) status = append_screened(sae, c, count, how, &found, out);
    for (int i = 0; i < count && !c->screened && status == MW_OK; i++)
        status = append_above(sae->backend, out[i], c->first, c->rows, sae->n, &how[i], c->pre);
    mw_codes_free(&found);
    return status;
}

mw_filter above(const mw_sae *sae, float level) {
    return (mw_filter){.first = 0, .last = sae->n, .level = level};
}

mw_status append_positive(mw_backend *backend, mw_codes *out, int64_t first, int64_t rows, int64_t k,
                          const int32_t *index, const float *value) {
    const mw_threshold relu = {.labels = index}; /* entries > 0 */
    return append_above(backend, out, first, rows, k, &relu, value);
}
