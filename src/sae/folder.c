/* What kind of SAE lies in a folder, so that nothing is written over another one unasked. */
#include "base/json.h"
#include "microw/sae.h"

#include <stdio.h>
#include <string.h>

static bool has(const char *folder, const char *name) {
    char *path = mw_path_join(folder, name);
    bool there = path && mw_file_exists(path);
    mw_free(path);
    return there;
}

/* A cfg.json of ours says so; SAELens' has an architecture. */
static const char *format_of_config(const char *folder) {
    json_t *config = mw_json_if_there(folder, "cfg.json");
    const char *format = mw_json_text(config, "format");
    const char *found = format && strcmp(format, "microw") == 0    ? "microw"
                        : json_object_get(config, "architecture")  ? "saelens"
                        : has(folder, "sae.safetensors") || config ? "sparsify"
                                                                   : NULL;
    json_decref(config);
    return found;
}

const char *mw_sae_folder_format(const char *folder) {
    if (has(folder, "sae_weights.safetensors")) return "saelens";
    if (has(folder, "ae.pt")) return "dictionary_learning";
    return has(folder, "cfg.json") || has(folder, "sae.safetensors") ? format_of_config(folder) : NULL;
}

mw_status mw_sae_may_write(const char *folder, const char *format, bool overwrite) {
    const char *there = mw_sae_folder_format(folder);
    if (!there || (overwrite && strcmp(there, format) == 0)) return MW_OK;
    if (strcmp(there, format) == 0)
        return mw_error(MW_ERR_STATE, "%s holds an SAE already: give another folder, or pass --overwrite", folder);
    return mw_error(MW_ERR_STATE,
                    "%s holds an SAE in the format of %s: files of %s would be mixed with it; give another folder",
                    folder, there, format);
}
