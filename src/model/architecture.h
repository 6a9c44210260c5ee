/* A model's config.json, checked and joined with the specification of its family. */
#ifndef MICROW_MODEL_ARCHITECTURE_H
#define MICROW_MODEL_ARCHITECTURE_H

#include "microw/backend.h"
#include "model/config_keys.h"
#include "model/family.h"
#include "model/quantization.h"

enum {
    MW_LAYERS_MAX = 1024,
    MW_ROPE_FACTORS_MAX = 512,
    MW_COMPUTED_POSITIONS_MAX = 1 << 16,
    MW_UNLIMITED_CONTEXT = 1 << 20
};

typedef enum mw_rope_type {
    ROPE_LINEAR,      /* also without scaling, and "dynamic", which scales beyond the context only */
    ROPE_LLAMA3,      /* Llama 3.1 */
    ROPE_YARN,        /* Peng et al. 2023, arXiv 2309.00071 */
    ROPE_LONGROPE,    /* Ding et al. 2024, arXiv 2402.13753 */
    ROPE_PROPORTIONAL /* the first pairs rotate, with the frequencies of all */
} mw_rope_type;

/* Rotary embedding (Su et al. 2021) and its scaling. */
typedef struct mw_rope {
    mw_rope_type type;
    double theta, linear_factor; /* linear_factor 1: no interpolation */
    double attention_factor;     /* of cosines and sines */
    double query_growth;         /* queries grow by 1 + query_growth ln(1 + floor(position / original_context)) */
    int64_t width;               /* of a head, as the exponents have it; an odd width rotates one more element */
    int64_t rotating;            /* ROPE_PROPORTIONAL: pairs that rotate */
    double original_context;     /* llama3, yarn, longrope: longer sequences take the long factors of longrope */
    double factor, low_freq_factor, high_freq_factor;                          /* llama3, yarn */
    double beta_fast, beta_slow;                                               /* yarn */
    bool truncate;                                                             /* yarn */
    float short_factor[MW_ROPE_FACTORS_MAX], long_factor[MW_ROPE_FACTORS_MAX]; /* longrope: by pair */
} mw_rope;

typedef struct mw_architecture {
    const mw_family *family;
    int64_t d_embed; /* width of embedding and head, which matrices project to d_model and back if it is another */
    int64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_mlp, vocab, context, rotary_pairs;
    int64_t qkv_groups; /* of a matrix that holds q, k and v; 1: all q, all k, all v; 0: three matrices */
    double eps, attention_scale, attention_softcap, final_softcap, embedding_scale; /* soft cap 0: none */
    double residual_scale, logit_scale;
    mw_activation activation;
    bool xielu;            /* in place of the activation, with constants of each layer */
    double clip;           /* of queries, keys and values; 0: none */
    int64_t zero_position; /* OWN_XGLM: row of the positions that is zero; -1: none */
    bool norm_weights;     /* norms have weights, and biases where the family has them */
    bool norms_last;       /* a block normalizes the sum of its input and an output, not the input; no final norm */
    bool no_final_norm;
    bool output_norms; /* norms of the outputs that the family's names have */
    bool one_norm;     /* attention and MLP of parallel blocks read one normalized stream */
    bool own_norms;    /* the family's own_norm1 and own_norm2 */
    bool alibi;
    bool parallel, tied, qkv_bias, o_bias, mlp_bias, qk_norm;
    bool scale_by_layer; /* scores of layer l are divided by l + 1 */
    mw_quantization quantization;
    mw_rope rope, local_rope;
    int64_t window[MW_LAYERS_MAX]; /* tokens; 0: the layer attends to all */
    bool no_rope[MW_LAYERS_MAX];   /* layers without rotary embedding */
} mw_architecture;

/* Reads `folder`/config.json. `ignored`, unless NULL: appends the keys that the family does not have, "a, b", which the
 * caller frees. MW_ERR_UNSUPPORTED for a family, activation, rotary scaling or layer type that is not
 * implemented; MW_ERR_FORMAT for missing, mistyped or impossible values. */
mw_status mw_architecture_read(const char *folder, mw_architecture *out, mw_text *ignored) MW_MUST_USE;

/* Reads the keys that only one class has: Falcon's, MPT's or XGLM's. Called after the sizes and flags. */
mw_status mw_own_keys_read(mw_model_config c, mw_architecture *a) MW_MUST_USE;
/* Steps of it. Read the parameters of rotary embedding; the layers without it by a list; the window of each layer, and
 * the layers without rotary embedding that follow from it. Errors as above. */
mw_status mw_ropes_read(mw_model_config c, mw_architecture *a) MW_MUST_USE;
mw_status mw_windows_read(mw_model_config c, mw_architecture *a) MW_MUST_USE;

#endif
