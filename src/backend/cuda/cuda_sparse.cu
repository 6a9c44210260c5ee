/* Top-k selection and products with sparse codes. No floating-point atomics: the same bytes on every run. */
#include "backend/cuda/cuda_select.h"

/* ---- top-k --------------------------------------------------------------------------------------------- */

static __global__ void top_many(const float *x, int64_t n, int64_t k, int32_t *index, float *value) {
    top_of_row(x + blockIdx.x * n, n, k, index + blockIdx.x * k, value + blockIdx.x * k);
}

enum { CANDIDATES = 2048 };

typedef struct candidates {
    unsigned key[CANDIDATES];
    int32_t index[CANDIDATES];
} candidates;

/* Writes the k best candidates in index order. The ranks of candidates do not depend on the order in which they were
 * found. */
static __device__ void write_best(const candidates *all, unsigned count, unsigned k, const float *row, int32_t *index,
                                  float *value) {
    __shared__ int32_t best[FEW];
    for (unsigned c = threadIdx.x; c < count; c += blockDim.x) {
        unsigned rank = 0;
        for (unsigned o = 0; o < count; o++)
            rank +=
                all->key[o] > all->key[c] || (all->key[o] == all->key[c] && all->index[o] < all->index[c]) ? 1u : 0u;
        if (rank < k) best[rank] = all->index[c];
    }
    __syncthreads();
    for (unsigned c = threadIdx.x; c < k; c += blockDim.x) {
        unsigned at = 0;
        for (unsigned o = 0; o < k; o++) at += best[o] < best[c] ? 1u : 0u;
        index[at] = best[c];
        value[at] = row[best[c]];
    }
}

/* Takes two passes over the row; where too many values reach the floor, as with many equal ones, top_of_row. */
static __global__ void top_few(const float *x, int64_t n, int64_t k, int32_t *index, float *value) {
    __shared__ candidates all;
    __shared__ unsigned count;
    const float *row = x + blockIdx.x * n;
    if (threadIdx.x == 0) count = 0;
    unsigned floor = floor_of(row, n, (unsigned)k, [](int64_t, float x) { return key_of(x); });
    each_of_row(row, n, [floor](int64_t i, float x) {
        unsigned key = key_of(x);
        if (key < floor) return;
        unsigned at = atomicAdd(&count, 1u);
        if (at >= CANDIDATES) return;
        all.key[at] = key;
        all.index[at] = (int32_t)i;
    });
    __syncthreads();
    if (count <= CANDIDATES)
        write_best(&all, count, (unsigned)k, row, index + blockIdx.x * k, value + blockIdx.x * k);
    else
        top_of_row(row, n, k, index + blockIdx.x * k, value + blockIdx.x * k);
}

mw_status mw_cuda_top_k(mw_backend *backend, const float *x, int64_t rows, int64_t n, int64_t k, int32_t *index,
                        float *value) {
    if (k > n) return mw_error(MW_ERR_ARG, "top-k: k = %lld is larger than n = %lld", (long long)k, (long long)n);
    if (rows == 0) return MW_OK;
    cudaStream_t stream = cuda_of(backend)->stream;
    if (k <= FEW && n >= CUDA_THREADS)
        MW_LAUNCH(top_few, (unsigned)rows, CUDA_THREADS, 0, stream, x, n, k, index, value);
    else
        MW_LAUNCH(top_many, (unsigned)rows, CUDA_THREADS, 0, stream, x, n, k, index, value);
    return cuda_launched("top_k");
}

/* ---- products with sparse codes ------------------------------------------------------------------------ */

/* Here and below, d counts elements of type V. */
template <typename V>
static __global__ void decode(V *out, const V *bias, bool add, const int64_t *start, const int32_t *index,
                              const float *value, const V *w, int64_t d) {
    int64_t begin = start[blockIdx.x], end = start[blockIdx.x + 1];
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
        V sum = add ? out[blockIdx.x * d + i] : bias ? bias[i] : zero_of<V>();
#pragma unroll 4
        for (int64_t j = begin; j < end; j++) sum = multiply_add(value[j], w[(int64_t)index[j] * d + i], sum);
        out[blockIdx.x * d + i] = sum;
    }
}

