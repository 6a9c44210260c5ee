/* Byte-pair encoding of words (Sennrich et al. 2016): applies the merge of lowest rank first, leftmost on ties. */
#include "model/tokenizer/tokenizer_private.h"

#include <stdio.h>
#include <string.h>

/* ---- cache of words ---------------------------------------------------------------------------------- */

enum { CACHE_SLOTS = 1 << 17, CACHE_WORDS = CACHE_SLOTS / 2, CACHE_WORD_MAX = 64, CACHE_ARENA = 16 << 20 };

typedef struct cached_word {
    uint64_t hash;
    uint32_t word, ids; /* offsets in the arenas */
    uint16_t length, n_ids;
} cached_word;

struct word_cache {
    cached_word slots[CACHE_SLOTS]; /* length 0: empty */
    char bytes[CACHE_ARENA];
    int32_t ids[CACHE_ARENA / 4];
    uint32_t n_words, n_bytes, n_ids;
};

static cached_word *cache_slot(struct word_cache *c, const char *word, size_t length, uint64_t hash) {
    uint64_t at = hash & (CACHE_SLOTS - 1);
    for (;; at = (at + 1) & (CACHE_SLOTS - 1)) {
        cached_word *w = &c->slots[at];
        if (w->length == 0) return w;
        if (w->hash == hash && w->length == length && memcmp(c->bytes + w->word, word, length) == 0) return w;
    }
}

static void cache_put(struct word_cache *c, cached_word *slot, const char *word, size_t length, uint64_t hash,
                      const int32_t *ids, int64_t n) {
    if (c->n_words >= CACHE_WORDS || c->n_bytes + length > CACHE_ARENA || c->n_ids + (uint64_t)n > CACHE_ARENA / 4)
        return;
    *slot = (cached_word){hash, c->n_bytes, c->n_ids, (uint16_t)length, (uint16_t)n};
    memcpy(c->bytes + c->n_bytes, word, length);
    memcpy(c->ids + c->n_ids, ids, (size_t)n * sizeof *ids);
    c->n_bytes += (uint32_t)length;
    c->n_ids += (uint32_t)n;
    c->n_words++;
}

/* ---- symbols ----------------------------------------------------------------------------------------- */

static mw_status add_symbol(bpe *b, int64_t *count, int32_t id) {
    if (!MW_GROW(b->symbols, *count, b->symbols_capacity)) return MW_ERR_MEMORY;
    b->symbols[*count] = (bpe_symbol){id, (int32_t)*count - 1, (int32_t)*count + 1};
    ++*count;
    return MW_OK;
}

static bool has_byte_fallback(const bpe *b, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (b->byte_id[(unsigned char)bytes[i]] < 0) return false;
    return b->byte_fallback;
}

/* Splits a word into characters. Unknown characters become bytes, else the unknown token, else nothing. */
static mw_status symbols_of_characters(bpe *b, const char *word, size_t length, int64_t *count) {
    bool after_unk = false;
    for (size_t i = 0, n; i < length; i += n) {
        n = mw_utf8_length(word + i, length - i);
        if (n == 0) n = 1;
        int32_t id = vocabulary_find(&b->tokens, word + i, n);
        if (id < 0 && has_byte_fallback(b, word + i, n)) {
            for (size_t j = 0; j < n; j++) MW_TRY(add_symbol(b, count, b->byte_id[(unsigned char)word[i + j]]));
            after_unk = false;
            continue;
        }
        bool unknown = id < 0;
        if (unknown) id = b->unk;
        if (id >= 0 && !(unknown && after_unk && b->fuse_unk)) MW_TRY(add_symbol(b, count, id));
        after_unk = unknown;
    }
    return MW_OK;
}

static mw_status symbols_of_word(bpe *b, const char *word, size_t length, int64_t *count) {
    *count = 0;
    if (!b->byte_level) return symbols_of_characters(b, word, length, count);
    for (size_t i = 0; i < length; i++) {
        int32_t id = b->byte_id[(unsigned char)word[i]];
        if (id < 0) id = b->unk;
        if (id >= 0) MW_TRY(add_symbol(b, count, id));
    }
    return MW_OK;
}

/* ---- merging ----------------------------------------------------------------------------------------- */

static void apply_merge(bpe *b, int32_t left, int32_t merged, int64_t count) {
    bpe_symbol *s = b->symbols;
    int32_t right = s[left].next;
    s[left].id = merged;
    s[left].next = s[right].next;
    s[right].id = -1;
    if (s[left].next < count) s[s[left].next].previous = left;
}

/* For few symbols: searches all pairs for each merge. */
static void merge_short(bpe *b, int64_t count) {
    for (;;) {
        const merge *best = NULL;
        int32_t position = 0;
        for (int32_t i = 0; b->symbols[i].next < count; i = b->symbols[i].next) {
            const merge *m = merges_find(&b->merges, b->symbols[i].id, b->symbols[b->symbols[i].next].id);
            if (m && (!best || m->rank < best->rank)) {
                best = m;
                position = i;
            }
        }
        if (!best) return;
        apply_merge(b, position, best->merged, count);
    }
}

typedef struct candidate {
    int32_t rank, position, left, right, merged;
} candidate;

struct merge_heap {
    candidate *items;
    int64_t count, capacity;
};

