/* Reads the parameters of rotary embedding. */
#include "model/architecture.h"

#include <math.h>
#include <string.h>

/* Values for the keys that a table of rotary parameters leaves out. */
typedef struct rope_defaults {
    double theta, fraction, original_context;
    bool original_wins;  /* original_context replaces the table's */
    bool truncate_fixed; /* the table's `truncate` is not read */
} rope_defaults;

/* Reads a rotary number, of a table or of config.json itself; NaN as `initial`: required. */
static mw_status rope_number(mw_model_config table, const char *key, double initial, double *out) {
    const json_t *value;
    MW_TRY(mw_config_find(table, key, false, &value));
    if (!value && isnan(initial))
        return mw_error(MW_ERR_FORMAT, "%s: the rotary parameters have no '%s'", table.path, key);
    return mw_json_get_real(mw_config_source(table), key, initial, out);
}

/* Reads a rotary number for which null is as good as none. */
static mw_status rope_optional(mw_model_config table, const char *key, double initial, double *out) {
    const json_t *value;
    MW_TRY(mw_config_find(table, key, true, &value));
    *out = initial;
    return value && !json_is_null(value) ? mw_json_get_real(mw_config_source(table), key, initial, out) : MW_OK;
}

static mw_status impossible(mw_model_config table) {
    return mw_error(MW_ERR_FORMAT, "%s: impossible rotary parameters", table.path);
}

static mw_status read_original_context(mw_model_config table, const rope_defaults *defaults, mw_rope *rope) {
    MW_TRY(rope_number(table, "original_max_position_embeddings", defaults->original_context, &rope->original_context));
    if (defaults->original_wins) rope->original_context = defaults->original_context;
    return rope->original_context > 0 ? MW_OK : impossible(table);
}

static mw_status read_llama3(mw_model_config table, const rope_defaults *defaults, mw_rope *rope) {
    rope->type = ROPE_LLAMA3;
    MW_TRY(rope_number(table, "factor", (double)NAN, &rope->factor));
    MW_TRY(rope_number(table, "low_freq_factor", (double)NAN, &rope->low_freq_factor));
    MW_TRY(rope_number(table, "high_freq_factor", (double)NAN, &rope->high_freq_factor));
    MW_TRY(read_original_context(table, defaults, rope));
    bool good = rope->factor > 0 && rope->high_freq_factor > rope->low_freq_factor && rope->low_freq_factor > 0;
    return good ? MW_OK : impossible(table);
}

/* 0.1 m ln(scale) + 1 */
static double yarn_scale(double scale, double m) {
    return scale <= 1 ? 1 : 0.1 * m * log(scale) + 1;
}

static mw_status read_yarn(mw_model_config table, const rope_defaults *defaults, const mw_architecture *a,
                           mw_rope *rope) {
    double scale, all_scale;
    const json_t *value;
    rope->type = ROPE_YARN;
    MW_TRY(read_original_context(table, defaults, rope));
    MW_TRY(mw_config_find(table, "factor", true, &value));
    if (!value) return mw_error(MW_ERR_FORMAT, "%s: the rotary parameters have no 'factor'", table.path);
    MW_TRY(rope_optional(table, "factor", (double)a->context / rope->original_context, &rope->factor));
    MW_TRY(rope_optional(table, "mscale", 0, &scale));
    MW_TRY(rope_optional(table, "mscale_all_dim", 0, &all_scale));
    MW_TRY(rope_optional(table, "beta_fast", 0, &rope->beta_fast));
    MW_TRY(rope_optional(table, "beta_slow", 0, &rope->beta_slow));
    if (rope->beta_fast == 0) rope->beta_fast = 32;
    if (rope->beta_slow == 0) rope->beta_slow = 1;
    double inferred = scale != 0 && all_scale != 0
                          ? yarn_scale(rope->factor, scale) / yarn_scale(rope->factor, all_scale)
                          : yarn_scale(rope->factor, 1);
    MW_TRY(rope_optional(table, "attention_factor", inferred, &rope->attention_factor));
    rope->truncate = true;
    if (!defaults->truncate_fixed) MW_TRY(mw_config_flag(table, "truncate", true, &rope->truncate));
    bool good = rope->factor > 0 && rope->beta_fast > 0 && rope->beta_slow > 0 && rope->theta > 1 &&
                rope->attention_factor > 0 && isfinite(rope->attention_factor);
    return good ? MW_OK : impossible(table);
}

