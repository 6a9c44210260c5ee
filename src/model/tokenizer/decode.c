/* Decodes token ids: the bytes of each token, and whole texts. */
#include "model/tokenizer/tokenizer_private.h"

#include <stdio.h>
#include <string.h>

/* GPT-2's byte alphabet (encoder.py): printable bytes are their own character, the 68 others U+0100 and up. */
static bool is_printable(int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
}

static int byte_of_character(uint32_t character) {
    if (character < 256) return is_printable((int)character) ? (int)character : -1;
    int n = 256;
    for (int b = 0; b < 256; b++)
        if (!is_printable(b) && n++ == (int)character) return b;
    return -1;
}

bool byte_level_bytes(const char *token, size_t length, char *out, size_t *out_length) {
    size_t made = 0;
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)token[i];
        size_t n = mw_utf8_length(token + i, length - i);
        uint32_t character = n == 1 ? c : n == 2 ? (c & 31u) << 6 | ((unsigned char)token[i + 1] & 63u) : UINT32_MAX;
        int byte = character == UINT32_MAX ? -1 : byte_of_character(character);
        if (n == 0 || byte < 0) return false;
        out[made++] = (char)byte;
        i += n;
    }
    *out_length = made;
    return true;
}

/* Recognizes "<0xAB>". */
static bool is_byte_token(const char *token, size_t length, unsigned *byte) {
    char end;
    return length == 6 && sscanf(token, "<0x%2X%c", byte, &end) == 2 && end == '>';
}

static void write_token_bytes(const decoding *how, const char *token, size_t length, char *out, size_t *out_length) {
    unsigned byte;
    if (how->byte_level && byte_level_bytes(token, length, out, out_length)) return;
    if (how->byte_fallback && is_byte_token(token, length, &byte)) {
        out[0] = (char)byte;
        *out_length = 1;
        return;
    }
    size_t made = 0;
    for (size_t i = 0; i < length;) {
        bool mark = how->mark_to_space && length - i >= 3 && memcmp(token + i, SPACE_MARK, 3) == 0;
        out[made++] = mark ? ' ' : token[i];
        i += mark ? 3 : 1;
    }
    *out_length = made;
}

mw_status tokenizer_fill_token_bytes(mw_tokenizer *t) {
    t->bytes = mw_calloc((size_t)t->vocabulary.size, sizeof *t->bytes);
    t->bytes_length = mw_calloc((size_t)t->vocabulary.size, sizeof *t->bytes_length);
    if (!t->bytes || !t->bytes_length) return MW_ERR_MEMORY;
    for (int64_t id = 0; id < t->vocabulary.size; id++) {
        const char *token = t->vocabulary.token[id];
        if (!token) continue;
        size_t length = t->vocabulary.length[id], made = 0;
        if (!(t->bytes[id] = mw_alloc(length + 1))) return MW_ERR_MEMORY;
        write_token_bytes(&t->decoding, token, length, t->bytes[id], &made);
        t->bytes[id][made] = '\0';
        t->bytes_length[id] = (uint32_t)made;
    }
    return MW_OK;
}

const char *mw_tokenizer_token(const mw_tokenizer *t, int32_t id, size_t *length) {
    bool known = id >= 0 && id < t->vocabulary.size && t->bytes[id];
    if (length) *length = known ? t->bytes_length[id] : 0;
    return known ? t->bytes[id] : "";
}

/* Appends a run of byte tokens: as text if all of it is valid UTF-8, else one U+FFFD per byte (ByteFallback's rule). */
static void flush_bytes(mw_text *run, mw_text *out) {
    if (mw_utf8_valid(run->data ? run->data : "", run->length))
        mw_text_add(out, run->data ? run->data : "", run->length);
    else
        for (size_t i = 0; i < run->length; i++) mw_text_add(out, "\xef\xbf\xbd", 3);
    run->length = 0;
}

static void decode_pieces(const mw_tokenizer *t, const int32_t *ids, int64_t count, mw_text *out) {
    mw_text run = {0};
    for (int64_t i = 0; i < count; i++) {
        unsigned byte;
        size_t length;
        const char *text = mw_tokenizer_token(t, ids[i], &length);
        bool known = ids[i] >= 0 && ids[i] < t->vocabulary.size && t->vocabulary.token[ids[i]];
        bool is_byte = known && t->decoding.byte_fallback &&
                       is_byte_token(t->vocabulary.token[ids[i]], t->vocabulary.length[ids[i]], &byte);
        if (!is_byte) flush_bytes(&run, out);
        mw_text_add(is_byte ? &run : out, text, length);
    }
    flush_bytes(&run, out);
    out->failed = out->failed || run.failed;
    mw_text_free(&run);
}

mw_status mw_tokenizer_decode(const mw_tokenizer *t, const int32_t *ids, int64_t count, mw_text *out) {
    mw_text whole = {0};
    decode_pieces(t, ids, count, &whole);
    const char *from = whole.data ? whole.data : "";
    size_t length = whole.length;
    if (t->decoding.drop_first_space && length && from[0] == ' ') {
        from++;
        length--;
    }
    if (t->decoding.byte_level)
        mw_utf8_repair(out, from, length);
    else
        mw_text_add(out, from, length);
    bool failed = whole.failed || out->failed;
    mw_text_free(&whole);
    return failed ? MW_ERR_MEMORY : MW_OK;
}
