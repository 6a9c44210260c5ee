/* The structures behind microw/tokenizer.h: vocabulary, merges, BPE, added tokens, normalizers and pre-tokenizers. */
#ifndef MICROW_MODEL_TOKENIZER_TOKENIZER_PRIVATE_H
#define MICROW_MODEL_TOKENIZER_TOKENIZER_PRIVATE_H

#include "base/json.h"
#include "microw/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define SPACE_MARK "\xe2\x96\x81" /* U+2581: a space in SentencePiece vocabularies */

/* ---- vocabulary ------------------------------------------------------------------------------------- */

/* Tokens by id, and a hash index from token to id. */
typedef struct vocabulary {
    char **token;     /* [size]; NULL: no such id */
    uint32_t *length; /* [size] bytes */
    int64_t size;
    int32_t *slots; /* id + 1; 0: empty */
    uint64_t mask;
} vocabulary;
mw_status vocabulary_make(vocabulary *v, int64_t size) MW_MUST_USE;
/* Adds a token. MW_ERR_FORMAT for an id that is out of range or has a token. */
mw_status vocabulary_put(vocabulary *v, const char *token, size_t length, int32_t id) MW_MUST_USE;
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

/* ---- byte-pair encoding ------------------------------------------------------------------------------ */

typedef struct bpe_symbol {
    int32_t id, previous, next;
} bpe_symbol;

typedef struct bpe {
    vocabulary tokens; /* as merges use them: raw bytes in byte-level models */
    merges merges;
    int32_t byte_id[256]; /* token of each byte (byte fallback: <0xXX>); -1: none */
    int32_t unk;          /* -1: none */
    bool byte_level, byte_fallback, fuse_unk, ignore_merges;
    /* No merge crosses the position before a space mark that follows another character: words between such positions
     * are encoded, and cached, separately. */
    bool split_at_space_marks;
    bpe_symbol *symbols; /* scratch */
    int64_t symbols_capacity;
    struct merge_heap *heap;
    struct word_cache *cache;
} bpe;
/* Prepares encoding, after vocabulary and merges have been read. */
mw_status bpe_ready(bpe *b) MW_MUST_USE;
/* Appends the ids of one word. */
mw_status bpe_encode(bpe *b, const char *word, size_t length, mw_ids *out) MW_MUST_USE;
void bpe_free(bpe *b);

/* ---- added tokens ------------------------------------------------------------------------------------ */

typedef struct added_token {
    char *content;
    size_t length;
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
mw_status trie_put(trie *t, const char *text, size_t length, int32_t token) MW_MUST_USE;
void trie_free(trie *t);

/* Bytes [begin, end) of a text: an added token, or text between added tokens (id -1). */
typedef struct span {
    size_t begin, end;
    int32_t id;
} span;
typedef struct spans {
    span *items;
    int64_t count, capacity;
} spans;
/* Splits a text at the added tokens in it: leftmost match, then longest. Replaces the contents of `out`. */
mw_status trie_split(const trie *t, const added_token *tokens, const char *text, size_t length, spans *out) MW_MUST_USE;

/* ---- normalizers and pre-tokenizers ------------------------------------------------------------------ */

typedef enum step_kind {
    STEP_UNICODE, /* NFC, NFD, NFKC, NFKD */
    STEP_PREPEND,
    STEP_REPLACE, /* literal text */
    STEP_SPLIT,
    STEP_BYTE_LEVEL,
    STEP_METASPACE,
} step_kind;

typedef enum split_behavior { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_WITH_PREVIOUS, SPLIT_WITH_NEXT } split_behavior;

typedef struct step {
    step_kind kind;
    char *text, *replacement; /* of STEP_PREPEND and STEP_REPLACE; owned */
    int unicode;              /* utf8proc options */
    pcre2_code *regex;
    pcre2_match_data *match;
    pcre2_match_context *context;
    split_behavior behavior;
    bool invert, prefix_space, only_first, split;
} step;
typedef struct steps {
    step *items;
    int64_t count, capacity;
} steps;
void steps_free(steps *list);
/* Compiles a pattern into `out`. `where`: the file, for messages. */
mw_status regex_compile(const char *where, const char *pattern, step *out) MW_MUST_USE;

/* The origin of a text, for messages. */
typedef struct text_origin {
    const char *tokenizer;   /* path of its file */
    const char *path, *what; /* from mw_tokenizer_set_source; may be NULL */
    int64_t number;
    size_t byte; /* of the text at which the current span begins */
} text_origin;
/* Logs and returns MW_ERR_FORMAT: tokenizer, problem, origin, and the first characters of `begin`. */
mw_status text_error(const text_origin *origin, const char *problem, const char *begin, size_t length);

/* Normalizes `text` in place. MW_ERR_FORMAT if it grows too long. */
mw_status steps_normalize(const steps *list, const text_origin *origin, mw_text *text, mw_text *scratch) MW_MUST_USE;

/* Bytes [begin, end) of a text that merges do not cross. */
typedef struct piece {
    size_t begin, end;
} piece;
typedef struct pieces {
    piece *items;
    int64_t count, capacity;
} pieces;
/* Splits `text` into pieces; may change it (prefix spaces, space marks). `first`: it begins the whole input. */
mw_status steps_split(const steps *list, const text_origin *origin, bool first, mw_text *text, mw_text *scratch,
                      pieces *out, pieces *spare) MW_MUST_USE;

/* The pattern of GPT-2 (Radford et al. 2019, encoder.py). */
extern const char gpt2_pattern[];

/* ---- tokenizer --------------------------------------------------------------------------------------- */

typedef struct decoding {
    bool byte_level, mark_to_space, byte_fallback, drop_first_space;
} decoding;

struct mw_tokenizer {
    bpe model;
    vocabulary vocabulary; /* as the file writes tokens, added tokens included */
    added_token *added;
    int64_t n_added, added_capacity;
    trie raw, normalized;
    steps normalizers, splitters;
    decoding decoding;
    char **bytes; /* [vocabulary.size] each token as it occurs in a text */
    uint32_t *bytes_length;
    bool *special;
    int32_t bos, eos;
    bool adds_bos;
    char hash[MW_SHA256_TEXT];
    char *path; /* of tokenizer.json, or vocab.json */
    text_origin origin;
    /* scratch buffers of mw_tokenizer_encode */
    mw_text repaired, working, spare;
    spans raw_spans, normalized_spans;
    pieces pieces, spare_pieces;
};

/* Fill an empty tokenizer from tokenizer.json, or from vocab.json and merges.txt. */
mw_status tokenizer_read_json(const char *path, mw_tokenizer *t) MW_MUST_USE;
mw_status tokenizer_read_pair(const char *vocab, const char *merges, mw_tokenizer *t) MW_MUST_USE;
/* Reads bos, eos and add_bos_token from tokenizer_config.json, if that file exists. */
mw_status tokenizer_read_config(const char *path, mw_tokenizer *t) MW_MUST_USE;
/* Fills `bytes` and `bytes_length`. */
mw_status tokenizer_fill_token_bytes(mw_tokenizer *t) MW_MUST_USE;
/* Decodes a token of the byte-level alphabet into `out` (room for `length` bytes); false: another character occurs. */
bool byte_level_bytes(const char *token, size_t length, char *out, size_t *out_length);

#endif
