/* Causal attention with an online softmax (Milakov & Gimelshein 2018; Dao et al. 2022), a tile of keys at a time. The
 * tile is transposed once, so that the scores of a few queries with all its keys are a small matrix product. The result
 * of a query does not depend on its neighbours: sums over a head's columns and over keys run in one order. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"
#include "backend/formulas.h"

#include <math.h>
#include <string.h>

/* One head of one sequence. */
typedef struct head {
    const mw_attention *task;
    const float *q, *k, *v; /* of the first query and key */
    const float *bias;      /* of the first key, or NULL */
    float *out;
    int64_t n_queries, n_keys;
    int64_t q_stride, k_stride;
    float *best, *total; /* [n_queries] largest score so far; sum of exp(score - best) */
    float *transposed;   /* [head_dim, MW_KEY_TILE] a tile of keys */
    float *scores;       /* [MW_QUERY_TILE, MW_KEY_TILE] */
} head;

/* Query i sees the keys from keys_begin to keys_end - 1. */
static int64_t keys_end(const head *h, int64_t i) {
    return mw_keys_end(h->n_queries, h->n_keys, i);
}
static int64_t keys_begin(const head *h, int64_t i) {
    return mw_keys_begin(keys_end(h, i), h->task->window);
}

/* Transposes the n keys from `start` on. Scores of columns from n on are computed and not used: zeros keep them
 * finite. */
static void transpose_keys(const head *h, int64_t start, int64_t n) {
    int64_t d = h->task->head_dim;
    for (int64_t c = 0; c < d; c++) {
        float *to = h->transposed + c * MW_KEY_TILE;
        for (int64_t j = 0; j < n; j++) to[j] = h->k[(start + j) * h->k_stride + c];
        for (int64_t j = n; j < MW_KEY_TILE; j++) to[j] = 0;
    }
}

/* Keys from .. to - 1 of a tile. */
typedef struct span {
    int64_t from, to;
} span;

/* Returns the keys that query i sees of the tile of n keys from `start` on. */
static span seen_keys(const head *h, int64_t i, int64_t start, int64_t n) {
    span s = {keys_begin(h, i) - start, keys_end(h, i) - start};
    if (s.from < 0) s.from = 0;
    if (s.to > n) s.to = n;
    if (s.from > s.to) s.from = s.to = 0;
    return s;
}

/* Turns the dot products of query i with the tile of keys from `start` on into weights; rescales its sums so far to the
 * new maximum. */
static void weigh(const head *h, int64_t i, int64_t start, span s, float *scores) {
    int64_t n = s.to - s.from;
    if (n == 0) return;
    scores += s.from;
    mw_score_run(scores, h->task->scale, h->task->softcap, n);
    if (h->bias) mw_add_run(scores, h->bias + start + s.from, n);
    float tile_best = mw_max(scores, n), top = tile_best > h->best[i] ? tile_best : h->best[i];
    float keep = mw_softmax_rescale(h->best[i], top);
    if (keep != 1.0f) mw_scale(keep, h->out + i * h->q_stride, h->task->head_dim);
    h->total[i] = h->total[i] * keep + mw_exp_shift(scores, top, n);
    h->best[i] = top;
}

static void add_values(const head *h, int64_t i, int64_t start, const float *weights, int64_t from, int64_t to) {
    for (int64_t j = from; j < to; j++)
        mw_axpy(weights[j], h->v + (start + j) * h->k_stride, h->out + i * h->q_stride, h->task->head_dim);
}

/* Adds the weighted values to the outputs of `rows` queries. Keys that all of these queries see are added together, the
 * few others one by one, so that values that a query does not see, which need not be finite, are never multiplied. */
static void add_tile(const head *h, int64_t i, int64_t rows, int64_t start, const span *s) {
    span all = s[0];
    for (int64_t r = 1; r < rows; r++) {
        if (s[r].from > all.from) all.from = s[r].from;
        if (s[r].to < all.to) all.to = s[r].to;
    }
    if (all.from > all.to) all.from = all.to;
    for (int64_t r = 0; r < rows; r++) {
        int64_t end = s[r].to < all.from ? s[r].to : all.from;
        add_values(h, i + r, start, h->scores + r * MW_KEY_TILE, s[r].from, end);
    }
    if (all.to > all.from)
        mw_values_tile(h->scores + all.from, rows, h->v + (start + all.from) * h->k_stride, h->k_stride,
                       all.to - all.from, h->task->head_dim, h->out + i * h->q_stride, h->q_stride);
    for (int64_t r = 0; r < rows; r++) {
        int64_t begin = s[r].from > all.to ? s[r].from : all.to;
        add_values(h, i + r, start, h->scores + r * MW_KEY_TILE, begin, s[r].to);
    }
}

/* For few queries, as in generation, transposing the keys does not pay. */
static bool has_few_queries(const head *h) {
    return h->n_queries < MW_QUERY_TILE;
}

