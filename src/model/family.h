/* What distinguishes one family of models from another, as data. */
#ifndef MICROW_MODEL_FAMILY_H
#define MICROW_MODEL_FAMILY_H

#include "base/json.h"
#include "microw/backend.h"

typedef enum mw_bias { BIAS_NEVER, BIAS_ALWAYS, BIAS_CONFIG /* attention_bias or mlp_bias says */ } mw_bias;

/* Names of weights, without ".weight" and ".bias"; %d is the layer. NULL: the family has no such weight. */
typedef struct mw_weight_names {
    const char *embed, *position, *final_norm, *head;
    const char *norm1, *qkv, *q, *k, *v, *o, *q_norm, *k_norm, *post_attn_norm;
    const char *norm2, *gate, *up, *down, *post_mlp_norm;
} mw_weight_names;

typedef enum mw_window_rule { /* where config.json has no layer_types */
                              WINDOW_NONE,
                              WINDOW_ALL,      /* Mistral: every layer, if sliding_window is a number */
                              WINDOW_EVEN,     /* Gemma 2 */
                              WINDOW_PATTERN,  /* Gemma 3: all but every sixth */
                              WINDOW_FROM_MAX, /* Qwen: layers from max_window_layers on, if use_sliding_window */
                              WINDOW_ATTENTION_LAYERS, /* GPT-Neo: attention_layers or attention_types */
} mw_window_rule;

typedef struct mw_family {
    const char *type;
    mw_weight_names names;
    bool rms_norm, norm_plus_one, conv1d, rotary, unscaled_attention, scaled_embedding, tied;
    mw_bias qkv_bias, o_bias, mlp_bias, head_bias;
    mw_window_rule window;
    const char *activation;            /* default */
    int64_t heads, kv_heads, head_dim; /* defaults where config.json may leave them out; 0: none */
    bool parallel_default;
    double rotary_fraction, eps;
} mw_family;

/* NULL for a family that is not in the table. */
const mw_family *mw_family_find(const char *model_type);
/* "gpt2, gpt_neox, ..." */
void mw_family_list(mw_text *out);

enum { MW_LAYERS_MAX = 1024 };

typedef struct mw_rope {
    double theta, linear_factor; /* linear_factor 1: none */
    bool llama3;
    double factor, low_freq_factor, high_freq_factor, original_context;
} mw_rope;

/* config.json understood. */
typedef struct mw_architecture {
    const mw_family *family;
    int64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_mlp, vocab, context, rotary_pairs;
    double eps, attention_scale, attention_softcap, final_softcap, embedding_scale;
    mw_activation activation;
    bool parallel, tied, attention_bias, mlp_bias;
    mw_rope rope, local_rope;
    int64_t window[MW_LAYERS_MAX]; /* 0: the layer sees all */
} mw_architecture;

mw_status mw_architecture_read(const char *folder, mw_architecture *out) MW_MUST_USE;

#endif
