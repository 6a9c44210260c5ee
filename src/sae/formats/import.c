/* Reading SAEs in the formats of SAELens and sparsify. */
#include "sae/formats/foreign.h"
#include "sae/variants/variants.h"

#include <math.h>
#include <string.h>

/* An import in progress. */
typedef struct foreign {
    const char *config_path, *weights_path;
    const json_t *config;
    const mw_safetensors *file;
    mw_backend *backend;
    mw_sae *sae;
} foreign;

static mw_status unsupported_setting(const foreign *in, const char *key, const char *why) {
    return mw_error(MW_ERR_UNSUPPORTED, "%s: %s: %s", in->config_path, key, why);
}

static int64_t integer(const json_t *config, const char *key) {
    return json_integer_value(json_object_get(config, key));
}

static mw_status read_tensor(const foreign *in, const char *name, int64_t rows, int64_t columns, float *to) {
    return sae_read_tensor(in->file, in->weights_path, name, rows, columns, to);
}

/* Selection by the k largest a_i |W_dec,i|, decoded by unit rows, equals TopK with a rescaled encoder and a unit
 * decoder. */
static void fold_decoder_norms(mw_sae *sae) {
    for (int64_t i = 0; i < sae->n; i++) {
        double norm = length_of(sae->w_dec + i * sae->d, sae->d);
        if (!(norm > 0)) continue;
        for (int64_t j = 0; j < sae->d; j++) {
            sae->w_enc[i * sae->d + j] *= (float)norm;
            sae->w_dec[i * sae->d + j] /= (float)norm;
        }
        sae->b_enc[i] *= (float)norm;
    }
}

/* W_enc x + b = W_enc (x - b_dec) + (b + W_enc b_dec). The magnitude path of a gated SAE has exp(r_mag) W_enc x. */
static mw_status fold_input_bias(mw_sae *sae) {
    float *shift = mw_alloc((size_t)sae->n * sizeof *shift);
    if (!shift) return MW_ERR_MEMORY;
    multiply_by_w_enc(sae, sae->b_dec, shift);
    for (int64_t i = 0; i < sae->n; i++) {
        sae->b_enc[i] += shift[i];
        if (sae->variant == MW_GATED) sae->extra[1][i] += expf(sae->extra[0][i]) * shift[i];
    }
    mw_free(shift);
    return MW_OK;
}

/* ---- SAELens ----------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    mw_variant variant;
    bool transcoder, skip;
} architectures[] = {{"topk", MW_TOPK, false, false},
                     {"standard", MW_RELU, false, false},
                     {"jumprelu", MW_JUMP_RELU, false, false},
                     {"gated", MW_GATED, false, false},
                     {"transcoder", MW_RELU, true, false},
                     {"skip_transcoder", MW_RELU, true, true},
                     {"jumprelu_transcoder", MW_JUMP_RELU, true, false},
                     {"jumprelu_skip_transcoder", MW_JUMP_RELU, true, true}};
enum { ARCHITECTURES = sizeof architectures / sizeof *architectures };

/* Finds architecture and k. Before version 6 a TopK SAE may be "standard", or have no architecture at all, and its k is
 * an argument of its activation; SAELens reads both kinds of files. */
static mw_status read_selection(const foreign *in, const char **architecture, int64_t *k) {
    const json_t *c = in->config, *arguments = json_object_get(c, "activation_fn_kwargs");
    const char *activation = mw_json_text(c, "activation_fn_str");
    if (!activation) activation = mw_json_text(c, "activation_fn");
    bool topk = activation && strcmp(activation, "topk") == 0, old = activation || json_object_get(c, "hook_point");
    *architecture = mw_json_text(c, "architecture");
    *k = integer(c, "k");
    if (!*architecture && old) *architecture = "standard";
    if (activation && !topk && strcmp(activation, "relu") != 0)
        return unsupported_setting(in, "activation_fn", "expected 'relu' or 'topk'");
    if (topk && !json_object_get(arguments, "k") && *architecture && strcmp(*architecture, "topk") != 0)
        return unsupported_setting(in, "activation_fn_kwargs", "expected k");
    if (topk) *architecture = "topk";
    if (*architecture && strcmp(*architecture, "topk") == 0 && json_object_get(arguments, "k"))
        *k = integer(arguments, "k");
    return MW_OK;
}

