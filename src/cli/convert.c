/* The verbs layers, export, import and config. */
#include "base/json.h"
#include "cli/commands.h"
#include "microw/concepts.h"
#include "microw/experiment.h"

#include <stdio.h>
#include <string.h>

/* ---- layers --------------------------------------------------------------------------------------------- */

static void print_sites(const mw_model *model) {
    const mw_model_info *m = mw_model_about(model);
    printf("%s: %lld layers, width %lld, %lld heads, vocabulary %lld, context %lld, %.3g million parameters\n",
           m->family, (long long)m->n_layers, (long long)m->d_model, (long long)m->n_heads, (long long)m->vocab,
           (long long)m->context, (double)m->parameters / 1e6);
    for (int64_t l = 0; l < m->n_layers; l++)
        for (int s = 0; s < MW_SITE_KIND_COUNT; s++) {
            mw_site site = {(int)l, (mw_site_kind)s};
            int64_t width = mw_model_site_width(model, site);
            char name[MW_SITE_TEXT];
            if (width == 0 || s == MW_LOGITS) continue;
            mw_site_format(site, name);
            printf("%-20s %lld\n", name, (long long)width);
        }
    printf("%-20s %lld\n", "logits", (long long)m->vocab);
}

mw_status verb_layers(const arguments *a) {
    const char *path = argument(a, "--model");
    mw_backend *backend = NULL;
    mw_model *model = NULL;
    if (!path) return mw_error(MW_ERR_CONFIG, "microw layers needs --model");
    MW_TRY(mw_backend_open("cpu", &backend));
    mw_status status = mw_model_open(path, "auto", backend, &model);
    if (status == MW_OK) print_sites(model);
    mw_model_free(&model);
    mw_backend_close(&backend);
    return status;
}

/* ---- export, import, config ------------------------------------------------------------------------------------- */

mw_status verb_export(const arguments *a) {
    const char *folder = argument(a, "--sae"), *format = argument(a, "--format"), *out = argument(a, "--out");
    mw_backend *backend = NULL;
    mw_sae *sae = NULL;
    if (!folder || !format || !out) return mw_error(MW_ERR_CONFIG, "microw export needs --sae, --format and --out");
    MW_TRY(mw_backend_open("cpu", &backend));
    mw_status status = mw_sae_load(folder, backend, &sae);
    if (status == MW_OK) status = mw_sae_may_write(out, format, argument(a, "--overwrite") != NULL);
    if (status == MW_OK) status = mw_sae_replace(sae, format, out);
    if (status == MW_OK) printf("export: %s files in %s\n", format, out);
    mw_sae_free(&sae);
    mw_backend_close(&backend);
    return status;
}

/* Saves an imported SAE under the lock that training takes on the folder, and sets names and history of an SAE that it
 * replaces aside. */
static mw_status save_import(const mw_sae *sae, const char *out, bool overwrite, bool steal) {
    mw_lock lock = {0};
    char *weights = mw_path_join(out, "sae.safetensors");
    mw_status status = weights ? mw_make_directories(out) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_lock_take(weights, 0, steal, &lock);
    if (status == MW_OK) status = mw_sae_may_write(out, "microw", overwrite);
    json_t *former = mw_json_load_optional(out, "cfg.json");
    const char *mark = mw_json_text(former, "fingerprint");
    bool replaces = former && (!mark || strcmp(mark, sae->fingerprint) != 0);
    if (status == MW_OK && replaces) status = mw_names_set_aside(out, mark ? mark : "");
    if (status == MW_OK && replaces) status = mw_history_set_aside(out, mark ? mark : "");
    if (status == MW_OK) status = mw_sae_save(sae, out);
    mw_lock_release(&lock);
    json_decref(former);
    mw_free(weights);
    return status;
}

mw_status verb_import(const arguments *a) {
    const char *folder = argument(a, "--from"), *format = argument(a, "--format"), *out = argument(a, "--out");
    const char *site = argument(a, "--site");
    mw_backend *backend = NULL;
    mw_sae *sae = NULL;
    if (!folder || !format || !out) return mw_error(MW_ERR_CONFIG, "microw import needs --from, --format and --out");
    MW_TRY(mw_backend_open("cpu", &backend));
    mw_status status = mw_sae_import(format, folder, backend, &sae);
    if (status == MW_OK && site) status = mw_put_text(&sae->site, site);
    if (status == MW_OK)
        status = save_import(sae, out, argument(a, "--overwrite") != NULL, argument(a, "--steal-lock") != NULL);
    if (status == MW_OK)
        printf("import: %lld latents of width %lld in %s\n", (long long)sae->n, (long long)sae->d, out);
    mw_sae_free(&sae);
    mw_backend_close(&backend);
    return status;
}

mw_status verb_config(const arguments *a) {
    mw_experiment *experiment = NULL;
    mw_text text = {0};
    if (a->n_sets && !a->n_positional)
        return mw_error(MW_ERR_CONFIG, "--set needs an experiment file: microw config exp.yaml --set ...");
    if (a->n_positional == 1) MW_TRY(mw_experiment_load(a->positional[0], a->sets, a->n_sets, &experiment));
    mw_status status = mw_experiment_describe(experiment, !experiment, &text);
    if (status == MW_OK) fputs(text.data, stdout);
    mw_text_free(&text);
    mw_experiment_free(&experiment);
    return status;
}
