/* microw/store.h: activations in one HDF5 file, written by all ranks, read by any number of processes.
 *
 *     mw_store *store = NULL;
 *     mw_store_site site;
 *     MW_TRY(mw_store_open("store/activations/run/activations.h5", &store));
 *     MW_TRY(mw_store_find(store, "8.resid_post", &site));
 *     MW_TRY(mw_store_read_rows(store, &site, rows, 4096, x));     // x: [4096, site.width] f32
 *     mw_store_close(&store);
 *
 * Layout (schema 2): /tokens/{ids,sequence,position} [N] u32; /sequences/{document,offset,length} [S] u64: document of
 * the first token, first row, number of rows; /documents/place [D, 3] i64: file, offset and length in bytes;
 * /documents/row [D+1] u64: first row of each document; /vocabulary/{offset [V+1] u64, bytes u8}; /blocks/row [B+1]
 * u64: first row of each block; per site /sites/<layer>.<stream>/{values [N, width], mean [width] f64, norm_mean,
 * square_mean f64, block_sum [B, width] f64, block_norm [B, 2] f64, checksum [B] u64}. bf16 is stored as u16 with the
 * attribute dtype = "bf16". Root attributes: schema, complete, and the provenance of the layout. Rows are in the
 * dataset's order; nothing in the file depends on the number of ranks that wrote it.
 *
 * Row r belongs to the document d with row[d] <= r < row[d + 1]: in numpy, searchsorted(f["documents/row"][:], r,
 * side="right") - 1. Packed sequences contain several documents, and a long document continues in the next sequence. A
 * bos token belongs to the document after it, also at the start of a sequence within a document; an eos token to the
 * document that it ends. Files of schema 1 have no /documents/row: all rows of a sequence are then assigned to its
 * first document.
 *
 * The data sets are contiguous and allocated when the file is created: a reader reads rows at any offset directly from
 * the file, and a killed writer leaves a file whose complete blocks are valid.
 *
 * Functions are local unless a comment says collective. They log errors and return MW_ERR_IO for failed reads and
 * writes, MW_ERR_FORMAT for files that contradict this layout, MW_ERR_ARG for rows out of range and MW_ERR_MEMORY. */
#ifndef MICROW_STORE_H
#define MICROW_STORE_H

#include "microw/comm.h"
#include "microw/dataset.h"
#include "microw/hooks.h"
#include "microw/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MW_STORE_SCHEMA = 2 }; /* of written files; schema 1 is read too */

/* Borrowed texts. */
typedef struct mw_pair {
    const char *key, *value;
} mw_pair;

/* ---- writing ------------------------------------------------------------------------------------------ */

/* The contents of a store except the activations, and options for writing. The caller owns the arrays, which must
 * outlive the writer. */
typedef struct mw_store_layout {
    int64_t n_rows, n_sequences, n_blocks, n_sites;
    const uint32_t *ids, *sequence, *position;  /* [n_rows] */
    const uint64_t *document, *offset, *length; /* [n_sequences]: document, first row, number of rows */
    const mw_document_span *documents;          /* [n_documents] */
    const uint64_t *document_row;               /* [n_documents + 1]: first rows */
    int64_t n_documents;
    const uint64_t *block_row;         /* [n_blocks + 1]: first rows */
    const mw_site *sites;              /* [n_sites] */
    const int64_t *widths;             /* [n_sites] */
    mw_dtype dtype;                    /* of stored values: f32, bf16 or f16 */
    const uint64_t *vocabulary_offset; /* [n_vocabulary + 1] */
    const char *vocabulary_bytes;      /* at least one byte */
    int64_t n_vocabulary;
    bool keep_nan;             /* stores non-finite values, without their rows in the means; else MW_ERR_STATE */
    int threads;               /* that sum a block; 0 and 1: the calling thread alone */
    double allowed_bytes;      /* for the file; 0: the free space of the disk */
    bool restart;              /* ignores the blocks of an earlier run */
    const mw_lock *lock;       /* or NULL: must still be held when the file gets its final name */
    const mw_pair *provenance; /* [n_provenance]: root attributes; a resumed file must have equal ones */
    int64_t n_provenance;
} mw_store_layout;

typedef struct mw_store_writer mw_store_writer;

/* Creates `folder`/activations.h5.partial, or opens the one of an interrupted run with equal provenance.
 * `first_block`: the first block to write. Caller frees. MW_ERR_IO also if the disk or allowed_bytes is too small.
 * Collective. */
