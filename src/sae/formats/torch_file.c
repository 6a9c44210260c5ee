/* The container of torch.save: an uncompressed zip with a pickle, which makes tensors of raw storages in the same zip.
 * The pickle uses only what torch.load(weights_only=True) allows. Layout: torch/serialization.py; zip: APPNOTE.TXT
 * 4.3. */
#include "sae/formats/sae_file.h"

#include <string.h>
#include <zlib.h>

/* ---- pickle, protocol 2 (pickletools.py names the codes) ------------------------------------------------- */

static void put(mw_text *out, const char *bytes) {
    mw_text_add(out, bytes, strlen(bytes));
}

static void put_u32(mw_text *out, uint32_t value) {
    char bytes[4] = {(char)value, (char)(value >> 8), (char)(value >> 16), (char)(value >> 24)};
    mw_text_add(out, bytes, 4);
}

static void pickle_text(mw_text *out, const char *text) { /* BINUNICODE */
    put(out, "X");
    put_u32(out, (uint32_t)strlen(text));
    put(out, text);
}

static void pickle_int(mw_text *out, int64_t value) {
    if (value >= 0 && value <= INT32_MAX) { /* BININT */
        put(out, "J");
        put_u32(out, (uint32_t)value);
        return;
    }
    char bytes[10] = {(char)0x8a, 8}; /* LONG1 of 8 bytes */
    memcpy(bytes + 2, &value, 8);
    mw_text_add(out, bytes, sizeof bytes);
}

static void pickle_shape(mw_text *out, const mw_tensor *t, bool strides) {
    put(out, "(");
    for (int d = 0; d < t->ndim; d++) {
        int64_t stride = 1;
        for (int e = d + 1; e < t->ndim; e++) stride *= t->shape[e];
        pickle_int(out, strides ? stride : t->shape[d]);
    }
    put(out, "t");
}

