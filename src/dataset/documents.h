/* Where documents come from: files of several kinds behind one list of places. */
#ifndef MICROW_DATASET_DOCUMENTS_H
#define MICROW_DATASET_DOCUMENTS_H

#include "base/json.h"
#include "microw/dataset.h"

typedef struct document_file {
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
} document_file;

typedef struct document_files {
    document_file *items;
    int64_t n_files, files_capacity;
    mw_document_span *documents;
    int64_t n_documents, documents_capacity;
    int64_t surrogates; /* in JSON arrays, which are read as a whole */
} document_files;

/* Reading with what it is done by, and what was found on the way. */
typedef struct read_context {
    const mw_dataset_options *options;
    mw_tokenizer *tokenizer;
    int64_t skipped, surrogates, invalid_utf8; /* records without text; half surrogate pairs; texts that are no UTF-8 */
} read_context;

mw_status document_files_open(const mw_dataset_options *options, document_files *out) MW_MUST_USE;
void document_files_close(document_files *files);
/* Appends the ids of one document, without bos and eos; none for a record that is skipped. */
mw_status document_read(const document_files *files, int64_t document, read_context *r, mw_ids *out) MW_MUST_USE;

/* Maps a file, unpacks it where it is packed, and tells its kind. */
mw_status document_file_open(const char *path, mw_dataset_format format, document_file *out) MW_MUST_USE;
void document_file_close(document_file *f);

mw_status npy_open(document_file *f) MW_MUST_USE;
mw_status npy_read(const document_file *f, int64_t row, mw_ids *out) MW_MUST_USE;

#endif
