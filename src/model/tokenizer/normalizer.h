/* A normalizer: its data, and the functions of each kind. */
#ifndef MICROW_MODEL_TOKENIZER_NORMALIZER_H
#define MICROW_MODEL_TOKENIZER_NORMALIZER_H

#include "model/tokenizer/pattern.h"

/* A text on its way through the normalizers. */
typedef struct changing_text {
    mw_text text, scratch;
    size_t lead; /* leading bytes that stand for the first character of the input; see normalize.c */
} changing_text;

typedef struct normalizer normalizer;
typedef mw_status normalize_call(const normalizer *n, const text_origin *origin, changing_text *t);
struct normalizer {
    normalize_call *apply;
    pattern *pattern; /* of Replace; owned, as the following */
    char *content;    /* of Replace and Prepend */
    size_t content_length;
    uint32_t *trie; /* of Precompiled */
    char *replacements;
    size_t trie_length, replacements_length;
    int form; /* utf8proc options of a normal form */
    uint32_t form_fact;
    bool strip_left, strip_right;                      /* of Strip */
    bool clean, ideographs, strip_accents, lower_case; /* of BertNormalizer */
};

normalize_call normalize_form, normalize_lower, normalize_strip, normalize_strip_accents, normalize_bert,
    normalize_replace, normalize_prepend, normalize_nmt, normalize_precompiled, normalize_byte_level;
/* Chooses the normal form "NFC", "NFD", "NFKC" or "NFKD"; false: another name. */
bool normalizer_set_form(normalizer *n, const char *name);
/* Reads a table of SentencePiece. MW_ERR_FORMAT for malformed ones. */
mw_status normalizer_set_charsmap(const char *where, normalizer *n, const unsigned char *bytes,
                                  size_t length) MW_MUST_USE;

/* Returns the length in bytes of the first `count` characters of a text, or of all if there are fewer. */
size_t bytes_of_characters(const char *text, size_t length, size_t count);

#endif
