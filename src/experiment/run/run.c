/* Opens what the stages of a run need, and runs them. */
#include "experiment/run/find_harvest.h"
#include "experiment/run/run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool run_is_root(const experiment_run *r) {
    return mw_comm_rank(r->comm) == 0;
}

/* ---- model, texts and SAE ------------------------------------------------------------------------------ */

/* The ranks of a node take its GPUs round-robin. */
static mw_status open_backend(experiment_run *r) {
    return r->backend ? MW_OK : mw_backend_open_at(r->e->model.device, mw_comm_local_rank(r->comm), &r->backend);
}

mw_status run_backend(experiment_run *r) {
    return r->backend ? MW_OK : mw_comm_agree(r->comm, open_backend(r));
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

/* ---- activations --------------------------------------------------------------------------------------- */

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

/* ---- the SAE and its sites ----------------------------------------------------------------------------- */

static mw_status load_sae(experiment_run *r) {
    char *path = mw_path_join(r->sae_folder, "sae.safetensors");
    mw_status status = path ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && !mw_file_exists(path))
        status = mw_error(MW_ERR_STATE, "%s does not exist: run `microw train` first", path);
    if (status == MW_OK) status = run_sae_backend(r);
    if (status == MW_OK) status = mw_sae_load(r->sae_folder, r->sae_backend, &r->sae);
    mw_free(path);
    return status;
}

/* A newly trained SAE is open already, but not yet on the device. */
mw_status run_sae_here(experiment_run *r) {
    if (!r->sae) MW_TRY(load_sae(r));
    if (r->sae->device || r->sae->packed) return MW_OK;
    MW_TRY(open_backend(r));
    return mw_sae_use_device(r->sae, r->backend);
}

void run_sae_hash(const experiment_run *r, char out[MW_MODEL_MARK]) {
    snprintf(out, MW_MODEL_MARK, "%016llx", (unsigned long long)mw_sae_hash(r->sae));
}

mw_status run_sae(experiment_run *r) {
    bool known = r->sae != NULL;
    char hash[MW_MODEL_MARK];
    MW_TRY(mw_comm_agree(r->comm, run_sae_here(r)));
    if (known || mw_comm_size(r->comm) == 1) return MW_OK;
    run_sae_hash(r, hash);
    return mw_comm_require_same(r->comm, "the SAE (a hash of its weights)", hash);
}

/* Compares a site that the experiment requests with the SAE's own; an empty one matches all. */
static mw_status check_site(const experiment_run *r, const char *key, const char *requested, const char *own) {
    if (!requested[0] || !own[0] || settings_same_sites(requested, own)) return MW_OK;
    return mw_error(MW_ERR_CONFIG,
                    "%s: %s is '%s', but the SAE in %s was trained on '%s': leave the key out, or train another SAE",
                    r->e->document.file, key, requested, r->sae_folder, own);
}

/* An imported SAE may not record its site: then it is the site that the file names, or the only one in the store. */
static mw_status site_of_imported(const experiment_run *r, char **out) {
    bool named = r->e->sae.site[0] || r->e->sae.sites.count;
    if (named || mw_store_site_count(r->store) > 1) {
        if (named) return settings_sites(r->e, out);
        return mw_error(
            MW_ERR_CONFIG,
            "%s: the SAE in %s does not record which site it reads, and the activations have %lld: give sae.site",
            r->e->document.file, r->sae_folder, (long long)mw_store_site_count(r->store));
    }
    char name[MW_SITE_TEXT];
    mw_site_format(mw_store_site_at(r->store, 0)->site, name);
    return (*out = mw_strdup(name)) ? MW_OK : MW_ERR_MEMORY;
}

static mw_status sites_of_sae(const experiment_run *r, char **out) {
    char *requested = NULL;
    if (!r->sae->site[0]) return site_of_imported(r, out);
    if (r->e->sae.site[0] || r->e->sae.sites.count) {
        MW_TRY(settings_sites(r->e, &requested));
        mw_status status = check_site(r, r->e->sae.site[0] ? "sae.site" : "sae.sites", requested, r->sae->site);
        mw_free(requested);
        MW_TRY(status);
    }
    if (r->e->sae.target[0] && !r->sae->transcoder)
        return mw_error(MW_ERR_CONFIG, "%s: sae.target is '%s', but the SAE in %s is not a transcoder",
                        r->e->document.file, r->e->sae.target, r->sae_folder);
    MW_TRY(check_site(r, "sae.target", r->e->sae.target, r->sae->target));
    return (*out = mw_strdup(r->sae->site)) ? MW_OK : MW_ERR_MEMORY;
}

