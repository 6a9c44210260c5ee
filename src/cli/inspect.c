/* microw layers, inspect, export, config. */
#include "cli/commands.h"
#include "microw/concepts.h"
#include "microw/experiment.h"
#include "microw/safetensors.h"

#include <stdio.h>
#include <string.h>

/* ---- layers --------------------------------------------------------------------------------------------- */

static void print_sites(const mw_model *model) {
    const mw_model_info *m = mw_model_about(model);
    printf("%s: %lld layers, width %lld, %lld heads, vocabulary %lld, context %lld, %.3g million parameters\n",
           m->family, (long long)m->n_layers, (long long)m->d_model, (long long)m->n_heads, (long long)m->vocab,
           (long long)m->context, (double)m->parameters / 1e6);
    for (int64_t l = 0; l < m->n_layers; l++)
        for (int s = 0; s < MW_STREAM_COUNT; s++) {
            mw_site site = {(int)l, (mw_stream)s};
            int64_t width = mw_model_site_width(model, site);
            char name[MW_SITE_TEXT];
            if (width == 0 || s == MW_LOGITS) continue;
            mw_site_format(site, name);
            printf("%-20s %lld\n", name, (long long)width);
        }
    printf("%-20s %lld\n", "logits", (long long)m->vocab);
}

mw_status command_layers(const arguments *a) {
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

/* ---- inspect -------------------------------------------------------------------------------------------- */

static mw_status print_provenance(const mw_store *store) {
    static const char *const keys[] = {"model",          "model_sha256", "tokenizer_sha256", "dataset_sha256",
                                       "microw_version", "microw_git",   "fingerprint"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char *value;
        MW_TRY(mw_store_provenance(store, keys[i], &value));
        printf("%-18s %s\n", keys[i], value);
        mw_free(value);
    }
    return MW_OK;
}

static mw_status inspect_store(const char *path) {
    mw_store *store;
    mw_store_tokens tokens = {0};
    MW_TRY(mw_store_open(path, &store));
    mw_status status = print_provenance(store);
    if (status == MW_OK) status = mw_store_read_tokens(store, &tokens);
    if (status == MW_OK)
        printf("%lld rows of %lld sequences from %lld documents\n", (long long)tokens.n_rows,
               (long long)tokens.n_sequences, (long long)tokens.n_documents);
    for (int64_t i = 0; status == MW_OK && i < mw_store_site_count(store); i++) {
        const mw_store_site *s = mw_store_site_at(store, i);
        char name[MW_SITE_TEXT];
        mw_site_format(s->site, name);
        printf("%-18s width %lld, %s, mean norm %.6g\n", name, (long long)s->width, mw_dtype_name(s->dtype),
               s->norm_mean);
    }
    if (status == MW_OK) status = mw_store_verify(store);
    if (status == MW_OK) printf("checksums match\n");
    mw_store_tokens_free(&tokens);
    mw_store_close(&store);
    return status;
}

static mw_status inspect_tensors(const char *path) {
    mw_safetensors *file;
    MW_TRY(mw_safetensors_open(path, &file));
    for (int64_t i = 0; i < mw_safetensors_count(file); i++) {
        mw_tensor t;
        const char *name = mw_safetensors_name(file, i);
        if (!mw_safetensors_find(file, name, &t)) continue;
        printf("%-40s %s [", name, mw_dtype_name(t.dtype));
        for (int d = 0; d < t.ndim; d++) printf("%s%lld", d ? ", " : "", (long long)t.shape[d]);
        printf("]\n");
    }
    char hash[MW_SHA256_TEXT];
    mw_status status = mw_safetensors_hash(file, hash);
    if (status == MW_OK) printf("sha256 %s\n", hash);
    mw_safetensors_free(&file);
    return status;
}

static mw_status inspect_sae(const char *folder) {
    mw_backend *backend = NULL;
    mw_sae *sae = NULL;
    MW_TRY(mw_backend_open("cpu", &backend));
    mw_status status = mw_sae_load(folder, backend, &sae);
    mw_text what = {0};
    if (status == MW_OK) status = mw_sae_describe(sae, &what);
    if (status == MW_OK)
        printf("%s; width %lld to %lld, model %s\n", what.data, (long long)sae->d, (long long)sae->d_out, sae->model);
    mw_text_free(&what);
    mw_sae_free(&sae);
    mw_backend_close(&backend);
    return status;
}

mw_status command_inspect(const arguments *a) {
    if (a->n_positional != 1) return mw_error(MW_ERR_CONFIG, "microw inspect needs one file or SAE folder");
    const char *path = a->positional[0];
    if (mw_is_directory(path)) {
        char *inner = mw_path_join(path, "activations.h5");
        if (!inner) return MW_ERR_MEMORY;
        mw_status status = mw_file_exists(inner) ? inspect_store(inner) : inspect_sae(path);
        mw_free(inner);
        return status;
    }
    return mw_ends_with(path, ".safetensors") ? inspect_tensors(path) : inspect_store(path);
}

/* ---- export, import, config ------------------------------------------------------------------------------------- */

mw_status command_export(const arguments *a) {
    const char *folder = argument(a, "--sae"), *format = argument(a, "--format"), *out = argument(a, "--out");
    mw_backend *backend = NULL;
    mw_sae *sae = NULL;
    if (!folder || !format || !out) return mw_error(MW_ERR_CONFIG, "microw export needs --sae, --format and --out");
    MW_TRY(mw_backend_open("cpu", &backend));
    mw_status status = mw_sae_load(folder, backend, &sae);
    if (status == MW_OK) status = mw_sae_export(sae, format, out);
    if (status == MW_OK) printf("export: %s files in %s\n", format, out);
    mw_sae_free(&sae);
    mw_backend_close(&backend);
    return status;
}

mw_status command_import(const arguments *a) {
    const char *folder = argument(a, "--from"), *format = argument(a, "--format"), *out = argument(a, "--out");
    const char *site = argument(a, "--site");
    mw_backend *backend = NULL;
    mw_sae *sae = NULL;
    if (!folder || !format || !out) return mw_error(MW_ERR_CONFIG, "microw import needs --from, --format and --out");
    MW_TRY(mw_backend_open("cpu", &backend));
    mw_status status = mw_sae_import(format, folder, backend, &sae);
    if (status == MW_OK && site) status = mw_put_text(&sae->site, site);
    if (status == MW_OK) status = mw_sae_save(sae, out);
    if (status == MW_OK)
        printf("import: %lld latents of width %lld in %s\n", (long long)sae->n, (long long)sae->d, out);
    mw_sae_free(&sae);
    mw_backend_close(&backend);
    return status;
}

mw_status command_config(const arguments *a) {
    mw_experiment *experiment = NULL;
    mw_text text = {0};
    if (a->n_positional > 1) return mw_error(MW_ERR_CONFIG, "microw config takes at most one experiment file");
    if (a->n_positional == 1) MW_TRY(mw_experiment_load(a->positional[0], a->sets, a->n_sets, &experiment));
    mw_status status = mw_experiment_describe(experiment, !experiment, &text);
    if (status == MW_OK) fputs(text.data, stdout);
    mw_text_free(&text);
    mw_experiment_free(&experiment);
    return status;
}
