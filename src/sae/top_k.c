/* TopK and Multi-TopK (Gao et al. 2024, 2.3 and 5.3). */
#include "sae/shards.h"

mw_status top_k_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return top_k_codes(sae, x, rows, sae->k, out);
}

mw_status top_k_select(mw_trainer *t, const float *x) {
    return top_k_codes(t->sae, x, t->end - t->begin, t->k, &t->part[0].c.mine);
}

/* L(k) + L(4k) / 8: part 0 holds the k largest, part 1 the 4 k largest. */
void multi_top_k_lay_out(const mw_trainer *t, layout *out) {
    (void)t;
    *out = (layout){.n_parts = 2,
                    .n_blocks = 2,
                    .bias_blocks = 2,
                    .uses = {PART_WHOLE, PART_WHOLE & ~PART_FIRES},
                    .block = {0, 1},
                    .weight = {1, 0.125}};
}

typedef struct two_readers {
    mw_trainer *t;
    int64_t many;
    int32_t *index, *few; /* [chunk, many], [chunk, k] */
    float *value, *few_values;
} two_readers;

/* The k largest are looked for among the 4 k largest. */
static mw_status take_both(void *self, const float *pre, int64_t first, int64_t rows) {
    const two_readers *w = self;
    mw_trainer *t = w->t;
    mw_backend *b = t->backend;
    MW_TRY(b->ops->top_k(b, pre, rows, t->sae->n, w->many, w->index, w->value));
    MW_TRY(append_positive(b, &t->part[1].c.mine, first, rows, w->many, w->index, w->value));
    MW_TRY(b->ops->top_k(b, w->value, rows, w->many, t->k, w->few, w->few_values));
    MW_TRY(b->ops->pick(b, w->few, w->index, w->many, rows, t->k));
    return append_positive(b, &t->part[0].c.mine, first, rows, t->k, w->few, w->few_values);
}

static mw_status both_of_shards(mw_trainer *t, const float *x, int64_t many) {
    candidates own = {0};
    mw_status status = top_k_candidates(t->sae, x, t->end - t->begin, many, &own);
    status = candidates_choose(t->sae, &own, many, status, &t->part[1].c.mine);
    if (status == MW_OK) status = candidates_choose(t->sae, &own, t->k, status, &t->part[0].c.mine);
    candidates_free(&own);
    return status;
}

mw_status multi_top_k_select(mw_trainer *t, const float *x) {
    mw_backend *b = t->backend;
    int64_t rows = t->end - t->begin, chunk = chunk_rows(b, t->sae->n), n = t->sae->shard.total;
    int64_t many = 4 * t->k < n ? 4 * t->k : n;
    if (t->sae->shard.peers) return both_of_shards(t, x, many);
    float *block[4] = {NULL};
    const int64_t width[4] = {many, many, t->k, t->k};
    mw_status status = mw_codes_begin(&t->part[0].c.mine, rows);
    if (status == MW_OK) status = mw_codes_begin(&t->part[1].c.mine, rows);
    for (int i = 0; i < 4 && status == MW_OK; i++) status = mw_backend_floats(b, chunk * width[i], &block[i]);
    two_readers w = {.t = t,
                     .many = many,
                     .index = (int32_t *)(void *)block[0],
                     .value = block[1],
                     .few = (int32_t *)(void *)block[2],
                     .few_values = block[3]};
    if (status == MW_OK) status = sae_visit(t->sae, x, rows, take_both, &w);
    for (int i = 0; i < 4; i++)
        if (block[i]) b->ops->free(b, block[i]);
    return status;
}
