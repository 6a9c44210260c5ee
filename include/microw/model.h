/* microw/model.h: runs language models from Hugging Face folders, with hooks.
 *
 *     mw_model *model = NULL;
 *     MW_TRY(mw_model_open("gpt2", "f32", backend, &model));
 *     MW_TRY(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
 *     int32_t ids[] = {464, 3290}; int64_t length = 2;
 *     mw_batch batch = {.n_seq = 1, .ids = ids, .length = &length};
 *     MW_TRY(mw_model_forward(model, &batch, NULL));        // stops after the last hooked site
 *     mw_model_free(&model);
 *
 * docs/guide/models.md lists the families (config.json "model_type"). One forward pass serves all families,
 * parameterized by a table. config.json is read as the family's configuration class in transformers 5.24 reads it, with
 * the defaults of that class; a value that changes the computation and is not implemented is refused. All functions are
 * local to the process.
 */
#ifndef MICROW_MODEL_H
#define MICROW_MODEL_H

#include "microw/hooks.h"
#include "microw/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_model mw_model;

typedef struct mw_model_info {
    const char *family; /* model_type */
    const char *folder;
    int64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_mlp, vocab, context; /* context: in tokens */
    mw_dtype dtype; /* of the weight matrices in memory */
    int64_t parameters;
    const char *ignored_keys; /* keys of config.json that models of this family do not have: "a, b"; "": none */
} mw_model_info;

/* Opens `model`: a folder, or a Hub id in the local Hugging Face cache; nothing is downloaded. `dtype` of the matrices:
 * "auto" (as stored; f16 becomes f32), "f32", "bf16", "f16". Matrices stored in that type are used in place in the
 * mapped file. `backend` is borrowed and must outlive the model; the caller frees *out. Errors: MW_ERR_CONFIG for an
 * unknown dtype, MW_ERR_IO for missing files, MW_ERR_FORMAT for malformed ones, MW_ERR_UNSUPPORTED, MW_ERR_MEMORY. */
mw_status mw_model_open(const char *model, const char *dtype, mw_backend *backend, mw_model **out) MW_MUST_USE;
/* Keeps matrices as they are stored; call it before the first pass. Otherwise the first pass that reaches a layer packs
 * its matrices into the layout that products read fastest, which takes memory beside the mapped file (which the
 * ranks of a node share). */
void mw_model_disable_packing(mw_model *model);
/* Opens a model from config.json alone: its shape and sites, without weights, so it cannot run. `parameters` is
 * computed from the shape. Ownership and errors as for mw_model_open. */
mw_status mw_model_outline(const char *model, mw_model **out) MW_MUST_USE;
/* Frees a model with its hooks and sets it to NULL; NULL is allowed. */
void mw_model_free(mw_model **model);
/* Return parts of the model, which it owns (the backend it borrows). */
const mw_model_info *mw_model_about(const mw_model *model);
mw_hooks *mw_model_hooks(mw_model *model);
mw_backend *mw_model_backend(const mw_model *model);
/* Write the SHA-256 of the weight files, and of config.json. Errors: MW_ERR_IO, MW_ERR_MEMORY. */
mw_status mw_model_hash(const mw_model *model, char out[MW_SHA256_TEXT]) MW_MUST_USE;
mw_status mw_model_config_hash(const mw_model *model, char out[MW_SHA256_TEXT]) MW_MUST_USE;
/* Writes a fast hash of both, which reads the weights once at memory bandwidth: to tell models apart, not to keep. */
#define MW_MODEL_MARK 34
mw_status mw_model_mark(const mw_model *model, char out[MW_MODEL_MARK]) MW_MUST_USE;
/* Returns the width of a site in elements, 0 for a site that the model does not have. */
int64_t mw_model_site_width(const mw_model *model, mw_site site);

/* ---- key-value cache ---------------------------------------------------------------------------------- */

/* Keys and values of every layer for `n_seq` sequences of up to `capacity` tokens, in backend memory. The caller frees
 * *out, before the backend. Error: MW_ERR_MEMORY. */
