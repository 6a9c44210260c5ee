/* The models that turn one word into token ids: BPE, Unigram, WordPiece and WordLevel. */
#ifndef MICROW_MODEL_TOKENIZER_TOKEN_MODEL_H
#define MICROW_MODEL_TOKENIZER_TOKEN_MODEL_H

#include "model/tokenizer/word_models.h"

/* Prepare encoding, after the vocabulary and what belongs to it have been read. */
mw_status token_model_ready(token_model *m) MW_MUST_USE;
/* Appends the ids of one word. MW_ERR_FORMAT for a word that the model cannot encode. */
mw_status token_model_encode(token_model *m, const text_origin *origin, const char *word, size_t length,
                             mw_ids *out) MW_MUST_USE;
void token_model_free(token_model *m);

#endif
