/* SAEs in the folders of SAELens, sparsify and dictionary_learning. */
#include "sae/files.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- names of sites -------------------------------------------------------------------------------------- */

/* TransformerLens's names, which SAELens uses; %d is the layer. */
static const struct {
    mw_stream stream;
    const char *hook;
} hook_names[] = {{MW_EMBED, "hook_embed"},
                  {MW_RESID_PRE, "blocks.%d.hook_resid_pre"},
                  {MW_ATTN_Q, "blocks.%d.attn.hook_q"},
                  {MW_ATTN_K, "blocks.%d.attn.hook_k"},
                  {MW_ATTN_V, "blocks.%d.attn.hook_v"},
                  {MW_ATTN_Z, "blocks.%d.attn.hook_z"},
                  {MW_ATTN_OUT, "blocks.%d.hook_attn_out"},
                  {MW_RESID_MID, "blocks.%d.hook_resid_mid"},
                  {MW_MLP_ACT, "blocks.%d.mlp.hook_post"},
                  {MW_MLP_OUT, "blocks.%d.hook_mlp_out"},
                  {MW_RESID_POST, "blocks.%d.hook_resid_post"}};
enum { HOOKS = sizeof hook_names / sizeof *hook_names, HOOK_TEXT = 64 };

static void hook_of(const char *site, char out[HOOK_TEXT]) {
    mw_site parsed;
    snprintf(out, HOOK_TEXT, "%s", site);
    mw_log_quiet(true);
    mw_status status = mw_site_parse(site, &parsed);
    mw_log_quiet(false);
    for (int i = 0; status == MW_OK && i < HOOKS; i++) {
        if (hook_names[i].stream != parsed.stream) continue;
        const char *mark = strstr(hook_names[i].hook, "%d");
        if (mark)
            snprintf(out, HOOK_TEXT, "%.*s%d%s", (int)(mark - hook_names[i].hook), hook_names[i].hook, parsed.layer,
                     mark + 2);
        else
            snprintf(out, HOOK_TEXT, "%s", hook_names[i].hook);
    }
}

/* The site of a hook's name; the name itself where it is none of ours. */
static void site_of(const char *hook, char out[HOOK_TEXT]) {
    snprintf(out, HOOK_TEXT, "%s", hook);
    for (int layer = 0; layer < 1024; layer++)
        for (int i = 0; i < HOOKS; i++) {
            char site[MW_SITE_TEXT], name[HOOK_TEXT];
            mw_site_format((mw_site){layer, hook_names[i].stream}, site);
            hook_of(site, name);
            if (strcmp(name, hook) != 0) continue;
            snprintf(out, HOOK_TEXT, "%s", site);
            return;
        }
}

/* ---- exports --------------------------------------------------------------------------------------------- */

static mw_status transposed(const float *w, int64_t rows, int64_t columns, float **out) {
    float *t = mw_alloc((size_t)(rows * columns) * sizeof *t);
    if (!t) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) t[j * rows + i] = w[i * columns + j];
    *out = t;
    return MW_OK;
}

/* SAELens 6: W_enc is [d, n]. A BatchTopK SAE is a JumpReLU SAE there, with the same threshold for each latent. */
static mw_status write_saelens_weights(const mw_sae *sae, const char *folder) {
    float *w_enc, *threshold = NULL;
    MW_TRY(transposed(sae->w_enc, sae->n, sae->d, &w_enc));
    bool jump = sae->variant == MW_BATCH_TOPK;
    if (jump && !(threshold = mw_alloc((size_t)sae->n * sizeof *threshold))) {
        mw_free(w_enc);
        return MW_ERR_MEMORY;
    }
    for (int64_t i = 0; jump && i < sae->n; i++) threshold[i] = sae->threshold;
    const mw_named_tensor tensors[] = {{"W_enc", mw_tensor_2d(MW_F32, w_enc, sae->d, sae->n)},
                                       {"W_dec", mw_tensor_2d(MW_F32, sae->w_dec, sae->n, sae->d)},
                                       {"b_enc", mw_tensor_1d(MW_F32, sae->b_enc, sae->n)},
                                       {"b_dec", mw_tensor_1d(MW_F32, sae->b_dec, sae->d)},
                                       {"threshold", mw_tensor_1d(MW_F32, threshold, sae->n)}};
    mw_status status = sae_write_tensors(folder, "sae_weights.safetensors", tensors, jump ? 5 : 4);
    mw_free(w_enc);
    mw_free(threshold);
    return status;
}

