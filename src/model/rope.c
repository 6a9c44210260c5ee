/* Tables of rotary angles (Su et al. 2021) with their scalings. Angles are computed in f32, as in transformers, so that
 * long contexts agree with it. */
#include "model/model_private.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* Llama 3.1: stretches long wavelengths by `factor`, keeps short ones, interpolates between. */
static float llama3_frequency(const mw_rope *rope, float frequency) {
    double wavelength = 2.0 * pi / frequency;
    double low = rope->original_context / rope->low_freq_factor, high = rope->original_context / rope->high_freq_factor;
    if (wavelength > low) return (float)(frequency / rope->factor);
    if (wavelength < high) return frequency;
    double smooth = (rope->original_context / wavelength - rope->low_freq_factor) /
                    (rope->high_freq_factor - rope->low_freq_factor);
    return (float)((1 - smooth) * frequency / rope->factor + smooth * frequency);
}

/* The pair, as a real number, that turns `rotations` times over the original context. */
static double yarn_pair(const mw_rope *rope, double rotations) {
    return (double)rope->width * log(rope->original_context / (rotations * 2 * pi)) / (2 * log(rope->theta));
}

/* YaRN, section 3.2: divides the frequencies of slow pairs by `factor`, keeps fast ones, interpolates between. */
static float yarn_frequency(const mw_rope *rope, float frequency, int64_t pair) {
    double low = yarn_pair(rope, rope->beta_fast), high = yarn_pair(rope, rope->beta_slow);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)rope->width - 1);
    if (low == high) high += 0.001;
    float ramp = ((float)pair - (float)low) / (float)(high - low);
    float kept = 1 - fminf(fmaxf(ramp, 0), 1);
    return frequency / (float)rope->factor * (1 - kept) + frequency * kept;
}

static float frequency_of(const mw_rope *rope, bool extended, int64_t pair) {
    float frequency = 1.0f / powf((float)rope->theta, (float)(2 * pair) / (float)rope->width);
    switch (rope->type) {
    case ROPE_LINEAR:
        break;
    case ROPE_LLAMA3:
        return llama3_frequency(rope, frequency);
    case ROPE_YARN:
        return yarn_frequency(rope, frequency, pair);
    case ROPE_LONGROPE:
        return frequency / (extended ? rope->long_factor : rope->short_factor)[pair];
    case ROPE_PROPORTIONAL:
        if (pair >= rope->rotating) return 0;
        break;
    }
    return (float)(frequency / rope->linear_factor);
}

typedef enum table_kind { TABLE_USUAL, TABLE_EXTENDED, TABLE_QUERIES } table_kind;

static float query_factor(const mw_rope *rope, int64_t position) {
    double times = floor((double)position / rope->original_context);
    return 1.0f + (float)rope->query_growth * logf(1.0f + (float)times);
}

static void fill_angles(const mw_model *m, const mw_rope *rope, table_kind kind, int64_t positions, float *out) {
    int64_t pairs = m->arch.rotary_pairs;
    float scale = (float)rope->attention_factor, direction = m->arch.family->rope.reversed ? -1.0f : 1.0f;
    for (int64_t i = 0; i < pairs; i++) {
        float frequency = frequency_of(rope, kind == TABLE_EXTENDED, i);
        for (int64_t p = 0; p < positions; p++) {
            float angle = (float)p * frequency, factor = kind == TABLE_QUERIES ? scale * query_factor(rope, p) : scale;
            out[(p * pairs + i) * 2] = cosf(angle) * factor;
            out[(p * pairs + i) * 2 + 1] = direction * sinf(angle) * factor;
        }
    }
}

static mw_status make_table(mw_model *model, const mw_rope *rope, table_kind kind, int64_t positions, float **slot) {
    int64_t count = positions * model->arch.rotary_pairs * 2;
    float *host = mw_alloc((size_t)count * sizeof *host);
    if (!host) return MW_ERR_MEMORY;
    fill_angles(model, rope, kind, positions, host);
    return mw_table_replace(model->backend, host, count, slot);
}

static mw_status make_tables(mw_model *model, const mw_rope *rope, int64_t positions, mw_rope_tables *out) {
    MW_TRY(make_table(model, rope, TABLE_USUAL, positions, &out->usual));
    if (rope->query_growth != 0) MW_TRY(make_table(model, rope, TABLE_QUERIES, positions, &out->queries));
    return rope->type == ROPE_LONGROPE ? make_table(model, rope, TABLE_EXTENDED, positions, &out->extended) : MW_OK;
}

mw_status mw_rope_reserve(mw_model *model, int64_t positions) {
    if (model->arch.rotary_pairs == 0 || positions <= model->rope_positions) return MW_OK;
    int64_t grown = positions < 256 ? 256 : positions + positions / 2;
    MW_TRY(make_tables(model, &model->arch.rope, grown, &model->rope));
    if (model->arch.family->rope.rule == ROPE_BY_LAYER)
        MW_TRY(make_tables(model, &model->arch.local_rope, grown, &model->local_rope));
    model->rope_positions = grown;
    return MW_OK;
}

void mw_rope_free(mw_model *model) {
    float *all[] = {model->rope.usual, model->rope.extended, model->rope.queries, model->local_rope.usual,
                    model->local_rope.extended};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) model->backend->ops->free(model->backend, all[i]);
}

static bool is_extended(const mw_rope *rope, int64_t length) {
    return rope->type == ROPE_LONGROPE && (double)length > rope->original_context;
}

const float *mw_rope_table(const mw_model *model, int64_t layer, int64_t length) {
    bool local = model->local_rope.usual && model->arch.window[layer];
    const mw_rope_tables *tables = local ? &model->local_rope : &model->rope;
    return is_extended(local ? &model->arch.local_rope : &model->arch.rope, length) ? tables->extended : tables->usual;
}

const float *mw_rope_queries(const mw_model *model) {
    return model->rope.queries;
}

bool mw_rope_changes(const mw_model *model, int64_t past, int64_t end) {
    const mw_architecture *a = &model->arch;
    return past > 0 && (is_extended(&a->rope, past) != is_extended(&a->rope, end) ||
                        is_extended(&a->local_rope, past) != is_extended(&a->local_rope, end));
}
