/* A run of an experiment: its folders, the objects it has opened, and its stages. */
#ifndef MICROW_EXPERIMENT_RUN_RUN_H
#define MICROW_EXPERIMENT_RUN_RUN_H

#include "base/json.h"
#include "experiment/settings.h"
#include "microw/concepts.h"
#include "microw/harvest.h"

typedef struct experiment_run {
    const mw_experiment *e;
    const mw_comm *comm;
    bool overwrite, steal_lock;
    bool reuse;                              /* accept a harvest of the same settings and data under another name */
    char *folder, *activations, *sae_folder; /* store/runs/NAME, store/activations/NAME, store/sae_models/NAME */
    char model_hash[MW_MODEL_MARK];          /* "" until run_model_hash */
    json_t *manifest;                        /* of rank 0, see stage_work.h */
    mw_backend *backend;                     /* of the model and of training steps */
    bool borrowed;                           /* `backend` belongs to another run */
    mw_backend *sae_backend;                 /* of SAEs in host memory; copies on `backend` may do the work */
    mw_model *model;
    mw_tokenizer *tokenizer;
    mw_dataset *dataset;
    mw_store *store;
    mw_sae *sae;
} experiment_run;

/* Opens a run without writing anything; run_close frees it. MW_ERR_CONFIG if ranks have different settings.
 * Collective. */
mw_status run_open(const mw_experiment *e, const mw_comm *comm, const mw_run_options *options,
                   experiment_run *out) MW_MUST_USE;
void run_close(experiment_run *r);
bool run_is_root(const experiment_run *r);

/* Each opens its object at first use and keeps it in the run. Collective, but for the two that are local;
 * MW_ERR_CONFIG if ranks see different contents. */
mw_status run_backend(experiment_run *r) MW_MUST_USE;
mw_status run_backend_here(experiment_run *r) MW_MUST_USE; /* local */
mw_status run_model(experiment_run *r) MW_MUST_USE;
mw_status run_sae_backend(experiment_run *r) MW_MUST_USE; /* local */
mw_status run_tokenizer(experiment_run *r) MW_MUST_USE;
mw_status run_dataset(experiment_run *r) MW_MUST_USE;
mw_status run_store(experiment_run *r) MW_MUST_USE;
mw_status run_sae(experiment_run *r) MW_MUST_USE;
mw_status run_sae_here(experiment_run *r) MW_MUST_USE; /* local */
/* Returns the token whose rows edits leave unchanged: bos, or -1 if the harvest stored its rows. The tokenizer is
 * open. */
int32_t run_untouched_token(const experiment_run *r);

/* The sites that the SAE reads and rebuilds, in the store. */
typedef struct site_views {
    mw_store_view in, target;
    const mw_store_view *out; /* `target`; NULL: the SAE rebuilds what it reads */
} site_views;
/* Opens the views of the SAE that is open, which the experiment may not contradict (MW_ERR_CONFIG), or else of the
 * SAE that the experiment describes. `out->out` points into `out`, which must stay in place. Collective. */
mw_status run_site_views(experiment_run *r, site_views *out) MW_MUST_USE;
/* Returns the view of the rebuilt sites. */
const mw_store_view *site_views_target(const site_views *v);

/* Sets `left` to the bytes that quota_gb leaves in the store's folder, 0 without a quota. MW_ERR_IO if none are
 * left. Collective. */
mw_status run_quota(const experiment_run *r, double *left) MW_MUST_USE;
/* MW_ERR_IO unless the disk and the quota have room for so many more bytes. `what` names them in the message.
 * Collective. */
mw_status run_check_room(const experiment_run *r, double bytes, const char *what) MW_MUST_USE;

/* Reads names.csv of the SAE, for n latents; no file gives no names. The caller frees. Local. */
mw_status run_names_load(const experiment_run *r, int64_t n, mw_names *out) MW_MUST_USE;
/* Reads the names, calls `change`, and writes them, under a lock: another process may write before or after, not
 * meanwhile. `names` gets the written names. Local. */
mw_status run_names_change(const experiment_run *r, int64_t n, mw_status (*change)(void *self, mw_names *names),
                           void *self, mw_names *names) MW_MUST_USE;
/* Reads discovery.h5 of the SAE that is open; MW_ERR_STATE if there is none, or if it is of another SAE. The caller
 * frees. Local. */
mw_status run_discovery(const experiment_run *r, mw_discovery *out) MW_MUST_USE;
/* Writes concepts.json. Local. */
mw_status run_concepts_save(const experiment_run *r, const mw_discovery *d, const mw_names *names) MW_MUST_USE;

/* Reads a manifest; a missing file is one without stages. The caller frees. MW_ERR_FORMAT: it has no "stages". */
mw_status manifest_load(const char *path, json_t **out) MW_MUST_USE;
/* Returns the fingerprint that the manifest has of a finished stage, or "". */
const char *run_stage_fingerprint(const experiment_run *r, const char *stage);

/* Hashes of what is open, equal for equal content: of the model, of the texts' ids, of the SAE's weights. Local. */
mw_status run_model_hash(experiment_run *r, char out[MW_MODEL_MARK]) MW_MUST_USE;
void run_sae_hash(const experiment_run *r, char out[MW_MODEL_MARK]);
void dataset_hash(const mw_dataset *d, char out[MW_MODEL_MARK]);
/* Computes the SHA-256 of a file; "" for an empty path. */
mw_status run_file_hash(const char *path, char out[MW_SHA256_TEXT]) MW_MUST_USE;

typedef struct stage {
    const char *name, *section; /* section: the part of the file that requests it */
    mw_status (*run)(experiment_run *r);
    bool optional; /* the command of this name does without the section */
} stage;
/* Runs the stages that the file has, from `first` on; adds their number to `done`. Stops between stages when an end
 * is requested. Collective. */
mw_status run_stages(experiment_run *r, const char *first, int *done) MW_MUST_USE;
mw_status stage_harvest(experiment_run *r) MW_MUST_USE;
mw_status stage_train(experiment_run *r) MW_MUST_USE;
mw_status stage_discover(experiment_run *r) MW_MUST_USE;
mw_status stage_name(experiment_run *r) MW_MUST_USE;
mw_status stage_evaluate(experiment_run *r) MW_MUST_USE;
mw_status stage_steer(experiment_run *r) MW_MUST_USE;
mw_status stage_report(experiment_run *r) MW_MUST_USE;

#endif
