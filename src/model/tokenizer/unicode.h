/* What the reference library knows about code points. unicode_data.c, made by tools/make_unicode_tables.py, has the
 * tables; the databases behind them have different Unicode versions: 16 for the categories that patterns use, 9 for
 * normal forms, and others for the remaining bits. */
#ifndef MICROW_MODEL_TOKENIZER_UNICODE_H
#define MICROW_MODEL_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* General categories, in the low 5 bits of the facts. */
typedef enum unicode_category {
    UNICODE_CN,
    UNICODE_LU,
    UNICODE_LL,
    UNICODE_LT,
    UNICODE_LM,
    UNICODE_LO,
    UNICODE_MN,
    UNICODE_MC,
    UNICODE_ME,
    UNICODE_ND,
    UNICODE_NL,
    UNICODE_NO,
    UNICODE_PC,
    UNICODE_PD,
    UNICODE_PS,
    UNICODE_PE,
    UNICODE_PI,
    UNICODE_PF,
    UNICODE_PO,
    UNICODE_SM,
    UNICODE_SC,
    UNICODE_SK,
    UNICODE_SO,
    UNICODE_ZS,
    UNICODE_ZL,
    UNICODE_ZP,
    UNICODE_CC,
    UNICODE_CF,
    UNICODE_CS,
    UNICODE_CO,
    UNICODE_CATEGORIES
} unicode_category;
#define UNICODE_IN(first, last) (((2u << (last)) - 1) & ~((1u << (first)) - 1)) /* bits of a range of categories */
#define UNICODE_LETTERS UNICODE_IN(UNICODE_LU, UNICODE_LO)
#define UNICODE_MARKS UNICODE_IN(UNICODE_MN, UNICODE_ME)
#define UNICODE_NUMBERS UNICODE_IN(UNICODE_ND, UNICODE_NO)
#define UNICODE_PUNCTUATION UNICODE_IN(UNICODE_PC, UNICODE_PO)
#define UNICODE_SYMBOLS UNICODE_IN(UNICODE_SM, UNICODE_SO)
#define UNICODE_SEPARATORS UNICODE_IN(UNICODE_ZS, UNICODE_ZP)
#define UNICODE_OTHERS (UNICODE_IN(UNICODE_CC, UNICODE_CO) | 1u << UNICODE_CN)

/* Facts beside the category. */
enum {
    FACT_ALPHA = 1 << 5, /* [[:alpha:]], [[:lower:]], [[:upper:]], [[:word:]] of patterns */
    FACT_LOWER = 1 << 6,
    FACT_UPPER = 1 << 7,
    FACT_WORD = 1 << 8,
    FACT_REGEX_WORD = 1 << 9, /* \w of the pre-tokenizer Whitespace and of added tokens */
    FACT_NUMERIC = 1 << 10,   /* of the pre-tokenizer Digits */
    FACT_PUNCTUATION = 1 << 11,
    FACT_OTHER = 1 << 12,      /* removed by BertNormalizer's clean_text */
    FACT_NONSPACING = 1 << 13, /* removed by BertNormalizer's strip_accents */
    FACT_COMBINING = 1 << 14,  /* removed by StripAccents */
    FACT_JOINS = 1 << 15,      /* graphemes: continues the one before */
    FACT_PREPENDS = 1 << 16,   /* graphemes: is continued by the next character */
    FACT_BREAKS = 1 << 17,     /* graphemes: alone */
    FACT_PICTOGRAPH = 1 << 18,
    FACT_NFC = 1 << 19, /* may change in the normal form, alone or beside others */
    FACT_NFKC = 1 << 20,
    FACT_NFD = 1 << 21,
    FACT_NFKD = 1 << 22,
    FACT_COMPOSES = 1 << 23, /* may compose with the next character */
};

/* Returns category and facts of a code point; 0 beyond U+10FFFF. unicode_ready comes first. */
uint32_t unicode_facts(uint32_t code);
void unicode_ready(void);
static inline unicode_category unicode_category_of(uint32_t facts) {
    return (unicode_category)(facts & 31);
}
/* Returns whether a code point is white space (\s of patterns, and of the library's own functions). */
bool unicode_is_space(uint32_t code);
/* Returns the index of the script of a code point in unicode_scripts. */
int unicode_script(uint32_t code);
/* Returns the class of a code point for the pre-tokenizer UnicodeScripts; 0: it goes with any other. */
int unicode_script_class(uint32_t code);
/* Writes the lower case of a code point to `out` and returns the number of code points, 1 or 2. */
int unicode_lower(uint32_t code, uint32_t out[2]);

/* Reads the code point at `text`, which is valid UTF-8, and its length in bytes. */
static inline uint32_t unicode_read(const char *text, size_t *length) {
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) return *length = 1, p[0];
    if (p[0] < 0xe0) return *length = 2, (p[0] & 31u) << 6 | (p[1] & 63u);
    if (p[0] < 0xf0) return *length = 3, (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
    return *length = 4, (p[0] & 7u) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
}
/* Reads the code point that ends before `at` > 0. */
static inline uint32_t unicode_read_before(const char *text, size_t at, size_t *length) {
    size_t begin = at - 1;
    while (begin > 0 && ((unsigned char)text[begin] & 0xc0) == 0x80) begin--;
    return unicode_read(text + begin, length);
}
/* Counts the characters of valid UTF-8. */
static inline size_t unicode_count(const char *text, size_t length) {
    size_t count = 0;
    for (size_t i = 0; i < length; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}
/* Writes a code point as UTF-8 and returns its length. */
size_t unicode_write(uint32_t code, char out[4]);

/* ---- the tables ------------------------------------------------------------------------------------------ */

typedef struct unicode_case {
    uint32_t first, last;
    int step, difference; /* each `step`th of the range has its lower case at + difference */
} unicode_case;
extern const uint32_t unicode_values[];                      /* distinct facts */
extern const uint32_t unicode_runs[], unicode_script_runs[]; /* first code point << 11 (8) | index of value (script) */
extern const int unicode_run_count, unicode_script_run_count;
extern const uint32_t unicode_class_runs[]; /* first code point << 8 | class of UnicodeScripts */
extern const int unicode_class_run_count;
extern const char *const unicode_scripts[];
extern const int unicode_script_count;
extern const unicode_case unicode_lower_case[];
extern const int unicode_lower_case_count;

#endif