static bool before(const candidate *a, const candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static mw_status heap_push(struct merge_heap *h, candidate c) {
    if (!MW_GROW(h->items, h->count, h->capacity)) return MW_ERR_MEMORY;
    int64_t at = h->count++;
    for (; at > 0 && before(&c, &h->items[(at - 1) / 2]); at = (at - 1) / 2) h->items[at] = h->items[(at - 1) / 2];
    h->items[at] = c;
    return MW_OK;
}

static candidate heap_pop(struct merge_heap *h) {
    candidate top = h->items[0], last = h->items[--h->count];
    int64_t at = 0;
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= h->count) break;
        if (child + 1 < h->count && before(&h->items[child + 1], &h->items[child])) child++;
        if (!before(&h->items[child], &last)) break;
        h->items[at] = h->items[child];
        at = child;
    }
    h->items[at] = last;
    return top;
}

static mw_status push_merge(bpe *b, int32_t left, int64_t count) {
    const bpe_symbol *s = b->symbols;
    if (left < 0 || s[left].next >= count) return MW_OK;
    int32_t right_id = s[s[left].next].id;
    const merge *m = merges_find(&b->merges, s[left].id, right_id);
    return m ? heap_push(b->heap, (candidate){m->rank, left, s[left].id, right_id, m->merged}) : MW_OK;
}

/* For many symbols: keeps a heap of possible merges; outdated ones are dropped when popped. */
static mw_status merge_long(bpe *b, int64_t count) {
    b->heap->count = 0;
    for (int32_t i = 0; i + 1 < count; i++) MW_TRY(push_merge(b, i, count));
    while (b->heap->count > 0) {
        candidate c = heap_pop(b->heap);
        const bpe_symbol *s = &b->symbols[c.position];
        if (s->id != c.left || s->next >= count || b->symbols[s->next].id != c.right) continue;
        apply_merge(b, c.position, c.merged, count);
        MW_TRY(push_merge(b, s->previous, count));
        MW_TRY(push_merge(b, c.position, count));
    }
    return MW_OK;
}

static mw_status encode_uncached(bpe *b, const char *word, size_t length, mw_ids *out) {
    enum { SHORT = 24 };
    int64_t count;
    MW_TRY(symbols_of_word(b, word, length, &count));
    if (count == 0) return MW_OK;
    if (count <= SHORT)
        merge_short(b, count);
    else
        MW_TRY(merge_long(b, count));
    for (int32_t i = 0; i < count; i = b->symbols[i].next) MW_TRY(mw_ids_add(out, b->symbols[i].id));
    return MW_OK;
}

static mw_status encode_word(bpe *b, const char *word, size_t length, mw_ids *out) {
    if (length == 0) return MW_OK;
    if (b->ignore_merges) {
        int32_t id = vocabulary_find(&b->tokens, word, length);
        if (id >= 0) return mw_ids_add(out, id);
    }
    if (length > CACHE_WORD_MAX) return encode_uncached(b, word, length, out);
    uint64_t hash = mw_xxh64(word, length);
    cached_word *slot = cache_slot(b->cache, word, length, hash);
    if (slot->length) {
        for (int i = 0; i < slot->n_ids; i++) MW_TRY(mw_ids_add(out, b->cache->ids[slot->ids + (uint32_t)i]));
        return MW_OK;
    }
    int64_t first = out->count;
    MW_TRY(encode_uncached(b, word, length, out));
    if (out->count > first) cache_put(b->cache, slot, word, length, hash, out->data + first, out->count - first);
    return MW_OK;
}

static bool is_space_mark(const char *text, size_t left) {
    return left >= 3 && memcmp(text, SPACE_MARK, 3) == 0;
}

mw_status bpe_encode(bpe *b, const char *word, size_t length, mw_ids *out) {
    if (!b->split_at_space_marks) return encode_word(b, word, length, out);
    size_t begin = 0;
    for (size_t i = 3; i < length; i++)
        if (is_space_mark(word + i, length - i) && i >= begin + 3 && !is_space_mark(word + i - 3, 3)) {
            MW_TRY(encode_word(b, word + begin, i - begin, out));
            begin = i;
        }
    return encode_word(b, word + begin, length - begin, out);
}

/* ---- making ------------------------------------------------------------------------------------------ */

/* Returns whether no token has a space mark after another character, so that no merge crosses such a position. */
static bool space_marks_only_lead(const vocabulary *v) {
    for (int64_t i = 0; i < v->size; i++) {
        const char *t = v->token[i];
        for (size_t j = 1; t && j < v->length[i]; j++)
            if (is_space_mark(t + j, v->length[i] - j) && !(j >= 3 && is_space_mark(t + j - 3, 3))) return false;
    }
    return true;
}

mw_status bpe_ready(bpe *b) {
    for (int i = 0; i < 256; i++) {
        char text[8], byte = (char)i;
        int n = snprintf(text, sizeof text, "<0x%02X>", (unsigned)i);
        b->byte_id[i] =
            b->byte_level ? vocabulary_find(&b->tokens, &byte, 1) : vocabulary_find(&b->tokens, text, (size_t)n);
    }
    /* with fuse_unk, a split could cut a run of unknown characters; byte fallback leaves none */
    b->split_at_space_marks = !b->byte_level && (b->byte_fallback || !b->fuse_unk) && space_marks_only_lead(&b->tokens);
    b->heap = mw_calloc(1, sizeof *b->heap);
    b->cache = mw_calloc(1, sizeof *b->cache);
    return b->heap && b->cache ? MW_OK : MW_ERR_MEMORY;
}

void bpe_free(bpe *b) {
    vocabulary_free(&b->tokens);
    merges_free(&b->merges);
    if (b->heap) mw_free(b->heap->items);
    mw_free(b->heap);
    mw_free(b->cache);
    mw_free(b->symbols);
    *b = (bpe){0};
}
