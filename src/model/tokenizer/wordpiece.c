/* WordPiece (Schuster and Nakajima 2012), longest match first, and WordLevel, whole words. */
#include "model/tokenizer/unicode.h"
#include "model/tokenizer/word_models.h"

#include <string.h>

static mw_status put_unknown(token_model *m, const text_origin *origin, const char *word, size_t length, mw_ids *out) {
    return m->unk < 0 ? no_unknown_token(m, origin, word, length) : mw_ids_add(out, m->unk);
}

mw_status wordlevel_encode(token_model *m, const text_origin *origin, const char *word, size_t length, mw_ids *out) {
    int32_t id = vocabulary_find(&m->tokens, word, length);
    return id >= 0 ? mw_ids_add(out, id) : put_unknown(m, origin, word, length, out);
}

/* Finds the longest token at `start`; -1: none. `part` begins with the prefix of later parts. */
static int32_t longest_token(const token_model *m, const mw_text *part, size_t prefix, size_t start, size_t *length) {
    const char *text = part->data + (start ? 0 : prefix);
    for (size_t n = *length; n > 0; n--) {
        bool whole = n == *length || ((unsigned char)part->data[prefix + n] & 0xc0) != 0x80;
        int32_t id = whole ? vocabulary_find(&m->tokens, text, n + (start ? prefix : 0)) : -1;
        if (id >= 0) return *length = n, id;
    }
    return -1;
}

mw_status wordpiece_encode(token_model *m, const text_origin *origin, const char *word, size_t length, mw_ids *out) {
    wordpiece *w = &m->wordpiece;
    int64_t first = out->count;
    size_t prefix = strlen(w->prefix);
    if ((int64_t)unicode_count(word, length) > w->most_characters) return put_unknown(m, origin, word, length, out);
    for (size_t start = 0, n; start < length; start += n) {
        w->part.length = 0;
        mw_text_add(&w->part, w->prefix, prefix);
        mw_text_add(&w->part, word + start, length - start);
        if (w->part.failed) return MW_ERR_MEMORY;
        n = length - start;
        int32_t id = longest_token(m, &w->part, prefix, start, &n);
        if (id < 0) {
            out->count = first;
            return put_unknown(m, origin, word, length, out);
        }
        MW_TRY(mw_ids_add(out, id));
    }
    return MW_OK;
}
