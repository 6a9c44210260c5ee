/* Where documents come from: files of several kinds behind one list of places. */
#ifndef MICROW_DATASET_SOURCES_H
#define MICROW_DATASET_SOURCES_H

#include "base/json.h"
#include "microw/dataset.h"

typedef enum source_kind { SOURCE_TEXT, SOURCE_JSONL, SOURCE_JSON, SOURCE_NPY } source_kind;

typedef struct source {
    char *path;
    source_kind kind;
    mw_map map;
    json_t *array;                 /* SOURCE_JSON */
    int64_t rows, columns, header; /* SOURCE_NPY: [rows, columns] after `header` bytes */
    int item;                      /* bytes an id takes */
} source;

typedef struct sources {
    source *files;
    int64_t n_files, files_capacity;
    mw_document_place *documents;
    int64_t n_documents, documents_capacity;
} sources;

mw_status sources_open(const mw_dataset_options *options, sources *out) MW_MUST_USE;
void sources_close(sources *s);
/* Appends the ids of one document, without bos and eos. */
mw_status sources_read(const sources *s, int64_t document, const mw_dataset_options *options, mw_tokenizer *tokenizer,
                       mw_ids *out) MW_MUST_USE;

mw_status npy_open(source *s) MW_MUST_USE;
mw_status npy_read(const source *s, int64_t row, mw_ids *out) MW_MUST_USE;

/* Ids of all documents, one after another, made into sequences. */
typedef struct token_stream {
    int32_t *ids;
    int64_t n_ids, ids_capacity;
    int64_t *document_length;
    int64_t n_documents, documents_capacity;
} token_stream;
mw_status pack_sequences(const mw_dataset_options *options, const mw_tokenizer *tokenizer, const token_stream *stream,
                         mw_dataset *out) MW_MUST_USE;
/* Tokens that bos and eos add to each document. */
int64_t pack_overhead(const mw_dataset_options *options, const mw_tokenizer *tokenizer);

#endif
