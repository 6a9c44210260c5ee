/* Binds the tensors of a folder to the weights of the forward pass. */
#include "model/model_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 192 };

typedef struct binder {
    mw_model *model;
    mw_layer *layer;    /* whose matrices are bound; NULL: matrices outside layers */
    mw_dtype dtype;     /* of the matrices */
    const char *prefix; /* of all tensor names in this folder */
} binder;

static const char *const prefixes[] = {"",
                                       "model.",
                                       "transformer.",
                                       "gpt_neox.",
                                       "decoder.",
                                       "model.decoder.",
                                       "language_model.",
                                       "language_model.model.",
                                       "model.language_model."};

static void full_name(const binder *b, const char *pattern, int64_t layer, const char *suffix, char *out) {
    char name[NAME_MAX_BYTES / 2];
    const char *mark = strstr(pattern, "%d");
    if (mark)
        snprintf(name, sizeof name, "%.*s%lld%s", (int)(mark - pattern), pattern, (long long)layer, mark + 2);
    else
        snprintf(name, sizeof name, "%s", pattern);
    snprintf(out, NAME_MAX_BYTES, "%s%s%s", b->prefix, name, suffix);
}

static mw_status keep_copy(mw_model *model, mw_layer *layer, void *copy) {
    if (layer) {
        layer->copy[layer->n_copies++] = copy;
        return MW_OK;
    }
    if (!MW_GROW(model->copies, model->n_copies, model->copies_capacity)) {
        model->backend->ops->free(model->backend, copy);
        return MW_ERR_MEMORY;
    }
    model->copies[model->n_copies++] = copy;
    return MW_OK;
}

static mw_status convert(const mw_tensor *t, mw_dtype dtype, void *out) {
    int64_t count = mw_tensor_count(t);
    if (dtype == MW_F32) return mw_convert_to_f32(t->dtype, t->data, count, out);
    enum { RUN = 4096 };
    float run[RUN];
    for (int64_t at = 0; at < count; at += RUN) {
        int64_t n = count - at < RUN ? count - at : RUN;
        MW_TRY(mw_convert_to_f32(t->dtype, (const char *)t->data + (size_t)at * mw_dtype_size(t->dtype), n, run));
        MW_TRY(mw_convert_from_f32(dtype, run, n, (char *)out + (size_t)at * mw_dtype_size(dtype)));
    }
    return MW_OK;
}

/* Moves a block of host memory to the backend's; *out is its address there. Frees it on failure. `layer`: its owner;
 * NULL: the model. */
static mw_status move_copy(mw_model *model, mw_layer *layer, void *host, size_t bytes, const void **out) {
    mw_backend *backend = model->backend;
    void *device = NULL;
    if (backend->ops->host_memory) {
        *out = host;
        return keep_copy(model, layer, host);
    }
    mw_status status = backend->ops->alloc(backend, bytes, &device);
    if (status == MW_OK) {
        status = keep_copy(model, layer, device);
        if (status == MW_OK) status = backend->ops->upload(backend, device, host, bytes);
    }
    mw_free(host);
    if (status == MW_OK) *out = device;
    return status;
}

/* Writes the address, in backend memory, of a tensor's elements in `dtype`: in the map if type, alignment and backend
 * allow, else a copy. */
static mw_status load_elements(mw_model *model, mw_layer *layer, const mw_tensor *t, mw_dtype dtype, const void **out) {
    bool aligned = (uintptr_t)t->data % mw_dtype_size(dtype) == 0;
    if (t->dtype == dtype && aligned && model->backend->ops->host_memory) {
        *out = t->data;
        return MW_OK;
    }
    size_t bytes = (size_t)mw_tensor_count(t) * mw_dtype_size(dtype);
    void *host = mw_alloc(bytes);
    mw_status status = host ? convert(t, dtype, host) : MW_ERR_MEMORY;
    if (status == MW_OK) return move_copy(model, layer, host, bytes, out);
    mw_free(host);
    return status;
}

static bool is_8_bit(const mw_tensor *t) {
    return t->dtype == MW_F8_E4M3 || t->dtype == MW_F8_E5M2;
}

