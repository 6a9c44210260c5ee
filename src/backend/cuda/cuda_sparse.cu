/* The sparse side of an SAE. No floating-point atomics: the same bytes on every run. */
#include "backend/cuda/cuda.h"

/* ---- top-k: radix select of the k-th key, then compaction in index order ----------------------------------- */

/* Orders floats as unsigned numbers. */
static __device__ __forceinline__ unsigned key_of(float x) {
    unsigned bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* Exclusive sum over the block of two counts packed into one number; `all` gets the total. */
static __device__ unsigned block_scan(unsigned x, unsigned *all) {
    __shared__ unsigned parts[CUDA_THREADS / 32];
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = x;
    for (int o = 1; o < 32; o *= 2) {
        unsigned y = __shfl_up_sync(0xffffffffu, sum, o);
        if (lane >= (unsigned)o) sum += y;
    }
    if (lane == 31) parts[warp] = sum;
    __syncthreads();
    unsigned before = 0, total = 0;
    for (unsigned w = 0; w < CUDA_THREADS / 32; w++) {
        if (w < warp) before += parts[w];
        total += parts[w];
    }
    __syncthreads();
    *all = total;
    return before + sum - x;
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

static __global__ void top_k(const float *x, int64_t n, int64_t k, int32_t *index, float *value) {
    const float *row = x + blockIdx.x * n;
    int32_t *to_index = index + blockIdx.x * k;
    float *to_value = value + blockIdx.x * k;
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

mw_status mw_cuda_top_k(mw_backend *backend, const float *x, int64_t rows, int64_t n, int64_t k, int32_t *index,
                        float *value) {
    if (k > n) return mw_error(MW_ERR_ARG, "top-k: k = %lld is larger than n = %lld", (long long)k, (long long)n);
    if (rows == 0) return MW_OK;
    MW_LAUNCH(top_k, (unsigned)rows, CUDA_THREADS, 0, cuda_of(backend)->stream, x, n, k, index, value);
    return cuda_launched("top_k");
}

/* ---- products with sparse codes ---------------------------------------------------------------------------- */

static __global__ void decode(float *out, const float *bias, const int64_t *start, const int32_t *index,
                              const float *value, const float *w, int64_t d) {
    int64_t begin = start[blockIdx.x], end = start[blockIdx.x + 1];
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
        float sum = bias ? bias[i] : 0.0f;
        for (int64_t j = begin; j < end; j++) sum += value[j] * w[(int64_t)index[j] * d + i];
        out[blockIdx.x * d + i] = sum;
    }
}

/* A block a row, a warp an entry. */
static __global__ void dots(float *out, const float *g, const int64_t *start, const int32_t *index, const float *w,
                            int64_t d) {
    const float *a = g + blockIdx.x * d;
    for (int64_t j = start[blockIdx.x] + threadIdx.x / 32; j < start[blockIdx.x + 1]; j += blockDim.x / 32) {
        const float *b = w + (int64_t)index[j] * d;
        float sum = 0;
        for (int64_t i = threadIdx.x % 32; i < d; i += 32) sum += a[i] * b[i];
        for (int o = 16; o > 0; o /= 2) sum += __shfl_down_sync(0xffffffffu, sum, o);
        if (threadIdx.x % 32 == 0) out[j] = sum;
    }
}

/* A block a latent: its entries in list order. */
static __global__ void outer(float *out, const int64_t *start, const int32_t *row, const float *coefficient,
                             const float *x, int64_t d) {
    int64_t begin = start[blockIdx.x], end = start[blockIdx.x + 1];
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
        float sum = 0;
        for (int64_t e = begin; e < end; e++) sum += coefficient[e] * x[(int64_t)row[e] * d + i];
        out[blockIdx.x * d + i] = sum;
    }
}

mw_status mw_cuda_sparse_decode(mw_backend *backend, float *out, const float *bias, const int64_t *start,
                                const int32_t *index, const float *value, int64_t rows, const float *w, int64_t d) {
    if (rows == 0) return MW_OK;
    mw_cuda_state *s = cuda_of(backend);
    cuda_scratch<int64_t> where(s->stream);
    MW_TRY(where.copy(start, rows + 1));
    MW_LAUNCH(decode, (unsigned)rows, CUDA_THREADS, 0, s->stream, out, bias, where.data, index, value, w, d);
    return cuda_launched("sparse_decode");
}

mw_status mw_cuda_sparse_dot(mw_backend *backend, float *out, const float *g, const int64_t *start,
                             const int32_t *index, int64_t rows, const float *w, int64_t d) {
    if (rows == 0) return MW_OK;
    mw_cuda_state *s = cuda_of(backend);
    cuda_scratch<int64_t> where(s->stream);
    MW_TRY(where.copy(start, rows + 1));
    MW_LAUNCH(dots, (unsigned)rows, CUDA_THREADS, 0, s->stream, out, g, where.data, index, w, d);
    return cuda_launched("sparse_dot");
}

mw_status mw_cuda_sparse_outer(mw_backend *backend, float *out, const mw_latent_lists *lists, const float *x,
                               int64_t d) {
    if (lists->n == 0) return MW_OK;
    mw_cuda_state *s = cuda_of(backend);
    cuda_scratch<int64_t> start(s->stream);
    cuda_scratch<int32_t> row(s->stream);
    cuda_scratch<float> coefficient(s->stream);
    int64_t entries = lists->start[lists->n];
    MW_TRY(start.copy(lists->start, lists->n + 1));
    MW_TRY(row.copy(lists->row, entries));
    MW_TRY(coefficient.copy(lists->coefficient, entries));
    MW_LAUNCH(outer, (unsigned)lists->n, CUDA_THREADS, 0, s->stream, out, start.data, row.data, coefficient.data, x, d);
    return cuda_launched("sparse_outer");
}
