/* SAEs on disk: sae.safetensors and cfg.json, saved and loaded as a pair. */
#include "comm/shared_file.h"
#include "sae/formats/sae_file.h"
#include "sae/variants/variants.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char partial_name[] = "sae.safetensors.partial"; /* name of the weights until cfg.json names them */

enum { FORMAT_VERSION = 2 }; /* 1: TopK and BatchTopK autoencoders */

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

/* ---- saving ---------------------------------------------------------------------------------------------- */

/* Widths of consecutive ranges from their ends. */
static json_t *widths(const int64_t *end, int64_t count) {
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++) json_array_append_new(list, json_integer(end[i] - (i ? end[i - 1] : 0)));
    return list;
}

/* The tensors of an SAE. Those of a shard have the shape of the whole dictionary and the data of the shard. */
static int64_t list_tensors(const mw_sae *sae, mw_named_tensor out[5 + MW_EXTRAS]) {
    int64_t count = 0, n = sae->shard.total;
    out[count++] = (mw_named_tensor){"W_enc", mw_tensor_2d(MW_F32, sae->w_enc, n, sae->d)};
    out[count++] = (mw_named_tensor){"b_enc", mw_tensor_1d(MW_F32, sae->b_enc, n)};
    out[count++] = (mw_named_tensor){"W_dec", mw_tensor_2d(MW_F32, sae->w_dec, n, sae->d_out)};
    out[count++] = (mw_named_tensor){"b_dec", mw_tensor_1d(MW_F32, sae->b_dec, sae->d_out)};
    if (sae->w_skip) out[count++] = (mw_named_tensor){"W_skip", mw_tensor_2d(MW_F32, sae->w_skip, sae->d_out, sae->d)};
    for (int i = 0; i < MW_EXTRAS; i++)
        if (sae->extra[i])
            out[count++] = (mw_named_tensor){variant_of(sae)->extra[i].name, mw_tensor_1d(MW_F32, sae->extra[i], n)};
    return count;
}

static json_t *config_of(const mw_sae *sae) {
    json_t *config = json_pack("{s:s, s:i, s:s, s:I, s:I, s:s, s:s}", "format", "microw", "version", FORMAT_VERSION,
                               "variant", mw_variant_name(sae->variant), "n_latents", (json_int_t)sae->shard.total,
                               "d_in", (json_int_t)sae->d, "site", sae->site, "model", sae->model);
    if (sae->k) json_object_set_new(config, "k", json_integer(sae->k));
    if (variant_of(sae)->after_selection) json_object_set_new(config, "threshold", json_real(sae->threshold));
    if (sae->n_groups) json_object_set_new(config, "groups", widths(sae->group_end, sae->n_groups));
    if (sae->n_targets > 1) json_object_set_new(config, "parts", widths(sae->target_end, sae->n_targets));
    if (sae->transcoder) {
        json_object_set_new(config, "d_out", json_integer(sae->d_out));
        json_object_set_new(config, "target", json_string(sae->target));
        json_object_set_new(config, "skip", json_boolean(sae->w_skip));
    }
    if (sae->fingerprint[0]) json_object_set_new(config, "fingerprint", json_string(sae->fingerprint));
    return config;
}

/* The parts of the file that this shard writes: its latents, and by the first shard b_dec and W_skip. */
static int64_t list_own_parts(const mw_sae *sae, const mw_named_tensor *tensors, int64_t count, const uint64_t *offset,
                              shared_piece *out) {
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        const mw_tensor *t = &tensors[i].tensor;
        bool by_latent = t->data != sae->b_dec && t->data != sae->w_skip;
        size_t row = (size_t)(t->ndim == 2 ? t->shape[1] : 1) * sizeof(float);
        if (!by_latent && mw_comm_rank(sae->shard.peers) != 0) continue;
        out[n++] = (shared_piece){offset[i] + (by_latent ? (uint64_t)sae->shard.first * row : 0), t->data,
                                  (size_t)(by_latent ? sae->n : t->shape[0]) * row};
    }
    return n;
}

mw_status sae_check_values(const char *where, const char *name, const float *x, int64_t rows, int64_t columns) {
    int64_t width = columns ? columns : 1, bad = mw_first_not_finite(x, rows * width);
    if (bad == rows * width) return MW_OK;
    char column[32] = "";
    if (columns) snprintf(column, sizeof column, ", %lld", (long long)(bad % width));
    return mw_error(MW_ERR_STATE, "%s: tensor '%s': [%lld%s] is %f; all values must be finite", where, name,
                    (long long)(bad / width), column, (double)x[bad]);
}