/* Loads a matrix of 8-bit floats, times its scales. */
static mw_status load_scaled(const binder *b, const char *name, const mw_tensor *t, const void **out) {
    mw_model *model = b->model;
    mw_tensor scale;
    char scale_name[NAME_MAX_BYTES + 16];
    snprintf(scale_name, sizeof scale_name, "%s_scale_inv", name);
    if (!mw_safetensors_find(model->file, scale_name, &scale))
        return mw_error(MW_ERR_FORMAT, "%s: '%s', the scale of a weight in %s, is missing or of an unknown type",
                        model->folder, scale_name, mw_dtype_name(t->dtype));
    size_t bytes = (size_t)mw_tensor_count(t) * mw_dtype_size(b->dtype);
    void *host = mw_alloc(bytes);
    mw_status status =
        host ? mw_quantization_expand(&model->arch.quantization, name, t, &scale, b->dtype, host) : MW_ERR_MEMORY;
    if (status == MW_OK) return move_copy(model, b->layer, host, bytes, out);
    mw_free(host);
    return status;
}

/* Finds a tensor that the model needs. */
static mw_status need_tensor(const binder *b, const char *name, mw_tensor *out) {
    const char *type = mw_safetensors_type(b->model->file, name), *folder = b->model->folder;
    if (!type) return mw_error(MW_ERR_FORMAT, "%s: weight '%s' is missing", folder, name);
    bool found = mw_safetensors_find(b->model->file, name, out);
    if (found && (out->dtype == MW_F32 || out->dtype == MW_F16 || out->dtype == MW_BF16 || out->dtype == MW_F64))
        return MW_OK;
    return mw_error(MW_ERR_UNSUPPORTED, "%s: weight '%s' is stored as %s, which is not supported", folder, name, type);
}

static mw_status need_vector(const binder *b, const char *name, int64_t width, mw_tensor *out) {
    MW_TRY(need_tensor(b, name, out));
    if (out->ndim == 1 && out->shape[0] == width) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: weight '%s': expected shape [%lld], found %d dimensions, %lld elements",
                    b->model->folder, name, (long long)width, out->ndim, (long long)mw_tensor_count(out));
}

static mw_status bind_vector(const binder *b, const char *name, int64_t width, const float **out) {
    mw_tensor t;
    const void *data;
    MW_TRY(need_vector(b, name, width, &t));
    MW_TRY(load_elements(b->model, NULL, &t, MW_F32, &data));
    *out = data;
    return MW_OK;
}

/* Moves numbers in host memory to backend memory that the model owns; takes `host`, also on failure. */
static mw_status keep_numbers(mw_model *model, float *host, int64_t count, const float **out) {
    const void *kept;
    MW_TRY(move_copy(model, NULL, host, (size_t)count * sizeof *host, &kept));
    *out = kept;
    return MW_OK;
}

/* Binds weights that are stored less by one. */
static mw_status bind_plus_one(const binder *b, const char *name, int64_t width, const float **out) {
    mw_tensor t;
    MW_TRY(need_vector(b, name, width, &t));
    float *host = mw_alloc((size_t)width * sizeof *host);
    mw_status status = host ? mw_convert_to_f32(t.dtype, t.data, width, host) : MW_ERR_MEMORY;
    if (status != MW_OK) return mw_free(host), status;
    for (int64_t i = 0; i < width; i++) host[i] += 1.0f;
    return keep_numbers(b->model, host, width, out);
}

/* Gives a norm without weights the weight 1. */
static mw_status bind_ones(const binder *b, mw_norm *out) {
    mw_model *m = b->model;
    const mw_architecture *a = &m->arch;
    int64_t q = a->n_heads * a->head_dim, width = a->d_model > q ? a->d_model : q;
    if (!m->ones) {
        float *host = mw_alloc((size_t)width * sizeof *host);
        if (!host) return MW_ERR_MEMORY;
        for (int64_t i = 0; i < width; i++) host[i] = 1.0f;
        MW_TRY(keep_numbers(m, host, width, &m->ones));
    }
    out->weight = m->ones;
    return MW_OK;
}

/* Binds a norm; without a name there is none. */
static mw_status bind_norm(const binder *b, const char *pattern, int64_t layer, int64_t width, mw_norm *out) {
    const mw_norm_spec *spec = &b->model->arch.family->norm;
    if (!pattern) return MW_OK;
    char name[NAME_MAX_BYTES];
    full_name(b, pattern, layer, ".weight", name);
    MW_TRY(spec->weight == WEIGHT_PLUS_ONE ? bind_plus_one(b, name, width, &out->weight)
                                           : bind_vector(b, name, width, &out->weight));
    if (!spec->biased) return MW_OK;
    full_name(b, pattern, layer, ".bias", name);
    return bind_vector(b, name, width, &out->bias);
}

