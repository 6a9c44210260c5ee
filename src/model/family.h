/* Specification of a family of models: everything that distinguishes it from the others, as data. The table is in
 * family.c; architecture.h joins a row of it with a model's config.json. */
#ifndef MICROW_MODEL_FAMILY_H
#define MICROW_MODEL_FAMILY_H

#include "microw/base.h"

/* Names of tensors, without ".weight" and ".bias"; %d is the layer. NULL: the family has no such weight. */
typedef struct mw_weight_names {
    const char *embed, *position, *final_norm, *head; /* position: learned embedding of positions */
    const char *norm1, *qkv, *q, *k, *v, *o, *q_norm, *k_norm, *post_attn_norm;
    const char *norm2, *gate, *up, *down, *post_mlp_norm; /* gate: of a gated MLP */
} mw_weight_names;

typedef enum mw_norm_kind {
    NORM_LAYER,       /* LayerNorm with weight and bias */
    NORM_RMS,         /* RMSNorm: x / rms(x) * weight */
    NORM_RMS_PLUS_ONE /* Gemma: x / rms(x) * (1 + weight) */
} mw_norm_kind;

/* Whether a matrix has a bias. CONFIG: as attention_bias or mlp_bias of config.json. */
typedef enum mw_bias { BIAS_NEVER, BIAS_ALWAYS, BIAS_CONFIG } mw_bias;

typedef enum mw_qkv_layout {
    QKV_SEPARATE, /* three matrices: names q, k, v */
    QKV_COLUMNS,  /* GPT-2: one matrix, columns [q, k, v]; needs conv1d */
    QKV_PER_HEAD  /* GPT-NeoX: one matrix, rows q, k, v of each head in turn */
} mw_qkv_layout;

typedef enum mw_score_scale {
    SCALE_HEAD_DIM,     /* 1 / sqrt(head_dim) */
    SCALE_QUERY_SCALAR, /* Gemma: 1 / sqrt(query_pre_attn_scalar), which defaults to head_dim */
    SCALE_ONE           /* GPT-Neo */
} mw_score_scale;

/* Which layers attend within a sliding window, unless config.json has layer_types. */
typedef enum mw_window_rule {
    WINDOW_NONE,
    WINDOW_ALL,             /* Mistral: every layer, if sliding_window is a number */
    WINDOW_EVEN,            /* Gemma 2: layers 0, 2, 4, ... */
    WINDOW_PATTERN,         /* Gemma 3: all but every sixth (sliding_window_pattern) */
    WINDOW_FROM_MAX,        /* Qwen: layers from max_window_layers on, if use_sliding_window */
    WINDOW_ATTENTION_LAYERS /* GPT-Neo: as attention_layers or attention_types; the width is window_size */
} mw_window_rule;

typedef struct mw_attention_spec {
    mw_qkv_layout qkv;
    mw_bias qkv_bias, o_bias;
    bool bias_default; /* of attention_bias */
    /* Defaults. 0: heads are required, kv_heads = heads, head_dim = d_model / heads. */
    int64_t heads, kv_heads, head_dim;
    mw_score_scale scale;
    mw_window_rule window;
    int64_t window_default; /* width in tokens; 0: no window unless config.json gives one */
} mw_attention_spec;

typedef struct mw_mlp_spec {
    const char *activation; /* default; names: read_activation in architecture.c */
    mw_bias bias;
    bool gelu_is_tanh; /* Gemma: hidden_act "gelu", as the released models have it, is the tanh approximation */
    int64_t expansion; /* d_mlp defaults to expansion * d_model; 0: d_mlp is required */
} mw_mlp_spec;

/* Zero members are the usual case: sequential residual, separate q, k and v, no bias, no window. */
typedef struct mw_family {
    const char *model_type;   /* of config.json */
    const char *wrapper_type; /* model_type of a config.json whose "text_config" is of this family, or NULL */
    mw_weight_names names;
    mw_norm_kind norm;
    double eps;              /* default */
    double rotary_fraction;  /* default share of head_dim that is rotated; 0: no rotary embedding */
    double local_rope_theta; /* default base of a separate rotary table for windowed layers; 0: one table for all */
    bool scaled_embedding;   /* by sqrt(d_model) */
    bool tied;               /* default of tie_word_embeddings */
    bool parallel_residual;  /* attention and MLP read the same stream, unless use_parallel_residual is false */
    bool conv1d;             /* block matrices are stored [in, out]; else [out, in] */
    mw_attention_spec attention;
    mw_mlp_spec mlp;
} mw_family;

/* Returns the row for a config.json's model_type, NULL for an unknown one. `wrapped`: the type is the row's
 * wrapper_type, so that "text_config" holds the family's keys. */
const mw_family *mw_family_find(const char *model_type, bool *wrapped);
/* Appends all known types: "gpt2, gpt_neo, ...". */
void mw_family_list(mw_text *out);

#endif
