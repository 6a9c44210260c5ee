/* Normalizers that look at characters, prefixes and patterns. normal_forms.c and precompiled.c have the others. */
#include "model/tokenizer/normalize.h"
#include "model/tokenizer/unicode.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* The rule "first" of the pre-tokenizer Metaspace asks whether a word begins where the input does. The reference
 * library knows for each character which one of the input it stands for; here `lead` counts the leading bytes that
 * stand for the first one. What a character stands for that replaces others is noted at each normalizer. */

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

mw_status normalizers_apply(const normalizers *list, const text_origin *origin, changing_text *t) {
    size_t limit = output_limit(t->text.length);
    for (int64_t i = 0; i < list->count && t->text.length > 0; i++) {
        MW_TRY(list->items[i].apply(&list->items[i], origin, t));
        if (t->text.failed || t->scratch.failed) return MW_ERR_MEMORY;
        if (t->text.length > limit) return expansion_error(origin, &t->text, limit);
    }
    return t->text.failed || t->scratch.failed ? MW_ERR_MEMORY : MW_OK;
}

void normalizers_free(normalizers *list) {
    for (int64_t i = 0; i < list->count; i++) {
        pattern_free(list->items[i].pattern);
        mw_free(list->items[i].content);
        mw_free(list->items[i].trie);
        mw_free(list->items[i].replacements);
    }
    mw_free(list->items);
    *list = (normalizers){0};
}

/* ---- characters ---------------------------------------------------------------------------------------- */

/* Writes what replaces a character; returns the number of code points, 0 to 3. */
typedef int change_call(uint32_t code, uint32_t out[3]);

static void change_characters(change_call *change, changing_text *t) {
    size_t lead = 0;
    t->scratch.length = 0;
    for (size_t i = 0, n; i < t->text.length; i += n) {
        uint32_t made[3];
        char bytes[4];
        int count = change(unicode_read(t->text.data + i, &n), made);
        for (int k = 0; k < count; k++) mw_text_add(&t->scratch, bytes, unicode_write(made[k], bytes));
        if (i < t->lead) lead = t->scratch.length;
    }
    t->lead = lead;
    mw_text_swap(&t->text, &t->scratch);
}

static int to_lower(uint32_t code, uint32_t out[3]) {
    return unicode_lower(code, out);
}

static int without_combining(uint32_t code, uint32_t out[3]) {
    return out[0] = code, !(unicode_facts(code) & FACT_COMBINING);
}

static int without_nonspacing(uint32_t code, uint32_t out[3]) {
    return out[0] = code, !(unicode_facts(code) & FACT_NONSPACING);
}

/* BertNormalizer's clean_text: removes controls, and makes all white space a space. */
static int cleaned(uint32_t code, uint32_t out[3]) {
    bool space = unicode_is_space(code);
    out[0] = space ? ' ' : code;
    if (code == '\t' || code == '\n' || code == '\r') return 1;
    return code != 0 && code != 0xfffd && !(unicode_facts(code) & FACT_OTHER);
}

