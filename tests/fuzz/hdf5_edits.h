/* An input as a list of edits of a good HDF5 file, made through HDF5 itself: data sets removed or made anew with other
 * types, shapes and contents, single values and attributes changed, the end cut off. So what is tried is our own
 * reading of a valid file that does not hold what it should; damaged bytes of the container are the library's own
 * business. */
#ifndef MICROW_HDF5_EDITS_H
#define MICROW_HDF5_EDITS_H

#include "fuzz.h"

typedef struct hdf5_schema {
    const char *const *sets; /* names that a file has, and some it has not */
    size_t n_sets;
    const char *const *keys; /* of attributes */
    size_t n_keys;
} hdf5_schema;

void hdf5_edit(const char *path, const hdf5_schema *schema, const uint8_t *data, size_t size);

#endif
