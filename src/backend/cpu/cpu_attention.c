/* Causal attention with an online softmax (Milakov & Gimelshein 2018; Dao et al. 2022), a block of keys at a time: the block
 * is turned over once, so that the scores of a few queries with all its keys are a small matrix product. What a query
 * gets does not depend on its neighbours: sums over a head's columns and over keys run in one order. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"
#include "backend/formulas.h"

#include <math.h>
#include <string.h>

/* One head of one sequence. */
typedef struct head {
    const mw_attention *at;
    const float *q, *k, *v; /* of the first query and key */
    float *out;
    int64_t n_queries, n_keys, past; /* query i sees keys up to past + i */
    int64_t q_stride, k_stride;
    float *best, *total; /* [n_queries] largest score so far; sum of exp(score - best) */
    float *turned;       /* [head_dim, MW_KEY_BLOCK] */
    float *scores;       /* [MW_QUERY_TILE, MW_KEY_BLOCK] */
} head;

/* Keys that query i sees: first .. last - 1. */
static int64_t last_key(const head *h, int64_t i) {
    return mw_keys_end(h->n_queries, h->n_keys, i);
}
static int64_t first_key(const head *h, int64_t i) {
    return mw_keys_begin(last_key(h, i), h->at->window);
}

/* Columns behind the last key are computed with and never looked at: they only must not be wild. */
static void turn_over(const head *h, int64_t start, int64_t n) {
    int64_t d = h->at->head_dim;
    for (int64_t c = 0; c < d; c++) {
        float *to = h->turned + c * MW_KEY_BLOCK;
        for (int64_t j = 0; j < n; j++) to[j] = h->k[(start + j) * h->k_stride + c];
        for (int64_t j = n; j < MW_KEY_BLOCK; j++) to[j] = 0;
    }
}

/* Keys of a block: from .. to - 1. */
typedef struct span {
    int64_t from, to;
} span;

/* Those that query i sees of the n keys from `start` on. */
static span seen(const head *h, int64_t i, int64_t start, int64_t n) {
    span s = {first_key(h, i) - start, last_key(h, i) - start};
    if (s.from < 0) s.from = 0;
    if (s.to > n) s.to = n;
    if (s.from > s.to) s.from = s.to = 0;
    return s;
}

/* Scores become weights; what was summed before is brought to the new maximum. */
static void weigh(const head *h, int64_t i, span s, float *scores) {
    int64_t n = s.to - s.from;
    if (n == 0) return;
    scores += s.from;
    mw_score_run(scores, h->at->scale, h->at->softcap, n);
    float block_best = mw_max(scores, n), top = block_best > h->best[i] ? block_best : h->best[i];
    float keep = mw_softmax_rescale(h->best[i], top);
    if (keep != 1.0f) mw_scale(keep, h->out + i * h->q_stride, h->at->head_dim);
    h->total[i] = h->total[i] * keep + mw_exp_shift(scores, top, n);
    h->best[i] = top;
}

static void add_values(const head *h, int64_t i, int64_t start, const float *weights, int64_t from, int64_t to) {
    for (int64_t j = from; j < to; j++)
        mw_axpy(weights[j], h->v + (start + j) * h->k_stride, h->out + i * h->q_stride, h->at->head_dim);
}

/* The keys that all queries of a tile see are taken together, the few others one by one, so that what a query does not see,
 * which need not be finite, is never multiplied. */
static void add_tile(const head *h, int64_t i, int64_t rows, int64_t start, const span *s) {
    span all = s[0];
    for (int64_t r = 1; r < rows; r++) {
        if (s[r].from > all.from) all.from = s[r].from;
        if (s[r].to < all.to) all.to = s[r].to;
    }
    if (all.from > all.to) all.from = all.to;
    for (int64_t r = 0; r < rows; r++) {
        int64_t end = s[r].to < all.from ? s[r].to : all.from;
        add_values(h, i + r, start, h->scores + r * MW_KEY_BLOCK, s[r].from, end);
    }
    if (all.to > all.from)
        mw_values_tile(h->scores + all.from, rows, h->v + (start + all.from) * h->k_stride, h->k_stride,
                       all.to - all.from, h->at->head_dim, h->out + i * h->q_stride, h->q_stride);
    for (int64_t r = 0; r < rows; r++) {
        int64_t begin = s[r].from > all.to ? s[r].from : all.to;
        add_values(h, i + r, start, h->scores + r * MW_KEY_BLOCK, begin, s[r].to);
    }
}

