/* Decoders. Each takes the list of texts that the one before it made. */
#include "model/tokenizer/decode.h"
#include "model/tokenizer/unicode.h"

#include <string.h>

/* ---- lists of texts ------------------------------------------------------------------------------------- */

void text_list_free(text_list *list) {
    mw_text_free(&list->bytes);
    mw_free(list->ends);
    *list = (text_list){0};
}

mw_status text_list_end(text_list *list) {
    if (!MW_GROW(list->ends, list->count, list->capacity)) return MW_ERR_MEMORY;
    list->ends[list->count++] = list->bytes.length;
    return MW_OK;
}

static const char *text_at(const text_list *list, int64_t i, size_t *length) {
    size_t begin = i > 0 ? list->ends[i - 1] : 0;
    *length = list->ends[i] - begin;
    return list->bytes.data ? list->bytes.data + begin : "";
}

static mw_status put_text(text_list *list, const char *text, size_t length) {
    mw_text_add(&list->bytes, text, length);
    return text_list_end(list);
}

mw_status decoders_apply(const decoders *list, text_list *tokens, mw_text *out) {
    text_list made = {0};
    mw_status status = MW_OK;
    for (int64_t i = 0; status == MW_OK && i < list->count; i++) {
        made.bytes.length = 0;
        made.count = 0;
        status = list->items[i].apply(&list->items[i], tokens, &made);
        text_list kept = *tokens;
        *tokens = made;
        made = kept;
    }
    for (int64_t i = 0; status == MW_OK && i < tokens->count; i++) {
        size_t length;
        const char *text = text_at(tokens, i, &length);
        if (list->count == 0 && i > 0) mw_text_add(out, " ", 1);
        mw_text_add(out, text, length);
    }
    bool failed = tokens->bytes.failed || made.bytes.failed || out->failed;
    text_list_free(&made);
    return status == MW_OK && failed ? MW_ERR_MEMORY : status;
}

void decoders_free(decoders *list) {
    for (int64_t i = 0; i < list->count; i++) {
        pattern_free(list->items[i].pattern);
        mw_free(list->items[i].text);
        mw_free(list->items[i].other);
    }
    mw_free(list->items);
    *list = (decoders){0};
}

/* ---- bytes -------------------------------------------------------------------------------------------------- */

