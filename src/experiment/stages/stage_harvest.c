/* Stage harvest: activations into the store. */
#include "experiment/run/find_harvest.h"
#include "experiment/run/yaml_hooks.h"

#include <stdio.h>
#include <string.h>

enum { PAIRS = 9 };

/* Rank 0 hashes and broadcasts, so that large files are read once. */
static mw_status hash_files(experiment_run *r, mw_text *out) {
    mw_status status = MW_OK;
    for (int64_t i = 0; run_is_root(r) && status == MW_OK && i < r->dataset->n_files; i++) {
        char hash[MW_SHA256_TEXT];
        status = mw_sha256_file(r->dataset->files[i], hash);
        if (status == MW_OK) mw_text_addf(out, "%s%s  %s", i ? "\n" : "", hash, mw_path_basename(r->dataset->files[i]));
    }
    mw_text_add(out, "", 0);
    int64_t length = (int64_t)out->length;
    MW_TRY(mw_comm_agree(r->comm, out->failed ? MW_ERR_MEMORY : status));
    MW_TRY(mw_comm_broadcast(r->comm, &length, sizeof length, 0));
    while ((int64_t)out->length < length) mw_text_add(out, " ", 1);
    MW_TRY(mw_comm_agree(r->comm, out->failed ? MW_ERR_MEMORY : MW_OK));
    return mw_comm_broadcast(r->comm, out->data, (size_t)length, 0);
}

static mw_status hash_model(experiment_run *r, char out[MW_SHA256_TEXT], char config[MW_SHA256_TEXT]) {
    mw_status status = run_is_root(r) ? mw_model_hash(r->model, out) : MW_OK;
    if (status == MW_OK) status = mw_model_config_hash(r->model, config);
    MW_TRY(mw_comm_agree(r->comm, status));
    return mw_comm_broadcast(r->comm, out, MW_SHA256_TEXT, 0);
}

typedef struct provenance {
    char model_hash[MW_SHA256_TEXT], config_hash[MW_SHA256_TEXT];
    mw_text files;
    stage_work work;
    mw_pair pairs[PAIRS];
} provenance;

/* Settings, weights, tokenizer and texts make the fingerprint of a harvest. */
static mw_status open_work(experiment_run *r, provenance *p) {
    MW_TRY(hash_model(r, p->model_hash, p->config_hash));
    MW_TRY(hash_files(r, &p->files));
    const mw_pair upstream[] = {{"model", p->model_hash},
                                {"model_config", p->config_hash},
                                {"tokenizer", mw_tokenizer_hash(r->tokenizer)},
                                {"data", p->files.data}};
    mw_status status = stage_work_open(r, &p->work, "harvest", mw_path_join(r->activations, "activations.h5"),
                                       harvest_sections, HARVEST_SECTIONS, upstream, 4, harvest_record);
    const mw_pair pairs[PAIRS] = {
        {"model", r->e->given->model.path},      {"model_sha256", p->model_hash},
        {"model_config_sha256", p->config_hash}, {"tokenizer_sha256", mw_tokenizer_hash(r->tokenizer)},
        {"dataset_sha256", p->files.data},       {"config", p->work.settings},
        {"fingerprint", p->work.fingerprint},    {"microw_version", mw_version()},
        {"microw_git", mw_version_git()}};
    memcpy(p->pairs, pairs, sizeof pairs);
    return mw_comm_agree(r->comm, status);
}

static mw_status parse_sites(const mw_strings *names, mw_site *out) {
    for (int64_t i = 0; i < names->count; i++) MW_TRY(mw_site_parse(names->items[i], &out[i]));
    return MW_OK;
}

static mw_status save_meta(const experiment_run *r, const mw_harvest_report *report, const provenance *p) {
    char *path = mw_path_join(r->activations, "meta.json");
    json_t *sites = json_array(), *meta;
    for (int64_t i = 0; i < r->e->harvest.sites.count; i++)
        json_array_append_new(sites, json_string(r->e->harvest.sites.items[i]));
    meta = json_pack("{s:s, s:s, s:s, s:o, s:I, s:I, s:s}", "run", r->e->top.name, "model", r->e->given->model.path,
                     "model_sha256", p->model_hash, "sites", sites, "rows", (json_int_t)report->rows, "tokens",
                     (json_int_t)report->tokens, "dtype", mw_dtype_name(r->e->harvest.options.dtype));
    mw_status status = path && meta ? mw_json_save(path, meta, 1) : MW_ERR_MEMORY;
    json_decref(meta);
    mw_free(path);
    return status;
}

static void print_report(const mw_harvest_report *h, const char *path) {
    printf("harvest: %lld rows of %lld tokens in %s", (long long)h->rows, (long long)h->tokens, path);
    if (h->resumed_blocks) printf(", resumed at block %lld", (long long)h->resumed_blocks);
    printf(" (%.1f s, %.0f tokens/s, %.0f %% of the time waiting for the disk)\n", h->seconds,
           (double)h->tokens / h->seconds, 100 * h->waiting / h->seconds);
    fflush(stdout);
}

