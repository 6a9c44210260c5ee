/* A store of so many rows for tests: each row is a sequence and a document of its own. */
#ifndef MICROW_TEST_STORE_H
#define MICROW_TEST_STORE_H

#include "microw/store.h"
#include "test.h"

/* Writes rows [n, width] as f32 of one site into `folder`/activations.h5, in blocks of `block` rows. */
static inline void test_store_write(const char *folder, mw_site site, const float *rows, int64_t n, int64_t width,
                                    int64_t block, const mw_comm *comm) {
    int64_t n_blocks = (n + block - 1) / block, first = 0;
    size_t count = (size_t)n;
    uint32_t *ids = mw_calloc(count, sizeof *ids), *sequence = mw_alloc(count * sizeof *sequence),
             *position = mw_calloc(count, sizeof *position);
    uint64_t *document = mw_alloc(count * sizeof *document), *offset = mw_alloc(count * sizeof *offset),
             *length = mw_alloc(count * sizeof *length), *document_row = mw_alloc((count + 1) * sizeof *document_row),
             *block_row = mw_alloc((size_t)(n_blocks + 1) * sizeof *block_row);
    mw_document_span *documents = mw_calloc(count, sizeof *documents);
    const uint64_t vocabulary[] = {0, 1};
    NEED(ids && sequence && position && document && offset && length && document_row && block_row && documents);
    for (size_t i = 0; i < count; i++) {
        sequence[i] = (uint32_t)i;
        document[i] = offset[i] = document_row[i] = i;
        length[i] = 1;
    }
    document_row[n] = (uint64_t)n;
    for (int64_t b = 0; b <= n_blocks; b++) block_row[b] = (uint64_t)(b * block < n ? b * block : n);
    const mw_store_layout layout = {.n_rows = n,
                                    .n_sequences = n,
                                    .n_blocks = n_blocks,
                                    .n_sites = 1,
                                    .ids = ids,
                                    .sequence = sequence,
                                    .position = position,
                                    .document = document,
                                    .offset = offset,
                                    .length = length,
                                    .documents = documents,
                                    .document_row = document_row,
                                    .n_documents = n,
                                    .block_row = block_row,
                                    .sites = &site,
                                    .widths = &width,
                                    .dtype = MW_F32,
                                    .vocabulary_offset = vocabulary,
                                    .vocabulary_bytes = "x",
                                    .n_vocabulary = 1,
                                    .keep_nan = true};
    mw_store_writer *writer = NULL;
    NEED_OK(mw_store_writer_open(folder, &layout, comm, &writer, &first));
    for (int64_t b = 0; b < n_blocks; b++) {
        const void *values[] = {rows + b * block * width};
        NEED_OK(mw_store_write_blocks(writer, b, values, b + 1, MW_OK));
    }
    NEED_OK(mw_store_writer_finish(writer));
    mw_store_writer_free(&writer);
    void *all[] = {ids, sequence, position, document, offset, length, document_row, block_row, documents};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
}

#endif
