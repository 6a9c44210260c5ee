/* The normalizer of SentencePiece: a table from byte sequences to replacements, applied to graphemes below 6 bytes and
 * to the characters of all others, as the reference library does.
 *
 * The table is a double array (Aoe 1989): a unit has a label in bits 0 to 7, "a key ends here" in bit 8, a wide offset
 * in bit 9 and the offset above; a leaf has bit 31 and the place of its replacement. */
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/unicode.h"

#include <string.h>

static uint32_t read_unit(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

mw_status normalizer_set_charsmap(const char *where, normalizer *n, const unsigned char *bytes, size_t length) {
    size_t units = length >= 4 ? read_unit(bytes) / 4 : 0;
    if (units == 0 || units > (length - 4) / 4)
        return mw_error(MW_ERR_FORMAT, "%s: precompiled_charsmap: expected a table of units, found %zu bytes", where,
                        length);
    n->apply = normalize_precompiled;
    n->trie_length = units;
    n->replacements_length = length - 4 - 4 * units;
    n->trie = mw_alloc(units * sizeof *n->trie);
    n->replacements = mw_strndup((const char *)bytes + 4 + 4 * units, n->replacements_length);
    if (!n->trie || !n->replacements) return MW_ERR_MEMORY;
    for (size_t i = 0; i < units; i++) n->trie[i] = read_unit(bytes + 4 + 4 * i);
    if (!mw_utf8_valid(n->replacements, n->replacements_length))
        return mw_error(MW_ERR_FORMAT, "%s: precompiled_charsmap: its replacements are not UTF-8", where);
    return MW_OK;
}

static size_t offset_of(uint32_t unit) {
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* Finds the shortest key that `text` begins with; NULL: none. The replacement ends at a NUL. */
static const char *find_replacement(const normalizer *n, const char *text, size_t length) {
    size_t place = offset_of(n->trie[0]);
    for (size_t i = 0; i < length && text[i]; i++) {
        unsigned char byte = (unsigned char)text[i];
        place ^= byte;
        if (place >= n->trie_length) return NULL;
        uint32_t unit = n->trie[place];
        if ((unit & (1u << 31 | 0xff)) != byte) return NULL;
        place ^= offset_of(unit);
        if (!(unit >> 8 & 1)) continue;
        size_t at = place < n->trie_length ? n->trie[place] & ~(1u << 31) : SIZE_MAX;
        bool whole = at < n->replacements_length && ((unsigned char)n->replacements[at] & 0xc0) != 0x80;
        return whole ? n->replacements + at : NULL;
    }
    return NULL;
}

/* ---- graphemes (Unicode annex 29, extended) ------------------------------------------------------------- */

/* Hangul syllables: L, V, T, LV, LVT. */
static char hangul_kind(uint32_t c) {
    if ((c >= 0x1100 && c <= 0x115f) || (c >= 0xa960 && c <= 0xa97c)) return 'L';
    if ((c >= 0x1160 && c <= 0x11a7) || (c >= 0xd7b0 && c <= 0xd7c6)) return 'V';
    if ((c >= 0x11a8 && c <= 0x11ff) || (c >= 0xd7cb && c <= 0xd7fb)) return 'T';
    if (c >= 0xac00 && c <= 0xd7a3) return (c - 0xac00) % 28 ? 'B' : 'A'; /* LVT, LV */
    return 0;
}

static bool hangul_joins(uint32_t a, uint32_t b) {
    char left = hangul_kind(a), right = hangul_kind(b);
    if (left == 'L') return right && right != 'T';
    if (left == 'V' || left == 'A') return right == 'V' || right == 'T';
    return (left == 'T' || left == 'B') && right == 'T';
}

/* Returns the end of the grapheme at `begin`. Flags and Indic conjuncts are longer than 5 bytes with and without their
 * rules, so these rules are left out. */
static size_t grapheme_end(const mw_text *text, size_t begin) {
    enum { JOINER = 0x200d };
    size_t n, at = begin;
    uint32_t before = unicode_read(text->data + at, &n), facts = unicode_facts(before);
    bool pictograph = facts & FACT_PICTOGRAPH;
    for (at += n; at < text->length; at += n) {
        uint32_t code = unicode_read(text->data + at, &n), next = unicode_facts(code);
        bool joined = (next & FACT_JOINS) || (facts & FACT_PREPENDS) || hangul_joins(before, code) ||
                      (pictograph && before == JOINER && (next & FACT_PICTOGRAPH));
        if ((facts | next) & FACT_BREAKS) joined = before == '\r' && code == '\n';
        if (!joined) break;
        pictograph = (next & FACT_PICTOGRAPH) || (pictograph && (next & FACT_JOINS));
        before = code;
        facts = next;
    }
    return at;
}

/* What the output stands for: the library pairs the characters of replacement and replaced text one by one, pairs more
 * ones with the last, and skips fewer ones, unless nothing was written before. */
typedef struct pairing {
    size_t next; /* in the input */
    size_t lead; /* leading bytes of the output that stand for the lead of the input */
} pairing;

static void write_pair(changing_text *t, pairing *p, const char *old, size_t old_length, const char *made,
                       size_t made_length) {
    size_t replaced = unicode_count(old, old_length);
    for (size_t i = 0, n, length; i < made_length; i += n) {
        bool leads = p->next == 0 || p->next - 1 < t->lead; /* of one that is added */
        unicode_read(made + i, &n);
        if (replaced > 0 && p->next < t->text.length) {
            leads = p->next < t->lead;
            unicode_read(t->text.data + p->next, &length);
            p->next += length;
            replaced--;
        }
        mw_text_add(&t->scratch, made + i, n);
        if (leads) p->lead = t->scratch.length;
    }
    if (replaced > 0 && t->scratch.length > 0)
        p->next += bytes_of_characters(t->text.data + p->next, t->text.length - p->next, replaced);
}

mw_status normalize_precompiled(const normalizer *n, const text_origin *origin, changing_text *t) {
    (void)origin;
    enum { SHORT = 6 };
    const char *text = t->text.data;
    pairing p = {0};
    t->scratch.length = 0;
    for (size_t i = 0, end; i < t->text.length; i = end) {
        end = grapheme_end(&t->text, i);
        const char *whole = end - i < SHORT ? find_replacement(n, text + i, end - i) : NULL;
        if (whole) {
            write_pair(t, &p, text + i, end - i, whole, strlen(whole));
            continue;
        }
        for (size_t k = i, length; k < end; k += length) {
            unicode_read(text + k, &length);
            const char *one = find_replacement(n, text + k, length);
            write_pair(t, &p, text + k, length, one ? one : text + k, one ? strlen(one) : length);
        }
    }
    mw_text_swap(&t->text, &t->scratch);
    t->lead = p.lead;
    return MW_OK;
}
