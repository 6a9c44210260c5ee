/* What the models of words share: the cache of words, and tokens of bytes. */
#include "model/tokenizer/token_model.h"

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

/* ---- encoding ---------------------------------------------------------------------------------------- */

static mw_status encode_word(token_model *m, const text_origin *origin, const char *word, size_t length, mw_ids *out) {
    if (length == 0) return MW_OK;
    if (length > CACHE_WORD_MAX) return m->encode(m, origin, word, length, out);
    uint64_t hash = mw_xxh64(word, length);
    cached_word *slot = cache_slot(m->cache, word, length, hash);
    if (slot->length) {
        for (int i = 0; i < slot->n_ids; i++) MW_TRY(mw_ids_add(out, m->cache->ids[slot->ids + (uint32_t)i]));
        return MW_OK;
    }
    int64_t first = out->count;
    MW_TRY(m->encode(m, origin, word, length, out));
    if (out->count > first) cache_put(m->cache, slot, word, length, hash, out->data + first, out->count - first);
    return MW_OK;
}

mw_status token_model_encode(token_model *m, const text_origin *origin, const char *word, size_t length, mw_ids *out) {
    if (!m->bpe.split_at_space_marks) return encode_word(m, origin, word, length, out);
    size_t begin = 0;
    for (size_t i = 3; i < length; i++)
        if (is_space_mark(word + i, length - i) && i >= begin + 3 && !is_space_mark(word + i - 3, 3)) {
            MW_TRY(encode_word(m, origin, word + begin, i - begin, out));
            begin = i;
        }
    return encode_word(m, origin, word + begin, length - begin, out);
}

/* ---- making ------------------------------------------------------------------------------------------ */

mw_status token_model_ready(token_model *m) {
    if (!(m->cache = mw_calloc(1, sizeof *m->cache))) return MW_ERR_MEMORY;
    m->unk = m->unk_token ? vocabulary_find(&m->tokens, m->unk_token, strlen(m->unk_token)) : m->unk;
    if (m->encode == bpe_encode) return bpe_ready(m);
    return m->encode == unigram_encode ? unigram_ready(m) : MW_OK;
}

void token_model_free(token_model *m) {
    vocabulary_free(&m->tokens);
    bpe_free(&m->bpe);
    unigram_free(&m->unigram);
    mw_free(m->wordpiece.prefix);
    mw_text_free(&m->wordpiece.part);
    mw_free(m->unk_token);
    mw_free(m->cache);
    *m = (token_model){0};
}
