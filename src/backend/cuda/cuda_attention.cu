/* Causal attention over tiles of keys with an online softmax (Milakov & Gimelshein 2018), by two kernels. For sequences
 * with many query rows a thread block takes a tile of rows, which share the keys and values in shared memory (as Dao et
 * al. 2022, arXiv 2205.14135). For sequences with few rows, as in generation token by token, a block takes one row and
 * its threads take the keys. The choice depends on the sequence alone. */
#include "backend/cuda/cuda.h"
#include "backend/formulas.h"

enum { KEY_TILE = 128, WARPS = 4, FEW_ROWS = 8 };

typedef struct query_row {
    int32_t sequence;
    int32_t keys_end; /* of the keys it sees, as mw_keys_end */
} query_row;

typedef struct sizes {
    int64_t heads, kv_heads, d, window;
    float scale, softcap, inverse_softcap;
    const float *key_bias; /* or NULL */
    int64_t key_bias_stride;
    __nv_bfloat16 *rounded; /* gets the result, or NULL */
} sizes;

static __device__ __forceinline__ float biased(float score, int64_t head, int64_t key, sizes n) {
    return n.key_bias ? score + n.key_bias[head * n.key_bias_stride + key] : score;
}

/* ---- a row a thread block ------------------------------------------------------------------------------ */

/* Shared memory: q [d], scores [KEY_TILE]. A thread owns the elements threadIdx.x, + blockDim.x, ... of the row of
 * `out`. */
static __global__ void attend_row(const float *q, float *out, const float *const *k, const float *const *v,
                                  const query_row *rows, const int64_t *row_index, sizes n) {
    MW_DYNAMIC_SHARED(float, shared);
    float *shared_query = shared, *scores = shared + n.d;
    int64_t row = row_index[blockIdx.x], h = blockIdx.y, kh = h / (n.heads / n.kv_heads), stride = n.kv_heads * n.d;
    query_row at = rows[blockIdx.x];
    const float *keys = k[at.sequence] + kh * n.d, *values = v[at.sequence] + kh * n.d;
    const float *query = q + (row * n.heads + h) * n.d;
    float *to = out + (row * n.heads + h) * n.d, best = -INFINITY, total = 0;
    for (int64_t i = threadIdx.x; i < n.d; i += blockDim.x) {
        shared_query[i] = query[i];
        to[i] = 0;
    }
    int64_t end = at.keys_end, begin = mw_keys_begin(end, n.window);
    __syncthreads();
    for (int64_t start = begin; start < end; start += KEY_TILE) {
        int64_t count = end - start < KEY_TILE ? end - start : (int64_t)KEY_TILE;
        float score = -INFINITY;
        if (threadIdx.x < count) {
            const float *key = keys + (start + threadIdx.x) * stride;
            score = 0;
            for (int64_t i = 0; i < n.d; i++) score += shared_query[i] * key[i];
            score = mw_attention_score(score, n.scale, n.softcap, n.inverse_softcap);
            score = biased(score, h, start + threadIdx.x, n);
        }
        float top = fmaxf(best, block_max(score)), keep = mw_softmax_rescale(best, top);
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
    for (int64_t i = threadIdx.x; i < n.d; i += blockDim.x)
        write_number(out, n.rounded, (row * n.heads + h) * n.d + i, to[i] / total);
}

/* ---- a tile of rows a thread block --------------------------------------------------------------------- */

typedef struct row_tile {
    int32_t sequence, count; /* count: rows */
    int32_t keys_end;        /* of the first row, as mw_keys_end; of each next row one more */
    int32_t unused;
    int64_t row; /* the first in q and out */
} row_tile;

/* Copies rows [count, d] of a head to shared memory, `width` floats apart. */
static __device__ __forceinline__ void bring(float *to, int64_t width, const float *from, int64_t stride, int64_t count,
                                             int64_t d) {
    for (int64_t r = threadIdx.x / 32; r < count; r += WARPS)
        for (int64_t i = threadIdx.x % 32; i < d; i += 32) to[r * width + i] = from[r * stride + i];
}

/* The registers of a warp for its ROWS rows; a lane has the elements lane, lane + 32, ... of each row, at most PER. */
template <int ROWS, int PER> struct warp_rows { float sum[ROWS][PER], best[ROWS], total[ROWS]; };

static __device__ __forceinline__ float warp_largest(float x) {
    for (int o = 16; o > 0; o /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, o));
    return x;
}

static __device__ __forceinline__ float warp_total(float x) {
    for (int o = 16; o > 0; o /= 2) x += __shfl_xor_sync(0xffffffffu, x, o);
    return x;
}

/* The score of a row and of the lane's key of the tile in shared memory; -INFINITY where the row does not see the
 * key. */
static __device__ __forceinline__ float score_of(const float *query, const float *key, bool seen, sizes n) {
    float score = 0;
    if (!seen) return -INFINITY;
    for (int64_t i = 0; i < n.d; i++) score += query[i] * key[i];
    return mw_attention_score(score, n.scale, n.softcap, n.inverse_softcap);
}

