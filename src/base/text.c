/* Texts in counted memory: copies, formatted texts, and texts that grow. */
#include "microw/base.h"

#include <stdio.h>
#include <string.h>

char *mw_strndup(const char *text, size_t length) {
    char *copy = mw_alloc(length + 1);
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *mw_strdup(const char *text) {
    return mw_strndup(text, strlen(text));
}

char *mw_format(const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, fmt, args);
    char *text = length < 0 ? NULL : mw_alloc((size_t)length + 1);
    if (text) vsnprintf(text, (size_t)length + 1, fmt, again);
    va_end(again);
    va_end(args);
    return text;
}

mw_status mw_put_text(char **slot, const char *value) {
    char *copy = mw_strdup(value ? value : "");
    if (!copy) return MW_ERR_MEMORY;
    mw_free(*slot);
    *slot = copy;
    return MW_OK;
}

static bool text_reserve(mw_text *text, size_t more) {
    if (text->failed) return false;
    if (text->length + more + 1 <= text->capacity) return true;
    size_t capacity = text->capacity ? text->capacity : 256;
    while (capacity < text->length + more + 1) capacity *= 2;
    char *moved = mw_realloc(text->data, text->length, capacity);
    if (!moved) {
        text->failed = true;
        return false;
    }
    text->data = moved;
    text->capacity = capacity;
    return true;
}

void mw_text_add(mw_text *text, const char *bytes, size_t length) {
    if (!text_reserve(text, length)) return;
    if (length) memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void mw_text_addf(mw_text *text, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, fmt, args);
    if (length >= 0 && text_reserve(text, (size_t)length)) {
        vsnprintf(text->data + text->length, (size_t)length + 1, fmt, again);
        text->length += (size_t)length;
    }
    va_end(again);
    va_end(args);
}

void mw_text_swap(mw_text *a, mw_text *b) {
    mw_text kept = *a;
    *a = *b;
    *b = kept;
}

void mw_text_free(mw_text *text) {
    mw_free(text->data);
    *text = (mw_text){0};
}
