/* The input is a list of edits of a good store, made through HDF5 itself: data sets removed or made anew with other
 * types, shapes and contents, single values and attributes changed, the end cut off. So what is tried is our own
 * reading of a valid HDF5 file that does not hold what it should; damaged bytes of the container are the library's own
 * business. */
#include "fuzz.h"
#include "microw/store.h"

#include <hdf5.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 6, SEQUENCES = 2, VOCAB = 3, WIDTH = 4 };

static const char *const sets[] = {"/tokens/ids",
                                   "/tokens/sequence",
                                   "/tokens/position",
                                   "/sequences/document",
                                   "/sequences/offset",
                                   "/sequences/length",
                                   "/documents/place",
                                   "/blocks/row",
                                   "/vocabulary/offset",
                                   "/vocabulary/bytes",
                                   "/sites/0.embed/values",
                                   "/sites/0.embed/mean",
                                   "/sites/0.embed/norm_mean",
                                   "/sites/0.embed/square_mean",
                                   "/sites/0.embed/block_sum",
                                   "/sites/0.embed/checksum",
                                   "/sites/1.resid_post/values",
                                   "/sites/1.resid_post/checksum",
                                   "/sites/9.bogus/values",
                                   "/sites/0.embed",
                                   "/sites",
                                   "/blocks"};
enum { SETS = sizeof sets / sizeof *sets };

static void write_good(void) {
    static const uint32_t ids[ROWS] = {0, 1, 2, 2, 1, 0}, sequence[ROWS] = {0, 0, 0, 1, 1, 1},
                          position[ROWS] = {0, 1, 2, 0, 1, 2};
    static const uint64_t document[SEQUENCES] = {0, 0}, offset[SEQUENCES] = {0, 3}, length[SEQUENCES] = {3, 3},
                          block_row[] = {0, 3, 6}, vocabulary_offset[VOCAB + 1] = {0, 1, 2, 3};
    static const mw_document_place documents[] = {{0, 0, 10}};
    static const mw_site sites[] = {{0, MW_EMBED}, {1, MW_RESID_POST}};
    static const int64_t widths[] = {WIDTH, WIDTH};
    static const mw_pair provenance[] = {{"fingerprint", "abc"}, {"model", "none"}};
    const mw_store_plan plan = {.n_rows = ROWS,
                                .n_sequences = SEQUENCES,
                                .n_blocks = 2,
                                .n_sites = 2,
                                .ids = ids,
                                .sequence = sequence,
                                .position = position,
                                .document = document,
                                .offset = offset,
                                .length = length,
                                .documents = documents,
                                .n_documents = 1,
                                .block_row = block_row,
                                .sites = sites,
                                .widths = widths,
                                .dtype = MW_F32,
                                .vocabulary_offset = vocabulary_offset,
                                .vocabulary_bytes = "abc",
                                .n_vocabulary = VOCAB,
                                .provenance = provenance,
                                .n_provenance = 2};
    float x[3 * WIDTH];
    const float *values[] = {x, x};
    mw_comm *comm = NULL;
    mw_store_writer *writer = NULL;
    int64_t first = 0;
    for (int i = 0; i < 3 * WIDTH; i++) x[i] = (float)i;
    fuzz_need(mw_comm_self(&comm) == MW_OK, "no communicator");
    fuzz_need(mw_store_writer_open(fuzz_path("good"), &plan, comm, &writer, &first) == MW_OK, "no writer");
    for (int64_t block = 0; block < 2; block++)
        fuzz_need(mw_store_write_blocks(writer, block, values, block + 1, MW_OK) == MW_OK, "not written");
    fuzz_need(mw_store_writer_finish(writer) == MW_OK, "not finished");
    mw_store_writer_free(&writer);
    mw_comm_free(&comm);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    write_good();
    return 0;
}

/* ---- edits --------------------------------------------------------------------------------------------- */

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

static void remake(hid_t file, bytes *b, hid_t *text) {
    const char *name = sets[next(b) % SETS];
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

static void change_value(hid_t file, bytes *b) {
    hid_t set = H5Dopen2(file, sets[next(b) % SETS], H5P_DEFAULT);
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

static void change_attribute(hid_t file, bytes *b, hid_t *text) {
    static const char *const keys[] = {"schema", "complete", "fingerprint", "model", "dtype"};
    static const char *const words[] = {"f32", "bf16", "f16", "", "a longer text than before"};
    const char *key = keys[next(b) % 5], *word = words[next(b) % 5], *set = sets[next(b) % SETS];
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

static void edit(const char *path, bytes *b, uint64_t *cut) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), text = H5Tcopy(H5T_C_S1);
    fuzz_need(file >= 0, "the copy does not open");
    H5Tset_size(text, 32);
    for (int i = 0; i < 8 && b->at < b->end; i++) {
        switch (next(b) % 5) {
        case 0:
            H5Ldelete(file, sets[next(b) % SETS], H5P_DEFAULT);
            break;
        case 1:
            remake(file, b, &text);
            break;
        case 2:
            change_value(file, b);
            break;
        case 3:
            change_attribute(file, b, &text);
            break;
        default:
            *cut = number(b) % 4096;
        }
    }
    H5Tclose(text);
    H5Fclose(file);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static void read_site(const mw_store *store, const mw_store_site *s) {
    int64_t rows[] = {0, mw_store_rows(store) - 1, mw_store_rows(store)};
    if (s->width > 4096 || mw_store_rows(store) > 4096) return;
    float *x = mw_alloc((size_t)(3 * s->width) * sizeof *x);
    double *mean = mw_alloc((size_t)s->width * sizeof *mean);
    mw_status status = x && mean ? mw_store_read_rows(store, s, rows, 2, x) : MW_ERR_MEMORY;
    status = x && mean ? mw_store_read_rows(store, s, rows, 3, x) : status;
    fuzz_need(status != MW_OK, "a row that is not there was read");
    status = mean ? mw_store_read_mean(store, s, mean) : status;
    mw_free(x);
    mw_free(mean);
}

static void use(const mw_store *store) {
    mw_store_tokens tokens = {0};
    uint64_t *row = NULL;
    int64_t n_blocks = 0;
    char *value = NULL;
    for (int64_t i = 0; i < mw_store_site_count(store); i++) read_site(store, mw_store_site_at(store, i));
    if (mw_store_read_tokens(store, &tokens) == MW_OK)
        for (int64_t i = 0; i < tokens.n_rows; i++)
            fuzz_need(tokens.ids[i] < tokens.n_vocabulary && tokens.sequence[i] < tokens.n_sequences,
                      "a token out of range");
    mw_store_tokens_free(&tokens);
    if (mw_store_blocks(store, &n_blocks, &row) == MW_OK) mw_free(row);
    mw_status verdict = mw_store_verify(store);
    if (mw_store_provenance(store, "fingerprint", &value) == MW_OK) mw_free(value);
    (void)verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bytes b = {data, data + size};
    uint64_t cut = 0, length = 0;
    fuzz_copy(fuzz_path("good/activations.h5"), "store.h5");
    edit(fuzz_path("store.h5"), &b, &cut);
    fuzz_need(mw_file_size(fuzz_path("store.h5"), &length) == MW_OK, "no size");
    if (cut) fuzz_need(truncate(fuzz_path("store.h5"), (off_t)(length - cut % length)) == 0, "not cut");
    fuzz_begin();
    mw_store *store = NULL;
    if (mw_store_open(fuzz_path("store.h5"), &store) == MW_OK) use(store);
    mw_store_close(&store);
    fuzz_end();
    return 0;
}
