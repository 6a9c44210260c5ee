/* Reads which layers attend within a sliding window. */
#include "model/architecture.h"

#include <string.h>

/* Reads whether element `i` of a list of layer types is `yes`; any other value than `no` is an error. */
static mw_status kind_of_layer(mw_model_config c, const char *key, const json_t *list, size_t i, const char *yes,
                               const char *no, bool *out) {
    const json_t *value = json_array_get(list, i);
    const char *kind = json_string_value(value);
    if (kind && strcmp(kind, "attention") == 0) kind = "full_attention"; /* an older name, as transformers reads it */
    char found[MW_JSON_FOUND];
    if (kind && (strcmp(kind, yes) == 0 || strcmp(kind, no) == 0)) return *out = strcmp(kind, yes) == 0, MW_OK;
    return mw_error(MW_ERR_UNSUPPORTED, "%s: '%s': element %zu: expected \"%s\" or \"%s\", found %s", c.path, key, i,
                    no, yes, mw_json_found(value, found));
}

/* Reads a list with one type per layer: whether each is windowed. */
static mw_status windows_by_list(mw_model_config c, const char *key, const json_t *list, const char *windowed,
                                 const char *full, int64_t n_layers, bool *out) {
    if ((int64_t)json_array_size(list) != n_layers)
        return mw_config_wrong_layers(c, key, (int64_t)json_array_size(list), n_layers);
    for (int64_t l = 0; l < n_layers; l++) MW_TRY(kind_of_layer(c, key, list, (size_t)l, windowed, full, &out[l]));
    return MW_OK;
}

