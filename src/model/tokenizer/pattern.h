/* Regular expressions of tokenizers, as the reference library matches them: with Oniguruma's syntax and Unicode 16.
 *
 * Three ways to match, chosen when a pattern is compiled: literal text by a search; the patterns of the table
 * `known_patterns`, for which PCRE2 is proven to match the same, by PCRE2 with JIT; all others by Oniguruma. */
#ifndef MICROW_MODEL_TOKENIZER_PATTERN_H
#define MICROW_MODEL_TOKENIZER_PATTERN_H

#include "model/tokenizer/text_error.h"

typedef struct pattern pattern;
/* Compile a regular expression, or literal text. `where`: the file, for messages. Caller frees with pattern_free.
 * MW_ERR_FORMAT for malformed ones, MW_ERR_UNSUPPORTED for properties without a table. */
mw_status pattern_compile(const char *where, const char *text, pattern **out) MW_MUST_USE;
mw_status pattern_compile_literal(const char *text, size_t length, pattern **out) MW_MUST_USE;
void pattern_free(pattern *p); /* NULL: no effect */

/* The matches of a pattern in a text, from left to right. An empty match directly behind the last match is skipped. */
typedef struct pattern_search {
    pattern *of;
    const text_origin *origin;
    const char *text, *matched; /* `matched`: the text in which PCRE2 searches */
    size_t length, from, last_end;
    bool any; /* last_end is set */
} pattern_search;
mw_status pattern_search_begin(pattern *p, const text_origin *origin, const char *text, size_t length,
                               pattern_search *out) MW_MUST_USE;
/* Finds the next match. MW_ERR_FORMAT if the engine reaches a limit. */
mw_status pattern_search_next(pattern_search *s, bool *found, size_t *begin, size_t *end) MW_MUST_USE;

/* Appends a pattern whose classes are written out as ranges of the code points that the reference's version knows.
 * MW_ERR_UNSUPPORTED for other properties. */
mw_status pattern_write_classes(const char *where, const char *text, mw_text *out) MW_MUST_USE;

/* The pattern of GPT-2 (Radford et al. 2019, encoder.py). */
extern const char gpt2_pattern[];
/* The pattern of cl100k (tiktoken), as Llama 3 writes it. */
extern const char cl100k_pattern[];

#endif