/* Writes the weights of 32 keys, [ROWS, 32], and rescales the sums of the rows so far to the new maximum. */
template <int ROWS, int PER>
static __device__ __forceinline__ void weigh(warp_rows<ROWS, PER> &state, const float *queries, const float *keys,
                                             float *weights, int64_t first_row, row_tile tile, int64_t start, sizes n) {
    int64_t lane = threadIdx.x % 32, key = start + lane;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int64_t end = tile.keys_end + first_row + r;
        bool seen = first_row + r < tile.count && key < end && key >= mw_keys_begin(end, n.window);
        float score = score_of(queries + (first_row + r) * n.d, keys + lane * (n.d + 1), seen, n);
        if (seen) score = biased(score, blockIdx.y, key, n);
        float top = fmaxf(state.best[r], warp_largest(score));
        float keep = mw_softmax_rescale(state.best[r], top), e = seen ? expf(score - top) : 0.0f;
        weights[r * 32 + lane] = e;
        state.total[r] = state.total[r] * keep + warp_total(e);
        state.best[r] = top;
#pragma unroll
        for (int p = 0; p < PER; p++) state.sum[r][p] *= keep;
    }
}

/* Adds only values that a row sees: others need not be finite. */
template <int ROWS, int PER>
static __device__ __forceinline__ void add_values(warp_rows<ROWS, PER> &state, const float *values,
                                                  const float *weights, int64_t first_row, row_tile tile, int64_t start,
                                                  sizes n) {
    int64_t lane = threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int64_t end = tile.keys_end + first_row + r, from = mw_keys_begin(end, n.window) - start;
        int64_t to = first_row + r < tile.count ? (end - start < 32 ? end - start : 32) : 0;
        for (int64_t j = from > 0 ? from : 0; j < to; j++)
#pragma unroll
            for (int p = 0; p < PER; p++)
                if (lane + 32 * p < n.d) state.sum[r][p] += weights[r * 32 + j] * values[j * (n.d + 1) + lane + 32 * p];
    }
}

/* Shared memory: queries [WARPS * ROWS, d]; keys, then values in their place, [32, d + 1]; weights [WARPS * ROWS,
 * 32]. */
template <int ROWS, int PER>
static __global__ void attend_tile(const float *q, float *out, const float *const *k, const float *const *v,
                                   const row_tile *tiles, sizes n) {
    MW_DYNAMIC_SHARED(float, shared);
    float *queries = shared, *keys_or_values = queries + WARPS * ROWS * n.d, *weights = keys_or_values + 32 * (n.d + 1);
    row_tile tile = tiles[blockIdx.x];
    int64_t h = blockIdx.y, kh = h / (n.heads / n.kv_heads), stride = n.kv_heads * n.d,
            first_row = threadIdx.x / 32 * ROWS;
    const float *keys = k[tile.sequence] + kh * n.d, *values = v[tile.sequence] + kh * n.d;
    warp_rows<ROWS, PER> state;
    for (int r = 0; r < ROWS; r++) {
        state.best[r] = -INFINITY;
        state.total[r] = 0;
        for (int p = 0; p < PER; p++) state.sum[r][p] = 0;
    }
    bring(queries, n.d, q + (tile.row * n.heads + h) * n.d, n.heads * n.d, tile.count, n.d);
    int64_t end = tile.keys_end + tile.count - 1, begin = mw_keys_begin(tile.keys_end, n.window);
    weights += first_row * 32;
    for (int64_t start = begin / 32 * 32; start < end; start += 32) {
        int64_t count = end - start < 32 ? end - start : 32;
        __syncthreads();
        bring(keys_or_values, n.d + 1, keys + start * stride, stride, count, n.d);
        __syncthreads();
        weigh(state, queries, keys_or_values, weights, first_row, tile, start, n);
        __syncthreads();
        bring(keys_or_values, n.d + 1, values + start * stride, stride, count, n.d);
        __syncthreads();
        add_values(state, keys_or_values, weights, first_row, tile, start, n);
    }
    for (int r = 0; r < ROWS; r++)
        for (int p = 0; p < PER; p++) {
            int64_t i = threadIdx.x % 32 + 32 * p, row = first_row + r;
            if (row < tile.count && i < n.d)
                write_number(out, n.rounded, ((tile.row + row) * n.heads + h) * n.d + i,
                             state.sum[r][p] / state.total[r]);
        }
}

/* Returns the rows of a tile for heads of this width; 0: such heads take a row a block. */
static int64_t tile_rows(int64_t d) {
    return d <= 128 ? WARPS * 8 : d <= 256 ? WARPS * 4 : 0;
}

static size_t tile_bytes(int64_t d) {
    int64_t rows = tile_rows(d);
    return (size_t)(rows * d + 32 * (d + 1) + rows * 32) * sizeof(float);
}