/* Reads one group of attention_types, [["global", "local"], 6], a list of types that repeats, from layer `*at` on. */
static mw_status neo_group(mw_model_config c, const json_t *group, int64_t n_layers, int64_t *at, bool *out) {
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
static mw_status neo_windows(mw_model_config c, int64_t n_layers, bool *out) {
    const json_t *layers, *types;
    size_t i;
    json_t *group;
    int64_t at = 0;
    MW_TRY(mw_config_list(c, "attention_layers", false, &layers));
    MW_TRY(mw_config_list(c, "attention_types", true, &types));
    if (layers) return windows_by_list(c, "attention_layers", layers, "local", "global", n_layers, out);
    for (int64_t l = 0; !types && l < n_layers; l++) out[l] = l % 2 == 1;
    if (!types) at = 24;
    json_array_foreach(types, i, group) MW_TRY(neo_group(c, group, n_layers, &at, out));
    return at != n_layers ? mw_config_wrong_layers(c, "attention_types", at, n_layers) : MW_OK;
}

/* Refuses layer_types that contradict a family whose class has no such key. */
static mw_status no_layer_types(mw_model_config c, int64_t n_layers, bool *out) {
    const json_t *types;
    MW_TRY(mw_config_list(c, "layer_types", true, &types));
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

/* "attention" as a layer type of a family with a rotary table for each type: its table would have no name. */
static mw_status refuse_unnamed_types(mw_model_config c, const mw_architecture *a, const json_t *types) {
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *kind = json_string_value(json_array_get(types, i));
        if (kind && strcmp(kind, "attention") == 0)
            return mw_error(MW_ERR_UNSUPPORTED, "%s: 'layer_types': element %zu: 'attention' is not supported for %s",
                            c.path, i, a->family->model_type);
    }
    return MW_OK;
}

/* Values that rules without a list depend on. */
typedef struct window_rule {
    mw_window_rule rule;
    int64_t window;        /* 0: the model has none */
    int64_t pattern, from; /* of WINDOW_PATTERN and WINDOW_FROM_MAX */
    bool use;              /* use_sliding_window */
} window_rule;

static bool is_windowed(const window_rule *r, const mw_architecture *a, int64_t l) {
    switch (r->rule) {
    case WINDOW_ALL:
        return r->window > 0;
    case WINDOW_LIST:
        return true;
    case WINDOW_EVEN:
        return l % 2 == 0;
    case WINDOW_PATTERN:
        return (l + 1) % r->pattern != 0;
    case WINDOW_PATTERN_FIRST:
        return l % r->pattern != 0;
    case WINDOW_FROM_MAX:
        return r->window > 0 && l >= r->from;
    case WINDOW_WITHOUT_ROPE:
        return r->use && r->window > 0 && a->no_rope[l];
    case WINDOW_NONE:
    case WINDOW_ATTENTION_LAYERS:
        break;
    }
    return false;
}

/* Reads whether each layer is windowed. */
static mw_status read_kinds(mw_model_config c, const mw_architecture *a, window_rule *r, bool *out) {
    const json_t *types = NULL, *value;
    const mw_attention_spec *spec = &a->family->attention;
    r->pattern = spec->window_pattern;
    r->from = 28;
    if (r->rule == WINDOW_FROM_MAX) {
        MW_TRY(mw_config_find(c, "max_window_layers", false, &value));
        MW_TRY(mw_json_get_whole(mw_config_source(c), "max_window_layers", 28, 0, INT32_MAX, &r->from));
    }
    if (r->rule != WINDOW_ALL) MW_TRY(mw_config_list(c, "layer_types", true, &types));
    if (a->family->rope.rule == ROPE_BY_LAYER) MW_TRY(refuse_unnamed_types(c, a, types));
    if (spec->window_key) MW_TRY(mw_config_find(c, spec->window_key, true, &value));
    if (types) return windows_by_list(c, "layer_types", types, "sliding_attention", "full_attention", a->n_layers, out);
    if (spec->window_key)
        MW_TRY(mw_config_whole(c, &(mw_config_key){spec->window_key, spec->window_pattern, false}, INT32_MAX,
                               &r->pattern));
    if (spec->window_optional && !r->window)
        return mw_error(MW_ERR_FORMAT, "%s: '%s' is null, but there are no 'layer_types'", c.path,
                        a->family->keys.window.name);
    for (int64_t l = 0; l < a->n_layers; l++) out[l] = is_windowed(r, a, l);
    return MW_OK;
}

static mw_status no_window(mw_model_config c, const mw_architecture *a, int64_t layer) {
    return mw_error(MW_ERR_FORMAT, "%s: layer %lld needs a window, but the model has no %s", c.path, (long long)layer,
                    a->family->keys.window.name);
}

/* Checks layer_types where every layer has the window, or none. */
static mw_status check_layer_types(mw_model_config c, const mw_architecture *a, int64_t window) {
    bool windowed[MW_LAYERS_MAX];
    const json_t *types;
    MW_TRY(mw_config_list(c, "layer_types", true, &types));
    if (!types) return MW_OK;
    MW_TRY(windows_by_list(c, "layer_types", types, "sliding_attention", "full_attention", a->n_layers, windowed));
    for (int64_t l = 0; l < a->n_layers && !window; l++)
        if (windowed[l]) return no_window(c, a, l);
    return MW_OK;
}

/* Sets the layers without rotary embedding that the windows decide. */
static void set_ropes_by_window(mw_architecture *a, int64_t window) {
    mw_rope_layers rule = a->family->rope.layers;
    if (rule == ROPE_WINDOWED || (rule == ROPE_WINDOWED_OR_ALL && window))
        for (int64_t l = 0; l < a->n_layers; l++) a->no_rope[l] = a->window[l] == 0;
}

mw_status mw_windows_read(mw_model_config c, mw_architecture *a) {
    window_rule r = {.rule = a->family->attention.window, .use = true};
    bool windowed[MW_LAYERS_MAX];
    /* transformers makes the mask of these models' windows also if no layer has one */
    bool always = r.rule == WINDOW_LIST || r.rule == WINDOW_EVEN || r.rule == WINDOW_PATTERN_FIRST ||
                  (r.rule == WINDOW_PATTERN && !a->family->attention.window_optional);
    const json_t *value;
    if (r.rule == WINDOW_NONE || r.rule == WINDOW_ATTENTION_LAYERS) MW_TRY(no_layer_types(c, a->n_layers, windowed));
    if (r.rule == WINDOW_NONE) return MW_OK;
    if (r.rule == WINDOW_FROM_MAX || r.rule == WINDOW_WITHOUT_ROPE)
        MW_TRY(mw_config_flag(c, "use_sliding_window", false, &r.use));
    MW_TRY(mw_config_find(c, a->family->keys.window.name, true, &value));
    if (r.use || r.rule == WINDOW_WITHOUT_ROPE)
        MW_TRY(mw_config_whole(c, &a->family->keys.window, INT64_C(1) << 40, &r.window));
    if (r.rule == WINDOW_ALL) MW_TRY(check_layer_types(c, a, r.window));
    MW_TRY(r.rule == WINDOW_ATTENTION_LAYERS ? neo_windows(c, a->n_layers, windowed) : read_kinds(c, a, &r, windowed));
    for (int64_t l = 0; l < a->n_layers; l++) {
        if (!r.window && (windowed[l] || always)) return no_window(c, a, l);
        a->window[l] = windowed[l] ? r.window : 0;
    }
    set_ropes_by_window(a, r.window);
    return MW_OK;
}