static mw_status open_views(const experiment_run *r, site_views *out) {
    char *sites = NULL;
    const char *target = r->sae && r->sae->transcoder && r->sae->target[0] ? r->sae->target : r->e->sae.target;
    MW_TRY(r->sae ? sites_of_sae(r, &sites) : settings_sites(r->e, &sites));
    mw_status status = mw_store_view_open(r->store, sites, &out->in);
    mw_free(sites);
    if (status == MW_OK && target && target[0]) {
        status = mw_store_view_open(r->store, target, &out->target);
        out->out = &out->target;
    }
    return status;
}

mw_status run_site_views(experiment_run *r, site_views *out) {
    *out = (site_views){0};
    MW_TRY(run_store(r));
    return mw_comm_agree(r->comm, open_views(r, out));
}

const mw_store_view *site_views_target(const site_views *v) {
    return v->out ? v->out : &v->in;
}

/* ---- names and discovery ------------------------------------------------------------------------------- */

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

/* ---- room for files ------------------------------------------------------------------------------------ */

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

/* ---- the manifest -------------------------------------------------------------------------------------- */

const char *run_stage_fingerprint(const experiment_run *r, const char *stage) {
    const json_t *entry = json_object_get(json_object_get(r->manifest, "stages"), stage);
    const char *fingerprint = json_is_string(entry) ? json_string_value(entry) : mw_json_text(entry, "fingerprint");
    return fingerprint ? fingerprint : "";
}

/* ---- opening and closing ------------------------------------------------------------------------------- */

static mw_status read_manifest(experiment_run *r) {
    char *path = mw_path_join(r->folder, "manifest.json");
    mw_status status = path ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mw_file_exists(path)) status = mw_json_load(path, &r->manifest);
    if (status == MW_OK && !r->manifest) r->manifest = json_pack("{s:{}}", "stages");
    if (status == MW_OK && !json_is_object(json_object_get(r->manifest, "stages")))
        status = mw_error(MW_ERR_FORMAT, "%s: expected an object \"stages\"", path);
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

/* ---- stages -------------------------------------------------------------------------------------------- */

static const stage stages[] = {
    {"harvest", "harvest", stage_harvest, false},    {"train", "train", stage_train, false},
    {"discover", "discover", stage_discover, false}, {"name", "naming", stage_name, false},
    {"evaluate", "evaluate", stage_evaluate, false}, {"steer", "steer", stage_steer, false},
    {"report", "report", stage_report, true},
};
enum { STAGE_COUNT = sizeof stages / sizeof *stages };

/* Returns the number of a stage, or STAGE_COUNT for an unknown name. */
static int stage_index(const char *name) {
    int i = 0;
    while (i < STAGE_COUNT && strcmp(stages[i].name, name) != 0) i++;
    return i;
}

mw_status run_stages(experiment_run *r, const char *first, int *done) {
    for (int i = stage_index(first); i < STAGE_COUNT; i++) {
        if (!settings_has(r->e, stages[i].section)) continue;
        MW_TRY(stages[i].run(r));
        ++*done;
        MW_TRY(mw_comm_agree(r->comm, mw_if_interrupted(MW_OK)));
    }
    return MW_OK;
}

static mw_status run_stage(experiment_run *r, const char *command) {
    int i = stage_index(command);
    if (i == STAGE_COUNT) return mw_error(MW_ERR_CONFIG, "unknown stage '%s'", command);
    if (!stages[i].optional && !settings_has(r->e, stages[i].section))
        return mw_error(MW_ERR_CONFIG, "%s:1: section '%s' is missing", r->e->document.file, stages[i].section);
    return stages[i].run(r);
}

static mw_status run_command(experiment_run *r, const char *command) {
    int done = 0;
    if (strcmp(command, "run") != 0) return run_stage(r, command);
    r->reuse = true;
    MW_TRY(settings_check_harvested(r->e));
    MW_TRY(run_stages(r, stages[0].name, &done));
    return done ? MW_OK
                : mw_error(MW_ERR_CONFIG,
                           "%s: no stage in the file: expected harvest, train, discover, naming, evaluate or steer",
                           r->e->document.file);
}

mw_status mw_experiment_run(mw_experiment *experiment, const char *command, const mw_comm *comm,
                            const mw_run_options *options) {
    experiment_run r;
    MW_TRY(run_open(experiment, comm, options, &r));
    mw_status status = run_command(&r, command);
    run_close(&r);
    return status;
}
