/* Looks up facts about code points. */
#include "model/tokenizer/unicode.h"

#include <pthread.h>

enum { CODES = 0x110000 };

static uint16_t value_index[CODES];
static pthread_once_t expanded = PTHREAD_ONCE_INIT;

static void expand_runs(void) {
    for (int i = 0; i < unicode_run_count; i++) {
        uint32_t end = i + 1 < unicode_run_count ? unicode_runs[i + 1] >> 11 : CODES;
        for (uint32_t c = unicode_runs[i] >> 11; c < end; c++) value_index[c] = (uint16_t)(unicode_runs[i] & 0x7ff);
    }
}

void unicode_ready(void) {
    pthread_once(&expanded, expand_runs);
}

uint32_t unicode_facts(uint32_t code) {
    return code < CODES ? unicode_values[value_index[code]] : 0;
}

bool unicode_is_space(uint32_t code) {
    if (code < 0x80) return (code >= 9 && code <= 13) || code == ' ';
    return code == 0x85 || code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

/* Finds the run of a code point; its value is in the low 8 bits. */
static int find_run(const uint32_t *runs, int count, uint32_t code) {
    int low = 0, high = count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (runs[middle] >> 8 <= code)
            low = middle;
        else
            high = middle;
    }
    return (int)(runs[low] & 0xff);
}

int unicode_script(uint32_t code) {
    return find_run(unicode_script_runs, unicode_script_run_count, code);
}

int unicode_script_class(uint32_t code) {
    return find_run(unicode_class_runs, unicode_class_run_count, code);
}

int unicode_lower(uint32_t code, uint32_t out[2]) {
    out[0] = code;
    if (code < 0x80) {
        if (code >= 'A' && code <= 'Z') out[0] += 32;
        return 1;
    }
    if (code == 0x130) { /* the only one with two characters: i and a dot above */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    int low = 0, high = unicode_lower_case_count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (unicode_lower_case[middle].first <= code)
            low = middle;
        else
            high = middle;
    }
    const unicode_case *r = &unicode_lower_case[low];
    if (code >= r->first && code <= r->last && (code - r->first) % (uint32_t)r->step == 0)
        out[0] = (uint32_t)((int64_t)code + r->difference);
    return 1;
}

size_t unicode_write(uint32_t code, char out[4]) {
    if (code < 0x80) return out[0] = (char)code, 1;
    if (code < 0x800) return out[0] = (char)(0xc0 | code >> 6), out[1] = (char)(0x80 | (code & 63)), 2;
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 63));
        out[2] = (char)(0x80 | (code & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 63));
    out[2] = (char)(0x80 | (code >> 6 & 63));
    out[3] = (char)(0x80 | (code & 63));
    return 4;
}
