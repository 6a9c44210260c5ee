#include "experiment/run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool run_is_root(const run *r) {
    return mw_comm_rank(r->comm) == 0;
}

/* ---- what is open -------------------------------------------------------------------------------------- */

static const char *const dtype_names[] = {"auto", "f32", "bf16", "f16"};

/* Ranks of a node take its GPUs in turn. */
static mw_status open_backend(run *r) {
    return r->backend ? MW_OK : mw_backend_open_at(r->e->model.device, mw_comm_place(r->comm), &r->backend);
}

mw_status run_backend(run *r) {
    return r->backend ? MW_OK : mw_comm_agree(r->comm, open_backend(r));
}

mw_status run_model(run *r) {
    if (r->model) return MW_OK;
    MW_TRY(run_backend(r));
    mw_status status = mw_model_open(r->e->model.path, dtype_names[r->e->model.dtype], r->backend, &r->model);
    if (status == MW_OK && !r->e->model.pack_weights) mw_model_keep_plain(r->model);
    return mw_comm_agree(r->comm, status);
}

/* The model's device if that is a CPU, else the CPU beside it. */
mw_status run_sae_backend(run *r) {
    if (r->sae_backend) return MW_OK;
    bool cpu = strncmp(r->e->model.device, "cpu", 3) == 0;
    return mw_backend_open(cpu ? r->e->model.device : "cpu", &r->sae_backend);
}

mw_status run_tokenizer(run *r) {
    if (r->tokenizer) return MW_OK;
    return mw_comm_agree(r->comm, mw_tokenizer_open(r->e->model.path, &r->tokenizer));
}

int32_t untouched_token(const run *r) {
    return r->e->harvest.skip == MW_SKIP_NONE ? -1 : mw_tokenizer_bos(r->tokenizer);
}

mw_dataset_options run_dataset_options(const dataset_settings *d) {
    return (mw_dataset_options){.paths = (const char *const *)d->path.items,
                                .n_paths = d->path.count,
                                .text_field = d->text_field,
                                .split = (mw_text_split)d->split,
                                .separator = d->separator,
                                .context = d->context,
                                .pack = d->pack,
                                .truncate = d->truncate,
                                .bos = (mw_bos_rule)d->bos,
                                .eos = d->eos,
                                .limit_tokens = d->limit_tokens,
                                .limit_documents = d->limit_documents};
}

mw_status run_dataset(run *r) {
    if (r->dataset) return MW_OK;
    MW_TRY(run_tokenizer(r));
    mw_dataset_options options = run_dataset_options(&r->e->dataset);
    return mw_dataset_load(&options, r->tokenizer, r->comm, &r->dataset);
}

/* Where a harvest lies: a name among this store's, or a folder. */
static char *activations_of(const run *r, const char *name) {
    return strchr(name, '/') ? mw_path_join(name, "activations.h5")
                             : mw_format("%s/activations/%s/activations.h5", r->e->top.store, name);
}

static mw_status open_store(run *r) {
    const mw_strings *given = &r->e->sae.activations;
    int64_t n = given->count ? given->count : 1;
    char **paths = mw_calloc((size_t)n, sizeof *paths);
    mw_status status = paths ? MW_OK : MW_ERR_MEMORY;
    for (int64_t i = 0; i < n && status == MW_OK; i++) {
        paths[i] = activations_of(r, given->count ? given->items[i] : r->e->top.name);
        if (!paths[i])
            status = MW_ERR_MEMORY;
        else if (!mw_file_exists(paths[i]))
            status = mw_error(MW_ERR_STATE, "%s is not there: run `microw harvest` first", paths[i]);
    }
    if (status == MW_OK) status = mw_store_open_many((const char *const *)paths, n, &r->store);
    for (int64_t i = 0; i < n && paths; i++) mw_free(paths[i]);
    mw_free(paths);
    return status;
}

mw_status run_store(run *r) {
    return r->store ? MW_OK : mw_comm_agree(r->comm, open_store(r));
}

