/* Emulates the two algorithms of CUB that the project uses. */
#ifndef MICROW_EMULATED_CUB_CUH
#define MICROW_EMULATED_CUB_CUH
#include "../cuda_runtime.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace cub {

struct DeviceRadixSort {
    template <typename K, typename V>
    static cudaError_t SortPairs(void *scratch, size_t &bytes, const K *keys_in, K *keys_out, const V *values_in,
                                 V *values_out, int64_t count, int begin_bit, int end_bit, cudaStream_t stream) {
        if (!scratch) {
            bytes = 16;
            return cudaSuccess;
        }
        emulator::note("sort items %lld bits %d", (long long)count, end_bit - begin_bit);
        emulator::later(stream, [=] {
            emulator::device_access here;
            std::vector<int64_t> order((size_t)count);
            std::iota(order.begin(), order.end(), 0);
            const K mask = end_bit >= (int)(8 * sizeof(K)) ? ~(K)0 : (K)(((K)1 << end_bit) - 1);
            std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
                return ((keys_in[a] & mask) >> begin_bit) < ((keys_in[b] & mask) >> begin_bit);
            });
            for (int64_t i = 0; i < count; i++) {
                keys_out[i] = keys_in[order[(size_t)i]];
                values_out[i] = values_in[order[(size_t)i]];
            }
        });
        return cudaSuccess;
    }
};

struct DeviceScan {
    template <typename T>
    static cudaError_t InclusiveSum(void *scratch, size_t &bytes, const T *in, T *out, int64_t count,
                                    cudaStream_t stream) {
        if (!scratch) {
            bytes = 16;
            return cudaSuccess;
        }
        emulator::note("scan items %lld", (long long)count);
        emulator::later(stream, [=] {
            emulator::device_access here;
            T sum = 0;
            for (int64_t i = 0; i < count; i++) out[i] = sum += in[i];
        });
        return cudaSuccess;
    }
};

} // namespace cub
#endif