static mw_status read_factors(mw_model_config table, const char *key, int64_t pairs, float *out) {
    const json_t *factors;
    MW_TRY(mw_config_list(table, key, false, &factors));
    if (!factors) return mw_error(MW_ERR_FORMAT, "%s: the rotary parameters have no '%s'", table.path, key);
    if (pairs > MW_ROPE_FACTORS_MAX)
        return mw_error(MW_ERR_UNSUPPORTED, "%s: '%s': more than %d rotated pairs are not supported", table.path, key,
                        MW_ROPE_FACTORS_MAX);
    if ((int64_t)json_array_size(factors) != pairs)
        return mw_error(MW_ERR_FORMAT, "%s: '%s': expected %lld numbers, found %zu", table.path, key, (long long)pairs,
                        json_array_size(factors));
    for (int64_t i = 0; i < pairs; i++) {
        out[i] = (float)json_number_value(json_array_get(factors, (size_t)i));
        if (!(out[i] > 0) || !isfinite(out[i]))
            return mw_error(MW_ERR_FORMAT, "%s: '%s': element %lld: expected a number greater than 0", table.path, key,
                            (long long)i);
    }
    return MW_OK;
}

static mw_status read_longrope(mw_model_config table, const rope_defaults *defaults, const mw_architecture *a,
                               mw_rope *rope) {
    double factor;
    rope->type = ROPE_LONGROPE;
    MW_TRY(read_original_context(table, defaults, rope));
    MW_TRY(read_factors(table, "short_factor", rope->width / 2, rope->short_factor));
    MW_TRY(read_factors(table, "long_factor", rope->width / 2, rope->long_factor));
    MW_TRY(rope_optional(table, "factor", (double)a->context / rope->original_context, &factor));
    double inferred = factor <= 1 ? 1 : sqrt(1 + log(factor) / log(rope->original_context));
    MW_TRY(rope_optional(table, "attention_factor", inferred, &rope->attention_factor));
    return rope->attention_factor > 0 && isfinite(rope->attention_factor) ? MW_OK : impossible(table);
}

/* Reads "dynamic". It scales sequences longer than the context, which no pass has; HunYuan's `alpha` scales all. */
static mw_status read_dynamic(mw_model_config table, const mw_architecture *a, mw_rope *rope) {
    double factor, alpha = 0;
    if (a->family->rope.alpha) MW_TRY(rope_optional(table, "alpha", 0, &alpha));
    MW_TRY(rope_number(table, "factor", (double)NAN, &factor));
    if (rope->width <= 2) return impossible(table);
    if (alpha == 0) return MW_OK;
    if (!(alpha > 0)) return impossible(table);
    rope->theta *= pow(alpha, (double)rope->width / (double)(rope->width - 2));
    return MW_OK;
}

/* Sets the rotated width. transformers rotates an odd width as the next even one; the exponents have the odd width. */
static mw_status rope_width(mw_model_config table, double fraction, const mw_architecture *a, mw_rope *rope) {
    bool partial = a->family->rope.share > 0, odd = a->family->rope.rule == ROPE_NEOX;
    bool possible = fraction >= 0 && fraction <= 1;
    rope->width = possible ? (int64_t)((double)a->head_dim * fraction) : 0;
    int64_t even = rope->width + rope->width % 2;
    possible =
        possible && even <= a->head_dim && (partial || even == a->head_dim) && (odd || !partial || even == rope->width);
    if (possible && (rope->width > 0 || odd)) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: rotary embedding of a share of %g of heads of width %lld is not possible",
                    table.path, fraction, (long long)a->head_dim);
}