mw_status mw_store_writer_open(const char *folder, const mw_store_layout *plan, const mw_comm *comm,
                               mw_store_writer **out, int64_t *first_block) MW_MUST_USE;
/* Writes one block per rank, or -1 for none; the blocks of one call are consecutive. values[site]: [rows, width] in
 * the stored type, borrowed. `done`: number of complete blocks after this call. `local`: this rank's status of
 * computing the block; if a rank passes an error, all return it. MW_ERR_STATE for a non-finite value without
 * keep_nan. Collective. */
mw_status mw_store_write_blocks(mw_store_writer *writer, int64_t block, const void *const *values, int64_t done,
                                mw_status local) MW_MUST_USE;
/* Syncs the written blocks to disk, so that a later writer resumes after them; `blocks_done`: their number.
 * Collective. */
mw_status mw_store_writer_flush(mw_store_writer *writer, int64_t *blocks_done) MW_MUST_USE;
/* Computes the means, marks the file complete and renames it to activations.h5. MW_ERR_STATE if the lock is lost or
 * another file has replaced the partial one. Collective. */
mw_status mw_store_writer_finish(mw_store_writer *writer) MW_MUST_USE;
/* Closes and frees; an unfinished file stays for resuming. Collective. */
void mw_store_writer_free(mw_store_writer **writer);

/* ---- reading ------------------------------------------------------------------------------------------ */

typedef struct mw_store mw_store;

/* A site of an open store; a plain value. */
typedef struct mw_store_site {
    mw_site site;
    int64_t width;
    mw_dtype dtype;
    int64_t index;                 /* within the sites of the store */
    double norm_mean, square_mean; /* mean L2 norm of the rows, and mean of its square */
} mw_store_site;

/* Tokens, sequences, documents and vocabulary of a store, shapes as in mw_store_layout. */
typedef struct mw_store_tokens {
    int64_t n_rows, n_sequences, n_documents, n_vocabulary;
    uint32_t *ids, *sequence, *position;
    uint64_t *document, *offset, *length;
    mw_document_span *documents;
    uint64_t *document_row; /* [n_documents + 1]: first rows */
    uint64_t *vocabulary_offset;
    char *vocabulary_bytes;
} mw_store_tokens;

/* Opens a file; every rank opens it itself. Caller closes. MW_ERR_FORMAT for an incomplete file or another schema;
 * MW_ERR_STATE: another process holds HDF5's lock on it. */
mw_status mw_store_open(const char *path, mw_store **out) MW_MUST_USE;
/* Opens `n` files as one store: rows, sequences and documents of the first file, then of the next. The store has the
 * sites that all files have, and means over all rows. MW_ERR_CONFIG for files of different models. */
mw_status mw_store_open_many(const char *const *paths, int64_t n, mw_store **out) MW_MUST_USE;
/* Makes a store of one site ("8.resid_post") from rows [n, width] of f32 in memory, for training, metrics and
 * discovery. The rows are borrowed, must not change, and must be equal on all ranks. Each row is a sequence of one
 * token with empty text. Caller closes. */
mw_status mw_store_of_array(const float *rows, int64_t n, int64_t width, const char *site, mw_store **out) MW_MUST_USE;
void mw_store_close(mw_store **store);
int64_t mw_store_rows(const mw_store *store);
int64_t mw_store_schema(const mw_store *store); /* the lowest of its files */
int64_t mw_store_site_count(const mw_store *store);
const mw_store_site *mw_store_site_at(const mw_store *store, int64_t index); /* borrowed */
/* Finds a site by its text. MW_ERR_CONFIG: the store does not have it. */
mw_status mw_store_find(const mw_store *store, const char *site, mw_store_site *out) MW_MUST_USE;
/* Returns a root attribute, one line per file; caller frees. */
mw_status mw_store_provenance(const mw_store *store, const char *key, char **out) MW_MUST_USE;
/* Read rows into `out` [count, width] as f32: the rows of a list in its order; rows begin .. begin + count. Several
 * threads may call at once. */
mw_status mw_store_read_rows(const mw_store *store, const mw_store_site *site, const int64_t *rows, int64_t count,
                             float *out) MW_MUST_USE;
mw_status mw_store_read_range(const mw_store *store, const mw_store_site *site, int64_t begin, int64_t count,
                              float *out) MW_MUST_USE;
/* Reads the mean row into `out` [width]. */
mw_status mw_store_read_mean(const mw_store *store, const mw_store_site *site, double *out) MW_MUST_USE;