/* Checks the latents of this shard. */
mw_status sae_check_finite(const mw_sae *sae, const char *where) {
    mw_named_tensor tensors[5 + MW_EXTRAS];
    int64_t count = list_tensors(sae, tensors);
    for (int64_t i = 0; i < count; i++) {
        const mw_tensor *t = &tensors[i].tensor;
        int64_t rows = t->data == sae->b_dec || t->data == sae->w_skip ? t->shape[0] : sae->n;
        MW_TRY(sae_check_values(where, tensors[i].name, t->data, rows, t->ndim == 2 ? t->shape[1] : 0));
    }
    return isfinite(sae->threshold) ? MW_OK
                                    : mw_error(MW_ERR_STATE, "%s: the threshold is %f", where, (double)sae->threshold);
}

static mw_status save_shards(const mw_sae *sae, const char *folder, const mw_named_tensor *tensors, int64_t count) {
    uint64_t offset[5 + MW_EXTRAS];
    shared_piece parts[5 + MW_EXTRAS];
    mw_text head = {0};
    char *path = mw_path_join(folder, partial_name);
    mw_status status = path ? mw_safetensors_header(tensors, count, NULL, &head, offset) : MW_ERR_MEMORY;
    status = mw_comm_agree(sae->shard.peers, status);
    if (status == MW_OK)
        status =
            shared_file_write(sae->shard.peers, path, &head, parts, list_own_parts(sae, tensors, count, offset, parts));
    mw_text_free(&head);
    mw_free(path);
    return status;
}

/* ---- the hash --------------------------------------------------------------------------------------------- */

/* Sum of the hashes of rows first .. first + rows of a tensor. Sums do not depend on the order of rows, nor on
 * shards. */
static uint64_t hash_rows(uint64_t tensor, const float *data, int64_t first, int64_t rows, int64_t width) {
    uint64_t sum = 0;
#pragma omp parallel for reduction(+ : sum)
    for (int64_t r = 0; r < rows; r++) {
        uint64_t row[3] = {tensor, (uint64_t)(first + r), mw_xxh64(data + r * width, (size_t)width * sizeof *data)};
        sum += mw_xxh64(row, sizeof row);
    }
    return sum;
}

/* A shard hashes its latents; the first shard also b_dec, W_skip and the shape. */
uint64_t mw_sae_hash(const mw_sae *sae) {
    mw_named_tensor tensors[5 + MW_EXTRAS];
    int64_t count = list_tensors(sae, tensors);
    bool first = !sae->shard.peers || mw_comm_rank(sae->shard.peers) == 0;
    uint64_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        const mw_tensor *t = &tensors[i].tensor;
        bool by_latent = t->data != sae->b_dec && t->data != sae->w_skip;
        int64_t width = t->ndim == 2 ? t->shape[1] : 1, rows = by_latent ? sae->n : t->shape[0];
        if (by_latent || first) sum += hash_rows((uint64_t)i, t->data, by_latent ? sae->shard.first : 0, rows, width);
    }
    const uint64_t shape[] = {(uint64_t)sae->variant, (uint64_t)sae->shard.total, (uint64_t)sae->d, (uint64_t)sae->k};
    if (first) sum += mw_xxh64(shape, sizeof shape);
    if (first && variant_of(sae)->after_selection) sum += mw_xxh64(&sae->threshold, sizeof sae->threshold);
    return sum;
}

static mw_status hash_all_shards(const mw_sae *sae, uint64_t *out) {
    int64_t sum = (int64_t)mw_sae_hash(sae);
    if (sae->shard.peers) MW_TRY(mw_comm_allreduce_sum(sae->shard.peers, &sum, 1));
    *out = (uint64_t)sum;
    return MW_OK;
}

/* ---- both files -------------------------------------------------------------------------------------------- */

static mw_status save_config(const mw_sae *sae, uint64_t hash, const char *folder) {
    MW_TRY(mw_make_directories(folder));
    char text[20];
    json_t *config = config_of(sae);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    json_object_set_new(config, "weights", json_string(text));
    return sae_write_config(folder, "cfg.json", config);
}

static mw_status write_weights(const mw_sae *sae, const char *folder, const mw_named_tensor *tensors, int64_t count) {
    return sae->shard.peers ? save_shards(sae, folder, tensors, count)
                            : sae_write_tensors(folder, partial_name, tensors, count);
}

mw_status mw_sae_publish(const char *folder) {
    return mw_file_publish_any(mw_path_join(folder, partial_name), mw_path_join(folder, "sae.safetensors"));
}

/* The weights are complete under a temporary name before cfg.json names their hash: wherever the program ends, the
 * folder has the former SAE until then and this one from then on. */