/* A thread block takes a row, a warp an entry. */
template <typename V>
static __global__ void dots(float *out, const V *g, const int64_t *start, const int32_t *index, const V *w, int64_t d,
                            const float *bias) {
    const V *x = g + blockIdx.x * d;
    for (int64_t j = start[blockIdx.x] + threadIdx.x / 32; j < start[blockIdx.x + 1]; j += blockDim.x / 32) {
        float sum = warp_dot(x, w + (int64_t)index[j] * d, d);
        if (threadIdx.x % 32 == 0) out[j] = bias ? sum + bias[index[j]] : sum;
    }
}

/* ---- gradients by latent ------------------------------------------------------------------------------- */

/* The numbers of entries of latents differ widely, so a thread block does not take one latent. The entries of a latent,
 * counted from its first, are cut into runs of SPAN, and block b takes the runs that begin among the entries b * SPAN
 * .. (b + 1) * SPAN - 1 of the whole list. The cuts depend on the latent alone, so sums do not depend on other latents
 * of the list. A latent of several runs leaves partial sums, of its first run and of one later run in each of the
 * following blocks, which join_spans adds in order. */
enum { SPAN = 128 };

typedef struct spread {
    const int64_t *start;
    int64_t n, d;
    float *first; /* [spans, d] partial sums: of the first run of a latent that begins in the span */
    float *later; /* [spans, d] of a later run of a latent that begins before the span */
} spread;

