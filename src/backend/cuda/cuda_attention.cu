/* A block a query row and head; keys in tiles with an online softmax (Milakov & Gimelshein 2018). */
#include "backend/cuda/cuda.h"

enum { KEY_TILE = 128 };

typedef struct row_place {
    int32_t sequence; /* of the query row */
    int32_t last;     /* number of keys it sees */
} row_place;

typedef struct sizes {
    int64_t heads, kv_heads, d, window;
    float scale, softcap;
} sizes;

/* Shared: q [d], scores [KEY_TILE]; a thread owns output elements threadIdx.x, + blockDim.x, ... in `out` itself. */
static __global__ void attend(const float *q, float *out, const float *const *k, const float *const *v,
                              const row_place *rows, const int64_t *row_index, sizes n) {
    MW_DYNAMIC_SHARED(float, shared);
    float *mine = shared, *scores = shared + n.d;
    int64_t row = row_index[blockIdx.x], h = blockIdx.y, kh = h / (n.heads / n.kv_heads), stride = n.kv_heads * n.d;
    row_place place = rows[blockIdx.x];
    const float *keys = k[place.sequence] + kh * n.d, *values = v[place.sequence] + kh * n.d;
    const float *query = q + (row * n.heads + h) * n.d;
    float *to = out + (row * n.heads + h) * n.d, best = -INFINITY, total = 0;
    for (int64_t i = threadIdx.x; i < n.d; i += blockDim.x) {
        mine[i] = query[i];
        to[i] = 0;
    }
    int64_t last = place.last, first = n.window > 0 && last > n.window ? last - n.window : 0;
    __syncthreads();
    for (int64_t start = first; start < last; start += KEY_TILE) {
        int64_t count = last - start < KEY_TILE ? last - start : (int64_t)KEY_TILE;
        float score = -INFINITY;
        if (threadIdx.x < count) {
            const float *key = keys + (start + threadIdx.x) * stride;
            score = 0;
            for (int64_t i = 0; i < n.d; i++) score += mine[i] * key[i];
            score *= n.scale;
            if (n.softcap > 0) score = n.softcap * tanhf(score / n.softcap);
        }
        float top = fmaxf(best, block_max(score)), keep = best == -INFINITY ? 0.0f : expf(best - top);
        float e = threadIdx.x < count ? expf(score - top) : 0.0f;
        scores[threadIdx.x] = e;
        total = total * keep + block_sum(e); /* its barriers also publish the scores */
        best = top;
        for (int64_t i = threadIdx.x; i < n.d; i += blockDim.x) {
            float sum = to[i] * keep;
            for (int64_t j = 0; j < count; j++) sum += scores[j] * values[(start + j) * stride + i];
            to[i] = sum;
        }
        __syncthreads();
    }
    for (int64_t i = threadIdx.x; i < n.d; i += blockDim.x) to[i] /= total;
}

/* Every query row with its sequence and its number of keys. */
static mw_status list_rows(const mw_attention *at, int64_t total, row_place *rows, int64_t *index) {
    int64_t n = 0;
    for (int64_t s = 0; s < at->n_seq; s++)
        for (int64_t i = 0; i < at->q_len[s]; i++, n++) {
            rows[n].sequence = (int32_t)s;
            rows[n].last = (int32_t)(at->kv_len[s] - at->q_len[s] + i + 1);
            index[n] = at->q_row[s] + i;
        }
    return n == total ? MW_OK : mw_error(MW_ERR_BACKEND, "attention: rows do not add up");
}

static mw_status launch(mw_cuda_state *s, const mw_attention *at, const row_place *rows, const int64_t *index,
                        int64_t total) {
    cuda_scratch<row_place> places(s->stream);
    cuda_scratch<int64_t> where(s->stream);
    cuda_scratch<const float *> k(s->stream), v(s->stream);
    MW_TRY(places.copy(rows, total));
    MW_TRY(where.copy(index, total));
    MW_TRY(k.copy((const float **)at->k, at->n_seq));
    MW_TRY(v.copy((const float **)at->v, at->n_seq));
    sizes n = {at->n_heads, at->n_kv_heads, at->head_dim, at->window, at->scale, at->softcap};
    dim3 grid((unsigned)total, (unsigned)at->n_heads);
    size_t shared = (size_t)(at->head_dim + KEY_TILE) * sizeof(float);
    MW_LAUNCH(attend, grid, KEY_TILE, shared, s->stream, at->q, at->out, k.data, v.data, places.data, where.data, n);
    return cuda_launched("attention");
}

mw_status mw_cuda_attention(mw_backend *backend, const mw_attention *at) {
    int64_t total = 0;
    for (int64_t s = 0; s < at->n_seq; s++) total += at->q_len[s];
    if (total == 0) return MW_OK;
    row_place *rows = (row_place *)mw_alloc((size_t)total * sizeof *rows);
    int64_t *index = (int64_t *)mw_alloc((size_t)total * sizeof *index);
    mw_status status = rows && index ? list_rows(at, total, rows, index) : MW_ERR_MEMORY;
    if (status == MW_OK) status = launch(cuda_of(backend), at, rows, index, total);
    mw_free(rows);
    mw_free(index);
    return status;
}