mw_status mw_sae_save(const mw_sae *sae, const char *folder) {
    mw_named_tensor tensors[5 + MW_EXTRAS];
    int64_t count = list_tensors(sae, tensors);
    const mw_comm *peers = sae->shard.peers;
    bool first = !peers || mw_comm_rank(peers) == 0;
    uint64_t hash = 0;
    mw_status status = sae_check_finite(sae, folder);
    if (status == MW_OK && first) status = mw_make_directories(folder);
    if (peers) status = mw_comm_agree(peers, status);
    MW_TRY(status);
    MW_TRY(hash_all_shards(sae, &hash));
    MW_TRY(write_weights(sae, folder, tensors, count));
    if (first) status = save_config(sae, hash, folder);
    if (status == MW_OK && first) status = mw_sae_publish(folder);
    return peers ? mw_comm_agree(peers, status) : status;
}

/* ---- loading ------------------------------------------------------------------------------------------- */

/* cfg.json; the texts belong to the JSON value. */
typedef struct sae_config {
    mw_sae_shape shape;
    int64_t group[MW_GROUPS_MAX], target_width[MW_SITES_MAX];
    double threshold;
    const char *site, *target, *model, *fingerprint;
} sae_config;

static mw_status read_list(const char *path, const json_t *config, const char *key, int64_t most, int64_t *out,
                           int64_t *count) {
    const json_t *list = json_object_get(config, key);
    *count = (int64_t)json_array_size(list);
    if (*count > most)
        return mw_error(MW_ERR_FORMAT, "%s: %s has %lld entries: at most %lld", path, key, (long long)*count,
                        (long long)most);
    for (int64_t i = 0; i < *count; i++) out[i] = json_integer_value(json_array_get(list, (size_t)i));
    return MW_OK;
}

static mw_status read_config(const char *path, const json_t *config, sae_config *out) {
    const char *format = mw_json_text(config, "format"), *variant = mw_json_text(config, "variant");
    int64_t version = json_integer_value(json_object_get(config, "version"));
    mw_sae_shape *s = &out->shape;
    if (!format || strcmp(format, "microw") != 0)
        return mw_error(MW_ERR_FORMAT, "%s: not the configuration of a microw SAE", path);
    if (version < 1 || version > FORMAT_VERSION)
        return mw_error(MW_ERR_FORMAT, "%s: format version %lld; this microw reads versions 1 to %d", path,
                        (long long)version, FORMAT_VERSION);
    MW_TRY(mw_variant_parse(variant ? variant : "(none)", &s->variant));
    const json_t *threshold = json_object_get(config, "threshold");
    out->threshold = threshold ? json_number_value(threshold) : -1;
    s->n = json_integer_value(json_object_get(config, "n_latents"));
    s->d = json_integer_value(json_object_get(config, "d_in"));
    s->k = json_integer_value(json_object_get(config, "k"));
    s->d_out = json_integer_value(json_object_get(config, "d_out"));
    s->skip = mw_json_flag(config, "skip", false);
    MW_TRY(read_list(path, config, "groups", MW_GROUPS_MAX, out->group, &s->n_groups));
    MW_TRY(read_list(path, config, "parts", MW_SITES_MAX, out->target_width, &s->n_targets));
    s->group = out->group;
    s->target_width = out->target_width;
    out->site = mw_json_text(config, "site");
    out->target = mw_json_text(config, "target");
    out->model = mw_json_text(config, "model");
    out->fingerprint = mw_json_text(config, "fingerprint");
    return MW_OK;
}

mw_status sae_new_for_file(mw_backend *backend, const mw_sae_shape *shape, const char *weights, mw_sae **out) {
    uint64_t size = 0;
    MW_TRY(mw_sae_check(shape)); /* so the product below is in range */
    MW_TRY(mw_file_size(weights, &size));
    uint64_t least = (uint64_t)shape->n * (uint64_t)(shape->d + (shape->d_out ? shape->d_out : shape->d));
    if (least > size)
        return mw_error(MW_ERR_FORMAT, "%s: too small for the %lld latents of width %lld of its configuration", weights,
                        (long long)shape->n, (long long)shape->d);
    return mw_sae_new(backend, shape, out);
}

mw_status sae_read_tensor(const mw_safetensors *file, const char *path, const char *name, int64_t rows, int64_t columns,
                          float *to) {
    mw_tensor t;
    bool fits = mw_safetensors_find(file, name, &t) && t.ndim == (columns ? 2 : 1) && t.shape[0] == rows &&
                (!columns || t.shape[1] == columns);
    if (!fits)
        return mw_error(MW_ERR_FORMAT, "%s: expected a tensor '%s' of shape [%lld%s%.0lld]", path, name,
                        (long long)rows, columns ? ", " : "", (long long)columns);
    MW_TRY(mw_convert_to_f32(t.dtype, t.data, rows * (columns ? columns : 1), to));
    return sae_check_values(path, name, to, rows, columns);
}

