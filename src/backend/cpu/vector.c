/* The loops of vector.h. */
#include "backend/cpu/vector.h"
#include "backend/formulas.h"
#include "base/dispatch.h"

#include <math.h>
#include <string.h>

DISPATCHED void mw_add_two(float *restrict out, const float *x, const float *y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = x[i] + y[i];
}

DISPATCHED void mw_scale(float a, float *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] *= a;
}

DISPATCHED void mw_add_run(float *x, const float *y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

DISPATCHED void mw_multiply(float *x, const float *y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] *= y[i];
}

DISPATCHED float mw_sum(const float *x, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

DISPATCHED float mw_sum_squares(const float *x, float center, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (x[i] - center) * (x[i] - center);
    return sum;
}

DISPATCHED void mw_normal_run(float *to, const float *x, float mean, float scale, const float *weight,
                              const float *bias, int64_t n) {
    if (bias)
#pragma omp simd
        for (int64_t i = 0; i < n; i++) to[i] = (x[i] - mean) * scale * weight[i] + bias[i];
    else
#pragma omp simd
        for (int64_t i = 0; i < n; i++) to[i] = (x[i] - mean) * scale * weight[i];
}

DISPATCHED float mw_max(const float *x, int64_t n) {
    float best = -INFINITY;
#pragma omp simd reduction(max : best)
    for (int64_t i = 0; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

DISPATCHED void mw_relu(float *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] : 0;
}

DISPATCHED void mw_adam_run(float *p, const float *g, float along, float *m, float *v, int64_t n, const mw_adam *adam) {
    const mw_adam_terms terms = mw_adam_terms_of(adam);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) mw_adam_element(p + i, g[i], along, m + i, v + i, &terms);
}

DISPATCHED void mw_column_max(const float *x, int64_t spans, float *out) {
    for (int64_t s = 0; s < spans; s++, x += MAX_SPAN, out += MAX_LANES) {
        float best[MAX_LANES];
        for (int l = 0; l < MAX_LANES; l++) best[l] = -INFINITY;
        for (int r = 0; r < MAX_SPAN; r += MAX_LANES)
            for (int l = 0; l < MAX_LANES; l++) best[l] = x[r + l] > best[l] ? x[r + l] : best[l];
        memcpy(out, best, sizeof best);
    }
}

DISPATCHED float mw_least_at_least(const float *x, int64_t n, float floor) {
    float least = INFINITY;
#pragma omp simd reduction(min : least)
    for (int64_t i = 0; i < n; i++) least = x[i] >= floor && x[i] < least ? x[i] : least;
    return least;
}

DISPATCHED int64_t mw_at_least(const float *x, int64_t n, float floor, int32_t first, int32_t *index) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += MAX_LANES) {
        int64_t run = n - i < MAX_LANES ? n - i : MAX_LANES;
        int any = 0;
#pragma omp simd reduction(| : any)
        for (int64_t l = 0; l < run; l++) any |= x[i + l] >= floor;
        for (int64_t l = 0; any && l < run; l++)
            if (x[i + l] >= floor) index[count++] = first + (int32_t)(i + l);
    }
    return count;
}

/* ---- screening ----------------------------------------------------------------------------------------- */

/* Sums in f32 of up to 2^24 numbers are off by less than a part in 2^12 in any order. */
DISPATCHED void mw_lengths_bf16(const float *x, int64_t n, float *length, float *error) {
    float all = 0, lost = 0;
#pragma omp simd reduction(+ : all, lost)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        float rounded;
        memcpy(&bits, x + i, sizeof bits);
        bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
        memcpy(&rounded, &bits, sizeof rounded);
        all += x[i] * x[i];
        lost += (x[i] - rounded) * (x[i] - rounded);
    }
    *length = sqrtf(all);
    *error = sqrtf(lost);
}
