/* Writing SAEs in the formats of SAELens, sparsify and dictionary_learning. */
#include "sae/formats/foreign.h"
#include "sae/variants/variants.h"

#include <string.h>

mw_status transpose(const float *w, int64_t rows, int64_t columns, float **out) {
    float *t = mw_alloc((size_t)(rows * columns) * sizeof *t);
    if (!t) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) t[j * rows + i] = w[i * columns + j];
    *out = t;
    return MW_OK;
}

void multiply_by_w_enc(const mw_sae *sae, const float *b, float *out) {
    for (int64_t i = 0; i < sae->n; i++) {
        double dot = 0;
        for (int64_t j = 0; j < sae->d; j++) dot += (double)sae->w_enc[i * sae->d + j] * b[j];
        out[i] = (float)dot;
    }
}

/* How codes are selected outside training: all that other libraries need to know of a variant. */
typedef enum selection { SELECT_TOP_K, SELECT_ABOVE, SELECT_JUMP, SELECT_RELU, SELECT_GATED } selection;

static selection selection_of(const mw_sae *sae) {
    if (sae->variant == MW_GATED) return SELECT_GATED;
    if (sae->variant == MW_JUMP_RELU) return SELECT_JUMP;
    if (variant_of(sae)->after_selection) return SELECT_ABOVE;
    return sae->k ? SELECT_TOP_K : SELECT_RELU;
}

/* Allocates [n] thresholds: those of JumpReLU, or the one of BatchTopK n times. */
static mw_status copy_thresholds(const mw_sae *sae, float **out) {
    float *threshold = mw_alloc((size_t)sae->n * sizeof *threshold);
    if (!threshold) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < sae->n; i++)
        threshold[i] = sae->variant == MW_JUMP_RELU ? sae->extra[0][i] : sae->threshold;
    *out = threshold;
    return MW_OK;
}

static mw_status unsupported(const mw_sae *sae, const char *tool) {
    return mw_error(MW_ERR_UNSUPPORTED, "%s has no %s %s", tool, mw_variant_name(sae->variant),
                    sae->n_targets > 1 ? "crosscoders"
                    : sae->w_skip      ? "skip transcoders"
                    : sae->transcoder  ? "transcoders"
                                       : "SAEs");
}

/* ---- SAELens 6 --------------------------------------------------------------------------------------------- */

/* [selection][autoencoder, transcoder, skip transcoder]. BatchTopK SAEs become JumpReLU SAEs with equal thresholds. */
static const char *const architectures[][3] = {
    [SELECT_TOP_K] = {"topk", NULL, NULL},
    [SELECT_ABOVE] = {"jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder"},
    [SELECT_JUMP] = {"jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder"},
    [SELECT_RELU] = {"standard", "transcoder", "skip_transcoder"},
    [SELECT_GATED] = {"gated", NULL, NULL},
};

/* W_enc is [d, n] in SAELens. */
static mw_status write_saelens_weights(const mw_sae *sae, const char *folder) {
    float *w_enc, *threshold = NULL;
    MW_TRY(transpose(sae->w_enc, sae->n, sae->d, &w_enc));
    selection how = selection_of(sae);
    mw_status status = how == SELECT_ABOVE || how == SELECT_JUMP ? copy_thresholds(sae, &threshold) : MW_OK;
    bool gated = how == SELECT_GATED;
    int64_t count = 4;
    mw_named_tensor tensors[8] = {{"W_enc", mw_tensor_2d(MW_F32, w_enc, sae->d, sae->n)},
                                  {"W_dec", mw_tensor_2d(MW_F32, sae->w_dec, sae->n, sae->d_out)},
                                  {gated ? "b_gate" : "b_enc", mw_tensor_1d(MW_F32, sae->b_enc, sae->n)},
                                  {"b_dec", mw_tensor_1d(MW_F32, sae->b_dec, sae->d_out)}};
    if (threshold) tensors[count++] = (mw_named_tensor){"threshold", mw_tensor_1d(MW_F32, threshold, sae->n)};
    for (int i = 0; i < MW_EXTRAS && gated; i++)
        tensors[count++] =
            (mw_named_tensor){variant_of(sae)->extra[i].name, mw_tensor_1d(MW_F32, sae->extra[i], sae->n)};
    if (sae->w_skip)
        tensors[count++] = (mw_named_tensor){"W_skip", mw_tensor_2d(MW_F32, sae->w_skip, sae->d_out, sae->d)};
    if (status == MW_OK) status = sae_write_tensors(folder, "sae_weights.safetensors", tensors, count);
    mw_free(w_enc);
    mw_free(threshold);
    return status;
}

