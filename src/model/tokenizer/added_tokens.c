/* Finds added tokens in a text: leftmost, then longest. */
#include "model/tokenizer/tokenizer_private.h"

#include <string.h>
#include <utf8proc.h>

static mw_status new_node(trie *t, unsigned char byte, int32_t *link) {
    if (!MW_GROW(t->nodes, t->count, t->capacity)) return MW_ERR_MEMORY;
    t->nodes[t->count] = (trie_node){.child = -1, .sibling = *link, .token = -1, .byte = byte};
    *link = (int32_t)t->count++;
    return MW_OK;
}

static int32_t find_child(const trie *t, int32_t first, unsigned char byte) {
    for (int32_t n = first; n >= 0; n = t->nodes[n].sibling)
        if (t->nodes[n].byte == byte) return n;
    return -1;
}

mw_status trie_put(trie *t, const char *text, size_t length, int32_t token) {
    if (length == 0) return MW_OK;
    if (t->count == 0) memset(t->root, -1, sizeof t->root);
    unsigned char byte = (unsigned char)text[0];
    if (t->root[byte] < 0) MW_TRY(new_node(t, byte, &t->root[byte]));
    int32_t node = t->root[byte];
    for (size_t i = 1; i < length; i++) {
        byte = (unsigned char)text[i];
        int32_t next = find_child(t, t->nodes[node].child, byte);
        if (next < 0) {
            int32_t link = t->nodes[node].child; /* new_node may move the array: no pointers into it */
            MW_TRY(new_node(t, byte, &link));
            t->nodes[node].child = next = link;
        }
        node = next;
    }
    t->nodes[node].token = token;
    return MW_OK;
}

void trie_free(trie *t) {
    mw_free(t->nodes);
    *t = (trie){0};
}

static int32_t longest_match(const trie *t, const char *text, size_t left) {
    int32_t node = t->root[(unsigned char)text[0]], best = -1;
    for (size_t i = 1; node >= 0; i++) {
        if (t->nodes[node].token >= 0) best = t->nodes[node].token;
        if (i >= left) break;
        node = find_child(t, t->nodes[node].child, (unsigned char)text[i]);
    }
    return best;
}

static int32_t character_at(const char *text, size_t left, size_t *length) {
    utf8proc_int32_t c = -1;
    size_t n = mw_utf8_length(text, left);
    if (n) utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &c);
    *length = n ? n : 1;
    return c;
}

static bool is_space(int32_t c) {
    if ((c >= 9 && c <= 13) || c == 0x85) return true;
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

static bool is_word(int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC;
}

static size_t character_before(const char *text, size_t at) {
    size_t begin = at - 1;
    while (begin > 0 && at - begin < 4 && ((unsigned char)text[begin] & 0xc0) == 0x80) begin--;
    return begin;
}

static bool stands_alone(const char *text, size_t length, size_t begin, size_t end) {
    size_t n;
    if (begin > 0) {
        size_t before = character_before(text, begin);
        if (is_word(character_at(text + before, begin - before, &n))) return false;
    }
    return end >= length || !is_word(character_at(text + end, length - end, &n));
}

static void strip_around(const added_token *a, const char *text, size_t length, size_t floor, size_t *begin,
                         size_t *end) {
    size_t n;
    while (a->left_strip && *begin > floor) {
        size_t before = character_before(text, *begin);
        if (before < floor || !is_space(character_at(text + before, *begin - before, &n))) break;
        *begin = before;
    }
    while (a->right_strip && *end < length && is_space(character_at(text + *end, length - *end, &n))) *end += n;
}

static mw_status add_span(spans *out, size_t begin, size_t end, int32_t id) {
    if (begin == end) return MW_OK;
    if (!MW_GROW(out->items, out->count, out->capacity)) return MW_ERR_MEMORY;
    out->items[out->count++] = (span){begin, end, id};
    return MW_OK;
}

mw_status trie_split(const trie *t, const added_token *tokens, const char *text, size_t length, spans *out) {
    out->count = 0;
    size_t done = 0;
    for (size_t i = 0; t->count > 0 && i < length;) {
        int32_t hit = t->root[(unsigned char)text[i]] < 0 ? -1 : longest_match(t, text + i, length - i);
        if (hit < 0) {
            i++;
            continue;
        }
        const added_token *a = &tokens[hit];
        size_t begin = i, end = i + a->length;
        i = end;
        if (a->single_word && !stands_alone(text, length, begin, end)) continue;
        strip_around(a, text, length, done, &begin, &end);
        MW_TRY(add_span(out, done, begin, -1));
        MW_TRY(add_span(out, begin, end, a->id));
        done = i = end;
    }
    return add_span(out, done, length, -1);
}
