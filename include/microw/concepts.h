/* microw/concepts.h: what latents stand for, and how the model speaks when they are turned.
 *
 *     mw_latent_edit edit = {.latent = 42, .scale = 2.0};
 *     mw_steering steering = {.sae = sae, .edits = &edit, .n_edits = 1, .keep_error = true, .untouched = -1};
 *     MW_TRY(mw_steering_attach(&steering, mw_model_hooks(model), NULL));
 *     ... generate ...
 *     mw_steering_detach(&steering, mw_model_hooks(model));
 */
#ifndef MICROW_CONCEPTS_H
#define MICROW_CONCEPTS_H

#include "microw/model.h"
#include "microw/sae.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- an SAE on a model ---------------------------------------------------------------------------------- */

/* z becomes scale * z + add, also where the latent was silent (z = 0). */
typedef struct mw_latent_edit {
    int64_t latent;
    double scale, add;
} mw_latent_edit;

typedef struct mw_steering {
    const mw_sae *sae;
    const mw_latent_edit *edits;
    int64_t n_edits;
    bool keep_error;   /* x + the change in x_hat; else x becomes the edited x_hat */
    int32_t untouched; /* rows of this token stay as they are (bos, which SAEs are rarely trained on); -1: none */

    /* At work: */
    mw_hook_id hook[MW_SITES_MAX];
    int n_hooks;
    mw_codes seen; /* transcoder: of the pass's rows, until they reach the site that is rebuilt */
    float *x;
    int64_t x_capacity;
} mw_steering;

/* Hooks the SAE to its sites. An autoencoder edits the site it reads (`site`, if given, in place of its own); a transcoder
 * reads one and edits the other. A crosscoder reads sites that a pass has not reached yet, so its latents can be added
 * to but not scaled, and the error is kept: else MW_ERR_UNSUPPORTED. */
mw_status mw_steering_attach(mw_steering *steering, mw_hooks *hooks, const char *site) MW_MUST_USE;
void mw_steering_detach(mw_steering *steering, mw_hooks *hooks);

/* The controller of an autoencoder: `self` is a mw_steering. Errors: MW_ERR_ARG for a latent the SAE does not have. */
mw_status mw_steer(void *steering, const mw_hook_event *event) MW_MUST_USE;

/* Detector: `self` is a mw_code_log, which keeps the codes of every row it sees. */
typedef struct mw_code_log {
    const mw_sae *sae;
    mw_codes codes;
    int64_t rows;
} mw_code_log;
mw_status mw_observe(void *code_log, const mw_hook_event *event) MW_MUST_USE;
void mw_code_log_free(mw_code_log *log);

/* ---- discovery ------------------------------------------------------------------------------------------ */

typedef struct mw_top {
    float score; /* activation */
    int64_t row; /* of the store; -1: unused place */
} mw_top;

typedef struct mw_discovery {
    int64_t n, top_k, rows;
    int64_t *count; /* [n] rows on which the latent was active */
    mw_top *top;    /* [n, top_k], best first; at most one row of a sequence; ties: the earlier row */
    int64_t n_categories;
    int64_t *by_category; /* [n, n_categories] active rows by the category of their token; NULL without categories */
} mw_discovery;

/* Exact over all rows of the store, whatever the number of ranks: ranks take blocks, heaps are merged. Collective.
 * `category`: per vocabulary id, -1 for none; may be NULL. */
mw_status mw_discover(const mw_sae *sae, const mw_store_view *in, const mw_comm *comm, int64_t top_k,
                      const int32_t *category, int64_t n_categories, mw_discovery *out) MW_MUST_USE;
void mw_discovery_free(mw_discovery *discovery);

/* Words in known categories: {"words": {word: category}, "other": category}. */
typedef struct mw_categories {
    char **names;
    int64_t count;
    int32_t *of_token; /* [vocabulary] category of the token's text without spaces around it */
    int64_t n_tokens;
} mw_categories;
mw_status mw_categories_load(const char *path, const mw_store_tokens *tokens, mw_categories *out) MW_MUST_USE;
void mw_categories_free(mw_categories *categories);

/* The category of most top texts of a latent and its share of them (purity); -1 if the latent has none. */
int32_t mw_best_category(const mw_discovery *discovery, const mw_store_tokens *tokens, const mw_categories *categories,
                         int64_t latent, double *purity);

/* Text of the stored tokens `before` and `after` a row, within its sequence: three pieces. */
mw_status mw_context_text(const mw_store_tokens *tokens, int64_t row, int64_t around, mw_text *before, mw_text *token,
                          mw_text *after) MW_MUST_USE;

/* ---- names ---------------------------------------------------------------------------------------------- */

typedef struct mw_names {
    char **name; /* [n]; NULL: no name */
    int64_t n;
} mw_names;
mw_status mw_names_new(int64_t n, mw_names *out) MW_MUST_USE;
void mw_names_free(mw_names *names);
mw_status mw_names_set(mw_names *names, int64_t latent, const char *name) MW_MUST_USE;
/* By the file's ending: .csv with the columns latent,name (a header line may lead), or .json {"42": "name"}. */
mw_status mw_names_load(const char *path, mw_names *into) MW_MUST_USE;
mw_status mw_names_save(const char *path, const mw_names *names) MW_MUST_USE;

/* concepts.json: per active latent its name, frequency, maximum, category and top texts. */
mw_status mw_concepts_save(const char *path, const mw_discovery *discovery, const mw_store_tokens *tokens,
                           const mw_categories *categories, const mw_names *names, int64_t around) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
