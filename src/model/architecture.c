/* Reads config.json. Families spell some keys differently ("a|b"): the first spelling present is used. */
#include "model/architecture.h"
#include "base/json.h"

#include <math.h>
#include <string.h>

typedef mw_json_source config; /* config.json, or the part of it that describes the text model */

/* Reads a size from 1 to `max`. */
static mw_status size(config c, const char *keys, int64_t initial, int64_t max, int64_t *out) {
    return mw_json_get_whole(c, keys, initial, 1, max, out);
}

static config part(config c, const json_t *object) {
    return (config){c.path, object};
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
    const mw_mlp_spec *mlp = &a->family->mlp;
    const char *keys = mlp->gelu_is_tanh ? "hidden_act" : "hidden_activation|hidden_act|activation_function";
    MW_TRY(mw_json_get_text(c, keys, mlp->activation, &name));
    if (mlp->gelu_is_tanh && strcmp(name, "gelu") == 0) name = mlp->activation;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            a->activation = known[i].kind;
            return MW_OK;
        }
    return mw_error(MW_ERR_UNSUPPORTED, "%s: activation '%s' is not supported", c.path, name);
}

static mw_status read_llama3(config c, mw_rope *rope) {
    rope->llama3 = true;
    MW_TRY(mw_json_get_real(c, "factor", 8, &rope->factor));
    MW_TRY(mw_json_get_real(c, "low_freq_factor", 1, &rope->low_freq_factor));
    MW_TRY(mw_json_get_real(c, "high_freq_factor", 4, &rope->high_freq_factor));
    return mw_json_get_real(c, "original_max_position_embeddings", 8192, &rope->original_context);
}

/* Reads one table of rotary parameters, of rope_parameters or the older rope_scaling. */
static mw_status read_rope(config table, double theta, mw_rope *rope) {
    const char *type;
    *rope = (mw_rope){.linear_factor = 1};
    MW_TRY(mw_json_get_real(table, "rope_theta", theta, &rope->theta));
    MW_TRY(mw_json_get_text(table, "rope_type|type", "default", &type));
    if (strcmp(type, "linear") == 0)
        MW_TRY(mw_json_get_real(table, "factor", 1, &rope->linear_factor));
    else if (strcmp(type, "llama3") == 0)
        MW_TRY(read_llama3(table, rope));
    else if (strcmp(type, "default") != 0)
        return mw_error(MW_ERR_UNSUPPORTED, "%s: rotary scaling '%s' is not supported (default, linear, llama3 are)",
                        table.path, type);
    bool good = rope->theta > 0 && rope->linear_factor > 0 &&
                (!rope->llama3 || (rope->factor > 0 && rope->high_freq_factor > rope->low_freq_factor &&
                                   rope->low_freq_factor > 0 && rope->original_context > 0));
    return good ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: impossible rotary parameters", table.path);
}

static mw_status read_ropes(config c, mw_architecture *a) {
    const json_t *table, *full, *sliding;
    double theta, local, fraction;
    MW_TRY(mw_json_get_object(c, "rope_parameters|rope_scaling", &table));
    MW_TRY(mw_json_get_object(part(c, table), "full_attention", &full));
    MW_TRY(mw_json_get_object(part(c, table), "sliding_attention", &sliding));
    MW_TRY(mw_json_get_real(c, "rope_theta|rotary_emb_base", 10000, &theta));
    MW_TRY(mw_json_get_real(c, "rope_local_base_freq", a->family->local_rope_theta, &local));
    config global = part(c, full ? full : table);
    MW_TRY(read_rope(global, theta, &a->rope));
    /* the scaling applies to the global layers alone */
    if (a->family->local_rope_theta > 0)
        MW_TRY(read_rope(part(c, sliding), local, &a->local_rope));
    else
        a->local_rope = a->rope;
    MW_TRY(mw_json_get_real(c, "partial_rotary_factor|rotary_pct", a->family->rotary_fraction, &fraction));
    MW_TRY(mw_json_get_real(global, "partial_rotary_factor", fraction, &fraction));
    if (!(fraction >= 0 && fraction <= 1)) return mw_error(MW_ERR_FORMAT, "%s: impossible rotary fraction", c.path);
    a->rotary_pairs = a->family->rotary_fraction > 0 ? (int64_t)((double)a->head_dim * fraction) / 2 : 0;
    return MW_OK;
}

/* ---- windows ----------------------------------------------------------------------------------------- */

/* Reads whether element `i` of a list of layer types is `yes`; any other value than `no` is an error. */
static mw_status kind_of_layer(config c, const char *key, const json_t *list, size_t i, const char *yes, const char *no,
                               bool *out) {
    const json_t *value = json_array_get(list, i);
    const char *kind = json_string_value(value);
    char found[MW_JSON_FOUND];
    if (kind && (strcmp(kind, yes) == 0 || strcmp(kind, no) == 0)) return *out = strcmp(kind, yes) == 0, MW_OK;
    return mw_error(MW_ERR_UNSUPPORTED, "%s: '%s': element %zu: expected \"%s\" or \"%s\", found %s", c.path, key, i,
                    no, yes, mw_json_found(value, found));
}

