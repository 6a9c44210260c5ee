/* Formulas of single elements that the CPU's loops and CUDA's kernels share, in one order of operations. */
#ifndef MICROW_BACKEND_FORMULAS_H
#define MICROW_BACKEND_FORMULAS_H

#include "microw/backend.h"

#include <math.h>

/* Inlined always: loops of the CPU vectorize around them. */
#ifdef __CUDACC__
#define MW_FORMULA static __host__ __device__ __forceinline__
#else
#define MW_FORMULA static inline __attribute__((always_inline))
#endif

/* tanh in f32: CUDA's own; on the CPU a polynomial that vectorizes. */
#ifdef __cplusplus
MW_FORMULA float mw_tanh(float x) {
    return tanhf(x);
}
#else
#include "backend/cpu/vector_math.h"
MW_FORMULA float mw_tanh(float x) {
    return tanh_f32(x);
}
#endif

/* ---- sparse codes -------------------------------------------------------------------------------------- */

/* What a screen does not count of the rounding of sums and bounds, as part of the numbers compared. */
#define MW_SLACK_RELATIVE 0x1p-20f

/* Whether a value becomes a code. Comparisons with NaN are false; of an upper bound, NaN may pass. */
MW_FORMULA bool mw_is_open(const mw_threshold *threshold, int64_t column, float x) {
    float floor = threshold->floor ? threshold->floor[column] : threshold->level;
    if (threshold->upper)
        return !(x < floor - threshold->margin - (fabsf(floor) + threshold->margin) * MW_SLACK_RELATIVE);
    return threshold->margin > 0 ? fabsf(x - floor) < threshold->margin : x > floor;
}

/* The decision of a filter: drop the entry; keep it if the row may keep another one that equals the level; keep it. */
typedef enum mw_filtered { MW_FILTER_DROPS, MW_FILTER_EQUALS, MW_FILTER_KEEPS } mw_filtered;

MW_FORMULA mw_filtered mw_filter_entry(const mw_filter *filter, int32_t latent, float x) {
    if (latent < filter->first || latent >= filter->last) return MW_FILTER_DROPS;
    if (filter->floor) {
        mw_threshold open = {filter->floor, 0, filter->margin, NULL, false};
        return mw_is_open(&open, latent, x) ? MW_FILTER_KEEPS : MW_FILTER_DROPS;
    }
    if (filter->below) return x < filter->level ? MW_FILTER_KEEPS : MW_FILTER_DROPS;
    return x > filter->level ? MW_FILTER_KEEPS : x == filter->level ? MW_FILTER_EQUALS : MW_FILTER_DROPS;
}

/* ---- screening ----------------------------------------------------------------------------------------- */

/* How far the product of rounded operands may be from the f32 dot product of row x and latent i, both with the bias:
 * less than x_part norm[i] + w_part error[i], and MW_SLACK_RELATIVE of either. docs/design/screening.md proves it. */
typedef struct mw_slack {
    float x_part, w_part;
} mw_slack;

/* A bound of a length whose sum of squares was taken in f32: room for its rounding, and for numbers whose squares are
 * 0. */
MW_FORMULA float mw_length_bound(float length) {
    return (1 + 0x1p-11f) * length + 0x1p-50f;
}

/* norm, error: of the row, from round_errors. `unit`: what one addition of the product rounds at most, of a sum of
 * magnitudes. */
MW_FORMULA mw_slack mw_slack_of(float norm, float error, int64_t d, float unit) {
    float gamma = 1.01f * (float)(d + 16) * unit, rounded = norm + error, more = 1 + 0x1p-18f;
    mw_slack slack = {more * (error + 2 * gamma * rounded), more * (1 + gamma) * rounded};
    return slack;
}

/* ---- maps of entries ----------------------------------------------------------------------------------- */

/* d tanh(c z s) / dz */
MW_FORMULA double mw_tanh_slope(double c, double z, double s) {
    double h = tanh(c * z * s);
    return c * s * (1 - h * h);
}

MW_FORMULA float mw_map_edge(const mw_entry_map *map, float x, int32_t i, float z) {
    double theta = map->table[1][i], g = x;
    if (map->table[0]) g += map->a * mw_tanh_slope(map->c, z > theta ? z : 0, map->table[0][i]);
    return (float)(theta * g + map->b);
}

