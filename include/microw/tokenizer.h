/* microw/tokenizer.h: text to token ids and back, as the `tokenizers` library does it.
 *
 *     mw_tokenizer *tokenizer = NULL;
 *     mw_ids ids = {0};
 *     MW_TRY(mw_tokenizer_open("gpt2-folder", &tokenizer));
 *     MW_TRY(mw_tokenizer_encode(tokenizer, text, strlen(text), &ids));   // appends
 *     ...
 *     mw_ids_free(&ids);
 *     mw_tokenizer_free(&tokenizer);
 *
 * Reads tokenizer.json (byte-level BPE and SentencePiece-style BPE with byte fallback) or vocab.json + merges.txt. A
 * component of tokenizer.json that this code does not know is refused by name, never ignored. Bytes that are not UTF-8
 * count as U+FFFD. Normalizers may make at most 32 bytes of each byte of a stretch of text between added tokens, and
 * 1024 more: a text that would grow beyond is refused. A tokenizer keeps a cache of words: one thread at a time.
 */
#ifndef MICROW_TOKENIZER_H
#define MICROW_TOKENIZER_H

#include "microw/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_tokenizer mw_tokenizer;

typedef struct mw_ids {
    int32_t *data;
    int64_t count, capacity;
} mw_ids;
mw_status mw_ids_add(mw_ids *ids, int32_t id) MW_MUST_USE;
void mw_ids_free(mw_ids *ids);

/* A folder, or the path of a tokenizer.json. */
mw_status mw_tokenizer_open(const char *path, mw_tokenizer **out) MW_MUST_USE;
void mw_tokenizer_free(mw_tokenizer **tokenizer);

/* Appends the ids of `text`, without the special tokens that a template adds. Added tokens in the text are found. */
mw_status mw_tokenizer_encode(mw_tokenizer *tokenizer, const char *text, size_t length, mw_ids *out) MW_MUST_USE;
/* For messages about the texts that are encoded next: they come from `what` (borrowed, as `path`) number `number` of
 * the file `path`. NULL: from nowhere in particular. */
void mw_tokenizer_set_source(mw_tokenizer *tokenizer, const char *path, const char *what, int64_t number);
/* Appends the text of ids, special tokens included. */
mw_status mw_tokenizer_decode(const mw_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                              mw_text *out) MW_MUST_USE;
/* The bytes of one token as they stand in a text (a space for its marker); "" for an id that has none. */
const char *mw_tokenizer_token(const mw_tokenizer *tokenizer, int32_t id, size_t *length);

int64_t mw_tokenizer_size(const mw_tokenizer *tokenizer); /* largest id + 1 */
/* -1 where there is none. `bos` starts a document: the template's first token, else bos_token, else eos_token. */
int32_t mw_tokenizer_bos(const mw_tokenizer *tokenizer);
int32_t mw_tokenizer_eos(const mw_tokenizer *tokenizer);
bool mw_tokenizer_adds_bos(const mw_tokenizer *tokenizer); /* the template puts bos before a text */
bool mw_tokenizer_is_special(const mw_tokenizer *tokenizer, int32_t id);
/* -1 if there is no such token. */
int32_t mw_tokenizer_find(const mw_tokenizer *tokenizer, const char *token);
/* SHA-256 of the files it was read from. */
const char *mw_tokenizer_hash(const mw_tokenizer *tokenizer);
void mw_tokenizer_libraries(mw_library_callback *told, void *self);

#ifdef __cplusplus
}
#endif
#endif
