/* What the files of the model floor share. */
#ifndef MICROW_MODEL_MODEL_PRIVATE_H
#define MICROW_MODEL_MODEL_PRIVATE_H

#include "microw/model.h"
#include "microw/safetensors.h"
#include "model/family.h"

/* y[out] = x[in] W (+ bias). `transposed`: stored [out, in]; else [in, out] with rows `ld` apart. */
typedef struct mw_weight {
    const void *data;
    mw_dtype dtype;
    int64_t in, out, ld;
    bool transposed;
    const float *bias;
    mw_packed *packed; /* what products read, once a pass has come here; or NULL */
} mw_weight;

typedef struct mw_norm {
    const float *weight, *bias; /* NULL: no such norm; no bias */
} mw_norm;

enum { MW_LAYER_MATRICES = 8 };

typedef struct mw_layer {
    mw_norm norm1, norm2, post_attn, post_mlp, q_norm, k_norm;
    mw_weight qkv, q, k, v, o, gate, up, down; /* data NULL: absent. qkv: heads interleaved (GPT-NeoX) */
    void *block[MW_LAYER_MATRICES];            /* device blocks of matrices that could not be used where they lie */
    int n_blocks;
    bool met; /* by a pass: packed where that is of use, and then the blocks are gone */
} mw_layer;

/* Buffers of a pass, for up to `rows` rows. */
typedef struct mw_workspace {
    int64_t rows;
    float *x, *h, *q, *k, *v, *qkv, *z, *out, *gate, *up;
    float *logits; /* [MW_LOGIT_ROWS, vocab] */
} mw_workspace;

struct mw_model {
    mw_architecture arch;
    mw_model_info info;
    mw_backend *backend; /* borrowed */
    mw_hooks *hooks;
    mw_safetensors *file;
    char *folder;
    void **blocks; /* device blocks of weights outside layers, and of vectors, that could not be used where they lie */
    int64_t n_blocks, blocks_capacity;
    mw_weight embed, position, head;
    mw_norm final_norm;
    mw_layer *layers;
    float *rope, *local_rope; /* [rope_positions, pairs, 2] */
    int64_t rope_positions;
    mw_workspace work;
    bool plain, head_met; /* nothing is to be packed; the head was used */
};

struct mw_kv_cache {
    mw_backend *backend;
    int64_t n_layers, n_seq, capacity, width;
    int64_t *length; /* [n_seq] tokens held */
    float *k, *v;    /* [n_layers, n_seq, capacity, width] */
};

mw_status mw_weights_bind(mw_model *model, mw_dtype dtype) MW_MUST_USE;
/* Packs a layer's matrices, or the head, when a pass first comes to them. */
mw_status mw_layer_meet(mw_model *model, int64_t layer) MW_MUST_USE;
mw_status mw_head_meet(mw_model *model) MW_MUST_USE;
void mw_layers_free(mw_model *model);
mw_status mw_rope_reserve(mw_model *model, int64_t positions) MW_MUST_USE;
mw_status mw_workspace_reserve(mw_model *model, int64_t rows) MW_MUST_USE;
void mw_workspace_free(mw_model *model);

#endif
