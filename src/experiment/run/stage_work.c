/* Fingerprints, the manifest and locks of stages. */
#include "experiment/run/stage_work.h"
#include "comm/shared_folder.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_SECONDS = 10 }; /* locks of small files are held for less */

/* ---- fingerprint --------------------------------------------------------------------------------------------- */

mw_status stage_work_open(const experiment_run *r, stage_work *w, const char *stage, char *output,
                          const char *const *sections, int count, const mw_pair *upstream, int n_upstream,
                          stage_record_reader read_record) {
    mw_text text = {0}, whole = {0};
    *w = (stage_work){.stage = stage, .output = output, .read_record = read_record, .upstream = json_object()};
    mw_text_add(&text, "", 0);
    mw_status status = output && w->upstream ? settings_write(r->e, sections, count, false, &text) : MW_ERR_MEMORY;
    for (int i = 0; i < n_upstream; i++) {
        json_object_set_new(w->upstream, upstream[i].key, mw_json_string(upstream[i].value, strlen(upstream[i].value)));
        mw_text_addf(&whole, "%s%s", i ? " " : "", upstream[i].value);
    }
    mw_text_addf(&whole, "\n%s", text.data ? text.data : "");
    if (status == MW_OK)
        status = text.failed || whole.failed ? MW_ERR_MEMORY : mw_sha256(whole.data, whole.length, w->fingerprint);
    w->settings = text.data;
    mw_text_free(&whole);
    return status;
}

void stage_work_free(stage_work *w) {
    mw_lock_release(&w->lock);
    json_decref(w->upstream);
    mw_free(w->settings);
    mw_free(w->output);
    *w = (stage_work){0};
}

/* ---- the manifest -------------------------------------------------------------------------------------------- */

/* Returns a stage's entry, new if there is none. Entries of earlier versions were the fingerprint alone. */
static json_t *entry_of(json_t *manifest, const char *stage) {
    json_t *stages = json_object_get(manifest, "stages"), *entry = json_object_get(stages, stage);
    if (json_is_object(entry)) return entry;
    json_t *made = json_object();
    if (json_is_string(entry)) json_object_set(made, "fingerprint", entry);
    json_object_set_new(stages, stage, made);
    return made;
}

mw_status manifest_put(experiment_run *r, const char *stage, const char *key, json_t *value) {
    char *path = mw_path_join(r->folder, "manifest.json");
    mw_lock lock = {0};
    json_t *fresh = NULL;
    mw_status status = path && value ? mw_make_directories(r->folder) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_lock_take(path, LOCK_SECONDS, r->steal_lock, &lock);
    if (status == MW_OK) status = manifest_load(path, &fresh);
    if (status == MW_OK) {
        if (key)
            json_object_set(entry_of(fresh, stage), key, value);
        else
            json_object_set(json_object_get(fresh, "stages"), stage, value);
        status = mw_json_save(path, fresh, 1);
    }
    mw_lock_release(&lock);
    if (status == MW_OK) {
        json_decref(r->manifest);
        r->manifest = fresh;
    } else {
        json_decref(fresh);
    }
    json_decref(value);
    mw_free(path);
    return status;
}

/* Reads the manifest again: another process may have changed it. */
static mw_status reload_manifest(experiment_run *r) {
    char *path = mw_path_join(r->folder, "manifest.json");
    json_t *fresh = NULL;
    mw_status status = path ? manifest_load(path, &fresh) : MW_ERR_MEMORY;
    mw_free(path);
    if (status != MW_OK) return status;
    json_decref(r->manifest);
    r->manifest = fresh;
    return MW_OK;
}

/* ---- is the output complete? --------------------------------------------------------------------------------- */

static bool same_text(const json_t *a, const char *b) {
    return json_is_string(a) && strcmp(json_string_value(a), b) == 0;
}

/* Returns the hash that a record has of an input. Earlier versions wrote "turned" for "steered". */
static const json_t *recorded_hash(const json_t *record, const char *key) {
    const json_t *upstream = json_object_get(record, "upstream"), *hash = json_object_get(upstream, key);
    if (!hash && strcmp(key, "steered latents") == 0) hash = json_object_get(upstream, "turned latents");
    return hash;
}

