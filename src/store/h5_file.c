/* HDF5 files: errors, opening, data sets and attributes. */
#include "store/h5_file.h"

#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- errors -------------------------------------------------------------------------------------------- */

/* HDF5 1.10 refuses independent reads of 2^31 bytes at once by MPI-IO. */
enum { READ_BYTES = 1 << 28, REASON_TEXT = 512 };

static herr_t keep_reason(unsigned depth, const H5E_error2_t *entry, void *into) {
    (void)depth;
    if (entry->desc && entry->desc[0]) snprintf(into, REASON_TEXT, "%s", entry->desc);
    return 0;
}

/* Shortens a reason to the operating system's message, which HDF5 quotes among descriptors, times and addresses. */
static void shorten(char *reason) {
    static const char mark[] = "error message = '";
    char *quoted = strstr(reason, mark), *end = quoted ? strchr(quoted + strlen(mark), '\'') : NULL;
    if (!end) return;
    *end = '\0';
    memmove(reason, quoted + strlen(mark), strlen(quoted + strlen(mark)) + 1);
}

/* Moves HDF5's innermost reason of the last failure to `out`; "": none. */
static void take_reason(char out[REASON_TEXT]) {
    out[0] = '\0';
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_reason, out);
    H5Eclear2(H5E_DEFAULT);
}

mw_status h5_error(mw_status status, const char *path, const char *fmt, ...) {
    char reason[REASON_TEXT], what[REASON_TEXT];
    take_reason(reason);
    shorten(reason);
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return mw_error(status, "%s: %s%s%s", path, what, reason[0] ? ": " : "", reason);
}

/* ---- files --------------------------------------------------------------------------------------------- */

/* File access: MPI-IO for a communicator, plain reads and writes for a process alone. Without a sieve buffer rows
 * are written at once, so that a failure is reported by the write and not by a later close. Closing a file closes
 * its open objects. */
static hid_t access_list(const mw_comm *comm) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    MPI_Comm *native = comm ? mw_comm_mpi_handle(comm) : NULL;
    bool good = list >= 0 && H5Pset_sieve_buf_size(list, 0) >= 0 && H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) >= 0 &&
                (!native || H5Pset_fapl_mpio(list, *native, MPI_INFO_NULL) >= 0);
    if (good || list < 0) return list;
    H5Pclose(list);
    return -1;
}

mw_status h5_create(const char *path, const mw_comm *comm, hid_t *out) {
    hid_t access = access_list(comm);
    hid_t file = access < 0 ? -1 : H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    mw_status status = file < 0 ? h5_error(MW_ERR_IO, path, "cannot be created") : MW_OK;
    if (access >= 0) H5Pclose(access);
    if (status == MW_OK) *out = file;
    return status;
}

/* Logs why a file cannot be opened; a file that another process has locked is not reported as damaged. */
static mw_status refuse_open(const char *path) {
    char reason[REASON_TEXT];
    take_reason(reason);
    bool lock = strstr(reason, "lock file") != NULL, held = strstr(reason, strerror(EWOULDBLOCK)) != NULL;
    shorten(reason);
    if (strstr(reason, "already open for"))
        return mw_error(MW_ERR_STATE,
                        "%s: another process has it open for writing, or did not close it: %s; the file need not be "
                        "damaged",
                        path, reason);
    if (lock && held)
        return mw_error(MW_ERR_STATE,
                        "%s: another process has it open and holds HDF5's lock on it; the file is likely whole: try "
                        "again when that process has closed it",
                        path);
    if (lock)
        return mw_error(MW_ERR_STATE,
                        "%s: cannot be locked on this file system (%s); HDF5_USE_FILE_LOCKING=FALSE in the "
                        "environment makes HDF5 skip its locks",
                        path, reason);
    return mw_error(MW_ERR_IO, "%s: cannot be opened as HDF5%s%s", path, reason[0] ? ": " : "", reason);
}

