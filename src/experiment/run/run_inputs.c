/* Opens the model, the texts and the SAE of a run at their first use, and checks that all ranks see the same. */
#include "experiment/run/run.h"

#include <stdio.h>
#include <string.h>

/* The ranks of a node take its GPUs round-robin. */
mw_status run_backend_here(experiment_run *r) {
    return r->backend ? MW_OK : mw_backend_open_at(r->e->model.device, mw_comm_local_rank(r->comm), &r->backend);
}

mw_status run_backend(experiment_run *r) {
    return r->backend ? MW_OK : mw_comm_agree(r->comm, run_backend_here(r));
}

mw_status run_model_hash(experiment_run *r, char out[MW_MODEL_MARK]) {
    if (!r->model_hash[0]) MW_TRY(mw_model_mark(r->model, r->model_hash));
    memcpy(out, r->model_hash, MW_MODEL_MARK);
    return MW_OK;
}

/* MW_ERR_CONFIG if ranks see different weights: they would compute other rows, or wait for each other. */
static mw_status same_model(experiment_run *r) {
    char hash[MW_MODEL_MARK] = "";
    if (mw_comm_size(r->comm) == 1) return MW_OK;
    MW_TRY(mw_comm_agree(r->comm, run_model_hash(r, hash)));
    return mw_comm_require_same(r->comm, "the model's files (a hash of weights and config.json)", hash);
}

/* A path that does not exist is taken for an id of the Hub: reports the folder that it would be. */
static void report_model_path(const experiment_run *r) {
    char *folder = mw_path_directory(r->e->document.file),
         *path = folder ? mw_path_from(folder, r->e->model.path) : NULL;
    char *absolute = path ? mw_path_absolute(path) : NULL;
    if (absolute && r->e->model.path[0] != '/' && !mw_is_directory(r->e->model.path))
        mw_log(MW_LOG_INFO, "model.path '%s' would be the folder %s", r->e->model.path, absolute);
    mw_free(folder);
    mw_free(path);
    mw_free(absolute);
}

mw_status run_model(experiment_run *r) {
    if (r->model) return MW_OK;
    MW_TRY(run_backend(r));
    int dtype = r->e->model.dtype;
    const char *dtype_text = dtype == MODEL_DTYPE_AUTO ? "auto" : mw_dtype_name((mw_dtype)dtype);
    mw_status status = mw_model_open(r->e->model.path, dtype_text, r->backend, &r->model);
    if (status != MW_OK) report_model_path(r);
    if (status == MW_OK && !r->e->model.pack_weights) mw_model_disable_packing(r->model);
    MW_TRY(mw_comm_agree(r->comm, status));
    return same_model(r);
}

/* The model's device if it is a CPU, else the host's CPU. */
mw_status run_sae_backend(experiment_run *r) {
    if (r->sae_backend) return MW_OK;
    bool cpu = strncmp(r->e->model.device, "cpu", 3) == 0;
    return mw_backend_open(cpu ? r->e->model.device : "cpu", &r->sae_backend);
}

mw_status run_tokenizer(experiment_run *r) {
    if (r->tokenizer) return MW_OK;
    MW_TRY(mw_comm_agree(r->comm, mw_tokenizer_open(r->e->model.path, &r->tokenizer)));
    return mw_comm_require_same(r->comm, "the tokenizer's files (their SHA-256)", mw_tokenizer_hash(r->tokenizer));
}

void dataset_hash(const mw_dataset *d, char out[MW_MODEL_MARK]) {
    snprintf(out, MW_MODEL_MARK, "%016llx%016llx",
             (unsigned long long)mw_xxh64(d->ids, (size_t)d->n_ids * sizeof *d->ids),
             (unsigned long long)mw_xxh64(d->length, (size_t)d->n_sequences * sizeof *d->length));
}

mw_status run_file_hash(const char *path, char out[MW_SHA256_TEXT]) {
    out[0] = '\0';
    return path && path[0] ? mw_sha256_file(path, out) : MW_OK;
}

/* MW_ERR_CONFIG if ranks see different texts. */
static mw_status same_dataset(const experiment_run *r) {
    char hash[MW_MODEL_MARK], text[128];
    if (mw_comm_size(r->comm) == 1) return MW_OK;
    dataset_hash(r->dataset, hash);
    snprintf(text, sizeof text, "%lld files, %lld documents, %lld tokens, hash %s", (long long)r->dataset->n_files,
             (long long)r->dataset->n_documents, (long long)r->dataset->n_ids, hash);
    return mw_comm_require_same(r->comm, "the dataset", text);
}

int32_t run_untouched_token(const experiment_run *r) {
    return r->e->harvest.options.skip == MW_SKIP_NONE ? -1 : mw_tokenizer_bos(r->tokenizer);
}

mw_status run_dataset(experiment_run *r) {
    if (r->dataset) return MW_OK;
    MW_TRY(run_tokenizer(r));
    mw_dataset_options options = settings_dataset(r->e);
    MW_TRY(mw_dataset_load(&options, r->tokenizer, r->comm, &r->dataset));
    return same_dataset(r);
}