/* Returns the new value of `out` of an entry; x: its old value, i: the entry's latent, z: the entry's value. */
MW_FORMULA float mw_map_entry(const mw_entry_map *map, float x, int32_t i, float z) {
    const float *t0 = map->table[0];
    switch (map->map) {
    case MW_MAP_ADD:
        return x + (float)(map->a * (t0 ? t0[i] : 1));
    case MW_MAP_TIMES:
        return z * x;
    case MW_MAP_GATE:
        return z > 0 ? x * expf(t0[i]) : 0;
    case MW_MAP_MAGNITUDE:
        return fmaxf(expf(t0[i]) * (z - map->table[1][i]) + map->table[2][i], 0.0f);
    case MW_MAP_TANH:
        return (float)tanh(map->c * z * t0[i]);
    case MW_MAP_ADD_SLOPE:
        return x + (float)(map->a * mw_tanh_slope(map->c, z, t0[i]));
    case MW_MAP_EDGE:
        return mw_map_edge(map, x, i, z);
    }
    return x;
}

/* ---- elements ------------------------------------------------------------------------------------------ */

MW_FORMULA float mw_clamped(float x, float least, float most) {
    x = x > least ? x : least;
    return x < most ? x : most;
}

MW_FORMULA float mw_xielu_of(float x, mw_xielu c) {
    float line = c.beta * x;
    return x > 0 ? c.p * x * x + line : (expm1f(fminf(x, c.eps)) - x) * c.n + line;
}

/* ---- attention ----------------------------------------------------------------------------------------- */

/* The keys that query i of a sequence sees are those from mw_keys_begin to mw_keys_end - 1. */
MW_FORMULA int64_t mw_keys_end(int64_t q_len, int64_t kv_len, int64_t i) {
    return kv_len - q_len + i + 1;
}
MW_FORMULA int64_t mw_keys_begin(int64_t end, int64_t window) {
    return window > 0 && end > window ? end - window : 0;
}

MW_FORMULA float mw_soft_capped(float x, float cap, float inverse_cap) {
    return cap * mw_tanh(x * inverse_cap);
}

/* The score of a query and a key by their dot product. */
MW_FORMULA float mw_attention_score(float dot, float scale, float softcap, float inverse_softcap) {
    float score = dot * scale;
    return softcap > 0 ? mw_soft_capped(score, softcap, inverse_softcap) : score;
}

/* Online softmax: the factor of sums of exp(score - best) when the largest score becomes `top`. Before the first score
 * `best` is -INFINITY, and the sums are empty. */
MW_FORMULA float mw_softmax_rescale(float best, float top) {
    return best == -INFINITY ? 0.0f : expf(best - top);
}

/* ---- Adam ---------------------------------------------------------------------------------------------- */

/* The numbers of a step that all elements share. */
typedef struct mw_adam_terms {
    float beta1, beta2, one_minus_beta1, one_minus_beta2, eps, grad_scale;
    float lr_corrected;  /* lr / correction1 */
    float inverse_root2; /* 1 / sqrt(correction2) */
} mw_adam_terms;

MW_FORMULA mw_adam_terms mw_adam_terms_of(const mw_adam *adam) {
    mw_adam_terms t = {adam->beta1, adam->beta2,      adam->one_minus_beta1,        adam->one_minus_beta2,
                       adam->eps,   adam->grad_scale, adam->lr / adam->correction1, 1.0f / sqrtf(adam->correction2)};
    return t;
}

/* Updates one parameter by the gradient g - along * p; `along`: the gradient's component along the row, or 0. */
MW_FORMULA void mw_adam_element(float *p, float g, float along, float *m, float *v, const mw_adam_terms *t) {
    float gradient = t->grad_scale * (g - along * *p);
    *m = t->beta1 * *m + t->one_minus_beta1 * gradient;
    *v = t->beta2 * *v + t->one_minus_beta2 * gradient * gradient;
    *p -= t->lr_corrected * *m / (sqrtf(*v) * t->inverse_root2 + t->eps);
}

#endif