mw_status h5_open(const char *path, const mw_comm *comm, bool write, hid_t *out) {
    /* HDF5 crashes without memory. Only for a process alone: otherwise the other ranks would wait. */
    if (!comm) MW_TRY(mw_memory_room((size_t)32 << 20, "reading HDF5"));
    hid_t access = access_list(comm);
    hid_t file = access < 0 ? -1 : H5Fopen(path, write ? H5F_ACC_RDWR : H5F_ACC_RDONLY, access);
    mw_status status = file < 0 ? refuse_open(path) : MW_OK;
    if (access >= 0) H5Pclose(access);
    if (status == MW_OK) *out = file;
    return status;
}

mw_status h5_descriptor(hid_t file, const char *path, int *out) {
    void *handle = NULL;
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) < 0) return h5_error(MW_ERR_IO, path, "has no file descriptor");
    int fd = fcntl(*(const int *)handle, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return mw_error(MW_ERR_IO, "%s: %s", path, strerror(errno));
    *out = fd;
    return MW_OK;
}

/* Redirects unwritten data to memory: HDF5 1.10 keeps a file whose close fails, and crashes on it when MPI or the
 * program ends. */
static void drop_unwritten(hid_t file) {
    void *handle = NULL;
    int sink = memfd_create("microw", MFD_CLOEXEC);
    if (sink >= 0 && H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) >= 0) dup2(sink, *(const int *)handle);
    if (sink >= 0) close(sink);
}

mw_status h5_close(hid_t file, const char *path, mw_status status) {
    if (status == MW_OK && H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) status = h5_error(MW_ERR_IO, path, "write failed");
    if (status != MW_OK) drop_unwritten(file);
    if (H5Fclose(file) < 0 && status == MW_OK) status = h5_error(MW_ERR_IO, path, "cannot be closed");
    return status;
}

/* ---- data ---------------------------------------------------------------------------------------------- */

mw_status h5_make_group(hid_t file, const char *path, const char *name) {
    hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0) return h5_error(MW_ERR_IO, path, "cannot create group '%s'", name);
    H5Gclose(group);
    return MW_OK;
}

bool h5_have(hid_t file, const char *name) {
    return H5Lexists(file, name, H5P_DEFAULT) > 0;
}

