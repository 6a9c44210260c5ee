/* config.json -> facts. Keys have several spellings across families; the first present is used. */
#include "model/family.h"

#include <math.h>
#include <string.h>

typedef struct source {
    const char *path;
    const json_t *config;
} source;

/* First member present among `keys`, "a|b|c"; null counts as absent. */
static const json_t *first_of(const json_t *object, const char *keys) {
    char key[64];
    for (const char *p = keys; *p;) {
        size_t n = strcspn(p, "|");
        if (n < sizeof key) {
            memcpy(key, p, n);
            key[n] = '\0';
            const json_t *value = json_object_get(object, key);
            if (value && !json_is_null(value)) return value;
        }
        p += n + (p[n] == '|');
    }
    return NULL;
}

/* `initial` < 0: the key must be there. */
static mw_status whole(const source *s, const char *keys, int64_t initial, int64_t max, int64_t *out) {
    const json_t *value = first_of(s->config, keys);
    if (!value && initial >= 0) {
        *out = initial;
        return MW_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > max)
        return mw_error(MW_ERR_FORMAT, "%s: '%s': expected a whole number from 1 to %lld, found %s", s->path, keys,
                        (long long)max, value ? "something else" : "nothing");
    *out = json_integer_value(value);
    return MW_OK;
}

static double real(const json_t *object, const char *keys, double initial) {
    const json_t *value = first_of(object, keys);
    return json_is_number(value) ? json_number_value(value) : initial;
}

static mw_status read_activation(const source *s, mw_architecture *a) {
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
    const char *name = json_string_value(first_of(s->config, "hidden_activation|hidden_act|activation_function"));
    if (!name) name = a->family->activation;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            a->activation = known[i].kind;
            return MW_OK;
        }
    return mw_error(MW_ERR_UNSUPPORTED, "%s: activation '%s' is not supported", s->path, name);
}

/* One table of rotary parameters: the older rope_scaling or the newer rope_parameters. */
static mw_status read_rope(const source *s, const json_t *table, double theta, mw_rope *rope) {
    *rope = (mw_rope){.theta = real(table, "rope_theta", theta), .linear_factor = 1};
    const char *type = json_string_value(first_of(table, "rope_type|type"));
    if (!type || strcmp(type, "default") == 0) return MW_OK;
    if (strcmp(type, "linear") == 0) {
        rope->linear_factor = real(table, "factor", 1);
    } else if (strcmp(type, "llama3") == 0) {
        rope->llama3 = true;
        rope->factor = real(table, "factor", 8);
        rope->low_freq_factor = real(table, "low_freq_factor", 1);
        rope->high_freq_factor = real(table, "high_freq_factor", 4);
        rope->original_context = real(table, "original_max_position_embeddings", 8192);
    } else {
        return mw_error(MW_ERR_UNSUPPORTED, "%s: rotary scaling '%s' is not supported (default, linear, llama3 are)",
                        s->path, type);
    }
    bool good = rope->theta > 0 && rope->linear_factor > 0 &&
                (!rope->llama3 ||
                 (rope->factor > 0 && rope->high_freq_factor > rope->low_freq_factor && rope->low_freq_factor > 0));
    return good ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: impossible rotary parameters", s->path);
}

static mw_status read_ropes(const source *s, mw_architecture *a) {
    const json_t *table = first_of(s->config, "rope_parameters|rope_scaling");
    double theta = real(s->config, "rope_theta|rotary_emb_base", 10000);
    double local = real(s->config, "rope_local_base_freq", a->family->window == WINDOW_PATTERN ? 10000 : theta);
    const json_t *full = json_object_get(table, "full_attention"),
                 *sliding = json_object_get(table, "sliding_attention");
    MW_TRY(read_rope(s, full ? full : table, theta, &a->rope));
    /* Only Gemma 3 has a separate local rotary; its scaling applies to the global layers alone. */
    if (a->family->window == WINDOW_PATTERN)
        MW_TRY(read_rope(s, sliding, local, &a->local_rope));
    else
        a->local_rope = a->rope;
    double fraction = real(full ? full : table, "partial_rotary_factor",
                           real(s->config, "partial_rotary_factor|rotary_pct", a->family->rotary_fraction));
    if (!(fraction >= 0 && fraction <= 1)) return mw_error(MW_ERR_FORMAT, "%s: impossible rotary fraction", s->path);
    a->rotary_pairs = a->family->rotary ? (int64_t)((double)a->head_dim * fraction) / 2 : 0;
    return MW_OK;
}

