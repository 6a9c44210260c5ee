/* microw/store.h: activations in one HDF5 file, written by all ranks, read by any number.
 *
 *     mw_store *store = NULL;
 *     mw_store_site site;
 *     MW_TRY(mw_store_open("store/activations/run/activations.h5", &store));
 *     MW_TRY(mw_store_find(store, "8.resid_post", &site));
 *     MW_TRY(mw_store_read_rows(store, &site, rows, 4096, x));     // x: [4096, site.width] f32
 *     mw_store_close(&store);
 *
 * Layout (schema 2): /tokens/{ids,sequence,position} [N] u32; /sequences/{document,offset,length} [S] u64: document of the
 * first token, first row, rows; /documents/place [D, 3] i64: file, offset and length in bytes; /documents/row [D+1] u64: first row of
 * each document; /vocabulary/{offset [V+1] u64, bytes u8}; /blocks/row [B+1] u64;
 * per site /sites/<layer>.<stream>/{values [N, width], mean [width] f64, norm_mean, square_mean f64,
 * block_sum [B, width] f64, block_norm [B, 2] f64, checksum [B] u64}. bf16 is stored as u16 with the attribute
 * dtype = "bf16". Root attributes: schema, complete, and the provenance the writer was given.
 * Row order is the dataset's; nothing in the file depends on the number of ranks that wrote it.
 *
 * Row r is of the document d with row[d] <= r < row[d + 1]: in numpy, searchsorted(f["documents/row"][:], r, side="right") - 1.
 * Packed sequences hold several documents, and a long document goes on in the next sequence. A bos token belongs to the document
 * behind it, also at the start of a sequence in the middle of one; an eos token to the document it ends. Files of schema 1 have no
 * /documents/row: all rows of a sequence are then said to be of the document it begins with.
 *
 * The data sets are contiguous and allocated when the file is made: a reader takes rows straight from the file at
 * any place, and a killed writer leaves a file whose finished blocks are good.
 */
#ifndef MICROW_STORE_H
#define MICROW_STORE_H

#include "microw/comm.h"
#include "microw/dataset.h"
#include "microw/hooks.h"
#include "microw/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MW_STORE_SCHEMA = 2 }; /* written; 1 is read too */

typedef struct mw_pair {
    const char *key, *value;
} mw_pair;

/* ---- writing ------------------------------------------------------------------------------------------ */

/* What is known before the first activation. Arrays are the caller's and must live as long as the writer. */
typedef struct mw_store_layout {
    int64_t n_rows, n_sequences, n_blocks, n_sites;
    const uint32_t *ids, *sequence, *position;  /* [n_rows] */
    const uint64_t *document, *offset, *length; /* [n_sequences]: document, first row, rows */
    const mw_document_span *documents;
    const uint64_t *document_row; /* [n_documents + 1] first rows */
    int64_t n_documents;
    const uint64_t *block_row; /* [n_blocks + 1] */
    const mw_site *sites;
    const int64_t *widths; /* [n_sites] */
    mw_dtype dtype;
    const uint64_t *vocabulary_offset; /* [n_vocabulary + 1] */
    const char *vocabulary_bytes;
    int64_t n_vocabulary;
    bool keep_nan;             /* values that are not finite are stored, and left out of the means; else an error */
    int threads;               /* that a block is summed by; 0 and 1: the caller's alone */
    double allowed_bytes;      /* the file may have; 0: what the disk has */
    bool restart;              /* ignores the blocks of an earlier run */
    const mw_lock *lock;       /* or NULL: must still be held when the file gets its name */
    const mw_pair *provenance; /* root attributes; a resumed file must have the same */
    int64_t n_provenance;
} mw_store_layout;

typedef struct mw_store_writer mw_store_writer;

/* Creates `folder`/activations.h5.partial, or opens the one that a killed run of the same plan left. Collective.
 * `first_block`: where to begin. */