mw_status h5_make_data(hid_t file, const char *path, const char *name, hid_t type, int64_t rows, int64_t columns,
                       const char *dtype_name) {
    hsize_t dims[2] = {(hsize_t)rows, (hsize_t)columns};
    hid_t space = H5Screate_simple(columns ? 2 : 1, dims, NULL), how = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(how, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(how, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(how, 0); /* no time stamps: files with equal contents have equal bytes */
    hid_t data = H5Dcreate2(file, name, type, space, H5P_DEFAULT, how, H5P_DEFAULT);
    mw_status status = data < 0 ? h5_error(MW_ERR_IO, path, "cannot create data set '%s'", name) : MW_OK;
    if (status == MW_OK && dtype_name) status = h5_put_text(data, path, "dtype", dtype_name);
    if (data >= 0) H5Dclose(data);
    H5Pclose(how);
    H5Sclose(space);
    return status;
}

static mw_status open_data(hid_t file, const char *path, const char *name, hid_t *out) {
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return h5_error(MW_ERR_FORMAT, path, "data set '%s' is missing", name);
    *out = set;
    return MW_OK;
}

/* Selections of rows begin .. begin + count in the file, and of as many rows in memory. */
typedef struct slab {
    hid_t in_file, in_memory;
} slab;

static slab select_rows(hid_t set, int64_t begin, int64_t count, int64_t columns) {
    hsize_t start[2] = {(hsize_t)begin, 0}, size[2] = {(hsize_t)count, (hsize_t)columns};
    slab s = {H5Dget_space(set), H5Screate_simple(columns ? 2 : 1, size, NULL)};
    if (count > 0) {
        H5Sselect_hyperslab(s.in_file, H5S_SELECT_SET, start, NULL, size, NULL);
    } else {
        H5Sselect_none(s.in_file);
        H5Sselect_none(s.in_memory);
    }
    return s;
}

static void free_slab(slab s) {
    H5Sclose(s.in_memory);
    H5Sclose(s.in_file);
}

mw_status h5_write_rows(hid_t file, const char *path, const char *name, hid_t type, int64_t begin, int64_t count,
                        int64_t columns, const void *data, const mw_comm *comm) {
    static const char nothing[8] = "";
    hid_t set = -1;
    MW_TRY(open_data(file, path, name, &set));
    slab s = select_rows(set, begin, count, columns);
    hid_t transfer = H5Pcreate(H5P_DATASET_XFER);
    if (comm && mw_comm_mpi_handle(comm)) H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE);
    mw_status status = MW_OK;
    if (H5Dwrite(set, type, s.in_memory, s.in_file, transfer, count > 0 ? data : nothing) < 0)
        status = h5_error(MW_ERR_IO, path, "write of '%s' failed", name);
    free_slab(s);
    H5Pclose(transfer);
    H5Dclose(set);
    return status;
}

mw_status h5_read_rows(hid_t file, const char *path, const char *name, hid_t type, int64_t begin, int64_t count,
                       int64_t columns, void *out) {
    hid_t set = -1;
    mw_status status = MW_OK;
    int64_t row = (int64_t)H5Tget_size(type) * (columns ? columns : 1), most = READ_BYTES / row + 1;
    MW_TRY(open_data(file, path, name, &set));
    for (int64_t at = 0, n; at < count && status == MW_OK; at += n) {
        n = count - at < most ? count - at : most;
        slab s = select_rows(set, begin + at, n, columns);
        if (H5Dread(set, type, s.in_memory, s.in_file, H5P_DEFAULT, (char *)out + at * row) < 0)
            status = h5_error(MW_ERR_IO, path, "'%s' cannot be read", name);
        free_slab(s);
    }
    H5Dclose(set);
    return status;
}

mw_status h5_shape(hid_t file, const char *path, const char *name, int64_t *rows, int64_t *columns) {
    hid_t set = -1;
    MW_TRY(open_data(file, path, name, &set));
    hid_t space = H5Dget_space(set);
    hsize_t dims[2] = {0, 0};
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank >= 1 && rank <= 2) H5Sget_simple_extent_dims(space, dims, NULL);
    H5Sclose(space);
    H5Dclose(set);
    if (rank < 1 || rank > 2 || dims[0] > (hsize_t)1 << 56 || dims[1] > (hsize_t)1 << 40)
        return mw_error(MW_ERR_FORMAT, "%s: data set '%s' has an impossible shape", path, name);
    *rows = (int64_t)dims[0];
    *columns = (int64_t)dims[1];
    return MW_OK;
}

mw_status h5_read_all(hid_t file, const char *path, const char *name, hid_t type, int64_t count, void *out) {
    int64_t rows = 0, columns = 0;
    MW_TRY(h5_shape(file, path, name, &rows, &columns));
    if (rows * (columns ? columns : 1) != count)
        return mw_error(MW_ERR_FORMAT, "%s: data set '%s' has shape [%lld, %lld], expected %lld elements", path, name,
                        (long long)rows, (long long)columns, (long long)count);
    return h5_read_rows(file, path, name, type, 0, rows, columns, out);
}

mw_status h5_offset(hid_t file, const char *path, const char *name, uint64_t *out) {
    hid_t set = -1;
    MW_TRY(open_data(file, path, name, &set));
    haddr_t offset = H5Dget_offset(set);
    hsize_t stored = H5Dget_storage_size(set);
    H5Dclose(set);
    if (offset == HADDR_UNDEF && stored > 0)
        return mw_error(MW_ERR_FORMAT, "%s: data set '%s' is not contiguous", path, name);
    *out = offset == HADDR_UNDEF ? 0 : (uint64_t)offset;
    return MW_OK;
}

/* ---- attributes ---------------------------------------------------------------------------------------- */

enum { PIECE_BYTES = 60000, PIECE_NAME = 128 };

static mw_status put_piece(hid_t object, const char *path, const char *key, const char *value, size_t length) {
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, length + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    mw_status status = MW_OK;
    char *piece = mw_strndup(value, length);
    hid_t attribute = piece ? H5Acreate2(object, key, type, space, H5P_DEFAULT, H5P_DEFAULT) : -1;
    if (attribute < 0 || H5Awrite(attribute, type, piece) < 0)
        status = h5_error(MW_ERR_IO, path, "attribute '%s' cannot be written", key);
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
    mw_free(piece);
    return status;
}

