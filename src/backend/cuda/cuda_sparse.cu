/* The sparse side of an SAE. No floating-point atomics: the same bytes on every run. */
#include "backend/cuda/cuda.h"

/* ---- top-k of many: radix select of the k-th key, then compaction in index order ---------------------------- */

/* Orders floats as unsigned numbers. */
static __device__ __forceinline__ unsigned key_of(float x) {
    unsigned bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* Finds the k-th largest key of a row and how many of its equals belong to the k. */
static __device__ void select(const float *x, int64_t n, int64_t k, unsigned *kth, unsigned *equals) {
    __shared__ unsigned counts[256];
    __shared__ unsigned chosen, left;
    unsigned prefix = 0, mask = 0;
    if (threadIdx.x == 0) left = (unsigned)k;
    for (int shift = 24; shift >= 0; shift -= 8) {
        counts[threadIdx.x] = 0;
        __syncthreads();
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
            unsigned key = key_of(x[i]);
            if ((key & mask) == prefix)
                atomicAdd(&counts[key >> shift & 255u], 1u); /* integers: order does not matter */
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = 255;
            while (counts[digit] < left) left -= counts[digit--];
            chosen = (unsigned)digit;
        }
        __syncthreads();
        prefix |= chosen << shift;
        mask |= 255u << shift;
        __syncthreads();
    }
    *kth = prefix;
    *equals = left;
}

static __device__ void top_of_row(const float *row, int64_t n, int64_t k, int32_t *to_index, float *to_value) {
    unsigned kth, equals, written = 0, ties = 0;
    select(row, n, k, &kth, &equals);
    for (int64_t start = 0; start < n && written < k; start += blockDim.x) {
        int64_t i = start + threadIdx.x;
        unsigned key = i < n ? key_of(row[i]) : 0;
        bool above = i < n && key > kth, tie = i < n && key == kth;
        unsigned all, before = block_scan((above ? 1u : 0u) | (tie ? 0x10000u : 0u), &all);
        unsigned ties_before = ties + (before >> 16), place = written + (before & 0xffffu);
        unsigned kept_before = ties_before < equals ? ties_before : equals;
        unsigned kept_start = ties < equals ? ties : equals;
        place += kept_before - kept_start;
        if (above || (tie && ties_before < equals)) {
            to_index[place] = (int32_t)i;
            to_value[place] = row[i];
        }
        ties += all >> 16;
        written += (all & 0xffffu) + ((ties < equals ? ties : equals) - kept_start);
    }
}

static __global__ void top_many(const float *x, int64_t n, int64_t k, int32_t *index, float *value) {
    top_of_row(x + blockIdx.x * n, n, k, index + blockIdx.x * k, value + blockIdx.x * k);
}

/* ---- top-k of few: by a floor ------------------------------------------------------------------------------ */

enum { FEW = CUDA_THREADS / 2, CANDIDATES = 2048 };

typedef struct candidates {
    unsigned key[CANDIDATES];
    int32_t place[CANDIDATES];
} candidates;

/* f(i, x) for each number of a row, shared out over the block. */
template <typename F> static __device__ __forceinline__ void each_of_row(const float *row, int64_t n, F f) {
    if (!in_fours(n, row)) {
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) f(i, row[i]);
        return;
    }
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n / 4; i += blockDim.x) {
        float4 x = ((const float4 *)row)[i];
        f(4 * i, x.x);
        f(4 * i + 1, x.y);
        f(4 * i + 2, x.z);
        f(4 * i + 3, x.w);
    }
}

/* A floor that at least k values of the row reach, and few more: the k-th largest of the threads' own maxima. */
static __device__ unsigned floor_of(const float *row, int64_t n, unsigned k) {
    __shared__ unsigned maxima[CUDA_THREADS];
    __shared__ unsigned floor;
    unsigned best = 0, before = 0;
    each_of_row(row, n, [&best](int64_t, float x) {
        unsigned key = key_of(x);
        if (key > best) best = key;
    });
    maxima[threadIdx.x] = best;
    __syncthreads();
    for (unsigned t = 0; t < blockDim.x; t++)
        before += maxima[t] > best || (maxima[t] == best && t < threadIdx.x) ? 1u : 0u;
    if (before == k - 1) floor = best;
    __syncthreads();
    return floor;
}

