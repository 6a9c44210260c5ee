/* One HDF5 file of a store, or rows in memory as such a file. */
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
    int fd;        /* of the same open file, for reads of activations */
    uint64_t size; /* bytes */
    int64_t schema, n_rows, n_documents, n_sites, capacity;
    file_site *sites; /* by name */
    int64_t first;    /* row of the store at which this file begins */
    bool schema_1_reported;
    const float *array; /* rows in memory of the only site; borrowed. NULL: a file */
} harvest_file;

enum { STORE_NAME = 96 };
/* Writes "/sites/8.resid_post/values"; `what` "": the group "/sites/8.resid_post". */
void store_site_name(mw_site site, const char *what, char out[STORE_NAME]);

/* Opens a file; harvest_file_close closes. `partial`: also accepts an unfinished file. MW_ERR_FORMAT, MW_ERR_IO,
 * MW_ERR_STATE: locked by another process. */
mw_status harvest_file_open(const char *path, bool partial, harvest_file *out) MW_MUST_USE;
/* Makes a file of rows [n, width] in memory, which are borrowed; each row is its own sequence. */
mw_status harvest_file_of_array(const float *rows, int64_t n, int64_t width, const char *site,
                                harvest_file *out) MW_MUST_USE;
void harvest_file_close(harvest_file *file);
/* Reads the number of rows that a site's means are of: rows that are not finite have no part in them. */
mw_status harvest_file_mean_rows(const harvest_file *file, int64_t site, double *out) MW_MUST_USE;
/* Reads the mean of a site's rows, [width]. */
mw_status harvest_file_mean(const harvest_file *file, int64_t site, double *out) MW_MUST_USE;
/* Reads a root attribute; "" for rows in memory. Caller frees. */
mw_status harvest_file_text(const harvest_file *file, const char *key, char **out) MW_MUST_USE;
/* Reads rows begin .. begin + count of a site as f32 [count, width]; `raw` is scratch memory for the stored rows. */
mw_status harvest_file_read(const harvest_file *file, int64_t site, int64_t begin, int64_t count, char *raw,
                            float *out) MW_MUST_USE;
/* The same in the stored type, [count, width]. Not for rows in memory. */
mw_status harvest_file_read_stored(const harvest_file *file, int64_t site, int64_t begin, int64_t count,
                                   void *out) MW_MUST_USE;
/* As harvest_file_read for one row, if the system's cache has it. False: not read; nothing is logged. */
bool harvest_file_read_cached(const harvest_file *file, int64_t site, int64_t row, char *raw, float *out);
/* Begins to read rows into the system's cache; only a hint. */
void harvest_file_expect(const harvest_file *file, int64_t site, int64_t begin, int64_t count);
/* Reads a data set [count], or [count, columns] for columns > 0; count < 0: any number, which is set. Caller frees. */
mw_status harvest_file_column(const harvest_file *file, const char *name, hid_t type, int64_t columns, int64_t *count,
                              void **out) MW_MUST_USE;
/* Reads and validates the tokens: indices must be in range and in order before any are used. On failure the caller
 * frees what was read. */
mw_status harvest_file_read_tokens(harvest_file *file, mw_store_tokens *out) MW_MUST_USE;
/* Reads the first rows of the blocks, [*n_blocks + 1]; caller frees. */
mw_status harvest_file_blocks(const harvest_file *file, int64_t *n_blocks, uint64_t **out) MW_MUST_USE;
/* Sets `good` to the first of the blocks begin .. end whose checksum does not match, or to `end`. row [n_blocks +
 * 1]. */
mw_status harvest_file_matching_blocks(const harvest_file *file, int64_t site, const uint64_t *row, int64_t n_blocks,
                                       int64_t begin, int64_t end, int64_t *good) MW_MUST_USE;

#endif