static mw_status unknown_type(mw_model_config table, const mw_architecture *a, const char *type) {
    return mw_error(MW_ERR_UNSUPPORTED, "%s: rotary scaling '%s' is not supported for %s (default, %slongrope%s are)",
                    table.path, type, a->family->model_type,
                    a->family->rope.rule == ROPE_PHI3 ? "" : "linear, dynamic, llama3, yarn, ",
                    a->family->rope.share > 0 ? "" : ", proportional");
}

/* Reads what a type of scaling has beside theta and width. */
static mw_status read_type(mw_model_config table, const char *type, double fraction, const rope_defaults *defaults,
                           const mw_architecture *a, mw_rope *rope) {
    bool phi3 = a->family->rope.rule == ROPE_PHI3;
    if (phi3 && (strcmp(type, "su") == 0 || strcmp(type, "yarn") == 0)) type = "longrope";
    if (strcmp(type, "default") == 0) return MW_OK;
    if (strcmp(type, "longrope") == 0) return read_longrope(table, defaults, a, rope);
    if (phi3) return unknown_type(table, a, type);
    if (strcmp(type, "linear") == 0) return rope_number(table, "factor", (double)NAN, &rope->linear_factor);
    if (strcmp(type, "dynamic") == 0) return read_dynamic(table, a, rope);
    if (strcmp(type, "llama3") == 0) return read_llama3(table, defaults, rope);
    if (strcmp(type, "yarn") == 0) return read_yarn(table, defaults, a, rope);
    if (strcmp(type, "proportional") != 0 || a->family->rope.share > 0) return unknown_type(table, a, type);
    rope->type = ROPE_PROPORTIONAL;
    rope->width = a->head_dim;
    rope->rotating = (int64_t)(fraction * (double)a->head_dim / 2);
    return rope_optional(table, "factor", 1, &rope->linear_factor);
}

/* Reads how queries grow with the position; the number is required, as transformers fails without it. */
static mw_status read_growth(mw_model_config table, const rope_defaults *defaults, mw_rope *rope) {
    const json_t *value;
    MW_TRY(rope_number(table, "llama_4_scaling_beta", (double)NAN, &rope->query_growth));
    MW_TRY(mw_config_find(table, "original_max_position_embeddings", false, &value));
    bool moved = rope->type == ROPE_LLAMA3 || rope->type == ROPE_YARN || rope->type == ROPE_LONGROPE;
    if (!value && !moved)
        return mw_error(MW_ERR_FORMAT, "%s: the rotary parameters have no 'original_max_position_embeddings'",
                        table.path);
    return moved ? MW_OK
                 : read_original_context(table, &(rope_defaults){.original_context = defaults->original_context}, rope);
}

/* Reads one table of rotary parameters. */
static mw_status read_table(mw_model_config table, const rope_defaults *defaults, const mw_architecture *a,
                            mw_rope *rope) {
    const char *type;
    const json_t *value;
    double fraction;
    *rope = (mw_rope){.linear_factor = 1, .attention_factor = 1};
    MW_TRY(rope_number(table, "rope_theta", defaults->theta, &rope->theta));
    MW_TRY(mw_config_find(table, "rope_type", false, &value));
    if (!value) MW_TRY(mw_config_find(table, "type", false, &value));
    MW_TRY(mw_json_get_text(mw_config_source(table), "rope_type|type", "default", &type));
    MW_TRY(rope_number(table, "partial_rotary_factor", defaults->fraction, &fraction));
    /* without scaling the classes of most families ignore the share; the proportional type rotates whole heads */
    bool ignored = (strcmp(type, "default") == 0 && a->family->rope.share == 0) || strcmp(type, "proportional") == 0;
    MW_TRY(rope_width(table, ignored ? 1 : fraction, a, rope));
    MW_TRY(read_type(table, type, fraction, defaults, a, rope));
    if (a->family->rope.grows) MW_TRY(read_growth(table, defaults, rope));
    bool even = rope->width % 2 == 0 || rope->type == ROPE_LINEAR || rope->type == ROPE_LLAMA3;
    return rope->theta > 0 && rope->linear_factor > 0 && even ? MW_OK : impossible(table);
}