static mw_status export_saelens(const mw_sae *sae, const char *folder) {
    const char *architecture = architectures[selection_of(sae)][sae->transcoder + (sae->w_skip != NULL)];
    char hook[HOOK_TEXT], hook_out[HOOK_TEXT];
    if (!architecture || sae->n_targets > 1) return unsupported(sae, "SAELens");
    hook_of_site(sae->site, hook);
    hook_of_site(sae->transcoder ? sae->target : sae->site, hook_out);
    MW_TRY(write_saelens_weights(sae, folder));
    json_t *metadata =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "sae_lens_version", "6.18.0", "sae_lens_training_version", "6.18.0",
                  "model_name", sae->model, "hook_name", hook, "hook_name_out", hook_out, "prepend_bos", 1);
    json_t *config = json_pack("{s:s, s:I, s:I, s:s, s:s, s:b, s:s, s:s, s:o}", "architecture", architecture, "d_in",
                               (json_int_t)sae->d, "d_sae", (json_int_t)sae->n, "dtype", "float32", "device", "cpu",
                               "apply_b_dec_to_input", !sae->transcoder, "normalize_activations", "none",
                               "reshape_activations", "none", "metadata", metadata);
    if (config && sae->transcoder) json_object_set_new(config, "d_out", json_integer(sae->d_out));
    if (config && selection_of(sae) == SELECT_TOP_K) {
        json_object_set_new(config, "k", json_integer(sae->k));
        json_object_set_new(config, "rescale_acts_by_decoder_norm", json_false());
    }
    return sae_write_config(folder, "cfg.json", config);
}

/* ---- sparsify ---------------------------------------------------------------------------------------------- */

static mw_status export_sparsify(const mw_sae *sae, const char *folder) {
    if (selection_of(sae) != SELECT_TOP_K || sae->n_targets > 1) return unsupported(sae, "sparsify");
    if (sae->d_out != sae->d)
        return mw_error(MW_ERR_UNSUPPORTED, "sparsify has no transcoders between widths %lld and %lld",
                        (long long)sae->d, (long long)sae->d_out);
    mw_named_tensor tensors[5] = {{"encoder.weight", mw_tensor_2d(MW_F32, sae->w_enc, sae->n, sae->d)},
                                  {"encoder.bias", mw_tensor_1d(MW_F32, sae->b_enc, sae->n)},
                                  {"W_dec", mw_tensor_2d(MW_F32, sae->w_dec, sae->n, sae->d)},
                                  {"b_dec", mw_tensor_1d(MW_F32, sae->b_dec, sae->d)}};
    if (sae->w_skip) tensors[4] = (mw_named_tensor){"W_skip", mw_tensor_2d(MW_F32, sae->w_skip, sae->d, sae->d)};
    MW_TRY(sae_write_tensors(folder, "sae.safetensors", tensors, sae->w_skip ? 5 : 4));
    json_t *config =
        json_pack("{s:s, s:I, s:b, s:I, s:I, s:b, s:b, s:b, s:I}", "activation", "topk", "expansion_factor",
                  (json_int_t)(sae->n / sae->d ? sae->n / sae->d : 1), "normalize_decoder", 1, "num_latents",
                  (json_int_t)sae->n, "k", (json_int_t)sae->k, "multi_topk", sae->variant == MW_MULTI_TOPK,
                  "skip_connection", sae->w_skip != NULL, "transcode", sae->transcoder, "d_in", (json_int_t)sae->d);
    return sae_write_config(folder, "cfg.json", config);
}

/* ---- dictionary_learning ------------------------------------------------------------------------------------- */

/* The tensors and names of an SAE in ae.pt and config.json. */
typedef struct dictionary {
    const mw_sae *sae;
    const char *trainer, *class;
    float *w_enc, *w_dec, *b_enc, *threshold; /* owned: [d, n], [d, n], [n], [n] in the layout of the file */
    int32_t k;
    float level;
    int64_t group[MW_GROUPS_MAX];
    mw_named_tensor tensors[8];
    int64_t count;
} dictionary;

static void add_tensor(dictionary *f, const char *name, mw_tensor tensor) {
    f->tensors[f->count++] = (mw_named_tensor){name, tensor};
}

/* `encoder.weight` is [n, d] and `decoder.weight` [d, n], as in torch.nn.Linear. */
static void add_linear(dictionary *f) {
    const mw_sae *s = f->sae;
    add_tensor(f, "decoder.weight", mw_tensor_2d(MW_F32, f->w_dec, s->d, s->n));
    add_tensor(f, "encoder.weight", mw_tensor_2d(MW_F32, s->w_enc, s->n, s->d));
}

static void add_matrices(dictionary *f, float *b_enc) {
    const mw_sae *s = f->sae;
    add_tensor(f, "W_enc", mw_tensor_2d(MW_F32, f->w_enc, s->d, s->n));
    add_tensor(f, "W_dec", mw_tensor_2d(MW_F32, s->w_dec, s->n, s->d));
    add_tensor(f, "b_enc", mw_tensor_1d(MW_F32, b_enc, s->n));
    add_tensor(f, "b_dec", mw_tensor_1d(MW_F32, s->b_dec, s->d));
}

/* A threshold below 0 means that there is none. */
static void add_k_and_threshold(dictionary *f) {
    add_tensor(f, "k", (mw_tensor){.dtype = MW_I32, .ndim = 0, .data = &f->k});
    add_tensor(f, "threshold", (mw_tensor){.dtype = MW_F32, .ndim = 0, .data = &f->level});
}

