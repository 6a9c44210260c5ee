#include "hdf5_edits.h"

#include <hdf5.h>
#include <string.h>
#include <unistd.h>

typedef struct bytes {
    const uint8_t *at, *end;
} bytes;

static uint8_t next(bytes *b) {
    return b->at < b->end ? *b->at++ : 0;
}

/* Small numbers mostly, the largest ones too. */
static uint64_t number(bytes *b) {
    uint8_t kind = next(b), value = next(b);
    uint64_t shifted = kind < 8 ? (uint64_t)value << (8 * kind) : value;
    return kind & 128 ? 0 - shifted : shifted;
}

static hid_t type_of(uint8_t which, hid_t *text) {
    const hid_t all[] = {H5T_STD_U8LE,  H5T_STD_U16LE,  H5T_STD_U32LE,  H5T_STD_U64LE,
                         H5T_STD_I64LE, H5T_IEEE_F32LE, H5T_IEEE_F64LE, *text};
    return all[which % 8];
}

static const char *set_of(const hdf5_schema *s, bytes *b) {
    return s->sets[next(b) % s->n_sets];
}

static void remake(hid_t file, const hdf5_schema *s, bytes *b, hid_t *text) {
    const char *name = set_of(s, b);
    hid_t type = type_of(next(b), text);
    hsize_t dims[3] = {next(b) % 40u, next(b) % 10u, next(b) % 3u};
    int rank = next(b) % 4;
    uint8_t layout = next(b);
    static uint8_t content[40 * 10 * 3 * 32]; /* of the largest type */
    for (size_t i = 0; i < sizeof content; i++) content[i] = (uint8_t)(i % 8 ? 0 : i / 8 % 4);
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t space = rank ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR),
          how = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk[3] = {2, 2, 1};
    if (layout % 3 == 1 && rank) H5Pset_chunk(how, rank, chunk);
    if (layout % 3 == 2) H5Pset_layout(how, H5D_COMPACT);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, how, H5P_DEFAULT);
    if (set >= 0 && rank < 4 && layout & 64) H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, content);
    if (set >= 0) H5Dclose(set);
    H5Pclose(how);
    H5Sclose(space);
}

static void change_value(hid_t file, const hdf5_schema *s, bytes *b) {
    hid_t set = H5Dopen2(file, set_of(s, b), H5P_DEFAULT);
    hsize_t place = next(b) % 32u, dims[3] = {0, 0, 0};
    int64_t value = (int64_t)number(b);
    if (set < 0) return;
    hid_t space = H5Dget_space(set), one = H5Screate(H5S_SCALAR);
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank >= 1 && rank <= 3) H5Sget_simple_extent_dims(space, dims, NULL);
    hsize_t columns = rank >= 2 ? dims[1] : 1,
            at[3] = {columns ? place / columns : 0, columns ? place % columns : 0, 0};
    if (rank >= 1 && rank <= 2 && at[0] < dims[0] && (rank == 1 || at[1] < dims[1]) &&
        H5Sselect_elements(space, H5S_SELECT_SET, 1, at) >= 0)
        H5Dwrite(set, H5T_NATIVE_INT64, one, space, H5P_DEFAULT, &value);
    H5Sclose(one);
    H5Sclose(space);
    H5Dclose(set);
}

static void change_attribute(hid_t file, const hdf5_schema *s, bytes *b, hid_t *text) {
    static const char *const words[] = {"f32", "bf16", "f16", "", "a longer text than before"};
    const char *key = s->keys[next(b) % s->n_keys], *word = words[next(b) % 5], *set = set_of(s, b);
    int64_t value = (int64_t)number(b);
    bool as_text = next(b) % 2;
    hid_t object = strcmp(key, "dtype") == 0 ? H5Oopen(file, set, H5P_DEFAULT) : file;
    if (object < 0) return;
    H5Adelete(object, key);
    char padded[32] = "";
    memcpy(padded, word, strlen(word));
    hid_t space = H5Screate(H5S_SCALAR), type = as_text ? *text : H5T_NATIVE_INT64;
    hid_t made = H5Acreate2(object, key, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (made >= 0) {
        H5Awrite(made, type, as_text ? (const void *)padded : &value);
        H5Aclose(made);
    }
    H5Sclose(space);
    if (object != file) H5Oclose(object);
}

static void edit(const char *path, const hdf5_schema *s, bytes *b, uint64_t *cut) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), text = H5Tcopy(H5T_C_S1);
    fuzz_need(file >= 0, "the copy does not open");
    H5Tset_size(text, 32);
    for (int i = 0; i < 8 && b->at < b->end; i++) {
        switch (next(b) % 5) {
        case 0:
            H5Ldelete(file, set_of(s, b), H5P_DEFAULT);
            break;
        case 1:
            remake(file, s, b, &text);
            break;
        case 2:
            change_value(file, s, b);
            break;
        case 3:
            change_attribute(file, s, b, &text);
            break;
        default:
            *cut = number(b) % 4096;
        }
    }
    H5Tclose(text);
    H5Fclose(file);
}

void hdf5_edit(const char *path, const hdf5_schema *s, const uint8_t *data, size_t size) {
    bytes b = {data, data + size};
    uint64_t cut = 0, length = 0;
    edit(path, s, &b, &cut);
    fuzz_need(mw_file_size(path, &length) == MW_OK, "no size");
    if (cut) fuzz_need(truncate(path, (off_t)(length - cut % length)) == 0, "not cut");
}
