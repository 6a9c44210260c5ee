/* Compiles and matches regular expressions. */
#include "model/tokenizer/pattern.h"
#include "model/tokenizer/unicode.h"

#include <oniguruma.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { HEAP_KIB = 1 << 20 }; /* memory limit of a backtracking match; PCRE2's default is 20 GB */

struct pattern {
    char *literal; /* exactly one of literal, known, general is set */
    size_t literal_length;
    pcre2_code *known;
    pcre2_match_data *match;
    pcre2_match_context *context;
    mw_text stand_ins; /* the searched text with a stand-in for each character beyond ASCII */
    regex_t *general;
    OnigRegion *region;
};

/* ---- patterns that PCRE2 matches equally --------------------------------------------------------------- */

#define ENDINGS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* `ends`: CR and LF, which some files write as escapes and others as the characters. */
#define DEEPSEEK_WORD(ends)                                                                                            \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^" ends "\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"             \
    " ?[\\p{P}\\p{S}]+[" ends "]*|\\s*[" ends "]+|\\s+(?!\\S)|\\s+"
#define NO_LETTER "[^\\r\\n\\p{L}\\p{N}]?"
#define CASED_WORD(ending) NO_LETTER "[" UPPER "]*[" LOWER "]+" ending "|" NO_LETTER "[" UPPER "]+[" LOWER "]*" ending

const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char cl100k_pattern[] = ENDINGS "|" NO_LETTER "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES;

/* tools/check_tokenizers.py compares each with the reference library on random texts. They use only what both engines
 * read alike (alternatives, groups, classes of properties, greedy repeats, look-ahead), and match no empty text. */
static const char *const known_patterns[] = {
    gpt2_pattern,
    cl100k_pattern,
    /* Qwen 2 and 3; Qwen 3.5 */
    ENDINGS "|" NO_LETTER "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
    ENDINGS "|" NO_LETTER "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES,
    /* o200k: gpt-oss, Llama 4 */
    CASED_WORD(ENDINGS "?") "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES,
    /* Tekken: Mistral */
    CASED_WORD("") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES,
    /* DeepSeek V3 */
    "\\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    DEEPSEEK_WORD("\\r\\n"),
    DEEPSEEK_WORD("\r\n"),
    /* DeepSeek Coder */
    "[\\r\\n]",
    "[\r\n]",
    "\\s?\\p{L}+",
    "\\s?\\p{P}+",
    /* Falcon */
    "[0-9][0-9][0-9]",
};

static bool is_known(const char *text) {
    for (size_t i = 0; i < sizeof known_patterns / sizeof *known_patterns; i++)
        if (strcmp(text, known_patterns[i]) == 0) return true;
    return false;
}

/* PCRE2 counts U+180E as white space, the reference does not: \s and \S are written out. */
#define WHITE "\\t-\\r\\x{85}\\p{Z}"

static void write_white_space(const char *text, mw_text *out) {
    bool in_class = false;
    for (const char *p = text; *p; p++) {
        if (*p == '\\' && p[1]) {
            p++;
            if (*p == 's')
                mw_text_addf(out, in_class ? WHITE : "[" WHITE "]");
            else if (*p == 'S')
                mw_text_addf(out, "[^" WHITE "]");
            else
                mw_text_addf(out, "\\%c", *p);
            continue;
        }
        if (*p == '[') in_class = true;
        if (*p == ']') in_class = false;
        mw_text_add(out, p, 1);
    }
}

static mw_status compile_known(const char *where, const char *text, pattern *out) {
    mw_text written = {0};
    write_white_space(text, &written);
    if (written.failed) return MW_ERR_MEMORY;
    int code = 0;
    PCRE2_SIZE offset = 0;
    out->known = pcre2_compile((PCRE2_SPTR)written.data, written.length, PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK,
                               &code, &offset, NULL);
    mw_text_free(&written);
    if (!out->known) return mw_error(MW_ERR_FORMAT, "%s: PCRE2 cannot compile the pattern '%s'", where, text);
    pcre2_jit_compile(out->known, PCRE2_JIT_COMPLETE); /* without JIT, matching is only slower */
    out->match = pcre2_match_data_create_from_pattern(out->known, NULL);
    out->context = pcre2_match_context_create(NULL);
    if (!out->match || !out->context) return mw_error(MW_ERR_MEMORY, "%s: out of memory for a pattern", where);
    pcre2_set_heap_limit(out->context, HEAP_KIB);
    return MW_OK;
}

/* ---- stand-ins: PCRE2 has Unicode data of its own version ---------------------------------------------- */

/* Code points that the known patterns cannot tell apart have one kind; the first one of each kind and length in UTF-8
 * stands for all. It is an old one, for which every version of PCRE2 has the same category. */
