/* The HDF5 calls that both sides of the store need, with errors in our words. */
#ifndef MICROW_STORE_H5_FILE_H
#define MICROW_STORE_H5_FILE_H

#include "microw/store.h"

#include <hdf5.h>

/* Files of one communicator (collective) or of this process alone (NULL). Silences HDF5's own messages. */
mw_status h5_create(const char *path, const mw_comm *comm, hid_t *out) MW_MUST_USE;
/* MW_ERR_STATE: another process holds it. */
mw_status h5_open(const char *path, const mw_comm *comm, bool write, hid_t *out) MW_MUST_USE;
/* A descriptor of the same open file, whatever its name may stand for by now; the caller closes it. */
mw_status h5_descriptor(hid_t file, const char *path, int *out) MW_MUST_USE;
/* Closes a file of this process alone, on disk; what is left to write is dropped where `status`, which is returned, is a failure. */
mw_status h5_close(hid_t file, const char *path, mw_status status) MW_MUST_USE;
/* Logs what failed with HDF5's innermost reason: to be called before any other call of HDF5. Returns `status`. */
mw_status h5_error(mw_status status, const char *path, const char *fmt, ...) MW_PRINTF(3, 4);

mw_status h5_make_group(hid_t file, const char *path, const char *name) MW_MUST_USE;
/* A contiguous data set, allocated now. `columns` 0: one dimension. `dtype_name` may be NULL, else an attribute. */
mw_status h5_make_data(hid_t file, const char *path, const char *name, hid_t type, int64_t rows, int64_t columns,
                       const char *dtype_name) MW_MUST_USE;
/* `count` rows from `begin`; with `comm`, all ranks call, those without rows with count 0. */
mw_status h5_write_rows(hid_t file, const char *path, const char *name, hid_t type, int64_t begin, int64_t count,
                        int64_t columns, const void *data, const mw_comm *comm) MW_MUST_USE;
/* The same for reading, by this rank alone. */
mw_status h5_read_rows(hid_t file, const char *path, const char *name, hid_t type, int64_t begin, int64_t count,
                       int64_t columns, void *out) MW_MUST_USE;
/* The whole data set, which must have `count` elements. */
mw_status h5_read_all(hid_t file, const char *path, const char *name, hid_t type, int64_t count, void *out) MW_MUST_USE;
/* Dimensions of a data set; `columns` 0 for one dimension. */
mw_status h5_shape(hid_t file, const char *path, const char *name, int64_t *rows, int64_t *columns) MW_MUST_USE;
bool h5_have(hid_t file, const char *name); /* a link of that name; its groups are there */
/* Byte in the file where a contiguous data set lies. */
mw_status h5_offset(hid_t file, const char *path, const char *name, uint64_t *out) MW_MUST_USE;

mw_status h5_put_text(hid_t object, const char *path, const char *key, const char *value) MW_MUST_USE;
mw_status h5_get_text(hid_t object, const char *path, const char *key, char **out) MW_MUST_USE;
mw_status h5_put_int(hid_t file, const char *path, const char *key, int64_t value) MW_MUST_USE; /* makes or replaces */
mw_status h5_get_int(hid_t file, const char *path, const char *key, int64_t *out) MW_MUST_USE;

#endif