mw_status mw_store_writer_open(const char *folder, const mw_store_layout *plan, const mw_comm *comm,
                               mw_store_writer **out, int64_t *first_block) MW_MUST_USE;
/* Each rank gives one block, or -1 for none; blocks of one call are consecutive. values[site]: [rows, width] in the stored type.
 * Collective. `done`: blocks that are complete after this call. `local`: a rank's own trouble, which all then see. */
mw_status mw_store_write_blocks(mw_store_writer *writer, int64_t block, const void *const *values, int64_t done,
                                mw_status local) MW_MUST_USE;
/* Computes the means, marks the file complete and gives it its name. Collective. */
/* Puts on disk what has been written, so that a later writer goes on behind it. Collective. */
mw_status mw_store_writer_flush(mw_store_writer *writer, int64_t *blocks_done) MW_MUST_USE;
mw_status mw_store_writer_finish(mw_store_writer *writer) MW_MUST_USE;
void mw_store_writer_free(mw_store_writer **writer);

/* ---- reading ------------------------------------------------------------------------------------------ */

typedef struct mw_store mw_store;

typedef struct mw_store_site {
    mw_site site;
    int64_t width;
    mw_dtype dtype;
    int64_t index;                 /* among the sites of the store */
    double norm_mean, square_mean; /* mean of |x| and of |x|^2 over rows */
} mw_store_site;

typedef struct mw_store_tokens {
    int64_t n_rows, n_sequences, n_documents, n_vocabulary;
    uint32_t *ids, *sequence, *position;
    uint64_t *document, *offset, *length;
    mw_document_span *documents;
    uint64_t *document_row; /* [n_documents + 1] first rows */
    uint64_t *vocabulary_offset;
    char *vocabulary_bytes;
} mw_store_tokens;

/* Local: every rank opens for itself. Refuses a file that is incomplete or of another schema; MW_ERR_STATE: another process holds
 * HDF5's lock on it. */
mw_status mw_store_open(const char *path, mw_store **out) MW_MUST_USE;
/* Several as one: rows, sequences and documents of the first, then of the next. It has the sites that all have, and means over
 * all rows. MW_ERR_CONFIG if they are of different models. */
mw_status mw_store_open_many(const char *const *paths, int64_t n, mw_store **out) MW_MUST_USE;
/* Rows [n, width] of f32 in memory as a store of one site ("8.resid_post"): what trains, measures and looks for texts reads them so. They
 * are borrowed, stay as they are, and are the same on all ranks. Each is a sequence of its own, of one empty token. */
mw_status mw_store_of_array(const float *rows, int64_t n, int64_t width, const char *site, mw_store **out) MW_MUST_USE;
void mw_store_close(mw_store **store);
int64_t mw_store_rows(const mw_store *store);
int64_t mw_store_schema(const mw_store *store); /* the earliest of its files */
int64_t mw_store_site_count(const mw_store *store);
const mw_store_site *mw_store_site_at(const mw_store *store, int64_t index);
mw_status mw_store_find(const mw_store *store, const char *site, mw_store_site *out) MW_MUST_USE;
/* Value of a root attribute, a line for each file; caller frees. */
mw_status mw_store_provenance(const mw_store *store, const char *key, char **out) MW_MUST_USE;
/* Rows in the order asked for, as f32. Threads may call at once. */
mw_status mw_store_read_rows(const mw_store *store, const mw_store_site *site, const int64_t *rows, int64_t count,
                             float *out) MW_MUST_USE;
mw_status mw_store_read_range(const mw_store *store, const mw_store_site *site, int64_t begin, int64_t count,
                              float *out) MW_MUST_USE;
mw_status mw_store_read_mean(const mw_store *store, const mw_store_site *site, double *out) MW_MUST_USE;

