/* Emulates the conversions of f16. */
#ifndef MICROW_EMULATED_CUDA_FP16_H
#define MICROW_EMULATED_CUDA_FP16_H
#include "cuda_runtime.h"

struct __half {
    _Float16 value;
};
static inline float __half2float(__half x) {
    return (float)x.value;
}
static inline __half __float2half_rn(float x) {
    return {(_Float16)x};
}
#endif
