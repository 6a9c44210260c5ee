/* Element types, their conversion, and views. */
#include "microw/tensor.h"
#include "base/dispatch.h"

#include <math.h>
#include <string.h>

size_t mw_dtype_size(mw_dtype dtype) {
    static const size_t sizes[] = {[MW_F32] = 4, [MW_BF16] = 2, [MW_F16] = 2, [MW_F64] = 8,     [MW_I64] = 8,
                                   [MW_I32] = 4, [MW_U32] = 4,  [MW_U8] = 1,  [MW_F8_E4M3] = 1, [MW_F8_E5M2] = 1};
    return sizes[dtype];
}

const char *mw_dtype_name(mw_dtype dtype) {
    static const char *const names[] = {
        [MW_F32] = "f32", [MW_BF16] = "bf16", [MW_F16] = "f16", [MW_F64] = "f64",         [MW_I64] = "i64",
        [MW_I32] = "i32", [MW_U32] = "u32",   [MW_U8] = "u8",   [MW_F8_E4M3] = "f8_e4m3", [MW_F8_E5M2] = "f8_e5m2"};
    return names[dtype];
}

static inline __attribute__((always_inline)) uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline __attribute__((always_inline)) float bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Has no branches, so that loops over runs vectorize. */
static inline __attribute__((always_inline)) uint16_t round_bf16(float x) {
    uint32_t bits = float_bits(x);
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16, nan = bits >> 16 | 0x40; /* stays a quiet NaN */
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

static inline __attribute__((always_inline)) float widened_bf16(uint16_t x) {
    return bits_float((uint32_t)x << 16);
}

uint16_t mw_f32_to_bf16(float x) {
    return round_bf16(x);
}

float mw_bf16_to_f32(uint16_t x) {
    return widened_bf16(x);
}

uint16_t mw_f32_to_f16(float x) {
    uint32_t bits = float_bits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65536 or more */
    if (magnitude < 0x38800000u) { /* subnormal: let the float adder round at the right bit */
        float scaled = bits_float(magnitude) + 0.5f;
        return (uint16_t)(sign | (float_bits(scaled) - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

float mw_f16_to_f32(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000u) << 16, exponent = x >> 10 & 31, mantissa = x & 0x3ffu;
    if (exponent == 31) return bits_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {
        float magnitude = (float)mantissa * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return bits_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* Sign, 4 bits of exponent with bias 7, 3 of mantissa; all ones are NaN, and there are no infinities. */
static float f8_e4m3_to_f32(uint8_t x) {
    uint32_t sign = (uint32_t)(x & 0x80u) << 24, exponent = x >> 3 & 15, mantissa = x & 7u;
    if (exponent == 15 && mantissa == 7) return bits_float(sign | 0x7fc00000u);
    if (exponent == 0) {
        float magnitude = (float)mantissa * 0x1p-9f;
        return sign ? -magnitude : magnitude;
    }
    return bits_float(sign | (exponent + 120) << 23 | mantissa << 20);
}

DISPATCHED static void widen_bf16(const uint16_t *in, int64_t count, float *out) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) out[i] = widened_bf16(in[i]);
}

DISPATCHED void mw_round_bf16(const float *in, int64_t count, uint16_t *out) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) out[i] = round_bf16(in[i]);
}

static mw_status convert_aligned(mw_dtype dtype, const void *in, int64_t count, float *out) {
    switch (dtype) {
    case MW_F32:
        memcpy(out, in, (size_t)count * sizeof(float));
        return MW_OK;
    case MW_BF16:
        widen_bf16(in, count, out);
        return MW_OK;
    case MW_F16:
        for (int64_t i = 0; i < count; i++) out[i] = mw_f16_to_f32(((const uint16_t *)in)[i]);
        return MW_OK;
    case MW_F8_E4M3:
        for (int64_t i = 0; i < count; i++) out[i] = f8_e4m3_to_f32(((const uint8_t *)in)[i]);
        return MW_OK;
    case MW_F8_E5M2: /* the upper half of an f16 */
        for (int64_t i = 0; i < count; i++) out[i] = mw_f16_to_f32((uint16_t)(((const uint8_t *)in)[i] << 8));
        return MW_OK;
    case MW_F64:
        for (int64_t i = 0; i < count; i++) out[i] = (float)((const double *)in)[i];
        return MW_OK;
    default:
        return mw_error(MW_ERR_UNSUPPORTED, "cannot convert %s to f32", mw_dtype_name(dtype));
    }
}

/* Converts in runs through aligned memory: a valid safetensors file may have its data at any byte. */
static mw_status convert_unaligned(mw_dtype dtype, const char *in, int64_t count, float *out) {
    enum { RUN = 1024 };
    double run[RUN]; /* double: the largest type */
    size_t item = mw_dtype_size(dtype);
    for (int64_t at = 0; at < count; at += RUN) {
        int64_t n = count - at < RUN ? count - at : RUN;
        memcpy(run, in + (size_t)at * item, (size_t)n * item);
        MW_TRY(convert_aligned(dtype, run, n, out + at));
    }
    return MW_OK;
}

mw_status mw_convert_to_f32(mw_dtype dtype, const void *in, int64_t count, float *out) {
    bool aligned = (uintptr_t)in % mw_dtype_size(dtype) == 0;
    return aligned ? convert_aligned(dtype, in, count, out) : convert_unaligned(dtype, in, count, out);
}

mw_status mw_convert_from_f32(mw_dtype dtype, const float *in, int64_t count, void *out) {
    switch (dtype) {
    case MW_F32:
        memcpy(out, in, (size_t)count * sizeof(float));
        return MW_OK;
    case MW_BF16:
        mw_round_bf16(in, count, out);
        return MW_OK;
    case MW_F16:
        for (int64_t i = 0; i < count; i++) ((uint16_t *)out)[i] = mw_f32_to_f16(in[i]);
        return MW_OK;
    default:
        return mw_error(MW_ERR_UNSUPPORTED, "cannot convert f32 to %s", mw_dtype_name(dtype));
    }
}

/* The sum of 0 * x[i] is 0 if all x[i] are finite, else NaN. */
DISPATCHED static bool all_finite(const float *x, int64_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += 0 * x[i];
    return sum == 0;
}

int64_t mw_first_not_finite(const float *x, int64_t count) {
    enum { RUN = 1 << 16 };
    for (int64_t at = 0; at < count; at += RUN) {
        int64_t n = count - at < RUN ? count - at : RUN, i = 0;
        if (all_finite(x + at, n)) continue;
        while (isfinite(x[at + i])) i++;
        return at + i;
    }
    return count;
}

mw_tensor mw_tensor_1d(mw_dtype dtype, void *data, int64_t n) {
    return (mw_tensor){.dtype = dtype, .ndim = 1, .shape = {n}, .data = data};
}

mw_tensor mw_tensor_2d(mw_dtype dtype, void *data, int64_t rows, int64_t columns) {
    return (mw_tensor){.dtype = dtype, .ndim = 2, .shape = {rows, columns}, .data = data};
}

int64_t mw_tensor_count(const mw_tensor *tensor) {
    int64_t count = 1;
    for (int i = 0; i < tensor->ndim; i++) count *= tensor->shape[i];
    return count;
}
