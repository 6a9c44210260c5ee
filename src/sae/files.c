/* SAEs on disk. */
#include "sae/files.h"

#include <string.h>

enum { FORMAT_VERSION = 1 };

mw_status sae_write_tensors(const char *folder, const char *file, const mw_named_tensor *tensors, int64_t count) {
    MW_TRY(mw_make_directories(folder));
    char *path = mw_path_join(folder, file);
    mw_status status = path ? mw_safetensors_write(path, tensors, count, NULL) : MW_ERR_MEMORY;
    mw_free(path);
    return status;
}

mw_status sae_write_config(const char *folder, const char *file, json_t *config) {
    char *path = mw_path_join(folder, file);
    mw_status status = path && config ? mw_json_save(path, config, 2) : MW_ERR_MEMORY;
    json_decref(config);
    mw_free(path);
    return status;
}

mw_status mw_sae_save(const mw_sae *sae, const char *folder) {
    const mw_named_tensor tensors[] = {{"W_enc", mw_tensor_2d(MW_F32, sae->w_enc, sae->n, sae->d)},
                                       {"b_enc", mw_tensor_1d(MW_F32, sae->b_enc, sae->n)},
                                       {"W_dec", mw_tensor_2d(MW_F32, sae->w_dec, sae->n, sae->d)},
                                       {"b_dec", mw_tensor_1d(MW_F32, sae->b_dec, sae->d)}};
    MW_TRY(sae_write_tensors(folder, "sae.safetensors", tensors, 4));
    return sae_write_config(folder, "cfg.json",
                            json_pack("{s:s, s:i, s:s, s:f, s:I, s:I, s:I, s:s, s:s}", "format", "microw", "version",
                                      FORMAT_VERSION, "variant", mw_variant_name(sae->variant), "threshold",
                                      (double)sae->threshold, "n_latents", (json_int_t)sae->n, "d_in",
                                      (json_int_t)sae->d, "k", (json_int_t)sae->k, "site", sae->site, "model",
                                      sae->model));
}

/* ---- loading ------------------------------------------------------------------------------------------- */

typedef struct facts {
    mw_variant variant;
    double threshold;
    int64_t n, d, k;
    const char *site, *model;
} facts;

static mw_status read_facts(const char *path, const json_t *config, facts *out) {
    const char *format = mw_json_text(config, "format"), *variant = mw_json_text(config, "variant");
    if (!format || strcmp(format, "microw") != 0)
        return mw_error(MW_ERR_FORMAT, "%s: not the configuration of a microw SAE", path);
    if (json_integer_value(json_object_get(config, "version")) != FORMAT_VERSION)
        return mw_error(MW_ERR_FORMAT, "%s: format version %lld; this microw reads version %d", path,
                        (long long)json_integer_value(json_object_get(config, "version")), FORMAT_VERSION);
    MW_TRY(mw_variant_parse(variant ? variant : "(none)", &out->variant));
    const json_t *threshold = json_object_get(config, "threshold");
    out->threshold = threshold ? json_number_value(threshold) : -1;
    out->n = json_integer_value(json_object_get(config, "n_latents"));
    out->d = json_integer_value(json_object_get(config, "d_in"));
    out->k = json_integer_value(json_object_get(config, "k"));
    out->site = mw_json_text(config, "site");
    out->model = mw_json_text(config, "model");
    return MW_OK;
}

mw_status sae_take(const mw_safetensors *file, const char *path, const char *name, int64_t rows, int64_t columns,
                   float *to) {
    mw_tensor t;
    bool fits = mw_safetensors_find(file, name, &t) && t.ndim == (columns ? 2 : 1) && t.shape[0] == rows &&
                (!columns || t.shape[1] == columns);
    if (!fits)
        return mw_error(MW_ERR_FORMAT, "%s: tensor '%s': expected shape [%lld%s%.0lld], found none such", path, name,
                        (long long)rows, columns ? ", " : "", (long long)columns);
    return mw_convert_to_f32(t.dtype, t.data, rows * (columns ? columns : 1), to);
}

static mw_status read_weights(const char *path, mw_sae *sae) {
    mw_safetensors *file;
    MW_TRY(mw_safetensors_open(path, &file));
    mw_status status = sae_take(file, path, "W_enc", sae->n, sae->d, sae->w_enc);
    if (status == MW_OK) status = sae_take(file, path, "W_dec", sae->n, sae->d, sae->w_dec);
    if (status == MW_OK) status = sae_take(file, path, "b_enc", sae->n, 0, sae->b_enc);
    if (status == MW_OK) status = sae_take(file, path, "b_dec", sae->d, 0, sae->b_dec);
    mw_safetensors_free(&file);
    return status;
}

mw_status sae_put_text(char **slot, const char *value) {
    mw_free(*slot);
    *slot = mw_strdup(value ? value : "");
    return *slot ? MW_OK : MW_ERR_MEMORY;
}

mw_status mw_sae_load(const char *folder, mw_backend *backend, mw_sae **out) {
    char *config_path = mw_path_join(folder, "cfg.json"), *weights = mw_path_join(folder, "sae.safetensors");
    json_t *config = NULL;
    mw_sae *sae = NULL;
    facts f = {0};
    mw_status status = config_path && weights ? mw_json_load(config_path, &config) : MW_ERR_MEMORY;
    if (status == MW_OK) status = read_facts(config_path, config, &f);
    if (status == MW_OK) status = mw_sae_new(backend, f.n, f.d, f.k, &sae);
    if (status == MW_OK) {
        sae->variant = f.variant;
        sae->threshold = (float)f.threshold;
    }
    if (status == MW_OK) status = read_weights(weights, sae);
    if (status == MW_OK) status = sae_put_text(&sae->site, f.site);
    if (status == MW_OK) status = sae_put_text(&sae->model, f.model);
    json_decref(config);
    mw_free(config_path);
    mw_free(weights);
    if (status != MW_OK)
        mw_sae_free(&sae);
    else
        *out = sae;
    return status;
}