/* Several sites of a store side by side: a row is the concatenation of their rows. The store is borrowed. */
enum { MW_VIEW_SITES = 64 };
typedef struct mw_store_view {
    const mw_store *store;
    int64_t n_sites, width;
    mw_store_site site[MW_VIEW_SITES];
} mw_store_view;
/* Opens a view of comma-separated sites; nothing to free. MW_ERR_CONFIG for an unknown or repeated site. */
mw_status mw_store_view_open(const mw_store *store, const char *sites, mw_store_view *out) MW_MUST_USE;
/* As mw_store_read_rows, _range and _mean, for rows of the view's width. */
mw_status mw_store_view_rows(const mw_store_view *view, const int64_t *rows, int64_t count, float *out) MW_MUST_USE;
mw_status mw_store_view_range(const mw_store_view *view, int64_t begin, int64_t count, float *out) MW_MUST_USE;
mw_status mw_store_view_mean(const mw_store_view *view, double *out) MW_MUST_USE;

/* Reads and validates the tokens; mw_store_tokens_free frees. */
mw_status mw_store_read_tokens(const mw_store *store, mw_store_tokens *out) MW_MUST_USE;
void mw_store_tokens_free(mw_store_tokens *tokens);
/* Rows begin .. end (exclusive) of one document within one sequence. */
typedef struct mw_store_span {
    int64_t begin, end, document;
} mw_store_span;
/* Returns the span that contains a row. */
mw_store_span mw_store_span_of(const mw_store_tokens *tokens, int64_t row);
/* The data files of the documents, of all files of the store in order. */
typedef struct mw_store_data_files {
    int64_t n;
    char **name;          /* [n] */
    int32_t *of_document; /* [n_documents]: index of its data file */
} mw_store_data_files;
/* mw_store_data_files_free frees. */
mw_status mw_store_read_data_files(const mw_store *store, const mw_store_tokens *tokens,
                                   mw_store_data_files *out) MW_MUST_USE;
void mw_store_data_files_free(mw_store_data_files *files);
/* Returns the first rows of the blocks, [*n_blocks + 1]; caller frees. */
mw_status mw_store_blocks(const mw_store *store, int64_t *n_blocks, uint64_t **out) MW_MUST_USE;
/* Counts the leading blocks of a possibly unfinished file whose checksums match at every site (`done`), of `all`
 * blocks; the first `from` blocks are assumed valid. */
mw_status mw_store_progress(const char *path, int64_t from, int64_t *done, int64_t *all) MW_MUST_USE;
/* Reads all activations and compares the checksums. MW_ERR_FORMAT names site and block. */
mw_status mw_store_verify(const mw_store *store) MW_MUST_USE;
/* As mw_store_verify for the sites of a view, each rank its share of the blocks. Collective. */
mw_status mw_store_view_verify(const mw_store_view *view, const mw_comm *comm) MW_MUST_USE;

/* ---- files of arrays ----------------------------------------------------------------------------------- */

/* Named arrays in one HDF5 file, for results computed from a store. */
typedef enum mw_array_type { MW_ARRAY_F32, MW_ARRAY_I32, MW_ARRAY_I64, MW_ARRAY_U64, MW_ARRAY_U8 } mw_array_type;
typedef struct mw_array {
    const char *name; /* "latents/count"; groups are created */
    mw_array_type type;
    int64_t rows, columns; /* columns 0: one dimension */
    const void *data;      /* borrowed */
} mw_array;
/* Writes a file atomically: arrays [n], and attributes [n_attributes] as texts of the root. */
mw_status mw_arrays_save(const char *path, const mw_array *arrays, int64_t n, const mw_pair *attributes,
                         int64_t n_attributes) MW_MUST_USE;

typedef struct mw_arrays mw_arrays;
/* Caller closes. */
mw_status mw_arrays_open(const char *path, mw_arrays **out) MW_MUST_USE;
void mw_arrays_close(mw_arrays **file);
/* Returns whether the file has an array of this name. */
bool mw_arrays_have(const mw_arrays *file, const char *name);
/* Reads a whole array [rows, columns], converted to `type`. A dimension >= 0 is required (columns 0: one dimension), a
 * negative one is set. Caller frees. MW_ERR_FORMAT names the array. */
mw_status mw_arrays_read(const mw_arrays *file, const char *name, mw_array_type type, int64_t *rows, int64_t *columns,
                         void **out) MW_MUST_USE;
/* Returns a root attribute; caller frees. */
mw_status mw_arrays_text(const mw_arrays *file, const char *key, char **out) MW_MUST_USE;

/* Reports HDF5. */
void mw_store_libraries(mw_library_callback *report, void *self);

#ifdef __cplusplus
}
#endif
#endif
