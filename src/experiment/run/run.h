/* A run of an experiment: its folders, what is open, what is done. */
#ifndef MICROW_EXPERIMENT_RUN_RUN_H
#define MICROW_EXPERIMENT_RUN_RUN_H

#include "base/json.h"
#include "experiment/settings.h"
#include "microw/concepts.h"
#include "microw/harvest.h"

typedef struct run {
    const mw_experiment *e;
    const mw_comm *comm;
    bool overwrite, steal_lock;
    bool reuse;                              /* a harvest of the same settings and data under another name will do */
    char *folder, *activations, *sae_folder; /* store/runs/NAME, store/activations/NAME, store/sae_models/NAME */
    char model_mark[MW_MODEL_MARK];          /* once it is known */
    json_t *manifest;                        /* of rank 0, see work.h */
    mw_backend *backend;                     /* of the model and of training steps */
    bool borrowed;                           /* it is another run's */
    mw_backend *sae_backend;                 /* of SAEs in host memory; copies on `backend` may do the work */
    mw_model *model;
    mw_tokenizer *tokenizer;
    mw_dataset *dataset;
    mw_store *store;
    mw_sae *sae;
} run;

/* Writes nothing. Collective. */
mw_status run_open(const mw_experiment *e, const mw_comm *comm, const mw_run_options *options, run *out) MW_MUST_USE;
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
mw_status run_store(run *r) MW_MUST_USE;
mw_status run_sae(run *r) MW_MUST_USE;
mw_status run_sae_here(run *r) MW_MUST_USE; /* local */
/* What the SAE reads and rebuilds, in the store. */
typedef struct views {
    mw_store_view in, target;
    const mw_store_view *out; /* `target`, or NULL: what is read is what is rebuilt */
} views;
/* Of the SAE that is open, which the experiment may not contradict; of one to be trained, as the experiment says. */
mw_status run_views(run *r, views *out) MW_MUST_USE;
const mw_store_view *rebuilt(const views *v);

/* Bytes that quota_gb leaves in the store's folder; 0: there is no quota. An error if nothing is left. Collective. */
mw_status run_quota(const run *r, double *left) MW_MUST_USE;
/* Whether so many bytes more fit into the store, by the disk and by the quota. `what` is in the message. Collective. */
mw_status run_room(const run *r, double bytes, const char *what) MW_MUST_USE;

/* names.csv of the SAE: those that there are, for n latents. Local. */
mw_status run_names_load(const run *r, int64_t n, mw_names *out) MW_MUST_USE;
/* Reads them, lets `change` change them, and writes them; another process may do so before or after, not meanwhile. `names` gets what was
 * written. Local. */
mw_status run_names_change(const run *r, int64_t n, mw_status (*change)(void *self, mw_names *names), void *self,
                           mw_names *names) MW_MUST_USE;
/* What stage discover found about the run's SAE, which is open; and its file for people. Local. */
mw_status run_discovery(const run *r, mw_discovery *out) MW_MUST_USE;
mw_status run_concepts_save(const run *r, const mw_discovery *d, const mw_names *names) MW_MUST_USE;

/* Fingerprint that the manifest has of a finished stage; "" if none. */
const char *run_stage_mark(const run *r, const char *stage);

/* Marks of what is open, the same for the same content: of the model, of the texts' ids, of the SAE's weights. Local. */
mw_status run_model_mark(run *r, char out[MW_MODEL_MARK]) MW_MUST_USE;
void run_sae_mark(const run *r, char out[MW_MODEL_MARK]);
void dataset_mark(const mw_dataset *d, char out[MW_MODEL_MARK]);
/* SHA-256 of a file that is given by the experiment; "" for none. */
mw_status run_file_mark(const char *path, char out[MW_SHA256_TEXT]) MW_MUST_USE;

/* A stage's work on an output, see work.h. */
typedef struct work {
    const char *stage;
    char *output;   /* there when the stage is complete */
    char *settings; /* effective values of the sections that matter, as YAML */
    json_t *upstream;
    char fingerprint[MW_SHA256_TEXT];
    mw_status (*own)(const char *output, json_t **record);
    bool complete;
    bool again;   /* what is there is complete, but made again */
    mw_lock lock; /* of rank 0, while it is worked on */
} work;

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
