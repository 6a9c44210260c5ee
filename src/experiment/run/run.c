/* A run of an experiment: its folders, its manifest, the room that it may take. */
#include "experiment/run/run.h"

bool run_is_root(const experiment_run *r) {
    return mw_comm_rank(r->comm) == 0;
}

/* ---- room for files -------------------------------------------------------------------------------------- */

mw_status run_quota(const experiment_run *r, double *left) {
    double quota = r->e->top.quota_gb * 1e9;
    uint64_t used = 0;
    *left = 0;
    if (!(quota > 0)) return MW_OK;
    mw_status status = run_is_root(r) ? mw_folder_size(r->e->top.store, &used) : MW_OK;
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(mw_comm_broadcast(r->comm, &used, sizeof used, 0));
    *left = quota - (double)used;
    return *left > 0 ? MW_OK
                     : mw_error(MW_ERR_IO, "%s holds %.3g GB, quota_gb is %.3g", r->e->top.store, (double)used / 1e9,
                                r->e->top.quota_gb);
}

static mw_status check_disk(const experiment_run *r, double bytes, const char *what) {
    uint64_t free_bytes = 0;
    MW_TRY(mw_make_directories(r->e->top.store));
    MW_TRY(mw_free_space(r->e->top.store, &free_bytes));
    if (bytes <= (double)free_bytes) return MW_OK;
    return mw_error(MW_ERR_IO, "%s: %s need %.3g GB, but only %.3g GB are free", r->e->top.store, what, bytes / 1e9,
                    (double)free_bytes / 1e9);
}

mw_status run_check_room(const experiment_run *r, double bytes, const char *what) {
    double left;
    MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? check_disk(r, bytes, what) : MW_OK));
    MW_TRY(run_quota(r, &left));
    if (left == 0 || bytes <= left) return MW_OK;
    return mw_error(MW_ERR_IO, "%s: %s need %.3g GB, but quota_gb leaves %.3g GB", r->e->top.store, what, bytes / 1e9,
                    left / 1e9);
}

/* ---- the manifest ---------------------------------------------------------------------------------------- */

const char *run_stage_fingerprint(const experiment_run *r, const char *stage) {
    const json_t *entry = json_object_get(json_object_get(r->manifest, "stages"), stage);
    const char *fingerprint = json_is_string(entry) ? json_string_value(entry) : mw_json_text(entry, "fingerprint");
    return fingerprint ? fingerprint : "";
}

/* ---- opening and closing --------------------------------------------------------------------------------- */

mw_status manifest_load(const char *path, json_t **out) {
    json_t *root = NULL;
    mw_status status = mw_file_exists(path) ? mw_json_load(path, &root) : MW_OK;
    if (status == MW_OK && !root) root = json_pack("{s:{}}", "stages");
    if (status == MW_OK && !json_is_object(json_object_get(root, "stages")))
        status = mw_error(MW_ERR_FORMAT, "%s: expected an object \"stages\"", path);
    if (status == MW_OK)
        *out = root;
    else
        json_decref(root);
    return status;
}

static mw_status read_manifest(experiment_run *r) {
    char *path = mw_path_join(r->folder, "manifest.json");
    mw_status status = path ? manifest_load(path, &r->manifest) : MW_ERR_MEMORY;
    mw_free(path);
    return status;
}

static mw_status make_paths(experiment_run *r) {
    const char *store = r->e->top.store, *name = r->e->top.name;
    r->folder = mw_format("%s/runs/%s", store, name);
    r->activations = mw_format("%s/activations/%s", store, name);
    r->sae_folder = mw_format("%s/sae_models/%s", store, name);
    return r->folder && r->activations && r->sae_folder ? MW_OK : MW_ERR_MEMORY;
}

void run_close(experiment_run *r) {
    mw_sae_free(&r->sae);
    mw_store_close(&r->store);
    mw_dataset_free(&r->dataset);
    mw_tokenizer_free(&r->tokenizer);
    mw_model_free(&r->model);
    if (!r->borrowed) mw_backend_close(&r->backend);
    mw_backend_close(&r->sae_backend);
    json_decref(r->manifest);
    mw_free(r->folder);
    mw_free(r->activations);
    mw_free(r->sae_folder);
    *r = (experiment_run){0};
}

mw_status run_open(const mw_experiment *e, const mw_comm *comm, const mw_run_options *options, experiment_run *out) {
    experiment_run r = {.e = e, .comm = comm};
    if (options) r.overwrite = options->overwrite, r.steal_lock = options->steal_lock;
    mw_status status = make_paths(&r);
    if (status == MW_OK) status = read_manifest(&r);
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = settings_same(e, comm);
    if (status != MW_OK)
        run_close(&r);
    else
        *out = r;
    return status;
}
