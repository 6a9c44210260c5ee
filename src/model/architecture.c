/* Reads config.json as the family's configuration class in transformers 5.24 does: the same keys, the same defaults for
 * keys that are left out, and an error where the class or the model raises one. */
#include "model/architecture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- refused keys ------------------------------------------------------------------------------------ */

/* Refuses keys of all families that change the computation and are not implemented. */
static mw_status refuse_unsupported(mw_model_config c) {
    static const char *const absent[] = {"per_layer_config", "pruned_heads", "transformers_weights",
                                         "kv_sharing_modes"};
    bool bidirectional, causal;
    const json_t *value;
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        MW_TRY(mw_config_find(c, absent[i], true, &value));
        bool empty = !value || json_is_null(value) || (json_is_object(value) && json_object_size(value) == 0);
        if (!empty) return mw_error(MW_ERR_UNSUPPORTED, "%s: '%s' is not supported", c.path, absent[i]);
    }
    MW_TRY(mw_config_find(c, "use_bidirectional_attention", true, &value));
    MW_TRY(mw_json_get_flag(mw_config_source(c), "use_bidirectional_attention", false, &bidirectional));
    MW_TRY(mw_config_flag(c, "is_causal", true, &causal));
    if (!bidirectional && causal) return MW_OK;
    return mw_error(MW_ERR_UNSUPPORTED, "%s: '%s': attention to later tokens is not supported", c.path,
                    bidirectional ? "use_bidirectional_attention" : "is_causal");
}

static mw_status read_activation(mw_model_config c, mw_architecture *a) {
    static const struct {
        const char *name;
        mw_activation kind;
    } known[] = {{"gelu_new", MW_ACT_GELU_TANH},  {"gelu_pytorch_tanh", MW_ACT_GELU_TANH},
                 {"gelu_fast", MW_ACT_GELU_TANH}, {"gelu", MW_ACT_GELU_ERF},
                 {"silu", MW_ACT_SILU},           {"swish", MW_ACT_SILU},
                 {"relu", MW_ACT_RELU},           {"relu2", MW_ACT_RELU_SQUARED}};
    const char *name;
    const json_t *value;
    const mw_mlp_spec *mlp = &a->family->mlp;
    const char *key = a->family->keys.activation;
    name = mlp->activation;
    if (key) MW_TRY(mw_config_find(c, key, false, &value));
    if (key) MW_TRY(mw_json_get_text(mw_config_source(c), key, mlp->activation, &name));
    if (mlp->xielu && strcmp(name, "xielu") == 0) return a->xielu = true, MW_OK;
    if (mlp->gelu_is_tanh && strcmp(name, "gelu") == 0) name = mlp->activation;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            a->activation = known[i].kind;
            return MW_OK;
        }
    return mw_error(MW_ERR_UNSUPPORTED, "%s: activation '%s' is not supported", c.path, name);
}

/* Reads the number of key-value heads: a number, or a flag for one head. */
static mw_status read_kv_heads(mw_model_config c, mw_architecture *a) {
    const mw_family *f = a->family;
    bool one = false;
    if (f->multi_query) MW_TRY(mw_config_flag(c, f->multi_query, true, &one));
    MW_TRY(mw_config_whole(c, &f->keys.kv_heads, 1 << 16, &a->n_kv_heads));
    if (one) a->n_kv_heads = 1;
    if (!a->n_kv_heads) a->n_kv_heads = a->n_heads;
    return MW_OK;
}

/* Bounds are wide, but no product of sizes overflows. */
static mw_status read_heads(mw_model_config c, mw_architecture *a) {
    const mw_config_keys *k = &a->family->keys;
    const int64_t width_max = 1 << 20;
    int64_t head_dim;
    MW_TRY(mw_config_whole(c, &k->d_model, width_max, &a->d_model));
    MW_TRY(mw_config_whole(c, &k->n_layers, MW_LAYERS_MAX, &a->n_layers));
    MW_TRY(mw_config_whole(c, &k->heads, 1 << 16, &a->n_heads));
    MW_TRY(read_kv_heads(c, a));
    MW_TRY(mw_config_whole(c, &k->head_dim, 1 << 16, &head_dim));
    bool divides = a->d_model % a->n_heads == 0;
    if (a->n_heads % a->n_kv_heads || (a->family->heads_divide && !divides) || (!head_dim && a->d_model < a->n_heads))
        return mw_error(MW_ERR_FORMAT, "%s: %lld heads with %lld key-value heads do not divide width %lld", c.path,
                        (long long)a->n_heads, (long long)a->n_kv_heads, (long long)a->d_model);
    a->head_dim = head_dim ? head_dim : a->d_model / a->n_heads;
    if (a->n_heads * a->head_dim > width_max)
        return mw_error(MW_ERR_FORMAT, "%s: %lld heads of width %lld exceed the total width of %lld", c.path,
                        (long long)a->n_heads, (long long)a->head_dim, (long long)width_max);
    return MW_OK;
}

