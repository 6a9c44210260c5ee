/* Reads config.json as the family's configuration class in transformers 5.24 does: the same keys, the same defaults for
 * keys that are left out, and an error where the class or the model raises one. */
#include "model/architecture.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* config.json, or the part of it that describes the text model. */
typedef struct config {
    const char *path;
    const json_t *object;
    json_t *seen; /* names of the keys that were searched for: an object */
} config;

static mw_json_source source(config c) {
    return (mw_json_source){c.path, c.object};
}

static config part(config c, const json_t *object) {
    return (config){c.path, object, NULL};
}

/* ---- keys -------------------------------------------------------------------------------------------- */

/* Finds a key, "name|second name", and notes it as seen. *out: NULL if absent. Refuses null unless `nullable`, and two
 * names with different values. */
static mw_status find(config c, const char *keys, bool nullable, const json_t **out) {
    char name[64];
    *out = NULL;
    for (const char *p = keys; *p;) {
        size_t n = strcspn(p, "|");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        if (c.seen) json_object_set_new(c.seen, name, json_true());
        const json_t *value = json_object_get(c.object, name);
        if (value && json_is_null(value) && !nullable)
            return mw_error(MW_ERR_FORMAT, "%s: '%s' is null, which this model_type does not allow", c.path, name);
        if (value && *out && !json_equal(value, *out))
            return mw_error(MW_ERR_FORMAT, "%s: two names of one value differ: %s", c.path, keys);
        if (value) *out = value;
        p += n + (p[n] == '|');
    }
    return MW_OK;
}

/* Reads a whole number from 1 to `max`; null and a default of 0 give 0. */
static mw_status whole(config c, const mw_config_key *key, int64_t max, int64_t *out) {
    const json_t *value = NULL;
    if (key->name) MW_TRY(find(c, key->name, key->nullable, &value));
    if (!value && isnan(key->initial)) return mw_error(MW_ERR_FORMAT, "%s: '%s' is missing", c.path, key->name);
    *out = value ? 0 : (int64_t)key->initial;
    if (!value || json_is_null(value)) return MW_OK;
    return mw_json_get_whole(source(c), key->name, MW_JSON_NEEDED, 1, max, out);
}

/* Reads a finite number; null gives 0. A value that is given must be greater than 0 for a nullable key. */
static mw_status real(config c, const mw_config_key *key, double *out) {
    const json_t *value = NULL;
    if (key->name) MW_TRY(find(c, key->name, key->nullable, &value));
    *out = value ? 0 : key->initial;
    if (!value || json_is_null(value)) return MW_OK;
    MW_TRY(mw_json_get_real(source(c), key->name, 0, out));
    if (key->nullable && !(*out > 0))
        return mw_error(MW_ERR_FORMAT, "%s: '%s': expected a number greater than 0, found %g", c.path, key->name, *out);
    return MW_OK;
}

static mw_status flag(config c, const char *key, bool initial, bool *out) {
    const json_t *value;
    MW_TRY(find(c, key, false, &value));
    return mw_json_get_flag(source(c), key, initial, out);
}

static mw_status list(config c, const char *key, bool nullable, const json_t **out) {
    MW_TRY(find(c, key, nullable, out));
    return mw_json_get_list(source(c), key, out);
}

/* ---- refused keys ------------------------------------------------------------------------------------ */

static mw_status refuse_quantized(config c) {
    const json_t *value;
    MW_TRY(find(c, "quantization_config", true, &value));
    if (!value || json_is_null(value)) return MW_OK;
    const char *method = mw_json_text(value, "quant_method");
    return mw_error(MW_ERR_UNSUPPORTED, "%s: the model is quantized by %s, which is not supported", c.path,
                    method ? method : "an unnamed method");
}

