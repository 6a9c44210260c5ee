/* Files of all formats as one list of documents. */
#ifndef MICROW_DATASET_DOCUMENTS_H
#define MICROW_DATASET_DOCUMENTS_H

#include "base/json.h"
#include "microw/dataset.h"

typedef struct document_file {
    char *path;
    mw_dataset_format kind; /* never MW_FORMAT_AUTO */
    const uint8_t *data;    /* in the map, or decompressed */
    size_t length;
    mw_map map;
    uint8_t *unpacked;
    json_t *array;           /* of a JSON array, else NULL */
    int64_t column, columns; /* CSV: index of the text column, number of columns. .npy: columns is the ids per row */
    int64_t rows, header;    /* .npy: [rows, columns] after `header` bytes */
    int item;                /* .npy: bytes per id */
} document_file;

typedef struct document_files {
    document_file *items;
    int64_t n_files, files_capacity;
    mw_document_span *documents;
    int64_t n_documents, documents_capacity;
    int64_t surrogates; /* unpaired, in JSON arrays, which are parsed when opened */
} document_files;

/* Options and tokenizer of a read, and counts of what it skipped or repaired. */
typedef struct read_context {
    const mw_dataset_options *options;
    mw_tokenizer *tokenizer;
    int64_t skipped, surrogates, invalid_utf8; /* records; unpaired surrogates; texts */
} read_context;

/* Opens all files of options->paths and lists their documents. The caller closes *out. */
mw_status document_files_open(const mw_dataset_options *options, document_files *out) MW_MUST_USE;
void document_files_close(document_files *files);
/* Appends the ids of one document, without bos and eos; none for a skipped record. */
mw_status document_read(const document_files *files, int64_t document, read_context *r, mw_ids *out) MW_MUST_USE;

/* Maps a file, decompresses it if necessary, and determines its format. */
mw_status document_file_open(const char *path, mw_dataset_format format, document_file *out) MW_MUST_USE;
void document_file_close(document_file *f);

/* Reads the header of a .npy file; appends the ids of one row. */
mw_status npy_open(document_file *f) MW_MUST_USE;
mw_status npy_read(const document_file *f, int64_t row, mw_ids *out) MW_MUST_USE;

#endif
