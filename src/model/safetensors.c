/* Reads and writes safetensors files: the length of a JSON header, the header, then the data of all tensors. Files of
 * torch.save are read into the same description. */
#include "microw/safetensors.h"
#include "base/json.h"
#include "model/torch/torch_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX = 100 << 20 };

typedef struct entry {
    char *name;
    mw_tensor tensor;
    bool usable;
    char type[16];       /* as stored */
    int64_t file;        /* index of its file */
    uint64_t begin, end; /* in the data part of its file */
} entry;

struct mw_safetensors {
    char **paths;
    mw_map *maps;
    int64_t n_files;
    entry *entries; /* sorted by name */
    int64_t count, capacity;
    json_t *metadata;
    int64_t reading; /* index of the file that is read */
    void **copies;   /* of tensors of torch that are not row-major in their file */
    int64_t n_copies, copies_capacity;
};

typedef struct type_name {
    const char *text;
    int bits, dtype; /* dtype -1: tensors of this type cannot be found */
} type_name;

static const type_name types[] = {
    {"F32", 32, MW_F32},
    {"F16", 16, MW_F16},
    {"BF16", 16, MW_BF16},
    {"F64", 64, MW_F64},
    {"I64", 64, MW_I64},
    {"I32", 32, MW_I32},
    {"U32", 32, MW_U32},
    {"U8", 8, MW_U8},
    {"I8", 8, -1},
    {"BOOL", 8, -1},
    {"I16", 16, -1},
    {"U16", 16, -1},
    {"U64", 64, -1},
    {"F8_E4M3", 8, MW_F8_E4M3},
    {"F8_E5M2", 8, MW_F8_E5M2},
};

static const type_name *find_type(const char *text) {
    for (size_t i = 0; text && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].text, text) == 0) return &types[i];
    return NULL;
}

static mw_status read_shape(const char *path, const char *name, const json_t *shape, entry *e, uint64_t *elements) {
    size_t n = json_array_size(shape);
    *elements = 1;
    if (!json_is_array(shape)) return mw_error(MW_ERR_FORMAT, "%s: tensor '%s' has no shape", path, name);
    e->usable = e->usable && n <= MW_DIMS_MAX;
    e->tensor.ndim = n <= MW_DIMS_MAX ? (int)n : 0;
    for (size_t i = 0; i < n; i++) {
        json_int_t d = json_integer_value(json_array_get(shape, i));
        bool bad = !json_is_integer(json_array_get(shape, i)) || d < 0 || d > INT64_C(1) << 48;
        if (bad || __builtin_mul_overflow(*elements, (uint64_t)d, elements) || *elements > UINT64_C(1) << 56)
            return mw_error(MW_ERR_FORMAT, "%s: tensor '%s' has an impossible shape", path, name);
        if (n <= MW_DIMS_MAX) e->tensor.shape[i] = d;
    }
    return MW_OK;
}

static mw_status read_entry(const char *path, const char *name, const json_t *info, const uint8_t *data,
                            uint64_t length, entry *e) {
    const char *text = mw_json_text(info, "dtype");
    const type_name *type = find_type(text);
    if (!text) return mw_error(MW_ERR_FORMAT, "%s: tensor '%s' has no dtype", path, name);
    snprintf(e->type, sizeof e->type, "%s", text);
    e->usable = type && type->dtype >= 0;
    e->tensor.dtype = e->usable ? (mw_dtype)type->dtype : MW_U8;
    uint64_t elements;
    MW_TRY(read_shape(path, name, json_object_get(info, "shape"), e, &elements));
    const json_t *span = json_object_get(info, "data_offsets");
    const json_t *from = json_array_get(span, 0), *to = json_array_get(span, 1);
    json_int_t begin = json_integer_value(from), end = json_integer_value(to);
    if (json_array_size(span) != 2 || !json_is_integer(from) || !json_is_integer(to) || begin < 0 || end < begin ||
        (uint64_t)end > length)
        return mw_error(MW_ERR_FORMAT, "%s: tensor '%s' spans bytes %lld to %lld, but the data part has %llu bytes",
                        path, name, (long long)begin, (long long)end, (unsigned long long)length);
    if (type && (uint64_t)(end - begin) != elements * (uint64_t)type->bits / 8)
        return mw_error(MW_ERR_FORMAT, "%s: tensor '%s' needs %llu bytes by its shape, but has %lld", path, name,
                        (unsigned long long)(elements * (uint64_t)type->bits / 8), (long long)(end - begin));
    e->begin = (uint64_t)begin;
    e->end = (uint64_t)end;
    e->tensor.data = (void *)(uintptr_t)(data + begin);
    return (e->name = mw_strdup(name)) ? MW_OK : MW_ERR_MEMORY;
}

