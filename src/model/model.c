/* Opens and closes models; widths of sites, hashes, parameter counts. */
#include "model/model_private.h"
#include "model/hub.h"

#include <stdio.h>
#include <string.h>

int64_t mw_model_site_width(const mw_model *model, mw_site site) {
    const mw_architecture *a = &model->arch;
    bool layerless = site.kind == MW_EMBED || site.kind == MW_LOGITS;
    if (site.layer < 0 || site.layer >= (layerless ? 1 : a->n_layers)) return 0;
    switch (site.kind) {
    case MW_EMBED:
    case MW_RESID_PRE:
    case MW_RESID_POST:
    case MW_ATTN_IN:
    case MW_ATTN_OUT:
    case MW_MLP_IN:
    case MW_MLP_OUT:
        return a->d_model;
    case MW_RESID_MID:
        return a->parallel ? 0 : a->d_model;
    case MW_ATTN_Q:
    case MW_ATTN_Z:
        return a->n_heads * a->head_dim;
    case MW_ATTN_K:
    case MW_ATTN_V:
        return a->n_kv_heads * a->head_dim;
    case MW_MLP_ACT:
        return a->d_mlp;
    case MW_LOGITS:
        return model->file && !model->head.data ? 0 : a->vocab;
    case MW_SITE_KIND_COUNT:
        break;
    }
    return 0;
}

mw_status mw_model_need_head(const mw_model *model) {
    if (model->head.data) return MW_OK;
    return mw_error(MW_ERR_UNSUPPORTED, "%s: weight '%s.weight' is missing: the model has no logits", model->folder,
                    model->arch.family->names.head);
}

static int64_t width_of(const void *model, mw_site site) {
    return mw_model_site_width(model, site);
}

/* Chooses the type of matrices in memory. auto: f16 becomes f32, since few CPUs multiply f16; 8-bit floats become bf16,
 * as in transformers. */
static mw_status choose_dtype(const mw_model *model, const char *dtype, mw_dtype *out) {
    if (strcmp(dtype, "f32") == 0) return *out = MW_F32, MW_OK;
    if (strcmp(dtype, "bf16") == 0) return *out = MW_BF16, MW_OK;
    if (strcmp(dtype, "f16") == 0) return *out = MW_F16, MW_OK;
    if (strcmp(dtype, "auto") != 0)
        return mw_error(MW_ERR_CONFIG, "model dtype '%s': expected auto, f32, bf16 or f16", dtype);
    if (model->arch.quantization.fp8) return *out = MW_BF16, MW_OK;
    int64_t bf16 = 0, count = mw_safetensors_count(model->file);
    for (int64_t i = 0; i < count; i++) {
        mw_tensor t;
        if (mw_safetensors_find(model->file, mw_safetensors_name(model->file, i), &t)) bf16 += t.dtype == MW_BF16;
    }
    *out = 2 * bf16 > count ? MW_BF16 : MW_F32;
    return MW_OK;
}

static void fill_info(mw_model *model, mw_dtype dtype, int64_t parameters) {
    const mw_architecture *a = &model->arch;
    model->info = (mw_model_info){.family = a->family->model_type,
                                  .folder = model->folder,
                                  .n_layers = a->n_layers,
                                  .d_model = a->d_model,
                                  .n_heads = a->n_heads,
                                  .n_kv_heads = a->n_kv_heads,
                                  .head_dim = a->head_dim,
                                  .d_mlp = a->d_mlp,
                                  .vocab = a->vocab,
                                  .context = a->context,
                                  .dtype = dtype,
                                  .parameters = parameters,
                                  .ignored_keys = model->ignored.data ? model->ignored.data : ""};
}

static mw_status open_into(mw_model *model, const char *name, const char *dtype) {
    MW_TRY(mw_hub_folder(name, &model->folder));
    MW_TRY(mw_architecture_read(model->folder, &model->arch, &model->ignored));
    if (model->ignored.length)
        mw_log(MW_LOG_DEBUG, "%s: keys of config.json that are ignored: %s", model->folder, model->ignored.data);
    MW_TRY(mw_stop_ids_read(model));
    MW_TRY(mw_safetensors_open_folder(model->folder, &model->file));
    mw_dtype working = MW_F32;
    MW_TRY(choose_dtype(model, dtype, &working));
    if (!(model->layers = mw_calloc((size_t)model->arch.n_layers, sizeof *model->layers))) return MW_ERR_MEMORY;
    MW_TRY(mw_weights_bind(model, working));
    MW_TRY(mw_hooks_new(width_of, model, &model->hooks));
    fill_info(model, working, model->info.parameters);
    return MW_OK;
}

