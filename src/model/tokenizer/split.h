/* Pre-tokenizers: split a text into pieces, the words of the token model. */
#ifndef MICROW_MODEL_TOKENIZER_SPLIT_H
#define MICROW_MODEL_TOKENIZER_SPLIT_H

#include "model/tokenizer/normalize.h"

/* Bytes [begin, end) of a text. */
typedef struct piece {
    size_t begin, end;
    bool matched; /* in a list of matches and the text between them */
} piece;
typedef struct pieces {
    piece *items;
    int64_t count, capacity;
} pieces;

/* A text and its pieces, in order; parts of the text may be in no piece. */
typedef struct split_text {
    mw_text *text, *scratch;
    pieces items, spare, matches;
    size_t lead; /* leading bytes of the text that stand for the first character of the input */
} split_text;
void split_text_free(split_text *t);

typedef enum split_behavior {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_WITH_PREVIOUS,
    SPLIT_WITH_NEXT,
    SPLIT_CONTIGUOUS,
    SPLIT_BEHAVIORS
} split_behavior;
extern const char *const split_behavior_names[SPLIT_BEHAVIORS];

typedef enum prefix_rule { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS } prefix_rule;

typedef struct splitter splitter;
typedef mw_status split_call(const splitter *s, const text_origin *origin, split_text *t);
struct splitter {
    split_call *apply;
    pattern *pattern;                                   /* owned */
    bool (*is_match)(const splitter *s, uint32_t code); /* in place of a pattern: each such character is a match */
    split_behavior behavior;
    bool invert, split, writes_bytes; /* writes_bytes: of ByteLevel, in models whose words are not raw bytes */
    prefix_rule prefix;
    uint32_t code;  /* of CharDelimiterSplit and Metaspace */
    int64_t length; /* of FixedLength */
};
typedef struct splitters {
    splitter *items;
    int64_t count, capacity;
} splitters;

split_call split_by_match, split_byte_level, split_metaspace, split_whitespace, split_bert, split_fixed_length,
    split_scripts;
bool is_space_match(const splitter *s, uint32_t code);
bool is_punctuation_match(const splitter *s, uint32_t code);
bool is_numeric_match(const splitter *s, uint32_t code);
bool is_code_match(const splitter *s, uint32_t code);

/* Splits *t->text into t->items; may change the text (prefix spaces, space marks, bytes). */
mw_status splitters_apply(const splitters *list, const text_origin *origin, split_text *t) MW_MUST_USE;
void splitters_free(splitters *list);

#endif
