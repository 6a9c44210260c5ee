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

/* Words in known categories: {"words": {word: category}, "other": category}. */
typedef struct mw_categories {
    char **names;
    int64_t count;
    int32_t *of_token; /* [vocabulary] category of the token's text without spaces around it */
    int64_t n_tokens;
} mw_categories;
mw_status mw_categories_load(const char *path, const mw_store_tokens *tokens, mw_categories *out) MW_MUST_USE;
void mw_categories_free(mw_categories *categories);

typedef struct mw_discover_options {
    int64_t
        top_texts; /* of each latent; at most one of what a sequence holds of a document, so that a long document, which goes on
                          in other sequences, may have several */
    int64_t samples;                 /* of each latent, drawn at random from all rows on which it is active */
    int64_t around;                  /* tokens shown on each side of a row, within its sequence and document */
    int64_t neighbours;              /* latents alike, of each latent and kind */
    int64_t coactive_rows;           /* rows, drawn at random, on which latents that are active together are counted */
    int64_t seed;                    /* of what is drawn */
    mw_nan_rule nan_rule;            /* a row that is not finite is an error, or no latent is active on it */
    const mw_categories *categories; /* or NULL */
} mw_discover_options;

/* For each latent the m others, or tokens, that come first in some order; index -1: unused place. */
typedef struct mw_nearest {
    int64_t m;
    int32_t *index; /* [n, m] */
    float *value;   /* [n, m] */
} mw_nearest;

enum { MW_BINS = 64, MW_SOURCES_MAX = 64 };

/* What a pass over a store's rows finds about an SAE's n latents. It stands alone: texts and vocabulary are in it. Each
 * latent has `per` = top_texts + samples texts: rows with the largest activations first, then the samples, both by falling
 * activation. Memory: 8 (MW_BINS + sources + categories) + 32 per + 8 bytes for each token shown, a latent. */
typedef struct mw_discovery {
    int64_t n, rows, top_texts, samples, per, around;
    int64_t *count; /* [n] rows on which the latent was active */
    /* Histogram of the activations: bin b holds b w <= z < (b + 1) w, where w = 2^bin_exponent is the power of two that puts
     * the largest into the upper half of the bins. */
    int32_t *bin_exponent; /* [n] */
    int64_t *bin;          /* [n, MW_BINS] */

    /* Texts: windows of tokens around a row. Text t has tokens text_start[t] .. text_start[t + 1]. */
    int64_t *text_row;      /* [n, per] row of the store; -1: unused place */
    float *text_score;      /* [n, per] activation */
    int64_t *text_start;    /* [n per + 1] */
    int32_t *text_center;   /* [n, per] which of its tokens the row is */
    int64_t *text_document; /* [n, per] of the store: the row's own */
    int32_t *text_position; /* [n, per] of the row in its sequence */
    int32_t *text_id;       /* [tokens shown] */
    float *text_value;      /* [tokens shown] the latent's activation, 0 where it is silent */
    int64_t n_vocabulary;
    uint64_t *vocabulary_offset;
    char *vocabulary_bytes;

    int64_t n_sources; /* data files; 0 where there are more than MW_SOURCES_MAX */
    char **source;
    int64_t *source_rows; /* [n_sources] */
    int64_t *by_source;   /* [n, n_sources] active rows */

    int64_t n_categories; /* 0: none are known */
    char **category_name;
    int64_t *by_category; /* [n, n_categories] active rows by the category of their token */
    int32_t *category;    /* [n] of most top texts; -1: it has none */
    float *purity;        /* [n] its share of the top texts */
    float *precision;     /* [n] its share of the active rows */

    /* value: cosine of decoder rows (crosscoders: of all sites together). */
    mw_nearest cosine;
    /* value: Jaccard index of the rows on which both are active, among coactive_rows rows. */
    mw_nearest coactive;
    int64_t coactive_rows;
    /* Tokens, with what one unit of the latent adds to their logits where only the way through the final norm's weights and the
     * unembedding counts (nostalgebraist 2020, "logit lens"); m is 0 where the SAE does not write to the residual stream. */
    mw_nearest promoted, suppressed;
} mw_discovery;

/* Exact over all rows of the store and the same at any number of ranks: ranks take blocks, what they found is merged. All
 * but `promoted` and `suppressed`, which want a model. Collective. */
mw_status mw_discover(const mw_sae *sae, const mw_store_view *in, const mw_comm *comm,
                      const mw_discover_options *options, mw_discovery *out) MW_MUST_USE;
/* The `m` tokens of each end, by the share of latents of each rank. MW_OK and nothing done for an SAE that does not write
 * to the residual stream. Collective. */
mw_status mw_discover_logits(const mw_sae *sae, mw_model *model, const mw_comm *comm, int64_t m,
                             mw_discovery *discovery) MW_MUST_USE;
void mw_discovery_free(mw_discovery *discovery);