/* SAELens 6 has no factors of fine-tuning; files of older versions may have some that are all 1. */
static mw_status refuse_factors(const foreign *in) {
    static const char *const names[] = {"scaling_factor", "finetuning_scaling_factor"};
    if (mw_json_flag(in->config, "finetuning_scaling_factor", false))
        return unsupported_setting(in, "finetuning_scaling_factor", "expected false");
    for (int i = 0; i < 2; i++) {
        mw_tensor t;
        if (!mw_safetensors_find(in->file, names[i], &t)) continue;
        for (int64_t j = 0; j < mw_tensor_count(&t); j++) {
            float factor;
            MW_TRY(mw_convert_to_f32(t.dtype, (const char *)t.data + (size_t)j * mw_dtype_size(t.dtype), 1, &factor));
            if (factor != 1)
                return mw_error(MW_ERR_UNSUPPORTED, "%s: factors in '%s' other than 1 are not supported",
                                in->weights_path, names[i]);
        }
    }
    return MW_OK;
}

static mw_status new_saelens(foreign *in) {
    const json_t *c = in->config;
    const char *name;
    int64_t k;
    MW_TRY(read_selection(in, &name, &k));
    MW_TRY(refuse_factors(in));
    for (int i = 0; name && i < ARCHITECTURES; i++) {
        if (strcmp(architectures[i].name, name) != 0) continue;
        mw_sae_shape shape = {.variant = architectures[i].variant,
                              .n = integer(c, "d_sae"),
                              .d = integer(c, "d_in"),
                              .k = k,
                              .d_out = architectures[i].transcoder ? integer(c, "d_out") : 0,
                              .skip = architectures[i].skip};
        if (architectures[i].transcoder && shape.d_out < 1)
            return mw_error(MW_ERR_FORMAT, "%s: d_out is missing", in->config_path);
        return sae_new_for_file(in->backend, &shape, in->weights_path, &in->sae);
    }
    return unsupported_setting(in, "architecture",
                               "expected topk, standard, jumprelu, gated or (jumprelu_)(skip_)transcoder");
}

static mw_status read_saelens(foreign *in) {
    mw_sae *sae = in->sae;
    bool gated = sae->variant == MW_GATED;
    float *w_enc = mw_alloc((size_t)(sae->n * sae->d) * sizeof *w_enc);
    mw_status status = w_enc ? read_tensor(in, "W_enc", sae->d, sae->n, w_enc) : MW_ERR_MEMORY;
    for (int64_t i = 0; status == MW_OK && i < sae->n; i++)
        for (int64_t j = 0; j < sae->d; j++) sae->w_enc[i * sae->d + j] = w_enc[j * sae->n + i];
    mw_free(w_enc);
    if (status == MW_OK) status = read_tensor(in, "W_dec", sae->n, sae->d_out, sae->w_dec);
    if (status == MW_OK) status = read_tensor(in, gated ? "b_gate" : "b_enc", sae->n, 0, sae->b_enc);
    if (status == MW_OK) status = read_tensor(in, "b_dec", sae->d_out, 0, sae->b_dec);
    if (status == MW_OK && sae->w_skip) status = read_tensor(in, "W_skip", sae->d_out, sae->d, sae->w_skip);
    for (int i = 0; i < MW_EXTRAS && sae->extra[i] && status == MW_OK; i++)
        status = read_tensor(in, variant_of(sae)->extra[i].name, sae->n, 0, sae->extra[i]);
    for (int64_t i = 0; sae->variant == MW_JUMP_RELU && status == MW_OK && i < sae->n; i++)
        if (!(sae->extra[0][i] >= 0)) sae->extra[0][i] = 0; /* SAELens applies a relu before the threshold */
    return status;
}

