/* The harvests of a store. */
#include "experiment/run/find_harvest.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

const char *const harvest_sections[HARVEST_SECTIONS] = {"model", "dataset", "hooks", "harvest"};

/* Reads an attribute of a store, or of an unfinished file. */
typedef mw_status (*read_text)(const void *from, const char *key, char **out);

static mw_status text_of_store(const void *from, const char *key, char **out) {
    return mw_store_provenance(from, key, out);
}

static mw_status text_of_file(const void *from, const char *key, char **out) {
    return mw_arrays_text(from, key, out);
}

static mw_status add_text(read_text read, const void *from, const char *name, json_t *to, const char *key) {
    char *value = NULL;
    mw_status status = read(from, name, &value);
    if (status == MW_OK) json_object_set_new(to, key, mw_json_string(value, strlen(value)));
    mw_free(value);
    return status;
}

/* Attributes that earlier versions did not write are left out. */
static mw_status read_record(read_text read, const void *from, json_t *record, json_t *upstream) {
    static const char *const hashes[][2] = {{"model_sha256", "model"},
                                            {"model_config_sha256", "model_config"},
                                            {"tokenizer_sha256", "tokenizer"},
                                            {"dataset_sha256", "data"}};
    MW_TRY(add_text(read, from, "fingerprint", record, "fingerprint"));
    mw_log_quiet(true);
    mw_status status = add_text(read, from, "config", record, "settings");
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes && status != MW_ERR_MEMORY; i++)
        status = add_text(read, from, hashes[i][0], upstream, hashes[i][1]);
    mw_log_quiet(false);
    if (status == MW_ERR_MEMORY) return status;
    return json_object_set(record, "upstream", upstream) == 0 ? MW_OK : MW_ERR_MEMORY;
}

mw_status harvest_record(const char *output, json_t **out) {
    mw_store *store = NULL;
    json_t *record = json_object(), *upstream = json_object();
    mw_status status = record && upstream ? mw_store_open(output, &store) : MW_ERR_MEMORY;
    if (status == MW_OK) status = read_record(text_of_store, store, record, upstream);
    mw_store_close(&store);
    json_decref(upstream);
    if (status == MW_OK)
        *out = record;
    else
        json_decref(record);
    return status;
}

json_t *harvest_unfinished(const char *folder, int64_t *blocks) {
    mw_arrays *file = NULL;
    char *path = mw_path_join(folder, "activations.h5.partial");
    json_t *record = json_object(), *upstream = json_object(),
           *progress = mw_json_load_optional(folder, "progress.json");
    *blocks = (int64_t)mw_json_number(progress, "blocks_done", 0);
    mw_log_quiet(true);
    mw_status status = path && record && upstream && mw_file_exists(path) ? mw_arrays_open(path, &file) : MW_ERR_IO;
    if (status == MW_OK) status = read_record(text_of_file, file, record, upstream);
    mw_log_quiet(false);
    mw_arrays_close(&file);
    json_decref(upstream);
    json_decref(progress);
    mw_free(path);
    if (status == MW_OK) return record;
    json_decref(record);
    return NULL;
}

static mw_status add_match(harvest_search *s, const char *name, const char *path) {
    mw_text_addf(&s->names, "%s%s", s->count ? ", " : "", name);
    if (s->count++ == 0 && !(s->path = mw_strdup(path))) return MW_ERR_MEMORY;
    return s->names.failed ? MW_ERR_MEMORY : MW_OK;
}

static mw_status compare_harvest(harvest_search *s, const stage_work *wanted, const char *name, const char *path,
                                 mw_text *others) {
    json_t *record = NULL;
    mw_text why = {0};
    bool same = false;
    mw_log_quiet(true);
    mw_status readable = harvest_record(path, &record);
    mw_log_quiet(false);
    if (readable != MW_OK) return readable == MW_ERR_MEMORY ? readable : MW_OK;
    bool comparable = s->wanted || settings_has(s->r->e, "harvest");
    mw_status status = comparable ? stage_work_matches(wanted, record, s->paths, &same, &why) : MW_OK;
    if (status == MW_OK && same) status = add_match(s, name, path);
    if (status == MW_OK && !same) mw_text_addf(others, "%s%s", others->length ? ", " : "", name);
    json_decref(record);
    mw_text_free(&why);
    return status;
}

static int is_folder_name(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

mw_status harvest_find(harvest_search *s, mw_text *others) {
    struct dirent **list = NULL;
    stage_work by_settings = {0};
    char *folder = mw_path_join(s->r->e->top.store, "activations");
    mw_status status = folder ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && !s->wanted)
        status = stage_work_open(s->r, &by_settings, "harvest", mw_strdup(""), harvest_sections, HARVEST_SECTIONS, NULL,
                                 0, NULL);
    int n = status == MW_OK ? scandir(folder, &list, is_folder_name, alphasort) : 0;
    for (int i = 0; i < n; i++) {
        char *path = mw_format("%s/%s/activations.h5", folder, list[i]->d_name);
        if (!path) status = MW_ERR_MEMORY;
        if (status == MW_OK && mw_file_exists(path))
            status = compare_harvest(s, s->wanted ? s->wanted : &by_settings, list[i]->d_name, path, others);
        mw_free(path);
        free(list[i]);
    }
    free(list);
    stage_work_free(&by_settings);
    mw_free(folder);
    return status;
}
