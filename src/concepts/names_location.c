/* Location of an SAE's names: names.csv in its folder, or a file set aside after another SAE replaced it, whose latents
 * the names do not describe. */
#include "microw/concepts.h"

mw_status mw_names_set_aside(const char *folder, const char *fingerprint) {
    char *names = mw_path_join(folder, "names.csv"), *kept = mw_sae_aside(folder, "names.csv", fingerprint);
    mw_status status = names && kept ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mw_file_exists(names)) {
        status = mw_file_publish(names, kept);
        if (status == MW_OK) mw_log(MW_LOG_INFO, "names of the replaced SAE's latents are kept in %s", kept);
    }
    mw_free(names);
    mw_free(kept);
    return status;
}

mw_status mw_names_path(const char *folder, const char *fingerprint, char **out) {
    char *names = mw_path_join(folder, "names.csv"), *kept = mw_sae_aside(folder, "names.csv", fingerprint);
    mw_status status = names && kept ? MW_OK : MW_ERR_MEMORY;
    bool set_aside = status == MW_OK && !mw_file_exists(names) && mw_file_exists(kept);
    if (status == MW_OK) *out = set_aside ? kept : names;
    if (status != MW_OK || set_aside) mw_free(names);
    if (status != MW_OK || !set_aside) mw_free(kept);
    return status;
}
