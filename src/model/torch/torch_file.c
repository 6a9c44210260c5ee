/* Reads state dicts that torch.save wrote (layout: torch/serialization.py, torch/_utils.py). Storages are used where
 * they are in the mapped file. */
#include "model/torch/torch_file.h"
#include "model/torch/pickle.h"
#include "model/torch/zip.h"

#include <stdlib.h>
#include <string.h>

/* What a pickle may name. The first must be OrderedDict, for pickle_read. */
enum { REBUILD_V2 = 1, REBUILD_V3, REBUILD_PARAMETER, FIRST_TYPE };
static const pickle_global globals[] = {
    "collections\nOrderedDict\n",
    "torch._utils\n_rebuild_tensor_v2\n",
    "torch._utils\n_rebuild_tensor_v3\n",
    "torch._utils\n_rebuild_parameter\n",
    "torch\nFloatStorage\n",
    "torch\nHalfStorage\n",
    "torch\nBFloat16Storage\n",
    "torch\nDoubleStorage\n",
    "torch\nLongStorage\n",
    "torch\nIntStorage\n",
    "torch\nShortStorage\n",
    "torch\nCharStorage\n",
    "torch\nByteStorage\n",
    "torch\nBoolStorage\n",
    "torch\nComplexFloatStorage\n",
    "torch\nComplexDoubleStorage\n",
    "torch.storage\nUntypedStorage\n",
    "torch\nfloat8_e4m3fn\n",
    "torch\nfloat8_e5m2\n",
    "torch\nuint16\n",
    "torch\nuint32\n",
    "torch\nuint64\n",
    NULL,
};

/* In the order of `globals`, from FIRST_TYPE on. */
static const struct {
    const char *name;
    int bits;
} types[] = {{"F32", 32}, {"F16", 16},    {"BF16", 16},   {"F64", 64}, {"I64", 64}, {"I32", 32},
             {"I16", 16}, {"I8", 8},      {"U8", 8},      {"BOOL", 8}, {"C64", 64}, {"C128", 128},
             {"", 8},     {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"U16", 16}, {"U32", 32}, {"U64", 64}};

enum { TYPES = sizeof types / sizeof *types };
_Static_assert(FIRST_TYPE + TYPES + 1 == sizeof globals / sizeof *globals, "a type for each storage");

typedef struct storage {
    const char *key;
    size_t length; /* of the key */
    int type;
    int64_t count; /* elements; of an UntypedStorage bytes */
    const uint8_t *data;
} storage;

typedef struct state {
    const char *path;
    const mw_map *map;
    pickle pickle;
    zip_archive zip;
    storage *storages; /* sorted by key */
    int64_t n_storages, capacity;
} state;

static mw_status damaged(const state *s, const char *why) {
    return mw_error(MW_ERR_FORMAT, "%s: not a state dict of torch, or damaged: %s", s->path, why);
}

static int type_of(const pickle_value *v) {
    return v && v->kind == PICKLE_GLOBAL && v->number >= FIRST_TYPE ? (int)v->number - FIRST_TYPE : -1;
}

static uint64_t bytes_of(const storage *x) {
    return (uint64_t)x->count * (uint64_t)types[x->type].bits / 8;
}

/* ---- storages -------------------------------------------------------------------------------------------- */

/* Reads an id: ("storage", type, key, device, elements), before torch 1.6 with a view of another storage at its end,
 * which is None since torch 0.4. */
static mw_status read_storage_id(const state *s, const pickle_value *persistent, storage *out) {
    const pickle *p = &s->pickle;
    const pickle_value *id = pickle_item(p, persistent, 0), *key = pickle_item(p, id, 2);
    const pickle_value *count = pickle_item(p, id, 4), *view = pickle_item(p, id, 5);
    int type = type_of(pickle_item(p, id, 1));
    if (!pickle_is_text(pickle_item(p, id, 0), "storage") || type < 0 || !key || key->kind != PICKLE_TEXT || !count ||
        count->kind != PICKLE_INT || count->number < 0 || count->number > INT64_C(1) << 48)
        return damaged(s, "an object outside of the pickle that is no storage");
    if (view && view->kind != PICKLE_NONE)
        return mw_error(MW_ERR_UNSUPPORTED, "%s: a storage is a view of another: expected a file of torch 0.4 or later",
                        s->path);
    *out = (storage){.key = key->text, .length = key->length, .type = type, .count = count->number};
    return MW_OK;
}

