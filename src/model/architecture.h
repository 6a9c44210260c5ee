/* A model's config.json, checked and joined with the specification of its family. */
#ifndef MICROW_MODEL_ARCHITECTURE_H
#define MICROW_MODEL_ARCHITECTURE_H

#include "microw/backend.h"
#include "model/family.h"

enum { MW_LAYERS_MAX = 1024 };

/* Rotary embedding (Su et al. 2021) with linear interpolation or the scaling of Llama 3. */
typedef struct mw_rope {
    double theta, linear_factor; /* linear_factor 1: no interpolation */
    int64_t width;               /* of a head, as the exponents have it; an odd width rotates one more element */
    bool llama3;
    double factor, low_freq_factor, high_freq_factor, original_context; /* of llama3 */
} mw_rope;

typedef struct mw_architecture {
    const mw_family *family;
    int64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_mlp, vocab, context, rotary_pairs;
    double eps, attention_scale, attention_softcap, final_softcap, embedding_scale; /* soft cap 0: none */
    mw_activation activation;
    bool parallel, tied, attention_bias, mlp_bias;
    bool scale_by_layer; /* scores of layer l are divided by l + 1 */
    mw_rope rope, local_rope;
    int64_t window[MW_LAYERS_MAX]; /* tokens; 0: the layer attends to all */
} mw_architecture;

/* Reads `folder`/config.json. `ignored`, unless NULL: appends the keys that the family does not have, "a, b", which the
 * caller frees. MW_ERR_UNSUPPORTED for a family, activation, rotary scaling or layer type that is not
 * implemented; MW_ERR_FORMAT for missing, mistyped or impossible values. */
mw_status mw_architecture_read(const char *folder, mw_architecture *out, mw_text *ignored) MW_MUST_USE;

#endif
