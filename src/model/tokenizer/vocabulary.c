/* The hash tables of a BPE model: strings to ids, and pairs of ids to merged ids. */
#include "model/tokenizer/vocabulary.h"

#include <string.h>

static uint64_t table_size(int64_t count) {
    uint64_t size = 16;
    while (size < (uint64_t)count * 2) size *= 2;
    return size;
}

static mw_status grow_ids(vocabulary *v, int64_t size) {
    if (size <= v->size) return MW_OK;
    if (size > v->capacity) {
        size_t old = (size_t)v->capacity, room = (size_t)(size > 2 * v->capacity ? size : 2 * v->capacity);
        char **token = mw_realloc(v->token, old * sizeof *token, room * sizeof *token);
        if (!token) return MW_ERR_MEMORY;
        v->token = token;
        uint32_t *length = mw_realloc(v->length, old * sizeof *length, room * sizeof *length);
        if (!length) return MW_ERR_MEMORY;
        v->length = length;
        memset(v->token + old, 0, (room - old) * sizeof *token);
        memset(v->length + old, 0, (room - old) * sizeof *length);
        v->capacity = (int64_t)room;
    }
    v->size = size;
    return MW_OK;
}

static uint64_t slot_of(const vocabulary *v, const char *token, size_t length) {
    uint64_t at = mw_xxh64(token, length) & v->mask;
    for (; v->slots[at]; at = (at + 1) & v->mask) {
        int32_t id = v->slots[at] - 1;
        if (v->length[id] == length && memcmp(v->token[id], token, length) == 0) break;
    }
    return at;
}

/* Makes slots for at least `count` tokens. */
static mw_status grow_slots(vocabulary *v, int64_t count) {
    if (v->slots && (uint64_t)count * 2 <= v->mask + 1) return MW_OK;
    uint64_t size = table_size(count);
    vocabulary larger = *v;
    larger.mask = size - 1;
    if (!(larger.slots = mw_calloc(size, sizeof *larger.slots))) return MW_ERR_MEMORY;
    for (uint64_t i = 0; v->slots && i <= v->mask; i++) {
        int32_t id = v->slots[i] - 1;
        if (id >= 0) larger.slots[slot_of(&larger, v->token[id], v->length[id])] = id + 1;
    }
    mw_free(v->slots);
    *v = larger;
    return MW_OK;
}

mw_status vocabulary_make(vocabulary *v, int64_t size) {
    *v = (vocabulary){0};
    MW_TRY(grow_ids(v, size));
    return grow_slots(v, size);
}

void vocabulary_free(vocabulary *v) {
    for (int64_t i = 0; v->token && i < v->size; i++) mw_free(v->token[i]);
    mw_free(v->token);
    mw_free(v->length);
    mw_free(v->slots);
    *v = (vocabulary){0};
}

mw_status vocabulary_put(vocabulary *v, const char *token, size_t length, int32_t id) {
    if (id < 0 || id >= TOKEN_ID_MAX || (id < v->size && v->token[id]))
        return mw_error(MW_ERR_FORMAT, "tokenizer: token id %d is out of range or assigned twice", (int)id);
    MW_TRY(grow_ids(v, (int64_t)id + 1));
    MW_TRY(grow_slots(v, v->count + 1));
    uint64_t at = slot_of(v, token, length);
    if (!(v->token[id] = mw_strndup(token, length))) return MW_ERR_MEMORY;
    v->length[id] = (uint32_t)length;
    v->count++;
    if (!v->slots[at]) v->slots[at] = id + 1;
    return MW_OK;
}

void vocabulary_prefer(vocabulary *v, int32_t id) {
    v->slots[slot_of(v, v->token[id], v->length[id])] = id + 1;
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
