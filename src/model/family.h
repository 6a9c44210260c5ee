/* Specification of a family of models: everything that distinguishes it from the others, as data. The table is in
 * family.c; architecture.h joins a row of it with a model's config.json. */
#ifndef MICROW_MODEL_FAMILY_H
#define MICROW_MODEL_FAMILY_H

#include "microw/base.h"

/* Names of tensors, without ".weight" and ".bias"; %d is the layer. NULL: the family has no such weight. */
typedef struct mw_weight_names {
    const char *embed, *position, *final_norm, *head; /* position: learned embedding of positions */
    const char *new_head;                             /* a second name of the head */
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
    SCALE_QUERY_SCALAR, /* Gemma: 1 / sqrt(query_pre_attn_scalar) */
    SCALE_ONE           /* GPT-Neo */
} mw_score_scale;

/* Which layers attend within a sliding window. */
typedef enum mw_window_rule {
    WINDOW_NONE,
    WINDOW_ALL,             /* Mistral: every layer, unless sliding_window is null */
    WINDOW_LIST,            /* Ministral: as layer_types, else every layer; sliding_window must be a number */
    WINDOW_EVEN,            /* Gemma 2: as layer_types, else layers 0, 2, 4, ... */
    WINDOW_PATTERN,         /* Gemma 3: as layer_types, else all but every sixth (sliding_window_pattern) */
    WINDOW_FROM_MAX,        /* Qwen: if use_sliding_window, as layer_types, else layers from max_window_layers on */
    WINDOW_ATTENTION_LAYERS /* GPT-Neo: as attention_layers or attention_types */
} mw_window_rule;

/* Where config.json has the parameters of rotary embedding. */
typedef enum mw_rope_rule {
    ROPE_NONE,
    ROPE_COMMON,  /* rope_scaling, else rope_parameters; rope_theta, partial_rotary_factor */
    ROPE_NEOX,    /* the same with the names rotary_emb_base and rotary_pct */
    ROPE_BY_LAYER /* Gemma 3: one table for layers with a window, another for the rest */
} mw_rope_rule;

/* A key of the family's configuration class. `name`: "name|second name"; NULL: the class has no such key, and
 * config.json is not searched for it. `initial`: default; NaN: required. `nullable`: null is accepted and means 0. */
typedef struct mw_config_key {
    const char *name;
    double initial;
    bool nullable;
} mw_config_key;

/* Keys that the family's configuration class in transformers 5.24 has, and the defaults there. */
typedef struct mw_config_keys {
    mw_config_key d_model, n_layers, heads, vocab, context;
    mw_config_key kv_heads;                                    /* 0: as heads */
    mw_config_key head_dim;                                    /* 0: d_model / heads */
    mw_config_key d_mlp;                                       /* 0: 4 * d_model */
    mw_config_key window;                                      /* width in tokens; 0: none */
    mw_config_key eps, query_scalar, attention_cap, final_cap; /* caps: 0: none */
    const char *activation;
} mw_config_keys;

typedef struct mw_attention_spec {
    mw_qkv_layout qkv;
    mw_bias qkv_bias, o_bias;
    bool bias_default; /* of attention_bias */
    mw_score_scale scale;
    bool scale_flags; /* GPT-2: scale_attn_weights and scale_attn_by_inverse_layer_idx */
    mw_window_rule window;
} mw_attention_spec;

typedef struct mw_mlp_spec {
    const char *activation; /* default; names: read_activation in architecture.c */
    mw_bias bias;
    bool gelu_is_tanh; /* Gemma 1: "gelu", as the released models have it, is the tanh approximation */
} mw_mlp_spec;

/* Zero members are the usual case: sequential residual, separate q, k and v, no bias, no window. */
typedef struct mw_family {
    const char *model_type;   /* of config.json */
    const char *wrapper_type; /* model_type of a config.json whose "text_config" is of this family, or NULL */
    mw_weight_names names;
    mw_config_keys keys;
    mw_norm_kind norm;
    mw_rope_rule rope;
    bool heads_divide;      /* the configuration class requires heads to divide d_model, also with a head_dim */
    bool uncapped;          /* transformers ignores attn_logit_softcapping of the class: a value is refused */
    bool scaled_embedding;  /* by sqrt(d_model) */
    bool tied;              /* default of tie_word_embeddings */
    bool parallel_residual; /* attention and MLP read the same stream, unless use_parallel_residual is false */
    bool conv1d;            /* block matrices are stored [in, out]; else [out, in] */
    mw_attention_spec attention;
    mw_mlp_spec mlp;
} mw_family;

/* Returns the row for a config.json's model_type, NULL for an unknown one. `wrapped`: the type is the row's
 * wrapper_type, so that "text_config" holds the family's keys. */
const mw_family *mw_family_find(const char *model_type, bool *wrapped);
/* Appends all known types: "gpt2, gpt_neo, ...". */
void mw_family_list(mw_text *out);

#endif
