/* The hash tables of a BPE model: strings to ids, and pairs of ids to merged ids. */
#include "model/tokenizer/tokenizer_private.h"

#include <string.h>

static uint64_t table_size(int64_t count) {
    uint64_t size = 16;
    while (size < (uint64_t)count * 2) size *= 2;
    return size;
}

mw_status vocabulary_make(vocabulary *v, int64_t size) {
    uint64_t slots = table_size(size);
    *v = (vocabulary){.size = size, .mask = slots - 1};
    v->token = mw_calloc((size_t)size, sizeof *v->token);
    v->length = mw_calloc((size_t)size, sizeof *v->length);
    v->slots = mw_calloc(slots, sizeof *v->slots);
    return v->token && v->length && v->slots ? MW_OK : MW_ERR_MEMORY;
}

void vocabulary_free(vocabulary *v) {
    for (int64_t i = 0; v->token && i < v->size; i++) mw_free(v->token[i]);
    mw_free(v->token);
    mw_free(v->length);
    mw_free(v->slots);
    *v = (vocabulary){0};
}

static uint64_t slot_of(const vocabulary *v, const char *token, size_t length) {
    uint64_t at = mw_xxh64(token, length) & v->mask;
    for (; v->slots[at]; at = (at + 1) & v->mask) {
        int32_t id = v->slots[at] - 1;
        if (v->length[id] == length && memcmp(v->token[id], token, length) == 0) break;
    }
    return at;
}

/* vocabulary_find returns the first id of a string. */
mw_status vocabulary_put(vocabulary *v, const char *token, size_t length, int32_t id) {
    if (id < 0 || id >= v->size || v->token[id])
        return mw_error(MW_ERR_FORMAT, "tokenizer: token id %d is out of range or assigned twice", (int)id);
    uint64_t at = slot_of(v, token, length);
    if (!(v->token[id] = mw_strndup(token, length))) return MW_ERR_MEMORY;
    v->length[id] = (uint32_t)length;
    if (!v->slots[at]) v->slots[at] = id + 1;
    return MW_OK;
}

int32_t vocabulary_find(const vocabulary *v, const char *token, size_t length) {
    return v->slots ? v->slots[slot_of(v, token, length)] - 1 : -1;
}

mw_status merges_make(merges *m, int64_t count) {
    uint64_t size = table_size(count);
    *m = (merges){.slots = mw_alloc(size * sizeof *m->slots), .mask = size - 1};
    if (!m->slots) return MW_ERR_MEMORY;
    for (uint64_t i = 0; i < size; i++) m->slots[i].rank = -1;
    return MW_OK;
}

void merges_free(merges *m) {
    mw_free(m->slots);
    *m = (merges){0};
}

static merge *merge_slot(const merges *m, uint64_t pair) {
    uint64_t at = (pair * UINT64_C(0x9E3779B97F4A7C15) >> 20) & m->mask;
    while (m->slots[at].rank >= 0 && m->slots[at].pair != pair) at = (at + 1) & m->mask;
    return &m->slots[at];
}

static uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* A pair that occurs twice keeps its last rank, as in the reference library. */
void merges_put(merges *m, int32_t left, int32_t right, int32_t rank, int32_t merged) {
    *merge_slot(m, pair_key(left, right)) = (merge){pair_key(left, right), rank, merged};
}

const merge *merges_find(const merges *m, int32_t left, int32_t right) {
    const merge *slot = merge_slot(m, pair_key(left, right));
    return slot->rank >= 0 ? slot : NULL;
}
