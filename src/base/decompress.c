/* Decompresses gzip and zstd streams into memory. */
#include "microw/base.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { CHECKED_FROM = 64 << 20, WINDOW_LOG_LEAST = 27, WINDOW_LOG_MAX = 31 };

/* The decompressed bytes so far. */
typedef struct unpacked {
    const char *path; /* of the source, for messages */
    uint8_t *data;
    size_t length, capacity;
} unpacked;

static mw_status too_large(const unpacked *out, size_t bytes, const char *why) {
    return mw_error(MW_ERR_MEMORY, "%s: the decompressed data exceeds %.1f GB, %s", out->path, (double)bytes * 1e-9,
                    why);
}

/* Grows the buffer when it is full. The system grants memory that it does not have and kills the process on first
 * write, so the free memory is checked here. */
static mw_status make_room(unpacked *out) {
    if (out->length < out->capacity) return MW_OK;
    size_t grown = out->capacity ? out->capacity * 2 : 1 << 20;
    uint64_t free_bytes = grown > CHECKED_FROM ? mw_free_memory() : 0;
    if (free_bytes && grown > free_bytes)
        return too_large(out, out->length, "and there is no memory for twice that size");
    uint8_t *moved = mw_realloc(out->data, out->length, grown);
    if (!moved) return MW_ERR_MEMORY;
    out->data = moved;
    out->capacity = grown;
    return MW_OK;
}

static mw_status damaged(const unpacked *out, const char *kind, size_t at, const char *why) {
    return mw_error(MW_ERR_FORMAT, "%s: damaged %s stream at byte %zu: %s", out->path, kind, at, why);
}

static mw_status truncated(const unpacked *out, const char *kind, size_t length) {
    return mw_error(MW_ERR_FORMAT, "%s: truncated %s stream: it continues past its %zu bytes", out->path, kind, length);
}

/* ---- gzip -------------------------------------------------------------------------------------------- */

static bool only_zeros(const uint8_t *data, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (data[i]) return false;
    return true;
}

/* Calls inflate once; zlib counts in 32 bits. */
static mw_status inflate_some(z_stream *z, const uint8_t *data, size_t length, size_t *at, unpacked *out, int *code) {
    enum { MOST = 1 << 30 };
    MW_TRY(make_room(out));
    size_t in = length - *at < MOST ? length - *at : MOST, room = out->capacity - out->length;
    if (room > MOST) room = MOST;
    z->next_in = (Bytef *)(uintptr_t)(data + *at);
    z->avail_in = (uInt)in;
    z->next_out = out->data + out->length;
    z->avail_out = (uInt)room;
    *code = inflate(z, Z_NO_FLUSH);
    *at += in - z->avail_in;
    out->length += room - z->avail_out;
    return MW_OK;
}

/* A file is one stream or several concatenated ones; only zeros may follow the last. */
static mw_status inflate_all(z_stream *z, const uint8_t *data, size_t length, unpacked *out) {
    for (size_t at = 0;;) {
        int code;
        MW_TRY(inflate_some(z, data, length, &at, out, &code));
        if (code == Z_STREAM_END) {
            if (only_zeros(data + at, length - at)) return MW_OK;
            code = inflateReset(z);
        }
        if (code == Z_MEM_ERROR) return mw_error(MW_ERR_MEMORY, "%s: no memory to decompress it", out->path);
        if (code == Z_OK && (at < length || out->length == out->capacity)) continue;
        if (code == Z_OK || code == Z_BUF_ERROR) return truncated(out, "gzip", length);
        return damaged(out, "gzip", at, z->msg ? z->msg : "a preset dictionary");
    }
}

static mw_status unpack_gzip(const uint8_t *data, size_t length, unpacked *out) {
    z_stream z = {0};
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return mw_error(MW_ERR_MEMORY, "%s: no memory to decompress it", out->path);
    mw_status status = inflate_all(&z, data, length, out);
    inflateEnd(&z);
    return status;
}

/* ---- zstd -------------------------------------------------------------------------------------------- */

static mw_status decompress_all(ZSTD_DCtx *context, const uint8_t *data, size_t length, unpacked *out) {
    ZSTD_inBuffer in = {data, length, 0};
    for (size_t left = 1; in.pos < in.size || left;) {
        size_t before = in.pos, made = out->length;
        MW_TRY(make_room(out));
        ZSTD_outBuffer to = {out->data, out->capacity, out->length};
        left = ZSTD_decompressStream(context, &to, &in);
        out->length = to.pos;
        if (ZSTD_isError(left)) return damaged(out, "zstd", in.pos, ZSTD_getErrorName(left));
        if (left && in.pos == in.size && in.pos == before && out->length == made) return truncated(out, "zstd", length);
    }
    return MW_OK;
}

/* `zstd --long=31` needs a window of 2 GB: allowed up to half of the free memory. */
static int window_limit(void) {
    uint64_t free_bytes = mw_free_memory();
    int limit = WINDOW_LOG_MAX;
    while (free_bytes && limit > WINDOW_LOG_LEAST && UINT64_C(1) << limit > free_bytes / 2) limit--;
    return limit;
}

static mw_status unpack_zstd(const uint8_t *data, size_t length, unpacked *out) {
    ZSTD_DCtx *context = ZSTD_createDCtx();
    if (!context) return mw_error(MW_ERR_MEMORY, "%s: no memory to decompress it", out->path);
    ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, window_limit());
    mw_status status = decompress_all(context, data, length, out);
    ZSTD_freeDCtx(context);
    return status;
}

/* ---- both -------------------------------------------------------------------------------------------- */

mw_compression mw_compression_of(const char *path) {
    return mw_ends_with_any_case(path, ".gz")    ? MW_COMPRESSION_GZIP
           : mw_ends_with_any_case(path, ".zst") ? MW_COMPRESSION_ZSTD
                                                 : MW_COMPRESSION_NONE;
}

mw_status mw_decompress(const char *path, mw_compression packing, const void *data, size_t length, uint8_t **out,
                        size_t *out_length) {
    unpacked u = {.path = path};
    mw_status status = make_room(&u);
    if (length == 0) data = ""; /* the map of an empty file is NULL */
    if (status == MW_OK)
        status = packing == MW_COMPRESSION_GZIP ? unpack_gzip(data, length, &u) : unpack_zstd(data, length, &u);
    if (status != MW_OK) {
        mw_free(u.data);
        return status;
    }
    *out = u.data;
    *out_length = u.length;
    return MW_OK;
}