enum { KIND_IDEOGRAPH = 16, KIND_CASE_FOLD = 32, KINDS = 48 };

static uint16_t category_kind(uint32_t code, uint32_t facts) {
    uint32_t category = 1u << unicode_category_of(facts);
    if (unicode_is_space(code)) return 0;
    if (category & UNICODE_LETTERS) return (uint16_t)unicode_category_of(facts);
    if (category & UNICODE_MARKS) return 6;
    if (category & UNICODE_NUMBERS) return 7;
    if (category & UNICODE_PUNCTUATION) return 8;
    if (category & UNICODE_SYMBOLS) return 9;
    return 10;
}

static int kind_of(uint32_t code) {
    if (code == 0x17f) return KIND_CASE_FOLD;      /* equals s without regard to case */
    if (code == 0x212a) return KIND_CASE_FOLD + 1; /* equals k */
    bool ideograph = (code >= 0x4e00 && code <= 0x9fa5) || (code >= 0x3040 && code <= 0x30ff);
    return category_kind(code, unicode_facts(code)) + (ideograph ? KIND_IDEOGRAPH : 0);
}

static char stand_in_of[KINDS][5][4]; /* [kind][length in bytes] */
static _Atomic bool has_stand_in[KINDS][5];
static pthread_mutex_t finding_stand_in = PTHREAD_MUTEX_INITIALIZER;

/* Finds the stand-in of a kind that a text has: most are among the first code points of their length. */
static void find_stand_in(int kind, size_t length) {
    static const uint32_t first_of_length[] = {0, 0, 0x80, 0x800, 0x10000};
    static const uint32_t private_use[] = {0, 0, 0x80, 0xe000, 0xf0000}; /* unassigned ones may become assigned */
    pthread_mutex_lock(&finding_stand_in);
    uint32_t code = kind == kind_of(private_use[length]) ? private_use[length] : first_of_length[length];
    while (kind_of(code) != kind) code++;
    unicode_write(code, stand_in_of[kind][length]);
    has_stand_in[kind][length] = true;
    pthread_mutex_unlock(&finding_stand_in);
}

static bool is_ascii(const char *text, size_t length) {
    unsigned char all = 0;
    for (size_t i = 0; i < length; i++) all |= (unsigned char)text[i];
    return all < 0x80;
}

static mw_status write_stand_ins(pattern *p, const char *text, size_t length) {
    p->stand_ins.length = 0;
    mw_text_add(&p->stand_ins, text, length);
    if (p->stand_ins.failed) return MW_ERR_MEMORY;
    char *out = p->stand_ins.data;
    for (size_t i = 0, n; i < length; i += n) {
        n = 1;
        if ((unsigned char)text[i] < 0x80) continue;
        int kind = kind_of(unicode_read(text + i, &n));
        if (!has_stand_in[kind][n]) find_stand_in(kind, n);
        memcpy(out + i, stand_in_of[kind][n], n);
    }
    return MW_OK;
}

/* ---- Oniguruma ------------------------------------------------------------------------------------------- */

static pthread_once_t oniguruma_begun = PTHREAD_ONCE_INIT;
static int oniguruma_status;

static void begin_oniguruma(void) {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    oniguruma_status = onig_initialize(encodings, 1);
    onig_set_warn_func(onig_null_warn);
    onig_set_verb_warn_func(onig_null_warn);
}

static mw_status compile_general(const char *where, const char *text, pattern *out) {
    pthread_once(&oniguruma_begun, begin_oniguruma);
    mw_text written = {0};
    mw_status status = pattern_write_classes(where, text, &written);
    OnigErrorInfo info = {0};
    int code = oniguruma_status;
    if (status == MW_OK && code == ONIG_NORMAL) {
        const OnigUChar *begin = (const OnigUChar *)(written.data ? written.data : "");
        code = onig_new(&out->general, begin, begin + written.length, ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
                        ONIG_SYNTAX_DEFAULT, &info);
    }
    if (status == MW_OK && code != ONIG_NORMAL) {
        OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
        onig_error_code_to_str(message, code, &info);
        out->general = NULL;
        status = mw_error(MW_ERR_FORMAT, "%s: pattern '%s': %s", where, text, (const char *)message);
    }
    mw_text_free(&written);
    if (status != MW_OK) return status;
    return (out->region = onig_region_new()) ? MW_OK : MW_ERR_MEMORY;
}

/* ---- patterns -------------------------------------------------------------------------------------------- */

static mw_status finish(mw_status status, pattern *made, pattern **out) {
    if (status == MW_OK)
        *out = made;
    else
        pattern_free(made);
    return status;
}