/* Sites of a store side by side: rows are as wide as all of them. */
enum { MW_VIEW_SITES = 64 };
typedef struct mw_store_view {
    const mw_store *store;
    int64_t n_sites, width;
    mw_store_site site[MW_VIEW_SITES];
} mw_store_view;
/* `sites` with commas between. */
mw_status mw_store_view_open(const mw_store *store, const char *sites, mw_store_view *out) MW_MUST_USE;
mw_status mw_store_view_rows(const mw_store_view *view, const int64_t *rows, int64_t count, float *out) MW_MUST_USE;
mw_status mw_store_view_range(const mw_store_view *view, int64_t begin, int64_t count, float *out) MW_MUST_USE;
mw_status mw_store_view_mean(const mw_store_view *view, double *out) MW_MUST_USE;

mw_status mw_store_read_tokens(const mw_store *store, mw_store_tokens *out) MW_MUST_USE;
void mw_store_tokens_free(mw_store_tokens *tokens);
/* A stretch of text: rows begin .. end are of one document and of one sequence. */
typedef struct mw_store_span {
    int64_t begin, end, document;
} mw_store_span;
/* The one that a row lies in. */
mw_store_span mw_store_span_of(const mw_store_tokens *tokens, int64_t row);
/* The data files that the rows were made from, of all harvests in order. */
typedef struct mw_store_data_files {
    int64_t n;
    char **name;
    int32_t *of_document; /* [documents] */
} mw_store_data_files;
mw_status mw_store_read_data_files(const mw_store *store, const mw_store_tokens *tokens,
                                   mw_store_data_files *out) MW_MUST_USE;
void mw_store_data_files_free(mw_store_data_files *sources);
/* First rows of the blocks, [*n_blocks + 1]; caller frees. */
mw_status mw_store_blocks(const mw_store *store, int64_t *n_blocks, uint64_t **out) MW_MUST_USE;
/* Of a file whose writer may have been killed: blocks that are whole on every site, the first `from` taken on trust; of how
 * many. */
mw_status mw_store_progress(const char *path, int64_t from, int64_t *done, int64_t *all) MW_MUST_USE;
/* Reads everything and compares the checksums. */
mw_status mw_store_verify(const mw_store *store) MW_MUST_USE;
/* The same for the sites of a view, each rank its share. Collective. */
mw_status mw_store_view_verify(const mw_store_view *view, const mw_comm *comm) MW_MUST_USE;

/* ---- files of arrays ----------------------------------------------------------------------------------- */

/* Named arrays in one HDF5 file, for what is computed from a store. */
typedef enum mw_array_type { MW_ARRAY_F32, MW_ARRAY_I32, MW_ARRAY_I64, MW_ARRAY_U64, MW_ARRAY_U8 } mw_array_type;
typedef struct mw_array {
    const char *name; /* "latents/count"; groups are made */
    mw_array_type type;
    int64_t rows, columns; /* columns 0: one dimension */
    const void *data;
} mw_array;
/* Written whole or not at all; attributes are texts of the root. */
mw_status mw_arrays_save(const char *path, const mw_array *arrays, int64_t n, const mw_pair *attributes,
                         int64_t n_attributes) MW_MUST_USE;

typedef struct mw_arrays mw_arrays;
mw_status mw_arrays_open(const char *path, mw_arrays **out) MW_MUST_USE;
void mw_arrays_close(mw_arrays **file);
bool mw_arrays_have(const mw_arrays *file, const char *name);
/* The whole array, converted to `type`. A dimension that is >= 0 is what it must be (columns 0: one dimension), a negative one
 * is set. Caller frees. MW_ERR_FORMAT names the array. */
mw_status mw_arrays_read(const mw_arrays *file, const char *name, mw_array_type type, int64_t *rows, int64_t *columns,
                         void **out) MW_MUST_USE;
/* Caller frees. */
mw_status mw_arrays_text(const mw_arrays *file, const char *key, char **out) MW_MUST_USE;

void mw_store_libraries(mw_library_callback *report, void *self);

#ifdef __cplusplus
}
#endif
#endif
