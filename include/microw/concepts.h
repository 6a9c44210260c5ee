/* microw/concepts.h: discovery of what latents stand for, names of latents, and steering of a model by them.
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

/* ---- steering ------------------------------------------------------------------------------------------- */

/* Replaces the latent's activation z by scale * z + add, also where the latent is silent (z = 0). */
typedef struct mw_latent_edit {
    int64_t latent;
    double scale, add;
} mw_latent_edit;

typedef struct mw_steering {
    /* Set by the caller, who keeps both alive while the steering is attached. */
    const mw_sae *sae;
    const mw_latent_edit *edits; /* [n_edits] */
    int64_t n_edits;
    bool keep_error;   /* true: x becomes x plus the change of x_hat; false: x becomes the edited x_hat */
    int32_t untouched; /* token id whose rows are not edited (bos, which SAEs are rarely trained on); -1: none */

    /* State while attached. */
    mw_hook_id hook[MW_SITES_MAX];
    int n_hooks;
    mw_codes input_codes; /* transcoder: codes of the pass's rows, for the target site */
    float *input;         /* transcoder: the rows themselves, [rows, d] */
    int64_t input_capacity;
} mw_steering;

/* Attaches the hooks of a steering. An autoencoder edits the site it reads (`site`, unless NULL, in place of the
 * SAE's); a transcoder reads its input site and edits its target. Errors: MW_ERR_ARG for a latent outside the SAE;
 * MW_ERR_UNSUPPORTED for a transcoder whose target comes before its input, and for a crosscoder, which reads sites that
 * a pass has not reached yet, with a scale other than 1 or without keep_error. After an error nothing is attached.
 * Local. */
mw_status mw_steering_attach(mw_steering *steering, mw_hooks *hooks, const char *site) MW_MUST_USE;
/* Detaches the hooks and frees the state. A second call does nothing. */
void mw_steering_detach(mw_steering *steering, mw_hooks *hooks);

/* Hook call (controller) that steers by an autoencoder: edits the event's rows x [rows, d] in place. `steering` is a
 * mw_steering. Errors: MW_ERR_ARG for a latent outside the SAE, or a site of another width than the SAE's. Local. */
mw_status mw_steer(void *steering, const mw_hook_event *event) MW_MUST_USE;

typedef struct mw_code_log {
    const mw_sae *sae; /* set by the caller */
    mw_codes codes;    /* of all rows so far, in the order of the passes */
    int64_t rows;
} mw_code_log;
/* Hook call (detector) that appends the codes of the event's rows to `code_log`, a mw_code_log. Errors: MW_ERR_ARG for
 * a site of another width than the SAE's, MW_ERR_MEMORY. Local. */
mw_status mw_observe(void *code_log, const mw_hook_event *event) MW_MUST_USE;
/* Frees the codes; the log can be used again. */
void mw_code_log_free(mw_code_log *log);

/* ---- discovery ------------------------------------------------------------------------------------------ */

typedef struct mw_categories {
    char **names; /* [count] */
    int64_t count;
    int32_t *of_token; /* [n_tokens] category of the token's text, without white space around it */
    int64_t n_tokens;  /* of the vocabulary */
} mw_categories;
/* Reads known categories of words from JSON, {"words": {word: category}, "other": category}, and assigns one to every
 * token. The caller frees *out. Errors: MW_ERR_FORMAT without "words", those of reading a JSON file. Local. */
mw_status mw_categories_load(const char *path, const mw_store_tokens *tokens, mw_categories *out) MW_MUST_USE;
void mw_categories_free(mw_categories *categories);

typedef struct mw_discover_options {
    /* Strongest rows kept for each latent. One sequence's part of a document gives at most one, so a document over
     * several sequences may give several. */
    int64_t top_texts;
    int64_t samples;                 /* rows per latent drawn at random from all rows on which it is active */
    int64_t around;                  /* tokens shown on each side of a row, within its sequence and document */
    int64_t neighbours;              /* neighbours per latent, by cosine and by coactivation each; 0: none */
    int64_t coactive_rows;           /* rows drawn at random to count coactive latents on */
    int64_t seed;                    /* of the draws */
    int64_t baseline_rows;           /* rows on which mw_discover_scores measures at most */
    mw_nan_rule nan_rule;            /* whether a row that is not finite is an error or is left out */
    const mw_categories *categories; /* or NULL */
} mw_discover_options;

