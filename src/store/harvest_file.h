/* One HDF5 file of a store, or rows in memory that take its place. */
#ifndef MICROW_STORE_HARVEST_FILE_H
#define MICROW_STORE_HARVEST_FILE_H

#include "store/h5_file.h"

typedef struct file_site {
    mw_store_site about;
    uint64_t offset; /* of row 0, in bytes from the start of the file */
} file_site;

typedef struct harvest_file {
    char *path;
    hid_t h5;
    int fd;        /* of the same open file */
    uint64_t size; /* bytes */
    int64_t schema, n_rows, n_documents, n_sites, capacity;
    file_site *sites;   /* by name */
    int64_t first;      /* row of the whole where this file's begin */
    bool schema_1_reported;
    const float *array; /* rows in memory, of the one site; borrowed. NULL: a file */
} harvest_file;

enum { STORE_NAME = 96 };
/* "/sites/8.resid_post/values"; `what` "": the group itself. */
void store_site_name(mw_site site, const char *what, char out[STORE_NAME]);

/* `partial`: a file that its writer has not finished will do. */
mw_status harvest_file_open(const char *path, bool partial, harvest_file *out) MW_MUST_USE;
/* Rows [n, width] that the caller keeps; each is a sequence of its own. */
mw_status harvest_file_of_array(const float *rows, int64_t n, int64_t width, const char *site,
                                harvest_file *out) MW_MUST_USE;
void harvest_file_close(harvest_file *file);
/* Mean of a site's rows, [width]; a root attribute, which an array has not: "". Caller frees. */
mw_status harvest_file_mean(const harvest_file *file, int64_t site, double *out) MW_MUST_USE;
mw_status harvest_file_text(const harvest_file *file, const char *key, char **out) MW_MUST_USE;
/* Rows begin .. begin + count of a site; `raw` has room for them as stored. */
mw_status harvest_file_read(const harvest_file *file, int64_t site, int64_t begin, int64_t count, char *raw,
                            float *out) MW_MUST_USE;
/* A 1-D data set (or [*, columns]) of `count` elements, `count` < 0: any; caller frees. */
mw_status harvest_file_column(const harvest_file *file, const char *name, hid_t type, int64_t columns, int64_t *count,
                              void **out) MW_MUST_USE;
/* What the file says of itself must hold together before anything is looked up by it. */
mw_status harvest_file_read_tokens(harvest_file *file, mw_store_tokens *out) MW_MUST_USE;
mw_status harvest_file_blocks(const harvest_file *file, int64_t *n_blocks, uint64_t **out) MW_MUST_USE;
/* good: the first of blocks begin .. end whose checksum does not match, or end. */
mw_status harvest_file_matching_blocks(const harvest_file *file, int64_t site, const uint64_t *row, int64_t n_blocks,
                                       int64_t begin, int64_t end, int64_t *good) MW_MUST_USE;

#endif
