/* A run of an experiment: its folders, what is open, what is done. */
#ifndef MICROW_RUN_H
#define MICROW_RUN_H

#include "base/json.h"
#include "experiment/settings.h"
#include "microw/concepts.h"
#include "microw/harvest.h"

typedef struct run {
    const mw_experiment *e;
    const mw_comm *comm;
    bool overwrite;
    char *folder, *activations, *sae_folder; /* store/runs/NAME, store/activations/NAME, store/sae_models/NAME */
    json_t *manifest;                        /* the same on all ranks: {"stages": {NAME: FINGERPRINT}} */
    mw_backend *backend;                     /* of the model and of training steps */
    bool borrowed;                           /* it is another run's */
    mw_backend *sae_backend;                 /* of SAEs in host memory; copies on `backend` may do the work */
    mw_model *model;
    mw_tokenizer *tokenizer;
    mw_dataset *dataset;
    mw_store *store;
    mw_sae *sae;
} run;

/* Makes the run's folder, with the effective configuration. Collective. */
mw_status run_open(const mw_experiment *e, const mw_comm *comm, bool overwrite, run *out) MW_MUST_USE;
void run_close(run *r);
bool run_is_root(const run *r);
/* Opened at first use. Collective: all ranks agree. */
mw_status run_backend(run *r) MW_MUST_USE;
mw_status run_model(run *r) MW_MUST_USE;
mw_status run_sae_backend(run *r) MW_MUST_USE; /* local */
mw_status run_tokenizer(run *r) MW_MUST_USE;
/* The token whose rows edits leave alone: beginning of sequence, unless the harvest kept it (-1). The tokenizer is open. */
int32_t untouched_token(const run *r);
mw_status run_dataset(run *r) MW_MUST_USE;
mw_dataset_options run_dataset_options(const dataset_settings *d);
mw_status run_store(run *r) MW_MUST_USE;
mw_status run_sae(run *r) MW_MUST_USE;
mw_status run_sae_here(run *r) MW_MUST_USE; /* local */
/* What the SAE reads and rebuilds, in the store. */
typedef struct views {
    mw_store_view in, target;
    const mw_store_view *out; /* `target`, or NULL: what is read is what is rebuilt */
} views;
mw_status run_views(run *r, views *out) MW_MUST_USE;
const mw_store_view *rebuilt(const views *v);

/* Bytes that quota_gb leaves in the store's folder; 0: there is no quota. An error if nothing is left. Collective. */
mw_status run_quota(const run *r, double *left) MW_MUST_USE;
/* Whether so many bytes more fit into the store, by the disk and by the quota. `what` is in the message. Collective. */
mw_status run_room(const run *r, double bytes, const char *what) MW_MUST_USE;

/* names.csv of the SAE: those that there are, for n latents. Local. */
mw_status run_names_load(const run *r, int64_t n, mw_names *out) MW_MUST_USE;
mw_status run_names_save(const run *r, const mw_names *names) MW_MUST_USE;
/* What stage discover found about the run's SAE, which is open; and its file for people. Local. */
mw_status run_discovery(const run *r, mw_discovery *out) MW_MUST_USE;
mw_status run_concepts_save(const run *r, const mw_discovery *d, const mw_names *names) MW_MUST_USE;

/* SHA-256 of these sections' effective values and of what the stage builds on. */
mw_status run_fingerprint(const run *r, const char *const *sections, int count, const char *upstream,
                          char out[MW_SHA256_TEXT]) MW_MUST_USE;
/* What the manifest says of a stage; "" if nothing. */
const char *run_stage_mark(const run *r, const char *stage);
mw_status run_stage_done(run *r, const char *stage, const char *fingerprint) MW_MUST_USE;
/* Whether a stage with this fingerprint is complete: by the manifest, or, where a run was killed before it could say so there, by
 * what the output says of itself (`own`). Complete with another one: refused, unless overwriting, when `output` is deleted.
 * Collective. */
mw_status run_check_stage(run *r, const char *stage, const char *fingerprint, const char *output,
                          mw_status (*own)(const char *output, char out[MW_SHA256_TEXT]), bool *complete) MW_MUST_USE;

mw_status run_remove(const char *output) MW_MUST_USE; /* a file */

typedef struct stage {
    const char *name, *section; /* section: what in the file asks for it */
    mw_status (*go)(run *r);
    bool optional; /* by itself it does without the section */
} stage;
/* The stages that the experiment has, from one on, and how many those were; between them a request to end is heeded.
 * Collective. */
mw_status run_stages(run *r, const char *first, int *done) MW_MUST_USE;
mw_status stage_harvest(run *r) MW_MUST_USE;
mw_status stage_train(run *r) MW_MUST_USE;
mw_status stage_discover(run *r) MW_MUST_USE;
mw_status stage_name(run *r) MW_MUST_USE;
mw_status stage_evaluate(run *r) MW_MUST_USE;
mw_status stage_steer(run *r) MW_MUST_USE;
mw_status stage_report(run *r) MW_MUST_USE;

#endif
