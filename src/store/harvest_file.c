/* One file of a store, or rows in memory: HDF5 for small data, pread at known offsets for activations. */
#include "store/harvest_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

void store_site_name(mw_site site, const char *what, char out[STORE_NAME]) {
    char text[MW_SITE_TEXT];
    mw_site_format(site, text);
    snprintf(out, STORE_NAME, "/sites/%s%s%s", text, what[0] ? "/" : "", what);
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static mw_status check_header(harvest_file *file, bool partial) {
    int64_t complete;
    MW_TRY(h5_get_int(file->h5, file->path, "schema", &file->schema));
    if (file->schema < 1 || file->schema > MW_STORE_SCHEMA)
        return mw_error(MW_ERR_FORMAT, "%s: store schema %lld; this microw reads schemas 1 to %d", file->path,
                        (long long)file->schema, MW_STORE_SCHEMA);
    MW_TRY(h5_get_int(file->h5, file->path, "complete", &complete));
    return complete || partial ? MW_OK
                               : mw_error(MW_ERR_FORMAT, "%s: the harvest that wrote it did not finish", file->path);
}

static mw_status stored_dtype(const harvest_file *file, const char *name, mw_dtype *out) {
    hid_t data = H5Dopen2(file->h5, name, H5P_DEFAULT);
    if (data < 0) return h5_error(MW_ERR_FORMAT, file->path, "data set '%s' is missing", name);
    char *text = NULL;
    mw_status status = h5_get_text(data, file->path, "dtype", &text);
    if (status == MW_OK) {
        static const mw_dtype known[] = {MW_F32, MW_BF16, MW_F16};
        status = MW_ERR_FORMAT;
        for (int i = 0; i < 3; i++)
            if (strcmp(text, mw_dtype_name(known[i])) == 0) {
                *out = known[i];
                status = MW_OK;
            }
        if (status != MW_OK) mw_error(status, "%s: '%s' has dtype '%s'", file->path, name, text);
        hid_t type = H5Dget_type(data);
        if (status == MW_OK && H5Tget_size(type) != mw_dtype_size(*out))
            status = mw_error(MW_ERR_FORMAT, "%s: '%s' has dtype %s, but its elements have %zu bytes", file->path, name,
                              text, H5Tget_size(type));
        H5Tclose(type);
    }
    mw_free(text);
    H5Dclose(data);
    return status;
}

/* Whether a site's values end within the file. */
static bool fits(const harvest_file *file, uint64_t offset, int64_t rows, int64_t width, mw_dtype dtype) {
    uint64_t row, bytes, end;
    return !__builtin_mul_overflow((uint64_t)width, mw_dtype_size(dtype), &row) &&
           !__builtin_mul_overflow((uint64_t)rows, row, &bytes) && !__builtin_add_overflow(offset, bytes, &end) &&
           end <= file->size;
}

static mw_status add_site(harvest_file *file, const char *text) {
    mw_store_site s = {0};
    MW_TRY(mw_site_parse(text, &s.site));
    char name[STORE_NAME];
    int64_t rows;
    uint64_t offset;
    store_site_name(s.site, "values", name);
    MW_TRY(h5_shape(file->h5, file->path, name, &rows, &s.width));
    if (rows != file->n_rows || s.width < 1)
        return mw_error(MW_ERR_FORMAT, "%s: '%s' has %lld rows of width %lld, expected %lld rows", file->path, name,
                        (long long)rows, (long long)s.width, (long long)file->n_rows);
    MW_TRY(stored_dtype(file, name, &s.dtype));
    MW_TRY(h5_offset(file->h5, file->path, name, &offset));
    store_site_name(s.site, "norm_mean", name);
    MW_TRY(h5_read_all(file->h5, file->path, name, H5T_NATIVE_DOUBLE, 1, &s.norm_mean));
    store_site_name(s.site, "square_mean", name);
    MW_TRY(h5_read_all(file->h5, file->path, name, H5T_NATIVE_DOUBLE, 1, &s.square_mean));
    if (!fits(file, offset, rows, s.width, s.dtype))
        return mw_error(MW_ERR_FORMAT, "%s: truncated: site %s ends after the end of the file", file->path, text);
    if (!MW_GROW(file->sites, file->n_sites, file->capacity)) return MW_ERR_MEMORY;
    file->sites[file->n_sites++] = (file_site){s, offset};
    return MW_OK;
}

typedef struct listing {
    harvest_file *file;
    mw_status status;
} listing;

static herr_t visit_site(hid_t group, const char *name, const H5L_info_t *info, void *data) {
    (void)group;
    (void)info;
    listing *l = data;
    l->status = add_site(l->file, name);
    return l->status == MW_OK ? 0 : 1;
}

static mw_status open_into(harvest_file *file, const char *path, bool partial) {
    if (!(file->path = mw_strdup(path))) return MW_ERR_MEMORY;
    if (!mw_file_exists(path)) return mw_error(MW_ERR_IO, "%s: there is no such file", path);
    MW_TRY(h5_open(path, NULL, false, &file->h5));
    MW_TRY(h5_descriptor(file->h5, path, &file->fd));
    struct stat about;
    if (fstat(file->fd, &about) != 0) return mw_error(MW_ERR_IO, "%s: %s", path, strerror(errno));
    file->size = (uint64_t)about.st_size;
    MW_TRY(check_header(file, partial));
    int64_t columns;
    MW_TRY(h5_shape(file->h5, path, "/tokens/ids", &file->n_rows, &columns));
    MW_TRY(h5_shape(file->h5, path, "/documents/place", &file->n_documents, &columns));
    listing l = {file, MW_OK};
    hsize_t at = 0;
    hid_t group = H5Gopen2(file->h5, "/sites", H5P_DEFAULT);
    if (group < 0) return h5_error(MW_ERR_FORMAT, path, "group '/sites' is missing");
    herr_t code = H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, &at, visit_site, &l);
    if (code < 0 && l.status == MW_OK) l.status = h5_error(MW_ERR_IO, path, "sites cannot be listed");
    H5Gclose(group);
    return l.status;
}