/* Refuses keys of all families that change the computation and are not implemented. */
static mw_status refuse_unsupported(config c) {
    static const char *const absent[] = {"per_layer_config", "pruned_heads", "transformers_weights",
                                         "kv_sharing_modes"};
    bool bidirectional, causal;
    const json_t *value;
    MW_TRY(refuse_quantized(c));
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        MW_TRY(find(c, absent[i], true, &value));
        bool empty = !value || json_is_null(value) || (json_is_object(value) && json_object_size(value) == 0);
        if (!empty) return mw_error(MW_ERR_UNSUPPORTED, "%s: '%s' is not supported", c.path, absent[i]);
    }
    MW_TRY(find(c, "use_bidirectional_attention", true, &value));
    MW_TRY(mw_json_get_flag(source(c), "use_bidirectional_attention", false, &bidirectional));
    MW_TRY(flag(c, "is_causal", true, &causal));
    if (!bidirectional && causal) return MW_OK;
    return mw_error(MW_ERR_UNSUPPORTED, "%s: '%s': attention to later tokens is not supported", c.path,
                    bidirectional ? "use_bidirectional_attention" : "is_causal");
}

static mw_status read_activation(config c, mw_architecture *a) {
    static const struct {
        const char *name;
        mw_activation kind;
    } known[] = {{"gelu_new", MW_ACT_GELU_TANH},
                 {"gelu_pytorch_tanh", MW_ACT_GELU_TANH},
                 {"gelu_fast", MW_ACT_GELU_TANH},
                 {"gelu", MW_ACT_GELU_ERF},
                 {"silu", MW_ACT_SILU},
                 {"swish", MW_ACT_SILU},
                 {"relu", MW_ACT_RELU}};
    const char *name;
    const json_t *value;
    const mw_mlp_spec *mlp = &a->family->mlp;
    MW_TRY(find(c, a->family->keys.activation, false, &value));
    MW_TRY(mw_json_get_text(source(c), a->family->keys.activation, mlp->activation, &name));
    if (mlp->gelu_is_tanh && strcmp(name, "gelu") == 0) name = mlp->activation;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            a->activation = known[i].kind;
            return MW_OK;
        }
    return mw_error(MW_ERR_UNSUPPORTED, "%s: activation '%s' is not supported", c.path, name);
}

/* ---- rotary embedding -------------------------------------------------------------------------------- */

/* Values for the keys that a table of rotary parameters leaves out. */
typedef struct rope_defaults {
    double theta, fraction, original_context;
    bool original_wins; /* original_context replaces the table's */
} rope_defaults;

/* Reads a rotary number, of a table or of config.json itself; NaN as `initial`: required. */
static mw_status rope_number(config table, const char *key, double initial, double *out) {
    const json_t *value;
    MW_TRY(find(table, key, false, &value));
    if (!value && isnan(initial))
        return mw_error(MW_ERR_FORMAT, "%s: the rotary parameters have no '%s'", table.path, key);
    return mw_json_get_real(source(table), key, initial, out);
}

static mw_status read_llama3(config table, const rope_defaults *defaults, mw_rope *rope) {
    rope->llama3 = true;
    MW_TRY(rope_number(table, "factor", (double)NAN, &rope->factor));
    MW_TRY(rope_number(table, "low_freq_factor", (double)NAN, &rope->low_freq_factor));
    MW_TRY(rope_number(table, "high_freq_factor", (double)NAN, &rope->high_freq_factor));
    MW_TRY(rope_number(table, "original_max_position_embeddings", defaults->original_context, &rope->original_context));
    if (defaults->original_wins) rope->original_context = defaults->original_context;
    bool good = rope->factor > 0 && rope->high_freq_factor > rope->low_freq_factor && rope->low_freq_factor > 0 &&
                rope->original_context > 0;
    return good ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: impossible rotary parameters", table.path);
}

