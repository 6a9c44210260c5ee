/* Reads a store: HDF5 for what is small, plain reads at known places for activations. */
#include "store/h5_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NAME_BYTES = 96 };

struct mw_store {
    char *path;
    hid_t file;
    int fd;
    int64_t n_rows, n_sites, capacity;
    mw_store_site *sites;
};

static void site_name(mw_site site, const char *what, char out[NAME_BYTES]) {
    char text[MW_SITE_TEXT];
    mw_site_format(site, text);
    snprintf(out, NAME_BYTES, "/sites/%s/%s", text, what);
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static mw_status check_header(const mw_store *store, bool partial) {
    int64_t schema, complete;
    MW_TRY(h5_get_int(store->file, store->path, "schema", &schema));
    if (schema != MW_STORE_SCHEMA)
        return mw_error(MW_ERR_FORMAT, "%s: store schema %lld; this microw reads schema %d", store->path,
                        (long long)schema, MW_STORE_SCHEMA);
    MW_TRY(h5_get_int(store->file, store->path, "complete", &complete));
    return complete || partial ? MW_OK
                               : mw_error(MW_ERR_FORMAT, "%s: the harvest that wrote it did not finish", store->path);
}

static mw_status stored_dtype(const mw_store *store, const char *name, mw_dtype *out) {
    hid_t data = H5Dopen2(store->file, name, H5P_DEFAULT);
    if (data < 0) return mw_error(MW_ERR_FORMAT, "%s: data set '%s' is missing", store->path, name);
    char *text = NULL;
    mw_status status = h5_get_text(data, store->path, "dtype", &text);
    if (status == MW_OK) {
        static const mw_dtype known[] = {MW_F32, MW_BF16, MW_F16};
        status = MW_ERR_FORMAT;
        for (int i = 0; i < 3; i++)
            if (strcmp(text, mw_dtype_name(known[i])) == 0) {
                *out = known[i];
                status = MW_OK;
            }
        if (status != MW_OK) mw_error(status, "%s: '%s' has dtype '%s'", store->path, name, text);
        hid_t type = H5Dget_type(data);
        if (status == MW_OK && H5Tget_size(type) != mw_dtype_size(*out))
            status = mw_error(MW_ERR_FORMAT, "%s: '%s' says %s, but its elements have %zu bytes", store->path, name,
                              text, H5Tget_size(type));
        H5Tclose(type);
    }
    mw_free(text);
    H5Dclose(data);
    return status;
}

static mw_status add_site(mw_store *store, const char *text) {
    mw_store_site s = {0};
    MW_TRY(mw_site_parse(text, &s.site));
    char name[NAME_BYTES];
    int64_t rows;
    site_name(s.site, "values", name);
    MW_TRY(h5_shape(store->file, store->path, name, &rows, &s.width));
    if (rows != store->n_rows || s.width < 1)
        return mw_error(MW_ERR_FORMAT, "%s: '%s' has %lld rows of width %lld, expected %lld rows", store->path, name,
                        (long long)rows, (long long)s.width, (long long)store->n_rows);
    MW_TRY(stored_dtype(store, name, &s.dtype));
    MW_TRY(h5_place(store->file, store->path, name, &s.place));
    site_name(s.site, "norm_mean", name);
    MW_TRY(h5_read_all(store->file, store->path, name, H5T_NATIVE_DOUBLE, 1, &s.norm_mean));
    site_name(s.site, "square_mean", name);
    MW_TRY(h5_read_all(store->file, store->path, name, H5T_NATIVE_DOUBLE, 1, &s.square_mean));
    uint64_t size;
    MW_TRY(mw_file_size(store->path, &size));
    if (s.place + (uint64_t)rows * (uint64_t)s.width * mw_dtype_size(s.dtype) > size)
        return mw_error(MW_ERR_FORMAT, "%s: truncated: site %s ends behind the end of the file", store->path, text);
    if (!MW_GROW(store->sites, store->n_sites, store->capacity)) return MW_ERR_MEMORY;
    store->sites[store->n_sites++] = s;
    return MW_OK;
}

typedef struct listing {
    mw_store *store;
    mw_status status;
} listing;

static herr_t visit_site(hid_t group, const char *name, const H5L_info_t *info, void *data) {
    (void)group;
    (void)info;
    listing *l = data;
    l->status = add_site(l->store, name);
    return l->status == MW_OK ? 0 : 1;
}

static mw_status open_into(mw_store *store, const char *path, bool partial) {
    if (!(store->path = mw_strdup(path))) return MW_ERR_MEMORY;
    if (!mw_file_exists(path)) return mw_error(MW_ERR_IO, "%s: there is no such file", path);
    MW_TRY(h5_open(path, NULL, false, &store->file));
    MW_TRY(check_header(store, partial));
    int64_t columns;
    MW_TRY(h5_shape(store->file, path, "/tokens/ids", &store->n_rows, &columns));
    listing l = {store, MW_OK};
    hsize_t at = 0;
    hid_t group = H5Gopen2(store->file, "/sites", H5P_DEFAULT);
    if (group < 0) return mw_error(MW_ERR_FORMAT, "%s: group '/sites' is missing", path);
    herr_t code = H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, &at, visit_site, &l);
    H5Gclose(group);
    MW_TRY(l.status);
    if (code < 0) return h5_error(path, "sites cannot be listed");
    store->fd = open(path, O_RDONLY | O_CLOEXEC);
    return store->fd >= 0 ? MW_OK : mw_error(MW_ERR_IO, "%s: %s", path, strerror(errno));
}

