/* Tables of rotary angles (Su et al. 2021), with Llama 3 scaling and linear interpolation. Angles are computed in f32,
 * as in transformers, so that long contexts agree with it. */
#include "model/model_private.h"

#include <math.h>

/* Llama 3.1: stretches long wavelengths by `factor`, keeps short ones, interpolates between. */
static float llama3_frequency(const mw_rope *rope, float frequency) {
    double wavelength = 2.0 * 3.14159265358979323846 / frequency;
    double low = rope->original_context / rope->low_freq_factor, high = rope->original_context / rope->high_freq_factor;
    if (wavelength > low) return (float)(frequency / rope->factor);
    if (wavelength < high) return frequency;
    double smooth = (rope->original_context / wavelength - rope->low_freq_factor) /
                    (rope->high_freq_factor - rope->low_freq_factor);
    return (float)((1 - smooth) * frequency / rope->factor + smooth * frequency);
}

static void fill_angles(const mw_rope *rope, int64_t pairs, int64_t positions, float *out) {
    for (int64_t i = 0; i < pairs; i++) {
        float frequency = 1.0f / powf((float)rope->theta, (float)(2 * i) / (float)rope->width);
        if (rope->llama3) frequency = llama3_frequency(rope, frequency);
        frequency = (float)(frequency / rope->linear_factor);
        for (int64_t p = 0; p < positions; p++) {
            float angle = (float)p * frequency;
            out[(p * pairs + i) * 2] = cosf(angle);
            out[(p * pairs + i) * 2 + 1] = sinf(angle);
        }
    }
}

static mw_status make_table(mw_model *model, const mw_rope *rope, int64_t positions, float **slot) {
    mw_backend *backend = model->backend;
    int64_t count = positions * model->arch.rotary_pairs * 2;
    float *host = mw_alloc((size_t)count * sizeof *host), *device = NULL;
    if (!host) return MW_ERR_MEMORY;
    fill_angles(rope, model->arch.rotary_pairs, positions, host);
    mw_status status = mw_backend_floats(backend, count, &device);
    if (status == MW_OK) status = backend->ops->upload(backend, device, host, (size_t)count * sizeof *host);
    mw_free(host);
    if (status != MW_OK) {
        if (device) backend->ops->free(backend, device);
        return status;
    }
    if (*slot) backend->ops->free(backend, *slot);
    *slot = device;
    return MW_OK;
}

mw_status mw_rope_reserve(mw_model *model, int64_t positions) {
    if (model->arch.rotary_pairs == 0 || positions <= model->rope_positions) return MW_OK;
    int64_t grown = positions < 256 ? 256 : positions + positions / 2;
    MW_TRY(make_table(model, &model->arch.rope, grown, &model->rope));
    if (model->arch.family->rope == ROPE_BY_LAYER)
        MW_TRY(make_table(model, &model->arch.local_rope, grown, &model->local_rope));
    model->rope_positions = grown;
    return MW_OK;
}