/* Sets the rotated width. transformers rotates an odd width as the next even one; the exponents have the odd width. */
static mw_status rope_width(config table, double fraction, const mw_architecture *a, mw_rope *rope) {
    bool partial = a->family->rope == ROPE_NEOX;
    bool possible = fraction >= 0 && fraction <= 1;
    rope->width = possible ? (int64_t)((double)a->head_dim * fraction) : 0;
    int64_t even = rope->width + rope->width % 2;
    if (possible && even <= a->head_dim && (partial || even == a->head_dim)) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: rotary embedding of a share of %g of heads of width %lld is not possible",
                    table.path, fraction, (long long)a->head_dim);
}

/* Reads one table of rotary parameters. */
static mw_status read_rope(config table, const rope_defaults *defaults, const mw_architecture *a, mw_rope *rope) {
    const char *type;
    const json_t *value;
    double fraction;
    *rope = (mw_rope){.linear_factor = 1};
    MW_TRY(rope_number(table, "rope_theta", defaults->theta, &rope->theta));
    MW_TRY(find(table, "rope_type", false, &value));
    if (!value) MW_TRY(find(table, "type", false, &value));
    MW_TRY(mw_json_get_text(source(table), "rope_type|type", "default", &type));
    MW_TRY(rope_number(table, "partial_rotary_factor", defaults->fraction, &fraction));
    if (strcmp(type, "linear") == 0)
        MW_TRY(rope_number(table, "factor", (double)NAN, &rope->linear_factor));
    else if (strcmp(type, "llama3") == 0)
        MW_TRY(read_llama3(table, defaults, rope));
    else if (strcmp(type, "default") != 0)
        return mw_error(MW_ERR_UNSUPPORTED, "%s: rotary scaling '%s' is not supported (default, linear, llama3 are)",
                        table.path, type);
    else if (a->family->rope != ROPE_NEOX)
        fraction = 1; /* the share is ignored without scaling */
    if (!(rope->theta > 0 && rope->linear_factor > 0))
        return mw_error(MW_ERR_FORMAT, "%s: impossible rotary parameters", table.path);
    return rope_width(table, fraction, a, rope);
}

/* Reads the parameters of one table for all layers: rope_scaling, unless absent or empty, else rope_parameters. */
static mw_status common_rope(config c, rope_defaults *defaults, mw_architecture *a) {
    const json_t *scaling, *table, *value;
    bool neox = a->family->rope == ROPE_NEOX;
    const char *theta = neox ? "rotary_emb_base" : "rope_theta", *share = neox ? "rotary_pct" : "partial_rotary_factor";
    MW_TRY(find(c, "rope_scaling", true, &scaling));
    MW_TRY(find(c, "rope_parameters", true, &table));
    MW_TRY(mw_json_get_object(source(c), "rope_scaling", &scaling));
    MW_TRY(mw_json_get_object(source(c), "rope_parameters", &table));
    if (scaling && json_object_size(scaling)) table = scaling;
    if (json_object_get(table, "full_attention") || json_object_get(table, "sliding_attention"))
        return mw_error(MW_ERR_UNSUPPORTED, "%s: rotary parameters by layer type are not supported for %s", c.path,
                        a->family->model_type);
    if (!json_object_get(table, "rope_theta")) MW_TRY(find(c, theta, false, &value));
    MW_TRY(find(c, theta, true, &value));
    MW_TRY(mw_json_get_real(source(c), theta, 10000, &defaults->theta));
    if (neox && !json_object_get(table, "partial_rotary_factor")) MW_TRY(find(c, share, false, &value));
    MW_TRY(find(c, share, true, &value));
    MW_TRY(mw_json_get_real(source(c), share, neox ? 0.25 : 1, &defaults->fraction));
    MW_TRY(find(c, "original_max_position_embeddings", false, &value));
    defaults->original_wins = value != NULL;
    MW_TRY(mw_json_get_real(source(c), "original_max_position_embeddings", defaults->original_context,
                            &defaults->original_context));
    MW_TRY(read_rope(part(c, table), defaults, a, &a->rope));
    a->local_rope = a->rope;
    return MW_OK;
}