/* Finds the table for all layers: rope_scaling, unless absent or empty, else rope_parameters. */
static mw_status find_table(mw_model_config c, const mw_architecture *a, json_t *initial, const json_t **table) {
    const json_t *scaling, *parameters;
    MW_TRY(mw_config_object(c, "rope_scaling", true, &scaling));
    MW_TRY(mw_config_object(c, "rope_parameters", true, &parameters));
    *table = scaling && json_object_size(scaling) ? scaling : parameters ? parameters : initial;
    if (json_object_get(*table, "full_attention") || json_object_get(*table, "sliding_attention"))
        return mw_error(MW_ERR_UNSUPPORTED, "%s: rotary parameters by layer type are not supported for %s", c.path,
                        a->family->model_type);
    return MW_OK;
}

static mw_status common_rope(mw_model_config c, rope_defaults *defaults, json_t *initial, mw_architecture *a) {
    const json_t *table, *value;
    const mw_rope_spec *spec = &a->family->rope;
    bool neox = spec->rule == ROPE_NEOX;
    const char *theta = neox ? "rotary_emb_base" : "rope_theta", *share = neox ? "rotary_pct" : "partial_rotary_factor";
    MW_TRY(find_table(c, a, initial, &table));
    if (!json_object_get(table, "rope_theta")) MW_TRY(mw_config_find(c, theta, false, &value));
    MW_TRY(mw_config_find(c, theta, true, &value));
    MW_TRY(mw_json_get_real(mw_config_source(c), theta, spec->theta > 0 ? spec->theta : 10000, &defaults->theta));
    if (spec->share > 0 && !json_object_get(table, "partial_rotary_factor"))
        MW_TRY(mw_config_find(c, share, false, &value));
    MW_TRY(mw_config_find(c, share, true, &value));
    MW_TRY(mw_json_get_real(mw_config_source(c), share, spec->share > 0 ? spec->share : 1, &defaults->fraction));
    MW_TRY(mw_config_find(c, "original_max_position_embeddings", false, &value));
    defaults->original_wins = value != NULL || spec->rule == ROPE_PHI3;
    if (spec->rule == ROPE_PHI3) defaults->original_context = 4096;
    MW_TRY(mw_json_get_real(mw_config_source(c), "original_max_position_embeddings", defaults->original_context,
                            &defaults->original_context));
    MW_TRY(read_table(mw_config_part(c, table), defaults, a, &a->rope));
    a->local_rope = a->rope;
    return MW_OK;
}

/* Merges rope_scaling into a copy of the table of the layers without a window, as transformers does. */
static mw_status merge_scaling(mw_model_config c, const json_t *tables, const json_t *scaling, json_t *full) {
    if (!scaling) return MW_OK;
    if (tables && !json_is_object(json_object_get(tables, "full_attention")))
        return mw_error(MW_ERR_UNSUPPORTED, "%s: rope_scaling beside rope_parameters without 'full_attention'", c.path);
    if (!tables) json_object_set_new(full, "rope_type", json_string("default"));
    if (json_object_update(full, (json_t *)(uintptr_t)scaling)) return MW_ERR_MEMORY;
    const char *type = mw_json_text(full, "rope_type"), *old = mw_json_text(scaling, "type");
    /* transformers 5 ignores "type" here; earlier versions read it */
    if (type && old && !json_object_get(scaling, "rope_type") && strcmp(type, old) != 0)
        return mw_error(MW_ERR_UNSUPPORTED, "%s: rope_scaling has 'type', expected 'rope_type'", c.path);
    return MW_OK;
}

/* Reads the tables of layers with a window and of the others. Members of rope_parameters other than the two tables are
 * ignored. */