typedef struct mw_kv_cache mw_kv_cache;
mw_status mw_kv_cache_new(const mw_model *model, int64_t n_seq, int64_t capacity, mw_kv_cache **out) MW_MUST_USE;
void mw_kv_cache_free(mw_kv_cache **cache);

/* ---- forward ------------------------------------------------------------------------------------------ */

/* Concatenated sequences, without padding. With a cache, `ids` continue the cached sequences; one of length 0 is left
 * out. */
typedef struct mw_batch {
    int64_t n_seq;
    const int32_t *ids;    /* [sum of length] */
    const int64_t *length; /* [n_seq] tokens */
    mw_kv_cache *cache;    /* or NULL */
} mw_batch;

/* Runs the model over a batch and fires the hooks. `last_logits` NULL: stops after the last hooked site; else
 * [n_seq, vocab] on the host, the logits after each sequence's last token. Hooks on logits receive all rows, at most
 * MW_LOGIT_ROWS per event. MW_STOP from a hook ends the pass and is returned as MW_OK (last_logits is not written).
 * Errors: MW_ERR_ARG for an id outside the vocabulary or a sequence longer than the model's context or the cache;
 * MW_ERR_MEMORY, MW_ERR_BACKEND; and what a hook returns. */
enum { MW_LOGIT_ROWS = 512 };
mw_status mw_model_forward(mw_model *model, const mw_batch *batch, float *last_logits) MW_MUST_USE;

/* Reports where NaN or infinity comes from. Passes do not check their values, which costs nothing; a caller that finds
 * such a value calls this function. Repeats the pass (the hooks fire again; without a cache) to find the first site
 * with a nonfinite value, and searches the weights as the model uses them. `batch` NULL: searches the weights alone.
 * Always fails: MW_ERR_STATE with one message that begins with the model and `what` ("the model with the SAE") and
 * names site, column, token, position and weight; or MW_ERR_MEMORY. */
mw_status mw_model_report_nonfinite(mw_model *model, const mw_batch *batch, const char *what) MW_MUST_USE;

/* Computes what directions x [rows, d_model] of the residual stream add to the logits [rows, vocab], both on the host,
 * through the weights of the final norm and the unembedding alone: no division by the norm, no bias, no soft cap (the
 * "logit lens" of nostalgebraist 2020, for directions). Errors: MW_ERR_MEMORY, MW_ERR_BACKEND. */
mw_status mw_model_unembed(mw_model *model, const float *x, int64_t rows, float *logits) MW_MUST_USE;

/* ---- generation --------------------------------------------------------------------------------------- */

typedef struct mw_sampling {
    int64_t max_new_tokens;
    double temperature; /* 0: greedy */
    int64_t top_k;      /* 0: off */
    double top_p;       /* 1: off */
    int64_t seed;
    int32_t stop_id;         /* ends a sequence and is not returned; -1: none */
    const int32_t *stop_ids; /* [n_stop_ids] further ids that end a sequence; borrowed */
    int64_t n_stop_ids;
} mw_sampling;

/* Sets the ids that end a text: every eos_token_id of config.json and generation_config.json, as transformers stops; a
 * model without one ends at the tokenizer's (NULL is allowed). The ids belong to the model. */
void mw_model_stop_at(const mw_model *model, const mw_tokenizer *tokenizer, mw_sampling *sampling);
/* Continues each prompt. Sampling (top-k, then top-p: Holtzman et al. 2020) is a pure function of (seed, sequence,
 * step). Writes out[n_seq], each of out_length[n_seq] new ids; the caller frees each with mw_free. Stops early at the
 * model's context. Errors: MW_ERR_ARG for an empty prompt or one that leaves no room in the context, MW_ERR_STATE for
 * logits that are not finite (see mw_model_report_nonfinite), and those of mw_model_forward. */
mw_status mw_generate(mw_model *model, const mw_batch *prompts, const mw_sampling *sampling, int32_t **out,
                      int64_t *out_length) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
