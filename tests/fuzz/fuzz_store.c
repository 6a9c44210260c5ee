/* Fuzzes stores: edits of a valid HDF5 file. */
#include "hdf5_edits.h"
#include "../store.h"

#include <hdf5.h>

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
                                   "/blocks",
                                   "/documents/row"};
static const char *const keys[] = {"schema", "complete", "fingerprint", "model", "dtype"};
static const hdf5_schema schema = {sets, sizeof sets / sizeof *sets, keys, sizeof keys / sizeof *keys};

static void write_good(void) {
    static const uint32_t ids[ROWS] = {0, 1, 2, 2, 1, 0};
    static const uint64_t document_row[] = {0, 2, 2, 6}, document[SEQUENCES] = {0, 2},
                          vocabulary_offset[VOCAB + 1] = {0, 1, 2, 3};
    static const mw_document_span documents[] = {{0, 0, 10}, {0, 10, 0}, {0, 10, 10}};
    static const mw_site sites[] = {{0, MW_EMBED}, {1, MW_RESID_POST}};
    static const int64_t widths[] = {WIDTH, WIDTH};
    static const mw_pair provenance[] = {{"fingerprint", "abc"}, {"model", "none"}};
    test_store s = test_store_make(&(test_store_shape){sites, widths, 2, ROWS, ROWS / SEQUENCES, ROWS / 2, NULL});
    float x[ROWS * WIDTH];
    mw_comm *comm = NULL;
    for (int i = 0; i < ROWS * WIDTH; i++) x[i] = (float)(i % (ROWS / 2 * WIDTH));
    s.layout.ids = ids;
    s.layout.document = document;
    s.layout.documents = documents;
    s.layout.document_row = document_row;
    s.layout.n_documents = 3; /* one is empty */
    s.layout.vocabulary_offset = vocabulary_offset;
    s.layout.vocabulary_bytes = "abc";
    s.layout.n_vocabulary = VOCAB;
    s.layout.provenance = provenance;
    s.layout.n_provenance = 2;
    fuzz_need(mw_comm_self(&comm) == MW_OK, "no communicator");
    test_store_save(&s.layout, fuzz_path("good"), (const void *const[]){x, x}, comm);
    test_store_free(&s);
    mw_comm_free(&comm);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    write_good();
    return 0;
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

static void check_tokens(const mw_store_tokens *t) {
    for (int64_t i = 0; i < t->n_rows; i++) {
        mw_store_span span = mw_store_span_of(t, i);
        fuzz_need(t->ids[i] < t->n_vocabulary && t->sequence[i] < t->n_sequences, "a token out of range");
        fuzz_need(span.begin <= i && i < span.end && span.document < t->n_documents, "a row outside its span");
    }
}

static void use(const mw_store *store) {
    mw_store_tokens tokens = {0};
    mw_store_data_files sources;
    uint64_t *row = NULL;
    int64_t n_blocks = 0;
    char *value = NULL;
    for (int64_t i = 0; i < mw_store_site_count(store); i++) read_site(store, mw_store_site_at(store, i));
    if (mw_store_read_tokens(store, &tokens) == MW_OK) {
        check_tokens(&tokens);
        if (mw_store_read_data_files(store, &tokens, &sources) == MW_OK) mw_store_data_files_free(&sources);
    }
    mw_store_tokens_free(&tokens);
    if (mw_store_blocks(store, &n_blocks, &row) == MW_OK) mw_free(row);
    mw_status verdict = mw_store_verify(store);
    if (mw_store_provenance(store, "fingerprint", &value) == MW_OK) mw_free(value);
    (void)verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_copy(fuzz_path("good/activations.h5"), "store.h5");
    hdf5_edit(fuzz_path("store.h5"), &schema, data, size);
    fuzz_begin();
    mw_store *store = NULL;
    if (mw_store_open(fuzz_path("store.h5"), &store) == MW_OK) use(store);
    mw_store_close(&store);
    fuzz_end();
    return 0;
}