/* One text: the bytes of all tokens, repaired. Tokens with other characters than the byte alphabet's stay. */
mw_status decode_byte_level(const decoder *d, const text_list *in, text_list *out) {
    (void)d;
    mw_text bytes = {0};
    for (int64_t i = 0; i < in->count; i++) {
        size_t length, made;
        const char *token = text_at(in, i, &length);
        char *raw = mw_alloc(length + 1);
        bytes.failed = bytes.failed || !raw;
        if (!raw) break;
        bool whole = byte_level_bytes(token, length, raw, &made);
        mw_text_add(&bytes, whole ? raw : token, whole ? made : length);
        mw_free(raw);
    }
    mw_utf8_repair(&out->bytes, bytes.data ? bytes.data : "", bytes.length);
    out->bytes.failed = out->bytes.failed || bytes.failed;
    mw_text_free(&bytes);
    return text_list_end(out);
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool is_byte_token(const char *token, size_t length, unsigned char *byte) {
    if (length != 6 || memcmp(token, "<0x", 3) != 0 || token[5] != '>') return false;
    int high = token[3] == '+' ? 0 : hex_digit(token[3]), low = hex_digit(token[4]);
    *byte = (unsigned char)(16 * high + low);
    return high >= 0 && low >= 0;
}

/* Ends a run of byte tokens: as text if all of it is valid UTF-8, else one U+FFFD for each byte. */
static mw_status flush_bytes(mw_text *run, text_list *out) {
    size_t count = run->length;
    const char *bytes = run->data ? run->data : "";
    run->length = 0;
    if (count == 0) return MW_OK;
    if (mw_utf8_valid(bytes, count)) return put_text(out, bytes, count);
    for (size_t i = 0; i < count; i++) MW_TRY(put_text(out, "\xef\xbf\xbd", 3));
    return MW_OK;
}

mw_status decode_byte_fallback(const decoder *d, const text_list *in, text_list *out) {
    (void)d;
    mw_text run = {0};
    mw_status status = MW_OK;
    for (int64_t i = 0; status == MW_OK && i < in->count; i++) {
        size_t length;
        unsigned char byte;
        const char *token = text_at(in, i, &length);
        if (is_byte_token(token, length, &byte)) {
            mw_text_add(&run, (const char *)&byte, 1);
            continue;
        }
        status = flush_bytes(&run, out);
        if (status == MW_OK) status = put_text(out, token, length);
    }
    if (status == MW_OK) status = flush_bytes(&run, out);
    out->bytes.failed = out->bytes.failed || run.failed;
    mw_text_free(&run);
    return status;
}

/* ---- characters ---------------------------------------------------------------------------------------------- */

mw_status decode_fuse(const decoder *d, const text_list *in, text_list *out) {
    (void)d;
    return put_text(out, in->bytes.data ? in->bytes.data : "", in->count ? in->ends[in->count - 1] : 0);
}

mw_status decode_strip(const decoder *d, const text_list *in, text_list *out) {
    for (int64_t i = 0; i < in->count; i++) {
        size_t length, n;
        const char *text = text_at(in, i, &length);
        size_t begin = 0, end = length;
        for (int64_t k = 0; k < d->start && begin < length && unicode_read(text + begin, &n) == d->code; k++)
            begin += n;
        for (int64_t k = 0; k < d->stop && end > 0 && unicode_read_before(text, end, &n) == d->code; k++) end -= n;
        MW_TRY(put_text(out, text + begin, end > begin ? end - begin : 0));
    }
    return MW_OK;
}

mw_status decode_metaspace(const decoder *d, const text_list *in, text_list *out) {
    for (int64_t i = 0; i < in->count; i++) {
        size_t length, n;
        const char *text = text_at(in, i, &length);
        for (size_t k = 0; k < length; k += n) {
            bool mark = unicode_read(text + k, &n) == d->code;
            if (!mark)
                mw_text_add(&out->bytes, text + k, n);
            else if (i > 0 || !d->drops_first)
                mw_text_add(&out->bytes, " ", 1);
        }
        MW_TRY(text_list_end(out));
    }
    return MW_OK;
}

mw_status decode_replace(const decoder *d, const text_list *in, text_list *out) {
    const text_origin origin = {.tokenizer = "tokenizer", .path = "decoder", .what = "token", .number = 0};
    for (int64_t i = 0; i < in->count; i++) {
        size_t length, done = 0, begin, end;
        const char *text = text_at(in, i, &length);
        bool found = length > 0;
        pattern_search search;
        MW_TRY(pattern_search_begin(d->pattern, &origin, text, length, &search));
        while (found) {
            MW_TRY(pattern_search_next(&search, &found, &begin, &end));
            if (!found) break;
            mw_text_add(&out->bytes, text + done, begin - done);
            mw_text_add(&out->bytes, d->text, strlen(d->text));
            done = end;
        }
        mw_text_add(&out->bytes, text + done, length - done);
        MW_TRY(text_list_end(out));
    }
    return MW_OK;
}

/* ---- words ---------------------------------------------------------------------------------------------------- */

/* Replaces all of `from` in a text; an empty `from` occurs between all characters. */
static void replace_all(mw_text *text, const char *from, const char *to) {
    mw_text made = {0};
    size_t n = strlen(from), done = 0;
    for (size_t i = 0, step; i <= text->length; i += step) {
        step = 1;
        if (i + n > text->length || memcmp(text->data + i, from, n) != 0) continue;
        if (n == 0 && i < text->length && ((unsigned char)text->data[i] & 0xc0) == 0x80) continue;
        mw_text_add(&made, text->data + done, i - done);
        mw_text_add(&made, to, strlen(to));
        done = i + n;
        step = n ? n : 1;
    }
    mw_text_add(&made, text->data + done, text->length - done);
    made.failed = made.failed || text->failed;
    mw_text_swap(text, &made);
    mw_text_free(&made);
}

static void clean_up(mw_text *text) {
    static const char *const rules[][2] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                           {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                           {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; text->data && i < sizeof rules / sizeof *rules; i++) replace_all(text, rules[i][0], rules[i][1]);
}

static mw_status put_made(mw_text *made, text_list *out) {
    mw_text_add(&out->bytes, made->data ? made->data : "", made->length);
    out->bytes.failed = out->bytes.failed || made->failed;
    made->length = 0;
    return text_list_end(out);
}

mw_status decode_wordpiece(const decoder *d, const text_list *in, text_list *out) {
    mw_text made = {0};
    mw_status status = MW_OK;
    size_t prefix = strlen(d->text);
    for (int64_t i = 0; status == MW_OK && i < in->count; i++) {
        size_t length;
        const char *text = text_at(in, i, &length);
        bool continues = i > 0 && length >= prefix && memcmp(text, d->text, prefix) == 0;
        if (i > 0 && !continues) mw_text_add(&made, " ", 1);
        mw_text_add(&made, text + (continues ? prefix : 0), length - (continues ? prefix : 0));
        if (d->cleanup) clean_up(&made);
        status = put_made(&made, out);
    }
    mw_text_free(&made);
    return status;
}

mw_status decode_bpe(const decoder *d, const text_list *in, text_list *out) {
    mw_text made = {0};
    mw_status status = MW_OK;
    for (int64_t i = 0; status == MW_OK && i < in->count; i++) {
        size_t length;
        const char *text = text_at(in, i, &length);
        mw_text_add(&made, text, length);
        if (made.data) replace_all(&made, d->text, i + 1 < in->count ? " " : "");
        status = put_made(&made, out);
    }
    mw_text_free(&made);
    return status;
}

mw_status decode_ctc(const decoder *d, const text_list *in, text_list *out) {
    mw_text made = {0};
    mw_status status = MW_OK;
    for (int64_t i = 0; status == MW_OK && i < in->count; i++) {
        size_t length, before_length;
        const char *text = text_at(in, i, &length), *before = i > 0 ? text_at(in, i - 1, &before_length) : NULL;
        if (before && before_length == length && memcmp(before, text, length) == 0) continue;
        mw_text_add(&made, text, length);
        if (made.data) replace_all(&made, d->text, "");
        if (d->cleanup && made.data) {
            clean_up(&made);
            replace_all(&made, d->other, " ");
        }
        if (made.length) status = put_made(&made, out);
    }
    out->bytes.failed = out->bytes.failed || made.failed;
    mw_text_free(&made);
    return status;
}
