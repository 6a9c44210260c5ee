/* Parser of JSON into jansson's values, by the rule in json.h. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 2048, SHOWN_MAX = 32 };

/* Odd values are objects with one member, whose key is invalid UTF-8, so that no text can contain it. */
static const char not_finite[] = "\xff", given_twice[] = "\xfe";

typedef struct reader {
    const char *begin, *at, *end;
    int depth;
    mw_text text; /* of the current string or number */
    mw_text keys; /* of the open objects, each with a NUL */
    mw_json_report *report;
} reader;

/* ---- errors --------------------------------------------------------------------------------- */

/* Records the first error. */
static void *fail_with(reader *r, mw_status status, const char *problem) {
    mw_json_report *report = r->report;
    if (report->status != MW_OK) return NULL;
    report->status = status;
    report->at = (size_t)(r->at - r->begin);
    snprintf(report->problem, sizeof report->problem, "%s", problem);
    return NULL;
}

static void *out_of_memory(reader *r) {
    return fail_with(r, MW_ERR_MEMORY, "out of memory");
}

static void *expected(reader *r, const char *what) {
    char problem[sizeof r->report->problem], seen[16] = "the end";
    unsigned char c = r->at < r->end ? (unsigned char)*r->at : 0;
    if (r->at < r->end) snprintf(seen, sizeof seen, c > 0x20 && c < 0x7f ? "'%c'" : "byte 0x%02x", c);
    snprintf(problem, sizeof problem, "expected %s, found %s", what, seen);
    return fail_with(r, MW_ERR_FORMAT, problem);
}

/* ---- strings ----------------------------------------------------------------------------------------- */

static bool hex4(reader *r, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = r->at < r->end ? *r->at : '\0';
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0) return expected(r, "four hexadecimal digits");
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

static void add_character(mw_text *text, uint32_t c) {
    char bytes[4];
    if (c < 0x80) {
        bytes[0] = (char)c;
        mw_text_add(text, bytes, 1);
        return;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) bytes[i] = (char)(0x80 | (c & 0x3f));
    bytes[0] = (char)(0xf00 >> n | c);
    mw_text_add(text, bytes, n);
}

/* Reads the digits after \u, and the second half of a surrogate pair. */
static bool read_unicode(reader *r) {
    uint32_t c, low;
    if (!hex4(r, &c)) return false;
    if (c >= 0xd800 && c < 0xdc00 && r->end - r->at >= 2 && r->at[0] == '\\' && r->at[1] == 'u') {
        const char *behind = r->at;
        r->at += 2;
        if (!hex4(r, &low)) return false;
        if (low >= 0xdc00 && low < 0xe000)
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        else
            r->at = behind; /* read again as a separate character */
    }
    if (c >= 0xd800 && c < 0xe000) {
        r->report->surrogates++;
        c = 0xfffd;
    }
    add_character(&r->text, c);
    return true;
}

