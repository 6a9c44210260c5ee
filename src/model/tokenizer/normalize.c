/* Normalizers: Unicode forms, prefixes, literal replacements. */
#include "model/tokenizer/tokenizer_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static bool is_ascii(const mw_text *text) {
    unsigned char all = 0;
    for (size_t i = 0; i < text->length; i++) all |= (unsigned char)text->data[i];
    return all < 0x80;
}

/* Limits chains of replacements, which could grow a text without bound. NFKD, the largest single step, makes 11 bytes
 * of one. */
static size_t output_limit(size_t length) {
    return 32 * length + 1024;
}

static mw_status expansion_error(const text_origin *origin, const mw_text *text, size_t limit) {
    char problem[128];
    snprintf(problem, sizeof problem, "the normalizer expands %zu bytes of text to more than %zu", (limit - 1024) / 32,
             limit);
    return text_error(origin, problem, text->data, text->length);
}

static mw_status normalize_unicode(const step *s, const text_origin *origin, mw_text *text) {
    if (is_ascii(text)) return MW_OK;
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text->data, (utf8proc_ssize_t)text->length, &made,
                                      (utf8proc_option_t)s->unicode);
    if (n < 0) {
        char problem[128];
        snprintf(problem, sizeof problem, "Unicode normalization failed: %s", utf8proc_errmsg(n));
        return text_error(origin, problem, text->data, text->length);
    }
    text->length = 0;
    mw_text_add(text, (const char *)made, (size_t)n);
    free(made);
    return MW_OK;
}

/* Stops when the output is longer than `limit`. */
static void replace(const char *from, const char *to, size_t limit, mw_text *text, mw_text *scratch) {
    size_t from_length = strlen(from), to_length = strlen(to), done = 0;
    if (from_length == 0) return;
    scratch->length = 0;
    for (size_t i = 0; i + from_length <= text->length && scratch->length <= limit;) {
        const char *hit = memchr(text->data + i, from[0], text->length - i - from_length + 1);
        if (!hit) break;
        i = (size_t)(hit - text->data);
        if (memcmp(hit, from, from_length) != 0) {
            i++;
            continue;
        }
        mw_text_add(scratch, text->data + done, i - done);
        mw_text_add(scratch, to, to_length);
        done = i += from_length;
    }
    mw_text_add(scratch, text->data + done, text->length - done);
    mw_text_swap(text, scratch);
}

static void prepend(const char *prefix, mw_text *text, mw_text *scratch) {
    scratch->length = 0;
    mw_text_add(scratch, prefix, strlen(prefix));
    mw_text_add(scratch, text->data, text->length);
    mw_text_swap(text, scratch);
}

mw_status steps_normalize(const steps *list, const text_origin *origin, mw_text *text, mw_text *scratch) {
    size_t limit = output_limit(text->length);
    for (int64_t i = 0; i < list->count && text->length > 0; i++) {
        const step *s = &list->items[i];
        if (s->kind == STEP_UNICODE)
            MW_TRY(normalize_unicode(s, origin, text));
        else if (s->kind == STEP_REPLACE)
            replace(s->text, s->replacement, limit, text, scratch);
        else if (s->kind == STEP_PREPEND)
            prepend(s->text, text, scratch);
        if (text->failed || scratch->failed) return MW_ERR_MEMORY;
        if (text->length > limit) return expansion_error(origin, text, limit);
    }
    return text->failed || scratch->failed ? MW_ERR_MEMORY : MW_OK;
}