static mw_status export_saelens(const mw_sae *sae, const char *folder) {
    char hook[HOOK_TEXT];
    hook_of(sae->site, hook);
    MW_TRY(write_saelens_weights(sae, folder));
    json_t *metadata = json_pack("{s:s, s:s, s:s, s:s, s:b}", "sae_lens_version", "6.18.0", "sae_lens_training_version",
                                 "6.18.0", "model_name", sae->model, "hook_name", hook, "prepend_bos", 1);
    json_t *config = json_pack("{s:s, s:I, s:I, s:s, s:s, s:b, s:s, s:s, s:o}", "architecture",
                               sae->variant == MW_TOPK ? "topk" : "jumprelu", "d_in", (json_int_t)sae->d, "d_sae",
                               (json_int_t)sae->n, "dtype", "float32", "device", "cpu", "apply_b_dec_to_input", 1,
                               "normalize_activations", "none", "reshape_activations", "none", "metadata", metadata);
    if (config && sae->variant == MW_TOPK) {
        json_object_set_new(config, "k", json_integer(sae->k));
        json_object_set_new(config, "rescale_acts_by_decoder_norm", json_false());
    }
    return sae_write_config(folder, "cfg.json", config);
}

static mw_status export_sparsify(const mw_sae *sae, const char *folder) {
    if (sae->variant != MW_TOPK)
        return mw_error(MW_ERR_UNSUPPORTED, "sparsify has no %s SAEs", mw_variant_name(sae->variant));
    const mw_named_tensor tensors[] = {{"encoder.weight", mw_tensor_2d(MW_F32, sae->w_enc, sae->n, sae->d)},
                                       {"encoder.bias", mw_tensor_1d(MW_F32, sae->b_enc, sae->n)},
                                       {"W_dec", mw_tensor_2d(MW_F32, sae->w_dec, sae->n, sae->d)},
                                       {"b_dec", mw_tensor_1d(MW_F32, sae->b_dec, sae->d)}};
    MW_TRY(sae_write_tensors(folder, "sae.safetensors", tensors, 4));
    json_t *config = json_pack("{s:s, s:I, s:b, s:I, s:I, s:b, s:b, s:b, s:I}", "activation", "topk",
                               "expansion_factor", (json_int_t)(sae->n / sae->d ? sae->n / sae->d : 1),
                               "normalize_decoder", 1, "num_latents", (json_int_t)sae->n, "k", (json_int_t)sae->k,
                               "multi_topk", 0, "skip_connection", 0, "transcode", 0, "d_in", (json_int_t)sae->d);
    return sae_write_config(folder, "cfg.json", config);
}

/* AutoEncoderTopK and BatchTopKSAE: decoder.weight is [d, n]; a threshold below zero means that none was kept. */
static mw_status export_dictionary(const mw_sae *sae, const char *folder) {
    float *w_dec, threshold = sae->threshold;
    int32_t k = (int32_t)sae->k;
    bool topk = sae->variant == MW_TOPK;
    MW_TRY(mw_make_directories(folder));
    MW_TRY(transposed(sae->w_dec, sae->n, sae->d, &w_dec));
    const mw_named_tensor tensors[] = {{"k", {.dtype = MW_I32, .ndim = 0, .data = &k}},
                                       {"threshold", {.dtype = MW_F32, .ndim = 0, .data = &threshold}},
                                       {"decoder.weight", mw_tensor_2d(MW_F32, w_dec, sae->d, sae->n)},
                                       {"encoder.weight", mw_tensor_2d(MW_F32, sae->w_enc, sae->n, sae->d)},
                                       {"encoder.bias", mw_tensor_1d(MW_F32, sae->b_enc, sae->n)},
                                       {"b_dec", mw_tensor_1d(MW_F32, sae->b_dec, sae->d)}};
    char *path = mw_path_join(folder, "ae.pt");
    mw_status status = path ? torch_file_write(path, tensors, sizeof tensors / sizeof *tensors) : MW_ERR_MEMORY;
    mw_free(path);
    mw_free(w_dec);
    if (status != MW_OK) return status;
    json_t *trainer =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:s}", "trainer_class",
                  topk ? "TopKTrainer" : "BatchTopKTrainer", "dict_class", topk ? "AutoEncoderTopK" : "BatchTopKSAE",
                  "activation_dim", (json_int_t)sae->d, "dict_size", (json_int_t)sae->n, "k", (json_int_t)sae->k,
                  "device", "cpu", "lm_name", sae->model, "submodule_name", sae->site);
    return sae_write_config(folder, "config.json", json_pack("{s:o, s:{}}", "trainer", trainer, "buffer"));
}