/* Compares the hashes that both have. */
static void compare_upstream(const stage_work *w, const json_t *record, mw_text *why) {
    const char *key;
    json_t *current;
    json_object_foreach(w->upstream, key, current) {
        const json_t *recorded = recorded_hash(record, key);
        if (!recorded || json_equal(recorded, current)) continue;
        mw_text_addf(why, "%sthe %s %s other content", why->length ? "; " : "", key,
                     mw_ends_with(key, "s") ? "have" : "has");
    }
}

mw_status stage_work_matches(const stage_work *w, const json_t *record, bool paths, bool *same, mw_text *why) {
    const char *settings = mw_json_text(record, "settings");
    *same = same_text(json_object_get(record, "fingerprint"), w->fingerprint);
    mw_text_add(why, "", 0);
    if (*same) return MW_OK;
    if (!settings || !json_is_object(json_object_get(record, "upstream"))) {
        mw_text_addf(why, "which ones is not recorded");
        return why->failed ? MW_ERR_MEMORY : MW_OK;
    }
    MW_TRY(settings_differences(settings, w->settings, paths, why));
    compare_upstream(w, record, why);
    *same = why->length == 0;
    return why->failed ? MW_ERR_MEMORY : MW_OK;
}

mw_status stage_record_of_json(const char *output, json_t **out) {
    json_t *root = NULL;
    MW_TRY(mw_json_load(output, &root));
    const char *fingerprint = mw_json_text(root, "stage");
    *out = json_pack("{s:s}", "fingerprint", fingerprint ? fingerprint : "");
    json_decref(root);
    return *out ? MW_OK : MW_ERR_MEMORY;
}

mw_status stage_record_of_arrays(const char *output, json_t **out) {
    mw_arrays *file = NULL;
    char *fingerprint = NULL;
    MW_TRY(mw_arrays_open(output, &file));
    mw_log_quiet(true); /* earlier versions wrote none */
    mw_status status = mw_arrays_text(file, "stage", &fingerprint);
    mw_log_quiet(false);
    mw_arrays_close(&file);
    if (status != MW_ERR_MEMORY && !(*out = json_pack("{s:s}", "fingerprint", fingerprint ? fingerprint : "")))
        status = MW_ERR_MEMORY;
    mw_free(fingerprint);
    return status == MW_ERR_MEMORY ? status : MW_OK;
}

/* Reads the output's own record, and adds the manifest's entry if that has the same fingerprint. */
static mw_status record_of(experiment_run *r, const stage_work *w, json_t **out) {
    json_t *entry = json_object_get(json_object_get(r->manifest, "stages"), w->stage);
    json_t *own = NULL;
    if (r->overwrite) mw_log_quiet(true); /* a damaged output is replaced: no message */
    mw_status status = w->read_record(w->output, &own);
    if (r->overwrite) mw_log_quiet(false);
    if (status == MW_ERR_STATE && r->overwrite)
        status = w->read_record(w->output, &own); /* another process holds it: with its message */
    if (status == MW_ERR_MEMORY || status == MW_ERR_STATE) return status;
    if (status != MW_OK && !r->overwrite)
        return mw_error(status, "%s exists but cannot be used; --overwrite makes it again", w->output);
    bool known =
        json_is_object(entry) && json_equal(json_object_get(entry, "fingerprint"), json_object_get(own, "fingerprint"));
    if (known) json_object_update_missing(own, entry);
    *out = own;
    return MW_OK;
}

/* SAME_UNRECORDED: the manifest has no entry, since a run was killed before it wrote one. */
typedef enum verdict { ABSENT, OTHER, SAME, SAME_UNRECORDED } verdict;

