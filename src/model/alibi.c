/* Biases of keys, ALiBi (Press et al. 2021): a slope for each head times the position of the key. Slopes and rounding
 * are those of the families in transformers 5.24, computed in f32. */
#include "model/model_private.h"

#include <math.h>

/* Bloom and Falcon: heads up to a power of 2, p, have 2^(-8 i / p); further ones the odd ones of twice as many. */
static float bloom_slope(int64_t heads, int64_t head) {
    int64_t p = 1;
    while (2 * p <= heads) p *= 2;
    double base = pow(2, -pow(2, -(log2((double)p) - 3))), extra = pow(2, -pow(2, -(log2((double)(2 * p)) - 3)));
    return head < p ? powf((float)base, (float)(head + 1)) : powf((float)extra, (float)(2 * (head - p) + 1));
}

/* MPT: of the slopes for the next power of 2, the odd ones first. */
static float mpt_slope(int64_t heads, int64_t head) {
    int64_t p = 1;
    while (p < heads) p *= 2;
    int64_t index = p == heads ? head : head < p / 2 ? 2 * head + 1 : 2 * (head - p / 2);
    return 1.0f / powf(2, (float)(index + 1) * (8.0f / (float)p));
}

static float in_bf16(float x) {
    uint16_t narrow;
    float rounded = x;
    if (mw_convert_from_f32(MW_BF16, &x, 1, &narrow) == MW_OK) (void)!mw_convert_to_f32(MW_BF16, &narrow, 1, &rounded);
    return rounded;
}

static float bias_of(const mw_architecture *a, int64_t head, int64_t position) {
    if (a->family->alibi == ALIBI_MPT) return mpt_slope(a->n_heads, head) * (float)position;
    float slope = bloom_slope(a->n_heads, head);
    if (a->family->alibi == ALIBI_BLOOM) return slope * (float)position;
    return in_bf16(in_bf16(slope) * in_bf16((float)position)) / (float)sqrt((double)a->head_dim);
}

mw_status mw_key_bias_reserve(mw_model *model, int64_t positions) {
    const mw_architecture *a = &model->arch;
    if (!a->alibi || positions <= model->key_bias_positions) return MW_OK;
    int64_t grown = positions < 256 ? 256 : positions + positions / 2, count = a->n_heads * grown;
    float *host = mw_alloc((size_t)count * sizeof *host);
    if (!host) return MW_ERR_MEMORY;
    for (int64_t h = 0; h < a->n_heads; h++)
        for (int64_t p = 0; p < grown; p++) host[h * grown + p] = bias_of(a, h, p);
    MW_TRY(mw_table_replace(model->backend, host, count, &model->key_bias));
    model->key_bias_positions = grown;
    return MW_OK;
}
