/* Loops of vector.h in which a CPU with fused multiply-adds uses them (compiled with -ffp-contract=fast): curves, and
 * the small products of attention. A number does not depend on its place in a run, or on the run's length. */
#include "backend/cpu/vector.h"
#include "backend/cpu/vector_math.h"
#include "backend/formulas.h"
#include "base/dispatch.h"

#include <string.h>

enum { LANES = 16 };

DISPATCHED void mw_axpy(float a, const float *x, float *y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
}

/* ---- curves -------------------------------------------------------------------------------------------- */

/* Sets the n numbers at x to f(v) of each number v, in blocks of one size: the rest is copied to a block. A compiler
 * may fuse other operations of a number alone than of one in a vector. */
#define EACH_IN_BLOCKS(x, n, v, f)                                                                                     \
    do {                                                                                                               \
        for (int64_t at = 0; at < n; at += LANES) {                                                                    \
            float rest[LANES] = {0}, *block = x + at;                                                                  \
            int64_t count = n - at < LANES ? n - at : LANES;                                                           \
            if (count < LANES) block = memcpy(rest, block, (size_t)count * sizeof *rest);                              \
            _Pragma("omp simd") for (int l = 0; l < LANES; l++) {                                                      \
                float v = block[l];                                                                                    \
                block[l] = f;                                                                                          \
            }                                                                                                          \
            if (block == rest) memcpy(x + at, rest, (size_t)count * sizeof *rest);                                     \
        }                                                                                                              \
    } while (0)

static inline __attribute__((always_inline)) float gelu_tanh(float x) {
    return 0.5f * x * (1.0f + tanh_f32(0.7978845608f * (x + 0.044715f * x * x * x)));
}

DISPATCHED void mw_gelu_tanh(float *x, int64_t n) {
    EACH_IN_BLOCKS(x, n, v, gelu_tanh(v));
}

DISPATCHED void mw_gelu_erf(float *x, int64_t n) {
    EACH_IN_BLOCKS(x, n, v, 0.5f * v * (1.0f + erf_f32(v * 0.7071067812f)));
}

DISPATCHED void mw_silu(float *x, int64_t n) {
    EACH_IN_BLOCKS(x, n, v, v / (1.0f + exp_f32(-v)));
}

DISPATCHED void mw_soft_cap_run(float *x, float cap, int64_t n) {
    float inverse = 1.0f / cap;
    EACH_IN_BLOCKS(x, n, v, mw_soft_capped(v, cap, inverse));
}

DISPATCHED void mw_score_run(float *x, float scale, float softcap, int64_t n) {
    float inverse = softcap > 0 ? 1.0f / softcap : 0;
    if (softcap > 0)
        EACH_IN_BLOCKS(x, n, v, mw_attention_score(v, scale, softcap, inverse));
    else
        EACH_IN_BLOCKS(x, n, v, mw_attention_score(v, scale, 0, 0));
}

DISPATCHED float mw_exp_shift(float *x, float shift, int64_t n) {
    float sum = 0;
    EACH_IN_BLOCKS(x, n, v, exp_f32(v - shift));
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* ---- attention ----------------------------------------------------------------------------------------- */

/* Vectors of sixteen and eight floats at any address, for loops that the compiler does not vectorize by itself. */
typedef float lanes16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef float lanes8 __attribute__((vector_size(32), aligned(4), may_alias));

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

/* As above, of fewer than eight columns. */
static void tile_product_rest(const float *a, int64_t a_stride, int64_t rows, const float *b, int64_t b_stride,
                              int64_t n, int64_t columns, float *c, int64_t c_stride) {
    float padded[MW_KEY_TILE * 8] = {0}, out[8] = {0};
    for (int64_t i = 0; i < n; i++) memcpy(padded + i * 8, b + i * b_stride, (size_t)columns * sizeof *out);
    for (int64_t r = 0; r < rows; r++) {
        memcpy(out, c + r * c_stride, (size_t)columns * sizeof *out);
        mw_values_tile(a + r * a_stride, 1, padded, 8, n, 8, out, 8);
        memcpy(c + r * c_stride, out, (size_t)columns * sizeof *out);
    }
}

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
    if (c < d) tile_product_rest(scores, MW_KEY_TILE, rows, values + c, stride, n, d - c, out + c, out_stride);
}