/* For each of n latents the m other latents, or tokens, of largest value (`suppressed`: smallest), best first. */
typedef struct mw_nearest {
    int64_t m;
    int32_t *index; /* [n, m]; -1: unused */
    float *value;   /* [n, m] */
} mw_nearest;

enum { MW_BINS = 64, MW_SOURCES_MAX = 64 };

/* A latent as a detector of a category of tokens: it says yes on the rows on which it is active. */
typedef struct mw_category_score {
    double precision; /* share of its active rows that are of the category; 0 where it is never active */
    double recall;    /* share of the category's rows on which it is active */
    double f1;        /* harmonic mean of both */
} mw_category_score;
/* Returns the score of a detector with `hits` rows of the category among its `active` rows, of `all` such rows. */
mw_category_score mw_category_score_of(int64_t hits, int64_t active, int64_t all);
/* Returns the largest F1 that a detector can be expected to have if it does not depend on the category, which has this
 * share of the rows: that of one which is always active, 2 share / (1 + share). The precision of each is `share`. */
double mw_category_chance(double share);

/* Means over categories, each of its best latent: F1; (F1 - chance) / (1 - chance), which is 0 at chance and 1 at best;
 * how far the first SAE of the comparison leads, its F1 less this one. */
typedef enum mw_score { MW_SCORE_F1, MW_SCORE_F1_LIFT, MW_SCORE_F1_LEAD } mw_score;
enum { MW_SCORES = MW_SCORE_F1_LEAD + 1 };

/* Statistics and texts of an SAE's n latents over a store's rows. It contains its texts and vocabulary, so that neither
 * store nor tokenizer is needed to show it. Each latent has `per` = top_texts + samples texts: first the rows with the
 * largest activations, then the samples, both by falling activation. Memory in bytes, per latent:
 * 8 (MW_BINS + sources + categories) + 32 per + 8 for each token shown. */
typedef struct mw_discovery {
    int64_t n, rows, top_texts, samples, per, around;
    int64_t *count; /* [n] rows on which the latent is active */
    /* Histogram of the activations: bin b counts b w <= z < (b + 1) w. w = 2^bin_exponent is the power of two that puts
     * the largest activation into the upper half of the bins. */
    int32_t *bin_exponent; /* [n] */
    int64_t *bin;          /* [n, MW_BINS] */

    /* Texts: windows of tokens around a row. Text t has tokens text_start[t] .. text_start[t + 1]. */
    int64_t *text_row;      /* [n, per] row of the store; -1: unused */
    float *text_score;      /* [n, per] activation on the row */
    int64_t *text_start;    /* [n per + 1] */
    int32_t *text_center;   /* [n, per] index of the row's token among the text's tokens */
    int64_t *text_document; /* [n, per] document of the row, in the store */
    int32_t *text_position; /* [n, per] position of the row in its sequence */
    int32_t *text_id;       /* [tokens shown] token ids */
    float *text_value;      /* [tokens shown] the latent's activation, 0 where it is silent */
    int64_t n_vocabulary;
    uint64_t *vocabulary_offset; /* [n_vocabulary + 1] */
    char *vocabulary_bytes;

    int64_t n_sources;    /* data files; 0 where there are more than MW_SOURCES_MAX */
    char **source;        /* [n_sources] file names */
    int64_t *source_rows; /* [n_sources] */
    int64_t *by_source;   /* [n, n_sources] active rows */

    int64_t n_categories;             /* 0: no categories are known */
    char **category_name;             /* [n_categories] */
    int64_t *by_category;             /* [n, n_categories] active rows by the category of their token */
    int64_t *category_rows;           /* [n_categories] rows of each category */
    struct mw_counted_halves *halves; /* what mw_discover_scores needs of the SAE's own counts; NULL: it counts them */
    int32_t *category;                /* [n] the category that the latent detects with the largest F1; -1: none */
    float *precision, *recall, *f1;   /* [n] of this category */
    int64_t n_scored;                 /* SAEs that mw_discover_scores has measured: this one and its baselines */
    char **scored;                    /* [n_scored] their names */
    int64_t *scored_counts; /* [n_scored, 2] categories, and rows of the documents on which they are measured */
    float *scored_f1;       /* [n_scored, n_categories] of the best latent; NaN: not measured */
    float *score;           /* [n_scored, MW_SCORES, 3] mean, and both ends of its 95 % interval */

    mw_nearest cosine;     /* latents; value: cosine of decoder rows (crosscoders: over all sites) */
    mw_nearest coactive;   /* latents; value: Jaccard index of the active rows, among coactive_rows rows */
    int64_t coactive_rows; /* rows that were counted */
    /* Tokens; value: what one unit of the latent adds to the token's logit, less the mean over the vocabulary, on the
     * direct path through the final norm's weights and the unembedding (nostalgebraist 2020, "logit lens"). m is 0 for
     * an SAE that does not write to the residual stream. */
    mw_nearest promoted, suppressed;
} mw_discovery;