/* Sets how one matrix holds q, k and v. */
static mw_status set_qkv_groups(mw_model_config c, mw_architecture *a) {
    mw_qkv_layout layout = a->family->attention.qkv;
    a->qkv_groups = layout == QKV_SEPARATE ? 0 : layout == QKV_STACKED ? 1 : layout == QKV_GROUPED ? a->n_kv_heads : 4;
    if (layout != QKV_QUARTERS || a->d_model % 4 == 0) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: expected a width that 4 divides, found %lld", c.path, (long long)a->d_model);
}

static mw_status read_sizes(mw_model_config c, mw_architecture *a) {
    const mw_config_keys *k = &a->family->keys;
    MW_TRY(read_heads(c, a));
    MW_TRY(set_qkv_groups(c, a));
    MW_TRY(mw_config_whole(c, &k->d_mlp, 1 << 22, &a->d_mlp));
    if (!a->d_mlp) a->d_mlp = 4 * a->d_model;
    MW_TRY(mw_config_whole(c, &k->vocab, 1 << 28, &a->vocab));
    MW_TRY(mw_config_whole(c, &k->context, INT64_C(1) << 32, &a->context));
    MW_TRY(mw_config_whole(c, &k->d_embed, 1 << 20, &a->d_embed));
    if (!a->d_embed) a->d_embed = a->d_model;
    return MW_OK;
}

/* Gemma 3's classes have soft caps that transformers 5.24 does not apply: the one of the scores, and that of the logits
 * of a multimodal model. */
static mw_status refuse_caps(mw_model_config c, bool wrapped, const mw_architecture *a) {
    if (!a->family->uncapped) return MW_OK;
    const char *key = a->attention_softcap > 0          ? a->family->keys.attention_cap.name
                      : wrapped && a->final_softcap > 0 ? a->family->keys.final_cap.name
                                                        : NULL;
    return key ? mw_error(MW_ERR_UNSUPPORTED, "%s: '%s' is not supported for this model_type", c.path, key) : MW_OK;
}

static mw_status read_attention_scale(mw_model_config c, mw_architecture *a) {
    const mw_family *f = a->family;
    bool scales = true;
    double scalar, factor;
    MW_TRY(mw_config_real(c, &f->keys.query_scalar, &scalar));
    MW_TRY(mw_config_real(c, &f->keys.attention_scale, &factor));
    if (f->attention.scale_flags) {
        MW_TRY(mw_config_flag(c, "scale_attn_weights", true, &scales));
        MW_TRY(mw_config_flag(c, "scale_attn_by_inverse_layer_idx", false, &a->scale_by_layer));
    }
    switch (f->attention.scale) {
    case SCALE_HEAD_DIM:
        a->attention_scale = scales ? 1 / sqrt((double)a->head_dim) : 1;
        break;
    case SCALE_QUERY_SCALAR:
        a->attention_scale = 1 / sqrt(scalar);
        break;
    case SCALE_MULTIPLIER:
        a->attention_scale = factor != 0 ? factor : 1 / sqrt((double)a->head_dim); /* 0: null */
        break;
    case SCALE_ONE:
        a->attention_scale = 1;
        break;
    }
    return isfinite(a->attention_scale) ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: impossible scale of scores", c.path);
}

/* Reads a factor; a family without the key has 1. */
static mw_status read_factor(mw_model_config c, const mw_config_key *key, double *out) {
    *out = 1;
    return key->name ? mw_config_real(c, key, out) : MW_OK;
}

