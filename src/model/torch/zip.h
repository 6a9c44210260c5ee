/* Reads the directory of a zip archive in memory (APPNOTE.TXT 4.3), for files that are stored without compression. */
#ifndef MICROW_MODEL_TORCH_ZIP_H
#define MICROW_MODEL_TORCH_ZIP_H

#include "microw/base.h"

typedef struct zip_entry {
    const char *name; /* in the archive, without a NUL */
    size_t length;    /* of the name */
    const uint8_t *data;
    uint64_t bytes;
    uint32_t crc; /* CRC-32 of the data; 0: torch.serialization.set_crc32_options(False) wrote none */
} zip_entry;

typedef struct zip_archive {
    zip_entry *entries; /* sorted by name */
    int64_t count, capacity;
} zip_archive;

/* Returns whether `bytes` begin as an archive does. */
bool zip_begins(const uint8_t *bytes, size_t length);
/* zip_free frees *out, also after an error. Errors: MW_ERR_FORMAT for damage and data beyond the file,
 * MW_ERR_UNSUPPORTED for an entry that is compressed or encrypted, MW_ERR_MEMORY. */
mw_status zip_read(const char *path, const uint8_t *bytes, size_t length, zip_archive *out) MW_MUST_USE;
void zip_free(zip_archive *zip);
/* Returns the entry of this name; NULL: there is none. */
const zip_entry *zip_find(const zip_archive *zip, const char *name);
bool zip_crc_matches(const zip_entry *e);

#endif
