/* An open store. */
#ifndef MICROW_STORE_STORE_H
#define MICROW_STORE_STORE_H

#include "store/harvest_file.h"

struct mw_store {
    int64_t n_files, n_rows, n_sites;
    harvest_file *files;  /* all have the sites of the first, at the same indices */
    mw_store_site *sites; /* [n_sites] */
};

#endif