static bool read_escape(reader *r) {
    static const char written[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char c = ++r->at < r->end ? *r->at : '\0';
    const char *known = c ? strchr(written, c) : NULL;
    if (!known && c != 'u') return expected(r, "an escape");
    r->at++;
    if (c == 'u') return read_unicode(r);
    mw_text_add(&r->text, &meant[known - written], 1);
    return true;
}

/* Skips characters without escapes. */
static bool skip_plain(reader *r) {
    const char *p = r->at;
    for (size_t n; p < r->end && *p != '"' && *p != '\\'; p += n) {
        unsigned char c = (unsigned char)*p;
        n = c < 0x80 ? c >= 0x20 : mw_utf8_length(p, (size_t)(r->end - p));
        if (n > 0) continue;
        r->at = p;
        return c < 0x20 ? expected(r, "an escape for a control character")
                        : fail_with(r, MW_ERR_FORMAT, "invalid UTF-8");
    }
    r->at = p;
    return true;
}

/* Reads a string from its opening quote. `bytes` points into the source, or into r->text after escapes. */
static bool read_string(reader *r, const char **bytes, size_t *length) {
    const char *run = ++r->at;
    r->text.length = 0;
    for (bool escaped = false;; escaped = true) {
        if (!skip_plain(r)) return false;
        if (r->at >= r->end) return expected(r, "the quote that ends a text");
        size_t n = (size_t)(r->at - run);
        if (*r->at == '"' && !escaped) {
            *bytes = run;
            *length = n;
            break;
        }
        mw_text_add(&r->text, run, n);
        if (*r->at == '"') {
            *bytes = r->text.data;
            *length = r->text.length;
            break;
        }
        if (!read_escape(r)) return false;
        run = r->at;
    }
    r->at++;
    return !r->text.failed || out_of_memory(r);
}

static json_t *read_text(reader *r) {
    const char *bytes;
    size_t length;
    if (!read_string(r, &bytes, &length)) return NULL;
    json_t *made = json_stringn_nocheck(bytes, length);
    return made ? made : out_of_memory(r);
}

/* Appends a key to those of the enclosing objects. */
static bool read_key(reader *r) {
    const char *bytes, *zero;
    size_t length;
    if (!read_string(r, &bytes, &length)) return false;
    for (; (zero = memchr(bytes, 0, length)); length -= (size_t)(zero + 1 - bytes), bytes = zero + 1) {
        mw_text_add(&r->keys, bytes, (size_t)(zero - bytes));
        mw_text_add(&r->keys, "\xc0\x80", 2);
    }
    mw_text_add(&r->keys, bytes, length);
    mw_text_add(&r->keys, "", 1);
    return !r->keys.failed || out_of_memory(r);
}

/* ---- numbers ----------------------------------------------------------------------------------------- */

/* Makes an odd value. */
static json_t *odd_value(reader *r, const char *kind, const char *text, size_t length) {
    json_t *made = json_object();
    bool good = made && json_object_set_new_nocheck(
                            made, kind, json_stringn_nocheck(text, length < SHOWN_MAX ? length : SHOWN_MAX)) == 0;
    if (good) return made;
    json_decref(made);
    return out_of_memory(r);
}

static bool is_digit(const reader *r) {
    return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

static bool skip_digits(reader *r) {
    if (!is_digit(r)) return expected(r, "a digit");
    while (is_digit(r)) r->at++;
    return true;
}

static bool skip_fraction(reader *r) {
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (!skip_digits(r)) return false;
    }
    if (r->at < r->end && (*r->at | 32) == 'e') {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
        if (!skip_digits(r)) return false;
    }
    return true;
}

static json_t *real_number(reader *r, const char *from) {
    size_t length = (size_t)(r->at - from);
    r->text.length = 0;
    mw_text_add(&r->text, from, length);
    if (r->text.failed) return out_of_memory(r);
    double value = strtod(r->text.data, NULL);
    if (!isfinite(value)) return odd_value(r, not_finite, from, length);
    json_t *made = json_real(value);
    return made ? made : out_of_memory(r);
}

/* Converts digits to 64 bits; false: overflow. */
static bool whole_number(const char *p, const char *end, int64_t *out) {
    bool negative = *p == '-';
    *out = 0;
    for (p += negative; p < end; p++) {
        int digit = negative ? '0' - *p : *p - '0';
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, digit, out)) return false;
    }
    return true;
}

/* Skips `word` if it follows. */
static bool skip_word(reader *r, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) return false;
    r->at += n;
    return true;
}

static json_t *read_number(reader *r) {
    const char *from = r->at;
    int64_t whole;
    if (skip_word(r, "NaN") || skip_word(r, "Infinity") || skip_word(r, "-Infinity"))
        return odd_value(r, not_finite, from, (size_t)(r->at - from));
    if (*r->at == '-') r->at++;
    if (r->at < r->end && *r->at == '0')
        r->at++; /* no digit may follow a leading zero */
    else if (!skip_digits(r))
        return NULL;
    const char *digits = r->at;
    if (!skip_fraction(r)) return NULL;
    if (r->at != digits || !whole_number(from, digits, &whole)) return real_number(r, from);
    json_t *made = json_integer(whole);
    return made ? made : out_of_memory(r);
}