mw_status harvest_file_open(const char *path, bool partial, harvest_file *out) {
    harvest_file file = {.h5 = -1, .fd = -1};
    mw_status status = open_into(&file, path, partial);
    if (status != MW_OK)
        harvest_file_close(&file);
    else
        *out = file;
    return status;
}

static mw_status describe_array(harvest_file *file, const char *site) {
    mw_store_site *s = &file->sites[0].about;
    MW_TRY(mw_site_parse(site, &s->site));
    if (!(file->path = mw_strdup("rows in memory"))) return MW_ERR_MEMORY;
    for (int64_t r = 0; r < file->n_rows; r++) {
        double squares = 0;
        for (int64_t i = 0; i < s->width; i++)
            squares += (double)file->array[r * s->width + i] * file->array[r * s->width + i];
        s->norm_mean += sqrt(squares) / (double)file->n_rows;
        s->square_mean += squares / (double)file->n_rows;
    }
    return MW_OK;
}

mw_status harvest_file_of_array(const float *rows, int64_t n, int64_t width, const char *site, harvest_file *out) {
    if (n < 1 || n > UINT32_MAX || width < 1)
        return mw_error(MW_ERR_ARG,
                        "rows in memory: expected 1 to 2^32 - 1 rows of at least one column, found %lld of %lld",
                        (long long)n, (long long)width);
    harvest_file file = {.h5 = -1, .fd = -1, .schema = MW_STORE_SCHEMA, .n_rows = n, .n_documents = 1, .array = rows};
    if (!MW_GROW(file.sites, file.n_sites, file.capacity)) return MW_ERR_MEMORY;
    file.sites[file.n_sites++] = (file_site){{.width = width, .dtype = MW_F32}, 0};
    mw_status status = describe_array(&file, site);
    if (status != MW_OK)
        harvest_file_close(&file);
    else
        *out = file;
    return status;
}

