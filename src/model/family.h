/* Specification of a family of models: everything that distinguishes it from the others, as data. The table is in
 * family.c; architecture.h joins a row of it with a model's config.json. */
#ifndef MICROW_MODEL_FAMILY_H
#define MICROW_MODEL_FAMILY_H

#include "microw/base.h"

/* Names of tensors, without ".weight" and ".bias"; %d is the layer. NULL: the family has no such weight. */
typedef struct mw_weight_names {
    const char *embed, *position, *embed_norm, *final_norm, *head; /* position: learned embedding of positions */
    const char *new_head;                                          /* a second name of the head */
    const char *project_in, *project_out;                          /* OPT: between the widths of embedding and model */
    const char *norm1, *qkv, *q, *k, *v, *o, *q_norm, *k_norm, *post_attn_norm;
    const char *own_norm1, *own_norm2; /* Falcon: of blocks with a norm for each half, in place of norm1 and norm2 */
    const char *norm2, *gate, *gate_up, *up, *down; /* gate: of a gated MLP; gate_up: [gate, up] in one */
    const char *xielu, *post_mlp_norm;              /* xielu: constants of the activation */
} mw_weight_names;

typedef enum mw_norm_kind { NORM_LAYER, NORM_RMS } mw_norm_kind;
typedef enum mw_norm_weight {
    WEIGHT_STORED,   /* Ba et al. 2016, Zhang & Sennrich 2019 */
    WEIGHT_PLUS_ONE, /* Gemma, Nemotron: the stored weight is less by one */
    WEIGHT_NONE      /* OLMo, nanochat */
} mw_norm_weight;

typedef struct mw_norm_spec {
    mw_norm_kind kind;
    mw_norm_weight weight;
    bool biased;
} mw_norm_spec;

/* Norms of queries and keys, of the same kind as the others. */
typedef enum mw_qk_norm {
    QK_NORM_NONE,
    QK_NORM_HEAD, /* each head by itself, one weight for all heads */
    QK_NORM_OWN,  /* each head by itself and its weight, no bias; a tensor a head for names with a second %d */
    QK_NORM_WIDTH /* all heads together */
} mw_qk_norm;

/* Whether a matrix has a bias. CONFIG: as `key` of config.json says, else as `initial`. */
typedef enum mw_bias_rule { BIAS_NEVER, BIAS_ALWAYS, BIAS_CONFIG } mw_bias_rule;
typedef struct mw_bias {
    mw_bias_rule rule;
    const char *key;
    bool initial;
} mw_bias;

/* How one matrix holds q, k and v. */
typedef enum mw_qkv_layout {
    QKV_SEPARATE, /* three matrices: names q, k, v */
    QKV_STACKED,  /* outputs q, k, v */
    QKV_GROUPED,  /* GPT-NeoX, Falcon: for each key-value head, its queries, its k and its v */
    QKV_QUARTERS  /* CodeGen: for each quarter of the heads, q, v and k */
} mw_qkv_layout;

typedef enum mw_score_scale {
    SCALE_HEAD_DIM,     /* 1 / sqrt(head_dim) */
    SCALE_QUERY_SCALAR, /* Gemma: 1 / sqrt(query_pre_attn_scalar) */
    SCALE_MULTIPLIER,   /* Granite: attention_multiplier */
    SCALE_ONE           /* GPT-Neo */
} mw_score_scale;

/* Which layers attend within a sliding window. */
typedef enum mw_window_rule {
    WINDOW_NONE,
    WINDOW_ALL,             /* Mistral: every layer, unless sliding_window is null */
    WINDOW_LIST,            /* Ministral: as layer_types, else every layer; sliding_window must be a number */
    WINDOW_EVEN,            /* Gemma 2: as layer_types, else layers 0, 2, 4, ... */
    WINDOW_PATTERN,         /* Gemma 3, OLMo 3: as layer_types, else all but the last of every `window_pattern` */
    WINDOW_PATTERN_FIRST,   /* CWM: the same, but the first of every `window_pattern` */
    WINDOW_FROM_MAX,        /* Qwen: if use_sliding_window, as layer_types, else layers from max_window_layers on */
    WINDOW_WITHOUT_ROPE,    /* SmolLM 3: as layer_types, else if use_sliding_window layers without rotary embedding */
    WINDOW_ATTENTION_LAYERS /* GPT-Neo: as attention_layers or attention_types */
} mw_window_rule;

/* Where config.json has the parameters of rotary embedding. */
typedef enum mw_rope_rule {
    ROPE_NONE,
    ROPE_COMMON,   /* rope_scaling, else rope_parameters; rope_theta, partial_rotary_factor */
    ROPE_NEOX,     /* the same with the names rotary_emb_base and rotary_pct */
    ROPE_PHI3,     /* the same, without other scalings than longrope, which has two more names */
    ROPE_BY_LAYER, /* Gemma 3, OLMo 3: one table for layers with a window, another for the rest */
    ROPE_GPTJ      /* rotary_dim; no other parameters */
} mw_rope_rule;

/* Which layers have rotary embedding. */
typedef enum mw_rope_layers {
    ROPE_ALL_LAYERS,
    ROPE_NO_ROPE_LIST,   /* SmolLM 3: as no_rope_layers, else all but the last of every no_rope_layer_interval */
    ROPE_WINDOWED,       /* Cohere 2: layers with a window */
    ROPE_WINDOWED_OR_ALL /* EXAONE 4: layers with a window; all if sliding_window is null */
} mw_rope_layers;

