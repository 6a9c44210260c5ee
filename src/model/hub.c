/* Resolves model names: folders, and Hub ids in the local Hugging Face cache. */
#include "model/hub.h"

#include <string.h>

static char *cache_root(void) {
    const char *cache = mw_environment("HF_HUB_CACHE"), *home = mw_environment("HF_HOME");
    if (cache) return mw_strdup(cache);
    if (home) return mw_path_join(home, "hub");
    const char *user = mw_environment("HOME");
    return mw_path_join(user ? user : ".", ".cache/huggingface/hub");
}

/* models--org--name */
static char *repository_name(const char *id) {
    const char *slash = strchr(id, '/');
    return slash ? mw_format("models--%.*s--%s", (int)(slash - id), id, slash + 1) : mw_format("models--%s", id);
}

static bool looks_like_id(const char *model) {
    const char *slash = strchr(model, '/');
    return model[0] && model[0] != '.' && model[0] != '/' && !strstr(model, "..") &&
           (!slash || (slash[1] && !strchr(slash + 1, '/')));
}

/* refs/main holds the commit; the files are in snapshots/<commit>. */
static mw_status snapshot(const char *repository, char **out) {
    char *ref = mw_path_join(repository, "refs/main"), *commit = NULL;
    mw_status status = ref ? mw_file_read(ref, &commit, NULL) : MW_ERR_MEMORY;
    if (status == MW_OK) {
        commit[strcspn(commit, " \r\n")] = '\0';
        *out = strchr(commit, '/') || commit[0] == '.' ? NULL : mw_format("%s/snapshots/%s", repository, commit);
        if (!*out) status = mw_error(MW_ERR_FORMAT, "%s: not a commit", ref);
    }
    mw_free(ref);
    mw_free(commit);
    return status;
}

/* States the likelier mistake first: a path whose parent folder exists was meant as a path. */
static mw_status not_found(const char *model, const char *repository) {
    char *whole = mw_path_absolute(model), *parent = mw_path_directory(model);
    mw_status status = whole && parent ? MW_OK : MW_ERR_MEMORY;
    bool path = parent && strchr(model, '/') && mw_is_directory(parent);
    if (status == MW_OK && mw_file_exists(model))
        status = mw_error(MW_ERR_CONFIG, "model '%s' is a file: expected the model's folder, or a Hub id", model);
    else if (status == MW_OK && !repository)
        status = mw_error(MW_ERR_IO, "model '%s': no such folder (%s)", model, whole);
    else if (status == MW_OK && path)
        status = mw_error(MW_ERR_IO, "model '%s': no such folder (%s), and not in the Hugging Face cache (%s)", model,
                          whole, repository);
    else if (status == MW_OK)
        status = mw_error(MW_ERR_IO, "model '%s' is not in the Hugging Face cache (%s), and no such folder exists (%s)",
                          model, repository, whole);
    mw_free(whole);
    mw_free(parent);
    return status;
}

mw_status mw_hub_folder(const char *model, char **out) {
    if (mw_is_directory(model)) return (*out = mw_strdup(model)) ? MW_OK : MW_ERR_MEMORY;
    if (!model[0]) return mw_error(MW_ERR_CONFIG, "the model's path is empty");
    if (!looks_like_id(model)) return not_found(model, NULL);
    char *root = cache_root(), *name = repository_name(model);
    char *repository = root && name ? mw_path_join(root, name) : NULL;
    mw_status status = repository ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK)
        status = mw_is_directory(repository) ? snapshot(repository, out) : not_found(model, repository);
    mw_free(root);
    mw_free(name);
    mw_free(repository);
    return status;
}