static mw_status load_sae(run *r) {
    char *path = mw_path_join(r->sae_folder, "sae.safetensors");
    mw_status status = path ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && !mw_file_exists(path))
        status = mw_error(MW_ERR_STATE, "%s is not there: run `microw train` first", path);
    if (status == MW_OK) status = run_sae_backend(r);
    if (status == MW_OK) status = mw_sae_load(r->sae_folder, r->sae_backend, &r->sae);
    mw_free(path);
    return status;
}

/* One that has just been trained is here already, but not yet on the device. */
mw_status run_sae_here(run *r) {
    if (!r->sae) MW_TRY(load_sae(r));
    if (r->sae->device || r->sae->packed) return MW_OK;
    MW_TRY(open_backend(r));
    return mw_sae_use_device(r->sae, r->backend);
}

mw_status run_sae(run *r) {
    return mw_comm_agree(r->comm, run_sae_here(r));
}

static mw_status open_views(const run *r, views *out) {
    char *sites = NULL;
    const char *target = r->e->sae.target;
    MW_TRY(settings_sites(r->e, &sites));
    mw_status status = mw_store_view_open(r->store, sites, &out->in);
    mw_free(sites);
    if (status == MW_OK && target && target[0]) {
        status = mw_store_view_open(r->store, target, &out->target);
        out->out = &out->target;
    }
    return status;
}

mw_status run_views(run *r, views *out) {
    *out = (views){0};
    MW_TRY(run_store(r));
    return mw_comm_agree(r->comm, open_views(r, out));
}

const mw_store_view *rebuilt(const views *v) {
    return v->out ? v->out : &v->in;
}

mw_status run_names_load(const run *r, int64_t n, mw_names *out) {
    char *path = mw_path_join(r->sae_folder, "names.csv");
    mw_names names = {0};
    mw_status status = path ? mw_names_new(n, &names) : MW_ERR_MEMORY;
    if (status == MW_OK && mw_file_exists(path)) status = mw_names_load(path, MW_NAMES_CSV, NULL, &names);
    mw_free(path);
    if (status != MW_OK)
        mw_names_free(&names);
    else
        *out = names;
    return status;
}

mw_status run_names_save(const run *r, const mw_names *names) {
    char *path = mw_path_join(r->sae_folder, "names.csv");
    mw_status status = path ? mw_names_save(path, MW_NAMES_CSV, names, "", "") : MW_ERR_MEMORY;
    mw_free(path);
    return status;
}

mw_status run_discovery(const run *r, mw_discovery *out) {
    char *path = mw_path_join(r->sae_folder, "discovery.h5"), *mark = NULL;
    mw_discovery d = {0};
    mw_status status = path ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && !mw_file_exists(path))
        status = mw_error(MW_ERR_STATE, "%s is not there: run `microw discover` first", path);
    if (status == MW_OK) status = mw_discovery_load(path, &d, &mark);
    if (status == MW_OK && (d.n != r->sae->n || strcmp(mark, r->sae->fingerprint) != 0))
        status = mw_error(MW_ERR_STATE, "%s is of another SAE than there is now: run `microw discover` again", path);
    mw_free(path);
    mw_free(mark);
    if (status != MW_OK)
        mw_discovery_free(&d);
    else
        *out = d;
    return status;
}

mw_status run_concepts_save(const run *r, const mw_discovery *d, const mw_names *names) {
    char *path = mw_path_join(r->sae_folder, "concepts.json");
    mw_status status = path ? mw_concepts_save(path, d, names) : MW_ERR_MEMORY;
    mw_free(path);
    return status;
}

/* ---- what may be written ------------------------------------------------------------------------------- */

mw_status run_quota(const run *r, double *left) {
    double quota = r->e->top.quota_gb * 1e9;
    uint64_t held = 0;
    *left = 0;
    if (!(quota > 0)) return MW_OK;
    mw_status status = run_is_root(r) ? mw_folder_size(r->e->top.store, &held) : MW_OK;
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(mw_comm_broadcast(r->comm, &held, sizeof held, 0));
    *left = quota - (double)held;
    return *left > 0 ? MW_OK
                     : mw_error(MW_ERR_IO, "%s holds %.3g GB, quota_gb is %.3g", r->e->top.store, (double)held / 1e9,
                                r->e->top.quota_gb);
}