void harvest_file_close(harvest_file *file) {
    if (file->fd >= 0) close(file->fd);
    if (file->h5 >= 0) H5Fclose(file->h5);
    mw_free(file->sites);
    mw_free(file->path);
    *file = (harvest_file){.h5 = -1, .fd = -1};
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

static mw_status read_bytes(const harvest_file *file, uint64_t offset, void *out, size_t bytes) {
    for (char *to = out; bytes > 0;) {
        ssize_t got = pread(file->fd, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return mw_error(MW_ERR_IO, "%s: read failed at byte %llu: %s", file->path, (unsigned long long)offset,
                            got < 0 ? strerror(errno) : "end of file");
        to += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return MW_OK;
}

/* Returns the place of a row in the file, and sets `bytes` to the size of `count` rows. */
static uint64_t place_of(const harvest_file *file, int64_t site, int64_t row, int64_t count, size_t *bytes) {
    const mw_store_site *s = &file->sites[site].about;
    size_t one = (size_t)s->width * mw_dtype_size(s->dtype);
    *bytes = (size_t)count * one;
    return file->sites[site].offset + (uint64_t)row * one;
}

mw_status harvest_file_read_stored(const harvest_file *file, int64_t site, int64_t begin, int64_t count, void *out) {
    size_t bytes;
    uint64_t place = place_of(file, site, begin, count, &bytes);
    return read_bytes(file, place, out, bytes);
}

void harvest_file_expect(const harvest_file *file, int64_t site, int64_t begin, int64_t count) {
    size_t bytes;
    uint64_t place = place_of(file, site, begin, count, &bytes);
    if (!file->array) (void)posix_fadvise(file->fd, (off_t)place, (off_t)bytes, POSIX_FADV_WILLNEED);
}

mw_status harvest_file_read(const harvest_file *file, int64_t site, int64_t begin, int64_t count, char *raw,
                            float *out) {
    const mw_store_site *s = &file->sites[site].about;
    if (file->array) {
        memcpy(out, file->array + begin * s->width, (size_t)(count * s->width) * sizeof *out);
        return MW_OK;
    }
    MW_TRY(harvest_file_read_stored(file, site, begin, count, s->dtype == MW_F32 ? (void *)out : raw));
    return s->dtype == MW_F32 ? MW_OK : mw_convert_to_f32(s->dtype, raw, count * s->width, out);
}

bool harvest_file_read_cached(const harvest_file *file, int64_t site, int64_t row, char *raw, float *out) {
#ifdef RWF_NOWAIT
    const mw_store_site *s = &file->sites[site].about;
    size_t bytes;
    uint64_t place = place_of(file, site, row, 1, &bytes);
    struct iovec into = {s->dtype == MW_F32 ? (void *)out : raw, bytes};
    if (file->array || preadv2(file->fd, &into, 1, (off_t)place, RWF_NOWAIT) != (ssize_t)bytes) return false;
    return s->dtype == MW_F32 || mw_convert_to_f32(s->dtype, raw, s->width, out) == MW_OK;
#else
    (void)file, (void)site, (void)row, (void)raw, (void)out;
    return false;
#endif
}

/* Only harvests that keep rows that are not finite have block_rows. */
mw_status harvest_file_mean_rows(const harvest_file *file, int64_t site, double *out) {
    char name[STORE_NAME];
    uint64_t *rows = NULL;
    int64_t n_blocks = -1;
    *out = (double)file->n_rows;
    store_site_name(file->sites[site].about.site, "block_rows", name);
    if (file->array || !h5_have(file->h5, name)) return MW_OK;
    MW_TRY(harvest_file_column(file, name, H5T_NATIVE_UINT64, 0, &n_blocks, (void **)&rows));
    *out = 0;
    for (int64_t b = 0; b < n_blocks; b++) *out += (double)rows[b];
    mw_free(rows);
    return MW_OK;
}

mw_status harvest_file_mean(const harvest_file *file, int64_t site, double *out) {
    const mw_store_site *s = &file->sites[site].about;
    char name[STORE_NAME];
    store_site_name(s->site, "mean", name);
    if (!file->array) return h5_read_all(file->h5, file->path, name, H5T_NATIVE_DOUBLE, s->width, out);
    for (int64_t i = 0; i < s->width; i++) out[i] = 0;
    for (int64_t r = 0; r < file->n_rows; r++)
        for (int64_t i = 0; i < s->width; i++) out[i] += file->array[r * s->width + i];
    for (int64_t i = 0; i < s->width; i++) out[i] /= (double)file->n_rows;
    return MW_OK;
}

mw_status harvest_file_text(const harvest_file *file, const char *key, char **out) {
    if (!file->array) return h5_get_text(file->h5, file->path, key, out);
    *out = mw_strdup("");
    return *out ? MW_OK : MW_ERR_MEMORY;
}

/* ---- tokens -------------------------------------------------------------------------------------------- */

mw_status harvest_file_column(const harvest_file *file, const char *name, hid_t type, int64_t columns, int64_t *count,
                              void **out) {
    int64_t rows, width;
    MW_TRY(h5_shape(file->h5, file->path, name, &rows, &width));
    if (width != columns || (*count >= 0 && rows != *count))
        return mw_error(MW_ERR_FORMAT, "%s: '%s' has shape [%lld, %lld]", file->path, name, (long long)rows,
                        (long long)width);
    void *data = mw_alloc((size_t)rows * (size_t)(columns ? columns : 1) * H5Tget_size(type));
    if (!data) return MW_ERR_MEMORY;
    mw_status status = h5_read_all(file->h5, file->path, name, type, rows * (columns ? columns : 1), data);
    if (status != MW_OK) {
        mw_free(data);
        return status;
    }
    *count = rows;
    *out = data;
    return MW_OK;
}

/* MW_ERR_FORMAT unless all indices are in range and in order. */
static mw_status check_tokens(const harvest_file *file, const mw_store_tokens *t, int64_t n_bytes) {
    for (int64_t i = 0; i < t->n_vocabulary; i++)
        if (t->vocabulary_offset[i] > t->vocabulary_offset[i + 1] || t->vocabulary_offset[i + 1] > (uint64_t)n_bytes)
            return mw_error(MW_ERR_FORMAT, "%s: the vocabulary's offsets are not in order", file->path);
    for (int64_t i = 0; i < t->n_rows; i++)
        if (t->ids[i] >= (uint64_t)t->n_vocabulary || t->sequence[i] >= (uint64_t)t->n_sequences ||
            t->position[i] > INT32_MAX)
            return mw_error(MW_ERR_FORMAT, "%s: row %lld has token %u at position %u of sequence %u, out of range",
                            file->path, (long long)i, t->ids[i], t->position[i], t->sequence[i]);
    for (int64_t i = 0; i < t->n_sequences; i++)
        if (t->offset[i] > (uint64_t)t->n_rows || t->length[i] > (uint64_t)t->n_rows - t->offset[i] ||
            t->document[i] >= (uint64_t)t->n_documents)
            return mw_error(MW_ERR_FORMAT, "%s: sequence %lld is out of range", file->path, (long long)i);
    for (int64_t i = 0; i < t->n_rows; i++)
        if ((uint64_t)i - t->offset[t->sequence[i]] >= t->length[t->sequence[i]])
            return mw_error(MW_ERR_FORMAT, "%s: row %lld is not within its sequence %u", file->path, (long long)i,
                            t->sequence[i]);
    for (int64_t i = 0; i < t->n_documents; i++)
        if (t->document_row[i] > t->document_row[i + 1])
            return mw_error(MW_ERR_FORMAT, "%s: rows of document %lld are not in order", file->path, (long long)i);
    if (t->document_row[0] != 0 || t->document_row[t->n_documents] != (uint64_t)t->n_rows)
        return mw_error(MW_ERR_FORMAT, "%s: '/documents/row' does not cover the %lld rows", file->path,
                        (long long)t->n_rows);
    return MW_OK;
}

/* Schema 1 stores only the first document of each sequence: assigns all rows of the sequence to it. */
static mw_status guess_documents(harvest_file *file, mw_store_tokens *t) {
    if (!(t->document_row = mw_alloc((size_t)(t->n_documents + 1) * sizeof *t->document_row))) return MW_ERR_MEMORY;
    int64_t next = 0;
    for (int64_t s = 0; s < t->n_sequences; s++)
        for (; next < t->n_documents && (uint64_t)next <= t->document[s]; next++)
            t->document_row[next] = next ? t->offset[s] : 0;
    for (; next <= t->n_documents; next++) t->document_row[next] = (uint64_t)t->n_rows;
    if (!file->schema_1_reported)
        mw_log(MW_LOG_INFO,
               "%s: of an earlier version (store schema 1): all rows of a sequence are assigned to its first document; "
               "harvest with --overwrite to store their own",
               file->path);
    file->schema_1_reported = true;
    return MW_OK;
}

static mw_status read_documents(harvest_file *file, mw_store_tokens *t) {
    int64_t count = t->n_documents + 1;
    if (file->schema < 2) return guess_documents(file, t);
    return harvest_file_column(file, "/documents/row", H5T_NATIVE_UINT64, 0, &count, (void **)&t->document_row);
}

/* Each row is its own sequence, of one document and one token. */
static mw_status tokens_of_array(const harvest_file *file, mw_store_tokens *t) {
    size_t n = (size_t)file->n_rows;
    t->n_rows = t->n_sequences = file->n_rows;
    t->n_documents = t->n_vocabulary = 1;
    t->ids = mw_calloc(n, sizeof *t->ids);
    t->sequence = mw_alloc(n * sizeof *t->sequence);
    t->position = mw_calloc(n, sizeof *t->position);
    t->document = mw_calloc(n, sizeof *t->document);
    t->offset = mw_alloc(n * sizeof *t->offset);
    t->length = mw_alloc(n * sizeof *t->length);
    t->documents = mw_calloc(1, sizeof *t->documents);
    t->document_row = mw_calloc(2, sizeof *t->document_row);
    t->vocabulary_offset = mw_calloc(2, sizeof *t->vocabulary_offset);
    t->vocabulary_bytes = mw_calloc(1, 1);
    if (!t->ids || !t->sequence || !t->position || !t->document || !t->offset || !t->length || !t->documents ||
        !t->document_row || !t->vocabulary_offset || !t->vocabulary_bytes)
        return MW_ERR_MEMORY;
    for (size_t i = 0; i < n; i++) {
        t->sequence[i] = (uint32_t)i;
        t->offset[i] = i;
        t->length[i] = 1;
    }
    t->document_row[1] = n;
    return MW_OK;
}

mw_status harvest_file_read_tokens(harvest_file *file, mw_store_tokens *t) {
    if (file->array) return tokens_of_array(file, t);
    int64_t any, n_bytes = -1, n_offsets = -1;
    t->n_rows = file->n_rows;
    t->n_sequences = t->n_documents = -1;
    MW_TRY(harvest_file_column(file, "/tokens/ids", H5T_NATIVE_UINT32, 0, &t->n_rows, (void **)&t->ids));
    MW_TRY(harvest_file_column(file, "/tokens/sequence", H5T_NATIVE_UINT32, 0, &t->n_rows, (void **)&t->sequence));
    MW_TRY(harvest_file_column(file, "/tokens/position", H5T_NATIVE_UINT32, 0, &t->n_rows, (void **)&t->position));
    MW_TRY(
        harvest_file_column(file, "/sequences/document", H5T_NATIVE_UINT64, 0, &t->n_sequences, (void **)&t->document));
    any = t->n_sequences;
    MW_TRY(harvest_file_column(file, "/sequences/offset", H5T_NATIVE_UINT64, 0, &any, (void **)&t->offset));
    MW_TRY(harvest_file_column(file, "/sequences/length", H5T_NATIVE_UINT64, 0, &any, (void **)&t->length));
    MW_TRY(harvest_file_column(file, "/documents/place", H5T_NATIVE_INT64, 3, &t->n_documents, (void **)&t->documents));
    MW_TRY(read_documents(file, t));
    MW_TRY(harvest_file_column(file, "/vocabulary/offset", H5T_NATIVE_UINT64, 0, &n_offsets,
                               (void **)&t->vocabulary_offset));
    MW_TRY(
        harvest_file_column(file, "/vocabulary/bytes", H5T_NATIVE_UINT8, 0, &n_bytes, (void **)&t->vocabulary_bytes));
    if (n_offsets < 1) return mw_error(MW_ERR_FORMAT, "%s: '/vocabulary/offset' is empty", file->path);
    t->n_vocabulary = n_offsets - 1;
    return check_tokens(file, t, n_bytes);
}

static mw_status blocks_of_array(const harvest_file *file, int64_t *n_blocks, uint64_t **out) {
    enum { ROWS = 4096 };
    int64_t n = (file->n_rows + ROWS - 1) / ROWS;
    uint64_t *row = mw_alloc((size_t)(n + 1) * sizeof *row);
    if (!row) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) row[i] = (uint64_t)(i * ROWS);
    row[n] = (uint64_t)file->n_rows;
    *n_blocks = n;
    *out = row;
    return MW_OK;
}

mw_status harvest_file_blocks(const harvest_file *file, int64_t *n_blocks, uint64_t **out) {
    if (file->array) return blocks_of_array(file, n_blocks, out);
    int64_t count = -1;
    void *rows = NULL;
    MW_TRY(harvest_file_column(file, "/blocks/row", H5T_NATIVE_UINT64, 0, &count, &rows));
    const uint64_t *row = rows;
    bool good = count >= 1 && row[0] == 0 && row[count - 1] == (uint64_t)file->n_rows;
    for (int64_t i = 1; good && i < count; i++) good = row[i] >= row[i - 1];
    if (!good) {
        mw_free(rows);
        return mw_error(MW_ERR_FORMAT, "%s: '/blocks/row' is not in order", file->path);
    }
    *n_blocks = count - 1;
    *out = rows;
    return MW_OK;
}

/* ---- verification -------------------------------------------------------------------------------------- */

static mw_status block_matches(const harvest_file *file, int64_t site, uint64_t begin, uint64_t end, uint64_t expected,
                               bool *matches) {
    const mw_store_site *s = &file->sites[site].about;
    size_t row = (size_t)s->width * mw_dtype_size(s->dtype), bytes = (size_t)(end - begin) * row;
    void *raw = mw_alloc(bytes);
    mw_status status = raw ? read_bytes(file, file->sites[site].offset + begin * row, raw, bytes) : MW_ERR_MEMORY;
    *matches = status == MW_OK && mw_xxh64(raw, bytes) == expected;
    mw_free(raw);
    return status;
}

mw_status harvest_file_matching_blocks(const harvest_file *file, int64_t site, const uint64_t *row, int64_t n_blocks,
                                       int64_t begin, int64_t end, int64_t *good) {
    char name[STORE_NAME];
    *good = end;
    if (file->array) return MW_OK; /* memory has no checksums */
    void *data = NULL;
    store_site_name(file->sites[site].about.site, "checksum", name);
    MW_TRY(harvest_file_column(file, name, H5T_NATIVE_UINT64, 0, &n_blocks, &data));
    mw_status status = MW_OK;
    bool matches = true;
    for (*good = begin; *good < end && status == MW_OK && matches; *good += matches)
        status = block_matches(file, site, row[*good], row[*good + 1], ((const uint64_t *)data)[*good], &matches);
    mw_free(data);
    return status;
}
