/* microw/dataset.h: reads texts and token shards as sequences of token ids.
 *
 *     const char *paths[] = {"data/a*.jsonl"};
 *     mw_dataset_options options = {.paths = paths, .n_paths = 1, .text_field = "text", .context = 128, .pack = true};
 *     MW_TRY(mw_dataset_load(&options, tokenizer, comm, &dataset));
 *     ... dataset->ids + dataset->first[s], dataset->length[s] ...
 *     mw_dataset_free(&dataset);
 *
 * Formats, by file name extension (case-insensitive) or by `format`:
 *   .txt, .text             text: one document per file, line or separator
 *   .jsonl, .ndjson         one JSON value per line: a text, or an object with `text_field`; blank lines are skipped
 *   .json                   one array of such values, or one value per line
 *   .csv, .tsv              a header line, then one record each; the text is the column `text_field`
 *   .npy                    token ids, u16, u32, i32 or i64: one document per row; a 1-D array is one document
 * Each may be compressed (.gz or .zst appended); every rank decompresses it into its own memory. Other extensions are
 * refused. base/json.h defines how JSON is read. Every rank ends with the same ids (4 bytes per token): documents are
 * read in waves, each rank tokenizes its share of a wave, and an allgather collects the ids in document order. The
 * result does not depend on the number of ranks.
 */
#ifndef MICROW_DATASET_H
#define MICROW_DATASET_H

#include "microw/comm.h"
#include "microw/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mw_text_split { MW_SPLIT_FILE, MW_SPLIT_LINE, MW_SPLIT_SEPARATOR } mw_text_split;
/* AUTO: by file name extension. */
typedef enum mw_dataset_format {
    MW_FORMAT_AUTO,
    MW_FORMAT_TEXT,
    MW_FORMAT_JSONL,
    MW_FORMAT_JSON,
    MW_FORMAT_CSV,
    MW_FORMAT_TSV,
    MW_FORMAT_NPY
} mw_dataset_format;
/* For a record without text: its field is absent, null, empty or not a text. */
typedef enum mw_missing_rule { MW_MISSING_ERROR, MW_MISSING_SKIP } mw_missing_rule;
/* AUTO: before each document, if the tokenizer has a bos token. CONTEXT: at the start of every sequence. */
typedef enum mw_bos_rule { MW_BOS_AUTO, MW_BOS_DOCUMENT, MW_BOS_CONTEXT, MW_BOS_NONE } mw_bos_rule;

typedef struct mw_dataset_options {
    const char *const *paths; /* files, or globs if no file has that exact name; sorted within a glob */
    int64_t n_paths;
    mw_dataset_format format;
    const char *text_field;     /* key of JSON objects; column of CSV and TSV */
    mw_missing_rule on_missing; /* SKIP: counted, and reported once */
    mw_text_split split;        /* of .txt */
    const char *separator;
    int64_t context; /* maximum tokens per sequence, at least 2 */
    bool pack;       /* concatenate documents and cut every `context` tokens; else each document starts a sequence */
    bool truncate;   /* without pack: drop the rest of a long document; else it continues in a new sequence */
    mw_bos_rule bos;
    bool eos;                /* append eos to each document */
    int64_t limit_tokens;    /* 0: none. Drops sequences after the one that reaches it; with pack cuts that one */
    int64_t limit_documents; /* 0: none; skipped records count */
} mw_dataset_options;

/* Location of a document: bytes [offset, offset + length) of the uncompressed file number `file`. In a JSON array or a
 * .npy file, offset is the number of the element or row, and length is 0. file -1: text number `offset` in memory. */
typedef struct mw_document_span {
    int64_t file, offset, length;
} mw_document_span;

typedef struct mw_dataset {
    int32_t *ids; /* [n_ids] */
    int64_t n_ids, n_sequences;
    int64_t *first, *length;     /* [n_sequences] a sequence is ids[first .. first + length) */
    int64_t *document;           /* [n_sequences] index of the document of the first token that is not bos */
    mw_document_span *documents; /* [n_documents] */
    int64_t n_documents;         /* tokenized documents, in order; those after the last sequence have no tokens */
    int64_t *document_first;     /* [n_documents + 1] start of each document in ids, its bos included; then n_ids */
    char **files;                /* [n_files] paths */
    int64_t n_files;
} mw_dataset;

/* Loads files. Collective: all ranks must pass the same options and see the same files (MW_ERR_CONFIG otherwise), and
 * all return the same status. `tokenizer` may be NULL for .npy. The caller frees *out. Errors: MW_ERR_CONFIG for
 * impossible options, MW_ERR_IO, MW_ERR_FORMAT for malformed files and for datasets without tokens, MW_ERR_ARG for
 * texts without a tokenizer, MW_ERR_MEMORY. */
mw_status mw_dataset_load(const mw_dataset_options *options, mw_tokenizer *tokenizer, const mw_comm *comm,
                          mw_dataset **out) MW_MUST_USE;
/* Make a dataset from `n` NUL-terminated texts in memory, by the same rules, or from finished sequences: length[n]
 * tokens each, concatenated in `ids`. Local. Both copy their input; the caller frees *out. */
mw_status mw_dataset_from_texts(const char *const *texts, int64_t n, const mw_dataset_options *options,
                                mw_tokenizer *tokenizer, mw_dataset **out) MW_MUST_USE;
mw_status mw_dataset_from_ids(const int32_t *ids, const int64_t *length, int64_t n_sequences,
                              mw_dataset **out) MW_MUST_USE;
/* Frees a dataset and sets it to NULL; NULL is allowed. */
void mw_dataset_free(mw_dataset **dataset);

#ifdef __cplusplus
}
#endif
#endif