/* Writes the k best of the candidates by index. Candidates come in any order; their ranks do not depend on it. */
static __device__ void write_best(const candidates *all, unsigned count, unsigned k, const float *row, int32_t *index,
                                  float *value) {
    __shared__ int32_t best[FEW];
    for (unsigned c = threadIdx.x; c < count; c += blockDim.x) {
        unsigned rank = 0;
        for (unsigned o = 0; o < count; o++)
            rank +=
                all->key[o] > all->key[c] || (all->key[o] == all->key[c] && all->place[o] < all->place[c]) ? 1u : 0u;
        if (rank < k) best[rank] = all->place[c];
    }
    __syncthreads();
    for (unsigned c = threadIdx.x; c < k; c += blockDim.x) {
        unsigned at = 0;
        for (unsigned o = 0; o < k; o++) at += best[o] < best[c] ? 1u : 0u;
        index[at] = best[c];
        value[at] = row[best[c]];
    }
}

/* Two passes over the row; if too many values reach the floor, as where many are equal, the way that always works. */
static __global__ void top_few(const float *x, int64_t n, int64_t k, int32_t *index, float *value) {
    __shared__ candidates all;
    __shared__ unsigned count;
    const float *row = x + blockIdx.x * n;
    if (threadIdx.x == 0) count = 0;
    unsigned floor = floor_of(row, n, (unsigned)k);
    each_of_row(row, n, [floor](int64_t i, float x) {
        unsigned key = key_of(x);
        if (key < floor) return;
        unsigned at = atomicAdd(&count, 1u);
        if (at >= CANDIDATES) return;
        all.key[at] = key;
        all.place[at] = (int32_t)i;
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

/* ---- products with sparse codes ---------------------------------------------------------------------------- */

/* d counts in V, here and below. */
template <typename V>
static __global__ void decode(V *out, const V *bias, bool add, const int64_t *start, const int32_t *index,
                              const float *value, const V *w, int64_t d) {
    int64_t begin = start[blockIdx.x], end = start[blockIdx.x + 1];
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
        V sum = add ? out[blockIdx.x * d + i] : bias ? bias[i] : nothing_of<V>();
#pragma unroll 4
        for (int64_t j = begin; j < end; j++) sum = times_plus(value[j], w[(int64_t)index[j] * d + i], sum);
        out[blockIdx.x * d + i] = sum;
    }
}

/* A block a row, a warp an entry. */
template <typename V>
static __global__ void dots(float *out, const V *g, const int64_t *start, const int32_t *index, const V *w, int64_t d) {
    const V *a = g + blockIdx.x * d;
    for (int64_t j = start[blockIdx.x] + threadIdx.x / 32; j < start[blockIdx.x + 1]; j += blockDim.x / 32) {
        const V *b = w + (int64_t)index[j] * d;
        float sum = 0;
        for (int64_t i = threadIdx.x % 32; i < d; i += 32) sum += inner(a[i], b[i]);
        for (int o = 16; o > 0; o /= 2) sum += __shfl_down_sync(0xffffffffu, sum, o);
        if (threadIdx.x % 32 == 0) out[j] = sum;
    }
}

/* ---- gradients by latent ------------------------------------------------------------------------------------ */

/* Latents differ in their number of entries by far, so what a block does is not a latent: a latent's entries are cut, counted from
 * its first, into runs of SPAN, and a block takes the runs that begin within SPAN entries of the whole list. Where they are cut
 * depends on the latent alone, so sums do not depend on what else is in the list. A latent of several runs leaves parts: its first
 * run, and one later run in each of the following blocks; these are then added in order. */
enum { SPAN = 128 };

typedef struct spread {
    const int64_t *start;
    int64_t n, d;
    float *first,
        *later; /* [spans, d] parts that blocks leave: of a latent that begins there; of one that began before */
} spread;

/* The latent that entry `at` belongs to. */
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
        int64_t latent = latent_of(s, at), own = s.start[latent], stop = s.start[latent + 1];
        int64_t number = (at - own + SPAN - 1) / SPAN, from = own + number * SPAN;
        at = stop; /* no second run of it begins here */
        if (from >= end || from >= stop) continue;
        int64_t to = from + SPAN < stop ? from + SPAN : stop;
        V *sums = number > 0          ? later + blockIdx.x * s.d
                  : stop - own > SPAN ? first + blockIdx.x * s.d
                                      : out + latent * s.d;
        for (int64_t i = threadIdx.x; i < s.d; i += blockDim.x) {
            V sum = nothing_of<V>();
#pragma unroll 4
            for (int64_t e = from; e < to; e++) sum = times_plus(coefficient[e], x[(int64_t)row[e] * s.d + i], sum);
            sums[i] = sum;
        }
    }
}