static mw_status label_saelens(foreign *in) {
    const json_t *metadata = json_object_get(in->config, "metadata");
    if (!metadata) metadata = in->config; /* before version 6 */
    char site[HOOK_TEXT] = "", target[HOOK_TEXT] = "";
    const char *hook = mw_json_text(metadata, "hook_name");
    if (!hook) hook = mw_json_text(metadata, "hook_point");
    if (hook) site_of_hook(hook, site);
    if (in->sae->transcoder && mw_json_text(metadata, "hook_name_out"))
        site_of_hook(mw_json_text(metadata, "hook_name_out"), target);
    MW_TRY(mw_put_text(&in->sae->site, site));
    MW_TRY(mw_put_text(&in->sae->target, target));
    return mw_put_text(&in->sae->model, mw_json_text(metadata, "model_name"));
}

static mw_status import_saelens(foreign *in) {
    const json_t *c = in->config;
    const json_t *normalize = json_object_get(c, "normalize_activations");
    const char *how = json_string_value(normalize);
    bool none = !normalize || json_is_null(normalize) || json_is_false(normalize) || (how && strcmp(how, "none") == 0);
    if (!none) return unsupported_setting(in, "normalize_activations", "expected 'none'");
    MW_TRY(new_saelens(in));
    MW_TRY(read_saelens(in));
    if (!in->sae->transcoder && !mw_json_flag(c, "apply_b_dec_to_input", true)) MW_TRY(fold_input_bias(in->sae));
    if (in->sae->variant == MW_TOPK && mw_json_flag(c, "rescale_acts_by_decoder_norm", false))
        fold_decoder_norms(in->sae);
    return label_saelens(in);
}

/* ---- sparsify ---------------------------------------------------------------------------------------------- */

static mw_status import_sparsify(foreign *in) {
    const json_t *c = in->config;
    const char *activation = mw_json_text(c, "activation");
    if (activation && strcmp(activation, "topk") != 0) return unsupported_setting(in, "activation", "expected 'topk'");
    int64_t d = integer(c, "d_in"), n = integer(c, "num_latents");
    bool transcode = mw_json_flag(c, "transcode", false), skip = mw_json_flag(c, "skip_connection", false);
    if (n <= 0 && __builtin_mul_overflow(d, integer(c, "expansion_factor"), &n)) n = -1; /* mw_sae_check refuses it */
    if (skip && !transcode) return unsupported_setting(in, "skip_connection", "expected with transcode only");
    mw_sae_shape shape = {.variant = mw_json_flag(c, "multi_topk", false) ? MW_MULTI_TOPK : MW_TOPK,
                          .n = n,
                          .d = d,
                          .k = integer(c, "k"),
                          .d_out = transcode ? d : 0,
                          .skip = skip};
    MW_TRY(sae_new_for_file(in->backend, &shape, in->weights_path, &in->sae));
    mw_sae *sae = in->sae;
    MW_TRY(read_tensor(in, "encoder.weight", sae->n, sae->d, sae->w_enc));
    MW_TRY(read_tensor(in, "encoder.bias", sae->n, 0, sae->b_enc));
    MW_TRY(read_tensor(in, "W_dec", sae->n, sae->d, sae->w_dec));
    if (skip) MW_TRY(read_tensor(in, "W_skip", sae->d, sae->d, sae->w_skip));
    return read_tensor(in, "b_dec", sae->d, 0, sae->b_dec);
}

/* ---- by name ----------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *weights;
    mw_status (*read)(foreign *);
} import_formats[] = {{"saelens", "sae_weights.safetensors", import_saelens},
                      {"sparsify", "sae.safetensors", import_sparsify}};

static mw_status read_foreign(int format, const char *folder, foreign *in) {
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
        foreign in = {.backend = backend};
        mw_status status = read_foreign(i, folder, &in);
        if (status == MW_OK) status = sae_fingerprint_by_hash(in.sae);
        if (status != MW_OK)
            mw_sae_free(&in.sae);
        else
            *out = in.sae;
        return status;
    }
    return mw_error(MW_ERR_CONFIG, "import format '%s': expected saelens or sparsify", format);
}
