#include "store/h5_file.h"

#include <mpi.h>
#include <string.h>

static herr_t keep_reason(unsigned depth, const H5E_error2_t *entry, void *into) {
    (void)depth;
    if (entry->desc && entry->desc[0]) *(const char **)into = entry->desc;
    return 0;
}

mw_status h5_error(const char *path, const char *what) {
    const char *reason = NULL;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_reason, &reason);
    mw_status status = mw_error(MW_ERR_IO, "%s: %s%s%s", path, what, reason ? ": " : "", reason ? reason : "");
    H5Eclear2(H5E_DEFAULT);
    return status;
}

/* File access: MPI-IO for a communicator, plain reads and writes for a process alone. */
static hid_t access_list(const mw_comm *comm) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    MPI_Comm *native = comm ? mw_comm_native(comm) : NULL;
    if (list >= 0 && native && H5Pset_fapl_mpio(list, *native, MPI_INFO_NULL) < 0) {
        H5Pclose(list);
        return -1;
    }
    return list;
}

mw_status h5_create(const char *path, const mw_comm *comm, hid_t *out) {
    hid_t access = access_list(comm);
    hid_t file = access < 0 ? -1 : H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (access >= 0) H5Pclose(access);
    if (file < 0) return h5_error(path, "cannot be created");
    *out = file;
    return MW_OK;
}

mw_status h5_open(const char *path, const mw_comm *comm, bool write, hid_t *out) {
    hid_t access = access_list(comm);
    hid_t file = access < 0 ? -1 : H5Fopen(path, write ? H5F_ACC_RDWR : H5F_ACC_RDONLY, access);
    if (access >= 0) H5Pclose(access);
    if (file < 0) return h5_error(path, "cannot be opened as HDF5");
    *out = file;
    return MW_OK;
}

mw_status h5_make_group(hid_t file, const char *path, const char *name) {
    hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0) return h5_error(path, name);
    H5Gclose(group);
    return MW_OK;
}

mw_status h5_make_data(hid_t file, const char *path, const char *name, hid_t type, int64_t rows, int64_t columns,
                       const char *dtype_name) {
    hsize_t dims[2] = {(hsize_t)rows, (hsize_t)columns};
    hid_t space = H5Screate_simple(columns ? 2 : 1, dims, NULL), how = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(how, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(how, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(how, 0); /* the same bytes whenever it is written */
    hid_t data = H5Dcreate2(file, name, type, space, H5P_DEFAULT, how, H5P_DEFAULT);
    mw_status status = data < 0 ? h5_error(path, name) : MW_OK;
    if (status == MW_OK && dtype_name) status = h5_put_text(data, path, "dtype", dtype_name);
    if (data >= 0) H5Dclose(data);
    H5Pclose(how);
    H5Sclose(space);
    return status;
}

mw_status h5_write_rows(hid_t file, const char *path, const char *name, hid_t type, int64_t begin, int64_t count,
                        int64_t columns, const void *data, const mw_comm *comm) {
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return h5_error(path, name);
    int rank = columns ? 2 : 1;
    hsize_t start[2] = {(hsize_t)begin, 0}, size[2] = {(hsize_t)count, (hsize_t)columns};
    hid_t in_file = H5Dget_space(set), in_memory = H5Screate_simple(rank, size, NULL);
    hid_t transfer = H5Pcreate(H5P_DATASET_XFER);
    if (comm && mw_comm_native(comm)) H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE);
    if (count > 0) {
        H5Sselect_hyperslab(in_file, H5S_SELECT_SET, start, NULL, size, NULL);
    } else {
        H5Sselect_none(in_file);
        H5Sselect_none(in_memory);
    }
    static const char nothing[8] = "";
    bool failed = H5Dwrite(set, type, in_memory, in_file, transfer, count > 0 ? data : nothing) < 0;
    mw_status status = failed ? h5_error(path, "write failed") : MW_OK;
    H5Pclose(transfer);
    H5Sclose(in_memory);
    H5Sclose(in_file);
    H5Dclose(set);
    return status;
}

mw_status h5_shape(hid_t file, const char *path, const char *name, int64_t *rows, int64_t *columns) {
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return mw_error(MW_ERR_FORMAT, "%s: data set '%s' is missing", path, name);
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
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return h5_error(path, name);
    bool failed = H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0;
    H5Dclose(set);
    return failed ? h5_error(path, name) : MW_OK;
}

mw_status h5_place(hid_t file, const char *path, const char *name, uint64_t *out) {
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return mw_error(MW_ERR_FORMAT, "%s: data set '%s' is missing", path, name);
    haddr_t place = H5Dget_offset(set);
    hsize_t stored = H5Dget_storage_size(set);
    H5Dclose(set);
    if (place == HADDR_UNDEF && stored > 0)
        return mw_error(MW_ERR_FORMAT, "%s: data set '%s' is not contiguous", path, name);
    *out = place == HADDR_UNDEF ? 0 : (uint64_t)place;
    return MW_OK;
}

mw_status h5_put_text(hid_t object, const char *path, const char *key, const char *value) {
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(value) + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    hid_t attribute = H5Acreate2(object, key, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool failed = attribute < 0 || H5Awrite(attribute, type, value) < 0;
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
    return failed ? h5_error(path, key) : MW_OK;
}

mw_status h5_get_text(hid_t object, const char *path, const char *key, char **out) {
    hid_t attribute = H5Aexists(object, key) > 0 ? H5Aopen(object, key, H5P_DEFAULT) : -1;
    if (attribute < 0) return mw_error(MW_ERR_FORMAT, "%s: attribute '%s' is missing", path, key);
    hid_t type = H5Aget_type(attribute);
    bool fixed = H5Tget_class(type) == H5T_STRING && !H5Tis_variable_str(type);
    size_t size = fixed ? H5Tget_size(type) : 0;
    char *text = fixed ? mw_calloc(size + 1, 1) : NULL;
    bool failed = !text || H5Aread(attribute, type, text) < 0;
    H5Tclose(type);
    H5Aclose(attribute);
    if (failed) {
        mw_free(text);
        return mw_error(MW_ERR_FORMAT, "%s: attribute '%s' is not a fixed-length text", path, key);
    }
    *out = text;
    return MW_OK;
}

mw_status h5_put_int(hid_t file, const char *path, const char *key, int64_t value) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Aexists(file, key) > 0 ? H5Aopen(file, key, H5P_DEFAULT)
                                               : H5Acreate2(file, key, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    bool failed = attribute < 0 || H5Awrite(attribute, H5T_NATIVE_INT64, &value) < 0;
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    return failed ? h5_error(path, key) : MW_OK;
}

mw_status h5_get_int(hid_t file, const char *path, const char *key, int64_t *out) {
    hid_t attribute = H5Aexists(file, key) > 0 ? H5Aopen(file, key, H5P_DEFAULT) : -1;
    if (attribute < 0) return mw_error(MW_ERR_FORMAT, "%s: attribute '%s' is missing", path, key);
    bool failed = H5Aread(attribute, H5T_NATIVE_INT64, out) < 0;
    H5Aclose(attribute);
    return failed ? h5_error(path, key) : MW_OK;
}
