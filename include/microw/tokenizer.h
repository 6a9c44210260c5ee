/* microw/tokenizer.h: text to token ids and back, equal to the `tokenizers` library.
 *
 *     mw_tokenizer *tokenizer = NULL;
 *     mw_ids ids = {0};
 *     MW_TRY(mw_tokenizer_open("gpt2-folder", &tokenizer));
 *     MW_TRY(mw_tokenizer_encode(tokenizer, text, strlen(text), &ids));   // appends
 *     ...
 *     mw_ids_free(&ids);
 *     mw_tokenizer_free(&tokenizer);
 *
 * Reads tokenizer.json with any model (BPE: Sennrich et al. 2016; Unigram: Kudo 2018; WordPiece, WordLevel), or
 * vocab.json with merges.txt or tokenizer.model of a known tokenizer class, or tekken.json; special tokens also from
 * tokenizer_config.json, special_tokens_map.json and added_tokens.json. The ids are those of tokenizers 0.23, whose
 * patterns know Unicode 16 and whose normal forms Unicode 9. Components that are not implemented are refused by name
 * (MW_ERR_UNSUPPORTED), never ignored. Invalid UTF-8 is read as U+FFFD. Normalizers may expand a span of text
 * between added tokens to at most 32 bytes per byte plus 1024; longer results are refused. All functions are local
 * to the process. A tokenizer caches words: only one thread at a time may encode with it.
 */
#ifndef MICROW_TOKENIZER_H
#define MICROW_TOKENIZER_H

#include "microw/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_tokenizer mw_tokenizer;

/* A growing array of token ids. {0} is empty. */
typedef struct mw_ids {
    int32_t *data;
    int64_t count, capacity;
} mw_ids;
/* Appends an id. Error: MW_ERR_MEMORY. */
mw_status mw_ids_add(mw_ids *ids, int32_t id) MW_MUST_USE;
/* Frees the array and empties it. */
void mw_ids_free(mw_ids *ids);

/* Opens `path`: a folder, a tokenizer.json, or a Hub id in the local Hugging Face cache. The caller frees *out.
 * Errors: MW_ERR_IO for missing files, MW_ERR_FORMAT, MW_ERR_UNSUPPORTED, MW_ERR_MEMORY. */
mw_status mw_tokenizer_open(const char *path, mw_tokenizer **out) MW_MUST_USE;
/* Frees a tokenizer and sets it to NULL; NULL is allowed. */
void mw_tokenizer_free(mw_tokenizer **tokenizer);

/* Appends the ids of `length` bytes of text to *out. Added tokens in the text are recognized; the special tokens of a
 * template are not added. Errors: MW_ERR_FORMAT for a text that a normalizer or pattern cannot process, naming its
 * source; MW_ERR_MEMORY. After an error *out may hold a part of the ids. */
mw_status mw_tokenizer_encode(mw_tokenizer *tokenizer, const char *text, size_t length, mw_ids *out) MW_MUST_USE;
/* Names the source of the next texts in error messages: "`path`, `what` `number`". Both strings are borrowed until the
 * next call; path NULL: no source. */
void mw_tokenizer_set_source(mw_tokenizer *tokenizer, const char *path, const char *what, int64_t number);
/* Appends the text of `count` ids to *out, special tokens included; ids without a token add nothing. Byte-level texts
 * become valid UTF-8; without a decoder, tokens have spaces between them. Errors: MW_ERR_MEMORY; MW_ERR_FORMAT for a
 * pattern of a decoder that reaches a limit. */
mw_status mw_tokenizer_decode(const mw_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                              mw_text *out) MW_MUST_USE;
/* Returns the bytes of one token as they occur in a text (a space for the space mark), NUL-terminated and owned by the
 * tokenizer; "" for an id without a token. `length`: in bytes; may be NULL. */
const char *mw_tokenizer_token(const mw_tokenizer *tokenizer, int32_t id, size_t *length);

/* Returns the largest id + 1. */
int64_t mw_tokenizer_size(const mw_tokenizer *tokenizer);
/* Return the ids that start and end a document, -1 for none. bos: the template's first token, else bos_token;
 * eos_token does not stand in for it. */
int32_t mw_tokenizer_bos(const mw_tokenizer *tokenizer);
int32_t mw_tokenizer_eos(const mw_tokenizer *tokenizer);
/* Returns whether the template, or add_bos_token beside vocab.json, puts bos before a text. */
bool mw_tokenizer_adds_bos(const mw_tokenizer *tokenizer);
/* Returns whether an id is special: by its added token, or by a name in tokenizer_config.json; false for ids out of
 * range. */
bool mw_tokenizer_is_special(const mw_tokenizer *tokenizer, int32_t id);
/* Returns the id of a token as tokenizer.json writes it, -1 for none. */
int32_t mw_tokenizer_find(const mw_tokenizer *tokenizer, const char *token);
/* Returns the SHA-256 of tokenizer.json, tokenizer.model or tekken.json, or of the digests of vocab.json and
 * merges.txt; where other * files declare more tokens, of that digest and these tokens. Owned by the tokenizer. */
const char *mw_tokenizer_hash(const mw_tokenizer *tokenizer);
/* Reports the libraries that tokenizers call, as mw_base_libraries does. */
void mw_tokenizer_libraries(mw_library_callback *report, void *self);

#ifdef __cplusplus
}
#endif
#endif