/* `partial`: a file that its writer has not finished will do. */
static mw_status open_store(const char *path, bool partial, mw_store **out) {
    mw_store *store = mw_calloc(1, sizeof *store);
    if (!store) return MW_ERR_MEMORY;
    store->file = -1;
    store->fd = -1;
    mw_status status = open_into(store, path, partial);
    if (status != MW_OK)
        mw_store_close(&store);
    else
        *out = store;
    return status;
}

mw_status mw_store_open(const char *path, mw_store **out) {
    return open_store(path, false, out);
}

void mw_store_close(mw_store **slot) {
    mw_store *store = *slot;
    if (!store) return;
    if (store->fd >= 0) close(store->fd);
    if (store->file >= 0) H5Fclose(store->file);
    mw_free(store->sites);
    mw_free(store->path);
    mw_free(store);
    *slot = NULL;
}

/* ---- facts --------------------------------------------------------------------------------------------- */

const char *mw_store_path(const mw_store *store) {
    return store->path;
}

int64_t mw_store_rows(const mw_store *store) {
    return store->n_rows;
}

int64_t mw_store_site_count(const mw_store *store) {
    return store->n_sites;
}

const mw_store_site *mw_store_site_at(const mw_store *store, int64_t index) {
    return &store->sites[index];
}

mw_status mw_store_find(const mw_store *store, const char *site, mw_store_site *out) {
    mw_site wanted;
    MW_TRY(mw_site_parse(site, &wanted));
    mw_text known = {0};
    for (int64_t i = 0; i < store->n_sites; i++) {
        const mw_store_site *s = &store->sites[i];
        if (s->site.layer == wanted.layer && s->site.stream == wanted.stream) {
            *out = *s;
            mw_text_free(&known);
            return MW_OK;
        }
        char text[MW_SITE_TEXT];
        mw_site_format(s->site, text);
        mw_text_addf(&known, "%s%s", i ? ", " : "", text);
    }
    mw_status status = mw_error(MW_ERR_CONFIG, "%s: site %s was not harvested; it holds: %s", store->path, site,
                                known.data ? known.data : "none");
    mw_text_free(&known);
    return status;
}

