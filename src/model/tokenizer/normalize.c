/* Normalizers: Unicode forms, a prefix, literal replacement. */
#include "model/tokenizer/parts.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static bool is_ascii(const mw_text *text) {
    unsigned char all = 0;
    for (size_t i = 0; i < text->length; i++) all |= (unsigned char)text->data[i];
    return all < 0x80;
}

static mw_status unicode(const step *s, mw_text *text) {
    if (is_ascii(text)) return MW_OK;
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text->data, (utf8proc_ssize_t)text->length, &made,
                                      (utf8proc_option_t)s->unicode);
    if (n < 0) return mw_error(MW_ERR_FORMAT, "tokenizer: Unicode normalization failed: %s", utf8proc_errmsg(n));
    text->length = 0;
    mw_text_add(text, (const char *)made, (size_t)n);
    free(made);
    return MW_OK;
}

static void replace(const char *from, const char *to, mw_text *text, mw_text *scratch) {
    size_t from_length = strlen(from), to_length = strlen(to), done = 0;
    if (from_length == 0) return;
    scratch->length = 0;
    for (size_t i = 0; i + from_length <= text->length;) {
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

mw_status steps_normalize(const steps *list, mw_text *text, mw_text *scratch) {
    for (int64_t i = 0; i < list->count && text->length > 0; i++) {
        const step *s = &list->items[i];
        if (s->kind == STEP_UNICODE) {
            MW_TRY(unicode(s, text));
        } else if (s->kind == STEP_REPLACE) {
            replace(s->text, s->with, text, scratch);
        } else if (s->kind == STEP_PREPEND) {
            scratch->length = 0;
            mw_text_add(scratch, s->text, strlen(s->text));
            mw_text_add(scratch, text->data, text->length);
            mw_text_swap(text, scratch);
        }
    }
    return text->failed || scratch->failed ? MW_ERR_MEMORY : MW_OK;
}