/* Computes the dot products of `rows` queries with the keys that any of them sees. */
static void multiply_keys(const head *h, int64_t i, int64_t rows, int64_t start, const span *s) {
    const float *q = h->q + i * h->q_stride;
    if (!has_few_queries(h)) {
        span any = {MW_KEY_TILE, 0};
        for (int64_t r = 0; r < rows; r++) {
            if (s[r].from < s[r].to && s[r].from < any.from) any.from = s[r].from;
            if (s[r].to > any.to) any.to = s[r].to;
        }
        mw_scores_tile(q, h->q_stride, rows, h->transposed, h->task->head_dim, any.from, any.to, h->scores);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = s[r].from; j < s[r].to; j++)
            h->scores[r * MW_KEY_TILE + j] =
                mw_dot(q + r * h->q_stride, h->k + (start + j) * h->k_stride, h->task->head_dim);
}

static void attend_keys(const head *h, int64_t start) {
    int64_t n = h->n_keys - start < MW_KEY_TILE ? h->n_keys - start : MW_KEY_TILE;
    int64_t past = h->n_keys - h->n_queries,
            i = start > past ? start - past : 0; /* first query that sees key `start` */
    if (!has_few_queries(h)) transpose_keys(h, start, n);
    for (; i < h->n_queries; i += MW_QUERY_TILE) {
        int64_t rows = h->n_queries - i < MW_QUERY_TILE ? h->n_queries - i : MW_QUERY_TILE;
        if (keys_begin(h, i) >= start + n) break; /* the windows of all further queries begin later */
        span s[MW_QUERY_TILE];
        for (int64_t r = 0; r < rows; r++) s[r] = seen_keys(h, i + r, start, n);
        multiply_keys(h, i, rows, start, s);
        for (int64_t r = 0; r < rows; r++) weigh(h, i + r, start, s[r], h->scores + r * MW_KEY_TILE);
        add_tile(h, i, rows, start, s);
    }
}

static void attend_head(const head *h) {
    int64_t d = h->task->head_dim;
    for (int64_t i = 0; i < h->n_queries; i++) {
        h->best[i] = -INFINITY;
        h->total[i] = 0;
        memset(h->out + i * h->q_stride, 0, (size_t)d * sizeof(float));
    }
    for (int64_t start = keys_begin(h, 0) / MW_KEY_TILE * MW_KEY_TILE; start < h->n_keys; start += MW_KEY_TILE)
        attend_keys(h, start);
    for (int64_t i = 0; i < h->n_queries; i++) {
        float *to = h->out + i * h->q_stride;
        mw_scale(1.0f / h->total[i], to, d);
        if (h->task->rounded) mw_round_bf16(to, d, h->task->rounded + (to - h->task->out));
    }
}

/* `scratch`: of one thread; `longest`: most queries of a sequence. */
static head head_of(const mw_attention *task, int64_t s, int64_t h, float *scratch, int64_t longest) {
    int64_t d = task->head_dim, group = task->n_heads / task->n_kv_heads;
    return (head){.task = task,
                  .q = task->q + (task->q_row[s] * task->n_heads + h) * d,
                  .out = task->out + (task->q_row[s] * task->n_heads + h) * d,
                  .k = task->k[s] + (h / group) * d,
                  .v = task->v[s] + (h / group) * d,
                  .bias = task->key_bias ? task->key_bias + h * task->key_bias_stride : NULL,
                  .n_queries = task->q_len[s],
                  .n_keys = task->kv_len[s],
                  .q_stride = task->n_heads * d,
                  .k_stride = task->n_kv_heads * d,
                  .transposed = scratch,
                  .scores = scratch + d * MW_KEY_TILE,
                  .best = scratch + (d + MW_QUERY_TILE) * MW_KEY_TILE,
                  .total = scratch + (d + MW_QUERY_TILE) * MW_KEY_TILE + longest};
}

mw_status mw_cpu_attention(mw_backend *backend, const mw_attention *task) {
    (void)backend;
    int64_t longest = 0;
    mw_status worst = MW_OK;
    for (int64_t s = 0; s < task->n_seq; s++)
        if (task->q_len[s] > longest) longest = task->q_len[s];
#pragma omp parallel reduction(max : worst)
    {
        float *scratch =
            mw_alloc((size_t)((task->head_dim + MW_QUERY_TILE) * MW_KEY_TILE + 2 * longest) * sizeof *scratch);
        worst = scratch ? MW_OK : MW_ERR_MEMORY;
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t s = 0; s < task->n_seq; s++)
            for (int64_t h = 0; h < task->n_heads; h++) {
                head one = head_of(task, s, h, scratch, longest);
                if (scratch) attend_head(&one);
            }
        mw_free(scratch);
    }
    return worst;
}