static const struct {
    const char *name;
    mw_status (*write)(const mw_sae *, const char *);
} export_formats[] = {
    {"saelens", export_saelens}, {"sparsify", export_sparsify}, {"dictionary_learning", export_dictionary}};

mw_status mw_sae_export(const mw_sae *sae, const char *format, const char *folder) {
    for (size_t i = 0; i < sizeof export_formats / sizeof *export_formats; i++)
        if (strcmp(export_formats[i].name, format) == 0) return export_formats[i].write(sae, folder);
    return mw_error(MW_ERR_CONFIG, "export format '%s': expected saelens, sparsify or dictionary_learning", format);
}

/* ---- imports --------------------------------------------------------------------------------------------- */

typedef struct import {
    const char *config_path, *weights_path;
    const json_t *config;
    const mw_safetensors *file;
    mw_backend *backend;
    mw_sae *sae;
} import;

static mw_status unsupported(const import *in, const char *key, const char *why) {
    return mw_error(MW_ERR_UNSUPPORTED, "%s: %s: %s", in->config_path, key, why);
}

static bool is_text(const json_t *config, const char *key, const char *expected) {
    const char *value = mw_json_text(config, key);
    return value && strcmp(value, expected) == 0;
}

static int64_t whole(const json_t *config, const char *key) {
    return json_integer_value(json_object_get(config, key));
}

/* Top-k of a_i |W_dec,i| and decoding by unit rows is top-k of a rescaled encoder with a unit decoder. */
static void fold_decoder_norms(mw_sae *sae) {
    for (int64_t i = 0; i < sae->n; i++) {
        double square = 0;
        for (int64_t j = 0; j < sae->d; j++) square += pow(sae->w_dec[i * sae->d + j], 2);
        float norm = (float)sqrt(square);
        if (!(norm > 0)) continue;
        for (int64_t j = 0; j < sae->d; j++) {
            sae->w_enc[i * sae->d + j] *= norm;
            sae->w_dec[i * sae->d + j] /= norm;
        }
        sae->b_enc[i] *= norm;
    }
}

/* W_enc x + b_enc = W_enc (x - b_dec) + (b_enc + W_enc b_dec) */
static void fold_input_bias(mw_sae *sae) {
    for (int64_t i = 0; i < sae->n; i++) {
        double dot = 0;
        for (int64_t j = 0; j < sae->d; j++) dot += (double)sae->w_enc[i * sae->d + j] * sae->b_dec[j];
        sae->b_enc[i] += (float)dot;
    }
}