/* Computes a discovery over all rows of a store, except `promoted` and `suppressed`, which need a model. Exact, and the
 * same at any number of ranks: each rank reads a share of the blocks, then the ranks merge their results. The caller
 * frees *out. Errors: MW_ERR_CONFIG for options out of range or an SAE of another width than the site,
 * MW_ERR_UNSUPPORTED for more latents, texts or rows than discovery.h5 can hold, MW_ERR_STATE for rows that are not
 * finite. Collective. */
mw_status mw_discover(const mw_sae *sae, const mw_store_view *in, const mw_comm *comm,
                      const mw_discover_options *options, mw_discovery *out) MW_MUST_USE;
/* Fills `promoted` and `suppressed` with `m` tokens for each latent; each rank projects a share of the latents. Does
 * nothing for an SAE that does not write to the residual stream. Errors: MW_ERR_STATE for logits that are not finite.
 * Collective. */
mw_status mw_discover_logits(const mw_sae *sae, mw_model *model, const mw_comm *comm, int64_t m,
                             mw_discovery *discovery) MW_MUST_USE;
/* Measures how well single latents of n SAEs detect the categories, and sets the scores of `discovery`, which has none
 * yet. The rows are those of whole documents from the first on, at most options->baseline_rows (but two documents). The
 * best latent of each category is chosen by F1 on documents of even number and measured on those of odd number, so that
 * the choice among many latents does not raise the score; a store of one document is divided by sequences. The
 * intervals are by a bootstrap over categories. Exact, and the same at any number of ranks. Errors: as mw_discover;
 * MW_ERR_ARG without categories. Collective. */
mw_status mw_discover_scores(const mw_sae *const *saes, const char *const *names, int64_t n, const mw_store_view *in,
                             const mw_comm *comm, const mw_discover_options *options,
                             mw_discovery *discovery) MW_MUST_USE;
/* Returns the latent with the largest F1 as a detector of a category, over all rows, and sets *score to its score; -1:
 * no latent is active on rows of the category. */
int64_t mw_discovery_best(const mw_discovery *discovery, int64_t category, mw_category_score *score);
void mw_discovery_free(mw_discovery *discovery);

/* Writes discovery.h5 atomically. `fingerprint`: of the SAE; `stage`: of the settings and inputs. Local. */
mw_status mw_discovery_save(const mw_discovery *discovery, const char *path, const char *fingerprint,
                            const char *stage) MW_MUST_USE;
/* Reads discovery.h5; categories of files that have no F1 are left out. The caller frees *out and *fingerprint, which
 * may be NULL. Errors: MW_ERR_FORMAT for a file of another kind or version, sizes out of range, or an index in it that
 * is out of range. Local. */
mw_status mw_discovery_load(const char *path, mw_discovery *out, char **fingerprint) MW_MUST_USE;

/* Returns the bytes of a token of the vocabulary, `*length` of them, without a terminating zero. They belong to the
 * discovery. `id` must be in 0 .. n_vocabulary - 1. */
const char *mw_discovery_token(const mw_discovery *discovery, int64_t id, size_t *length);
/* Appends a token's text as UTF-8; bytes that are not a whole character are written as <0xE2>. */
void mw_discovery_show(const mw_discovery *discovery, int64_t id, mw_text *out);
/* Sets `text` (may be NULL) to the piece of text that begins with shown token `i`, and returns the index of the next
 * piece, at most `end`. A piece is one token, or several that share characters: a character that tokens before `end`
 * complete is written whole, other parts of characters as bytes. */