/* attention_types is [[["global", "local"], 6]]: the list repeated. */
static bool neo_is_local(const json_t *config, int64_t layer) {
    const json_t *layers = json_object_get(config, "attention_layers");
    if (json_is_array(layers)) {
        const char *kind = json_string_value(json_array_get(layers, (size_t)layer));
        return kind && strcmp(kind, "local") == 0;
    }
    size_t i;
    json_t *group;
    json_array_foreach(json_object_get(config, "attention_types"), i, group) {
        const json_t *kinds = json_array_get(group, 0);
        int64_t n = (int64_t)json_array_size(kinds), length = n * json_integer_value(json_array_get(group, 1));
        if (n > 0 && layer < length) {
            const char *kind = json_string_value(json_array_get(kinds, (size_t)(layer % n)));
            return kind && strcmp(kind, "local") == 0;
        }
        layer -= length;
    }
    return false;
}

static bool is_windowed(const source *s, const mw_architecture *a, int64_t layer) {
    const json_t *types = json_object_get(s->config, "layer_types");
    if (json_is_array(types)) {
        const char *kind = json_string_value(json_array_get(types, (size_t)layer));
        return kind && strcmp(kind, "sliding_attention") == 0;
    }
    switch (a->family->window) {
    case WINDOW_NONE:
        return false;
    case WINDOW_ALL:
        return true;
    case WINDOW_EVEN:
        return layer % 2 == 0;
    case WINDOW_PATTERN: {
        int64_t pattern = (int64_t)real(s->config, "sliding_window_pattern|_sliding_window_pattern", 6);
        return pattern > 0 && (layer + 1) % pattern != 0;
    }
    case WINDOW_FROM_MAX:
        return mw_json_flag(s->config, "use_sliding_window", false) &&
               layer >= (int64_t)real(s->config, "max_window_layers", 28);
    case WINDOW_ATTENTION_LAYERS:
        return neo_is_local(s->config, layer);
    }
    return false;
}

static mw_status read_windows(const source *s, mw_architecture *a) {
    if (a->family->window == WINDOW_NONE) return MW_OK;
    int64_t initial = a->family->window == WINDOW_EVEN || a->family->window == WINDOW_PATTERN ? 4096
                      : a->family->window == WINDOW_ATTENTION_LAYERS                          ? 256
                                                                                              : 0;
    int64_t window;
    MW_TRY(whole(s, a->family->window == WINDOW_ATTENTION_LAYERS ? "window_size" : "sliding_window", initial,
                 INT64_C(1) << 40, &window));
    if (a->family->window == WINDOW_FROM_MAX && !mw_json_flag(s->config, "use_sliding_window", false)) window = 0;
    for (int64_t l = 0; l < a->n_layers; l++) a->window[l] = is_windowed(s, a, l) ? window : 0;
    return MW_OK;
}