static mw_status import_saelens(import *in) {
    const json_t *c = in->config;
    if (!is_text(c, "architecture", "topk")) return unsupported(in, "architecture", "only topk is read");
    const char *normalize = mw_json_text(c, "normalize_activations");
    if (normalize && strcmp(normalize, "none") != 0)
        return unsupported(in, "normalize_activations", "only none is read");
    MW_TRY(mw_sae_new(in->backend, whole(c, "d_sae"), whole(c, "d_in"), whole(c, "k"), &in->sae));
    mw_sae *sae = in->sae;
    float *w_enc = mw_alloc((size_t)(sae->n * sae->d) * sizeof *w_enc);
    mw_status status = w_enc ? sae_take(in->file, in->weights_path, "W_enc", sae->d, sae->n, w_enc) : MW_ERR_MEMORY;
    for (int64_t i = 0; status == MW_OK && i < sae->n; i++)
        for (int64_t j = 0; j < sae->d; j++) sae->w_enc[i * sae->d + j] = w_enc[j * sae->n + i];
    mw_free(w_enc);
    if (status == MW_OK) status = sae_take(in->file, in->weights_path, "W_dec", sae->n, sae->d, sae->w_dec);
    if (status == MW_OK) status = sae_take(in->file, in->weights_path, "b_enc", sae->n, 0, sae->b_enc);
    if (status == MW_OK) status = sae_take(in->file, in->weights_path, "b_dec", sae->d, 0, sae->b_dec);
    if (status != MW_OK) return status;
    if (!mw_json_flag(c, "apply_b_dec_to_input", true)) fold_input_bias(sae);
    if (mw_json_flag(c, "rescale_acts_by_decoder_norm", false)) fold_decoder_norms(sae);
    const json_t *metadata = json_object_get(c, "metadata");
    char site[HOOK_TEXT] = "";
    if (mw_json_text(metadata, "hook_name")) site_of(mw_json_text(metadata, "hook_name"), site);
    MW_TRY(sae_put_text(&sae->site, site));
    return sae_put_text(&sae->model, mw_json_text(metadata, "model_name"));
}

static mw_status import_sparsify(import *in) {
    const json_t *c = in->config;
    const char *activation = mw_json_text(c, "activation");
    if (activation && strcmp(activation, "topk") != 0) return unsupported(in, "activation", "only topk is read");
    if (mw_json_flag(c, "transcode", false)) return unsupported(in, "transcode", "transcoders are not read");
    if (mw_json_flag(c, "skip_connection", false)) return unsupported(in, "skip_connection", "it is not read");
    int64_t d = whole(c, "d_in"), n = whole(c, "num_latents");
    MW_TRY(mw_sae_new(in->backend, n > 0 ? n : d * whole(c, "expansion_factor"), d, whole(c, "k"), &in->sae));
    mw_sae *sae = in->sae;
    MW_TRY(sae_take(in->file, in->weights_path, "encoder.weight", sae->n, sae->d, sae->w_enc));
    MW_TRY(sae_take(in->file, in->weights_path, "encoder.bias", sae->n, 0, sae->b_enc));
    MW_TRY(sae_take(in->file, in->weights_path, "W_dec", sae->n, sae->d, sae->w_dec));
    return sae_take(in->file, in->weights_path, "b_dec", sae->d, 0, sae->b_dec);
}

static const struct {
    const char *name, *weights;
    mw_status (*read)(import *);
} import_formats[] = {{"saelens", "sae_weights.safetensors", import_saelens},
                      {"sparsify", "sae.safetensors", import_sparsify}};

static mw_status read_foreign(int format, const char *folder, import *in) {
    char *config_path = mw_path_join(folder, "cfg.json");
    char *weights_path = mw_path_join(folder, import_formats[format].weights);
    json_t *config = NULL;
    mw_safetensors *file = NULL;
    mw_status status = config_path && weights_path ? mw_json_load(config_path, &config) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_safetensors_open(weights_path, &file);
    in->config_path = config_path;
    in->weights_path = weights_path;
    in->config = config;
    in->file = file;
    if (status == MW_OK) status = import_formats[format].read(in);
    mw_safetensors_free(&file);
    json_decref(config);
    mw_free(config_path);
    mw_free(weights_path);
    return status;
}

mw_status mw_sae_import(const char *format, const char *folder, mw_backend *backend, mw_sae **out) {
    for (int i = 0; i < (int)(sizeof import_formats / sizeof *import_formats); i++) {
        if (strcmp(import_formats[i].name, format) != 0) continue;
import in = {.backend = backend };
        mw_status status = read_foreign(i, folder, &in);
        if (status != MW_OK)
            mw_sae_free(&in.sae);
        else
            *out = in.sae;
        return status;
    }
    return mw_error(MW_ERR_CONFIG, "import format '%s': expected saelens or sparsify", format);
}
