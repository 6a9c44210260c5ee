/* The bytes of each token as they occur in a text. */
#include "model/tokenizer/tokenizer_private.h"
#include "model/tokenizer/unicode.h"

#include <string.h>

static const decoder *find_decoder(const mw_tokenizer *t, decode_call *apply) {
    for (int64_t i = 0; i < t->decoders.count; i++)
        if (t->decoders.items[i].apply == apply) return &t->decoders.items[i];
    return NULL;
}

static void replace_code(const char *token, size_t length, uint32_t code, mw_text *out) {
    for (size_t i = 0, n; i < length; i += n) {
        bool mark = unicode_read(token + i, &n) == code;
        mw_text_add(out, mark ? " " : token + i, mark ? 1 : n);
    }
}

/* Applies the decoders that change single tokens. */
static mw_status decode_alone(const mw_tokenizer *t, const char *token, size_t length, mw_text *out) {
    text_list one = {0}, made = {0};
    mw_text_add(&one.bytes, token, length);
    mw_status status = text_list_end(&one);
    for (int64_t i = 0; status == MW_OK && i < t->decoders.count; i++) {
        const decoder *d = &t->decoders.items[i];
        if (d->apply != decode_replace) continue;
        status = d->apply(d, &one, &made);
        text_list_free(&one);
        one = made;
        made = (text_list){0};
    }
    if (status == MW_OK) mw_text_add(out, one.bytes.data ? one.bytes.data : "", one.bytes.length);
    text_list_free(&one);
    text_list_free(&made);
    return status;
}

static bool ends_with(const char *token, size_t length, const char *end) {
    size_t n = strlen(end);
    return n > 0 && length >= n && memcmp(token + length - n, end, n) == 0;
}

static mw_status write_token(const mw_tokenizer *t, int32_t id, const char *token, size_t length, mw_text *out) {
    unsigned char byte;
    size_t made;
    const decoder *metaspace = find_decoder(t, decode_metaspace), *bpe = find_decoder(t, decode_bpe),
                  *wordpiece = find_decoder(t, decode_wordpiece);
    if (t->added_of[id] >= 0) {
        mw_text_add(out, token, length);
    } else if (t->model.bpe.byte_level || find_decoder(t, decode_byte_level)) {
        char *bytes = mw_alloc(length + 1);
        if (!bytes) return MW_ERR_MEMORY;
        bool whole = byte_level_bytes(token, length, bytes, &made);
        mw_text_add(out, whole ? bytes : token, whole ? made : length);
        mw_free(bytes);
    } else if (find_decoder(t, decode_byte_fallback) && is_byte_token(token, length, &byte)) {
        mw_text_add(out, (const char *)&byte, 1);
    } else if (metaspace) {
        replace_code(token, length, metaspace->code, out);
    } else if (wordpiece) {
        size_t n = strlen(wordpiece->text);
        bool continues = length > n && memcmp(token, wordpiece->text, n) == 0;
        mw_text_add(out, token + (continues ? n : 0), length - (continues ? n : 0));
    } else if (bpe && ends_with(token, length, bpe->text)) {
        mw_text_add(out, token, length - strlen(bpe->text));
        mw_text_add(out, " ", 1);
    } else {
        return decode_alone(t, token, length, out);
    }
    return MW_OK;
}

/* Fills `bytes` and `bytes_length`. */
mw_status tokenizer_fill_token_bytes(mw_tokenizer *t) {
    mw_text made = {0};
    mw_status status = MW_OK;
    t->bytes = mw_calloc((size_t)t->vocabulary.size, sizeof *t->bytes);
    t->bytes_length = mw_calloc((size_t)t->vocabulary.size, sizeof *t->bytes_length);
    if (!t->bytes || !t->bytes_length) return MW_ERR_MEMORY;
    for (int64_t id = 0; status == MW_OK && id < t->vocabulary.size; id++) {
        const char *token = t->vocabulary.token[id];
        if (!token) continue;
        made.length = 0;
        status = write_token(t, (int32_t)id, token, t->vocabulary.length[id], &made);
        if (status == MW_OK && !(t->bytes[id] = mw_strndup(made.data ? made.data : "", made.length)))
            status = MW_ERR_MEMORY;
        t->bytes_length[id] = (uint32_t)made.length;
    }
    bool failed = made.failed;
    mw_text_free(&made);
    return failed ? MW_ERR_MEMORY : status;
}

const char *mw_tokenizer_token(const mw_tokenizer *t, int32_t id, size_t *length) {
    bool known = id >= 0 && id < t->vocabulary.size && t->bytes[id];
    if (length) *length = known ? t->bytes_length[id] : 0;
    return known ? t->bytes[id] : "";
}