/* Returns the latent of entry `at`. */
static __device__ int64_t latent_of(const spread &s, int64_t at) {
    int64_t low = 0, high = s.n;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (s.start[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

template <typename V>
static __global__ void add_spans(V *out, const int32_t *row, const float *coefficient, const V *x, spread s) {
    V *first = (V *)s.first, *later = (V *)s.later;
    int64_t begin = (int64_t)blockIdx.x * SPAN, end = begin + SPAN < s.start[s.n] ? begin + SPAN : s.start[s.n];
    for (int64_t at = begin; at < end;) {
        int64_t latent = latent_of(s, at), first_entry = s.start[latent], stop = s.start[latent + 1];
        int64_t number = (at - first_entry + SPAN - 1) / SPAN, from = first_entry + number * SPAN;
        at = stop; /* no second run of the latent begins in this span */
        if (from >= end || from >= stop) continue;
        int64_t to = from + SPAN < stop ? from + SPAN : stop;
        V *sums = number > 0                  ? later + blockIdx.x * s.d
                  : stop - first_entry > SPAN ? first + blockIdx.x * s.d
                                              : out + latent * s.d;
        for (int64_t i = threadIdx.x; i < s.d; i += blockDim.x) {
            V sum = zero_of<V>();
#pragma unroll 4
            for (int64_t e = from; e < to; e++) sum = multiply_add(coefficient[e], x[(int64_t)row[e] * s.d + i], sum);
            sums[i] = sum;
        }
    }
}

template <typename V> static __global__ void join_spans(V *out, spread s) {
    const V *first = (const V *)s.first, *later = (const V *)s.later;
    int64_t begin = (int64_t)blockIdx.x * SPAN, end = begin + SPAN;
    if (end >= s.start[s.n]) return;
    int64_t latent = latent_of(s, end - 1), first_entry = s.start[latent], stop = s.start[latent + 1];
    if (first_entry < begin || stop - first_entry <= SPAN) return; /* no latent of several runs begins in this span */
    for (int64_t i = threadIdx.x; i < s.d; i += blockDim.x) {
        V sum = first[blockIdx.x * s.d + i];
        for (int64_t run = 1; first_entry + run * SPAN < stop; run++)
            sum = multiply_add(1.0f, later[(blockIdx.x + run) * s.d + i], sum);
        out[latent * s.d + i] = sum;
    }
}

/* Returns the entries of the longest row. */
static int64_t most_of(const int64_t *start, int64_t rows) {
    int64_t most = 0;
    for (int64_t r = 0; r < rows; r++) most = start[r + 1] - start[r] > most ? start[r + 1] - start[r] : most;
    return most;
}

mw_status mw_cuda_sparse_decode(mw_backend *backend, float *out, const float *bias, bool add, const int64_t *start,
                                const int32_t *index, const float *value, int64_t rows, const float *w, int64_t d) {
    if (rows == 0) return MW_OK;
    mw_cuda_state *s = cuda_of(backend);
    cuda_scratch<int64_t> starts(s);
    MW_TRY(starts.copy(start, rows + 1));
    if (fits_float4(d, out) && fits_float4(d, bias) && fits_float4(d, w))
        MW_LAUNCH(decode<float4>, (unsigned)rows, cuda_threads(d / 4), 0, s->stream, (float4 *)out,
                  (const float4 *)bias, add, starts.data, index, value, (const float4 *)w, d / 4);
    else
        MW_LAUNCH(decode<float>, (unsigned)rows, cuda_threads(d), 0, s->stream, out, bias, add, starts.data, index,
                  value, w, d);
    return cuda_launched("sparse_decode");
}

mw_status mw_cuda_sparse_dot(mw_backend *backend, float *out, const float *g, const int64_t *start,
                             const int32_t *index, int64_t rows, const float *w, int64_t d, const float *bias) {
    if (rows == 0) return MW_OK;
    mw_cuda_state *s = cuda_of(backend);
    cuda_scratch<int64_t> starts(s);
    MW_TRY(starts.copy(start, rows + 1));
    unsigned threads = cuda_threads(32 * most_of(start, rows));
    if (fits_float4(d, g) && fits_float4(d, w))
        MW_LAUNCH(dots<float4>, (unsigned)rows, threads, 0, s->stream, out, (const float4 *)g, starts.data, index,
                  (const float4 *)w, d / 4, bias);
    else
        MW_LAUNCH(dots<float>, (unsigned)rows, threads, 0, s->stream, out, g, starts.data, index, w, d, bias);
    return cuda_launched("sparse_dot");
}

template <typename V>
static void add_lists(cudaStream_t stream, float *out, const mw_latent_lists *lists, const float *x, spread s,
                      unsigned spans) {
    MW_LAUNCH(add_spans<V>, spans, cuda_threads(s.d), 0, stream, (V *)out, lists->row, lists->coefficient, (const V *)x,
              s);
    MW_LAUNCH(join_spans<V>, spans, cuda_threads(s.d), 0, stream, (V *)out, s);
}

mw_status mw_cuda_sparse_outer(mw_backend *backend, float *out, const mw_latent_lists *lists, const float *x,
                               int64_t d) {
    if (lists->n == 0 || d == 0) return MW_OK;
    cudaStream_t stream = cuda_of(backend)->stream;
    int64_t spans = (lists->capacity + SPAN - 1) / SPAN;
    MW_TRY(mw_cuda_fill_zero(backend, out, (size_t)(lists->n * d) * sizeof *out));
    if (spans == 0) return MW_OK;
    cuda_scratch<float> partial(cuda_of(backend));
    MW_TRY(partial.make(2 * spans * d));
    if (fits_float4(d, out) && fits_float4(d, x))
        add_lists<float4>(stream, out, lists, x,
                          {lists->start, lists->n, d / 4, partial.data, partial.data + spans * d}, (unsigned)spans);
    else
        add_lists<float>(stream, out, lists, x, {lists->start, lists->n, d, partial.data, partial.data + spans * d},
                         (unsigned)spans);
    return cuda_launched("sparse_outer");
}