/* Binds a norm before attention, before an MLP or after the layers: all families without weights of norms have them. */
static mw_status bind_main_norm(const binder *b, const char *pattern, int64_t layer, mw_norm *out) {
    if (!b->model->arch.norm_weights) return bind_ones(b, out);
    return bind_norm(b, pattern, layer, b->model->arch.d_model, out);
}

/* Binds weights of each head, [heads, head_dim], or a tensor [head_dim] a head. */
static mw_status bind_own_weights(const binder *b, const char *pattern, int64_t layer, int64_t heads, mw_norm *out) {
    int64_t d = b->model->arch.head_dim;
    char name[NAME_MAX_BYTES], part[NAME_MAX_BYTES];
    mw_tensor t = {0};
    full_name(b, pattern, layer, ".weight", name);
    const char *mark = strstr(name, "%d");
    float *host = mw_alloc((size_t)(heads * d) * sizeof *host);
    mw_status status = host ? MW_OK : MW_ERR_MEMORY;
    for (int64_t h = 0; mark && status == MW_OK && h < heads; h++) {
        snprintf(part, sizeof part, "%.*s%lld%s", (int)(mark - name), name, (long long)h, mark + 2);
        status = need_vector(b, part, d, &t);
        if (status == MW_OK) status = mw_convert_to_f32(t.dtype, t.data, d, host + h * d);
    }
    if (!mark && status == MW_OK) status = need_tensor(b, name, &t);
    if (!mark && status == MW_OK && (t.ndim != 2 || t.shape[0] != heads || t.shape[1] != d))
        status = mw_error(MW_ERR_FORMAT, "%s: weight '%s': expected shape [%lld, %lld]", b->model->folder, name,
                          (long long)heads, (long long)d);
    if (!mark && status == MW_OK) status = mw_convert_to_f32(t.dtype, t.data, heads * d, host);
    if (status != MW_OK) return mw_free(host), status;
    return keep_numbers(b->model, host, heads * d, &out->weight);
}

static mw_status bind_head_norm(const binder *b, const char *pattern, int64_t layer, int64_t heads, mw_norm *out) {
    const mw_architecture *a = &b->model->arch;
    if (!a->qk_norm) return MW_OK;
    switch (a->family->attention.qk_norm) {
    case QK_NORM_NONE:
        break;
    case QK_NORM_HEAD:
        return !a->norm_weights ? bind_ones(b, out) : bind_norm(b, pattern, layer, a->head_dim, out);
    case QK_NORM_WIDTH:
        return bind_norm(b, pattern, layer, heads * a->head_dim, out);
    case QK_NORM_OWN:
        MW_TRY(bind_ones(b, out)); /* divides by them */
        return bind_own_weights(b, pattern, layer, heads, out);
    }
    return MW_OK;
}

/* Binds the tensor `name` as a matrix. `conv1d`: stored [in, out], as in GPT-2. */
static mw_status bind_named(const binder *b, const char *name, int64_t in, int64_t out, bool conv1d,
                            mw_weight *weight) {
    mw_tensor t;
    bool scaled = b->model->arch.quantization.fp8 && mw_safetensors_find(b->model->file, name, &t) && is_8_bit(&t);
    if (!scaled) MW_TRY(need_tensor(b, name, &t));
    int64_t rows = conv1d ? in : out, columns = conv1d ? out : in;
    if (t.ndim != 2 || t.shape[0] != rows || t.shape[1] != columns)
        return mw_error(MW_ERR_FORMAT, "%s: weight '%s': expected shape [%lld, %lld], found [%lld, %lld]",
                        b->model->folder, name, (long long)rows, (long long)columns,
                        (long long)(t.ndim > 0 ? t.shape[0] : 0), (long long)(t.ndim > 1 ? t.shape[1] : 0));
    *weight = (mw_weight){.dtype = b->dtype, .in = in, .out = out, .ld = columns, .transposed = !conv1d};
    MW_TRY(scaled ? load_scaled(b, name, &t, &weight->data)
                  : load_elements(b->model, b->layer, &t, b->dtype, &weight->data));
    b->model->info.parameters += mw_tensor_count(&t);
    return MW_OK;
}

/* Binds a matrix and its bias. */
static mw_status bind_matrix(const binder *b, const char *pattern, int64_t layer, int64_t in, int64_t out, bool conv1d,
                             bool bias, mw_weight *weight) {
    if (!pattern) return MW_OK;
    char name[NAME_MAX_BYTES];
    full_name(b, pattern, layer, ".weight", name);
    MW_TRY(bind_named(b, name, in, out, conv1d, weight));
    if (!bias) return MW_OK;
    full_name(b, pattern, layer, ".bias", name);
    return bind_vector(b, name, out, &weight->bias);
}