template <int ROWS, int PER>
static mw_status run_tiles(mw_cuda_state *s, const mw_attention *at, const float **k, const float **v,
                           const row_tile *tiles, int64_t count, sizes n) {
    dim3 grid((unsigned)count, (unsigned)at->n_heads);
    size_t bytes = tile_bytes(n.d);
    if (bytes > 48 << 10) /* above the default limit of a kernel */
        MW_TRY(cuda_checked(
            cudaFuncSetAttribute(attend_tile<ROWS, PER>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
            "attention"));
    auto attend_tiles = attend_tile<ROWS, PER>; /* a macro's argument has no comma */
    MW_LAUNCH(attend_tiles, grid, WARPS * 32, bytes, s->stream, at->q, at->out, k, v, tiles, n);
    return cuda_launched("attention");
}

static mw_status launch_tiles(mw_cuda_state *s, const mw_attention *at, const float **k, const float **v,
                              const row_tile *tiles, int64_t count, sizes n) {
    cuda_scratch<row_tile> device_tiles(s);
    if (count == 0) return MW_OK;
    MW_TRY(device_tiles.copy(tiles, count));
    if (n.d <= 32) return run_tiles<8, 1>(s, at, k, v, device_tiles.data, count, n);
    if (n.d <= 64) return run_tiles<8, 2>(s, at, k, v, device_tiles.data, count, n);
    if (n.d <= 128) return run_tiles<8, 4>(s, at, k, v, device_tiles.data, count, n);
    return run_tiles<4, 8>(s, at, k, v, device_tiles.data, count, n);
}

/* ---- work lists ---------------------------------------------------------------------------------------- */

/* Host memory: the rows of sequences with few rows, and the tiles of the others. */
typedef struct work {
    query_row *rows;
    int64_t *index;
    row_tile *tiles;
    int64_t n_rows, n_tiles;
} work;

static bool takes_tiles(const mw_attention *at, int64_t sequence) {
    return tile_rows(at->head_dim) > 0 && at->q_len[sequence] >= FEW_ROWS;
}

static void list_work(const mw_attention *at, work *w) {
    int64_t most = tile_rows(at->head_dim);
    for (int64_t s = 0; s < at->n_seq; s++) {
        int64_t first = mw_keys_end(at->q_len[s], at->kv_len[s], 0);
        for (int64_t i = 0; takes_tiles(at, s) && i < at->q_len[s]; i += most) {
            int64_t count = at->q_len[s] - i < most ? at->q_len[s] - i : most;
            w->tiles[w->n_tiles++] = {(int32_t)s, (int32_t)count, (int32_t)(first + i), 0, at->q_row[s] + i};
        }
        for (int64_t i = 0; !takes_tiles(at, s) && i < at->q_len[s]; i++) {
            w->rows[w->n_rows] = {(int32_t)s, (int32_t)(first + i)};
            w->index[w->n_rows++] = at->q_row[s] + i;
        }
    }
}

static mw_status launch_rows(mw_cuda_state *s, const mw_attention *at, const float **k, const float **v, const work *w,
                             sizes n) {
    cuda_scratch<query_row> rows(s);
    cuda_scratch<int64_t> indices(s);
    if (w->n_rows == 0) return MW_OK;
    MW_TRY(rows.copy(w->rows, w->n_rows));
    MW_TRY(indices.copy(w->index, w->n_rows));
    dim3 grid((unsigned)w->n_rows, (unsigned)at->n_heads);
    size_t shared = (size_t)(at->head_dim + KEY_TILE) * sizeof(float);
    MW_LAUNCH(attend_row, grid, KEY_TILE, shared, s->stream, at->q, at->out, k, v, rows.data, indices.data, n);
    return cuda_launched("attention");
}

static mw_status launch(mw_cuda_state *s, const mw_attention *at, const work *w) {
    cuda_scratch<const float *> k(s), v(s);
    MW_TRY(k.copy((const float **)at->k, at->n_seq));
    MW_TRY(v.copy((const float **)at->v, at->n_seq));
    sizes n = {at->n_heads,
               at->n_kv_heads,
               at->head_dim,
               at->window,
               at->scale,
               at->softcap,
               at->softcap > 0 ? 1.0f / at->softcap : 0,
               at->key_bias,
               at->key_bias_stride,
               (__nv_bfloat16 *)at->rounded};
    MW_TRY(launch_tiles(s, at, k.data, v.data, w->tiles, w->n_tiles, n));
    return launch_rows(s, at, k.data, v.data, w, n);
}

mw_status mw_cuda_attention(mw_backend *backend, const mw_attention *at) {
    int64_t total = 0;
    for (int64_t s = 0; s < at->n_seq; s++) total += at->q_len[s];
    if (total == 0) return MW_OK;
    work w = {};
    w.rows = (query_row *)mw_alloc((size_t)total * sizeof *w.rows);
    w.index = (int64_t *)mw_alloc((size_t)total * sizeof *w.index);
    w.tiles = (row_tile *)mw_alloc((size_t)total * sizeof *w.tiles);
    mw_status status = w.rows && w.index && w.tiles ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) {
        list_work(at, &w);
        status = launch(cuda_of(backend), at, &w);
    }
    mw_free(w.rows);
    mw_free(w.index);
    mw_free(w.tiles);
    return status;
}
