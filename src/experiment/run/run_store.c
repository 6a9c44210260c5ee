/* Opens the activations that a run reads: its own, those of another experiment, or several harvests. */
#include "experiment/run/find_harvest.h"

#include <string.h>

/* Returns the file of a harvest, given by its name in this store or by its folder. The caller frees. */
static char *activations_of(const experiment_run *r, const char *name) {
    return strchr(name, '/') ? mw_path_join(name, "activations.h5")
                             : mw_format("%s/activations/%s/activations.h5", r->e->top.store, name);
}

/* Finds the harvest of the same settings under another name, for an experiment without a harvest of its own.
 * `others` gets the names of the harvests that do not match. */
static mw_status find_harvest(const experiment_run *r, char **out, mw_text *others) {
    harvest_search search = {.r = r, .paths = true};
    *out = NULL;
    mw_text_add(others, "", 0);
    mw_status status = harvest_find(&search, others);
    if (status == MW_OK && search.count > 1)
        status = mw_error(MW_ERR_STATE,
                          "%s/activations has %lld harvests with these settings (%s): name one with sae.activations",
                          r->e->top.store, (long long)search.count, search.names.data);
    if (status == MW_OK)
        *out = search.path;
    else
        mw_free(search.path);
    mw_text_free(&search.names);
    return status;
}

static bool has_unfinished(const experiment_run *r) {
    int64_t blocks;
    json_t *record = harvest_unfinished(r->activations, &blocks);
    json_decref(record);
    return record != NULL;
}

static mw_status own_harvest(const experiment_run *r, char **out) {
    char *own = activations_of(r, r->e->top.name), *found = NULL;
    mw_text others = {0};
    mw_status status = own ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && !mw_file_exists(own) && run_is_root(r)) status = find_harvest(r, &found, &others);
    if (status == MW_OK && found) {
        mw_log(r->reuse ? MW_LOG_DEBUG : MW_LOG_INFO,
               "%s does not exist; reading %s, which was harvested with the same settings", own, found);
    } else if (status == MW_OK && !mw_file_exists(own) && run_is_root(r)) {
        status =
            mw_error(MW_ERR_STATE, "%s does not exist%s: run `microw harvest` first%s%s", own,
                     has_unfinished(r) ? " yet, its harvest is unfinished" : "",
                     others.length ? ", or name another harvest with --set sae.activations=NAME; the store has: " : "",
                     others.data);
    }
    if (status == MW_OK) *out = found ? found : own;
    if (status != MW_OK || found) mw_free(own);
    if (status != MW_OK) mw_free(found);
    mw_text_free(&others);
    return status;
}

/* Broadcasts the path that rank 0 has found. */
static mw_status share_path(const experiment_run *r, char **path) {
    int64_t length = *path ? (int64_t)strlen(*path) : 0;
    MW_TRY(mw_comm_broadcast(r->comm, &length, sizeof length, 0));
    char *shared = mw_calloc((size_t)length + 1, 1);
    MW_TRY(mw_comm_agree(r->comm, shared ? MW_OK : MW_ERR_MEMORY));
    if (run_is_root(r)) memcpy(shared, *path, (size_t)length);
    mw_free(*path);
    *path = shared;
    return mw_comm_broadcast(r->comm, shared, (size_t)length, 0);
}

/* Warns if the activations were harvested with other settings than the file has: this is allowed. */
static mw_status warn_other_settings(const experiment_run *r, const char *path) {
    json_t *record = NULL;
    mw_text requested = {0}, why = {0};
    if (!settings_has(r->e, "harvest") || r->reuse) return MW_OK;
    mw_status status = harvest_record(path, &record);
    const char *stored = mw_json_text(record, "settings");
    mw_text_add(&requested, "", 0);
    if (status == MW_OK && stored) status = settings_write(r->e, harvest_sections, HARVEST_SECTIONS, false, &requested);
    if (status == MW_OK && stored) status = settings_differences(stored, requested.data, true, &why);
    if (status == MW_OK && why.length)
        mw_log(MW_LOG_WARNING, "%s was harvested with other settings than this experiment's (%s)", path, why.data);
    json_decref(record);
    mw_text_free(&requested);
    mw_text_free(&why);
    return status;
}

static mw_status list_harvests(const experiment_run *r, char **paths, int64_t n) {
    const mw_strings *given = &r->e->sae.activations;
    if (!given->count) {
        MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? own_harvest(r, &paths[0]) : MW_OK));
        return share_path(r, &paths[0]);
    }
    mw_status status = MW_OK;
    for (int64_t i = 0; i < n && status == MW_OK; i++) {
        paths[i] = activations_of(r, given->items[i]);
        if (!paths[i])
            status = MW_ERR_MEMORY;
        else if (!mw_file_exists(paths[i]))
            status = mw_error(MW_ERR_STATE, "%s does not exist: run `microw harvest` first", paths[i]);
    }
    return mw_comm_agree(r->comm, status);
}

static mw_status same_store(const experiment_run *r) {
    char *fingerprint = NULL;
    if (mw_comm_size(r->comm) == 1) return MW_OK;
    mw_status status = mw_store_provenance(r->store, "fingerprint", &fingerprint);
    char *text = status == MW_OK
                     ? mw_format("%lld rows, fingerprint %s", (long long)mw_store_rows(r->store), fingerprint)
                     : NULL;
    status = mw_comm_agree(r->comm, status == MW_OK && !text ? MW_ERR_MEMORY : status);
    if (status == MW_OK) status = mw_comm_require_same(r->comm, "the activations", text);
    mw_free(fingerprint);
    mw_free(text);
    return status;
}

static mw_status open_store(experiment_run *r) {
    const mw_strings *given = &r->e->sae.activations;
    int64_t n = given->count ? given->count : 1;
    char **paths = mw_calloc((size_t)n, sizeof *paths);
    mw_status status = mw_comm_agree(r->comm, paths ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = list_harvests(r, paths, n);
    if (status == MW_OK) status = mw_comm_agree(r->comm, mw_store_open_many((const char *const *)paths, n, &r->store));
    if (status == MW_OK && !given->count)
        status = mw_comm_agree(r->comm, run_is_root(r) ? warn_other_settings(r, paths[0]) : MW_OK);
    for (int64_t i = 0; i < n && paths; i++) mw_free(paths[i]);
    mw_free(paths);
    return status == MW_OK ? same_store(r) : status;
}

mw_status run_store(experiment_run *r) {
    return r->store ? MW_OK : open_store(r);
}
