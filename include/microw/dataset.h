/* microw/dataset.h: texts and token shards as sequences of token ids.
 *
 *     const char *paths[] = {"data/a*.jsonl"};
 *     mw_dataset_options options = {.paths = paths, .n_paths = 1, .text_field = "text", .context = 128, .pack = true};
 *     MW_TRY(mw_dataset_load(&options, tokenizer, comm, &dataset));
 *     ... dataset->ids + dataset->first[s], dataset->length[s] ...
 *     mw_dataset_free(&dataset);
 *
 * Files, by their ending in any case or by `format`:
 *   .txt, .text             text: a document per file, line or separator
 *   .jsonl, .ndjson         one JSON value a line: a text, or an object with `text_field`; blank lines are skipped
 *   .json                   one array of such values, or one value a line
 *   .csv, .tsv              a header, then a record each; the text is the column `text_field`
 *   .npy                    token ids, u16, u32, i32 or i64; a row a document, or one document
 * and each of them with .gz or .zst behind, which every rank unpacks into its memory. Other endings are refused. JSON
 * is read by one rule, which base/json.h has. Every rank ends with the same ids (4 bytes a token): texts are read in
 * waves, each rank tokenizes its share of a wave, and the ids are gathered in document order. Nothing depends on the
 * number of ranks.
 */
#ifndef MICROW_DATASET_H
#define MICROW_DATASET_H

#include "microw/comm.h"
#include "microw/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mw_text_split { MW_SPLIT_FILE, MW_SPLIT_LINE, MW_SPLIT_SEPARATOR } mw_text_split;
/* auto: by the ending. */
typedef enum mw_dataset_format {
    MW_FORMAT_AUTO,
    MW_FORMAT_TEXT,
    MW_FORMAT_JSONL,
    MW_FORMAT_JSON,
    MW_FORMAT_CSV,
    MW_FORMAT_TSV,
    MW_FORMAT_NPY
} mw_dataset_format;
/* A record without text: its field is absent, null, empty or no text. */
typedef enum mw_missing_rule { MW_MISSING_ERROR, MW_MISSING_SKIP } mw_missing_rule;
/* auto: before each document if the tokenizer knows a token for it. context: at the start of every sequence. */
typedef enum mw_bos_rule { MW_BOS_AUTO, MW_BOS_DOCUMENT, MW_BOS_CONTEXT, MW_BOS_NONE } mw_bos_rule;

typedef struct mw_dataset_options {
    const char *const *paths; /* files, or globs where no file has that very name; sorted within a glob */
    int64_t n_paths;
    mw_dataset_format format;
    const char *text_field;     /* of JSON objects; column of CSV */
    mw_missing_rule on_missing; /* skip: counted, and told once */
    mw_text_split split;        /* of .txt */
    const char *separator;
    int64_t context; /* tokens in a sequence at most */
    bool pack;       /* documents one after another, cut every `context` tokens; else each starts a sequence */
    bool truncate;   /* without pack: the rest of a long document is dropped, else it goes on in a new sequence */
    mw_bos_rule bos;
    bool eos;             /* after each document */
    int64_t limit_tokens; /* 0: none; sequences after the one that reaches it are dropped, the packed last one is cut */
    int64_t limit_documents; /* 0: none; records that are skipped count too */
} mw_dataset_options;

typedef struct mw_document_span {
    int64_t file, offset,
        length; /* bytes in the file, unpacked; for one JSON array and .npy: number of the element, 0 */
} mw_document_span;

typedef struct mw_dataset {
    int32_t *ids;
    int64_t n_ids, n_sequences;
    int64_t *first, *length, *document; /* [n_sequences]; document: of the first token that is not bos */
    mw_document_span *documents;
    int64_t n_documents; /* what was tokenized, in order; those behind the last sequence have no tokens */
    int64_t *
        document_first; /* [n_documents + 1] in ids: where a document's tokens begin, with the bos before them, and end */
    char **files;
    int64_t n_files;
} mw_dataset;

/* Collective. `tokenizer` may be NULL for .npy. */
mw_status mw_dataset_load(const mw_dataset_options *options, mw_tokenizer *tokenizer, const mw_comm *comm,
                          mw_dataset **out) MW_MUST_USE;
/* From texts in memory, with the same rules; from finished sequences. Both copy. */
mw_status mw_dataset_from_texts(const char *const *texts, int64_t n, const mw_dataset_options *options,
                                mw_tokenizer *tokenizer, mw_dataset **out) MW_MUST_USE;
mw_status mw_dataset_from_ids(const int32_t *ids, const int64_t *length, int64_t n_sequences,
                              mw_dataset **out) MW_MUST_USE;
void mw_dataset_free(mw_dataset **dataset);

#ifdef __cplusplus
}
#endif
#endif
