/* Small stores for tests and benches: a layout with generated tokens, and a writer. */
#ifndef MICROW_TEST_STORE_H
#define MICROW_TEST_STORE_H

#include "microw/store.h"
#include "test.h"

/* Every sequence of `length` rows is a document; every token is 0. */
typedef struct test_store_shape {
    const mw_site *sites;  /* [n_sites] */
    const int64_t *widths; /* [n_sites] */
    int64_t n_sites, rows, length, block;
    const uint32_t
        *zeros; /* [rows] or NULL: ids, sequences and positions of a single sequence, without further memory */
} test_store_shape;

typedef struct test_store {
    mw_store_layout layout;              /* f32; a test may replace any field before it writes */
    uint32_t *ids, *sequence, *position; /* [rows]; NULL with `zeros` */
    uint64_t *document, *offset, *length, *document_row, *block_row;
    mw_document_span *documents;
} test_store;

static inline void test_store_fill_rows(test_store *s, int64_t rows, int64_t length) {
    s->ids = mw_calloc((size_t)rows, sizeof *s->ids);
    s->sequence = mw_alloc((size_t)rows * sizeof *s->sequence);
    s->position = mw_alloc((size_t)rows * sizeof *s->position);
    NEED(s->ids && s->sequence && s->position);
    for (int64_t r = 0; r < rows; r++) {
        s->sequence[r] = (uint32_t)(r / length);
        s->position[r] = (uint32_t)(r % length);
    }
}

/* Makes a layout; `shape` must outlive it, test_store_free frees. */
static inline test_store test_store_make(const test_store_shape *shape) {
    static const uint64_t vocabulary[] = {0, 1};
    int64_t rows = shape->rows, length = shape->length, block = shape->block;
    int64_t n = (rows + length - 1) / length, n_blocks = (rows + block - 1) / block;
    test_store s = {.document = mw_alloc((size_t)n * sizeof *s.document),
                    .offset = mw_alloc((size_t)n * sizeof *s.offset),
                    .length = mw_alloc((size_t)n * sizeof *s.length),
                    .document_row = mw_alloc((size_t)(n + 1) * sizeof *s.document_row),
                    .block_row = mw_alloc((size_t)(n_blocks + 1) * sizeof *s.block_row),
                    .documents = mw_calloc((size_t)n, sizeof *s.documents)};
    NEED(s.document && s.offset && s.length && s.document_row && s.block_row && s.documents);
    for (int64_t i = 0; i <= n; i++) s.document_row[i] = (uint64_t)(i * length < rows ? i * length : rows);
    for (int64_t i = 0; i <= n_blocks; i++) s.block_row[i] = (uint64_t)(i * block < rows ? i * block : rows);
    for (int64_t i = 0; i < n; i++) {
        s.document[i] = (uint64_t)i;
        s.offset[i] = s.document_row[i];
        s.length[i] = s.document_row[i + 1] - s.document_row[i];
    }
    if (!shape->zeros) test_store_fill_rows(&s, rows, length);
    s.layout = (mw_store_layout){.n_rows = rows,
                                 .n_sequences = n,
                                 .n_blocks = n_blocks,
                                 .n_sites = shape->n_sites,
                                 .ids = shape->zeros ? shape->zeros : s.ids,
                                 .sequence = shape->zeros ? shape->zeros : s.sequence,
                                 .position = shape->zeros ? shape->zeros : s.position,
                                 .document = s.document,
                                 .offset = s.offset,
                                 .length = s.length,
                                 .documents = s.documents,
                                 .document_row = s.document_row,
                                 .n_documents = n,
                                 .block_row = s.block_row,
                                 .sites = shape->sites,
                                 .widths = shape->widths,
                                 .dtype = MW_F32,
                                 .vocabulary_offset = vocabulary,
                                 .vocabulary_bytes = "x",
                                 .n_vocabulary = 1};
    return s;
}

static inline void test_store_free(test_store *s) {
    void *all[] = {s->ids,    s->sequence,     s->position,  s->document, s->offset,
                   s->length, s->document_row, s->block_row, s->documents};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *s = (test_store){0};
}

/* Writes `folder`/activations.h5 from values[site]: [rows, width] in the stored type. For a communicator of one
 * rank. */
static inline void test_store_save(const mw_store_layout *layout, const char *folder, const void *const *values,
                                   const mw_comm *comm) {
    enum { SITES = 8 };
    mw_store_writer *writer = NULL;
    int64_t first = 0;
    NEED(layout->n_sites <= SITES);
    NEED_OK(mw_store_writer_open(folder, layout, comm, &writer, &first));
    for (int64_t b = 0; b < layout->n_blocks; b++) {
        const void *block[SITES];
        for (int64_t i = 0; i < layout->n_sites; i++) {
            size_t row = (size_t)layout->widths[i] * mw_dtype_size(layout->dtype);
            block[i] = (const char *)values[i] + layout->block_row[b] * row;
        }
        NEED_OK(mw_store_write_blocks(writer, b, block, b + 1, MW_OK));
    }
    NEED_OK(mw_store_writer_finish(writer));
    mw_store_writer_free(&writer);
}

/* Writes rows [n, width] as f32 of one site, in blocks of `block` rows; each row is a sequence and a document. Stores
 * non-finite values. */
static inline void test_store_write(const char *folder, mw_site site, const float *rows, int64_t n, int64_t width,
                                    int64_t block, const mw_comm *comm) {
    test_store s = test_store_make(&(test_store_shape){&site, &width, 1, n, 1, block, NULL});
    static const mw_pair model = {"model_sha256", "of a test"}; /* as harvests have, so that stores can be merged */
    s.layout.keep_nan = true;
    s.layout.provenance = &model;
    s.layout.n_provenance = 1;
    test_store_save(&s.layout, folder, (const void *const[]){rows}, comm);
    test_store_free(&s);
}

#endif