static void pickle_tensor(mw_text *out, const mw_tensor *t, int64_t number) {
    char *key = mw_format("%lld", (long long)number);
    put(out, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(out, "storage");
    put(out, t->dtype == MW_I32   ? "ctorch\nIntStorage\n"
             : t->dtype == MW_I64 ? "ctorch\nLongStorage\n"
                                  : "ctorch\nFloatStorage\n");
    pickle_text(out, key ? key : "");
    pickle_text(out, "cpu");
    pickle_int(out, mw_tensor_count(t));
    put(out, "tQ"); /* the tuple is a persistent id */
    pickle_int(out, 0);
    pickle_shape(out, t, false);
    pickle_shape(out, t, true);
    put(out, "\x89"
             "ccollections\nOrderedDict\n)RtR"); /* no gradient, no hooks */
    out->failed = out->failed || !key;
    mw_free(key);
}

static void pickle_state(mw_text *out, const mw_named_tensor *tensors, int64_t count) {
    put(out, "\x80\x02"
             "ccollections\nOrderedDict\n)R(");
    for (int64_t i = 0; i < count; i++) {
        pickle_text(out, tensors[i].name);
        pickle_tensor(out, &tensors[i].tensor, i);
    }
    put(out, "u.");
}

/* ---- zip ------------------------------------------------------------------------------------------------- */

typedef struct zip {
    mw_atomic_file file;
    mw_text directory;
    uint64_t at; /* bytes written */
    uint32_t entries;
} zip;

static void put_u16(mw_text *out, unsigned value) {
    char bytes[2] = {(char)value, (char)(value >> 8)};
    mw_text_add(out, bytes, 2);
}

static void put_u64(mw_text *out, uint64_t value) {
    put_u32(out, (uint32_t)value);
    put_u32(out, (uint32_t)(value >> 32));
}

/* Fields of both a local header and a directory entry. Sizes are in the ZIP64 part, for large files. */
static void put_common(mw_text *out, uint32_t crc, size_t name_length, unsigned extra) {
    put_u16(out, 45); /* version needed: ZIP64 */
    put_u16(out, 0);
    put_u16(out, 0);           /* stored */
    put_u32(out, 0x00210000u); /* 1980-01-01: the bytes do not depend on the date */
    put_u32(out, crc);
    put_u32(out, UINT32_MAX);
    put_u32(out, UINT32_MAX);
    put_u16(out, (unsigned)name_length);
    put_u16(out, extra);
}

static uint32_t crc_of(const void *data, size_t length) {
    uLong crc = crc32(0, NULL, 0);
    for (const Bytef *p = data; length > 0;) {
        uInt part = length < (1u << 30) ? (uInt)length : 1u << 30;
        crc = crc32(crc, p, part);
        p += part;
        length -= part;
    }
    return (uint32_t)crc;
}

static void put_directory_entry(zip *z, const char *name, uint32_t crc, uint64_t length) {
    put_u32(&z->directory, 0x02014b50u);
    put_u16(&z->directory, 45);
    put_common(&z->directory, crc, strlen(name), 28);
    put_u16(&z->directory, 0); /* comment */
    put_u16(&z->directory, 0); /* disk */
    put_u16(&z->directory, 0);
    put_u32(&z->directory, 0);
    put_u32(&z->directory, UINT32_MAX); /* offset: in the ZIP64 part */
    put(&z->directory, name);
    put_u16(&z->directory, 1);
    put_u16(&z->directory, 24);
    put_u64(&z->directory, length);
    put_u64(&z->directory, length);
    put_u64(&z->directory, z->at);
}

/* torch maps storages into memory: each begins at a multiple of 64 bytes, to which the extra field is padded. */
static mw_status zip_add(zip *z, const char *name, const void *data, size_t length) {
    enum { ZIP64_EXTRA = 20, HEADER = 30, PADDING_HEADER = 4 };
    uint32_t crc = crc_of(data, length);
    size_t before = z->at + HEADER + strlen(name) + ZIP64_EXTRA + PADDING_HEADER, padding = (64 - before % 64) % 64;
    mw_text header = {0};
    put_u32(&header, 0x04034b50u);
    put_common(&header, crc, strlen(name), (unsigned)(ZIP64_EXTRA + PADDING_HEADER + padding));
    put(&header, name);
    put_u16(&header, 1);
    put_u16(&header, 16);
    put_u64(&header, length);
    put_u64(&header, length);
    put(&header, "FB");
    put_u16(&header, (unsigned)padding);
    for (size_t i = 0; i < padding; i++) mw_text_add(&header, "Z", 1);
    put_directory_entry(z, name, crc, length);
    mw_status status = header.failed ? MW_ERR_MEMORY : mw_atomic_write(&z->file, header.data, header.length);
    if (status == MW_OK) status = mw_atomic_write(&z->file, data, length);
    z->at += header.length + length;
    z->entries++;
    mw_text_free(&header);
    return status;
}

static mw_status zip_end(zip *z) {
    uint64_t start = z->at, size = z->directory.length;
    put_u32(&z->directory, 0x06064b50u); /* ZIP64 end of directory */
    put_u64(&z->directory, 44);
    put_u16(&z->directory, 45);
    put_u16(&z->directory, 45);
    put_u64(&z->directory, 0); /* disks */
    put_u64(&z->directory, z->entries);
    put_u64(&z->directory, z->entries);
    put_u64(&z->directory, size);
    put_u64(&z->directory, start);
    put_u32(&z->directory, 0x07064b50u); /* locator of it */
    put_u32(&z->directory, 0);
    put_u64(&z->directory, start + size);
    put_u32(&z->directory, 1);
    put_u32(&z->directory, 0x06054b50u); /* end of directory */
    put_u32(&z->directory, 0);
    put_u16(&z->directory, z->entries);
    put_u16(&z->directory, z->entries);
    put_u32(&z->directory, UINT32_MAX);
    put_u32(&z->directory, UINT32_MAX);
    put_u16(&z->directory, 0);
    return z->directory.failed ? MW_ERR_MEMORY : mw_atomic_write(&z->file, z->directory.data, z->directory.length);
}

static mw_status write_all(zip *z, const mw_named_tensor *tensors, int64_t count) {
    mw_text pickle = {0};
    pickle_state(&pickle, tensors, count);
    mw_status status = pickle.failed ? MW_ERR_MEMORY : zip_add(z, "archive/data.pkl", pickle.data, pickle.length);
    mw_text_free(&pickle);
    if (status == MW_OK) status = zip_add(z, "archive/byteorder", "little", 6);
    for (int64_t i = 0; i < count && status == MW_OK; i++) {
        const mw_tensor *t = &tensors[i].tensor;
        char *name = mw_format("archive/data/%lld", (long long)i);
        status = name ? zip_add(z, name, t->data, (size_t)mw_tensor_count(t) * mw_dtype_size(t->dtype)) : MW_ERR_MEMORY;
        mw_free(name);
    }
    if (status == MW_OK) status = zip_add(z, "archive/version", "3\n", 2);
    return status == MW_OK ? zip_end(z) : status;
}

mw_status torch_file_write(const char *path, const mw_named_tensor *tensors, int64_t count) {
    zip z = {0};
    MW_TRY(mw_atomic_begin(path, &z.file));
    mw_status status = write_all(&z, tensors, count);
    mw_text_free(&z.directory);
    if (status == MW_OK) return mw_atomic_commit(&z.file);
    mw_atomic_abort(&z.file);
    return status;
}