/* discovery.h5. `fingerprint`: of the SAE it is about; `stage`: of the settings and inputs it was made with. */
mw_status mw_discovery_save(const mw_discovery *discovery, const char *path, const char *fingerprint,
                            const char *stage) MW_MUST_USE;
/* MW_ERR_FORMAT unless everything that is looked up by it is in range. `fingerprint` may be NULL; else the caller frees it. */
mw_status mw_discovery_load(const char *path, mw_discovery *out, char **fingerprint) MW_MUST_USE;

/* Bytes of a token of the vocabulary. */
const char *mw_discovery_token(const mw_discovery *discovery, int64_t id, size_t *length);
/* The same for people to read, appended: bytes of a character that other tokens complete as <0xE2>. */
void mw_discovery_show(const mw_discovery *discovery, int64_t id, mw_text *out);
/* The piece of text that begins with shown token `i` of those before `end`, in place of `text` (may be NULL); returns where the next piece begins. A piece
 * is one token, or several that share characters: tokens that are parts of a character become the whole character where all of
 * its parts are there, else their bytes. */
int64_t mw_discovery_piece(const mw_discovery *discovery, int64_t i, int64_t end, mw_text *text);
/* Name of the category of most top texts of a latent; NULL: it has none. */
const char *mw_discovery_category(const mw_discovery *discovery, int64_t latent);
/* Text `t` in three parts, with at most `around` tokens on each side: `token` is the piece that the row's token lies in. */
mw_status mw_discovery_text(const mw_discovery *discovery, int64_t t, int64_t around, mw_text *before, mw_text *token,
                            mw_text *after) MW_MUST_USE;
/* The same on one line of a terminal, the token in brackets; replaces `line`. */
mw_status mw_discovery_line(const mw_discovery *discovery, int64_t t, int64_t around, mw_text *line) MW_MUST_USE;
/* Text of a latent's samples at `q` of `of` steps down from its largest activation, `q` from 0; -1: it has none. */
int64_t mw_discovery_quantile(const mw_discovery *discovery, int64_t latent, int64_t q, int64_t of);

/* ---- names ---------------------------------------------------------------------------------------------- */

typedef struct mw_name {
    char *name; /* NULL: none */
    char *note; /* or NULL */
    char *by;   /* who gave it: "tokens" (the commonest of its top texts), "command", or a person or program; or NULL */
    double score; /* balanced accuracy of detection; NaN: not measured */
} mw_name;

typedef struct mw_names {
    mw_name *of; /* [n] */
    int64_t n;
} mw_names;
mw_status mw_names_new(int64_t n, mw_names *out) MW_MUST_USE;
void mw_names_free(mw_names *names);
/* Copies; replaces what the latent had. Errors: MW_ERR_ARG for a latent there is none of. */
mw_status mw_names_set(mw_names *names, int64_t latent, const mw_name *name) MW_MUST_USE;
/* The commonest tokens (up to three) that the top texts peak on: a name until somebody gives a better one. */
mw_status mw_name_by_tokens(const mw_discovery *discovery, int64_t latent, mw_text *out) MW_MUST_USE;

typedef enum mw_names_format { MW_NAMES_AUTO, MW_NAMES_CSV, MW_NAMES_JSON, MW_NAMES_NEURONPEDIA } mw_names_format;
mw_status mw_names_format_parse(const char *text, mw_names_format *out) MW_MUST_USE;
/* CSV: a header line of latent,name,note,by,score, of which latent and name must be; or without one, latent,name.
 * JSON: {"42": "name"} or {"42": {"name": ..., "note": ...}}. Neuronpedia: a list, or lines, of objects with "index" and
 * "description", as its explanation exports have. AUTO: by the file's ending. An empty name takes the name
 * away. `by`: who gave those that do not say so; may be NULL. Nothing is changed unless all of the file is right. */
mw_status mw_names_load(const char *path, mw_names_format format, const char *by, mw_names *into) MW_MUST_USE;
/* Renames `folder`/names.csv, if it is there, to names-XXXXXXXX.csv, by the fingerprint of the SAE whose latents it names. */
mw_status mw_names_set_aside(const char *folder, const char *fingerprint) MW_MUST_USE;
/* Where the names of this SAE are: names.csv, or where there is none what was set aside for it. Caller frees. */
mw_status mw_names_path(const char *folder, const char *fingerprint, char **out) MW_MUST_USE;
/* AUTO: by the ending. `model` and `site` are what a Neuronpedia file has as modelId and layer. */
mw_status mw_names_save(const char *path, mw_names_format format, const mw_names *names, const char *model,
                        const char *site) MW_MUST_USE;

/* concepts.json: per active latent its name, frequency, maximum, category, top texts, texts by quantile, tokens that it
 * promotes and suppresses, and neighbours. */
mw_status mw_concepts_save(const char *path, const mw_discovery *discovery, const mw_names *names) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
