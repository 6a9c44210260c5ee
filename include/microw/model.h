/* microw/model.h: language models from Hugging Face folders, run with hooks.
 *
 *     mw_model *model = NULL;
 *     MW_TRY(mw_model_open("gpt2", "f32", backend, &model));
 *     MW_TRY(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
 *     int32_t ids[] = {464, 3290}; int64_t length = 2;
 *     mw_batch batch = {.n_seq = 1, .ids = ids, .length = &length};
 *     MW_TRY(mw_model_forward(model, &batch, NULL));        // stops after the last hooked site
 *     mw_model_free(&model);
 *
 * Families (config.json "model_type"): gpt2, gpt_neox, gpt_neo, llama, mistral, qwen2, qwen3, gemma2, gemma3,
 * gemma3_text. All are one forward pass over a table of facts; a fact this code does not know is refused.
 */
#ifndef MICROW_MODEL_H
#define MICROW_MODEL_H

#include "microw/hooks.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_model mw_model;

typedef struct mw_model_info {
    const char *family;
    const char *folder;
    int64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_mlp, vocab, context;
    mw_dtype dtype; /* of the weight matrices in memory */
    int64_t parameters;
} mw_model_info;

/* `model`: a folder, or a Hub id in the local cache. `dtype`: "auto" (as stored; f16 becomes f32), "f32",
 * "bf16", "f16". Matrices stored in that type are used where they lie in the mapped file. */
mw_status mw_model_open(const char *model, const char *dtype, mw_backend *backend, mw_model **out) MW_MUST_USE;
/* Matrices stay as they are stored: nothing is laid out as products read it fastest, which is done otherwise when a pass first comes to
 * a layer, and takes memory beside the mapped file (which the ranks of a node share). To be called before a pass. */
void mw_model_disable_packing(mw_model *model);
/* From config.json alone: shape and sites, but no weights, so it cannot be run. `parameters` is counted from the shape. */
mw_status mw_model_outline(const char *model, mw_model **out) MW_MUST_USE;
void mw_model_free(mw_model **model);
const mw_model_info *mw_model_about(const mw_model *model);
mw_hooks *mw_model_hooks(mw_model *model);
mw_backend *mw_model_backend(const mw_model *model);
/* SHA-256 of the weight files; of config.json. */
mw_status mw_model_hash(const mw_model *model, char out[MW_SHA256_TEXT]) MW_MUST_USE;
mw_status mw_model_config_hash(const mw_model *model, char out[MW_SHA256_TEXT]) MW_MUST_USE;
/* Both in a fast hash, which reads the weights once at the speed of memory: to tell models apart, not to keep. */
#define MW_MODEL_MARK 34
mw_status mw_model_mark(const mw_model *model, char out[MW_MODEL_MARK]) MW_MUST_USE;
/* Width of a site, 0 where this model has no such site. */
int64_t mw_model_site_width(const mw_model *model, mw_site site);

/* ---- key-value cache ---------------------------------------------------------------------------------- */

/* Keys and values of every layer for `n_seq` sequences of up to `capacity` tokens. */
typedef struct mw_kv_cache mw_kv_cache;
mw_status mw_kv_cache_new(const mw_model *model, int64_t n_seq, int64_t capacity, mw_kv_cache **out) MW_MUST_USE;
void mw_kv_cache_free(mw_kv_cache **cache);

/* ---- forward ------------------------------------------------------------------------------------------ */

/* Sequences one after another, without padding. With a cache, `ids` continue what the cache holds; a sequence of
 * length 0 takes no part. */
typedef struct mw_batch {
    int64_t n_seq;
    const int32_t *ids;
    const int64_t *length; /* [n_seq] */
    mw_kv_cache *cache;    /* or NULL */
} mw_batch;

/* Fires the hooks. `last_logits` NULL: stops after the last hooked site; else [n_seq, vocab] on the host, logits
 * after each sequence's last token. Hooks on logits see all rows, in pieces of at most MW_LOGIT_ROWS rows.
 * MW_STOP from a hook ends the pass and is returned as MW_OK (then last_logits is not written).
 * Errors: MW_ERR_ARG for an id outside the vocabulary or a sequence longer than the model's context. */
enum { MW_LOGIT_ROWS = 512 };
mw_status mw_model_forward(mw_model *model, const mw_batch *batch, float *last_logits) MW_MUST_USE;

/* For whoever finds numbers of a pass that are not finite: makes the pass again (the hooks fire once more; without a cache) to find the first
 * site where that is so, and looks through the weights. Always fails: MW_ERR_STATE, with one message that begins with the model and `what`
 * ("the model with the SAE") and names site, column, token and place, and a weight that is not finite as the model uses it. `batch`
 * NULL: the weights alone. Nothing is checked on the way of a pass itself, so that it costs nothing. */
mw_status mw_model_report_nonfinite(mw_model *model, const mw_batch *batch, const char *what) MW_MUST_USE;

/* What directions x [rows, d_model] of the residual stream add to the logits [rows, vocab], both on the host, where only the
 * final norm's weights and the unembedding lie between: no division by the norm's length, no bias, no soft cap (the "logit
 * lens" of nostalgebraist 2020, for directions). */
mw_status mw_model_unembed(mw_model *model, const float *x, int64_t rows, float *logits) MW_MUST_USE;

/* ---- generation --------------------------------------------------------------------------------------- */

typedef struct mw_sampling {
    int64_t max_new_tokens;
    double temperature; /* 0: greedy */
    int64_t top_k;      /* 0: off */
    double top_p;       /* 1: off */
    int64_t seed;
    int32_t stop_id; /* -1: none; the stop token is not returned */
} mw_sampling;

/* Continues each prompt; sampling is a pure function of (seed, sequence, step). `out[i]` (caller frees with
 * mw_free) holds out_length[i] new ids. Stops early at the model's context. MW_ERR_ARG for a prompt that leaves no room in it,
 * MW_ERR_STATE where logits that a token is chosen from are not finite, see mw_model_report_nonfinite. */
mw_status mw_generate(mw_model *model, const mw_batch *prompts, const mw_sampling *sampling, int32_t **out,
                      int64_t *out_length) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
