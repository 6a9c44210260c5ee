/* Loops of vector.h in which a CPU with fused multiply-adds uses them (compiled with -ffp-contract=fast): curves, and
 * the small products of attention. A number does not depend on its place in a run, or on the run's length. */
#include "backend/cpu/vector.h"
#include "backend/cpu/vector_math.h"
#include "backend/formulas.h"
#include "base/dispatch.h"

DISPATCHED void mw_axpy(float a, const float *x, float *y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
}

DISPATCHED float mw_exp_shift(float *x, float shift, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        x[i] = exp_f32(x[i] - shift);
        sum += x[i];
    }
    return sum;
}

DISPATCHED void mw_gelu_tanh(float *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float u = 0.7978845608f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        x[i] = 0.5f * x[i] * (1.0f + tanh_f32(u));
    }
}

DISPATCHED void mw_gelu_erf(float *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = 0.5f * x[i] * (1.0f + erf_f32(x[i] * 0.7071067812f));
}

DISPATCHED void mw_silu(float *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = x[i] / (1.0f + exp_f32(-x[i]));
}

DISPATCHED void mw_soft_cap_run(float *x, float cap, int64_t n) {
    float inverse = 1.0f / cap;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = mw_soft_capped(x[i], cap, inverse);
}

DISPATCHED void mw_score_run(float *x, float scale, float softcap, int64_t n) {
    if (softcap > 0) {
        float inverse = 1.0f / softcap;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) x[i] = mw_attention_score(x[i], scale, softcap, inverse);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = mw_attention_score(x[i], scale, 0, 0);
}

/* ---- attention ----------------------------------------------------------------------------------------- */

/* Vectors of sixteen and eight floats at any address, for loops that the compiler does not vectorize by itself. */
typedef float lanes16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef float lanes8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float lanes1;
enum { LANES = 16 };

/* c[rows, lanes] = (c +) a[rows, n] b[n, lanes]; sums stay in registers, because callers pass a constant `rows`. */
#define TILE_PRODUCT(name, lanes)                                                                                      \
    static inline __attribute__((always_inline)) void name(const float *a, int64_t a_stride, int rows, const float *b, \
                                                           int64_t b_stride, int64_t n, float *c, int64_t c_stride,    \
                                                           bool add) {                                                 \
        lanes sum[MW_QUERY_TILE];                                                                                      \
        for (int r = 0; r < rows; r++) {                                                                               \
            sum[r] = (lanes){0};                                                                                       \
            if (add) sum[r] = *(const lanes *)(c + r * c_stride);                                                      \
        }                                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            lanes row = *(const lanes *)(b + i * b_stride);                                                            \
            for (int r = 0; r < rows; r++) sum[r] += a[r * a_stride + i] * row;                                        \
        }                                                                                                              \
        for (int r = 0; r < rows; r++) *(lanes *)(c + r * c_stride) = sum[r];                                          \
    }
TILE_PRODUCT(tile_product16, lanes16)
TILE_PRODUCT(tile_product8, lanes8)
TILE_PRODUCT(tile_product1, lanes1)

DISPATCHED void mw_scores_tile(const float *q, int64_t q_stride, int64_t rows, const float *transposed, int64_t d,
                               int64_t from, int64_t to, float *scores) {
    for (int64_t j = from / LANES * LANES; j < to; j += LANES) {
        if (rows == MW_QUERY_TILE)
            tile_product16(q, q_stride, MW_QUERY_TILE, transposed + j, MW_KEY_TILE, d, scores + j, MW_KEY_TILE, false);
        else
            for (int64_t r = 0; r < rows; r++)
                tile_product16(q + r * q_stride, q_stride, 1, transposed + j, MW_KEY_TILE, d,
                               scores + r * MW_KEY_TILE + j, MW_KEY_TILE, false);
    }
}

DISPATCHED void mw_values_tile(const float *scores, int64_t rows, const float *values, int64_t stride, int64_t n,
                               int64_t d, float *out, int64_t out_stride) {
    int64_t c = 0;
    for (; c + 16 <= d && rows == MW_QUERY_TILE; c += 16)
        tile_product16(scores, MW_KEY_TILE, MW_QUERY_TILE, values + c, stride, n, out + c, out_stride, true);
    for (; c + 8 <= d && rows == MW_QUERY_TILE; c += 8)
        tile_product8(scores, MW_KEY_TILE, MW_QUERY_TILE, values + c, stride, n, out + c, out_stride, true);
    for (; c + 8 <= d; c += 8)
        for (int64_t r = 0; r < rows; r++)
            tile_product8(scores + r * MW_KEY_TILE, MW_KEY_TILE, 1, values + c, stride, n, out + r * out_stride + c,
                          out_stride, true);
    for (; c < d; c++)
        for (int64_t r = 0; r < rows; r++)
            tile_product1(scores + r * MW_KEY_TILE, MW_KEY_TILE, 1, values + c, stride, n, out + r * out_stride + c,
                          out_stride, true);
}