/* A few queries alone, as in generation, are not worth turning keys over for. */
static bool are_few(const head *h) {
    return h->n_queries < MW_QUERY_TILE;
}

/* With the keys that any of the queries sees. */
static void score(const head *h, int64_t i, int64_t rows, int64_t start, const span *s) {
    const float *q = h->q + i * h->q_stride;
    if (!are_few(h)) {
        span any = {MW_KEY_BLOCK, 0};
        for (int64_t r = 0; r < rows; r++) {
            if (s[r].from < s[r].to && s[r].from < any.from) any.from = s[r].from;
            if (s[r].to > any.to) any.to = s[r].to;
        }
        mw_scores_tile(q, h->q_stride, rows, h->turned, h->at->head_dim, any.from, any.to, h->scores);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = s[r].from; j < s[r].to; j++)
            h->scores[r * MW_KEY_BLOCK + j] =
                mw_dot(q + r * h->q_stride, h->k + (start + j) * h->k_stride, h->at->head_dim);
}

static void attend_block(const head *h, int64_t start) {
    int64_t n = h->n_keys - start < MW_KEY_BLOCK ? h->n_keys - start : MW_KEY_BLOCK;
    int64_t i = start > h->past ? start - h->past : 0; /* the first query that sees the block's first key */
    if (!are_few(h)) turn_over(h, start, n);
    for (; i < h->n_queries; i += MW_QUERY_TILE) {
        int64_t rows = h->n_queries - i < MW_QUERY_TILE ? h->n_queries - i : MW_QUERY_TILE;
        if (first_key(h, i) >= start + n) break; /* windows have moved on */
        span s[MW_QUERY_TILE];
        for (int64_t r = 0; r < rows; r++) s[r] = seen(h, i + r, start, n);
        score(h, i, rows, start, s);
        for (int64_t r = 0; r < rows; r++) weigh(h, i + r, s[r], h->scores + r * MW_KEY_BLOCK);
        add_tile(h, i, rows, start, s);
    }
}

static void attend_head(const head *h) {
    int64_t d = h->at->head_dim;
    for (int64_t i = 0; i < h->n_queries; i++) {
        h->best[i] = -INFINITY;
        h->total[i] = 0;
        memset(h->out + i * h->q_stride, 0, (size_t)d * sizeof(float));
    }
    for (int64_t start = first_key(h, 0) / MW_KEY_BLOCK * MW_KEY_BLOCK; start < h->n_keys; start += MW_KEY_BLOCK)
        attend_block(h, start);
    for (int64_t i = 0; i < h->n_queries; i++) mw_scale(1.0f / h->total[i], h->out + i * h->q_stride, d);
}

static head head_of(const mw_attention *at, int64_t s, int64_t h, float *room, int64_t longest) {
    int64_t d = at->head_dim, group = at->n_heads / at->n_kv_heads;
    return (head){.at = at,
                  .q = at->q + (at->q_row[s] * at->n_heads + h) * d,
                  .out = at->out + (at->q_row[s] * at->n_heads + h) * d,
                  .k = at->k[s] + (h / group) * d,
                  .v = at->v[s] + (h / group) * d,
                  .n_queries = at->q_len[s],
                  .n_keys = at->kv_len[s],
                  .past = at->kv_len[s] - at->q_len[s],
                  .q_stride = at->n_heads * d,
                  .k_stride = at->n_kv_heads * d,
                  .turned = room,
                  .scores = room + d * MW_KEY_BLOCK,
                  .best = room + (d + MW_QUERY_TILE) * MW_KEY_BLOCK,
                  .total = room + (d + MW_QUERY_TILE) * MW_KEY_BLOCK + longest};
}

mw_status mw_cpu_attention(mw_backend *backend, const mw_attention *at) {
    (void)backend;
    int64_t longest = 0;
    mw_status worst = MW_OK;
    for (int64_t s = 0; s < at->n_seq; s++)
        if (at->q_len[s] > longest) longest = at->q_len[s];
#pragma omp parallel reduction(max : worst)
    {
        float *room = mw_alloc((size_t)((at->head_dim + MW_QUERY_TILE) * MW_KEY_BLOCK + 2 * longest) * sizeof *room);
        worst = room ? MW_OK : MW_ERR_MEMORY;
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t s = 0; s < at->n_seq; s++)
            for (int64_t h = 0; h < at->n_heads; h++) {
                head one = head_of(at, s, h, room, longest);
                if (room) attend_head(&one);
            }
        mw_free(room);
    }
    return worst;
}
