/* Latents that are active on the same rows, counted on a random sample of rows gathered from all ranks. */
#include "concepts/discovery.h"

#include <string.h>

mw_status kept_rows_add(kept_rows *kept, const int32_t *index, int64_t count) {
    if (!kept->start || kept->rows + 1 >= kept->rows_capacity) {
        bool first = !kept->start;
        if (!mw_grow_((void **)&kept->start, &kept->rows_capacity, sizeof *kept->start)) return MW_ERR_MEMORY;
        if (first) kept->start[0] = 0;
    }
    while (kept->entries + count > kept->capacity)
        if (!mw_grow_((void **)&kept->index, &kept->capacity, sizeof *kept->index)) return MW_ERR_MEMORY;
    if (count) memcpy(kept->index + kept->entries, index, (size_t)count * sizeof *index);
    kept->entries += count;
    kept->start[++kept->rows] = kept->entries;
    return MW_OK;
}

void kept_rows_free(kept_rows *kept) {
    mw_free(kept->start);
    mw_free(kept->index);
    *kept = (kept_rows){0};
}

/* Kept rows of all ranks, and for each latent the rows on which it is active. */
typedef struct gathered_rows {
    int64_t rows, entries;
    int64_t *start;  /* [rows + 1] */
    int32_t *latent; /* [entries] sorted by row */
    int64_t *first;  /* [n + 1] */
    int32_t *row;    /* [entries] sorted by latent */
} gathered_rows;

static void free_gathered(gathered_rows *c) {
    mw_free(c->start);
    mw_free(c->latent);
    mw_free(c->first);
    mw_free(c->row);
}

/* Gathers the lengths of all ranks' rows, in rank order, as starts. */
static mw_status gather_starts(const kept_rows *kept, const mw_comm *comm, const int64_t *sizes, gathered_rows *c) {
    int size = mw_comm_size(comm);
    int64_t *length = mw_alloc((size_t)kept->rows * sizeof *length), *all = mw_alloc((size_t)c->rows * sizeof *all);
    size_t *bytes = mw_alloc((size_t)size * sizeof *bytes);
    c->start = mw_alloc((size_t)(c->rows + 1) * sizeof *c->start);
    mw_status status = mw_comm_agree(comm, length && all && bytes && c->start ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) {
        for (int64_t r = 0; r < kept->rows; r++) length[r] = kept->start[r + 1] - kept->start[r];
        for (int r = 0; r < size; r++) bytes[r] = (size_t)sizes[2 * r] * sizeof *length;
        status = mw_comm_allgatherv(comm, length, bytes, all);
    }
    if (status == MW_OK) {
        c->start[0] = 0;
        for (int64_t r = 0; r < c->rows; r++) c->start[r + 1] = c->start[r] + all[r];
    }
    mw_free(length);
    mw_free(all);
    mw_free(bytes);
    return status;
}

static mw_status gather_active(const kept_rows *kept, const mw_comm *comm, const int64_t *sizes, gathered_rows *c) {
    int size = mw_comm_size(comm);
    size_t *bytes = mw_alloc((size_t)size * sizeof *bytes);
    c->latent = mw_alloc((size_t)c->entries * sizeof *c->latent);
    static const int32_t none[1] = {0};
    mw_status status = mw_comm_agree(comm, bytes && c->latent ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) {
        for (int r = 0; r < size; r++) bytes[r] = (size_t)sizes[2 * r + 1] * sizeof *c->latent;
        status = mw_comm_allgatherv(comm, kept->index ? kept->index : none, bytes, c->latent);
    }
    mw_free(bytes);
    return status;
}

static mw_status gather_rows(const kept_rows *kept, const mw_comm *comm, gathered_rows *c) {
    int size = mw_comm_size(comm);
    int64_t own[2] = {kept->rows, kept->entries}, *sizes = mw_alloc((size_t)(2 * size) * sizeof *sizes);
    mw_status status = mw_comm_agree(comm, sizes ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = mw_comm_allgather(comm, own, sizeof own, sizes);
    for (int r = 0; r < size && status == MW_OK; r++) {
        c->rows += sizes[2 * r];
        c->entries += sizes[2 * r + 1];
    }
    if (status == MW_OK) status = gather_starts(kept, comm, sizes, c);
    if (status == MW_OK) status = gather_active(kept, comm, sizes, c);
    mw_free(sizes);
    return status;
}

static mw_status sort_by_latent(gathered_rows *c, int64_t n) {
    c->first = mw_calloc((size_t)n + 2, sizeof *c->first);
    c->row = mw_alloc((size_t)c->entries * sizeof *c->row);
    if (!c->first || !c->row) return MW_ERR_MEMORY;
    int64_t *next = c->first + 1; /* shifted by one: after the last increment it holds the firsts */
    for (int64_t e = 0; e < c->entries; e++) next[c->latent[e] + 1]++;
    for (int64_t i = 0; i < n; i++) next[i + 1] += next[i];
    for (int64_t r = 0; r < c->rows; r++)
        for (int64_t e = c->start[r]; e < c->start[r + 1]; e++) c->row[next[c->latent[e]]++] = (int32_t)r;
    return MW_OK;
}

/* Offers every latent that shares a row with `latent`. `count` [n] is zero before and after; `met` [n] is scratch. */
static void count_coactive(const gathered_rows *c, int64_t latent, int32_t *count, int32_t *met, mw_nearest *nearest) {
    int64_t n_met = 0, own = c->first[latent + 1] - c->first[latent];
    for (int64_t i = c->first[latent]; i < c->first[latent + 1]; i++)
        for (int64_t e = c->start[c->row[i]]; e < c->start[c->row[i] + 1]; e++)
            if (count[c->latent[e]]++ == 0) met[n_met++] = c->latent[e];
    for (int64_t i = 0; i < n_met; i++) {
        int32_t other = met[i];
        int64_t others = c->first[other + 1] - c->first[other], both = count[other];
        count[other] = 0;
        if (other != latent)
            nearest_offer(nearest, latent, other, (float)((double)both / (double)(own + others - both)));
    }
}

/* Finds the neighbours of latents begin .. end - 1; a latent's do not depend on which thread finds them. */
static mw_status count_all_coactive(const gathered_rows *c, int64_t begin, int64_t end, mw_discovery *d) {
    mw_status worst = MW_OK;
#pragma omp parallel reduction(max : worst)
    {
        int32_t *count = mw_calloc((size_t)d->n, sizeof *count), *met = mw_alloc((size_t)d->n * sizeof *met);
        worst = count && met ? MW_OK : MW_ERR_MEMORY;
#pragma omp for schedule(dynamic, 8)
        for (int64_t i = begin; i < end; i++)
            if (count && met) count_coactive(c, i, count, met, &d->coactive);
        mw_free(count);
        mw_free(met);
    }
    return worst;
}

mw_status find_coactive(const kept_rows *kept, const mw_comm *comm, int64_t m, mw_discovery *d) {
    gathered_rows c = {0};
    int64_t begin, end;
    mw_status status = mw_comm_agree(comm, nearest_new(&d->coactive, d->n, m));
    if (status == MW_OK) status = gather_rows(kept, comm, &c);
    if (status == MW_OK) status = mw_comm_agree(comm, sort_by_latent(&c, d->n));
    if (status == MW_OK) {
        mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), d->n, 1, &begin, &end);
        status = mw_comm_agree(comm, count_all_coactive(&c, begin, end, d));
    }
    if (status == MW_OK) status = nearest_gather(&d->coactive, comm, d->n, 1);
    d->coactive_rows = c.rows;
    free_gathered(&c);
    return status;
}
