/* Files of named arrays. */
#include "store/h5_file.h"

#include <string.h>
#include <unistd.h>

struct mw_arrays {
    char *path;
    hid_t file;
};

static hid_t in_file(mw_array_type type) {
    const hid_t types[] = {H5T_IEEE_F32LE, H5T_STD_I32LE, H5T_STD_I64LE, H5T_STD_U64LE, H5T_STD_U8LE};
    return types[type];
}

static hid_t in_memory(mw_array_type type) {
    const hid_t types[] = {H5T_NATIVE_FLOAT, H5T_NATIVE_INT32, H5T_NATIVE_INT64, H5T_NATIVE_UINT64, H5T_NATIVE_UINT8};
    return types[type];
}

static size_t size_of(mw_array_type type) {
    return type == MW_ARRAY_U8 ? 1 : type == MW_ARRAY_I64 || type == MW_ARRAY_U64 ? 8 : 4;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* Creates the missing groups of "a/b/c". */
static mw_status make_groups(hid_t file, const char *path, const char *name) {
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        char *group = mw_strndup(name, (size_t)(slash - name));
        if (!group) return MW_ERR_MEMORY;
        mw_status status = h5_have(file, group) ? MW_OK : h5_make_group(file, path, group);
        mw_free(group);
        MW_TRY(status);
    }
    return MW_OK;
}

static mw_status write_array(hid_t file, const char *path, const mw_array *a) {
    MW_TRY(make_groups(file, path, a->name));
    MW_TRY(h5_make_data(file, path, a->name, in_file(a->type), a->rows, a->columns, NULL));
    if (a->rows == 0) return MW_OK;
    return h5_write_rows(file, path, a->name, in_memory(a->type), 0, a->rows, a->columns, a->data, NULL);
}

static mw_status write_all(const char *path, const mw_array *arrays, int64_t n, const mw_pair *attributes,
                           int64_t n_attributes) {
    hid_t file;
    mw_status status = MW_OK;
    MW_TRY(h5_create(path, NULL, &file));
    for (int64_t i = 0; i < n_attributes && status == MW_OK; i++)
        status = h5_put_text(file, path, attributes[i].key, attributes[i].value);
    for (int64_t i = 0; i < n && status == MW_OK; i++) status = write_array(file, path, &arrays[i]);
    return h5_close(file, path, status);
}

mw_status mw_arrays_save(const char *path, const mw_array *arrays, int64_t n, const mw_pair *attributes,
                         int64_t n_attributes) {
    char *temporary = mw_format("%s.partial", path);
    if (!temporary) return MW_ERR_MEMORY;
    mw_status status = write_all(temporary, arrays, n, attributes, n_attributes);
    if (status == MW_OK) status = mw_file_publish(temporary, path);
    if (status != MW_OK) unlink(temporary);
    mw_free(temporary);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

mw_status mw_arrays_open(const char *path, mw_arrays **out) {
    mw_arrays *file = mw_calloc(1, sizeof *file);
    if (!file) return MW_ERR_MEMORY;
    file->file = -1;
    file->path = mw_strdup(path);
    mw_status status = file->path ? h5_open(path, NULL, false, &file->file) : MW_ERR_MEMORY;
    if (status == MW_ERR_STATE) status = MW_ERR_IO; /* callers use MW_ERR_STATE for outdated contents */
    if (status != MW_OK)
        mw_arrays_close(&file);
    else
        *out = file;
    return status;
}

void mw_arrays_close(mw_arrays **slot) {
    mw_arrays *file = *slot;
    if (!file) return;
    if (file->file >= 0) H5Fclose(file->file);
    mw_free(file->path);
    mw_free(file);
    *slot = NULL;
}

bool mw_arrays_have(const mw_arrays *file, const char *name) {
    char *prefix = mw_strdup(name);
    bool found = prefix != NULL;
    for (char *slash = prefix ? strchr(prefix, '/') : NULL; slash && found; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        found = h5_have(file->file, prefix);
        *slash = '/';
    }
    found = found && h5_have(file->file, name);
    mw_free(prefix);
    return found;
}

mw_status mw_arrays_read(const mw_arrays *file, const char *name, mw_array_type type, int64_t *rows, int64_t *columns,
                         void **out) {
    int64_t found[2];
    if (!mw_arrays_have(file, name)) return mw_error(MW_ERR_FORMAT, "%s: data set '%s' is missing", file->path, name);
    MW_TRY(h5_shape(file->file, file->path, name, &found[0], &found[1]));
    if ((*rows >= 0 && found[0] != *rows) || (*columns >= 0 && found[1] != *columns))
        return mw_error(MW_ERR_FORMAT, "%s: data set '%s' has shape [%lld, %lld], expected [%lld, %lld]", file->path,
                        name, (long long)found[0], (long long)found[1], (long long)*rows, (long long)*columns);
    int64_t count = found[0] * (found[1] ? found[1] : 1);
    void *data = mw_alloc((size_t)count * size_of(type));
    if (!data) return MW_ERR_MEMORY;
    mw_status status = count ? h5_read_all(file->file, file->path, name, in_memory(type), count, data) : MW_OK;
    if (status != MW_OK) {
        mw_free(data);
        return status;
    }
    *rows = found[0];
    *columns = found[1];
    *out = data;
    return MW_OK;
}

mw_status mw_arrays_text(const mw_arrays *file, const char *key, char **out) {
    return h5_get_text(file->file, file->path, key, out);
}
