/* Reads keys that only one configuration class has. */
#include "model/architecture.h"

#include <math.h>

static mw_status unsupported(mw_model_config c, const char *what) {
    return mw_error(MW_ERR_UNSUPPORTED, "%s: %s is not supported", c.path, what);
}

/* Falcon: three kinds of blocks by flags. Of the older kinds one has a single key-value head, or as many as heads. */
static mw_status read_falcon(mw_model_config c, mw_architecture *a) {
    bool renewed, one_head, parallel;
    int64_t kv_heads, norms;
    MW_TRY(mw_config_flag(c, "new_decoder_architecture", false, &renewed));
    MW_TRY(mw_config_flag(c, "multi_query", true, &one_head));
    MW_TRY(mw_config_flag(c, "parallel_attn", true, &parallel));
    MW_TRY(mw_config_flag(c, "alibi", false, &a->alibi));
    MW_TRY(mw_config_whole(c, &(mw_config_key){"num_kv_heads", 0, true}, 1 << 16, &kv_heads));
    MW_TRY(mw_config_whole(c, &(mw_config_key){"num_ln_in_parallel_attn", 0, true}, 2, &norms));
    if (!kv_heads) kv_heads = a->n_heads;
    if (renewed && !parallel) return unsupported(c, "'new_decoder_architecture' without 'parallel_attn'");
    if (!renewed && !one_head && kv_heads != a->n_heads)
        return unsupported(c, "'num_kv_heads' without 'new_decoder_architecture'");
    if (!renewed && parallel && norms == 2)
        return unsupported(c, "'num_ln_in_parallel_attn' 2 without 'new_decoder_architecture'");
    a->n_kv_heads = renewed ? kv_heads : one_head ? 1 : a->n_heads;
    a->parallel = parallel;
    a->own_norms = renewed && norms != 1;
    a->one_norm = parallel && !a->own_norms;
    a->qkv_groups = a->n_kv_heads;
    if (a->alibi) a->context = MW_UNLIMITED_CONTEXT;
    if (a->n_heads % a->n_kv_heads == 0) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: %lld key-value heads do not divide %lld heads", c.path,
                    (long long)a->n_kv_heads, (long long)a->n_heads);
}

/* MPT: members of attn_config. transformers ignores alibi, alibi_bias_max and qk_ln, which change released models. */
static mw_status read_mpt(mw_model_config c, mw_architecture *a) {
    const json_t *object;
    bool alibi, norms, prefix, documents;
    int64_t slope;
    double scale;
    MW_TRY(mw_config_object(c, "attn_config", true, &object));
    mw_model_config table = mw_config_part(c, object);
    MW_TRY(mw_config_flag(table, "alibi", true, &alibi));
    MW_TRY(mw_config_flag(table, "qk_ln", false, &norms));
    MW_TRY(mw_config_flag(table, "prefix_lm", false, &prefix));
    MW_TRY(mw_config_flag(table, "attn_uses_sequence_id", false, &documents));
    MW_TRY(mw_config_whole(table, &(mw_config_key){"alibi_bias_max", 8, false}, 1 << 20, &slope));
    MW_TRY(mw_config_real(table, &(mw_config_key){"clip_qkv", 0, true}, &a->clip));
    MW_TRY(mw_config_real(table, &(mw_config_key){"softmax_scale", 0, true}, &scale));
    if (!alibi) return unsupported(c, "MPT without ALiBi ('alibi' of 'attn_config')");
    if (slope != 8) return unsupported(c, "an 'alibi_bias_max' other than 8");
    if (norms) return unsupported(c, "'qk_ln' of 'attn_config'");
    if (prefix || documents) return unsupported(c, "'prefix_lm' or 'attn_uses_sequence_id' of 'attn_config'");
    if (scale > 0) a->attention_scale = scale;
    a->alibi = true;
    return MW_OK;
}

/* XGLM: the row of the padding token is zero in the table of positions too. */
static mw_status read_xglm(mw_model_config c, mw_architecture *a) {
    bool scaled;
    const json_t *value;
    MW_TRY(mw_config_flag(c, "scale_embedding", true, &scaled));
    MW_TRY(mw_config_find(c, "pad_token_id", true, &value));
    a->embedding_scale = scaled ? sqrt((double)a->d_model) : 1;
    a->zero_position = !value ? 1 : json_is_integer(value) ? json_integer_value(value) : -1;
    if (a->context > MW_COMPUTED_POSITIONS_MAX)
        return mw_error(MW_ERR_UNSUPPORTED, "%s: '%s': more than %d computed positions are not supported", c.path,
                        a->family->keys.context.name, MW_COMPUTED_POSITIONS_MAX);
    return a->d_model >= 4 ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: expected a width of at least 4", c.path);
}

/* OPT: where norms stand. */
static mw_status read_opt(mw_model_config c, mw_architecture *a) {
    bool first, removed;
    MW_TRY(mw_config_flag(c, "layer_norm_elementwise_affine", true, &a->norm_weights));
    MW_TRY(mw_config_flag(c, "do_layer_norm_before", true, &first));
    MW_TRY(mw_config_flag(c, "_remove_final_layer_norm", false, &removed));
    a->norms_last = !first;
    a->no_final_norm = !first || removed;
    return MW_OK;
}

mw_status mw_own_keys_read(mw_model_config c, mw_architecture *a) {
    switch (a->family->own) {
    case OWN_FALCON:
        return read_falcon(c, a);
    case OWN_MPT:
        return read_mpt(c, a);
    case OWN_XGLM:
        return read_xglm(c, a);
    case OWN_OPT:
        return read_opt(c, a);
    case OWN_NONE:
        break;
    }
    return MW_OK;
}
