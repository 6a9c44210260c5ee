/* Numbers in text, endings of texts, line numbers and edit distance. */
#include "microw/base.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NUMBER_MAX = 64, WORD_MAX = 64 };

/* Copies a number without the underscores between digits. */
static bool strip_underscores(const char *text, char out[NUMBER_MAX]) {
    size_t length = 0;
    if (isspace((unsigned char)text[0]) || text[0] == '\0') return false;
    for (const char *p = text; *p; p++) {
        if (*p == '_') {
            if (p == text || !isdigit((unsigned char)p[-1]) || !isdigit((unsigned char)p[1])) return false;
            continue;
        }
        if (length + 1 >= NUMBER_MAX) return false;
        out[length++] = *p;
    }
    out[length] = '\0';
    return length > 0;
}

bool mw_parse_double(const char *text, double *out) {
    char plain[NUMBER_MAX], *end;
    if (!strip_underscores(text, plain)) return false;
    double value = strtod(plain, &end);
    if (*end != '\0' || !isfinite(value)) return false;
    *out = value;
    return true;
}

bool mw_parse_int(const char *text, int64_t *out) {
    char plain[NUMBER_MAX], *end;
    if (!strip_underscores(text, plain)) return false;
    errno = 0;
    long long value = strtoll(plain, &end, 10);
    if (*end == '\0' && errno == 0) {
        *out = value;
        return true;
    }
    /* accepts 1e6 for a count */
    double real;
    if (!mw_parse_double(text, &real) || real != floor(real) || fabs(real) > 9e15) return false;
    *out = (int64_t)real;
    return true;
}

mw_shown mw_show(double value, int decimals) {
    mw_shown out = {"-"};
    if (!isnan(value)) snprintf(out.text, sizeof out.text, "%.*f", decimals, value);
    return out;
}

bool mw_ends_with(const char *text, const char *suffix) {
    size_t n = strlen(text), k = strlen(suffix);
    return n >= k && strcmp(text + n - k, suffix) == 0;
}

bool mw_ends_with_any_case(const char *text, const char *suffix) {
    size_t n = strlen(text), k = strlen(suffix);
    return n >= k && strcasecmp(text + n - k, suffix) == 0;
}

int64_t mw_line_number(const char *text, size_t at) {
    int64_t line = 1;
    for (size_t i = 0; i < at; i++) line += text[i] == '\n';
    return line;
}

int mw_edit_distance(const char *a, const char *b) {
    size_t la = strlen(a), lb = strlen(b);
    if (la >= WORD_MAX || lb >= WORD_MAX) return WORD_MAX;
    int row[WORD_MAX];
    for (size_t j = 0; j <= lb; j++) row[j] = (int)j;
    for (size_t i = 1; i <= la; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= lb; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}