static mw_status read_sizes(const source *s, mw_architecture *a) {
    const mw_family *f = a->family;
    MW_TRY(whole(s, "hidden_size|n_embd", -1, 1 << 20, &a->d_model));
    MW_TRY(whole(s, "num_hidden_layers|n_layer|num_layers", -1, MW_LAYERS_MAX, &a->n_layers));
    MW_TRY(whole(s, "num_attention_heads|n_head|num_heads", f->heads ? f->heads : -1, 1 << 16, &a->n_heads));
    MW_TRY(whole(s, "num_key_value_heads", f->kv_heads ? f->kv_heads : a->n_heads, 1 << 16, &a->n_kv_heads));
    if (a->n_heads % a->n_kv_heads || (!first_of(s->config, "head_dim") && !f->head_dim && a->d_model % a->n_heads))
        return mw_error(MW_ERR_FORMAT, "%s: %lld heads with %lld key-value heads do not divide width %lld", s->path,
                        (long long)a->n_heads, (long long)a->n_kv_heads, (long long)a->d_model);
    MW_TRY(whole(s, "head_dim", f->head_dim ? f->head_dim : a->d_model / a->n_heads, 1 << 16, &a->head_dim));
    MW_TRY(whole(s, "intermediate_size|n_inner", f->names.position ? 4 * a->d_model : -1, 1 << 22, &a->d_mlp));
    MW_TRY(whole(s, "vocab_size", -1, 1 << 28, &a->vocab));
    return whole(s, "max_position_embeddings|n_positions", -1, INT64_C(1) << 32, &a->context);
}

static mw_status read_facts(const source *s, mw_architecture *a) {
    const mw_family *f = a->family;
    a->eps = real(s->config, "rms_norm_eps|layer_norm_eps|layer_norm_epsilon", f->eps);
    double scaled = real(s->config, "query_pre_attn_scalar", (double)a->head_dim);
    if (!f->names.post_attn_norm) scaled = (double)a->head_dim;
    a->attention_scale =
        f->unscaled_attention || !mw_json_flag(s->config, "scale_attn_weights", true) ? 1 : 1 / sqrt(scaled);
    a->attention_softcap = real(s->config, "attn_logit_softcapping", 0);
    a->final_softcap = real(s->config, "final_logit_softcapping", 0);
    a->embedding_scale = f->scaled_embedding ? sqrt((double)a->d_model) : 1;
    a->parallel = mw_json_flag(s->config, "use_parallel_residual", f->parallel_default) && f->parallel_default;
    a->tied = mw_json_flag(s->config, "tie_word_embeddings", f->tied);
    a->attention_bias = mw_json_flag(s->config, "attention_bias", f->parallel_default);
    a->mlp_bias = mw_json_flag(s->config, "mlp_bias", false);
    if (mw_json_flag(s->config, "scale_attn_by_inverse_layer_idx", false))
        return mw_error(MW_ERR_UNSUPPORTED, "%s: scale_attn_by_inverse_layer_idx is not supported", s->path);
    if (!(a->eps >= 0 && a->eps < 1) || !(scaled > 0) || !(a->attention_softcap >= 0) || !(a->final_softcap >= 0))
        return mw_error(MW_ERR_FORMAT, "%s: impossible eps, scale or soft cap", s->path);
    return MW_OK;
}

static mw_status read_all(const source *s, mw_architecture *a) {
    MW_TRY(read_sizes(s, a));
    MW_TRY(read_facts(s, a));
    MW_TRY(read_activation(s, a));
    MW_TRY(read_ropes(s, a));
    return read_windows(s, a);
}

static mw_status unknown_family(const char *path, const char *type) {
    mw_text known = {0};
    mw_family_list(&known);
    mw_status status = mw_error(MW_ERR_UNSUPPORTED, "%s: model_type '%s' is not supported; these are: %s, gemma3", path,
                                type ? type : "(none)", known.failed ? "" : known.data);
    mw_text_free(&known);
    return status;
}

mw_status mw_architecture_read(const char *folder, mw_architecture *out) {
    char *path = mw_path_join(folder, "config.json");
    json_t *root = NULL;
    mw_status status = path ? mw_json_load(path, &root) : MW_ERR_MEMORY;
    if (status == MW_OK) {
        source s = {path, root};
        const char *type = mw_json_text(root, "model_type");
        if (type && strcmp(type, "gemma3") == 0) { /* the text part of a model that also sees pictures */
            s.config = json_object_get(root, "text_config");
            type = "gemma3_text";
        }
        *out = (mw_architecture){.family = type ? mw_family_find(type) : NULL};
        status = out->family ? read_all(&s, out) : unknown_family(path, type);
    }
    json_decref(root);
    mw_free(path);
    return status;
}