typedef struct mw_rope_spec {
    mw_rope_rule rule;
    mw_rope_layers layers;
    bool interleaved;      /* rotates neighbouring columns; else halves of a head */
    bool reversed;         /* nanochat: by the negative angle */
    double share;          /* default of partial_rotary_factor; 0: the class ignores it, but for scaled types */
    double theta;          /* default; 0: 10000 */
    double local_theta;    /* ROPE_BY_LAYER: default of layers with a window */
    const char *local_key; /* ROPE_BY_LAYER: key of that default, or NULL: as for the other layers */
    bool grows;            /* Ministral 3: queries at late positions grow by llama_4_scaling_beta */
    const char *table;     /* JSON: parameters where config.json has none, or NULL */
    bool alpha;            /* HunYuan: `alpha` of the type dynamic raises theta */
} mw_rope_spec;

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
    mw_config_key d_embed;                                     /* of the embedding; 0: d_model */
    mw_config_key kv_heads;                                    /* 0: as heads */
    mw_config_key head_dim;                                    /* 0: d_model / heads */
    mw_config_key d_mlp;                                       /* 0: 4 * d_model */
    mw_config_key window;                                      /* width in tokens; 0: none */
    mw_config_key eps, query_scalar, attention_cap, final_cap; /* caps: 0: none */
    mw_config_key clip;                                        /* of queries, keys and values; 0: none */
    /* Factors of the embedding, of what a block adds to the residual stream, of the scores and of the logits; without a
     * name: 1. logit_divisor: its inverse is a factor of the logits. */
    mw_config_key embedding_scale, residual_scale, attention_scale, logit_scale, logit_divisor;
    const char *activation;
} mw_config_keys;

typedef struct mw_attention_spec {
    mw_qkv_layout qkv;
    mw_bias qkv_bias, o_bias;
    mw_score_scale scale;
    bool scale_flags; /* GPT-2: scale_attn_weights and scale_attn_by_inverse_layer_idx */
    mw_window_rule window;
    const char *window_key; /* key of window_pattern, or NULL */
    int window_pattern;
    bool window_optional; /* WINDOW_PATTERN: sliding_window may be null where no layer has one */
    mw_qk_norm qk_norm;
    const char *qk_norm_key; /* flag that turns them on, or NULL: always */
    bool qk_norm_initial;    /* its default */
    bool qk_norm_after_rope;
} mw_attention_spec;

typedef struct mw_mlp_spec {
    const char *activation; /* default; names: read_activation in architecture.c */
    mw_bias bias;
    bool xielu;        /* Apertus: the class has this activation, with constants in the file */
    bool gelu_is_tanh; /* Gemma 1: "gelu", as the released models have it, is the tanh approximation */
} mw_mlp_spec;

/* ALiBi (Press et al. 2021): its slopes and their rounding. */
typedef enum mw_alibi {
    ALIBI_NONE,
    ALIBI_BLOOM,
    ALIBI_FALCON, /* as Bloom, where config.json says `alibi`: rounded to bf16, divided by sqrt(head_dim) */
    ALIBI_MPT
} mw_alibi;

/* What a class has that no other has: read by a function of its own. */
typedef enum mw_own_keys { OWN_NONE, OWN_FALCON, OWN_MPT, OWN_XGLM, OWN_OPT } mw_own_keys;

typedef enum mw_residual {
    RESIDUAL_SERIAL,
    RESIDUAL_PARALLEL, /* attention and MLP read the same stream */
    RESIDUAL_CONFIG    /* as use_parallel_residual says, else as `parallel_initial` */
} mw_residual;

/* Zero members are the usual case: serial residual, separate q, k and v, no bias, no window. */
typedef struct mw_family {
    const char *model_type;   /* of config.json */
    const char *other_type;   /* a second model_type of the same class, or NULL */
    const char *wrapper_type; /* model_type of a config.json whose "text_config" is of this family, or NULL */
    mw_weight_names names;
    mw_config_keys keys;
    mw_norm_spec norm;
    mw_rope_spec rope;
    mw_residual residual;
    bool parallel_initial;
    bool parallel_shares_norm; /* StableLM: parallel blocks have no norm2 */
    bool heads_divide;         /* the configuration class requires heads to divide d_model, also with a head_dim */
    bool uncapped;             /* transformers ignores attn_logit_softcapping of the class: a value is refused */
    bool scaled_embedding;     /* by sqrt(d_model) */
    bool normed_embedding;     /* the embedding has a norm */
    bool tied;                 /* default of tie_word_embeddings */
    bool head_bias;
    bool conv1d; /* block matrices are stored [in, out]; else [out, in] */
    mw_alibi alibi;
    mw_own_keys own;
    bool sinusoidal;     /* XGLM: positions are computed */
    int position_offset; /* OPT: position 0 is this row of the embedding of positions */
    mw_attention_spec attention;
    mw_mlp_spec mlp;
    const char *post_norm_key; /* flag, true by default: outputs have norms; or NULL: as the names say */
    const char *multi_query;   /* flag, true by default: one key-value head; else as many as heads; or NULL */
    bool one_bias;             /* InternLM 3: all matrices have a bias, or none */
    const char *only; /* JSON: keys of the class with the one value of each that is implemented, its default; or NULL */
} mw_family;

/* Returns the row for a config.json's model_type, NULL for an unknown one. `wrapped`: the type is the row's
 * wrapper_type, so that "text_config" holds the family's keys. */
const mw_family *mw_family_find(const char *model_type, bool *wrapped);
/* Returns whether the MLP has a gate. */
bool mw_family_is_gated(const mw_family *family);
/* Appends all known types: "gpt2, gpt_neo, ...". */
void mw_family_list(mw_text *out);

#endif
