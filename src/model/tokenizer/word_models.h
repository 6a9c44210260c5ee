/* What the models of words share: their data, and unknown words. */
#ifndef MICROW_MODEL_TOKENIZER_WORD_MODELS_H
#define MICROW_MODEL_TOKENIZER_WORD_MODELS_H

#include "microw/tokenizer.h"
#include "model/tokenizer/text_error.h"
#include "model/tokenizer/vocabulary.h"

#include <string.h>

typedef struct token_model token_model;
typedef mw_status encode_call(token_model *m, const text_origin *origin, const char *word, size_t length, mw_ids *out);

/* Byte-pair encoding (Sennrich et al. 2016). */
typedef struct bpe_symbol {
    int32_t id, previous, next;
} bpe_symbol;
typedef struct bpe {
    merges merges;
    int32_t byte_id[256]; /* token of each byte (byte fallback: <0xXX>); -1: none */
    bool byte_level;      /* words are raw bytes, as are the tokens */
    bool byte_fallback, fuse_unk, ignore_merges;
    char *prefix, *suffix; /* of characters after the first, and of the last one; NULL: none */
    /* No merge crosses the position before a space mark that follows another character: words between such positions
     * are encoded, and cached, separately. */
    bool split_at_space_marks;
    bpe_symbol *symbols; /* scratch */
    int64_t symbols_capacity;
    mw_text affixed; /* scratch */
    struct merge_heap *heap;
} bpe;

/* The unigram language model (Kudo 2018): the best path through all tokens of a word. */
typedef struct best_path {
    double score;
    int64_t start; /* -1: none */
    int32_t id;
} best_path;
typedef struct unigram {
    double *scores; /* [tokens.size] */
    double unk_score;
    bool byte_fallback;
    uint64_t *edges;  /* node << 8 | byte, + 1; 0: empty */
    int32_t *targets; /* [edges] */
    int32_t *ends;    /* [nodes] token that ends at a node, -1: none */
    uint64_t edge_mask;
    int64_t n_nodes, nodes_capacity;
    best_path *path; /* scratch */
    int64_t path_capacity;
    mw_ids pieces; /* scratch: begins and ends, last first */
} unigram;

typedef struct wordpiece {
    char *prefix;
    int64_t most_characters;
    mw_text part; /* scratch */
} wordpiece;

struct token_model {
    encode_call *encode;     /* of the kind; chosen by token_model_ready's caller */
    vocabulary tokens;       /* as words are looked up: raw bytes in byte-level models */
    int64_t vocabulary_size; /* entries of the file's vocabulary */
    char *unk_token;         /* NULL: none */
    int32_t unk;             /* -1: none, or not in the vocabulary */
    struct bpe bpe;
    struct unigram unigram;
    struct wordpiece wordpiece;
    struct word_cache *cache;
};

encode_call bpe_encode, unigram_encode, wordpiece_encode, wordlevel_encode;
/* Prepare encoding, after the vocabulary and what belongs to it have been read. */
mw_status bpe_ready(token_model *m) MW_MUST_USE;
mw_status unigram_ready(token_model *m) MW_MUST_USE;
void bpe_free(bpe *b);
void unigram_free(unigram *u);

/* Logs that a word needs the unknown token, which the vocabulary lacks. */
mw_status no_unknown_token(const token_model *m, const text_origin *origin, const char *word, size_t length);
/* Appends the ids of <0xXX> for each byte, if the vocabulary has all of them. */
mw_status put_byte_tokens(const token_model *m, const char *bytes, size_t length, mw_ids *out, bool *done) MW_MUST_USE;

/* Returns the id of <0xXX>; -1: the vocabulary lacks it. */
int32_t byte_token(const token_model *m, unsigned char byte);

/* U+2581: a space in SentencePiece vocabularies. */
static inline bool is_space_mark(const char *text, size_t left) {
    return left >= 3 && memcmp(text, "\xe2\x96\x81", 3) == 0;
}

#endif
