/* Cuts documents of token ids into sequences. */
#ifndef MICROW_DATASET_PACK_SEQUENCES_H
#define MICROW_DATASET_PACK_SEQUENCES_H

#include "microw/dataset.h"

/* Concatenated ids of all documents. */
typedef struct token_stream {
    int32_t *ids;
    int64_t n_ids, ids_capacity;
    int64_t *document_length; /* [n_documents] */
    int64_t n_documents, documents_capacity;
} token_stream;
/* Fills the sequences of *out. MW_ERR_CONFIG for impossible options, MW_ERR_FORMAT without any token. */
mw_status pack_sequences(const mw_dataset_options *options, const mw_tokenizer *tokenizer, const token_stream *stream,
                         mw_dataset *out) MW_MUST_USE;
/* Returns the number of tokens that bos and eos add to each document. */
int64_t pack_overhead(const mw_dataset_options *options, const mw_tokenizer *tokenizer);

#endif
