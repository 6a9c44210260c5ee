/* Device functions that selections share: the order of floats as keys, floors, compaction in index order, dot
 * products. */
#ifndef MICROW_BACKEND_CUDA_SELECT_H
#define MICROW_BACKEND_CUDA_SELECT_H

#include "backend/cuda/cuda.h"

/* Maps floats to unsigned numbers in the same order. */
static __device__ __forceinline__ unsigned key_of(float x) {
    unsigned bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* Finds the k-th largest of the keys key(0) .. key(n - 1), and how many that equal it are among the k largest. */
template <typename K>
static __device__ void find_kth_key(int64_t n, int64_t k, K key, unsigned *kth, unsigned *equals) {
    __shared__ unsigned counts[256];
    __shared__ unsigned chosen, left;
    unsigned prefix = 0, mask = 0;
    if (threadIdx.x == 0) left = (unsigned)k;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) counts[i] = 0;
        __syncthreads();
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
            unsigned at = key(i);
            if ((at & mask) == prefix) atomicAdd(&counts[at >> shift & 255u], 1u); /* integers: in any order */
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
    __syncthreads();
}

/* Calls f(i) for the first k of 0 .. n - 1 in the order of their keys, of equal keys the lower, as f(i, slot) with
 * slots by ascending i. */
template <typename K, typename F> static __device__ void each_of_top(int64_t n, int64_t k, K key, F f) {
    unsigned kth, equals, written = 0, ties = 0;
    find_kth_key(n, k, key, &kth, &equals);
    for (int64_t start = 0; start < n && written < k; start += blockDim.x) {
        int64_t i = start + threadIdx.x;
        unsigned own = i < n ? key(i) : 0;
        bool above = i < n && own > kth, tie = i < n && own == kth;
        unsigned all, before = block_scan((above ? 1u : 0u) | (tie ? 0x10000u : 0u), &all);
        unsigned ties_before = ties + (before >> 16), slot = written + (before & 0xffffu);
        unsigned kept_before = ties_before < equals ? ties_before : equals;
        unsigned kept_start = ties < equals ? ties : equals;
        slot += kept_before - kept_start;
        if (above || (tie && ties_before < equals)) f(i, slot);
        ties += all >> 16;
        written += (all & 0xffffu) + ((ties < equals ? ties : equals) - kept_start);
    }
}

static __device__ void top_of_row(const float *row, int64_t n, int64_t k, int32_t *to_index, float *to_value) {
    each_of_top(
        n, k, [row](int64_t i) { return key_of(row[i]); },
        [row, to_index, to_value](int64_t i, unsigned slot) {
            to_index[slot] = (int32_t)i;
            to_value[slot] = row[i];
        });
}

/* The threads of a block that select a row, and up to how many are selected by their maxima. */
enum { FEW = CUDA_THREADS / 2 };

/* Calls f(i, x) for each number of a row, distributed over the threads of the block. */
template <typename F> static __device__ __forceinline__ void each_of_row(const float *row, int64_t n, F f) {
    if (!fits_float4(n, row)) {
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

/* Returns a floor that at least k of the keys key(i, x) of a row reach, and few more: the k-th largest of the maxima of
 * the CUDA_THREADS threads; k <= FEW. */
template <typename K> static __device__ unsigned floor_of(const float *row, int64_t n, unsigned k, K key) {
    __shared__ unsigned maxima[CUDA_THREADS];
    __shared__ unsigned floor;
    unsigned best = 0, before = 0;
    each_of_row(row, n, [&best, key](int64_t i, float x) {
        unsigned own = key(i, x);
        if (own > best) best = own;
    });
    maxima[threadIdx.x] = best;
    __syncthreads();
    for (unsigned t = 0; t < blockDim.x; t++)
        before += maxima[t] > best || (maxima[t] == best && t < threadIdx.x) ? 1u : 0u;
    if (before == k - 1) floor = best;
    __syncthreads();
    return floor;
}

/* The dot product of two runs by a warp, in one order whatever the kernel; lane 0 has it. d counts elements of V. */
static __device__ __forceinline__ float fused(float x, float y, float sum) {
    return fmaf(x, y, sum);
}
static __device__ __forceinline__ float fused(float4 x, float4 y, float sum) {
    return fmaf(x.w, y.w, fmaf(x.z, y.z, fmaf(x.y, y.y, fmaf(x.x, y.x, sum))));
}
template <typename V> static __device__ __forceinline__ float warp_dot(const V *x, const V *y, int64_t d) {
    float sum = 0;
    for (int64_t i = threadIdx.x % 32; i < d; i += 32) sum = fused(x[i], y[i], sum);
    for (int o = 16; o > 0; o /= 2) sum += __shfl_down_sync(0xffffffffu, sum, o);
    return sum;
}

/* Lanes O apart share out their 2 O sums: each keeps half of them, those of both lanes; at the end one of all lanes. */
template <int O> static __device__ __forceinline__ void share_out(float *sum) {
    bool upper = threadIdx.x & O;
#pragma unroll
    for (int j = 0; j < O; j++) {
        float kept = upper ? sum[j + O] : sum[j], given = upper ? sum[j] : sum[j + O];
        sum[j] = kept + __shfl_xor_sync(0xffffffffu, given, O);
    }
    if constexpr (O > 1) share_out<O / 2>(sum);
}

/* All 32 products of R rows and C rows, in warp_dot's order; lane r * C + c has that of x[r] and w[c]. */
template <int R, int C, typename V>
static __device__ __forceinline__ float warp_dots(const V *const *x, const V *const *w, int64_t d) {
    static_assert(R * C == 32, "a sum for each lane");
    float sum[32] = {};
    for (int64_t i = threadIdx.x % 32; i < d; i += 32) {
        V own[R];
#pragma unroll
        for (int r = 0; r < R; r++) own[r] = x[r][i];
#pragma unroll
        for (int c = 0; c < C; c++) {
            V other = w[c][i];
#pragma unroll
            for (int r = 0; r < R; r++) sum[r * C + c] = fused(own[r], other, sum[r * C + c]);
        }
    }
    share_out<16>(sum);
    return sum[0];
}

#endif
