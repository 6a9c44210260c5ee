/* The experiment file as structs. Every key is one row of a table: of the floor that has the options, else of
 * settings_tables.c. */
#ifndef MICROW_EXPERIMENT_SETTINGS_H
#define MICROW_EXPERIMENT_SETTINGS_H

#include "microw/config.h"
#include "microw/dataset.h"
#include "microw/experiment.h"
#include "microw/harvest.h"
#include "microw/sae.h"

typedef struct top_settings {
    char *name, *store;
    double quota_gb;
} top_settings;

enum { MODEL_DTYPE_AUTO = -1 };
typedef struct model_settings {
    char *path, *device;
    int dtype; /* mw_dtype, or MODEL_DTYPE_AUTO */
    bool pack_weights;
} model_settings;

typedef struct dataset_settings {
    mw_strings path;
    mw_dataset_options options; /* without paths, see settings_dataset */
    int64_t batch;
} dataset_settings;

typedef enum hook_kind { HOOK_STATISTICS, HOOK_SCALE, HOOK_ADD, HOOK_ABLATE, HOOK_STOP } hook_kind;
typedef struct hook_settings {
    char *site;
    hook_kind kind;
    double factor, value;
    mw_ints columns;
} hook_settings;

typedef struct hooks_settings {
    mw_items list;
} hooks_settings;

typedef struct harvest_settings {
    mw_strings sites;
    mw_harvest_options options;
} harvest_settings;

typedef struct sae_settings {
    char *site, *target, *variant;
    mw_strings sites, activations;
    mw_ints groups;
    bool skip;
    int64_t n_latents, k, seed;
} sae_settings;

typedef struct train_settings {
    mw_train_options options; /* as the file says, see settings_training */
    int64_t tokens;
    bool by_blocks; /* shuffle: blocks */
    bool verify;
} train_settings;

typedef struct discover_settings {
    mw_discover_options options;
    int64_t logit_tokens, show;
    char *categories, *names;
} discover_settings;

typedef struct naming_settings {
    char *command;
    mw_ints latents;
    int64_t limit, texts, test_texts, batch;
    double timeout;
    bool again;
} naming_settings;

typedef struct evaluate_settings {
    bool ce_recovered, baselines;
    int64_t tokens;
} evaluate_settings;

/* Edits of latents, as the file gives them. */
typedef struct edit_settings {
    mw_latent_values scale, add, clamp;
    mw_ints ablate;
    char *concept, *category;
    double strength;
    int64_t concept_latents;
} edit_settings;

typedef struct variant_settings {
    char *name;
    edit_settings edits;
} variant_settings;

typedef struct steer_settings {
    mw_strings prompts, measure_path;
    edit_settings edits;
    mw_items variants;
    mw_reals scales;
    mw_sampling sampling;
    int64_t samples, measure_tokens;
    bool keep_error, control;
} steer_settings;

typedef struct report_settings {
    double embed_mb;
} report_settings;

struct mw_experiment {
    mw_document document;
    struct mw_experiment *given; /* the same with paths as written in the file; it has no document */
    top_settings top;
    model_settings model;
    dataset_settings dataset;
    hooks_settings hooks;
    harvest_settings harvest;
    sae_settings sae;
    train_settings train;
    discover_settings discover;
    naming_settings naming;
    evaluate_settings evaluate;
    steer_settings steer;
    report_settings report;
};

/* The section that sweep.c reads; it belongs to no stage. */
#define SWEEP_SECTION "sweep"

/* Makes an experiment of a document, whose ownership it takes, also after an error. The caller frees `out` with
 * mw_experiment_free. */
mw_status settings_bind(mw_document *document, mw_experiment **out) MW_MUST_USE;
/* MW_ERR_CONFIG for keys that contradict each other. */
mw_status settings_check(const mw_experiment *e) MW_MUST_USE;
/* Appends the effective values of these sections ("model", ...), paths as written in the file. Fingerprints hash
 * this text. */
mw_status settings_write(const mw_experiment *e, const char *const *sections, int count, bool document,
                         mw_text *out) MW_MUST_USE;
/* The same for all sections of the file. */
mw_status settings_write_given(const mw_experiment *e, mw_text *out) MW_MUST_USE;
/* MW_ERR_CONFIG if ranks were given different settings: they would wait for each other in different collectives.
 * Collective. */
mw_status settings_same(const mw_experiment *e, const mw_comm *comm) MW_MUST_USE;
/* Whether the file has the section. */
bool settings_has(const mw_experiment *e, const char *section);
/* Appends the keys that differ between two texts of settings_write, with both values: "sae.k: 8 stored, 9
 * requested". A key that one text lacks is at its default: earlier versions had fewer. Paths count with `paths`
 * only: the content of files has hashes. */
mw_status settings_differences(const char *stored, const char *requested, bool paths, mw_text *out) MW_MUST_USE;
/* Whether two comma-separated lists name the same sites. */
bool settings_same_sites(const char *a, const char *b);
/* Returns the sites that the SAE reads, comma-separated: sae.sites, or sae.site, else the first harvested one. The
 * caller frees. */
mw_status settings_sites(const mw_experiment *e, char **out) MW_MUST_USE;
/* MW_ERR_CONFIG unless the file's harvest stores the sites of its SAE: checked before a long harvest. Does nothing
 * if sae.activations names other harvests. */
mw_status settings_check_harvested(const mw_experiment *e) MW_MUST_USE;
/* The same, whether or not sae.activations is given. */
mw_status settings_check_sites(const mw_experiment *e) MW_MUST_USE;
/* Returns the options of the dataset, which borrow from `e`. */
mw_dataset_options settings_dataset(const mw_experiment *e);
/* Returns the options of a training of an SAE of this shape, without auto values; `fingerprint` is borrowed. */
mw_train_options settings_training(const mw_experiment *e, const mw_sae_shape *shape, const char *fingerprint);
/* Computes the shape of an SAE that reads d columns and rebuilds sites of these widths, which `out` borrows.
 * MW_ERR_CONFIG if it is impossible. */
mw_status settings_sae_shape(const mw_experiment *e, int64_t d, bool transcoder, const int64_t *target_width,
                             int64_t n_targets, mw_sae_shape *out) MW_MUST_USE;
/* Returns the SAE's variant, which the loaded file has been checked for. */
mw_variant settings_variant(const mw_experiment *e);

#endif