/* Merges rope_scaling into a copy of the table of the layers without a window, as transformers does. */
static mw_status merge_scaling(config c, const json_t *tables, const json_t *scaling, json_t *full) {
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

/* Reads Gemma 3's tables. Members of rope_parameters other than the two tables are ignored. */
static mw_status rope_by_layer(config c, rope_defaults *defaults, mw_architecture *a, json_t *full) {
    const json_t *tables, *scaling, *own = NULL, *sliding = NULL, *value;
    rope_defaults local = *defaults;
    MW_TRY(find(c, "rope_scaling", true, &scaling));
    MW_TRY(find(c, "rope_parameters", true, &tables));
    MW_TRY(mw_json_get_object(source(c), "rope_scaling", &scaling));
    MW_TRY(mw_json_get_object(source(c), "rope_parameters", &tables));
    MW_TRY(mw_json_get_object((mw_json_source){c.path, tables}, "full_attention", &own));
    MW_TRY(mw_json_get_object((mw_json_source){c.path, tables}, "sliding_attention", &sliding));
    if (own && json_object_update(full, (json_t *)(uintptr_t)own)) return MW_ERR_MEMORY;
    MW_TRY(merge_scaling(c, tables, scaling, full));
    MW_TRY(rope_number(c, "rope_theta", 1000000, &defaults->theta));
    MW_TRY(rope_number(c, "rope_local_base_freq", 10000, &local.theta));
    MW_TRY(find(c, "partial_rotary_factor", true, &value));
    MW_TRY(mw_json_get_real(source(c), "partial_rotary_factor", 1, &defaults->fraction));
    local.fraction = defaults->fraction;
    MW_TRY(read_rope(part(c, full), defaults, a, &a->rope));
    return read_rope(part(c, sliding), &local, a, &a->local_rope);
}

static mw_status read_ropes(config c, mw_architecture *a) {
    rope_defaults defaults = {.original_context = (double)a->context};
    if (a->family->rope == ROPE_NONE) return MW_OK;
    if (a->family->rope == ROPE_BY_LAYER) {
        json_t *full = json_object();
        mw_status status = full ? rope_by_layer(c, &defaults, a, full) : MW_ERR_MEMORY;
        json_decref(full);
        MW_TRY(status);
    } else {
        MW_TRY(common_rope(c, &defaults, a));
    }
    a->rotary_pairs = (a->rope.width + 1) / 2;
    return MW_OK;
}

/* ---- windows ----------------------------------------------------------------------------------------- */

/* Reads whether element `i` of a list of layer types is `yes`; any other value than `no` is an error. */
static mw_status kind_of_layer(config c, const char *key, const json_t *list, size_t i, const char *yes, const char *no,
                               bool *out) {
    const json_t *value = json_array_get(list, i);
    const char *kind = json_string_value(value);
    if (kind && strcmp(kind, "attention") == 0) kind = "full_attention"; /* an older name, as transformers reads it */
    char found[MW_JSON_FOUND];
    if (kind && (strcmp(kind, yes) == 0 || strcmp(kind, no) == 0)) return *out = strcmp(kind, yes) == 0, MW_OK;
    return mw_error(MW_ERR_UNSUPPORTED, "%s: '%s': element %zu: expected \"%s\" or \"%s\", found %s", c.path, key, i,
                    no, yes, mw_json_found(value, found));
}

static mw_status wrong_layer_count(config c, const char *key, int64_t found, int64_t n_layers) {
    return mw_error(MW_ERR_FORMAT, "%s: '%s' describes %lld layers, but the model has %lld", c.path, key,
                    (long long)found, (long long)n_layers);
}

/* Reads a list with one type per layer: whether each is windowed. */
static mw_status windows_by_list(config c, const char *key, const json_t *list, const char *windowed, const char *full,
                                 int64_t n_layers, bool *out) {
    if ((int64_t)json_array_size(list) != n_layers)
        return wrong_layer_count(c, key, (int64_t)json_array_size(list), n_layers);
    for (int64_t l = 0; l < n_layers; l++) MW_TRY(kind_of_layer(c, key, list, (size_t)l, windowed, full, &out[l]));
    return MW_OK;
}

/* Reads one group of attention_types, [["global", "local"], 6], a list of types that repeats, from layer `*at` on. */
static mw_status neo_group(config c, const json_t *group, int64_t n_layers, int64_t *at, bool *out) {
    static const char key[] = "attention_types";
    const json_t *kinds = json_array_get(group, 0), *times = json_array_get(group, 1);
    char found[MW_JSON_FOUND];
    if (!json_is_array(kinds) || json_array_size(kinds) == 0 || !json_is_integer(times) ||
        json_integer_value(times) < 0 || json_integer_value(times) > MW_LAYERS_MAX)
        return mw_error(MW_ERR_FORMAT, "%s: '%s': expected [[kinds of layers], repetitions up to %d], found %s and %s",
                        c.path, key, MW_LAYERS_MAX, json_is_array(kinds) ? "a list" : "none",
                        mw_json_found(times, found));
    int64_t n = (int64_t)json_array_size(kinds), first = *at, end = first + n * json_integer_value(times);
    for (; *at < end && *at < n_layers; ++*at)
        MW_TRY(kind_of_layer(c, key, kinds, (size_t)((*at - first) % n), "local", "global", &out[*at]));
    *at = end;
    return MW_OK;
}

/* Reads GPT-Neo's attention_layers or attention_types. Default: "global" and "local" alternate, for 24 layers. */
static mw_status neo_windows(config c, int64_t n_layers, bool *out) {
    const json_t *layers, *types;
    size_t i;
    json_t *group;
    int64_t at = 0;
    MW_TRY(list(c, "attention_layers", false, &layers));
    MW_TRY(list(c, "attention_types", true, &types));
    if (layers) return windows_by_list(c, "attention_layers", layers, "local", "global", n_layers, out);
    for (int64_t l = 0; !types && l < n_layers; l++) out[l] = l % 2 == 1;
    if (!types) at = 24;
    json_array_foreach(types, i, group) MW_TRY(neo_group(c, group, n_layers, &at, out));
    return at != n_layers ? wrong_layer_count(c, "attention_types", at, n_layers) : MW_OK;
}

/* Refuses layer_types that contradict a family whose class has no such key. */
static mw_status no_layer_types(config c, int64_t n_layers, bool *out) {
    const json_t *types;
    MW_TRY(list(c, "layer_types", true, &types));
    if (!types) return MW_OK;
    MW_TRY(windows_by_list(c, "layer_types", types, "sliding_attention", "full_attention", n_layers, out));
    for (int64_t l = 0; l < n_layers; l++)
        if (out[l])
            return mw_error(MW_ERR_UNSUPPORTED,
                            "%s: 'layer_types' has layers with a window, which models of this "
                            "model_type do not have",
                            c.path);
    return MW_OK;
}

/* Reads whether each layer is windowed. `window`: width; 0: the model has none. */
static mw_status read_kinds(config c, const mw_architecture *a, int64_t window, bool *out) {
    const json_t *types = NULL, *value;
    int64_t pattern = 6, from = 28;
    mw_window_rule rule = a->family->attention.window;
    if (rule == WINDOW_PATTERN)
        MW_TRY(whole(c, &(mw_config_key){"sliding_window_pattern", 6, false}, INT32_MAX, &pattern));
    if (rule == WINDOW_FROM_MAX) {
        MW_TRY(find(c, "max_window_layers", false, &value));
        MW_TRY(mw_json_get_whole(source(c), "max_window_layers", 28, 0, INT32_MAX, &from));
    }
    if (rule != WINDOW_ALL) MW_TRY(list(c, "layer_types", true, &types));
    for (size_t i = 0; rule == WINDOW_PATTERN && i < json_array_size(types); i++) {
        const char *kind = json_string_value(json_array_get(types, i));
        if (kind && strcmp(kind, "attention") == 0) /* its rotary table would have no name */
            return mw_error(MW_ERR_UNSUPPORTED, "%s: 'layer_types': element %zu: 'attention' is not supported for %s",
                            c.path, i, a->family->model_type);
    }
    if (types) return windows_by_list(c, "layer_types", types, "sliding_attention", "full_attention", a->n_layers, out);
    for (int64_t l = 0; l < a->n_layers; l++)
        out[l] = (rule == WINDOW_ALL && window) || rule == WINDOW_LIST || (rule == WINDOW_EVEN && l % 2 == 0) ||
                 (rule == WINDOW_PATTERN && (l + 1) % pattern != 0) || (rule == WINDOW_FROM_MAX && window && l >= from);
    return MW_OK;
}

static mw_status read_windows(config c, mw_architecture *a) {
    mw_window_rule rule = a->family->attention.window;
    bool windowed[MW_LAYERS_MAX], use = true;
    int64_t window = 0;
    /* transformers makes the mask of these models' windows also if no layer has one */
    bool always = rule == WINDOW_LIST || rule == WINDOW_EVEN || rule == WINDOW_PATTERN;
    const json_t *value;
    if (rule == WINDOW_NONE || rule == WINDOW_ATTENTION_LAYERS) MW_TRY(no_layer_types(c, a->n_layers, windowed));
    if (rule == WINDOW_NONE) return MW_OK;
    if (rule == WINDOW_FROM_MAX) MW_TRY(flag(c, "use_sliding_window", false, &use));
    MW_TRY(find(c, a->family->keys.window.name, true, &value));
    if (use) MW_TRY(whole(c, &a->family->keys.window, INT64_C(1) << 40, &window));
    MW_TRY(rule == WINDOW_ATTENTION_LAYERS ? neo_windows(c, a->n_layers, windowed)
                                           : read_kinds(c, a, window, windowed));
    for (int64_t l = 0; l < a->n_layers; l++) {
        if (!window && (windowed[l] || always))
            return mw_error(MW_ERR_FORMAT, "%s: layer %lld needs a window, but the model has no %s", c.path,
                            (long long)l, a->family->keys.window.name);
        a->window[l] = windowed[l] ? window : 0;
    }
    return MW_OK;
}

/* ---- the rest ---------------------------------------------------------------------------------------- */

/* Bounds are wide, but no product of sizes overflows. */
static mw_status read_sizes(config c, mw_architecture *a) {
    const mw_config_keys *k = &a->family->keys;
    const int64_t width_max = 1 << 20;
    int64_t head_dim;
    MW_TRY(whole(c, &k->d_model, width_max, &a->d_model));
    MW_TRY(whole(c, &k->n_layers, MW_LAYERS_MAX, &a->n_layers));
    MW_TRY(whole(c, &k->heads, 1 << 16, &a->n_heads));
    MW_TRY(whole(c, &k->kv_heads, 1 << 16, &a->n_kv_heads));
    MW_TRY(whole(c, &k->head_dim, 1 << 16, &head_dim));
    if (!a->n_kv_heads) a->n_kv_heads = a->n_heads;
    bool divides = a->d_model % a->n_heads == 0;
    if (a->n_heads % a->n_kv_heads || (a->family->heads_divide && !divides) || (!head_dim && a->d_model < a->n_heads))
        return mw_error(MW_ERR_FORMAT, "%s: %lld heads with %lld key-value heads do not divide width %lld", c.path,
                        (long long)a->n_heads, (long long)a->n_kv_heads, (long long)a->d_model);
    a->head_dim = head_dim ? head_dim : a->d_model / a->n_heads;
    if (a->n_heads * a->head_dim > width_max)
        return mw_error(MW_ERR_FORMAT, "%s: %lld heads of width %lld exceed the total width of %lld", c.path,
                        (long long)a->n_heads, (long long)a->head_dim, (long long)width_max);
    MW_TRY(whole(c, &k->d_mlp, 1 << 22, &a->d_mlp));
    if (!a->d_mlp) a->d_mlp = 4 * a->d_model;
    MW_TRY(whole(c, &k->vocab, 1 << 28, &a->vocab));
    return whole(c, &k->context, INT64_C(1) << 32, &a->context);
}

/* Gemma 3's classes have soft caps that transformers 5.24 does not apply: the one of the scores, and that of the logits
 * of a multimodal model. */
static mw_status refuse_caps(config c, bool wrapped, const mw_architecture *a) {
    if (!a->family->uncapped) return MW_OK;
    const char *key = a->attention_softcap > 0          ? a->family->keys.attention_cap.name
                      : wrapped && a->final_softcap > 0 ? a->family->keys.final_cap.name
                                                        : NULL;
    return key ? mw_error(MW_ERR_UNSUPPORTED, "%s: '%s' is not supported for this model_type", c.path, key) : MW_OK;
}

static mw_status read_scales(config c, mw_architecture *a) {
    const mw_family *f = a->family;
    double scaled;
    bool scales = true;
    MW_TRY(real(c, &f->keys.eps, &a->eps));
    MW_TRY(real(c, &f->keys.query_scalar, &scaled));
    MW_TRY(real(c, &f->keys.attention_cap, &a->attention_softcap));
    MW_TRY(real(c, &f->keys.final_cap, &a->final_softcap));
    if (f->attention.scale_flags) {
        MW_TRY(flag(c, "scale_attn_weights", true, &scales));
        MW_TRY(flag(c, "scale_attn_by_inverse_layer_idx", false, &a->scale_by_layer));
    }
    if (f->attention.scale != SCALE_QUERY_SCALAR) scaled = (double)a->head_dim;
    if (!(a->eps >= 0 && a->eps < 1) || !(scaled > 0))
        return mw_error(MW_ERR_FORMAT, "%s: impossible eps or scale", c.path);
    a->attention_scale = f->attention.scale == SCALE_ONE || !scales ? 1 : 1 / sqrt(scaled);
    a->embedding_scale = f->scaled_embedding ? sqrt((double)a->d_model) : 1;
    return MW_OK;
}

/* `root`: the whole config.json, which says whether the head is tied. */
static mw_status read_flags(config root, config c, mw_architecture *a) {
    const mw_family *f = a->family;
    MW_TRY(flag(root, "tie_word_embeddings", f->tied, &a->tied));
    if (f->parallel_residual) MW_TRY(flag(c, "use_parallel_residual", true, &a->parallel));
    if (f->attention.qkv_bias == BIAS_CONFIG)
        MW_TRY(flag(c, "attention_bias", f->attention.bias_default, &a->attention_bias));
    return f->mlp.bias == BIAS_CONFIG ? flag(c, "mlp_bias", false, &a->mlp_bias) : MW_OK;
}

/* GPT-NeoX has no head_dim, but transformers computes the rotary embedding with it. */
static mw_status refuse_head_dim(config c, const mw_architecture *a) {
    const json_t *value;
    if (a->family->rope != ROPE_NEOX) return MW_OK;
    MW_TRY(find(c, "head_dim", true, &value));
    if (!value || json_is_null(value) || json_integer_value(value) == a->head_dim) return MW_OK;
    return mw_error(MW_ERR_UNSUPPORTED, "%s: 'head_dim' other than hidden_size / num_attention_heads is not supported",
                    c.path);
}

static mw_status read_all(config root, config c, mw_architecture *a) {
    MW_TRY(refuse_unsupported(root));
    MW_TRY(refuse_unsupported(c));
    MW_TRY(read_sizes(c, a));
    MW_TRY(refuse_head_dim(c, a));
    MW_TRY(read_scales(c, a));
    MW_TRY(refuse_caps(c, root.object != c.object, a));
    MW_TRY(read_flags(root, c, a));
    MW_TRY(read_activation(c, a));
    MW_TRY(read_ropes(c, a));
    return read_windows(c, a);
}

/* ---- keys that are ignored --------------------------------------------------------------------------- */

/* Keys that do not change a forward pass. */
static const char harmless[] =
    "|model_type|architectures|transformers_version|torch_dtype|dtype|_name_or_path|name_or_path|bos_token_id|"
    "eos_token_id|pad_token_id|unk_token_id|sep_token_id|cls_token_id|mask_token_id|decoder_start_token_id|"
    "initializer_range|use_cache|output_hidden_states|output_attentions|output_past|return_dict|"
    "return_dict_in_generate|id2label|label2id|num_labels|problem_type|finetuning_task|task_specific_params|"
    "attention_dropout|hidden_dropout|classifier_dropout|resid_dropout|embed_dropout|resid_pdrop|embd_pdrop|"
    "attn_pdrop|gradient_checkpointing|chunk_size_feed_forward|tie_encoder_decoder|is_decoder|is_encoder_decoder|"
    "add_cross_attention|auto_map|pretraining_tp|n_ctx|summary_type|summary_use_proj|summary_activation|"
    "summary_proj_to_labels|summary_first_dropout|reorder_and_upcast_attn|tokenizer_class|prefix|"
    "attention_chunk_size|max_length|min_length|do_sample|temperature|top_k|top_p|cache_implementation|"
    "attn_implementation|_attn_implementation|_commit_hash|tie_word_embeddings|tie_last_hidden_states|";

/* Writes the keys of config.json that the family does not have: "a, b". */
static void list_ignored(config c, mw_text *out) {
    const char *key;
    json_t *value;
    bool any = false;
    char bars[128];
    json_object_foreach((json_t *)(uintptr_t)c.object, key, value) {
        snprintf(bars, sizeof bars, "|%s|", key);
        if (json_object_get(c.seen, key) || strstr(harmless, bars)) continue;
        mw_text_addf(out, any ? ", " : "");
        mw_text_add_visible(out, key, strlen(key));
        any = true;
    }
}

static mw_status unknown_family(const char *path, const char *type) {
    mw_text known = {0};
    mw_family_list(&known);
    mw_status status = mw_error(MW_ERR_UNSUPPORTED, "%s: model_type '%s' is not supported; supported: %s", path,
                                type ? type : "(none)", known.failed ? "" : known.data);
    mw_text_free(&known);
    return status;
}

static mw_status read_config(config c, mw_architecture *out, mw_text *ignored) {
    const char *type;
    config root = c;
    MW_TRY(mw_json_get_text(source(c), "model_type", NULL, &type));
    /* transformers reads a Mistral with layer_types as a Ministral */
    if (type && strcmp(type, "mistral") == 0 && json_object_get(c.object, "layer_types")) type = "ministral";
    bool wrapped = false;
    *out = (mw_architecture){.family = type ? mw_family_find(type, &wrapped) : NULL};
    if (!out->family) return unknown_family(c.path, type);
    if (wrapped) MW_TRY(mw_json_get_object(source(c), "text_config", &c.object)); /* of a multimodal model */
    MW_TRY(read_all(root, c, out));
    if (ignored) list_ignored(c, ignored);
    return MW_OK;
}

mw_status mw_architecture_read(const char *folder, mw_architecture *out, mw_text *ignored) {
    char *path = mw_path_join(folder, "config.json");
    json_t *root = NULL, *seen = json_object();
    mw_status status = path && seen ? mw_json_load(path, &root) : MW_ERR_MEMORY;
    if (status == MW_OK) status = read_config((config){path, root, seen}, out, ignored);
    if (status == MW_OK && ignored && ignored->failed) status = MW_ERR_MEMORY;
    json_decref(root);
    json_decref(seen);
    mw_free(path);
    return status;
}
