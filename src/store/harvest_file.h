/* One HDF5 file of a store, or rows in memory that take its place. */
#ifndef MICROW_STORE_HARVEST_FILE_H
#define MICROW_STORE_HARVEST_FILE_H

#include "store/h5_file.h"

typedef struct part_site {
    mw_store_site about;
    uint64_t place; /* byte of the file where row 0 lies */
} part_site;

typedef struct store_part {
    char *path;
    hid_t file;
    int fd;        /* of the same open file */
    uint64_t size; /* bytes */
    int64_t schema, n_rows, n_documents, n_sites, capacity;
    part_site *sites;   /* by name */
    int64_t first;      /* row of the whole where this file's begin */
    bool told;          /* that it is of schema 1 */
    const float *array; /* rows in memory, of the one site; borrowed. NULL: a file */
} store_part;

enum { STORE_NAME = 96 };
/* "/sites/8.resid_post/values"; `what` "": the group itself. */
void store_site_name(mw_site site, const char *what, char out[STORE_NAME]);

/* `partial`: a file that its writer has not finished will do. */
mw_status part_open(const char *path, bool partial, store_part *out) MW_MUST_USE;
/* Rows [n, width] that the caller keeps; each is a sequence of its own. */
mw_status part_of_array(const float *rows, int64_t n, int64_t width, const char *site, store_part *out) MW_MUST_USE;
void part_close(store_part *part);
/* Mean of a site's rows, [width]; a root attribute, which an array has not: "". Caller frees. */
mw_status part_mean(const store_part *part, int64_t site, double *out) MW_MUST_USE;
mw_status part_text(const store_part *part, const char *key, char **out) MW_MUST_USE;
/* Rows begin .. begin + count of a site; `raw` has room for them as stored. */
mw_status part_read(const store_part *part, int64_t site, int64_t begin, int64_t count, char *raw,
                    float *out) MW_MUST_USE;
/* A 1-D data set (or [*, columns]) of `count` elements, `count` < 0: any; caller frees. */
mw_status part_column(const store_part *part, const char *name, hid_t type, int64_t columns, int64_t *count,
                      void **out) MW_MUST_USE;
/* What the file says of itself must hold together before anything is looked up by it. */
mw_status part_read_tokens(store_part *part, mw_store_tokens *out) MW_MUST_USE;
mw_status part_blocks(const store_part *part, int64_t *n_blocks, uint64_t **out) MW_MUST_USE;
/* good: the first of blocks begin .. end whose checksum does not match, or end. */
mw_status part_matching_blocks(const store_part *part, int64_t site, const uint64_t *row, int64_t n_blocks,
                               int64_t begin, int64_t end, int64_t *good) MW_MUST_USE;

#endif
