/* HDF5 calls of readers and writers, with this project's error messages. `path` names the file in messages. */
#ifndef MICROW_STORE_H5_FILE_H
#define MICROW_STORE_H5_FILE_H

#include "microw/store.h"

#include <hdf5.h>

/* Create or open a file for a communicator (collective) or for this process alone (NULL). Silence HDF5's own messages.
 * Caller closes: h5_close for a process alone. */
mw_status h5_create(const char *path, const mw_comm *comm, hid_t *out) MW_MUST_USE;
/* MW_ERR_STATE: another process has locked it. */
mw_status h5_open(const char *path, const mw_comm *comm, bool write, hid_t *out) MW_MUST_USE;
/* Returns a descriptor of the same open file, even if its name now belongs to another file; caller closes. */
mw_status h5_descriptor(hid_t file, const char *path, int *out) MW_MUST_USE;
/* Flushes and closes a file of this process alone. If `status` is a failure, drops unwritten data and returns
 * `status`. */
mw_status h5_close(hid_t file, const char *path, mw_status status) MW_MUST_USE;
/* Logs a failure with HDF5's innermost reason and returns `status`. Must precede any other call of HDF5. */
mw_status h5_error(mw_status status, const char *path, const char *fmt, ...) MW_PRINTF(3, 4);

mw_status h5_make_group(hid_t file, const char *path, const char *name) MW_MUST_USE;
/* Creates a contiguous data set, allocated at once. `columns` 0: one dimension. `dtype_name`: its attribute dtype,
 * or NULL. */
mw_status h5_make_data(hid_t file, const char *path, const char *name, hid_t type, int64_t rows, int64_t columns,
                       const char *dtype_name) MW_MUST_USE;
/* Writes `count` rows from `begin`. With `comm` collective: ranks without rows pass count 0. */
mw_status h5_write_rows(hid_t file, const char *path, const char *name, hid_t type, int64_t begin, int64_t count,
                        int64_t columns, const void *data, const mw_comm *comm) MW_MUST_USE;
/* Reads `count` rows from `begin`. Local. */
mw_status h5_read_rows(hid_t file, const char *path, const char *name, hid_t type, int64_t begin, int64_t count,
                       int64_t columns, void *out) MW_MUST_USE;
/* Reads a whole data set, which must have `count` elements. */
mw_status h5_read_all(hid_t file, const char *path, const char *name, hid_t type, int64_t count, void *out) MW_MUST_USE;
/* Sets the dimensions of a data set; `columns` 0 for one dimension. */
mw_status h5_shape(hid_t file, const char *path, const char *name, int64_t *rows, int64_t *columns) MW_MUST_USE;
/* Returns whether a link of this name exists; its groups must exist. */
bool h5_have(hid_t file, const char *name);
/* Sets `out` to the offset in the file of a contiguous data set. */
mw_status h5_offset(hid_t file, const char *path, const char *name, uint64_t *out) MW_MUST_USE;

/* Write and read attributes; h5_put_text splits texts over 60000 bytes. Caller frees a read text. */
mw_status h5_put_text(hid_t object, const char *path, const char *key, const char *value) MW_MUST_USE;
mw_status h5_get_text(hid_t object, const char *path, const char *key, char **out) MW_MUST_USE;
/* Creates or replaces. */
mw_status h5_put_int(hid_t file, const char *path, const char *key, int64_t value) MW_MUST_USE;
mw_status h5_get_int(hid_t file, const char *path, const char *key, int64_t *out) MW_MUST_USE;

#endif
