/* An open store. */
#ifndef MICROW_STORE_STORE_H
#define MICROW_STORE_STORE_H

#include "store/harvest_file.h"

struct mw_store {
    int64_t n_files, n_rows, n_sites;
    harvest_file *files;  /* all have the sites of the first, at the same indices */
    mw_store_site *sites; /* [n_sites] */
};

/* Reads rows begin .. begin + count of a site in the type `dtype`: f32, or the type in which all files store it. Errors
 * as mw_store_read_range. */
mw_status store_read_as(const mw_store *store, const mw_store_site *site, mw_dtype dtype, int64_t begin, int64_t count,
                        void *out) MW_MUST_USE;
/* Begins to read rows into the system's cache; only a hint. Rows out of range are left out. */
void store_expect(const mw_store *store, const mw_store_site *site, int64_t begin, int64_t count);

#endif
