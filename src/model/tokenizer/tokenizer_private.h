/* The structure behind microw/tokenizer.h, and its readers. */
#ifndef MICROW_MODEL_TOKENIZER_TOKENIZER_PRIVATE_H
#define MICROW_MODEL_TOKENIZER_TOKENIZER_PRIVATE_H

#include "base/json.h"
#include "microw/tokenizer.h"
#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer/decode.h"
#include "model/tokenizer/split.h"
#include "model/tokenizer/token_model.h"

struct mw_tokenizer {
    token_model model;
    vocabulary vocabulary; /* as the file writes tokens, added tokens included */
    added_tokens added;
    normalizers normalizers;
    splitters splitters;
    decoders decoders;
    char **bytes; /* [vocabulary.size] each token as it occurs in a text */
    uint32_t *bytes_length;
    int32_t *added_of;              /* [vocabulary.size] index of the added token with an id, -1: none */
    bool *special;                  /* [vocabulary.size] */
    mw_ids named;                   /* ids that tokenizer_config.json names as special */
    const char *const *class_named; /* [NAMED_KEYS] special tokens of the tokenizer's class; NULL: none */
    mw_ids class_added;             /* ids of tokens that the class adds, unless files list others */
    int32_t bos, eos;
    bool adds_bos;
    char hash[MW_SHA256_TEXT];
    mw_text changes; /* tokens that other files than the hashed ones declare */
    char *path;      /* of tokenizer.json, or vocab.json */
    text_origin origin;
    /* scratch buffers of mw_tokenizer_encode */
    mw_text repaired;
    changing_text working;
    split_text words;
    spans raw_spans, normalized_spans;
};

/* The named special tokens: bos, eos, unk, sep, pad, cls, mask. */
enum { NAMED_KEYS = 7 };

/* Fill an empty tokenizer from `path`: tokenizer.json, vocab.json with merges.txt, tokenizer.model of SentencePiece,
 * tekken.json of Mistral, tiktoken.model. Other files of `folder` tell the class; tokenizer.json and tekken.json need
 * none. */
typedef mw_status read_folder_call(const char *folder, const char *path, mw_tokenizer *t);
read_folder_call tokenizer_read_json, tokenizer_read_pair, tokenizer_read_sentencepiece, tokenizer_read_tekken,
    tokenizer_read_tiktoken;
/* Reads special tokens, bos, eos and add_bos_token from tokenizer_config.json, special_tokens_map.json and
 * added_tokens.json of a folder, where these exist. `of_json`: the tokenizer was read from tokenizer.json. */
mw_status tokenizer_read_config(const char *folder, bool of_json, mw_tokenizer *t) MW_MUST_USE;
/* Fills `bytes` and `bytes_length`. */
mw_status tokenizer_fill_token_bytes(mw_tokenizer *t) MW_MUST_USE;
/* Prepares the tokenizer for use, after all files have been read. */
mw_status tokenizer_ready(mw_tokenizer *t) MW_MUST_USE;

#endif
