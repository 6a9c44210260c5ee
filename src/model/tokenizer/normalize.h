/* Normalizers: change the text between added tokens before it is split. */
#ifndef MICROW_MODEL_TOKENIZER_NORMALIZE_H
#define MICROW_MODEL_TOKENIZER_NORMALIZE_H

#include "model/tokenizer/normalizer.h"

typedef struct normalizers {
    normalizer *items;
    int64_t count, capacity;
} normalizers;

/* Normalizes t->text in place. MW_ERR_FORMAT if it grows too long. */
mw_status normalizers_apply(const normalizers *list, const text_origin *origin, changing_text *t) MW_MUST_USE;
void normalizers_free(normalizers *list);

/* Appends the character of each byte in GPT-2's byte alphabet. */
void byte_level_write(mw_text *out, const char *bytes, size_t length);
/* Decodes a token of the byte-level alphabet into `out` (room for `length` bytes); false: another character occurs. */
bool byte_level_bytes(const char *token, size_t length, char *out, size_t *out_length);

#endif
