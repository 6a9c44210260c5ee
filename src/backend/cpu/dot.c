/* Dot products in one order of summation: element i is added to partial sum i modulo 16, each product and addition is
 * one fused operation where the instruction set has it, and the partial sums are added by halves. The last elements are
 * filled up with zeros. Compiled with contraction of products and sums (CMakeLists.txt), which all loops here get
 * alike: a dot product has the same bytes alone and in a tile. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"
#include "base/dispatch.h"

#include <string.h>

enum { LANES = 16, SIDE = 4 };
typedef float lanes16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef float lanes8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float lanes4 __attribute__((vector_size(16), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE float add_lanes(const lanes16 *sum) {
    const lanes8 *half = (const lanes8 *)sum;
    lanes8 eight = half[0] + half[1];
    const lanes4 *quarter = (const lanes4 *)&eight;
    lanes4 four = quarter[0] + quarter[1];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

INLINE void load_last(const float *x, int64_t count, lanes16 *out) {
    *out = (lanes16){0};
    memcpy(out, x, (size_t)count * sizeof *x);
}

/* rows x columns dot products of n elements; both are constants, so that the sums stay in registers. */
INLINE void multiply(const float *const x[SIDE], int rows, const float *const y[SIDE], int columns, int64_t n,
                     float *out, int64_t out_stride) {
    lanes16 sum[SIDE][SIDE];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) sum[r][c] = (lanes16){0};
    int64_t whole = n / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES) {
        lanes16 other[SIDE];
        for (int c = 0; c < columns; c++) other[c] = *(const lanes16 *)(y[c] + i);
        for (int r = 0; r < rows; r++) {
            lanes16 one = *(const lanes16 *)(x[r] + i);
            for (int c = 0; c < columns; c++) sum[r][c] += one * other[c];
        }
    }
    for (int r = 0; r < rows && whole < n; r++) {
        lanes16 one, other;
        load_last(x[r] + whole, n - whole, &one);
        for (int c = 0; c < columns; c++) {
            load_last(y[c] + whole, n - whole, &other);
            sum[r][c] += one * other;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) out[r * out_stride + c] = add_lanes(&sum[r][c]);
}

DISPATCHED float mw_dot(const float *x, const float *y, int64_t n) {
    const float *const one[SIDE] = {x}, *const other[SIDE] = {y};
    float out;
    multiply(one, 1, other, 1, n, &out, 1);
    return out;
}

DISPATCHED void mw_dot_four(const float *x, const float *const y[4], int64_t n, float out[4]) {
    const float *const one[SIDE] = {x};
    multiply(one, 1, y, SIDE, n, out, SIDE);
}

DISPATCHED void mw_dot_tile(const float *x, int64_t x_stride, int64_t rows, const float *y, int64_t y_stride,
                            int64_t columns, int64_t n, float *out, int64_t out_stride) {
    for (int64_t c = 0; c < columns; c += SIDE)
        for (int64_t r = 0; r < rows; r += SIDE) {
            const float *from[SIDE], *to[SIDE];
            for (int i = 0; i < SIDE; i++) from[i] = x + (r + i) * x_stride, to[i] = y + (c + i) * y_stride;
            float *at = out + r * out_stride + c;
            if (r + SIDE <= rows && c + SIDE <= columns) {
                multiply(from, SIDE, to, SIDE, n, at, out_stride);
                continue;
            }
            for (int64_t i = 0; i < SIDE && r + i < rows; i++) {
                if (c + SIDE <= columns)
                    multiply(from + i, 1, to, SIDE, n, at + i * out_stride, out_stride);
                else
                    for (int64_t j = 0; c + j < columns; j++)
                        multiply(from + i, 1, to + j, 1, n, at + i * out_stride + j, out_stride);
            }
        }
}

/* ---- products -------------------------------------------------------------------------------------------- */

enum { PART = 64 };

static mw_status ordered_f32(const mw_matmul *t) {
    float part[MW_ROW_TILE * PART];
    for (int64_t column = 0; column < t->n; column += PART) {
        int64_t width = t->n - column < PART ? t->n - column : PART;
        mw_dot_tile(t->a, t->lda, t->m, (const float *)t->b + column * t->ldb, t->ldb, width, t->k, part, PART);
        for (int64_t r = 0; r < t->m; r++) {
            float *c = t->c + r * t->ldc + column;
            if (t->accumulate)
                mw_add_run(c, part + r * PART, width);
            else
                memcpy(c, part + r * PART, (size_t)width * sizeof *c);
        }
    }
    return MW_OK;
}

const mw_cpu_product mw_cpu_ordered = {.name = "ordered", .f32 = ordered_f32};