static int by_key(const void *a, const void *b) {
    const storage *x = a, *y = b;
    int order = memcmp(x->key, y->key, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

/* Keeps one storage of each key. */
static mw_status merge_storages(state *s) {
    int64_t kept = 0;
    if (s->n_storages) qsort(s->storages, (size_t)s->n_storages, sizeof *s->storages, by_key);
    for (int64_t i = 0; i < s->n_storages; i++) {
        const storage *x = &s->storages[i], *last = kept ? &s->storages[kept - 1] : NULL;
        if (!last || by_key(last, x) != 0)
            s->storages[kept++] = *x;
        else if (last->type != x->type || last->count != x->count)
            return damaged(s, "a storage of two types or sizes");
    }
    s->n_storages = kept;
    return MW_OK;
}

static mw_status list_storages(state *s) {
    for (int64_t i = 0; i < s->pickle.n_values; i++) {
        if (s->pickle.values[i].kind != PICKLE_PERSISTENT) continue;
        if (!MW_GROW(s->storages, s->n_storages, s->capacity)) return MW_ERR_MEMORY;
        MW_TRY(read_storage_id(s, &s->pickle.values[i], &s->storages[s->n_storages]));
        s->n_storages++;
    }
    return merge_storages(s);
}

static storage *find_storage(const state *s, const pickle_value *key) {
    storage wanted = {.key = key->text, .length = key->length};
    return s->n_storages ? bsearch(&wanted, s->storages, (size_t)s->n_storages, sizeof wanted, by_key) : NULL;
}

/* ---- tensors --------------------------------------------------------------------------------------------- */

static mw_status read_dims(const state *s, const pickle_value *tuple, int64_t *out) {
    int64_t i = 0;
    for (int64_t link = tuple->first; link >= 0; link = s->pickle.links[link].next) {
        const pickle_value *v = &s->pickle.values[s->pickle.links[link].value];
        if (v->kind != PICKLE_INT || v->number < 0 || v->number > INT64_C(1) << 48)
            return damaged(s, "a tensor of an impossible shape");
        out[i++] = v->number;
    }
    return MW_OK;
}

/* Checks that all elements are in the storage; sets count and dense. */
static mw_status check_extent(const state *s, const storage *x, int64_t offset, torch_tensor *t) {
    int64_t last = offset, step, expected = 1, capacity = x->count * types[x->type].bits / t->bits;
    bool fits = true;
    t->count = 1;
    t->dense = true;
    for (int d = t->ndim - 1; d >= 0; d--) {
        fits = fits && !__builtin_mul_overflow(t->count, t->shape[d], &t->count);
        t->dense = t->dense && (t->shape[d] == 1 || t->stride[d] == expected);
        fits = fits && !__builtin_mul_overflow(expected, t->shape[d], &expected);
        fits = fits && !__builtin_mul_overflow(t->shape[d] - 1, t->stride[d], &step);
        fits = fits && !__builtin_add_overflow(last, step, &last);
    }
    t->dense = t->dense || t->count == 0;
    if (!fits || offset > capacity || (t->count > 0 && last >= capacity))
        return mw_error(MW_ERR_FORMAT, "%s: tensor '%s' reaches beyond the %lld elements of its storage", s->path,
                        t->name, (long long)capacity);
    if (t->count <= capacity) return MW_OK;
    t->type = "EXPANDED"; /* by torch.Tensor.expand: few bytes, any number of elements */
    t->count = 0;
    t->dense = true;
    return MW_OK;
}

/* Version 3 gives the type of the elements, and its storage has bytes. */
static mw_status read_type(const state *s, const pickle_value *arguments, bool v3, const storage *x, torch_tensor *t) {
    int type = v3 ? type_of(pickle_item(&s->pickle, arguments, 6)) : x->type;
    const pickle_value *bits = pickle_item(&s->pickle, arguments, v3 ? 7 : 6);
    if (type < 0 || types[type].name[0] == '\0') return damaged(s, "a tensor without a type");
    if (bits && bits->kind == PICKLE_DICT && bits->count)
        return mw_error(MW_ERR_UNSUPPORTED, "%s: tensor '%s' is stored negated or conjugated", s->path, t->name);
    t->type = types[type].name;
    t->bits = types[type].bits;
    return MW_OK;
}

/* The arguments are storage, offset, shape, strides, whether it has a gradient, hooks, and those of read_type.
 * `dims`: room for shape and strides. */
static mw_status read_arguments(const state *s, const pickle_value *arguments, bool v3, int64_t *dims,
                                torch_tensor *t) {
    const pickle *p = &s->pickle;
    const pickle_value *id = pickle_item(p, pickle_item(p, arguments, 0), 0), *offset = pickle_item(p, arguments, 1);
    const pickle_value *shape = pickle_item(p, arguments, 2), *stride = pickle_item(p, arguments, 3);
    const storage *x = find_storage(s, pickle_item(p, id, 2));
    MW_TRY(read_dims(s, shape, dims));
    MW_TRY(read_dims(s, stride, dims + shape->count));
    MW_TRY(read_type(s, arguments, v3, x, t));
    t->ndim = (int)shape->count;
    t->shape = dims;
    t->stride = dims + shape->count;
    MW_TRY(check_extent(s, x, offset->number, t));
    t->data = x->data + (size_t)offset->number * (size_t)t->bits / 8;
    return MW_OK;
}

static bool has_arguments(const pickle *p, const pickle_value *arguments) {
    enum { DIMS_MAX = 64 };
    const pickle_value *storage = pickle_item(p, arguments, 0), *offset = pickle_item(p, arguments, 1);
    const pickle_value *shape = pickle_item(p, arguments, 2), *stride = pickle_item(p, arguments, 3);
    return stride && storage->kind == PICKLE_PERSISTENT && offset->kind == PICKLE_INT && offset->number >= 0 &&
           shape->kind == PICKLE_TUPLE && stride->kind == PICKLE_TUPLE && shape->count == stride->count &&
           shape->count <= DIMS_MAX;
}

typedef struct receiver {
    mw_status (*add)(void *self, const torch_tensor *t);
    void *self;
} receiver;

static mw_status add_tensor(const state *s, const pickle_value *key, const pickle_value *arguments, bool v3,
                            const receiver *to) {
    if (!has_arguments(&s->pickle, arguments)) return damaged(s, "a tensor without storage, shape and strides");
    if (memchr(key->text, '\0', key->length)) return damaged(s, "a name with a NUL");
    torch_tensor t = {.name = mw_strndup(key->text, key->length)};
    int64_t *dims = mw_alloc((size_t)(2 * pickle_item(&s->pickle, arguments, 2)->count) * sizeof *dims);
    mw_status status = t.name && dims ? read_arguments(s, arguments, v3, dims, &t) : MW_ERR_MEMORY;
    if (status == MW_OK)
        status = to->add(to->self, &t);
    else
        mw_free(t.name);
    mw_free(dims);
    return status;
}

/* A parameter is a call with a tensor as its first argument. */
static const pickle_value *inside_parameter(const pickle *p, const pickle_value *v) {
    if (v->kind != PICKLE_CALL || pickle_item(p, v, 0)->number != REBUILD_PARAMETER) return v;
    const pickle_value *tensor = pickle_item(p, pickle_item(p, v, 1), 0);
    return tensor ? tensor : v;
}

static mw_status add_tensors(const state *s, const receiver *to) {
    const pickle *p = &s->pickle;
    const pickle_value *root = &p->values[p->root];
    if (root->kind != PICKLE_DICT) return damaged(s, "expected a dict of tensors");
    for (int64_t link = root->first; link >= 0;) {
        const pickle_value *key = &p->values[p->links[link].value];
        link = p->links[link].next;
        const pickle_value *v = inside_parameter(p, &p->values[p->links[link].value]);
        link = p->links[link].next;
        if (v->kind != PICKLE_CALL || key->kind != PICKLE_TEXT) continue;
        int64_t function = pickle_item(p, v, 0)->number;
        if (function != REBUILD_V2 && function != REBUILD_V3) return damaged(s, "a call that makes no tensor");
        MW_TRY(add_tensor(s, key, pickle_item(p, v, 1), function == REBUILD_V3, to));
    }
    return MW_OK;
}

/* ---- archives -------------------------------------------------------------------------------------------- */

/* Returns the one "ARCHIVE/data.pkl". */
static const zip_entry *find_pickle(const zip_archive *zip) {
    static const char name[] = "/data.pkl";
    const size_t length = sizeof name - 1;
    for (int64_t i = 0; i < zip->count; i++) {
        const zip_entry *e = &zip->entries[i];
        if (e->length < length || memcmp(e->name + e->length - length, name, length) != 0) continue;
        if (memchr(e->name, '/', e->length - length) == NULL) return e;
    }
    return NULL;
}

static const zip_entry *find_record(const state *s, const zip_entry *pickle, const char *folder, const char *name,
                                    size_t length) {
    int archive = (int)(pickle->length - strlen("data.pkl"));
    char *path = mw_format("%.*s%s%.*s", archive, pickle->name, folder, (int)length, name);
    const zip_entry *e = path ? zip_find(&s->zip, path) : NULL;
    mw_free(path);
    return e;
}

static mw_status check_archive(const state *s, const zip_entry *pickle) {
    const zip_entry *order = find_record(s, pickle, "", "byteorder", 9);
    if (find_record(s, pickle, "", "constants.pkl", 13))
        return mw_error(MW_ERR_UNSUPPORTED, "%s: a TorchScript program: expected a state dict", s->path);
    if (order && (order->bytes != 6 || memcmp(order->data, "little", 6) != 0))
        return mw_error(MW_ERR_UNSUPPORTED, "%s: written on a big-endian machine", s->path);
    return zip_crc_matches(pickle) ? MW_OK : damaged(s, "the checksum of data.pkl does not match");
}

/* torch itself reads no checksums. */
static mw_status check_sums(const state *s, const zip_entry *const *records) {
    int64_t bad = s->n_storages;
#pragma omp parallel for schedule(dynamic) reduction(min : bad)
    for (int64_t i = 0; i < s->n_storages; i++)
        if (!zip_crc_matches(records[i]) && i < bad) bad = i;
    if (bad == s->n_storages) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: damaged: the checksum of '%.*s' does not match", s->path,
                    (int)(records[bad]->length < 200 ? records[bad]->length : 200), records[bad]->name);
}

static mw_status find_records(state *s, const zip_entry *pickle, const zip_entry **records) {
    for (int64_t i = 0; i < s->n_storages; i++) {
        storage *x = &s->storages[i];
        records[i] = x->length < 1000 ? find_record(s, pickle, "data/", x->key, x->length) : NULL;
        if (!records[i]) return damaged(s, "a storage is missing");
        if (records[i]->bytes != bytes_of(x))
            return mw_error(MW_ERR_FORMAT, "%s: storage '%.*s' has %llu bytes, expected %llu", s->path, (int)x->length,
                            x->key, (unsigned long long)records[i]->bytes, (unsigned long long)bytes_of(x));
        x->data = records[i]->data;
    }
    return check_sums(s, records);
}

static mw_status read_archive(state *s) {
    MW_TRY(zip_read(s->path, s->map->data, s->map->length, &s->zip));
    const zip_entry *pickle = find_pickle(&s->zip);
    size_t used;
    if (!pickle) return damaged(s, "the archive has no data.pkl");
    MW_TRY(check_archive(s, pickle));
    MW_TRY(pickle_read(s->path, pickle->data, pickle->bytes, globals, &s->pickle, &used));
    MW_TRY(list_storages(s));
    const zip_entry **records = mw_calloc((size_t)s->n_storages, sizeof *records);
    mw_status status = records ? find_records(s, pickle, records) : MW_ERR_MEMORY;
    mw_free(records);
    return status;
}

/* ---- before torch 1.6 ------------------------------------------------------------------------------------ */

/* The pickle of the number 0x1950a86a20f9469cfc6c. */
static const uint8_t magic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

static mw_status next_pickle(const state *s, size_t *at, pickle *out) {
    size_t used = 0;
    mw_status status = pickle_read(s->path, s->map->data + *at, s->map->length - *at, globals, out, &used);
    *at += used;
    return status;
}

static const pickle_value *member(const pickle *p, const pickle_value *dict, const char *key) {
    for (int64_t link = dict->kind == PICKLE_DICT ? dict->first : -1; link >= 0;) {
        const pickle_value *found = &p->values[p->links[link].value];
        link = p->links[link].next;
        if (pickle_is_text(found, key)) return &p->values[p->links[link].value];
        link = p->links[link].next;
    }
    return NULL;
}

/* The version of the format, and the machine that wrote the file. */
static mw_status read_head(const state *s, size_t *at) {
    pickle version, machine = {0};
    mw_status status = next_pickle(s, at, &version);
    if (status == MW_OK && version.values[version.root].number != 1001)
        status = mw_error(MW_ERR_UNSUPPORTED, "%s: version %lld of the format: expected 1001", s->path,
                          (long long)version.values[version.root].number);
    if (status == MW_OK) status = next_pickle(s, at, &machine);
    const pickle_value *little =
        status == MW_OK ? member(&machine, &machine.values[machine.root], "little_endian") : NULL;
    if (status == MW_OK && !(little && little->kind == PICKLE_BOOL && little->number))
        status = mw_error(MW_ERR_UNSUPPORTED, "%s: written on a big-endian machine", s->path);
    pickle_free(&version);
    pickle_free(&machine);
    return status;
}

/* Each storage is its number of elements and the elements, in the order of the list of keys. */
static mw_status place_storages(state *s, const pickle *keys, size_t at) {
    const pickle_value *list = &keys->values[keys->root];
    for (int64_t link = list->kind == PICKLE_LIST ? list->first : -1; link >= 0; link = keys->links[link].next) {
        const pickle_value *key = &keys->values[keys->links[link].value];
        storage *x = key->kind == PICKLE_TEXT ? find_storage(s, key) : NULL;
        int64_t count = -1;
        if (s->map->length - at >= sizeof count) memcpy(&count, s->map->data + at, sizeof count);
        at += sizeof count;
        if (!x || x->data || count != x->count || bytes_of(x) > s->map->length - at)
            return damaged(s, "a storage that is truncated or not in use");
        x->data = s->map->data + at;
        at += bytes_of(x);
    }
    for (int64_t i = 0; i < s->n_storages; i++)
        if (!s->storages[i].data) return damaged(s, "a storage is missing");
    return at == s->map->length ? MW_OK : damaged(s, "bytes after the last storage");
}

static mw_status read_pickles(state *s) {
    size_t at = sizeof magic;
    pickle keys = {0};
    MW_TRY(read_head(s, &at));
    MW_TRY(next_pickle(s, &at, &s->pickle));
    MW_TRY(list_storages(s));
    mw_status status = next_pickle(s, &at, &keys);
    if (status == MW_OK) status = place_storages(s, &keys, at);
    pickle_free(&keys);
    return status;
}

/* ---- whole files ----------------------------------------------------------------------------------------- */

static mw_status read_any(state *s) {
    const mw_map *map = s->map;
    if (zip_begins(map->data, map->length)) return read_archive(s);
    if (map->length > sizeof magic && memcmp(map->data, magic, sizeof magic) == 0) return read_pickles(s);
    return mw_error(MW_ERR_FORMAT, "%s: not a file of torch.save, or damaged", s->path);
}

mw_status torch_file_read(const char *path, const mw_map *map, mw_status (*add)(void *self, const torch_tensor *t),
                          void *self) {
    state s = {.path = path, .map = map};
    mw_status status = read_any(&s);
    if (status == MW_OK) status = add_tensors(&s, &(receiver){add, self});
    pickle_free(&s.pickle);
    zip_free(&s.zip);
    mw_free(s.storages);
    return status;
}
