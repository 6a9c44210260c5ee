/* Added tokens: found in a text before it is split into words. */
#ifndef MICROW_MODEL_TOKENIZER_ADDED_TOKENS_H
#define MICROW_MODEL_TOKENIZER_ADDED_TOKENS_H

#include "model/tokenizer/normalize.h"

typedef struct added_token {
    char *content; /* as files write it; owned */
    char *search;  /* what is searched for: normalized, if the token is; owned */
    size_t length, search_length;
    int32_t id;
    bool special, normalized, left_strip, right_strip, single_word;
} added_token;

typedef struct trie_node {
    int32_t child, sibling, token; /* token: index of an added token, -1: none */
    unsigned char byte;
} trie_node;

typedef struct trie {
    trie_node *nodes;
    int64_t count, capacity;
    int32_t root[256];
} trie;

typedef struct added_tokens {
    added_token *items;
    int64_t count, capacity;
    trie raw, normalized; /* searched before, and after, the normalizers */
    bool skips_special;   /* special tokens are not recognized in texts */
} added_tokens;
/* Builds the tries. MW_ERR_FORMAT for two tokens with the same text, or an empty one. `where`: the file, for messages.
 */
mw_status added_tokens_ready(added_tokens *a, const char *where) MW_MUST_USE;
void added_tokens_free(added_tokens *a);

/* Bytes [begin, end) of a text: an added token, or text between added tokens (id -1). */
typedef struct span {
    size_t begin, end;
    int32_t id;
} span;
typedef struct spans {
    span *items;
    int64_t count, capacity;
} spans;
/* Splits a text at the tokens of one trie: leftmost match, then longest. Replaces the contents of `out`. */
mw_status added_tokens_split(const added_tokens *a, const trie *t, const char *text, size_t length,
                             spans *out) MW_MUST_USE;

#endif