mw_status mw_store_provenance(const mw_store *store, const char *key, char **out) {
    return h5_get_text(store->file, store->path, key, out);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

static mw_status read_bytes(const mw_store *store, uint64_t place, void *out, size_t bytes) {
    for (char *to = out; bytes > 0;) {
        ssize_t got = pread(store->fd, to, bytes, (off_t)place);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return mw_error(MW_ERR_IO, "%s: read failed at byte %llu: %s", store->path, (unsigned long long)place,
                            got < 0 ? strerror(errno) : "end of file");
        to += got;
        place += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return MW_OK;
}

static mw_status read_run(const mw_store *store, const mw_store_site *s, int64_t begin, int64_t count, char *raw,
                          float *out) {
    size_t row = (size_t)s->width * mw_dtype_size(s->dtype);
    void *into = s->dtype == MW_F32 ? (void *)out : raw;
    MW_TRY(read_bytes(store, s->place + (uint64_t)begin * row, into, (size_t)count * row));
    return s->dtype == MW_F32 ? MW_OK : mw_convert_to_f32(s->dtype, raw, count * s->width, out);
}

static mw_status check_row(const mw_store *store, int64_t begin, int64_t count) {
    if (begin >= 0 && count >= 0 && begin <= store->n_rows - count) return MW_OK;
    return mw_error(MW_ERR_ARG, "%s: rows %lld to %lld were asked for, it has %lld", store->path, (long long)begin,
                    (long long)(begin + count), (long long)store->n_rows);
}

mw_status mw_store_read_rows(const mw_store *store, const mw_store_site *s, const int64_t *rows, int64_t count,
                             float *out) {
    mw_status worst = MW_OK;
    size_t row = (size_t)s->width * mw_dtype_size(s->dtype);
#pragma omp parallel reduction(max : worst)
    {
        char *raw = mw_alloc(row);
        mw_status status = raw ? MW_OK : MW_ERR_MEMORY;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++) {
            if (status == MW_OK) status = check_row(store, rows[i], 1);
            if (status == MW_OK) status = read_run(store, s, rows[i], 1, raw, out + i * s->width);
        }
        mw_free(raw);
        worst = status;
    }
    return worst;
}

mw_status mw_store_read_range(const mw_store *store, const mw_store_site *s, int64_t begin, int64_t count, float *out) {
    MW_TRY(check_row(store, begin, count));
    char *raw = mw_alloc((size_t)(count * s->width) * mw_dtype_size(s->dtype));
    mw_status status = raw ? read_run(store, s, begin, count, raw, out) : MW_ERR_MEMORY;
    mw_free(raw);
    return status;
}

mw_status mw_store_read_mean(const mw_store *store, const mw_store_site *s, double *out) {
    char name[NAME_BYTES];
    site_name(s->site, "mean", name);
    return h5_read_all(store->file, store->path, name, H5T_NATIVE_DOUBLE, s->width, out);
}

/* ---- tokens -------------------------------------------------------------------------------------------- */

/* A 1-D data set (or [*, columns]) of `count` elements, `count` < 0: any; caller frees. */
static mw_status read_column(const mw_store *store, const char *name, hid_t type, int64_t columns, int64_t *count,
                             void **out) {
    int64_t rows, width;
    MW_TRY(h5_shape(store->file, store->path, name, &rows, &width));
    if (width != columns || (*count >= 0 && rows != *count))
        return mw_error(MW_ERR_FORMAT, "%s: '%s' has shape [%lld, %lld]", store->path, name, (long long)rows,
                        (long long)width);
    void *data = mw_alloc((size_t)rows * (size_t)(columns ? columns : 1) * H5Tget_size(type));
    if (!data) return MW_ERR_MEMORY;
    mw_status status = h5_read_all(store->file, store->path, name, type, rows * (columns ? columns : 1), data);
    if (status != MW_OK) {
        mw_free(data);
        return status;
    }
    *count = rows;
    *out = data;
    return MW_OK;
}

/* What the file says of itself must hold together before anything is looked up by it. */
static mw_status check_tokens(const mw_store *store, const mw_store_tokens *t, int64_t n_bytes) {
    for (int64_t i = 0; i < t->n_vocabulary; i++)
        if (t->vocabulary_offset[i] > t->vocabulary_offset[i + 1] || t->vocabulary_offset[i + 1] > (uint64_t)n_bytes)
            return mw_error(MW_ERR_FORMAT, "%s: the vocabulary's offsets are not in order", store->path);
    for (int64_t i = 0; i < t->n_rows; i++)
        if (t->ids[i] >= (uint64_t)t->n_vocabulary || t->sequence[i] >= (uint64_t)t->n_sequences)
            return mw_error(MW_ERR_FORMAT, "%s: row %lld has token %u of sequence %u, out of range", store->path,
                            (long long)i, t->ids[i], t->sequence[i]);
    for (int64_t i = 0; i < t->n_sequences; i++)
        if (t->offset[i] > (uint64_t)t->n_rows || t->length[i] > (uint64_t)t->n_rows - t->offset[i] ||
            t->document[i] >= (uint64_t)t->n_documents)
            return mw_error(MW_ERR_FORMAT, "%s: sequence %lld is out of range", store->path, (long long)i);
    return MW_OK;
}

static mw_status read_tokens(const mw_store *store, mw_store_tokens *t) {
    int64_t any, n_bytes = -1, n_offsets = -1;
    t->n_rows = store->n_rows;
    t->n_sequences = t->n_documents = -1;
    MW_TRY(read_column(store, "/tokens/ids", H5T_NATIVE_UINT32, 0, &t->n_rows, (void **)&t->ids));
    MW_TRY(read_column(store, "/tokens/sequence", H5T_NATIVE_UINT32, 0, &t->n_rows, (void **)&t->sequence));
    MW_TRY(read_column(store, "/tokens/position", H5T_NATIVE_UINT32, 0, &t->n_rows, (void **)&t->position));
    MW_TRY(read_column(store, "/sequences/document", H5T_NATIVE_UINT64, 0, &t->n_sequences, (void **)&t->document));
    any = t->n_sequences;
    MW_TRY(read_column(store, "/sequences/offset", H5T_NATIVE_UINT64, 0, &any, (void **)&t->offset));
    MW_TRY(read_column(store, "/sequences/length", H5T_NATIVE_UINT64, 0, &any, (void **)&t->length));
    MW_TRY(read_column(store, "/documents/place", H5T_NATIVE_INT64, 3, &t->n_documents, (void **)&t->documents));
    MW_TRY(read_column(store, "/vocabulary/offset", H5T_NATIVE_UINT64, 0, &n_offsets, (void **)&t->vocabulary_offset));
    MW_TRY(read_column(store, "/vocabulary/bytes", H5T_NATIVE_UINT8, 0, &n_bytes, (void **)&t->vocabulary_bytes));
    if (n_offsets < 1) return mw_error(MW_ERR_FORMAT, "%s: '/vocabulary/offset' is empty", store->path);
    t->n_vocabulary = n_offsets - 1;
    return check_tokens(store, t, n_bytes);
}

mw_status mw_store_read_tokens(const mw_store *store, mw_store_tokens *out) {
    mw_store_tokens t = {0};
    mw_status status = read_tokens(store, &t);
    if (status != MW_OK)
        mw_store_tokens_free(&t);
    else
        *out = t;
    return status;
}

void mw_store_tokens_free(mw_store_tokens *t) {
    void *all[] = {t->ids,    t->sequence,  t->position,          t->document,        t->offset,
                   t->length, t->documents, t->vocabulary_offset, t->vocabulary_bytes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *t = (mw_store_tokens){0};
}

mw_status mw_store_blocks(const mw_store *store, int64_t *n_blocks, uint64_t **out) {
    int64_t count = -1;
    void *rows = NULL;
    MW_TRY(read_column(store, "/blocks/row", H5T_NATIVE_UINT64, 0, &count, &rows));
    const uint64_t *row = rows;
    bool good = count >= 1 && row[0] == 0 && row[count - 1] == (uint64_t)store->n_rows;
    for (int64_t i = 1; good && i < count; i++) good = row[i] >= row[i - 1];
    if (!good) {
        mw_free(rows);
        return mw_error(MW_ERR_FORMAT, "%s: '/blocks/row' is not in order", store->path);
    }
    *n_blocks = count - 1;
    *out = rows;
    return MW_OK;
}

/* ---- verification -------------------------------------------------------------------------------------- */

static mw_status block_matches(const mw_store *store, const mw_store_site *s, uint64_t begin, uint64_t end,
                               uint64_t expected, bool *matches) {
    size_t row = (size_t)s->width * mw_dtype_size(s->dtype), bytes = (size_t)(end - begin) * row;
    void *raw = mw_alloc(bytes);
    mw_status status = raw ? read_bytes(store, s->place + begin * row, raw, bytes) : MW_ERR_MEMORY;
    *matches = status == MW_OK && mw_xxh64(raw, bytes) == expected;
    mw_free(raw);
    return status;
}

/* Blocks from `from` on whose checksums match, up to the first that does not. */
static mw_status matching_blocks(const mw_store *store, const mw_store_site *s, const uint64_t *row, int64_t n_blocks,
                                 int64_t from, int64_t *good) {
    char name[NAME_BYTES];
    void *data = NULL;
    site_name(s->site, "checksum", name);
    MW_TRY(read_column(store, name, H5T_NATIVE_UINT64, 0, &n_blocks, &data));
    mw_status status = MW_OK;
    bool matches = true;
    for (*good = from; *good < n_blocks && status == MW_OK && matches; *good += matches)
        status = block_matches(store, s, row[*good], row[*good + 1], ((const uint64_t *)data)[*good], &matches);
    mw_free(data);
    return status;
}

mw_status mw_store_verify(const mw_store *store) {
    int64_t n_blocks, good;
    uint64_t *row;
    MW_TRY(mw_store_blocks(store, &n_blocks, &row));
    mw_status status = MW_OK;
    for (int64_t i = 0; i < store->n_sites && status == MW_OK; i++) {
        status = matching_blocks(store, &store->sites[i], row, n_blocks, 0, &good);
        if (status != MW_OK || good == n_blocks) continue;
        char text[MW_SITE_TEXT];
        mw_site_format(store->sites[i].site, text);
        status = mw_error(MW_ERR_FORMAT, "%s: site %s, block %lld: the checksum does not match", store->path, text,
                          (long long)good);
    }
    mw_free(row);
    return status;
}

mw_status store_finished_blocks(const char *path, int64_t from, int64_t *out) {
    mw_store *store = NULL;
    int64_t n_blocks;
    uint64_t *row = NULL;
    MW_TRY(open_store(path, true, &store));
    mw_status status = mw_store_blocks(store, &n_blocks, &row);
    int64_t least = n_blocks;
    for (int64_t i = 0; status == MW_OK && i < store->n_sites; i++) {
        int64_t good = from;
        status = matching_blocks(store, &store->sites[i], row, n_blocks, from, &good);
        if (good < least) least = good;
    }
    mw_free(row);
    mw_store_close(&store);
    if (status == MW_OK) *out = least;
    return status;
}
