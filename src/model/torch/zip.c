/* Reads the directory of a zip archive in memory. */
#include "model/torch/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { END_BYTES = 22, LOCATOR_BYTES = 20, END64_BYTES = 56, ENTRY_BYTES = 46, LOCAL_BYTES = 30, COMMENT_MAX = 65535 };
static const uint32_t end_mark = 0x06054b50, locator_mark = 0x07064b50, end64_mark = 0x06064b50,
                      entry_mark = 0x02014b50, local_mark = 0x04034b50;

typedef struct bytes_of {
    const char *path;
    const uint8_t *at;
    size_t length;
} bytes_of;

static uint64_t number(const uint8_t *at, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint64_t)at[i] << 8 * i;
    return value;
}

static mw_status damaged(const bytes_of *file, const char *why) {
    return mw_error(MW_ERR_FORMAT, "%s: not a zip archive, or truncated: %s", file->path, why);
}

static bool has(const bytes_of *file, uint64_t offset, uint64_t bytes) {
    return offset <= file->length && bytes <= file->length - offset;
}

bool zip_begins(const uint8_t *bytes, size_t length) {
    return length >= 4 && number(bytes, 4) == local_mark;
}

/* The directory's place and number of entries. */
typedef struct directory {
    uint64_t at, bytes, entries;
} directory;

static mw_status find_end(const bytes_of *file, size_t *out) {
    if (file->length < END_BYTES) return damaged(file, "too short");
    size_t last = file->length - END_BYTES, first = last > COMMENT_MAX ? last - COMMENT_MAX : 0;
    for (size_t at = last + 1; at-- > first;) {
        if (number(file->at + at, 4) != end_mark || at + END_BYTES + number(file->at + at + 20, 2) != file->length)
            continue;
        *out = at;
        return MW_OK;
    }
    return damaged(file, "no end of the directory");
}

static mw_status read_end64(const bytes_of *file, size_t end, directory *out) {
    if (end < LOCATOR_BYTES || number(file->at + end - LOCATOR_BYTES, 4) != locator_mark) return MW_OK;
    uint64_t at = number(file->at + end - LOCATOR_BYTES + 8, 8);
    if (!has(file, at, END64_BYTES) || number(file->at + at, 4) != end64_mark)
        return damaged(file, "no ZIP64 end of the directory");
    *out = (directory){number(file->at + at + 48, 8), number(file->at + at + 40, 8), number(file->at + at + 32, 8)};
    return MW_OK;
}

static mw_status find_directory(const bytes_of *file, directory *out) {
    size_t end = 0;
    MW_TRY(find_end(file, &end));
    const uint8_t *e = file->at + end;
    *out = (directory){number(e + 16, 4), number(e + 12, 4), number(e + 10, 2)};
    MW_TRY(read_end64(file, end, out));
    if (!has(file, out->at, out->bytes) || out->entries > out->bytes / ENTRY_BYTES)
        return damaged(file, "the directory is larger than the file");
    return MW_OK;
}

/* Sizes and the offset of an entry; the ZIP64 part of the extra field has those that do not fit into 32 bits. */
typedef struct extent {
    uint64_t unpacked, packed, local;
} extent;

static void read_extra(const uint8_t *extra, uint64_t bytes, extent *e) {
    uint64_t *const wide[] = {&e->unpacked, &e->packed, &e->local};
    for (uint64_t at = 0; at + 4 <= bytes;) {
        uint64_t id = number(extra + at, 2), size = number(extra + at + 2, 2), next = at + 4 + size;
        uint64_t from = at + 4;
        if (next > bytes) return;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*wide[i] != UINT32_MAX) continue;
            if (from + 8 > next) return;
            *wide[i] = number(extra + from, 8);
            from += 8;
        }
        at = next;
    }
}