/* Returns the outputs from .. from + out - 1 of a matrix. */
static mw_weight slice_outputs(const mw_weight *fused, int64_t from, int64_t out) {
    mw_weight part = *fused;
    int64_t at = fused->transposed ? from * fused->ld : from;
    part.data = (const char *)fused->data + (size_t)at * mw_dtype_size(fused->dtype);
    part.out = out;
    if (fused->bias) part.bias = fused->bias + from;
    return part;
}

static mw_status bind_attention(const binder *b, int64_t l, mw_layer *layer) {
    const mw_architecture *a = &b->model->arch;
    const mw_family *f = a->family;
    int64_t d = a->d_model, q = a->n_heads * a->head_dim, kv = a->n_kv_heads * a->head_dim;
    MW_TRY(bind_matrix(b, f->names.qkv, l, d, q + 2 * kv, f->conv1d, a->qkv_bias, &layer->qkv));
    if (a->qkv_groups == 1) {
        layer->q = slice_outputs(&layer->qkv, 0, q);
        layer->k = slice_outputs(&layer->qkv, q, kv);
        layer->v = slice_outputs(&layer->qkv, q + kv, kv);
        layer->qkv = (mw_weight){0};
    }
    MW_TRY(bind_matrix(b, f->names.q, l, d, q, false, a->qkv_bias, &layer->q));
    MW_TRY(bind_matrix(b, f->names.k, l, d, kv, false, a->qkv_bias, &layer->k));
    MW_TRY(bind_matrix(b, f->names.v, l, d, kv, false, a->qkv_bias, &layer->v));
    MW_TRY(bind_head_norm(b, f->names.q_norm, l, a->n_heads, &layer->q_norm));
    MW_TRY(bind_head_norm(b, f->names.k_norm, l, a->n_kv_heads, &layer->k_norm));
    if (a->output_norms) MW_TRY(bind_norm(b, f->names.post_attn_norm, l, d, &layer->post_attn));
    return bind_matrix(b, f->names.o, l, q, d, f->conv1d, a->o_bias, &layer->o);
}

static mw_status bind_mlp(const binder *b, int64_t l, mw_layer *layer) {
    const mw_architecture *a = &b->model->arch;
    const mw_family *f = a->family;
    mw_weight both = {0};
    MW_TRY(bind_matrix(b, f->names.gate_up, l, a->d_model, 2 * a->d_mlp, false, a->mlp_bias, &both));
    if (both.data) {
        layer->gate = slice_outputs(&both, 0, a->d_mlp);
        layer->up = slice_outputs(&both, a->d_mlp, a->d_mlp);
    }
    MW_TRY(bind_matrix(b, f->names.gate, l, a->d_model, a->d_mlp, false, a->mlp_bias, &layer->gate));
    MW_TRY(bind_matrix(b, f->names.up, l, a->d_model, a->d_mlp, f->conv1d, a->mlp_bias, &layer->up));
    return bind_matrix(b, f->names.down, l, a->d_mlp, a->d_model, f->conv1d, a->mlp_bias, &layer->down);
}

/* Binds the constants of xIELU: alpha_p and alpha_n before softplus; beta and eps have defaults in the class. */
static mw_status bind_xielu(const binder *b, int64_t l, mw_layer *layer) {
    static const char *const names[] = {".alpha_p", ".alpha_n", ".beta", ".eps"};
    float value[] = {0, 0, 0.5f, -1e-6f};
    char name[NAME_MAX_BYTES];
    mw_tensor t;
    for (int i = 0; i < 4; i++) {
        full_name(b, b->model->arch.family->names.xielu, l, names[i], name);
        if (i >= 2 && !mw_safetensors_type(b->model->file, name)) continue;
        MW_TRY(need_tensor(b, name, &t));
        if (mw_tensor_count(&t) != 1)
            return mw_error(MW_ERR_FORMAT, "%s: weight '%s': expected 1 number", b->model->folder, name);
        MW_TRY(mw_convert_to_f32(t.dtype, t.data, 1, &value[i]));
    }
    layer->xielu = (mw_xielu){
        .p = log1pf(expf(value[0])), .n = value[2] + log1pf(expf(value[1])), .beta = value[2], .eps = value[3]};
    return MW_OK;
}