int64_t mw_discovery_piece(const mw_discovery *discovery, int64_t i, int64_t end, mw_text *text);
/* Returns the name of the category that a latent detects best, which belongs to the discovery; NULL: none. */
const char *mw_discovery_category(const mw_discovery *discovery, int64_t latent);
/* Sets `before`, `token` and `after` to the parts of text `t`, with at most `around` tokens on each side; `token` is
 * the piece that contains the row's token. Errors: MW_ERR_ARG for a text that is out of range or unused. */
mw_status mw_discovery_text(const mw_discovery *discovery, int64_t t, int64_t around, mw_text *before, mw_text *token,
                            mw_text *after) MW_MUST_USE;
/* Sets `line` to text `t` on one line of a terminal, the row's token in brackets. Errors as mw_discovery_text. */
mw_status mw_discovery_line(const mw_discovery *discovery, int64_t t, int64_t around, mw_text *line) MW_MUST_USE;
/* Returns the text in the middle of quantile `q` (0: the strongest) of `of` of a latent's samples; -1: none. */
int64_t mw_discovery_quantile(const mw_discovery *discovery, int64_t latent, int64_t q, int64_t of);

/* ---- names ---------------------------------------------------------------------------------------------- */

typedef struct mw_name {
    char *name;   /* NULL: none */
    char *note;   /* or NULL */
    char *by;     /* origin: "tokens" (commonest tokens of the top texts), "command", a person or program; or NULL */
    double score; /* balanced accuracy of detection; NaN: not measured */
} mw_name;

typedef struct mw_names {
    mw_name *of; /* [n] */
    int64_t n;
} mw_names;
/* Makes a list of `n` latents without names. The caller frees it. */
mw_status mw_names_new(int64_t n, mw_names *out) MW_MUST_USE;
void mw_names_free(mw_names *names);
/* Copies `name` in place of the latent's former one. Errors: MW_ERR_ARG for a latent outside 0 .. n - 1. */
mw_status mw_names_set(mw_names *names, int64_t latent, const mw_name *name) MW_MUST_USE;
/* Sets `out` to a provisional name: the up to three commonest tokens at the centers of the top texts. */
mw_status mw_name_by_tokens(const mw_discovery *discovery, int64_t latent, mw_text *out) MW_MUST_USE;

typedef enum mw_names_format { MW_NAMES_AUTO, MW_NAMES_CSV, MW_NAMES_JSON, MW_NAMES_NEURONPEDIA } mw_names_format;
/* Parses "auto", "csv", "json" or "neuronpedia". Errors: MW_ERR_CONFIG. */
mw_status mw_names_format_parse(const char *text, mw_names_format *out) MW_MUST_USE;
/* Reads names into a list. CSV: a header line of latent,name,note,by,score, of which latent and name are required; or,
 * without a header, latent,name. JSON: {"42": "name"} or {"42": {"name": ..., "note": ...}}. Neuronpedia: a list, or
 * lines, of objects with "index" and "description", as in its explanation exports. AUTO: by the file name's ending. An
 * empty name removes a name. `by` (may be NULL) is the origin of names that state none. Errors: MW_ERR_FORMAT for a
 * latent outside the list, two names of one latent in CSV, or malformed input; then no name is changed. Local. */
mw_status mw_names_load(const char *path, mw_names_format format, const char *by, mw_names *into) MW_MUST_USE;
/* Renames `folder`/names.csv, if it exists, to names-XXXXXXXX.csv, by the fingerprint of the SAE that it belongs to.
 * Local. */
mw_status mw_names_set_aside(const char *folder, const char *fingerprint) MW_MUST_USE;
/* Sets *out to the path of an SAE's names: the file that was set aside for it if only that exists, else names.csv. The
 * caller frees *out. Local. */
mw_status mw_names_path(const char *folder, const char *fingerprint, char **out) MW_MUST_USE;
/* Writes all names atomically. AUTO: by the file name's ending. `model` and `site` become modelId and layer of a
 * Neuronpedia file. Local. */
mw_status mw_names_save(const char *path, mw_names_format format, const mw_names *names, const char *model,
                        const char *site) MW_MUST_USE;

/* Writes concepts.json atomically: for each active latent its name, frequency, maximum, category, top texts, texts by
 * quantile, promoted and suppressed tokens, and neighbours. `names` may be NULL. Local. */
mw_status mw_concepts_save(const char *path, const mw_discovery *discovery, const mw_names *names) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