static void list_top_k(dictionary *f) {
    bool top = selection_of(f->sae) == SELECT_TOP_K;
    f->trainer = top ? "TopKTrainer" : "BatchTopKTrainer";
    f->class = top ? "AutoEncoderTopK" : "BatchTopKSAE";
    add_k_and_threshold(f);
    add_linear(f);
    add_tensor(f, "encoder.bias", mw_tensor_1d(MW_F32, f->sae->b_enc, f->sae->n));
    add_tensor(f, "b_dec", mw_tensor_1d(MW_F32, f->sae->b_dec, f->sae->d));
}

static void list_matryoshka(dictionary *f) {
    const mw_sae *s = f->sae;
    f->trainer = "MatryoshkaBatchTopKTrainer";
    f->class = "MatryoshkaBatchTopKSAE";
    for (int64_t g = 0; g < s->n_groups; g++) f->group[g] = s->group_end[g] - (g ? s->group_end[g - 1] : 0);
    add_k_and_threshold(f);
    add_tensor(f, "group_sizes", mw_tensor_1d(MW_I64, f->group, s->n_groups));
    add_matrices(f, s->b_enc);
}

/* JumpReluAutoEncoder does not subtract b_dec: W_enc (x - b_dec) + b_enc = W_enc x + (b_enc - W_enc b_dec). */
static void list_jump_relu(dictionary *f) {
    f->trainer = "JumpReluTrainer";
    f->class = "JumpReluAutoEncoder";
    multiply_by_w_enc(f->sae, f->sae->b_dec, f->b_enc);
    for (int64_t i = 0; i < f->sae->n; i++) f->b_enc[i] = f->sae->b_enc[i] - f->b_enc[i];
    add_matrices(f, f->b_enc);
    add_tensor(f, "threshold", mw_tensor_1d(MW_F32, f->threshold, f->sae->n));
}

static void list_relu(dictionary *f) {
    f->trainer = "StandardTrainer";
    f->class = "AutoEncoder";
    add_linear(f);
    add_tensor(f, "encoder.bias", mw_tensor_1d(MW_F32, f->sae->b_enc, f->sae->n));
    add_tensor(f, "bias", mw_tensor_1d(MW_F32, f->sae->b_dec, f->sae->d));
}

static void list_gated(dictionary *f) {
    const mw_sae *s = f->sae;
    f->trainer = "GatedSAETrainer";
    f->class = "GatedAutoEncoder";
    add_linear(f);
    add_tensor(f, "gate_bias", mw_tensor_1d(MW_F32, s->b_enc, s->n));
    add_tensor(f, "r_mag", mw_tensor_1d(MW_F32, s->extra[0], s->n));
    add_tensor(f, "mag_bias", mw_tensor_1d(MW_F32, s->extra[1], s->n));
    add_tensor(f, "decoder_bias", mw_tensor_1d(MW_F32, s->b_dec, s->d));
}

static void list_dictionary(dictionary *f) {
    if (f->sae->variant == MW_MATRYOSHKA_BATCH_TOPK) {
        list_matryoshka(f);
        return;
    }
    static void (*const lists[])(dictionary *) = {list_top_k, list_top_k, list_jump_relu, list_relu, list_gated};
    lists[selection_of(f->sae)](f);
}

static mw_status write_dictionary(dictionary *f, const char *folder) {
    const mw_sae *sae = f->sae;
    MW_TRY(mw_make_directories(folder));
    MW_TRY(transpose(sae->w_enc, sae->n, sae->d, &f->w_enc));
    MW_TRY(transpose(sae->w_dec, sae->n, sae->d, &f->w_dec));
    MW_TRY(copy_thresholds(sae, &f->threshold));
    if (!(f->b_enc = mw_alloc((size_t)sae->n * sizeof *f->b_enc))) return MW_ERR_MEMORY;
    list_dictionary(f);
    char *path = mw_path_join(folder, "ae.pt");
    mw_status status = path ? torch_file_write(path, f->tensors, f->count) : MW_ERR_MEMORY;
    mw_free(path);
    return status;
}

static mw_status export_dictionary(const mw_sae *sae, const char *folder) {
    dictionary f = {.sae = sae, .k = (int32_t)sae->k, .level = sae->threshold};
    if (sae->transcoder || sae->n_targets > 1) return unsupported(sae, "dictionary_learning");
    mw_status status = write_dictionary(&f, folder);
    void *all[] = {f.w_enc, f.w_dec, f.threshold, f.b_enc};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    if (status != MW_OK) return status;
    json_t *trainer =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:s}", "trainer_class", f.trainer, "dict_class", f.class,
                  "activation_dim", (json_int_t)sae->d, "dict_size", (json_int_t)sae->n, "k", (json_int_t)sae->k,
                  "device", "cpu", "lm_name", sae->model, "submodule_name", sae->site);
    return sae_write_config(folder, "config.json", json_pack("{s:o, s:{}}", "trainer", trainer, "buffer"));
}

/* ---- by name --------------------------------------------------------------------------------------------------- */

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