static mw_status bind_layer(const binder *b, int64_t l, mw_layer *layer) {
    const mw_architecture *a = &b->model->arch;
    const mw_weight_names *names = &a->family->names;
    MW_TRY(bind_main_norm(b, a->own_norms ? names->own_norm1 : names->norm1, l, &layer->norm1));
    MW_TRY(bind_attention(b, l, layer));
    if (a->one_norm)
        layer->norm2 = layer->norm1;
    else
        MW_TRY(bind_main_norm(b, a->own_norms ? names->own_norm2 : names->norm2, l, &layer->norm2));
    MW_TRY(bind_mlp(b, l, layer));
    if (a->xielu) MW_TRY(bind_xielu(b, l, layer));
    return a->output_norms ? bind_norm(b, names->post_mlp_norm, l, a->d_model, &layer->post_mlp) : MW_OK;
}

/* Finds the prefix by a matrix of the first layer: a file may lack the embedding, or have one of another model. */
static mw_status find_prefix(binder *b) {
    char name[NAME_MAX_BYTES];
    const char *found = NULL, *pattern = b->model->arch.family->names.o;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        b->prefix = prefixes[i];
        full_name(b, pattern, 0, ".weight", name);
        if (!mw_safetensors_type(b->model->file, name)) continue;
        if (found)
            return mw_error(MW_ERR_FORMAT, "%s: weights of two models, '%s' and '%s'", b->model->folder, found, name);
        found = prefixes[i];
    }
    b->prefix = found ? found : "";
    if (found) return MW_OK;
    full_name(b, pattern, 0, ".weight", name);
    return mw_error(MW_ERR_FORMAT, "%s: no weight '%s' under any known prefix", b->model->folder, name);
}

/* Returns the layer in a tensor's name, "layers.7.mlp..." after the folder's prefix; -1: none. A number too large to
 * represent is a large layer. */
static int64_t layer_of(const binder *b, const char *name) {
    enum { LARGE = 1 << 30 };
    const char *pattern = b->model->arch.family->names.o;
    size_t prefix = strlen(b->prefix), before = (size_t)(strstr(pattern, "%d") - pattern);
    if (strncmp(name, b->prefix, prefix) != 0 || strncmp(name + prefix, pattern, before) != 0) return -1;
    const char *digits = name + prefix + before;
    int64_t layer = 0;
    for (; *digits >= '0' && *digits <= '9'; digits++) layer = layer < LARGE ? 10 * layer + (*digits - '0') : layer;
    return digits > name + prefix + before && *digits == '.' ? layer : -1;
}

/* Refuses a config.json with fewer layers than the file, which would run as another model. Other tensors of the layers
 * (GPT-2's masks, rotary frequencies) are ignored. */
static mw_status check_layers(const binder *b) {
    const mw_safetensors *file = b->model->file;
    for (int64_t i = 0; i < mw_safetensors_count(file); i++)
        if (layer_of(b, mw_safetensors_name(file, i)) >= b->model->arch.n_layers)
            return mw_error(MW_ERR_FORMAT, "%s: config.json has %lld layers, but the file has a weight '%s'",
                            b->model->folder, (long long)b->model->arch.n_layers, mw_safetensors_name(file, i));
    return MW_OK;
}

/* Finds the name of the head's tensor. */
static bool find_head(const binder *b, char name[NAME_MAX_BYTES]) {
    const char *const outer[] = {"", "language_model.", "model.", b->prefix};
    const mw_weight_names *names = &b->model->arch.family->names;
    const char *const heads[] = {names->head, names->new_head};
    for (int h = 0; h < 2 && heads[h]; h++)
        for (size_t i = 0; i < sizeof outer / sizeof *outer; i++) {
            snprintf(name, NAME_MAX_BYTES, "%s%s.weight", outer[i], heads[h]);
            if (mw_safetensors_type(b->model->file, name)) return true;
        }
    return false;
}

/* Returns whether two tensors have the same elements. */
static bool same_tensor(const binder *b, const char *name, const char *other) {
    mw_tensor x, y;
    if (!mw_safetensors_find(b->model->file, name, &x) || !mw_safetensors_find(b->model->file, other, &y)) return false;
    size_t bytes = (size_t)mw_tensor_count(&x) * mw_dtype_size(x.dtype);
    return x.dtype == y.dtype && x.ndim == y.ndim && memcmp(x.shape, y.shape, sizeof *x.shape * (size_t)x.ndim) == 0 &&
           memcmp(x.data, y.data, bytes) == 0;
}