static bool is_ideograph(uint32_t c) {
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static int spaced_ideograph(uint32_t code, uint32_t out[3]) {
    if (!is_ideograph(code)) return out[0] = code, 1;
    out[0] = out[2] = ' ';
    out[1] = code;
    return 3;
}

static int nmt(uint32_t c, uint32_t out[3]) {
    bool space = c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
                 c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
    bool removed = (c >= 1 && c <= 8) || c == 11 || (c >= 14 && c <= 31) || c == 0x7f || c == 0x8f || c == 0x9f;
    out[0] = space ? ' ' : c;
    return !removed;
}

mw_status normalize_lower(const normalizer *n, const text_origin *origin, changing_text *t) {
    (void)n, (void)origin;
    change_characters(to_lower, t);
    return MW_OK;
}

mw_status normalize_strip_accents(const normalizer *n, const text_origin *origin, changing_text *t) {
    (void)n, (void)origin;
    change_characters(without_combining, t);
    return MW_OK;
}

mw_status normalize_nmt(const normalizer *n, const text_origin *origin, changing_text *t) {
    (void)n, (void)origin;
    change_characters(nmt, t);
    return MW_OK;
}

mw_status normalize_bert(const normalizer *n, const text_origin *origin, changing_text *t) {
    if (n->clean) change_characters(cleaned, t);
    if (n->ideographs) change_characters(spaced_ideograph, t);
    if (n->strip_accents) {
        normalizer form = {0};
        normalizer_set_form(&form, "NFD");
        MW_TRY(normalize_form(&form, origin, t));
        change_characters(without_nonspacing, t);
    }
    if (n->lower_case) change_characters(to_lower, t);
    return MW_OK;
}

mw_status normalize_strip(const normalizer *n, const text_origin *origin, changing_text *t) {
    (void)origin;
    size_t begin = 0, end = t->text.length, length;
    while (n->strip_left && begin < end && unicode_is_space(unicode_read(t->text.data + begin, &length)))
        begin += length;
    while (n->strip_right && end > begin && unicode_is_space(unicode_read_before(t->text.data, end, &length)))
        end -= length;
    t->lead = t->lead > begin ? t->lead - begin : 0;
    memmove(t->text.data, t->text.data + begin, end - begin);
    t->text.length = end - begin;
    return MW_OK;
}

/* ---- prefixes and patterns ----------------------------------------------------------------------------- */

mw_status normalize_prepend(const normalizer *n, const text_origin *origin, changing_text *t) {
    (void)origin;
    t->scratch.length = 0;
    mw_text_add(&t->scratch, n->content, n->content_length);
    mw_text_add(&t->scratch, t->text.data, t->text.length);
    mw_text_swap(&t->text, &t->scratch);
    if (t->lead > 0) t->lead += n->content_length;
    return MW_OK;
}

/* A replacement stands for the last character that it replaces. */
mw_status normalize_replace(const normalizer *n, const text_origin *origin, changing_text *t) {
    size_t limit = output_limit(t->text.length), done = 0, begin, end;
    size_t lead = 0;
    bool found;
    pattern_search search;
    t->scratch.length = 0;
    MW_TRY(pattern_search_begin(n->pattern, origin, t->text.data, t->text.length, &search));
    for (;;) {
        MW_TRY(pattern_search_next(&search, &found, &begin, &end));
        if (!found || t->scratch.length > limit) break;
        if (end == 0 && n->content_length > 0) /* the reference library fails, too */
            return text_error(origin, "a Replace inserts text before the first character", t->text.data,
                              t->text.length);
        mw_text_add(&t->scratch, t->text.data + done, begin - done);
        if (done < t->lead) lead = t->scratch.length - (begin > t->lead ? begin - t->lead : 0);
        mw_text_add(&t->scratch, n->content, n->content_length);
        if (end > 0 && end - 1 < t->lead) lead = t->scratch.length;
        done = end;
    }
    if (done < t->lead) lead = t->scratch.length + t->lead - done;
    mw_text_add(&t->scratch, t->text.data + done, t->text.length - done);
    mw_text_swap(&t->text, &t->scratch);
    t->lead = lead;
    return MW_OK;
}

/* ---- bytes ------------------------------------------------------------------------------------------------ */

/* GPT-2's byte alphabet (encoder.py): printable bytes are their own character, the 68 others U+0100 and up. */
static bool is_printable(int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
}

enum { ALPHABET = 256 + 68 };
static uint16_t character_of_byte[256];
static int16_t byte_of_character[ALPHABET]; /* -1: none */
static pthread_once_t alphabet_made = PTHREAD_ONCE_INIT;

static void make_alphabet(void) {
    uint16_t next = 256;
    for (int c = 0; c < ALPHABET; c++) byte_of_character[c] = -1;
    for (int b = 0; b < 256; b++) {
        character_of_byte[b] = is_printable(b) ? (uint16_t)b : next++;
        byte_of_character[character_of_byte[b]] = (int16_t)b;
    }
}

void byte_level_write(mw_text *out, const char *bytes, size_t length) {
    char character[4];
    pthread_once(&alphabet_made, make_alphabet);
    for (size_t i = 0; i < length; i++)
        mw_text_add(out, character, unicode_write(character_of_byte[(unsigned char)bytes[i]], character));
}

bool byte_level_bytes(const char *token, size_t length, char *out, size_t *out_length) {
    size_t made = 0;
    pthread_once(&alphabet_made, make_alphabet);
    for (size_t i = 0, n; i < length; i += n) {
        n = mw_utf8_length(token + i, length - i);
        uint32_t character = n == 0 ? ALPHABET : unicode_read(token + i, &n);
        int byte = character < ALPHABET ? byte_of_character[character] : -1;
        if (byte < 0) return false;
        out[made++] = (char)byte;
    }
    *out_length = made;
    return true;
}

mw_status normalize_byte_level(const normalizer *n, const text_origin *origin, changing_text *t) {
    (void)n, (void)origin;
    t->scratch.length = 0;
    byte_level_write(&t->scratch, t->text.data, t->lead);
    size_t lead = t->scratch.length;
    byte_level_write(&t->scratch, t->text.data + t->lead, t->text.length - t->lead);
    mw_text_swap(&t->text, &t->scratch);
    t->lead = lead;
    return MW_OK;
}