mw_status pattern_compile(const char *where, const char *text, pattern **out) {
    unicode_ready();
    pattern *made = mw_calloc(1, sizeof *made);
    if (!made) return MW_ERR_MEMORY;
    return finish(is_known(text) ? compile_known(where, text, made) : compile_general(where, text, made), made, out);
}

mw_status pattern_compile_literal(const char *text, size_t length, pattern **out) {
    pattern *made = mw_calloc(1, sizeof *made);
    if (!made) return MW_ERR_MEMORY;
    made->literal_length = length;
    return finish((made->literal = mw_strndup(text, length)) ? MW_OK : MW_ERR_MEMORY, made, out);
}

void pattern_free(pattern *p) {
    if (!p) return;
    mw_free(p->literal);
    if (p->match) pcre2_match_data_free(p->match);
    if (p->context) pcre2_match_context_free(p->context);
    if (p->known) pcre2_code_free(p->known);
    mw_text_free(&p->stand_ins);
    if (p->region) onig_region_free(p->region, 1);
    if (p->general) onig_free(p->general);
    mw_free(p);
}

/* ---- matching -------------------------------------------------------------------------------------------- */

mw_status pattern_search_begin(pattern *p, const text_origin *origin, const char *text, size_t length,
                               pattern_search *out) {
    *out = (pattern_search){.of = p, .origin = origin, .text = text, .matched = text, .length = length};
    if (!p->known || is_ascii(text, length)) return MW_OK;
    MW_TRY(write_stand_ins(p, text, length));
    out->matched = p->stand_ins.data;
    return MW_OK;
}

static mw_status search_error(const pattern_search *s, const char *reason) {
    char problem[160];
    snprintf(problem, sizeof problem, "a pattern failed (%s)", reason);
    return text_error(s->origin, problem, s->text + s->from, s->length - s->from);
}

static void search_literal(const pattern_search *s, bool *found, size_t *begin, size_t *end) {
    const pattern *p = s->of;
    const char *hit = memmem(s->text + s->from, s->length - s->from, p->literal, p->literal_length);
    *found = hit != NULL;
    *begin = hit ? (size_t)(hit - s->text) : 0;
    *end = *begin + p->literal_length;
}

/* JIT code has a small stack: matches that do not fit are repeated without JIT. */
static mw_status search_known(const pattern_search *s, bool *found, size_t *begin, size_t *end) {
    pattern *p = s->of;
    PCRE2_SPTR text = (PCRE2_SPTR)s->matched;
    int code = pcre2_match(p->known, text, s->length, s->from, PCRE2_NO_UTF_CHECK, p->match, p->context);
    if (code == PCRE2_ERROR_JIT_STACKLIMIT)
        code = pcre2_match(p->known, text, s->length, s->from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, p->match, p->context);
    *found = code > 0;
    if (code <= 0 && code != PCRE2_ERROR_NOMATCH) {
        PCRE2_UCHAR reason[96];
        pcre2_get_error_message(code, reason, sizeof reason);
        return search_error(s, (const char *)reason);
    }
    const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(p->match);
    *begin = offsets[0];
    *end = offsets[1];
    return MW_OK;
}

static mw_status search_general(const pattern_search *s, bool *found, size_t *begin, size_t *end) {
    pattern *p = s->of;
    const OnigUChar *text = (const OnigUChar *)s->text, *stop = text + s->length;
    int code = onig_search(p->general, text, stop, text + s->from, stop, p->region, ONIG_OPTION_NONE);
    *found = code >= 0;
    if (code < 0 && code != ONIG_MISMATCH) {
        OnigUChar reason[ONIG_MAX_ERROR_MESSAGE_LEN];
        onig_error_code_to_str(reason, code);
        return search_error(s, (const char *)reason);
    }
    if (code < 0) return MW_OK;
    *begin = (size_t)p->region->beg[0];
    *end = (size_t)p->region->end[0];
    return MW_OK;
}

static mw_status search_once(const pattern_search *s, bool *found, size_t *begin, size_t *end) {
    if (s->of->known) return search_known(s, found, begin, end);
    if (s->of->general) return search_general(s, found, begin, end);
    search_literal(s, found, begin, end);
    return MW_OK;
}

mw_status pattern_search_next(pattern_search *s, bool *found, size_t *begin, size_t *end) {
    for (*found = false; s->from <= s->length;) {
        MW_TRY(search_once(s, found, begin, end));
        if (!*found) return MW_OK;
        bool repeated = *begin == *end && s->any && s->last_end == *end;
        if (!repeated) {
            s->from = s->last_end = *end;
            s->any = true;
            return MW_OK;
        }
        *found = false;
        size_t n = 1;
        if (s->from < s->length) unicode_read(s->text + s->from, &n);
        s->from += n;
    }
    return MW_OK;
}