static mw_status read_scales(mw_model_config c, mw_architecture *a) {
    const mw_config_keys *k = &a->family->keys;
    double divisor;
    MW_TRY(mw_config_real(c, &k->eps, &a->eps));
    MW_TRY(mw_config_real(c, &k->attention_cap, &a->attention_softcap));
    MW_TRY(mw_config_real(c, &k->final_cap, &a->final_softcap));
    MW_TRY(mw_config_real(c, &k->clip, &a->clip));
    MW_TRY(read_attention_scale(c, a));
    MW_TRY(read_factor(c, &k->embedding_scale, &a->embedding_scale));
    MW_TRY(read_factor(c, &k->residual_scale, &a->residual_scale));
    MW_TRY(read_factor(c, &k->logit_scale, &a->logit_scale));
    MW_TRY(read_factor(c, &k->logit_divisor, &divisor));
    if (a->family->scaled_embedding) a->embedding_scale = sqrt((double)a->d_model);
    a->logit_scale /= divisor;
    if (a->eps >= 0 && a->eps < 1 && isfinite(a->logit_scale)) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: impossible eps or scale of logits", c.path);
}

static mw_status read_bias(mw_model_config c, const mw_bias *bias, bool *out) {
    *out = bias->rule == BIAS_ALWAYS;
    return bias->rule == BIAS_CONFIG ? mw_config_flag(c, bias->key, bias->initial, out) : MW_OK;
}

/* `root`: the whole config.json, which says whether the head is tied. */
static mw_status read_flags(mw_model_config root, mw_model_config c, mw_architecture *a) {
    const mw_family *f = a->family;
    bool wrapped = root.object != c.object; /* classes of multimodal models tie the head by default */
    MW_TRY(mw_config_flag(root, "tie_word_embeddings", wrapped || f->tied, &a->tied));
    a->parallel = f->residual == RESIDUAL_PARALLEL;
    if (f->residual == RESIDUAL_CONFIG)
        MW_TRY(mw_config_flag(c, "use_parallel_residual", f->parallel_initial, &a->parallel));
    a->one_norm = a->parallel && (!f->names.norm2 || f->parallel_shares_norm);
    a->alibi = f->alibi == ALIBI_BLOOM;
    a->output_norms = true;
    a->norm_weights = f->norm.weight != WEIGHT_NONE;
    if (f->post_norm_key) MW_TRY(mw_config_flag(c, f->post_norm_key, true, &a->output_norms));
    MW_TRY(read_bias(c, &f->attention.qkv_bias, &a->qkv_bias));
    MW_TRY(read_bias(c, &f->attention.o_bias, &a->o_bias));
    MW_TRY(read_bias(c, &f->mlp.bias, &a->mlp_bias));
    if (f->one_bias && a->qkv_bias != a->mlp_bias)
        return mw_error(MW_ERR_FORMAT, "%s: '%s' and '%s' differ", c.path, f->attention.qkv_bias.key, f->mlp.bias.key);
    a->qk_norm = f->attention.qk_norm != QK_NORM_NONE;
    return f->attention.qk_norm_key
               ? mw_config_flag(c, f->attention.qk_norm_key, f->attention.qk_norm_initial, &a->qk_norm)
               : MW_OK;
}

/* Classes without head_dim, for which transformers computes the rotary embedding with one that config.json has. */
static mw_status refuse_head_dim(mw_model_config c, const mw_architecture *a) {
    const json_t *value;
    mw_rope_rule rule = a->family->rope.rule;
    if (a->family->keys.head_dim.name || rule == ROPE_NONE || rule == ROPE_GPTJ) return MW_OK;
    MW_TRY(mw_config_find(c, "head_dim", true, &value));
    if (!value || json_is_null(value) || json_integer_value(value) == a->head_dim) return MW_OK;
    return mw_error(MW_ERR_UNSUPPORTED, "%s: 'head_dim' other than hidden_size / num_attention_heads is not supported",
                    c.path);
}