/* "dataset_sha256", then "dataset_sha256.1" and so on: HDF5 limits an attribute to 64 KiB. */
static void piece_name(const char *key, int number, char out[PIECE_NAME]) {
    if (number == 0)
        snprintf(out, PIECE_NAME, "%s", key);
    else
        snprintf(out, PIECE_NAME, "%.100s.%d", key, number);
}

mw_status h5_put_text(hid_t object, const char *path, const char *key, const char *value) {
    size_t left = strlen(value);
    char name[PIECE_NAME];
    for (int i = 0; i == 0 || left > 0; i++) {
        size_t length = left < PIECE_BYTES ? left : PIECE_BYTES;
        while (length < left && ((unsigned char)value[length] & 0xC0) == 0x80) length--; /* whole characters */
        piece_name(key, i, name);
        MW_TRY(put_piece(object, path, name, value, length));
        value += length;
        left -= length;
    }
    return MW_OK;
}

static mw_status open_attribute(hid_t object, const char *path, const char *key, hid_t *out) {
    hid_t attribute = H5Aexists(object, key) > 0 ? H5Aopen(object, key, H5P_DEFAULT) : -1;
    if (attribute < 0) return h5_error(MW_ERR_FORMAT, path, "attribute '%s' is missing", key);
    *out = attribute;
    return MW_OK;
}

static mw_status read_text(hid_t attribute, const char *path, const char *key, hid_t type, char **out) {
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type))
        return mw_error(MW_ERR_FORMAT, "%s: attribute '%s' is not a fixed-length text", path, key);
    char *text = mw_calloc(H5Tget_size(type) + 1, 1);
    if (!text) return MW_ERR_MEMORY;
    if (H5Aread(attribute, type, text) < 0) {
        mw_free(text);
        return h5_error(MW_ERR_FORMAT, path, "attribute '%s' cannot be read", key);
    }
    *out = text;
    return MW_OK;
}

static mw_status get_piece(hid_t object, const char *path, const char *key, char **out) {
    hid_t attribute = -1;
    MW_TRY(open_attribute(object, path, key, &attribute));
    hid_t type = H5Aget_type(attribute);
    mw_status status = read_text(attribute, path, key, type, out);
    H5Tclose(type);
    H5Aclose(attribute);
    return status;
}

mw_status h5_get_text(hid_t object, const char *path, const char *key, char **out) {
    mw_text all = {0};
    char name[PIECE_NAME];
    mw_status status = MW_OK;
    for (int i = 0; status == MW_OK; i++) {
        char *piece = NULL;
        piece_name(key, i, name);
        if (i > 0 && H5Aexists(object, name) <= 0) break;
        status = get_piece(object, path, name, &piece);
        if (status == MW_OK) mw_text_addf(&all, "%s", piece);
        mw_free(piece);
    }
    mw_text_add(&all, "", 0);
    if (status == MW_OK && (all.failed || !all.data)) status = MW_ERR_MEMORY;
    if (status != MW_OK)
        mw_text_free(&all);
    else
        *out = all.data;
    return status;
}

mw_status h5_put_int(hid_t file, const char *path, const char *key, int64_t value) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Aexists(file, key) > 0 ? H5Aopen(file, key, H5P_DEFAULT)
                                               : H5Acreate2(file, key, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    mw_status status = MW_OK;
    if (attribute < 0 || H5Awrite(attribute, H5T_NATIVE_INT64, &value) < 0)
        status = h5_error(MW_ERR_IO, path, "attribute '%s' cannot be written", key);
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    return status;
}

mw_status h5_get_int(hid_t file, const char *path, const char *key, int64_t *out) {
    hid_t attribute = -1;
    MW_TRY(open_attribute(file, path, key, &attribute));
    mw_status status = MW_OK;
    if (H5Aread(attribute, H5T_NATIVE_INT64, out) < 0)
        status = h5_error(MW_ERR_FORMAT, path, "attribute '%s' cannot be read", key);
    H5Aclose(attribute);
    return status;
}
