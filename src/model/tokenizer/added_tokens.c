/* Finds added tokens in a text: leftmost, then longest. */
#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer/unicode.h"

#include <string.h>

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

/* Sets *before to the token that had the same text, or -1. */
static mw_status trie_put(trie *t, const char *text, size_t length, int32_t token, int32_t *before) {
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
    *before = t->nodes[node].token;
    t->nodes[node].token = token;
    return MW_OK;
}

static void trie_free(trie *t) {
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

static bool is_word(uint32_t code) {
    return unicode_facts(code) & FACT_REGEX_WORD;
}

static bool stands_alone(const char *text, size_t length, size_t begin, size_t end) {
    size_t n;
    if (begin > 0 && is_word(unicode_read_before(text, begin, &n))) return false;
    return end >= length || !is_word(unicode_read(text + end, &n));
}

static void strip_around(const added_token *a, const char *text, size_t length, size_t floor, size_t *begin,
                         size_t *end) {
    size_t n;
    while (a->left_strip && *begin > floor && unicode_is_space(unicode_read_before(text, *begin, &n))) *begin -= n;
    while (a->right_strip && *end < length && unicode_is_space(unicode_read(text + *end, &n))) *end += n;
}

static mw_status add_span(spans *out, size_t begin, size_t end, int32_t id) {
    if (begin >= end) return MW_OK;
    if (!MW_GROW(out->items, out->count, out->capacity)) return MW_ERR_MEMORY;
    out->items[out->count++] = (span){begin, end, id};
    return MW_OK;
}

/* As in the reference library, the search goes on behind the token itself, not behind the spaces that it strips. */
mw_status added_tokens_split(const added_tokens *all, const trie *t, const char *text, size_t length, spans *out) {
    out->count = 0;
    size_t done = 0;
    for (size_t i = 0; t->count > 0 && i < length;) {
        int32_t hit = t->root[(unsigned char)text[i]] < 0 ? -1 : longest_match(t, text + i, length - i);
        if (hit < 0) {
            i++;
            continue;
        }
        const added_token *a = &all->items[hit];
        size_t begin = i, end = i + a->search_length;
        i = end;
        if (a->special && all->skips_special) continue;
        if (a->single_word && !stands_alone(text, length, begin, end)) continue;
        strip_around(a, text, length, done, &begin, &end);
        MW_TRY(add_span(out, done, begin, -1));
        MW_TRY(add_span(out, begin, end, a->id));
        done = end;
    }
    return add_span(out, done, length, -1);
}

mw_status added_tokens_ready(added_tokens *all, const char *where) {
    for (int64_t i = 0; i < all->count; i++) {
        added_token *a = &all->items[i];
        int32_t before = -1;
        if (a->search_length == 0)
            return mw_error(MW_ERR_FORMAT, "%s: the added token '%s' is empty after the normalizer", where, a->content);
        MW_TRY(
            trie_put(a->normalized ? &all->normalized : &all->raw, a->search, a->search_length, (int32_t)i, &before));
        if (before >= 0)
            return mw_error(MW_ERR_FORMAT, "%s: the added tokens '%s' and '%s' are equal after the normalizer", where,
                            all->items[before].content, a->content);
    }
    return MW_OK;
}

void added_tokens_free(added_tokens *all) {
    for (int64_t i = 0; i < all->count; i++) {
        mw_free(all->items[i].content);
        mw_free(all->items[i].search);
    }
    mw_free(all->items);
    trie_free(&all->raw);
    trie_free(&all->normalized);
}