static int by_begin(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static int by_name_and_file(const void *a, const void *b) {
    const entry *x = a, *y = b;
    int order = by_name(a, b);
    return order ? order : (x->file > y->file) - (x->file < y->file);
}

/* Checks that the tensors of one file neither overlap nor leave holes, as the format requires. */
static mw_status check_layout(const char *path, entry *entries, int64_t count, uint64_t length) {
    qsort(entries, (size_t)count, sizeof *entries, by_begin);
    uint64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        if (entries[i].begin != at)
            return mw_error(MW_ERR_FORMAT, "%s: tensor '%s' starts at byte %llu of the data, expected %llu (%s)", path,
                            entries[i].name, (unsigned long long)entries[i].begin, (unsigned long long)at,
                            entries[i].begin < at ? "tensors overlap" : "a hole");
        at = entries[i].end;
    }
    if (at != length)
        return mw_error(MW_ERR_FORMAT, "%s: the header describes %llu bytes of data, the file has %llu", path,
                        (unsigned long long)at, (unsigned long long)length);
    return MW_OK;
}

static mw_status read_tensors(mw_safetensors *st, int64_t file, const json_t *header, const uint8_t *data,
                              uint64_t length) {
    const char *path = st->paths[file];
    int64_t first = st->count;
    const char *name;
    json_t *info;
    json_object_foreach((json_t *)(uintptr_t)header, name, info) {
        if (strcmp(name, "__metadata__") == 0) {
            if (!st->metadata) st->metadata = json_incref(info);
            continue;
        }
        if (!MW_GROW(st->entries, st->count, st->capacity)) return MW_ERR_MEMORY;
        entry *e = &st->entries[st->count];
        *e = (entry){.file = file};
        MW_TRY(read_entry(path, name, info, data, length, e));
        st->count++;
    }
    return check_layout(path, st->entries + first, st->count - first, length);
}

/* ---- files of torch.save ------------------------------------------------------------------------------- */

/* As transformers: by the name. */
static bool is_of_torch(const char *path) {
    return mw_ends_with(path, ".bin") || mw_ends_with(path, ".pt") || mw_ends_with(path, ".pth");
}

/* Writes the elements in row-major order. */
static void gather(const torch_tensor *t, char *to) {
    int64_t index[MW_DIMS_MAX] = {0};
    size_t size = (size_t)t->bits / 8;
    for (int64_t i = 0; i < t->count; i++, to += size) {
        int64_t from = 0;
        for (int d = 0; d < t->ndim; d++) from += index[d] * t->stride[d];
        memcpy(to, (const char *)t->data + (size_t)from * size, size);
        for (int d = t->ndim - 1; d >= 0 && ++index[d] == t->shape[d]; d--) index[d] = 0;
    }
}

static mw_status make_dense(mw_safetensors *st, const torch_tensor *t, entry *e) {
    if (!MW_GROW(st->copies, st->n_copies, st->copies_capacity)) return MW_ERR_MEMORY;
    void *copy = mw_alloc((size_t)t->count * (size_t)t->bits / 8);
    if (!copy) return MW_ERR_MEMORY;
    st->copies[st->n_copies++] = copy;
    gather(t, copy);
    e->tensor.data = copy;
    return MW_OK;
}