/* Binds embedding and head. A tied model uses the tensor that is stored for the other; a stored head that differs from
 * the embedding is kept, as transformers 5 does. Without a head the model has no logits. */
static mw_status bind_ends(const binder *b) {
    mw_model *model = b->model;
    const mw_architecture *a = &model->arch;
    char embed[NAME_MAX_BYTES], head[NAME_MAX_BYTES];
    bool has_head = find_head(b, head);
    full_name(b, a->family->names.embed, 0, ".weight", embed);
    bool from_head = a->tied && has_head && !mw_safetensors_type(model->file, embed);
    MW_TRY(bind_named(b, from_head ? head : embed, a->d_embed, a->vocab, false, &model->embed));
    if (a->tied && (from_head || !has_head || same_tensor(b, embed, head)))
        model->head = model->embed;
    else if (has_head)
        MW_TRY(bind_named(b, head, a->d_embed, a->vocab, false, &model->head));
    if (!a->family->head_bias || !model->head.data) return MW_OK;
    if (!has_head) snprintf(head, sizeof head, "%s.weight", a->family->names.head);
    snprintf(head + strlen(head) - strlen("weight"), sizeof "bias", "bias");
    return bind_vector(b, head, a->vocab, &model->head.bias);
}

/* Binds the matrices between the widths of embedding and model, if these differ. */
static mw_status bind_projections(const binder *b) {
    mw_model *m = b->model;
    const mw_architecture *a = &m->arch;
    if (a->d_embed == a->d_model) return MW_OK;
    MW_TRY(bind_matrix(b, a->family->names.project_in, 0, a->d_embed, a->d_model, false, false, &m->project_in));
    return bind_matrix(b, a->family->names.project_out, 0, a->d_model, a->d_embed, false, false, &m->project_out);
}

/* Computes XGLM's positions: the first half of a row are sines, the second cosines, of Vaswani et al. 2017 with
 * frequencies 10000^(-i / (half - 1)); in f32, as in transformers. */
static mw_status compute_positions(const binder *b) {
    mw_model *model = b->model;
    const mw_architecture *a = &model->arch;
    int64_t d = a->d_model, half = d / 2, offset = a->family->position_offset;
    float *host = mw_calloc((size_t)(a->context * d), sizeof *host);
    if (!host) return MW_ERR_MEMORY;
    float step = (float)(log(10000.0) / (double)(half - 1));
    for (int64_t row = 0; row < a->context; row++)
        for (int64_t i = 0; i < half && row + offset != a->zero_position; i++) {
            float angle = (float)(row + offset) * expf((float)i * -step);
            host[row * d + i] = sinf(angle);
            host[row * d + half + i] = cosf(angle);
        }
    model->position = (mw_weight){.dtype = MW_F32, .in = d, .out = a->context, .ld = d, .transposed = true};
    const float *kept = NULL;
    MW_TRY(keep_numbers(model, host, a->context * d, &kept));
    model->position.data = kept;
    return MW_OK;
}

/* Embeddings [rows, d_model] are bound like matrices from d_model to rows. */
static mw_status bind_positions(const binder *b) {
    mw_model *model = b->model;
    const mw_architecture *a = &model->arch;
    mw_weight all = {0};
    if (a->family->sinusoidal) return compute_positions(b);
    MW_TRY(bind_matrix(b, a->family->names.position, 0, a->d_model, a->context + a->family->position_offset, false,
                       false, &all));
    if (all.data) model->position = slice_outputs(&all, a->family->position_offset, a->context);
    return MW_OK;
}

static mw_status bind_embed_norm(const binder *b) {
    const mw_family *f = b->model->arch.family;
    if (!f->normed_embedding) return MW_OK;
    return bind_main_norm(b, f->names.embed_norm, 0, &b->model->embed_norm);
}

mw_status mw_weights_bind(mw_model *model, mw_dtype dtype) {
    const mw_architecture *a = &model->arch;
    binder b = {.model = model, .dtype = dtype};
    MW_TRY(find_prefix(&b));
    MW_TRY(check_layers(&b));
    MW_TRY(bind_ends(&b));
    MW_TRY(bind_projections(&b));
    MW_TRY(bind_positions(&b));
    MW_TRY(bind_embed_norm(&b));
    for (int64_t l = 0; l < a->n_layers; l++) {
        b.layer = &model->layers[l];
        MW_TRY(bind_layer(&b, l, b.layer));
    }
    b.layer = NULL;
    return a->no_final_norm ? MW_OK : bind_main_norm(&b, a->family->names.final_norm, 0, &model->final_norm);
}
