/* Names, discovery and concepts of the latents of a run. */
#include "experiment/run/run.h"

#include <string.h>

mw_status run_names_load(const experiment_run *r, int64_t n, mw_names *out) {
    char *path = NULL;
    mw_names names = {0};
    mw_status status = mw_names_path(r->sae_folder, r->sae->fingerprint, &path);
    if (status == MW_OK) status = mw_names_new(n, &names);
    if (status == MW_OK && mw_file_exists(path)) status = mw_names_load(path, MW_NAMES_CSV, NULL, &names);
    mw_free(path);
    if (status != MW_OK)
        mw_names_free(&names);
    else
        *out = names;
    return status;
}

mw_status run_names_change(const experiment_run *r, int64_t n, mw_status (*change)(void *self, mw_names *names),
                           void *self, mw_names *names) {
    enum { LOCK_SECONDS = 10 };
    char *path = mw_path_join(r->sae_folder, "names.csv");
    mw_names changed = {0};
    mw_lock lock = {0};
    mw_status status = path ? mw_lock_take(path, LOCK_SECONDS, r->steal_lock, &lock) : MW_ERR_MEMORY;
    if (status == MW_OK) status = run_names_load(r, n, &changed);
    if (status == MW_OK) status = change(self, &changed);
    if (status == MW_OK) status = mw_names_save(path, MW_NAMES_CSV, &changed, "", "");
    mw_lock_release(&lock);
    mw_free(path);
    if (status != MW_OK) {
        mw_names_free(&changed);
        return status;
    }
    mw_names_free(names);
    *names = changed;
    return MW_OK;
}

mw_status run_discovery(const experiment_run *r, mw_discovery *out) {
    char *path = mw_path_join(r->sae_folder, "discovery.h5"), *fingerprint = NULL;
    mw_discovery d = {0};
    mw_status status = path ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && !mw_file_exists(path))
        status = mw_error(MW_ERR_STATE, "%s does not exist: run `microw discover` first", path);
    if (status == MW_OK) status = mw_discovery_load(path, &d, &fingerprint);
    if (status == MW_OK && (d.n != r->sae->n || strcmp(fingerprint, r->sae->fingerprint) != 0))
        status = mw_error(MW_ERR_STATE, "%s belongs to an earlier SAE: run `microw discover` again", path);
    mw_free(path);
    mw_free(fingerprint);
    if (status != MW_OK)
        mw_discovery_free(&d);
    else
        *out = d;
    return status;
}

mw_status run_concepts_save(const experiment_run *r, const mw_discovery *d, const mw_names *names) {
    char *path = mw_path_join(r->sae_folder, "concepts.json");
    mw_status status = path ? mw_concepts_save(path, d, names) : MW_ERR_MEMORY;
    mw_free(path);
    return status;
}