static mw_status add_torch(void *self, const torch_tensor *t) {
    mw_safetensors *st = self;
    const type_name *type = find_type(t->type);
    if (!MW_GROW(st->entries, st->count, st->capacity)) {
        mw_free(t->name);
        return MW_ERR_MEMORY;
    }
    entry *e = &st->entries[st->count++];
    *e = (entry){.name = t->name, .file = st->reading, .end = (uint64_t)t->count * (uint64_t)t->bits / 8};
    e->usable = type && type->dtype >= 0 && t->ndim <= MW_DIMS_MAX;
    snprintf(e->type, sizeof e->type, "%s", t->type);
    e->tensor = (mw_tensor){.dtype = e->usable ? (mw_dtype)type->dtype : MW_U8,
                            .ndim = t->ndim <= MW_DIMS_MAX ? t->ndim : 0,
                            .data = (void *)(uintptr_t)t->data};
    memcpy(e->tensor.shape, t->shape, sizeof *t->shape * (size_t)e->tensor.ndim);
    if (!t->dense && t->ndim > MW_DIMS_MAX) e->end = 0; /* not used: nothing to compare */
    return t->dense || t->ndim > MW_DIMS_MAX ? MW_OK : make_dense(st, t, e);
}

/* ---- all files ----------------------------------------------------------------------------------------- */

/* Refuses the text that git leaves in place of a large file where git-lfs is not installed. */
static mw_status refuse_pointer(const char *path, const mw_map *map) {
    static const char pointer[] = "version https://git-lfs";
    if (map->length < sizeof pointer || memcmp(map->data, pointer, sizeof pointer - 1) != 0) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: a git-lfs pointer, not the weights: `git lfs pull` brings them", path);
}

static mw_status read_file(mw_safetensors *st, int64_t file) {
    const char *path = st->paths[file];
    mw_map *map = &st->maps[file];
    MW_TRY(mw_map_open(path, map));
    MW_TRY(refuse_pointer(path, map));
    st->reading = file;
    if (is_of_torch(path)) return torch_file_read(path, map, add_torch, st);
    uint64_t size = 0;
    if (map->length >= 8) memcpy(&size, map->data, 8); /* little endian, as all supported machines */
    if (map->length < 8 || size > map->length - 8 || size > HEADER_MAX)
        return mw_error(MW_ERR_FORMAT, "%s: not a safetensors file, or truncated: %zu bytes with a header of %llu",
                        path, map->length, (unsigned long long)size);
    json_t *header;
    MW_TRY(mw_json_parse(path, (const char *)map->data + 8, (size_t)size, &header));
    mw_status status = json_is_object(header)
                           ? read_tensors(st, file, header, map->data + 8 + size, map->length - 8 - size)
                           : mw_error(MW_ERR_FORMAT, "%s: the header is not an object", path);
    json_decref(header);
    return status;
}

static bool same_bytes(const entry *a, const entry *b) {
    uint64_t n = a->end - a->begin;
    return n == b->end - b->begin && strcmp(a->type, b->type) == 0 && memcmp(a->tensor.data, b->tensor.data, n) == 0;
}

/* Chooses among the entries [first, last] of one tensor in several shards: the one in the shard that the index names.
 * transformers 5.24 takes the last shard by name, whatever the index says, so that another choice is refused unless the
 * bytes are equal. */
static mw_status choose_shard(const mw_safetensors *st, const json_t *map, int64_t first, int64_t last, int64_t *out) {
    const char *shard = mw_json_text(map, st->entries[first].name);
    *out = last;
    for (int64_t i = first; i < last; i++)
        if (st->entries[i].file == st->entries[i + 1].file)
            return mw_error(MW_ERR_FORMAT, "%s: tensor '%s' occurs twice", st->paths[st->entries[i].file],
                            st->entries[i].name);
    if (shard && strcmp(mw_path_basename(st->paths[st->entries[last].file]), shard) == 0) return MW_OK;
    for (int64_t i = first; i < last; i++)
        if (!same_bytes(&st->entries[i], &st->entries[last]))
            return mw_error(MW_ERR_FORMAT, "%s: tensor '%s' differs in two shards", st->paths[0],
                            st->entries[first].name);
    return MW_OK;
}

