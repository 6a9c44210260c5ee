/* Tokens by id and by text, and merges of tokens. */
#ifndef MICROW_MODEL_TOKENIZER_VOCABULARY_H
#define MICROW_MODEL_TOKENIZER_VOCABULARY_H

#include "microw/base.h"

enum { TOKEN_ID_MAX = 1 << 24 };

/* Tokens by id, and a hash index from token to id. {0} is empty. */
typedef struct vocabulary {
    char **token;           /* [size]; NULL: no such id */
    uint32_t *length;       /* [size] bytes */
    int64_t size, capacity; /* largest id + 1, or more */
    int64_t count;          /* tokens */
    int32_t *slots;         /* id + 1; 0: empty */
    uint64_t mask;
} vocabulary;
/* Prepares for ids below `size`; vocabulary_put makes more room where needed. */
mw_status vocabulary_make(vocabulary *v, int64_t size) MW_MUST_USE;
/* Adds a token; the first id of a text stays the one that is found. MW_ERR_FORMAT for an id that is out of range or has
 * a token. */
mw_status vocabulary_put(vocabulary *v, const char *token, size_t length, int32_t id) MW_MUST_USE;
/* Makes `id` the one that is found for its token. */
void vocabulary_prefer(vocabulary *v, int32_t id);
int32_t vocabulary_find(const vocabulary *v, const char *token, size_t length); /* -1: none */
void vocabulary_free(vocabulary *v);

/* Merges, indexed by the pair of ids that they merge. */
typedef struct merge {
    uint64_t pair; /* left << 32 | right */
    int32_t rank, merged;
} merge;
typedef struct merges {
    merge *slots; /* rank -1: empty */
    uint64_t mask;
} merges;
mw_status merges_make(merges *m, int64_t count) MW_MUST_USE;
void merges_put(merges *m, int32_t left, int32_t right, int32_t rank, int32_t merged);
const merge *merges_find(const merges *m, int32_t left, int32_t right); /* NULL: none */
void merges_free(merges *m);

#endif