static mw_status read_weights(const char *path, mw_sae *sae) {
    mw_safetensors *file;
    MW_TRY(mw_safetensors_open(path, &file));
    mw_named_tensor wanted[5 + MW_EXTRAS];
    int64_t count = list_tensors(sae, wanted);
    mw_status status = MW_OK;
    for (int64_t i = 0; i < count && status == MW_OK; i++) {
        const mw_tensor *t = &wanted[i].tensor;
        status = sae_read_tensor(file, path, wanted[i].name, t->shape[0], t->ndim == 2 ? t->shape[1] : 0, t->data);
    }
    mw_safetensors_free(&file);
    return status;
}

mw_status sae_fingerprint_by_hash(mw_sae *sae) {
    char *fingerprint = mw_format("weights:%016llx", (unsigned long long)mw_sae_hash(sae));
    if (!fingerprint) return MW_ERR_MEMORY;
    mw_free(sae->fingerprint);
    sae->fingerprint = fingerprint;
    return MW_OK;
}

/* Compares the hash of the weights with that in cfg.json, which early versions did not have. */
static bool hash_matches(const char *wanted, const mw_sae *sae) {
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)mw_sae_hash(sae));
    return !wanted || strcmp(hash, wanted) == 0;
}

/* `mismatch`: the two files are of different SAEs. */
static mw_status load_once(const char *config_path, const char *weights, mw_backend *backend, mw_sae **out,
                           bool *mismatch) {
    json_t *config = NULL;
    mw_sae *sae = NULL;
    sae_config f = {0};
    mw_status status = mw_json_load(config_path, &config);
    if (status == MW_OK) status = read_config(config_path, config, &f);
    if (status == MW_OK) status = sae_new_for_file(backend, &f.shape, weights, &sae);
    if (status == MW_OK && !(f.threshold <= FLT_MAX))
        status = mw_error(MW_ERR_FORMAT, "%s: threshold %g: no f32 holds it", config_path, f.threshold);
    if (status == MW_OK) sae->threshold = (float)f.threshold;
    if (status == MW_OK) status = read_weights(weights, sae);
    *mismatch = status == MW_OK && !hash_matches(mw_json_text(config, "weights"), sae);
    if (status == MW_OK) status = mw_put_text(&sae->site, f.site);
    if (status == MW_OK) status = mw_put_text(&sae->target, f.target);
    if (status == MW_OK) status = mw_put_text(&sae->model, f.model);
    if (status == MW_OK)
        status = f.fingerprint ? mw_put_text(&sae->fingerprint, f.fingerprint) : sae_fingerprint_by_hash(sae);
    json_decref(config);
    if (status != MW_OK)
        mw_sae_free(&sae);
    else
        *out = sae;
    return status;
}

/* While another process saves, the two files may not match for a moment. */
static bool is_being_written(const char *weights) {
    char *lock = mw_format("%s.lock", weights);
    bool there = lock && mw_file_exists(lock);
    mw_free(lock);
    return there;
}

/* Loads the weights that match cfg.json: under their final or still under their temporary name. */
static mw_status load_either(const char *config_path, const char *weights, mw_backend *backend, mw_sae **out,
                             bool *mismatch) {
    char *partial = mw_format("%s.partial", weights);
    mw_status status = partial ? load_once(config_path, weights, backend, out, mismatch) : MW_ERR_MEMORY;
    if (status == MW_OK && *mismatch && mw_file_exists(partial)) {
        mw_sae *sae = NULL;
        mw_log_quiet(true); /* the file may be incomplete or of another SAE */
        bool matches = load_once(config_path, partial, backend, &sae, mismatch) == MW_OK && !*mismatch;
        mw_log_quiet(false);
        *mismatch = !matches;
        mw_sae_free(matches ? out : &sae);
        if (matches) *out = sae;
    }
    mw_free(partial);
    return status;
}

mw_status mw_sae_load(const char *folder, mw_backend *backend, mw_sae **out) {
    enum { TRIES = 20 };
    char *config_path = mw_path_join(folder, "cfg.json"), *weights = mw_path_join(folder, "sae.safetensors");
    mw_sae *sae = NULL;
    bool mismatch = true;
    mw_status status = config_path && weights ? MW_OK : MW_ERR_MEMORY;
    for (int i = 0; i < TRIES && mismatch && status == MW_OK; i++) {
        mw_sae_free(&sae);
        status = load_either(config_path, weights, backend, &sae, &mismatch);
        if (status == MW_OK && mismatch && !is_being_written(weights)) break;
        if (mismatch) nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    if (status == MW_OK && mismatch)
        status =
            mw_error(MW_ERR_FORMAT,
                     "%s does not match the hash in its cfg.json: it is damaged, another process is writing it, or one "
                     "of the two files is of another SAE",
                     weights);
    mw_free(config_path);
    mw_free(weights);
    if (status != MW_OK)
        mw_sae_free(&sae);
    else
        *out = sae;
    return status;
}
