/* The structures behind microw/model.h, shared by the files of this folder. */
#ifndef MICROW_MODEL_MODEL_PRIVATE_H
#define MICROW_MODEL_MODEL_PRIVATE_H

#include "microw/model.h"
#include "microw/safetensors.h"
#include "model/architecture.h"

/* A matrix W of y[out] = x[in] W + bias. `transposed`: stored [out, in]; else [in, out]. `ld`: row stride. */
typedef struct mw_weight {
    const void *data;
    mw_dtype dtype;
    int64_t in, out, ld;
    bool transposed;
    const float *bias; /* [out], or NULL */
    mw_packed *packed; /* set when a pass first reaches the layer; NULL: products read `data` */
} mw_weight;

typedef struct mw_norm {
    const float *weight,
        *bias; /* weight NULL: no norm; bias NULL: no bias. In memory the weight is never less by one. */
} mw_norm;

enum { MW_LAYER_MATRICES = 8 };

typedef struct mw_layer {
    mw_xielu xielu;
    mw_norm norm1, norm2, post_attn, post_mlp, q_norm, k_norm;
    mw_weight qkv, q, k, v, o, gate, up, down; /* data NULL: absent. qkv: of more than one group */
    /* Copies, in backend memory, of matrices that cannot be used in place in the mapped file. Freed once packed. */
    void *copy[MW_LAYER_MATRICES];
    int n_copies;
    bool packed; /* packing was tried, on the first pass that reached the layer */
} mw_layer;

/* Cosines and sines [positions, rotary_pairs, 2]. NULL: none. */
typedef struct mw_rope_tables {
    float *usual;
    float *extended; /* ROPE_LONGROPE: of sequences longer than original_context */
    float *queries;  /* of queries, where they grow with the position */
} mw_rope_tables;

/* Buffers of a pass in backend memory, for up to `rows` rows. */
typedef struct mw_workspace {
    int64_t rows;
    float *x, *h, *q, *k, *v, *qkv, *z, *out, *gate, *up;
    uint16_t *rounded; /* z or the active numbers of the MLP; NULL: products do not round rows to bf16 */
    float *logits;     /* [MW_LOGIT_ROWS, vocab] */
} mw_workspace;

struct mw_model {
    mw_architecture arch;
    mw_model_info info;
    mw_backend *backend; /* borrowed */
    mw_hooks *hooks;
    mw_safetensors *file;
    char *folder;
    mw_text ignored; /* keys of config.json */
    int32_t *stop_ids;
    int64_t n_stop_ids, stop_ids_capacity;
    void **copies; /* of vectors, and of matrices outside layers, as in mw_layer */
    int64_t n_copies, copies_capacity;
    mw_weight embed, position;
    mw_weight project_in, project_out; /* data NULL: the embedding is as wide as the model */
    mw_weight head;                    /* data NULL: the model has no logits */
    mw_norm embed_norm, final_norm;
    const float *ones; /* as wide as the widest norm: its weight where the family has none. Owned by `copies` */
    mw_layer *layers;
    mw_rope_tables rope, local_rope; /* local_rope: of layers with a window, for ROPE_BY_LAYER */
    int64_t rope_positions;
    float *key_bias; /* of ALiBi, [heads, key_bias_positions]; NULL: none */
    int64_t key_bias_positions;
    mw_workspace work;
    bool packing_disabled, head_packed;
};

struct mw_kv_cache {
    mw_backend *backend;
    int64_t n_layers, n_seq, capacity, width;
    int64_t *length; /* [n_seq] cached tokens */
    float *k, *v;    /* [n_layers, n_seq, capacity, width] in backend memory */
};

/* Finds, checks and converts all weights of the open file, matrices to `dtype`; counts info.parameters. */
mw_status mw_weights_bind(mw_model *model, mw_dtype dtype) MW_MUST_USE;
/* Returns MW_ERR_UNSUPPORTED if the model has no head. */
mw_status mw_model_need_head(const mw_model *model) MW_MUST_USE;
/* Packs the matrices of a layer, or the head, the first time; later calls return at once. */
mw_status mw_layer_pack_once(mw_model *model, int64_t layer) MW_MUST_USE;
mw_status mw_head_pack_once(mw_model *model) MW_MUST_USE;
/* Frees all layers with their packed matrices and copies, and the packed head. */
void mw_layers_free(mw_model *model);
/* Extend the rotary tables and the biases of keys to `positions`, the buffers to `rows`; contents of buffers are
 * lost. */
mw_status mw_key_bias_reserve(mw_model *model, int64_t positions) MW_MUST_USE;
mw_status mw_rope_reserve(mw_model *model, int64_t positions) MW_MUST_USE;
void mw_rope_free(mw_model *model);
/* Returns the table of a layer for sequences of `length` tokens: of keys, and of queries unless mw_rope_queries has
 * one of their own. */
const float *mw_rope_table(const mw_model *model, int64_t layer, int64_t length);
const float *mw_rope_queries(const mw_model *model); /* or NULL */
/* Returns whether keys of a sequence of `past` tokens are rotated otherwise when it has `end` tokens. */
bool mw_rope_changes(const mw_model *model, int64_t past, int64_t end);
mw_status mw_workspace_reserve(mw_model *model, int64_t rows) MW_MUST_USE;
void mw_workspace_free(mw_model *model);
/* Puts a copy of `host` [count] into backend memory in place of the table in *slot, which may be NULL; frees `host`. */
mw_status mw_table_replace(mw_backend *backend, float *host, int64_t count, float **slot) MW_MUST_USE;

/* Reads the ids that end a text from config.json and generation_config.json. */
mw_status mw_stop_ids_read(mw_model *model) MW_MUST_USE;

#endif