/* The data begins after the local header, whose name and extra field have lengths of their own. */
static mw_status locate(const bytes_of *file, const extent *x, zip_entry *e) {
    bool here = has(file, x->local, LOCAL_BYTES) && number(file->at + x->local, 4) == local_mark;
    const uint8_t *local = here ? file->at + x->local : NULL;
    uint64_t begin = here ? x->local + LOCAL_BYTES + number(local + 26, 2) + number(local + 28, 2) : 0;
    if (!here || !has(file, begin, x->packed) || x->packed != x->unpacked)
        return mw_error(MW_ERR_FORMAT, "%s: '%.*s' has %llu bytes, which are not in the file", file->path,
                        (int)(e->length < 200 ? e->length : 200), e->name, (unsigned long long)x->unpacked);
    e->data = file->at + begin;
    e->bytes = x->unpacked;
    return MW_OK;
}

static mw_status read_entry(const bytes_of *file, const directory *d, uint64_t *at, zip_entry *e) {
    const uint8_t *h = file->at + d->at + *at;
    if (d->bytes - *at < ENTRY_BYTES || number(h, 4) != entry_mark) return damaged(file, "an entry of the directory");
    uint64_t name = number(h + 28, 2), extra = number(h + 30, 2), all = ENTRY_BYTES + name + extra + number(h + 32, 2);
    if (all > d->bytes - *at) return damaged(file, "an entry of the directory");
    *at += all;
    extent x = {number(h + 24, 4), number(h + 20, 4), number(h + 42, 4)};
    read_extra(h + ENTRY_BYTES + name, extra, &x);
    *e = (zip_entry){.name = (const char *)h + ENTRY_BYTES, .length = name, .crc = (uint32_t)number(h + 16, 4)};
    if (number(h + 8, 2) & 1 || number(h + 10, 2) != 0)
        return mw_error(MW_ERR_UNSUPPORTED, "%s: '%.*s' is compressed or encrypted: expected stored bytes", file->path,
                        (int)(name < 200 ? name : 200), e->name);
    return locate(file, &x, e);
}

static int compare(const char *a, size_t a_length, const char *b, size_t b_length) {
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int by_name(const void *a, const void *b) {
    const zip_entry *x = a, *y = b;
    return compare(x->name, x->length, y->name, y->length);
}

mw_status zip_read(const char *path, const uint8_t *bytes, size_t length, zip_archive *out) {
    bytes_of file = {path, bytes, length};
    directory d;
    *out = (zip_archive){0};
    MW_TRY(find_directory(&file, &d));
    uint64_t at = 0;
    for (uint64_t i = 0; i < d.entries; i++) {
        if (!MW_GROW(out->entries, out->count, out->capacity)) return MW_ERR_MEMORY;
        MW_TRY(read_entry(&file, &d, &at, &out->entries[out->count]));
        out->count++;
    }
    if (out->count) qsort(out->entries, (size_t)out->count, sizeof *out->entries, by_name);
    for (int64_t i = 1; i < out->count; i++)
        if (by_name(&out->entries[i - 1], &out->entries[i]) == 0) return damaged(&file, "two entries of one name");
    return MW_OK;
}

void zip_free(zip_archive *zip) {
    mw_free(zip->entries);
    *zip = (zip_archive){0};
}

const zip_entry *zip_find(const zip_archive *zip, const char *name) {
    zip_entry key = {.name = name, .length = strlen(name)};
    return zip->count ? bsearch(&key, zip->entries, (size_t)zip->count, sizeof key, by_name) : NULL;
}

bool zip_crc_matches(const zip_entry *e) {
    enum { PIECE = 1 << 30 };
    uLong crc = crc32(0, NULL, 0);
    for (uint64_t at = 0; e->crc && at < e->bytes; at += PIECE) {
        uint64_t rest = e->bytes - at;
        crc = crc32(crc, e->data + at, rest < PIECE ? (uInt)rest : PIECE);
    }
    return (uint32_t)crc == e->crc;
}