static mw_status check_disk(const run *r, double bytes, const char *what) {
    uint64_t there = 0;
    MW_TRY(mw_make_directories(r->e->top.store));
    MW_TRY(mw_free_space(r->e->top.store, &there));
    if (bytes <= (double)there) return MW_OK;
    return mw_error(MW_ERR_IO, "%s: %s need %.3g GB, but only %.3g GB are free", r->e->top.store, what, bytes / 1e9,
                    (double)there / 1e9);
}

mw_status run_room(const run *r, double bytes, const char *what) {
    double left;
    MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? check_disk(r, bytes, what) : MW_OK));
    MW_TRY(run_quota(r, &left));
    if (left == 0 || bytes <= left) return MW_OK;
    return mw_error(MW_ERR_IO, "%s: %s need %.3g GB, but quota_gb leaves %.3g GB", r->e->top.store, what, bytes / 1e9,
                    left / 1e9);
}

/* ---- what is done -------------------------------------------------------------------------------------- */

mw_status run_fingerprint(const run *r, const char *const *sections, int count, const char *upstream,
                          char out[MW_SHA256_TEXT]) {
    mw_text text = {0};
    mw_text_addf(&text, "%s\n", upstream);
    mw_status status = settings_write(r->e, sections, count, false, &text);
    if (status == MW_OK) status = mw_sha256(text.data, text.length, out);
    mw_text_free(&text);
    return status;
}

const char *run_stage_mark(const run *r, const char *stage) {
    const char *mark = mw_json_text(json_object_get(r->manifest, "stages"), stage);
    return mark ? mark : "";
}

static mw_status save_manifest(const run *r) {
    char *path = mw_path_join(r->folder, "manifest.json");
    mw_status status = path ? mw_make_directories(r->folder) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_json_save(path, r->manifest, 1);
    mw_free(path);
    return status;
}

mw_status run_stage_done(run *r, const char *stage, const char *fingerprint) {
    json_t *stages = json_object_get(r->manifest, "stages");
    json_object_set_new(stages, stage, json_string(fingerprint));
    return mw_comm_agree(r->comm, run_is_root(r) ? save_manifest(r) : MW_OK);
}

mw_status run_remove(const char *output) {
    if (unlink(output) != 0) return mw_error(MW_ERR_IO, "%s cannot be removed", output);
    return MW_OK;
}

/* 0: not there; 1: there, by other settings; 2: there, by these. Local to rank 0. */
static mw_status look_at_output(const run *r, const char *stage, const char *fingerprint, const char *output,
                                mw_status (*own)(const char *, char[MW_SHA256_TEXT]), int64_t *verdict) {
    char mark[MW_SHA256_TEXT];
    *verdict = mw_file_exists(output);
    if (!*verdict) return MW_OK;
    bool same = strcmp(run_stage_mark(r, stage), fingerprint) == 0;
    if (!same) {
        MW_TRY(own(output, mark));
        same = strcmp(mark, fingerprint) == 0;
    }
    *verdict += same;
    return MW_OK;
}

mw_status run_check_stage(run *r, const char *stage, const char *fingerprint, const char *output,
                          mw_status (*own)(const char *output, char out[MW_SHA256_TEXT]), bool *complete) {
    int64_t verdict = 0;
    mw_status status = run_is_root(r) ? look_at_output(r, stage, fingerprint, output, own, &verdict) : MW_OK;
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(mw_comm_broadcast(r->comm, &verdict, sizeof verdict, 0));
    *complete = verdict == 2;
    if (*complete && strcmp(run_stage_mark(r, stage), fingerprint) != 0) return run_stage_done(r, stage, fingerprint);
    if (verdict != 1) return MW_OK;
    if (!r->overwrite) {
        /* every rank has the same verdict and the same message */
        return mw_error(MW_ERR_STATE,
                        "%s was made with other settings; give the experiment another name, or pass --overwrite",
                        output);
    }
    return mw_comm_agree(r->comm, run_is_root(r) ? run_remove(output) : MW_OK);
}

