/* Where documents come from: files of several kinds behind one list of places. */
#ifndef MICROW_DATASET_DOCUMENTS_H
#define MICROW_DATASET_DOCUMENTS_H

#include "base/json.h"
#include "microw/dataset.h"

typedef struct source {
    char *path;
    mw_dataset_format kind; /* never MW_FORMAT_AUTO */
    const uint8_t *data;    /* of the map, or unpacked */
    size_t length;
    mw_map map;
    uint8_t *unpacked;
    json_t *array;           /* of a JSON array */
    int64_t column, columns; /* of CSV: the text's; how many. Of .npy: a row's ids */
    int64_t rows, header;    /* of .npy: [rows, columns] after `header` bytes */
    int item;                /* bytes an id takes */
} source;

typedef struct sources {
    source *files;
    int64_t n_files, files_capacity;
    mw_document_place *documents;
    int64_t n_documents, documents_capacity;
    int64_t surrogates; /* in JSON arrays, which are read as a whole */
} sources;

/* Reading with what it is done by, and what was found on the way. */
typedef struct reading {
    const mw_dataset_options *options;
    mw_tokenizer *tokenizer;
    int64_t skipped, surrogates, broken; /* records without text; half surrogate pairs; texts that are no UTF-8 */
} reading;

mw_status sources_open(const mw_dataset_options *options, sources *out) MW_MUST_USE;
void sources_close(sources *s);
/* Appends the ids of one document, without bos and eos; none for a record that is skipped. */
mw_status sources_read(const sources *s, int64_t document, reading *r, mw_ids *out) MW_MUST_USE;

/* Maps a file, unpacks it where it is packed, and tells its kind. */
mw_status source_open(const char *path, mw_dataset_format format, source *out) MW_MUST_USE;
void source_close(source *f);

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
