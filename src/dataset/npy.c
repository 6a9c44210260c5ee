/* Reads one- and two-dimensional arrays of token ids in NumPy's .npy format, versions 1 to 3. */
#include "dataset/documents.h"

#include <stdio.h>
#include <string.h>

static const char *value_after(const char *header, const char *key) {
    const char *at = strstr(header, key);
    if (!at || !(at = strchr(at, ':'))) return NULL;
    at++;
    while (*at == ' ') at++;
    return at;
}

static int item_bytes(const char *descr) {
    static const char *const known[] = {"'<u2'", "'<u4'", "'<i4'", "'<i8'", "'<u8'"};
    static const int bytes[] = {2, 4, 4, 8, 8};
    for (int i = 0; i < 5; i++)
        if (strncmp(descr, known[i], 5) == 0) return bytes[i];
    return 0;
}

static mw_status read_header(document_file *f, const char *header) {
    const char *descr = value_after(header, "'descr'"), *order = value_after(header, "'fortran_order'");
    const char *shape = value_after(header, "'shape'");
    long long rows = 0, columns = 0;
    if (!descr || !order || !shape || !(f->item = item_bytes(descr)) || strncmp(order, "False", 5) != 0)
        return mw_error(MW_ERR_FORMAT, "%s: expected a row-major array of u16, u32, i32 or i64, found %s", f->path,
                        header);
    int dims = sscanf(shape, "(%lld, %lld", &rows, &columns);
    if (dims == 1) {
        columns = rows;
        rows = 1;
    }
    if (dims < 1 || rows < 0 || columns < 0 || columns > INT64_MAX / 16 / (rows ? rows : 1))
        return mw_error(MW_ERR_FORMAT, "%s: expected one or two dimensions, found %s", f->path, shape);
    f->rows = rows;
    f->columns = columns;
    if ((uint64_t)(rows * columns * f->item) != f->length - (size_t)f->header)
        return mw_error(MW_ERR_FORMAT, "%s: the header describes %lld bytes of data, the file has %lld", f->path,
                        rows * columns * f->item, (long long)f->length - (long long)f->header);
    return MW_OK;
}

mw_status npy_open(document_file *f) {
    const uint8_t *p = f->data;
    uint32_t length = 0;
    bool magic = f->length >= 12 && memcmp(p, "\x93NUMPY", 6) == 0 && p[6] >= 1 && p[6] <= 3;
    int prefix = magic && p[6] == 1 ? 10 : 12;
    if (magic) memcpy(&length, p + 8, prefix == 10 ? 2 : 4);
    if (!magic || length > f->length - (size_t)prefix)
        return mw_error(MW_ERR_FORMAT, "%s: not a .npy file, or truncated", f->path);
    f->header = prefix + (int64_t)length;
    char *header = mw_strndup((const char *)p + prefix, length);
    if (!header) return MW_ERR_MEMORY;
    mw_status status = read_header(f, header);
    mw_free(header);
    return status;
}

static int64_t element(const document_file *f, int64_t index) {
    const uint8_t *p = f->data + f->header + index * f->item;
    uint16_t u2;
    int32_t i4;
    int64_t i8;
    switch (f->item) {
    case 2:
        return memcpy(&u2, p, 2), u2;
    case 4:
        return memcpy(&i4, p, 4), i4;
    default:
        return memcpy(&i8, p, 8), i8;
    }
}

mw_status npy_read(const document_file *f, int64_t row, mw_ids *out) {
    for (int64_t i = 0; i < f->columns; i++) {
        int64_t id = element(f, row * f->columns + i);
        if (id < 0 || id > INT32_MAX)
            return mw_error(MW_ERR_FORMAT, "%s: element %lld is %lld, not a token id", f->path,
                            (long long)(row * f->columns + i), (long long)id);
        MW_TRY(mw_ids_add(out, (int32_t)id));
    }
    return MW_OK;
}