/* On rank 0: compares the output with the work. */
static mw_status judge_output(experiment_run *r, const stage_work *w, int64_t *out, mw_text *why) {
    json_t *record = NULL;
    bool same = false;
    *out = ABSENT;
    why->length = 0;
    mw_text_add(why, "", 0);
    if (!mw_file_exists(w->output)) return MW_OK;
    MW_TRY(reload_manifest(r));
    MW_TRY(record_of(r, w, &record));
    mw_status status = stage_work_matches(w, record, false, &same, why);
    *out = !same ? OTHER : run_stage_fingerprint(r, w->stage)[0] ? SAME : SAME_UNRECORDED;
    json_decref(record);
    return status;
}

/* MW_ERR_CONFIG if ranks have different inputs. The text that is compared has a line for each. */
static mw_status same_upstream(const experiment_run *r, const stage_work *w) {
    mw_text text = {0};
    const char *key;
    json_t *value;
    if (mw_comm_size(r->comm) == 1) return MW_OK;
    mw_text_add(&text, "", 0);
    json_object_foreach(w->upstream, key, value) mw_text_addf(&text, "%s %s\n", key, json_string_value(value));
    mw_status status = mw_comm_agree(r->comm, text.failed ? MW_ERR_MEMORY : MW_OK);
    if (status == MW_OK) status = mw_comm_require_same(r->comm, "the inputs of the stage", text.data);
    mw_text_free(&text);
    return status;
}

static mw_status check_output(experiment_run *r, stage_work *w, int64_t *verdict) {
    int64_t found = ABSENT;
    mw_text why = {0};
    MW_TRY(same_upstream(r, w));
    mw_status status = run_is_root(r) ? judge_output(r, w, &found, &why) : MW_OK;
    if (status == MW_OK && found == OTHER && !r->overwrite)
        status = mw_error(MW_ERR_STATE,
                          "%s was made with other settings (%s): give the experiment another name (--set name=...), or "
                          "pass --overwrite",
                          w->output, why.data);
    mw_text_free(&why);
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(mw_comm_broadcast(r->comm, &found, sizeof found, 0));
    w->complete = found >= SAME && !w->redo;
    *verdict = found;
    return MW_OK;
}

mw_status stage_work_check(experiment_run *r, stage_work *w) {
    int64_t verdict;
    MW_TRY(check_output(r, w, &verdict));
    return verdict == SAME_UNRECORDED ? stage_work_finish(r, w) : MW_OK;
}

mw_status stage_work_check_or_redo(experiment_run *r, stage_work *w) {
    MW_TRY(stage_work_check(r, w));
    w->redo = w->complete && r->overwrite;
    w->complete = w->complete && !r->overwrite;
    return MW_OK;
}

/* ---- begin and finish ---------------------------------------------------------------------------------------- */

static mw_status save_config(const experiment_run *r) {
    mw_text text = {0};
    char *path = mw_path_join(r->folder, "config.yaml");
    mw_status status = path ? mw_make_directories(r->folder) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_experiment_describe(r->e, false, &text);
    if (status == MW_OK) status = mw_file_write_atomic(path, text.data, text.length);
    mw_text_free(&text);
    mw_free(path);
    return status;
}

static mw_status take_lock(const experiment_run *r, stage_work *w) {
    char *folder = mw_path_directory(w->output);
    mw_status status = folder ? mw_make_directories(folder) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_make_directories(r->folder);
    if (status == MW_OK) status = mw_lock_take(w->output, 0, r->steal_lock, &w->lock);
    mw_free(folder);
    return status;
}

mw_status stage_work_begin(experiment_run *r, stage_work *w) {
    int64_t verdict;
    MW_TRY(shared_folder_check(r->comm, r->e->top.store));
    MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? take_lock(r, w) : MW_OK));
    MW_TRY(check_output(r, w, &verdict));
    return MW_OK;
}

mw_status stage_work_finish(experiment_run *r, stage_work *w) {
    json_t *entry = NULL;
    if (run_is_root(r))
        entry = json_pack("{s:s, s:s, s:O}", "fingerprint", w->fingerprint, "settings", w->settings, "upstream",
                          w->upstream);
    mw_status status = run_is_root(r) ? manifest_put(r, w->stage, NULL, entry) : MW_OK;
    if (status == MW_OK && run_is_root(r)) status = save_config(r);
    mw_lock_release(&w->lock);
    return mw_comm_agree(r->comm, status);
}