static mw_status too_few_layers(config c, const char *key, int64_t found, int64_t n_layers) {
    return mw_error(MW_ERR_FORMAT, "%s: '%s' describes %lld layers, but the model has %lld", c.path, key,
                    (long long)found, (long long)n_layers);
}

/* Reads a list with one type per layer: whether each is windowed. */
static mw_status windows_by_list(config c, const char *key, const json_t *list, const char *windowed, const char *full,
                                 int64_t n_layers, bool *out) {
    if ((int64_t)json_array_size(list) < n_layers)
        return too_few_layers(c, key, (int64_t)json_array_size(list), n_layers);
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
    int64_t n = (int64_t)json_array_size(kinds), end = *at + n * json_integer_value(times);
    for (int64_t first = *at; *at < end && *at < n_layers; ++*at)
        MW_TRY(kind_of_layer(c, key, kinds, (size_t)((*at - first) % n), "local", "global", &out[*at]));
    return MW_OK;
}

/* Reads GPT-Neo's attention_layers or attention_types. Default: "global" and "local" alternate. */
static mw_status neo_windows(config c, int64_t n_layers, bool *out) {
    const json_t *layers, *types;
    size_t i;
    json_t *group;
    int64_t at = 0;
    MW_TRY(mw_json_get_list(c, "attention_layers", &layers));
    if (layers) return windows_by_list(c, "attention_layers", layers, "local", "global", n_layers, out);
    MW_TRY(mw_json_get_list(c, "attention_types", &types));
    for (int64_t l = 0; !types && l < n_layers; l++) out[l] = l % 2 == 1;
    if (!types) return MW_OK;
    json_array_foreach(types, i, group) MW_TRY(neo_group(c, group, n_layers, &at, out));
    return at < n_layers ? too_few_layers(c, "attention_types", at, n_layers) : MW_OK;
}

/* Reads whether each layer is windowed. `use`: use_sliding_window. */
static mw_status read_kinds(config c, const mw_architecture *a, bool use, bool *out) {
    const json_t *types;
    int64_t pattern = 6, from = 28;
    mw_window_rule rule = a->family->attention.window;
    MW_TRY(mw_json_get_list(c, "layer_types", &types));
    if (types) return windows_by_list(c, "layer_types", types, "sliding_attention", "full_attention", a->n_layers, out);
    if (rule == WINDOW_ATTENTION_LAYERS) return neo_windows(c, a->n_layers, out);
    if (rule == WINDOW_PATTERN)
        MW_TRY(size(c, "sliding_window_pattern|_sliding_window_pattern", 6, INT32_MAX, &pattern));
    if (rule == WINDOW_FROM_MAX) MW_TRY(mw_json_get_whole(c, "max_window_layers", 28, 0, INT32_MAX, &from));
    for (int64_t l = 0; l < a->n_layers; l++)
        out[l] = rule == WINDOW_ALL || (rule == WINDOW_EVEN && l % 2 == 0) ||
                 (rule == WINDOW_PATTERN && (l + 1) % pattern != 0) || (rule == WINDOW_FROM_MAX && use && l >= from);
    return MW_OK;
}

static mw_status read_windows(config c, mw_architecture *a) {
    mw_window_rule rule = a->family->attention.window;
    if (rule == WINDOW_NONE) return MW_OK;
    bool windowed[MW_LAYERS_MAX], use = true;
    int64_t window;
    MW_TRY(size(c, rule == WINDOW_ATTENTION_LAYERS ? "window_size" : "sliding_window",
                a->family->attention.window_default, INT64_C(1) << 40, &window));
    if (rule == WINDOW_FROM_MAX) MW_TRY(mw_json_get_flag(c, "use_sliding_window", false, &use));
    MW_TRY(read_kinds(c, a, use, windowed));
    for (int64_t l = 0; l < a->n_layers; l++) a->window[l] = windowed[l] && use ? window : 0;
    return MW_OK;
}

/* ---- the rest ---------------------------------------------------------------------------------------- */

