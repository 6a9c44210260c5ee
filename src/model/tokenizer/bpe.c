/* Byte-pair encoding of words (Sennrich et al. 2016): applies the merge of lowest rank first, leftmost on ties. */
#include "model/tokenizer/word_models.h"

#include <string.h>

/* ---- symbols ----------------------------------------------------------------------------------------- */

static mw_status add_symbol(bpe *b, int64_t *count, int32_t id) {
    if (!MW_GROW(b->symbols, *count, b->symbols_capacity)) return MW_ERR_MEMORY;
    b->symbols[*count] = (bpe_symbol){id, (int32_t)*count - 1, (int32_t)*count + 1};
    ++*count;
    return MW_OK;
}

/* Puts prefix and suffix around a character that is not the first, or is the last, of its word. */
static mw_status affix(bpe *b, bool first, bool last, const char **text, size_t *length) {
    bool has_prefix = !first && b->prefix, has_suffix = last && b->suffix;
    if (!has_prefix && !has_suffix) return MW_OK;
    b->affixed.length = 0;
    if (has_prefix) mw_text_add(&b->affixed, b->prefix, strlen(b->prefix));
    mw_text_add(&b->affixed, *text, *length);
    if (has_suffix) mw_text_add(&b->affixed, b->suffix, strlen(b->suffix));
    *text = b->affixed.data;
    *length = b->affixed.length;
    return b->affixed.failed ? MW_ERR_MEMORY : MW_OK;
}

/* Adds the tokens of a character's bytes, if the vocabulary has all of them. */
static mw_status add_bytes(bpe *b, const char *bytes, size_t n, int64_t *count, bool *done) {
    *done = false;
    for (size_t i = 0; i < n; i++)
        if (b->byte_id[(unsigned char)bytes[i]] < 0) return MW_OK;
    for (size_t i = 0; i < n; i++) MW_TRY(add_symbol(b, count, b->byte_id[(unsigned char)bytes[i]]));
    *done = true;
    return MW_OK;
}

/* Splits a word into characters, or bytes in byte-level models. Unknown ones become bytes, else the unknown token, else
 * nothing. As in the reference library, an unknown token is placed behind the tokens of bytes that follow it. */
static mw_status symbols_of_word(token_model *m, const text_origin *origin, const char *word, size_t length,
                                 int64_t *count) {
    bpe *b = &m->bpe;
    bool pending = false; /* an unknown token is to be placed */
    *count = 0;
    for (size_t i = 0, n; i < length; i += n) {
        n = b->byte_level ? 1 : mw_utf8_length(word + i, length - i);
        if (n == 0) n = 1;
        const char *text = word + i;
        size_t text_length = n;
        bool done = false;
        MW_TRY(affix(b, i == 0, i + n == length, &text, &text_length));
        int32_t id = b->byte_level ? b->byte_id[(unsigned char)*text] : vocabulary_find(&m->tokens, text, text_length);
        if (id >= 0) {
            if (pending) MW_TRY(add_symbol(b, count, m->unk));
            pending = false;
            MW_TRY(add_symbol(b, count, id));
            continue;
        }
        if (b->byte_fallback) MW_TRY(add_bytes(b, text, text_length, count, &done));
        if (done || !m->unk_token) continue;
        if (m->unk < 0) return no_unknown_token(m, origin, word, length);
        if (pending && !b->fuse_unk) MW_TRY(add_symbol(b, count, m->unk));
        pending = true;
    }
    return pending ? add_symbol(b, count, m->unk) : MW_OK;
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

mw_status bpe_encode(token_model *m, const text_origin *origin, const char *word, size_t length, mw_ids *out) {
    enum { SHORT = 24 };
    bpe *b = &m->bpe;
    int64_t count;
    if (b->ignore_merges) {
        int32_t id = vocabulary_find(&m->tokens, word, length);
        if (id >= 0) return mw_ids_add(out, id);
    }
    MW_TRY(symbols_of_word(m, origin, word, length, &count));
    if (count == 0) return MW_OK;
    if (count <= SHORT)
        merge_short(b, count);
    else
        MW_TRY(merge_long(b, count));
    for (int32_t i = 0; i < count; i = b->symbols[i].next) MW_TRY(mw_ids_add(out, b->symbols[i].id));
    return MW_OK;
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

/* Returns whether words may be cut before space marks: no unknown token may be moved or fused across a cut, and no
 * unknown space mark be dropped. */
static bool may_split(const token_model *m) {
    const bpe *b = &m->bpe;
    bool all_bytes = b->byte_fallback;
    for (int i = 0; i < 256; i++) all_bytes = all_bytes && b->byte_id[i] >= 0;
    if (b->byte_level || b->ignore_merges || b->prefix || b->suffix) return false;
    return (all_bytes || (!b->byte_fallback && !b->fuse_unk && m->unk_token)) && space_marks_only_lead(&m->tokens);
}

mw_status bpe_ready(token_model *m) {
    bpe *b = &m->bpe;
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        b->byte_id[i] = b->byte_level ? vocabulary_find(&m->tokens, &byte, 1) : byte_token(m, (unsigned char)i);
    }
    b->split_at_space_marks = may_split(m);
    return (b->heap = mw_calloc(1, sizeof *b->heap)) ? MW_OK : MW_ERR_MEMORY;
}

void bpe_free(bpe *b) {
    merges_free(&b->merges);
    if (b->heap) mw_free(b->heap->items);
    mw_free(b->heap);
    mw_free(b->symbols);
    mw_text_free(&b->affixed);
    mw_free(b->prefix);
    mw_free(b->suffix);
    *b = (bpe){0};
}
