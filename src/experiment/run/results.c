/* The results of a run, for reports and figures. */
#include "experiment/run/results.h"

#include <string.h>

/* A point BASE.POINT of a sweep has the results of the whole sweep. */
static json_t *find_sweep(const experiment_run *r) {
    json_t *own = mw_json_load_optional(r->folder, "sweep.json");
    const char *dot = strrchr(r->e->top.name, '.');
    if (own || !dot) return own;
    char *base = mw_format("%s/runs/%.*s", r->e->top.store, (int)(dot - r->e->top.name), r->e->top.name);
    if (base) own = mw_json_load_optional(base, "sweep.json");
    mw_free(base);
    return own;
}

/* A discovery of an earlier SAE is left out, with a warning. */
static mw_status read_discovery(const experiment_run *r, results *m) {
    mw_log_quiet(true);
    mw_status status = run_discovery(r, &m->discovery);
    mw_log_quiet(false);
    if (status == MW_OK) return MW_OK;
    if (status != MW_ERR_STATE) return run_discovery(r, &m->discovery); /* again, for its message */
    mw_log(MW_LOG_WARNING, "discovery.h5 belongs to an earlier SAE and is left out: run `microw discover` again");
    m->discovered = false;
    return MW_OK;
}

/* A result of an earlier SAE is left out, with a warning. */
static void drop_stale(const experiment_run *r, const char *stage, json_t **result) {
    const json_t *entry = json_object_get(json_object_get(r->manifest, "stages"), stage);
    const char *measured = mw_json_text(json_object_get(entry, "upstream"), "SAE");
    char hash[MW_MODEL_MARK];
    if (!*result || !measured || !r->sae) return;
    run_sae_hash(r, hash);
    if (strcmp(measured, hash) == 0) return;
    mw_log(MW_LOG_WARNING, "the result of %s belongs to an earlier SAE and is left out: run `microw %s` again", stage,
           stage);
    json_decref(*result);
    *result = NULL;
}

mw_status results_collect(experiment_run *r, results *m) {
    m->harvest = mw_json_load_optional(r->activations, "meta.json");
    m->history = mw_json_load_optional(r->sae_folder, "training_history.json");
    m->evaluation = mw_json_load_optional(r->folder, "evaluate.json");
    m->steering = mw_json_load_optional(r->folder, "steer.json");
    m->sweep = find_sweep(r);
    char *path = mw_path_join(r->sae_folder, "discovery.h5"), *sae = mw_path_join(r->sae_folder, "sae.safetensors");
    mw_status status = path && sae ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mw_file_exists(sae)) status = run_sae_here(r);
    drop_stale(r, "evaluate", &m->evaluation);
    drop_stale(r, "steer", &m->steering);
    m->discovered = status == MW_OK && r->sae && mw_file_exists(path);
    if (m->discovered) status = read_discovery(r, m);
    if (m->discovered && status == MW_OK) status = run_names_load(r, m->discovery.n, &m->names);
    mw_free(path);
    mw_free(sae);
    return status;
}

bool results_is_empty(const results *m) {
    return !m->harvest && !m->history && !m->discovered && !m->evaluation && !m->steering && !m->sweep;
}

void results_release(results *m) {
    json_decref(m->harvest);
    json_decref(m->history);
    json_decref(m->evaluation);
    json_decref(m->steering);
    json_decref(m->sweep);
    mw_discovery_free(&m->discovery);
    mw_names_free(&m->names);
}