/* Bounds are wide, but no product of sizes overflows. */
static mw_status read_sizes(config c, mw_architecture *a) {
    const mw_family *f = a->family;
    const int64_t width_max = 1 << 20;
    int64_t head_dim;
    MW_TRY(size(c, "hidden_size|n_embd", MW_JSON_NEEDED, width_max, &a->d_model));
    MW_TRY(size(c, "num_hidden_layers|n_layer|num_layers", MW_JSON_NEEDED, MW_LAYERS_MAX, &a->n_layers));
    MW_TRY(size(c, "num_attention_heads|n_head|num_heads", f->attention.heads ? f->attention.heads : MW_JSON_NEEDED,
                1 << 16, &a->n_heads));
    MW_TRY(size(c, "num_key_value_heads", f->attention.kv_heads ? f->attention.kv_heads : a->n_heads, 1 << 16,
                &a->n_kv_heads));
    MW_TRY(mw_json_get_whole(c, "head_dim", f->attention.head_dim, 1, 1 << 16, &head_dim)); /* 0: d_model / heads */
    if (a->n_heads % a->n_kv_heads || (!head_dim && a->d_model % a->n_heads))
        return mw_error(MW_ERR_FORMAT, "%s: %lld heads with %lld key-value heads do not divide width %lld", c.path,
                        (long long)a->n_heads, (long long)a->n_kv_heads, (long long)a->d_model);
    a->head_dim = head_dim ? head_dim : a->d_model / a->n_heads;
    if (a->n_heads * a->head_dim > width_max)
        return mw_error(MW_ERR_FORMAT, "%s: %lld heads of width %lld exceed the total width of %lld", c.path,
                        (long long)a->n_heads, (long long)a->head_dim, (long long)width_max);
    MW_TRY(size(c, "intermediate_size|n_inner", f->mlp.expansion ? f->mlp.expansion * a->d_model : MW_JSON_NEEDED,
                1 << 22, &a->d_mlp));
    MW_TRY(size(c, "vocab_size", MW_JSON_NEEDED, 1 << 28, &a->vocab));
    return size(c, "max_position_embeddings|n_positions", MW_JSON_NEEDED, INT64_C(1) << 32, &a->context);
}

static mw_status read_scales(config c, mw_architecture *a) {
    const mw_family *f = a->family;
    double scaled;
    bool scales;
    MW_TRY(mw_json_get_real(c, "rms_norm_eps|layer_norm_eps|layer_norm_epsilon", f->eps, &a->eps));
    MW_TRY(mw_json_get_real(c, "query_pre_attn_scalar", (double)a->head_dim, &scaled));
    MW_TRY(mw_json_get_flag(c, "scale_attn_weights", true, &scales));
    MW_TRY(mw_json_get_real(c, "attn_logit_softcapping", 0, &a->attention_softcap));
    MW_TRY(mw_json_get_real(c, "final_logit_softcapping", 0, &a->final_softcap));
    if (f->attention.scale != SCALE_QUERY_SCALAR) scaled = (double)a->head_dim;
    if (!(a->eps >= 0 && a->eps < 1) || !(scaled > 0) || !(a->attention_softcap >= 0) || !(a->final_softcap >= 0))
        return mw_error(MW_ERR_FORMAT, "%s: impossible eps, scale or soft cap", c.path);
    a->attention_scale = f->attention.scale == SCALE_ONE || !scales ? 1 : 1 / sqrt(scaled);
    a->embedding_scale = f->scaled_embedding ? sqrt((double)a->d_model) : 1;
    return MW_OK;
}

static mw_status read_flags(config c, mw_architecture *a) {
    const mw_family *f = a->family;
    bool by_layer;
    MW_TRY(mw_json_get_flag(c, "use_parallel_residual", f->parallel_residual, &a->parallel));
    a->parallel = a->parallel && f->parallel_residual;
    MW_TRY(mw_json_get_flag(c, "tie_word_embeddings", f->tied, &a->tied));
    MW_TRY(mw_json_get_flag(c, "attention_bias", f->attention.bias_default, &a->attention_bias));
    MW_TRY(mw_json_get_flag(c, "mlp_bias", false, &a->mlp_bias));
    MW_TRY(mw_json_get_flag(c, "scale_attn_by_inverse_layer_idx", false, &by_layer));
    return by_layer ? mw_error(MW_ERR_UNSUPPORTED, "%s: scale_attn_by_inverse_layer_idx is not supported", c.path)
                    : MW_OK;
}

static mw_status read_all(config c, mw_architecture *a) {
    MW_TRY(read_sizes(c, a));
    MW_TRY(read_scales(c, a));
    MW_TRY(read_flags(c, a));
    MW_TRY(read_activation(c, a));
    MW_TRY(read_ropes(c, a));
    return read_windows(c, a);
}

static mw_status unknown_family(const char *path, const char *type) {
    mw_text known = {0};
    mw_family_list(&known);
    mw_status status = mw_error(MW_ERR_UNSUPPORTED, "%s: model_type '%s' is not supported; supported: %s", path,
                                type ? type : "(none)", known.failed ? "" : known.data);
    mw_text_free(&known);
    return status;
}

static mw_status read_config(config c, mw_architecture *out) {
    const char *type;
    MW_TRY(mw_json_get_text(c, "model_type", NULL, &type));
    bool wrapped = false;
    *out = (mw_architecture){.family = type ? mw_family_find(type, &wrapped) : NULL};
    if (wrapped) MW_TRY(mw_json_get_object(c, "text_config", &c.object)); /* the text part of a multimodal model */
    return out->family ? read_all(c, out) : unknown_family(c.path, type);
}

mw_status mw_architecture_read(const char *folder, mw_architecture *out) {
    char *path = mw_path_join(folder, "config.json");
    json_t *root = NULL;
    mw_status status = path ? mw_json_load(path, &root) : MW_ERR_MEMORY;
    if (status == MW_OK) status = read_config((config){path, root}, out);
    json_decref(root);
    mw_free(path);
    return status;
}