/* ---- opening and closing ------------------------------------------------------------------------------- */

static mw_status read_manifest(run *r) {
    char *path = mw_path_join(r->folder, "manifest.json");
    mw_status status = path ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mw_file_exists(path)) status = mw_json_load(path, &r->manifest);
    if (status == MW_OK && !r->manifest) r->manifest = json_pack("{s:{}}", "stages");
    if (status == MW_OK && !json_is_object(json_object_get(r->manifest, "stages")))
        status = mw_error(MW_ERR_FORMAT, "%s: expected an object \"stages\"", path);
    mw_free(path);
    return status;
}

static mw_status make_paths(run *r) {
    const char *store = r->e->top.store, *name = r->e->top.name;
    r->folder = mw_format("%s/runs/%s", store, name);
    r->activations = mw_format("%s/activations/%s", store, name);
    r->sae_folder = mw_format("%s/sae_models/%s", store, name);
    return r->folder && r->activations && r->sae_folder ? MW_OK : MW_ERR_MEMORY;
}

static mw_status save_config(const run *r) {
    mw_text text = {0};
    char *path = mw_path_join(r->folder, "config.yaml");
    mw_status status = path ? mw_make_directories(r->folder) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_experiment_describe(r->e, false, &text);
    if (status == MW_OK) status = mw_file_write_atomic(path, text.data, text.length);
    mw_text_free(&text);
    mw_free(path);
    return status;
}

void run_close(run *r) {
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
    *r = (run){0};
}

mw_status run_open(const mw_experiment *e, const mw_comm *comm, bool overwrite, run *out) {
    run r = {.e = e, .comm = comm, .overwrite = overwrite};
    mw_status status = make_paths(&r);
    if (status == MW_OK) status = read_manifest(&r);
    if (status == MW_OK && run_is_root(&r)) status = save_config(&r);
    status = mw_comm_agree(comm, status);
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

/* STAGE_COUNT: there is none of this name. */
static int stage_index(const char *name) {
    int i = 0;
    while (i < STAGE_COUNT && strcmp(stages[i].name, name) != 0) i++;
    return i;
}

bool mw_experiment_has_command(const char *command) {
    return stage_index(command) < STAGE_COUNT || strcmp(command, "run") == 0;
}

mw_status run_stages(run *r, const char *first, int *done) {
    for (int i = stage_index(first); i < STAGE_COUNT; i++) {
        if (!settings_has(r->e, stages[i].section)) continue;
        MW_TRY(stages[i].go(r));
        ++*done;
        MW_TRY(mw_comm_agree(r->comm, mw_if_interrupted(MW_OK)));
    }
    return MW_OK;
}

static mw_status run_one(run *r, const char *command) {
    int i = stage_index(command);
    if (i == STAGE_COUNT) return mw_error(MW_ERR_CONFIG, "there is no stage '%s'", command);
    if (!stages[i].optional && !settings_has(r->e, stages[i].section))
        return mw_error(MW_ERR_CONFIG, "%s:1: section '%s' is missing", r->e->document.file, stages[i].section);
    return stages[i].go(r);
}

static mw_status go(run *r, const char *command) {
    int done = 0;
    if (strcmp(command, "run") != 0) return run_one(r, command);
    MW_TRY(settings_check_harvested(r->e));
    MW_TRY(run_stages(r, stages[0].name, &done));
    return done
               ? MW_OK
               : mw_error(MW_ERR_CONFIG, "%s: no stage in the file (harvest, train, discover, naming, evaluate, steer)",
                          r->e->document.file);
}

mw_status mw_experiment_run(mw_experiment *experiment, const char *command, const mw_comm *comm, bool overwrite) {
    run r;
    MW_TRY(run_open(experiment, comm, overwrite, &r));
    mw_status status = go(&r, command);
    run_close(&r);
    return status;
}
