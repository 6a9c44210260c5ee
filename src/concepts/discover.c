/* The top texts of every latent: a heap a latent on each rank, merged exactly. */
#include "microw/concepts.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_ROWS = 1024, MERGE_LATENTS = 4096 };

static bool better(mw_top a, mw_top b) {
    if (a.row < 0 || b.row < 0) return b.row < 0 && a.row >= 0;
    return a.score != b.score ? a.score > b.score : a.row < b.row;
}

static int best_first(const void *a, const void *b) {
    return better(*(const mw_top *)a, *(const mw_top *)b) ? -1 : better(*(const mw_top *)b, *(const mw_top *)a);
}

/* The root is the worst kept. Replaces the entry at `at`, then restores the order below it. */
static void replace(mw_top *heap, int64_t k, int64_t at, mw_top entry) {
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= k) break;
        if (child + 1 < k && better(heap[child], heap[child + 1])) child++;
        if (!better(entry, heap[child])) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = entry;
}

/* Keeps the best row of each sequence. */
static void offer(mw_top *heap, int64_t k, mw_top entry, const uint32_t *sequence) {
    if (!better(entry, heap[0])) return;
    for (int64_t i = 0; i < k; i++)
        if (heap[i].row >= 0 && sequence[heap[i].row] == sequence[entry.row]) {
            if (better(entry, heap[i])) replace(heap, k, i, entry);
            return;
        }
    replace(heap, k, 0, entry);
}

typedef struct search {
    const mw_sae *sae;
    const mw_store_view *in;
    const mw_store_tokens *tokens;
    const int32_t *category;
    mw_discovery *out;
    float *x;
    mw_codes codes;
} search;

static void take_row(search *s, int64_t row, int64_t begin, int64_t end) {
    mw_discovery *d = s->out;
    int32_t category = s->category ? s->category[s->tokens->ids[row]] : -1;
    const int32_t *index = s->codes.index;
    for (int64_t j = begin; j < end; j++) {
        d->count[index[j]]++;
        if (category >= 0) d->by_category[index[j] * d->n_categories + category]++;
        offer(d->top + index[j] * d->top_k, d->top_k, (mw_top){s->codes.value[j], row}, s->tokens->sequence);
    }
}

static mw_status search_block(search *s, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += CHUNK_ROWS) {
        int64_t n = end - at < CHUNK_ROWS ? end - at : CHUNK_ROWS;
        MW_TRY(mw_store_view_range(s->in, at, n, s->x));
        MW_TRY(mw_sae_encode(s->sae, s->x, n, &s->codes));
        for (int64_t r = 0; r < n; r++) take_row(s, at + r, s->codes.start[r], s->codes.start[r + 1]);
    }
    return MW_OK;
}

static mw_status search_share(search *s, const mw_comm *comm) {
    int64_t n_blocks, begin, end;
    uint64_t *row;
    MW_TRY(mw_store_blocks(s->in->store, &n_blocks, &row));
    mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), n_blocks, 1, &begin, &end);
    mw_progress progress;
    mw_progress_begin(&progress, "discover", "rows", (int64_t)(row[end] - row[begin]), mw_comm_rank(comm) == 0);
    mw_status status = MW_OK;
    for (int64_t b = begin; b < end && status == MW_OK; b++) {
        status = search_block(s, (int64_t)row[b], (int64_t)row[b + 1]);
        mw_progress_update(&progress, (int64_t)(row[b + 1] - row[begin]), NULL);
    }
    if (status == MW_OK) mw_progress_end(&progress, (int64_t)(row[end] - row[begin]), NULL);
    mw_free(row);
    return status;
}

/* Sequences lie on one rank each, so the best of all ranks' entries are the best of all. */
static mw_status merge(const mw_comm *comm, mw_discovery *d) {
    int size = mw_comm_size(comm);
    mw_top *all = mw_alloc((size_t)(size * MERGE_LATENTS * d->top_k) * sizeof *all);
    mw_top *line = mw_alloc((size_t)(size * d->top_k) * sizeof *line);
    mw_status status = mw_comm_agree(comm, all && line ? MW_OK : MW_ERR_MEMORY);
    for (int64_t first = 0; first < d->n && status == MW_OK; first += MERGE_LATENTS) {
        int64_t n = d->n - first < MERGE_LATENTS ? d->n - first : MERGE_LATENTS;
        status = mw_comm_gather_all(comm, d->top + first * d->top_k, (size_t)(n * d->top_k) * sizeof *all, all);
        for (int64_t i = 0; i < n && status == MW_OK; i++) {
            for (int r = 0; r < size; r++)
                memcpy(line + r * d->top_k, all + ((int64_t)r * n + i) * d->top_k, (size_t)d->top_k * sizeof *line);
            qsort(line, (size_t)(size * d->top_k), sizeof *line, best_first);
            memcpy(d->top + (first + i) * d->top_k, line, (size_t)d->top_k * sizeof *line);
        }
    }
    mw_free(all);
    mw_free(line);
    MW_TRY(status);
    MW_TRY(mw_comm_sum_i64(comm, d->count, d->n));
    return d->by_category ? mw_comm_sum_i64(comm, d->by_category, d->n * d->n_categories) : MW_OK;
}

static mw_status prepare(search *s, int64_t top_k, int64_t n_categories) {
    mw_discovery *d = s->out;
    *d = (mw_discovery){
        .n = s->sae->n, .top_k = top_k, .rows = mw_store_rows(s->in->store), .n_categories = n_categories};
    d->count = mw_calloc((size_t)d->n, sizeof *d->count);
    d->top = mw_alloc((size_t)(d->n * top_k) * sizeof *d->top);
    if (s->category) d->by_category = mw_calloc((size_t)(d->n * n_categories), sizeof *d->by_category);
    s->x = mw_alloc((size_t)(CHUNK_ROWS * s->sae->d) * sizeof *s->x);
    if (!d->count || !d->top || !s->x || (s->category && !d->by_category)) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < d->n * top_k; i++) d->top[i] = (mw_top){0, -1};
    return MW_OK;
}

mw_status mw_discover(const mw_sae *sae, const mw_store_view *in, const mw_comm *comm, int64_t top_k,
                      const int32_t *category, int64_t n_categories, mw_discovery *out) {
    mw_store_tokens tokens = {0};
    mw_discovery made = {0};
    search s = {.sae = sae, .in = in, .tokens = &tokens, .category = category, .out = &made};
    mw_status status =
        top_k >= 1 ? MW_OK
                   : mw_error(MW_ERR_CONFIG, "discover.top_texts is %lld: expected at least 1", (long long)top_k);
    if (status == MW_OK && in->width != sae->d)
        status = mw_error(MW_ERR_CONFIG, "an SAE of width %lld cannot read a site of width %lld", (long long)sae->d,
                          (long long)in->width);
    if (status == MW_OK) status = mw_store_read_tokens(in->store, &tokens);
    if (status == MW_OK) status = prepare(&s, top_k, n_categories);
    if (status == MW_OK) status = search_share(&s, comm);
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = merge(comm, &made);
    mw_free(s.x);
    mw_codes_free(&s.codes);
    mw_store_tokens_free(&tokens);
    if (status != MW_OK)
        mw_discovery_free(&made);
    else
        *out = made;
    return status;
}

void mw_discovery_free(mw_discovery *d) {
    mw_free(d->count);
    mw_free(d->top);
    mw_free(d->by_category);
    *d = (mw_discovery){0};
}
