/* Attention of one query row over blocks of keys with an online softmax (Milakov & Gimelshein 2018). */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"

#include <math.h>
#include <string.h>

enum { KEY_BLOCK = 128 };

typedef struct query {
    const float *q, *k, *v; /* k, v: first key and value of this head */
    float *out;
    int64_t first, last; /* keys seen: first .. last - 1 */
    int64_t stride;      /* between keys */
} query;

static void attend(const mw_attention *at, const query *one) {
    int64_t d = at->head_dim;
    float scores[KEY_BLOCK], best = -INFINITY, total = 0;
    memset(one->out, 0, (size_t)d * sizeof(float));
    for (int64_t start = one->first; start < one->last; start += KEY_BLOCK) {
        int64_t n = one->last - start < KEY_BLOCK ? one->last - start : KEY_BLOCK;
        for (int64_t j = 0; j < n; j++) scores[j] = at->scale * mw_dot(one->q, one->k + (start + j) * one->stride, d);
        if (at->softcap > 0) mw_soft_cap_run(scores, at->softcap, n);
        float block_best = mw_max(scores, n), top = block_best > best ? block_best : best;
        float keep = best == -INFINITY ? 0.0f : expf(best - top);
        if (keep != 1.0f) mw_scale(keep, one->out, d);
        total = total * keep + mw_exp_shift(scores, top, n);
        best = top;
        for (int64_t j = 0; j < n; j++) mw_axpy(scores[j], one->v + (start + j) * one->stride, one->out, d);
    }
    mw_scale(1.0f / total, one->out, d);
}

static void attend_head(const mw_attention *at, int64_t s, int64_t h) {
    int64_t d = at->head_dim, group = at->n_heads / at->n_kv_heads, past = at->kv_len[s] - at->q_len[s];
    for (int64_t i = 0; i < at->q_len[s]; i++) {
        int64_t row = at->q_row[s] + i, last = past + i + 1;
        query one = {.q = at->q + (row * at->n_heads + h) * d,
                     .k = at->k[s] + (h / group) * d,
                     .v = at->v[s] + (h / group) * d,
                     .out = at->out + (row * at->n_heads + h) * d,
                     .first = at->window > 0 && last > at->window ? last - at->window : 0,
                     .last = last,
                     .stride = at->n_kv_heads * d};
        attend(at, &one);
    }
}

mw_status mw_cpu_attention(mw_backend *backend, const mw_attention *at) {
    (void)backend;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t s = 0; s < at->n_seq; s++)
        for (int64_t h = 0; h < at->n_heads; h++) attend_head(at, s, h);
    return MW_OK;
}