/* Keeps one entry of each tensor. */
static mw_status drop_duplicates(mw_safetensors *st, const json_t *map) {
    int64_t kept = 0;
    for (int64_t first = 0, last; first < st->count; first = last + 1) {
        int64_t chosen;
        for (last = first; last + 1 < st->count && by_name(&st->entries[first], &st->entries[last + 1]) == 0;) last++;
        MW_TRY(choose_shard(st, map, first, last, &chosen));
        for (int64_t i = first; i <= last; i++)
            if (i != chosen) {
                mw_free(st->entries[i].name);
                st->entries[i].name = NULL;
            }
        entry keep = st->entries[chosen];
        if (kept != chosen) st->entries[chosen].name = NULL;
        st->entries[kept++] = keep;
    }
    st->count = kept;
    return MW_OK;
}

/* `map`: the index's shard of each tensor, or NULL. */
static mw_status read_all(mw_safetensors *st, const json_t *map) {
    for (int64_t i = 0; i < st->n_files; i++) MW_TRY(read_file(st, i));
    if (st->count) qsort(st->entries, (size_t)st->count, sizeof *st->entries, by_name_and_file);
    return drop_duplicates(st, map);
}

/* Takes ownership of `paths` and its strings, also on error. */
static mw_status open_files(char **paths, int64_t n, const json_t *map, mw_safetensors **out) {
    mw_safetensors *st = mw_calloc(1, sizeof *st);
    mw_map *maps = mw_calloc((size_t)n, sizeof *maps);
    mw_status status = st && maps ? MW_OK : MW_ERR_MEMORY;
    if (status != MW_OK) {
        for (int64_t i = 0; i < n; i++) mw_free(paths[i]);
        mw_free(paths);
        mw_free(maps);
        mw_free(st);
        return status;
    }
    *st = (mw_safetensors){.paths = paths, .maps = maps, .n_files = n};
    status = read_all(st, map);
    if (status != MW_OK)
        mw_safetensors_free(&st);
    else
        *out = st;
    return status;
}

mw_status mw_safetensors_open(const char *path, mw_safetensors **out) {
    char **paths = mw_calloc(1, sizeof *paths);
    if (!paths || !(paths[0] = mw_strdup(path))) {
        mw_free(paths);
        return MW_ERR_MEMORY;
    }
    return open_files(paths, 1, NULL, out);
}

void mw_safetensors_free(mw_safetensors **file) {
    mw_safetensors *st = *file;
    if (!st) return;
    for (int64_t i = 0; i < st->count; i++) mw_free(st->entries[i].name);
    for (int64_t i = 0; i < st->n_files; i++) {
        mw_map_close(&st->maps[i]);
        mw_free(st->paths[i]);
    }
    for (int64_t i = 0; i < st->n_copies; i++) mw_free(st->copies[i]);
    mw_free(st->copies);
    json_decref(st->metadata);
    mw_free(st->entries);
    mw_free(st->maps);
    mw_free(st->paths);
    mw_free(st);
    *file = NULL;
}

/* ---- shards ------------------------------------------------------------------------------------------ */

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Returns whether an untrusted shard name stays within the folder. */
static bool plain_name(const char *name) {
    return name && name[0] && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

static mw_status shard_names(const char *index, const json_t *map, json_t *names) {
    const char *tensor;
    json_t *shard;
    if (!json_is_object(map) || json_object_size(map) == 0) return mw_error(MW_ERR_FORMAT, "%s: no weight_map", index);
    json_object_foreach((json_t *)(uintptr_t)map, tensor, shard) {
        if (!plain_name(json_string_value(shard)))
            return mw_error(MW_ERR_FORMAT, "%s: tensor '%s': expected the name of a file in this folder", index,
                            tensor);
        json_object_set_new(names, json_string_value(shard), json_true());
    }
    return MW_OK;
}

static mw_status shard_paths(const char *folder, json_t *names, char ***out) {
    char **paths = mw_calloc(json_object_size(names), sizeof *paths);
    if (!paths) return MW_ERR_MEMORY;
    const char *name;
    json_t *unused;
    int64_t n = 0;
    json_object_foreach(names, name, unused) if (!(paths[n++] = mw_path_join(folder, name))) return MW_ERR_MEMORY;
    qsort(paths, (size_t)n, sizeof *paths, by_text);
    *out = paths;
    return MW_OK;
}

/* Notes tensors that the index lists but no shard has, such as a tied head: only a needed tensor is an error. */
static void note_missing(const char *index, const json_t *map, const mw_safetensors *st) {
    const char *tensor;
    json_t *shard;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, shard) {
        entry key = {.name = (char *)(uintptr_t)tensor};
        if (!st->count || !bsearch(&key, st->entries, (size_t)st->count, sizeof *st->entries, by_name))
            mw_log(MW_LOG_DEBUG, "%s: tensor '%s' is not in %s", index, tensor, json_string_value(shard));
    }
}