template <typename V> static __global__ void join_spans(V *out, spread s) {
    const V *first = (const V *)s.first, *later = (const V *)s.later;
    int64_t begin = (int64_t)blockIdx.x * SPAN, end = begin + SPAN;
    if (end >= s.start[s.n]) return;
    int64_t latent = latent_of(s, end - 1), own = s.start[latent], stop = s.start[latent + 1];
    if (own < begin || stop - own <= SPAN) return; /* none of several runs begins here */
    for (int64_t i = threadIdx.x; i < s.d; i += blockDim.x) {
        V sum = first[blockIdx.x * s.d + i];
        for (int64_t run = 1; own + run * SPAN < stop; run++)
            sum = times_plus(1.0f, later[(blockIdx.x + run) * s.d + i], sum);
        out[latent * s.d + i] = sum;
    }
}

/* Entries of the longest row. */
static int64_t most_of(const int64_t *start, int64_t rows) {
    int64_t most = 0;
    for (int64_t r = 0; r < rows; r++) most = start[r + 1] - start[r] > most ? start[r + 1] - start[r] : most;
    return most;
}

mw_status mw_cuda_sparse_decode(mw_backend *backend, float *out, const float *bias, bool add, const int64_t *start,
                                const int32_t *index, const float *value, int64_t rows, const float *w, int64_t d) {
    if (rows == 0) return MW_OK;
    mw_cuda_state *s = cuda_of(backend);
    cuda_scratch<int64_t> where(s);
    MW_TRY(where.copy(start, rows + 1));
    if (in_fours(d, out) && in_fours(d, bias) && in_fours(d, w))
        MW_LAUNCH(decode<float4>, (unsigned)rows, cuda_threads(d / 4), 0, s->stream, (float4 *)out,
                  (const float4 *)bias, add, where.data, index, value, (const float4 *)w, d / 4);
    else
        MW_LAUNCH(decode<float>, (unsigned)rows, cuda_threads(d), 0, s->stream, out, bias, add, where.data, index,
                  value, w, d);
    return cuda_launched("sparse_decode");
}

mw_status mw_cuda_sparse_dot(mw_backend *backend, float *out, const float *g, const int64_t *start,
                             const int32_t *index, int64_t rows, const float *w, int64_t d) {
    if (rows == 0) return MW_OK;
    mw_cuda_state *s = cuda_of(backend);
    cuda_scratch<int64_t> where(s);
    MW_TRY(where.copy(start, rows + 1));
    unsigned threads = cuda_threads(32 * most_of(start, rows));
    if (in_fours(d, g) && in_fours(d, w))
        MW_LAUNCH(dots<float4>, (unsigned)rows, threads, 0, s->stream, out, (const float4 *)g, where.data, index,
                  (const float4 *)w, d / 4);
    else
        MW_LAUNCH(dots<float>, (unsigned)rows, threads, 0, s->stream, out, g, where.data, index, w, d);
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
    cuda_scratch<float> parts(cuda_of(backend));
    MW_TRY(parts.make(2 * spans * d));
    if (in_fours(d, out) && in_fours(d, x))
        add_lists<float4>(stream, out, lists, x, {lists->start, lists->n, d / 4, parts.data, parts.data + spans * d},
                          (unsigned)spans);
    else
        add_lists<float>(stream, out, lists, x, {lists->start, lists->n, d, parts.data, parts.data + spans * d},
                         (unsigned)spans);
    return cuda_launched("sparse_outer");
}