/* ---- values ---------------------------------------------------------------------------------------- */

static json_t *read_value(reader *r);

static void skip_space(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) r->at++;
}

/* Skips the character `c` and the white space around it; false: another character follows. */
static bool skip_character(reader *r, char c) {
    skip_space(r);
    if (r->at >= r->end || *r->at != c) return false;
    r->at++;
    skip_space(r);
    return true;
}

/* Sets a member and owns `value`. A second, different value of a key makes the member odd. */
static bool put_member(reader *r, json_t *object, const char *key, json_t *value) {
    const json_t *first = json_object_get(object, key);
    if (first && !json_equal(first, value)) {
        json_decref(value);
        value = odd_value(r, given_twice, "", 0);
    }
    if (value && json_object_set_new_nocheck(object, key, value) == 0) return true;
    return out_of_memory(r);
}

static bool read_member(reader *r, json_t *object) {
    size_t mark = r->keys.length;
    if (r->at >= r->end || *r->at != '"') return expected(r, "a key in quotes");
    if (!read_key(r)) return false;
    if (!skip_character(r, ':')) return expected(r, "':'");
    json_t *value = read_value(r);
    if (!value || !put_member(r, object, r->keys.data + mark, value)) return false;
    r->keys.length = mark;
    return true;
}

static bool read_element(reader *r, json_t *array) {
    json_t *value = read_value(r);
    return value && (json_array_append_new(array, value) == 0 || out_of_memory(r));
}

/* Reads members or elements up to `close`. */
static json_t *read_all(reader *r, json_t *into, bool (*read)(reader *, json_t *), char close, const char *what) {
    bool good = into || out_of_memory(r);
    r->at++;
    if (good && ++r->depth > DEPTH_MAX) good = fail_with(r, MW_ERR_FORMAT, "nested deeper than 2048");
    if (good && !skip_character(r, close)) {
        do good = read(r, into);
        while (good && skip_character(r, ','));
        if (good && !skip_character(r, close)) good = expected(r, what);
    }
    r->depth--;
    if (good) return into;
    json_decref(into);
    return NULL;
}

static json_t *read_value(reader *r) {
    char c = r->at < r->end ? *r->at : '\0';
    if (c == '"') return read_text(r);
    if (c == '{') return read_all(r, json_object(), read_member, '}', "',' or '}'");
    if (c == '[') return read_all(r, json_array(), read_element, ']', "',' or ']'");
    if (c == '-' || (c >= '0' && c <= '9') || c == 'N' || c == 'I') return read_number(r);
    if (skip_word(r, "true")) return json_true();
    if (skip_word(r, "false")) return json_false();
    if (skip_word(r, "null")) return json_null();
    return expected(r, "a value");
}

json_t *mw_json_read(const char *text, size_t length, mw_json_report *report) {
    *report = (mw_json_report){.status = MW_OK};
    reader r = {.begin = text, .at = text, .end = text + length, .report = report};
    skip_word(&r, "\xef\xbb\xbf");
    skip_space(&r);
    json_t *value = read_value(&r);
    skip_space(&r);
    if (value && r.at < r.end) {
        json_decref(value);
        value = expected(&r, "the end");
    }
    mw_text_free(&r.text);
    mw_text_free(&r.keys);
    return value;
}

/* ---- odd values and keys ----------------------------------------------------------------------------------- */

const char *mw_json_odd(const json_t *value) {
    if (!json_is_object(value) || json_object_size(value) != 1) return NULL;
    if (json_object_get(value, given_twice)) return "two different values (the key is given twice)";
    return json_string_value(json_object_get(value, not_finite));
}

size_t mw_json_key_bytes(const char *key, char *out) {
    size_t n = 0;
    for (; *key; key++) {
        bool zero = key[0] == '\xc0';
        out[n++] = zero ? '\0' : *key;
        key += zero; /* skips the 0x80 */
    }
    out[n] = '\0';
    return n;
}