static mw_status open_index(const char *folder, const char *index, mw_safetensors **out) {
    json_t *root = NULL, *names = json_object();
    char **paths = NULL;
    mw_safetensors *st = NULL;
    mw_status status = mw_json_load(index, &root);
    const json_t *map = json_object_get(root, "weight_map");
    if (status == MW_OK) status = shard_names(index, map, names);
    if (status == MW_OK) status = shard_paths(folder, names, &paths);
    if (status == MW_OK) status = open_files(paths, (int64_t)json_object_size(names), map, &st);
    if (status == MW_OK) {
        note_missing(index, map, st);
        *out = st;
    }
    json_decref(names);
    json_decref(root);
    return status;
}

/* In the order of transformers. */
static const struct {
    const char *name;
    bool index;
} folder_files[] = {{"model.safetensors", false},
                    {"model.safetensors.index.json", true},
                    {"pytorch_model.bin", false},
                    {"pytorch_model.bin.index.json", true}};

mw_status mw_safetensors_open_folder(const char *folder, mw_safetensors **out) {
    for (size_t i = 0; i < sizeof folder_files / sizeof *folder_files; i++) {
        if (!mw_file_is_in(folder, folder_files[i].name)) continue;
        char *path = mw_path_join(folder, folder_files[i].name);
        mw_status status = !path                   ? MW_ERR_MEMORY
                           : folder_files[i].index ? open_index(folder, path, out)
                                                   : mw_safetensors_open(path, out);
        mw_free(path);
        return status;
    }
    return mw_error(MW_ERR_IO, "%s: found neither model.safetensors nor pytorch_model.bin, nor an index of either",
                    folder);
}

/* ---- use --------------------------------------------------------------------------------------------- */

bool mw_safetensors_find(const mw_safetensors *file, const char *name, mw_tensor *out) {
    entry key = {.name = (char *)(uintptr_t)name};
    const entry *e = file->count ? bsearch(&key, file->entries, (size_t)file->count, sizeof *e, by_name) : NULL;
    if (!e || !e->usable) return false;
    *out = e->tensor;
    return true;
}

const char *mw_safetensors_type(const mw_safetensors *file, const char *name) {
    entry key = {.name = (char *)(uintptr_t)name};
    const entry *e = file->count ? bsearch(&key, file->entries, (size_t)file->count, sizeof *e, by_name) : NULL;
    return e ? e->type : NULL;
}

int64_t mw_safetensors_count(const mw_safetensors *file) {
    return file->count;
}

const char *mw_safetensors_name(const mw_safetensors *file, int64_t index) {
    return file->entries[index].name;
}

const char *mw_safetensors_metadata(const mw_safetensors *file, const char *key) {
    return mw_json_text(file->metadata, key);
}

uint64_t mw_safetensors_mark(const mw_safetensors *file) {
    enum { PIECE = 1 << 24 };
    uint64_t all = 0;
    for (int64_t i = 0; i < file->n_files; i++) {
        const mw_map *map = &file->maps[i];
        uint64_t sum = map->length;
        /* an integer sum does not depend on the order of the threads */
#pragma omp parallel for schedule(dynamic) reduction(+ : sum)
        for (size_t at = 0; at < map->length; at += PIECE) {
            size_t n = map->length - at < PIECE ? map->length - at : PIECE;
            uint64_t pair[2] = {at, mw_xxh64(map->data + at, n)};
            sum += mw_xxh64(pair, sizeof pair);
        }
        uint64_t pair[2] = {all, sum};
        all = mw_xxh64(pair, sizeof pair);
    }
    return all;
}

