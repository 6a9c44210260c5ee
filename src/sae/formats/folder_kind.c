/* The format of the SAE in a folder, checks before it is overwritten, and exports that replace another. */
#include "base/json.h"
#include "microw/sae.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A cfg.json of microw has a format; one of SAELens has an architecture. */
static const char *format_of_config(const char *folder) {
    json_t *config = mw_json_load_optional(folder, "cfg.json");
    const char *format = mw_json_text(config, "format");
    const char *found = format && strcmp(format, "microw") == 0              ? "microw"
                        : json_object_get(config, "architecture")            ? "saelens"
                        : mw_file_is_in(folder, "sae.safetensors") || config ? "sparsify"
                                                                             : NULL;
    json_decref(config);
    return found;
}

const char *mw_sae_folder_format(const char *folder) {
    if (mw_file_is_in(folder, "sae_weights.safetensors")) return "saelens";
    if (mw_file_is_in(folder, "ae.pt")) return "dictionary_learning";
    return mw_file_is_in(folder, "cfg.json") || mw_file_is_in(folder, "sae.safetensors") ? format_of_config(folder)
                                                                                         : NULL;
}

mw_status mw_sae_may_write(const char *folder, const char *format, bool overwrite) {
    const char *found = mw_sae_folder_format(folder);
    if (!found || (overwrite && strcmp(found, format) == 0)) return MW_OK;
    if (strcmp(found, format) == 0)
        return mw_error(MW_ERR_STATE, "%s holds an SAE already: give another folder, or pass --overwrite", folder);
    return mw_error(MW_ERR_STATE,
                    "%s holds an SAE in the format of %s: files of %s would be mixed with it; give another folder",
                    folder, found, format);
}

char *mw_sae_aside(const char *folder, const char *name, const char *fingerprint) {
    const char *text = strncmp(fingerprint, "weights:", 8) == 0 ? fingerprint + 8 : fingerprint;
    const char *ending = strrchr(name, '.');
    return mw_format("%s/%.*s-%.8s%s", folder, (int)(ending - name), name, text[0] ? text : "before", ending);
}

/* The former configuration is removed first, and the new one is moved last: so the weights of one SAE are never beside
 * the configuration of another. */
static const char *const export_files[] = {"sae_weights.safetensors", "sae.safetensors", "ae.pt", "cfg.json",
                                           "config.json"};
enum { EXPORT_FILES = sizeof export_files / sizeof *export_files, WEIGHT_FILES = 3 };

/* Moves a file of a folder, if it exists, to the folder `to`; NULL: removes it. */
static mw_status move_or_remove(const char *folder, const char *name, const char *to) {
    char *from = mw_path_join(folder, name), *target = to ? mw_path_join(to, name) : NULL;
    mw_status status = from && (target || !to) ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mw_file_exists(from)) {
        if (to)
            status = mw_file_publish(from, target);
        else if (unlink(from) != 0)
            status = mw_error(MW_ERR_IO, "%s: cannot be removed: %s", from, strerror(errno));
    }
    mw_free(from);
    mw_free(target);
    return status;
}

static mw_status move_files(const char *from, const char *to) {
    mw_status status = MW_OK;
    for (int i = WEIGHT_FILES; i < EXPORT_FILES && status == MW_OK; i++)
        status = move_or_remove(to, export_files[i], NULL);
    for (int i = 0; i < EXPORT_FILES && status == MW_OK; i++) status = move_or_remove(from, export_files[i], to);
    return status;
}

mw_status mw_sae_replace(const mw_sae *sae, const char *format, const char *folder) {
    char *temporary = mw_format("%s/export.%ld.partial", folder, (long)getpid());
    mw_status status = temporary ? mw_sae_export(sae, format, temporary) : MW_ERR_MEMORY;
    if (status == MW_OK) status = move_files(temporary, folder);
    for (int i = 0; i < EXPORT_FILES && temporary && status != MW_OK; i++) {
        mw_status gone = move_or_remove(temporary, export_files[i], NULL);
        (void)gone; /* the first error has been logged */
    }
    if (temporary) rmdir(temporary);
    mw_free(temporary);
    return status;
}