/* Counts matrices only: the other weights of every family are less than a thousandth. */
static int64_t count_parameters(const mw_architecture *a) {
    int64_t q = a->n_heads * a->head_dim, kv = a->n_kv_heads * a->head_dim;
    int64_t attention = a->d_model * (2 * q + 2 * kv),
            mlp = (mw_family_is_gated(a->family) ? 3 : 2) * a->d_model * a->d_mlp;
    int64_t positions = a->family->names.position ? a->context * a->d_model : 0;
    int64_t projections = a->d_embed == a->d_model ? 0 : 2 * a->d_embed * a->d_model;
    return a->vocab * a->d_embed * (a->tied ? 1 : 2) + projections + positions + a->n_layers * (attention + mlp);
}

mw_status mw_model_outline(const char *name, mw_model **out) {
    mw_model *model = mw_calloc(1, sizeof *model);
    if (!model) return MW_ERR_MEMORY;
    mw_status status = mw_hub_folder(name, &model->folder);
    if (status == MW_OK) status = mw_architecture_read(model->folder, &model->arch, &model->ignored);
    if (status == MW_OK) fill_info(model, MW_F32, count_parameters(&model->arch));
    if (status != MW_OK)
        mw_model_free(&model);
    else
        *out = model;
    return status;
}

mw_status mw_model_open(const char *name, const char *dtype, mw_backend *backend, mw_model **out) {
    mw_model *model = mw_calloc(1, sizeof *model);
    if (!model) return MW_ERR_MEMORY;
    model->backend = backend;
    mw_status status = open_into(model, name, dtype);
    if (status != MW_OK)
        mw_model_free(&model);
    else
        *out = model;
    return status;
}

void mw_model_free(mw_model **slot) {
    mw_model *model = *slot;
    if (!model) return;
    mw_backend *backend = model->backend;
    mw_hooks_free(&model->hooks);
    mw_workspace_free(model);
    mw_rope_free(model);
    if (model->key_bias) backend->ops->free(backend, model->key_bias);
    for (int64_t i = 0; i < model->n_copies; i++) backend->ops->free(backend, model->copies[i]);
    mw_free(model->copies);
    mw_layers_free(model);
    mw_safetensors_free(&model->file);
    mw_free(model->folder);
    mw_text_free(&model->ignored);
    mw_free(model->stop_ids);
    mw_free(model);
    *slot = NULL;
}

const mw_model_info *mw_model_about(const mw_model *model) {
    return &model->info;
}

mw_hooks *mw_model_hooks(mw_model *model) {
    return model->hooks;
}

mw_backend *mw_model_backend(const mw_model *model) {
    return model->backend;
}

mw_status mw_model_hash(const mw_model *model, char out[MW_SHA256_TEXT]) {
    return mw_safetensors_hash(model->file, out);
}

static mw_status read_config(const mw_model *model, char **text, size_t *length) {
    char *path = mw_path_join(model->folder, "config.json");
    mw_status status = path ? mw_file_read(path, text, length) : MW_ERR_MEMORY;
    mw_free(path);
    return status;
}

mw_status mw_model_config_hash(const mw_model *model, char out[MW_SHA256_TEXT]) {
    char *text = NULL;
    size_t length = 0;
    MW_TRY(read_config(model, &text, &length));
    mw_status status = mw_sha256(text, length, out);
    mw_free(text);
    return status;
}

mw_status mw_model_mark(const mw_model *model, char out[MW_MODEL_MARK]) {
    char *text = NULL;
    size_t length = 0;
    MW_TRY(read_config(model, &text, &length));
    snprintf(out, MW_MODEL_MARK, "%016llx%016llx", (unsigned long long)mw_safetensors_mark(model->file),
             (unsigned long long)mw_xxh64(text, length));
    mw_free(text);
    return MW_OK;
}