mw_status mw_safetensors_hash(const mw_safetensors *file, char out[MW_SHA256_TEXT]) {
    if (file->n_files == 1) return mw_sha256(file->maps[0].data, file->maps[0].length, out);
    mw_text all = {0};
    mw_status status = MW_OK;
    for (int64_t i = 0; i < file->n_files && status == MW_OK; i++) {
        char one[MW_SHA256_TEXT];
        status = mw_sha256(file->maps[i].data, file->maps[i].length, one);
        if (status == MW_OK) mw_text_add(&all, one, MW_SHA256_TEXT - 1);
    }
    if (status == MW_OK) status = all.failed ? MW_ERR_MEMORY : mw_sha256(all.data, all.length, out);
    mw_text_free(&all);
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------------- */

static const char *type_text(mw_dtype dtype) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == (int)dtype) return types[i].text;
    return "F32";
}

static void header_metadata(mw_text *header, const char *const *metadata) {
    mw_text_addf(header, "\"__metadata__\":{");
    for (int i = 0; metadata && metadata[i]; i += 2) {
        if (i) mw_text_addf(header, ",");
        mw_json_quote(header, metadata[i], strlen(metadata[i]));
        mw_text_addf(header, ":");
        mw_json_quote(header, metadata[i + 1], strlen(metadata[i + 1]));
    }
    mw_text_addf(header, "}");
}

static size_t tensor_bytes(const mw_tensor *tensor) {
    return (size_t)mw_tensor_count(tensor) * mw_dtype_size(tensor->dtype);
}

static void header_tensor(mw_text *header, const mw_named_tensor *t, size_t at) {
    mw_text_addf(header, ",");
    mw_json_quote(header, t->name, strlen(t->name));
    mw_text_addf(header, ":{\"dtype\":\"%s\",\"shape\":[", type_text(t->tensor.dtype));
    for (int d = 0; d < t->tensor.ndim; d++)
        mw_text_addf(header, "%s%lld", d ? "," : "", (long long)t->tensor.shape[d]);
    mw_text_addf(header, "],\"data_offsets\":[%zu,%zu]}", at, at + tensor_bytes(&t->tensor));
}

mw_status mw_safetensors_header(const mw_named_tensor *tensors, int64_t count, const char *const *metadata,
                                mw_text *header, uint64_t *offset) {
    uint64_t length = 0;
    size_t at = 0;
    mw_text_add(header, (const char *)&length, sizeof length);
    mw_text_addf(header, "{");
    header_metadata(header, metadata);
    for (int64_t i = 0; i < count; at += tensor_bytes(&tensors[i++].tensor)) {
        offset[i] = at;
        header_tensor(header, &tensors[i], at);
    }
    mw_text_addf(header, "}");
    while (header->length % 8) mw_text_add(header, " ", 1); /* aligns the data */
    if (header->failed) return MW_ERR_MEMORY;
    length = header->length - sizeof length;
    memcpy(header->data, &length, sizeof length);
    for (int64_t i = 0; i < count; i++) offset[i] += header->length;
    return MW_OK;
}

static mw_status write_all(mw_atomic_file *file, const mw_text *header, const mw_named_tensor *tensors, int64_t count) {
    MW_TRY(mw_atomic_write(file, header->data, header->length));
    for (int64_t i = 0; i < count; i++)
        MW_TRY(mw_atomic_write(file, tensors[i].tensor.data, tensor_bytes(&tensors[i].tensor)));
    return MW_OK;
}

mw_status mw_safetensors_write(const char *path, const mw_named_tensor *tensors, int64_t count,
                               const char *const *metadata) {
    mw_text header = {0};
    mw_atomic_file file = {0};
    uint64_t *offset = mw_alloc((size_t)count * sizeof *offset);
    mw_status status = offset ? mw_safetensors_header(tensors, count, metadata, &header, offset) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_atomic_begin(path, &file);
    if (status == MW_OK) {
        status = write_all(&file, &header, tensors, count);
        if (status == MW_OK)
            status = mw_atomic_commit(&file);
        else
            mw_atomic_abort(&file);
    }
    mw_text_free(&header);
    mw_free(offset);
    return status;
}