/* Refuses keys of the family's class with a value that is not implemented. */
static mw_status refuse_other_values(mw_model_config c, const mw_architecture *a) {
    json_t *only = NULL, *wanted;
    const json_t *value = NULL;
    const char *key;
    char found[MW_JSON_FOUND], expected[MW_JSON_FOUND];
    if (!a->family->only) return MW_OK;
    mw_status status = mw_json_parse("family.c", a->family->only, strlen(a->family->only), &only);
    json_object_foreach(only, key, wanted) {
        if (status == MW_OK) status = mw_config_find(c, key, true, &value);
        if (status == MW_OK && value && !json_equal(value, wanted))
            status = mw_error(MW_ERR_UNSUPPORTED, "%s: '%s': only %s is supported for this model_type, found %s",
                              c.path, key, mw_json_found(wanted, expected), mw_json_found(value, found));
    }
    json_decref(only);
    return status;
}

static mw_status read_quantization(mw_model_config c, mw_architecture *a) {
    const json_t *value;
    MW_TRY(mw_config_find(c, "quantization_config", true, &value));
    return !value || json_is_null(value) ? MW_OK : mw_quantization_read(c.path, value, &a->quantization);
}

static mw_status read_all(mw_model_config root, mw_model_config c, mw_architecture *a) {
    MW_TRY(refuse_unsupported(root));
    MW_TRY(refuse_unsupported(c));
    MW_TRY(refuse_other_values(c, a));
    MW_TRY(read_quantization(root, a));
    MW_TRY(read_quantization(c, a));
    MW_TRY(read_sizes(c, a));
    MW_TRY(refuse_head_dim(c, a));
    MW_TRY(read_scales(c, a));
    MW_TRY(refuse_caps(c, root.object != c.object, a));
    MW_TRY(read_flags(root, c, a));
    MW_TRY(mw_own_keys_read(c, a));
    MW_TRY(read_activation(c, a));
    MW_TRY(mw_ropes_read(c, a));
    return mw_windows_read(c, a);
}

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
static void list_ignored(mw_model_config c, mw_text *out) {
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

/* A multimodal model whose text_config may be of several families. */
static const char mixed_wrapper[] = "mistral3";

static mw_status unknown_family(const char *path, const char *type) {
    mw_text known = {0};
    mw_family_list(&known);
    mw_text_addf(&known, ", %s", mixed_wrapper);
    mw_status status = mw_error(MW_ERR_UNSUPPORTED, "%s: model_type '%s' is not supported; supported: %s", path,
                                type ? type : "(none)", known.failed ? "" : known.data);
    mw_text_free(&known);
    return status;
}

/* Finds the text model of a mixed_wrapper. */
static mw_status unwrap(mw_model_config *c, const char **type) {
    if (!*type || strcmp(*type, mixed_wrapper) != 0) return MW_OK;
    MW_TRY(mw_json_get_object(mw_config_source(*c), "text_config", &c->object));
    MW_TRY(mw_json_get_text(mw_config_source(*c), "model_type", NULL, type));
    return *type ? MW_OK : mw_error(MW_ERR_UNSUPPORTED, "%s: 'text_config' has no 'model_type'", c->path);
}

static mw_status read_config(mw_model_config c, mw_architecture *out, mw_text *ignored) {
    const char *type;
    mw_model_config root = c;
    MW_TRY(mw_json_get_text(mw_config_source(c), "model_type", NULL, &type));
    MW_TRY(unwrap(&c, &type));
    /* transformers reads a Mistral with layer_types as a Ministral */
    if (type && strcmp(type, "mistral") == 0 && json_object_get(c.object, "layer_types")) type = "ministral";
    bool wrapped = false;
    *out = (mw_architecture){.family = type ? mw_family_find(type, &wrapped) : NULL};
    if (!out->family) return unknown_family(c.path, type);
    if (wrapped) MW_TRY(mw_json_get_object(mw_config_source(c), "text_config", &c.object)); /* of a multimodal model */
    MW_TRY(read_all(root, c, out));
    if (ignored) list_ignored(c, ignored);
    return MW_OK;
}

mw_status mw_architecture_read(const char *folder, mw_architecture *out, mw_text *ignored) {
    char *path = mw_path_join(folder, "config.json");
    json_t *root = NULL, *seen = json_object();
    mw_status status = path && seen ? mw_json_load(path, &root) : MW_ERR_MEMORY;
    if (status == MW_OK) status = read_config((mw_model_config){path, root, seen}, out, ignored);
    if (status == MW_OK && ignored && ignored->failed) status = MW_ERR_MEMORY;
    json_decref(root);
    json_decref(seen);
    mw_free(path);
    return status;
}