static mw_status rope_by_layer(mw_model_config c, rope_defaults *defaults, mw_architecture *a, json_t *full) {
    const json_t *tables, *scaling, *own = NULL, *sliding = NULL, *value;
    const mw_rope_spec *spec = &a->family->rope;
    defaults->truncate_fixed = true;
    rope_defaults local = *defaults;
    MW_TRY(mw_config_object(c, "rope_scaling", true, &scaling));
    MW_TRY(mw_config_object(c, "rope_parameters", true, &tables));
    MW_TRY(mw_json_get_object((mw_json_source){c.path, tables}, "full_attention", &own));
    MW_TRY(mw_json_get_object((mw_json_source){c.path, tables}, "sliding_attention", &sliding));
    if (own && json_object_update(full, (json_t *)(uintptr_t)own)) return MW_ERR_MEMORY;
    MW_TRY(merge_scaling(c, tables, scaling, full));
    MW_TRY(rope_number(c, "rope_theta", spec->theta, &defaults->theta));
    local.theta = spec->local_theta;
    if (spec->local_key) MW_TRY(rope_number(c, spec->local_key, spec->local_theta, &local.theta));
    MW_TRY(mw_config_find(c, "partial_rotary_factor", true, &value));
    MW_TRY(mw_json_get_real(mw_config_source(c), "partial_rotary_factor", 1, &defaults->fraction));
    local.fraction = defaults->fraction;
    MW_TRY(read_table(mw_config_part(c, full), defaults, a, &a->rope));
    return read_table(mw_config_part(c, sliding), &local, a, &a->local_rope);
}

static mw_status gptj_rope(mw_model_config c, mw_architecture *a) {
    int64_t width;
    MW_TRY(mw_config_whole(c, &(mw_config_key){"rotary_dim", 64, false}, 1 << 16, &width));
    a->rope = (mw_rope){.theta = 10000, .linear_factor = 1, .attention_factor = 1, .width = width};
    a->local_rope = a->rope;
    if (width <= a->head_dim && width % 2 == 0) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: 'rotary_dim': expected an even number of at most %lld, found %lld", c.path,
                    (long long)a->head_dim, (long long)width);
}

static mw_status read_tables(mw_model_config c, mw_architecture *a, json_t *initial) {
    rope_defaults defaults = {.original_context = (double)a->context};
    if (a->alibi) return MW_OK;
    switch (a->family->rope.rule) {
    case ROPE_NONE:
        return MW_OK;
    case ROPE_GPTJ:
        return gptj_rope(c, a);
    case ROPE_BY_LAYER:
        return rope_by_layer(c, &defaults, a, initial);
    case ROPE_COMMON:
    case ROPE_NEOX:
    case ROPE_PHI3:
        break;
    }
    return common_rope(c, &defaults, initial, a);
}

/* Reads SmolLM 3's layers without rotary embedding: 0 in a list, else the last of every no_rope_layer_interval. */
static mw_status read_no_rope_list(mw_model_config c, mw_architecture *a) {
    const json_t *layers;
    int64_t interval;
    MW_TRY(mw_config_list(c, "no_rope_layers", true, &layers));
    MW_TRY(mw_config_whole(c, &(mw_config_key){"no_rope_layer_interval", 4, false}, INT32_MAX, &interval));
    if (layers && (int64_t)json_array_size(layers) != a->n_layers)
        return mw_config_wrong_layers(c, "no_rope_layers", (int64_t)json_array_size(layers), a->n_layers);
    for (int64_t l = 0; l < a->n_layers; l++) {
        const json_t *value = layers ? json_array_get(layers, (size_t)l) : NULL;
        if (layers && !json_is_integer(value))
            return mw_error(MW_ERR_FORMAT, "%s: 'no_rope_layers': element %lld: expected 0 or 1", c.path, (long long)l);
        a->no_rope[l] = layers ? json_integer_value(value) == 0 : (l + 1) % interval == 0;
    }
    return MW_OK;
}

mw_status mw_ropes_read(mw_model_config c, mw_architecture *a) {
    const char *table = a->family->rope.table ? a->family->rope.table : "{}";
    json_t *initial = NULL;
    MW_TRY(mw_json_parse("family.c", table, strlen(table), &initial));
    mw_status status = read_tables(c, a, initial);
    json_decref(initial);
    MW_TRY(status);
    a->rotary_pairs = (a->rope.width + 1) / 2;
    return a->family->rope.layers == ROPE_NO_ROPE_LIST ? read_no_rope_list(c, a) : MW_OK;
}