static mw_status harvest(experiment_run *r, provenance *p) {
    const harvest_settings *h = &r->e->harvest;
    mw_site *sites = mw_calloc((size_t)h->sites.count, sizeof *sites);
    mw_status status = sites ? parse_sites(&h->sites, sites) : MW_ERR_MEMORY;
    status = mw_comm_agree(r->comm, status);
    mw_harvest_options options = h->options;
    options.sites = sites;
    options.n_sites = h->sites.count;
    options.batch = r->e->dataset.batch;
    options.replace = true;
    options.restart = yaml_hooks_want_all(r->e);
    options.lock = &p->work.lock;
    options.provenance = p->pairs;
    options.n_provenance = PAIRS;
    if (status == MW_OK) status = run_quota(r, &options.allowed_bytes);
    mw_harvest_report report = {0};
    yaml_hooks hooks = {0};
    if (status == MW_OK) status = mw_comm_agree(r->comm, yaml_hooks_attach(&r->e->hooks, r->model, &hooks));
    if (status == MW_OK)
        status = mw_harvest(r->model, r->dataset, r->tokenizer, r->comm, r->activations, &options, &report);
    if (status == MW_OK) status = yaml_hooks_report(&hooks, r->comm, r->folder);
    yaml_hooks_detach(&hooks);
    mw_free(sites);
    if (status != MW_OK) return status;
    if (!run_is_root(r)) return MW_OK;
    print_report(&report, p->work.output);
    return save_meta(r, &report, p);
}

/* Fails, with a message, if another process holds the file: it is neither damaged nor of other settings. */
static mw_status check_not_held(const char *path, mw_status opened) {
    mw_store *store = NULL;
    if (opened != MW_ERR_STATE) return MW_OK;
    mw_status status = mw_store_open(path, &store); /* again, for its message */
    mw_store_close(&store);
    return status;
}

static mw_status verify(const char *path, bool *current) {
    mw_store *store = NULL;
    mw_status status = mw_store_open(path, &store);
    *current = status != MW_OK || mw_store_schema(store) == MW_STORE_SCHEMA;
    if (status == MW_OK) status = mw_store_verify(store);
    mw_store_close(&store);
    return status;
}

/* A complete harvest is overwritten only if it is damaged, or of an earlier version; it stays until the new file is
 * complete. */
static mw_status check_damage(experiment_run *r, stage_work *w) {
    int64_t damaged = 0;
    mw_status status = MW_OK;
    if (run_is_root(r)) {
        mw_log_quiet(true);
        bool current;
        mw_status verdict = verify(w->output, &current);
        mw_log_quiet(false);
        status = check_not_held(w->output, verdict);
        damaged = verdict != MW_OK || !current;
        if (damaged && status == MW_OK)
            mw_log(MW_LOG_WARNING, "%s is %s: harvesting again", w->output,
                   verdict != MW_OK ? "damaged" : "of an earlier version");
    }
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(mw_comm_broadcast(r->comm, &damaged, sizeof damaged, 0));
    w->complete = !damaged;
    w->redo = damaged;
    return MW_OK;
}

/* Looks for the same activations under the name of another experiment, which a run can read instead. */
static mw_status find_same_harvest(experiment_run *r, const stage_work *w, bool *found) {
    harvest_search search = {.r = r, .wanted = w};
    mw_text others = {0};
    int64_t count = 0;
    mw_status status = MW_OK;
    mw_text_add(&others, "", 0);
    if (run_is_root(r) && !mw_file_exists(w->output)) status = harvest_find(&search, &others);
    if (run_is_root(r)) count = search.count;
    if (status == MW_OK && count == 1) printf("harvest: complete, %s has the same settings and data\n", search.path);
    mw_free(search.path);
    mw_text_free(&search.names);
    mw_text_free(&others);
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(mw_comm_broadcast(r->comm, &count, sizeof count, 0));
    *found = count == 1;
    return MW_OK;
}

/* Refuses to replace an unfinished harvest of other settings. */
static mw_status check_unfinished(const experiment_run *r, const stage_work *w) {
    int64_t blocks;
    json_t *record = harvest_unfinished(r->activations, &blocks);
    mw_text why = {0};
    bool same = true;
    mw_status status =
        record && blocks > 0 && !r->overwrite ? stage_work_matches(w, record, false, &same, &why) : MW_OK;
    if (status == MW_OK && !same)
        status = mw_error(MW_ERR_STATE,
                          "%s has an unfinished harvest of %lld blocks with other settings (%s): give the "
                          "experiment another name (--set name=...), or pass --overwrite",
                          r->activations, (long long)blocks, why.data);
    mw_text_free(&why);
    json_decref(record);
    return status;
}

static mw_status make_harvest(experiment_run *r, provenance *p) {
    MW_TRY(stage_work_begin(r, &p->work));
    if (p->work.complete) return MW_OK;
    MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? check_unfinished(r, &p->work) : MW_OK));
    MW_TRY(mw_comm_agree(r->comm, harvest(r, p)));
    return stage_work_finish(r, &p->work);
}

mw_status stage_harvest(experiment_run *r) {
    provenance p = {0};
    bool elsewhere = false;
    MW_TRY(mw_comm_agree(r->comm, yaml_hooks_check(r->e)));
    MW_TRY(run_model(r));
    MW_TRY(run_dataset(r));
    mw_status status = open_work(r, &p);
    if (status == MW_OK) status = stage_work_check(r, &p.work);
    if (status == MW_OK && p.work.complete && r->overwrite) status = check_damage(r, &p.work);
    if (status == MW_OK && !p.work.complete && r->reuse) status = find_same_harvest(r, &p.work, &elsewhere);
    if (status == MW_OK && !p.work.complete && !elsewhere) status = make_harvest(r, &p);
    if (status == MW_OK && p.work.complete && run_is_root(r)) printf("harvest: complete, %s\n", p.work.output);
    stage_work_free(&p.work);
    mw_text_free(&p.files);
    return status;
}
