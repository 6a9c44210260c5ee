/* The unigram language model (Kudo 2018): splits a word into the tokens whose scores have the largest sum. */
#include "model/tokenizer/word_models.h"

#include <math.h>
#include <string.h>

/* ---- the tree of tokens, over their bytes ------------------------------------------------------------ */

static uint64_t edge_slot(const unigram *u, int32_t node, unsigned char byte) {
    uint64_t key = ((uint64_t)(uint32_t)node << 8 | byte) + 1;
    uint64_t at = (key * UINT64_C(0x9E3779B97F4A7C15) >> 20) & u->edge_mask;
    while (u->edges[at] && u->edges[at] != key) at = (at + 1) & u->edge_mask;
    return at;
}

static int32_t child_of(const unigram *u, int32_t node, unsigned char byte) {
    uint64_t at = edge_slot(u, node, byte);
    return u->edges[at] ? u->targets[at] : -1;
}

static mw_status new_node(unigram *u, int32_t *out) {
    if (!MW_GROW(u->ends, u->n_nodes, u->nodes_capacity)) return MW_ERR_MEMORY;
    u->ends[u->n_nodes] = -1;
    *out = (int32_t)u->n_nodes++;
    return MW_OK;
}

static mw_status put_token(unigram *u, const char *token, size_t length, int32_t id) {
    int32_t node = 0;
    for (size_t i = 0; i < length; i++) {
        uint64_t at = edge_slot(u, node, (unsigned char)token[i]);
        if (!u->edges[at]) {
            int32_t made;
            MW_TRY(new_node(u, &made));
            u->edges[at] = ((uint64_t)(uint32_t)node << 8 | (unsigned char)token[i]) + 1;
            u->targets[at] = made;
        }
        node = u->targets[at];
    }
    u->ends[node] = id;
    return MW_OK;
}

mw_status unigram_ready(token_model *m) {
    unigram *u = &m->unigram;
    const vocabulary *v = &m->tokens;
    uint64_t bytes = 8;
    int32_t root;
    for (int64_t i = 0; i < v->size; i++) bytes += v->length[i];
    for (u->edge_mask = 16; u->edge_mask < 2 * bytes; u->edge_mask *= 2) {
    }
    u->edges = mw_calloc(u->edge_mask, sizeof *u->edges);
    u->targets = mw_calloc(u->edge_mask--, sizeof *u->targets);
    if (!u->edges || !u->targets) return MW_ERR_MEMORY;
    MW_TRY(new_node(u, &root));
    double least = INFINITY;
    for (int64_t i = 0; i < v->size; i++) {
        if (!v->token[i]) continue;
        if (u->scores[i] < least) least = u->scores[i];
        MW_TRY(put_token(u, v->token[i], v->length[i], vocabulary_find(v, v->token[i], v->length[i])));
    }
    u->unk_score = least - 10; /* the reference library's penalty */
    return MW_OK;
}

void unigram_free(unigram *u) {
    mw_free(u->scores);
    mw_free(u->edges);
    mw_free(u->targets);
    mw_free(u->ends);
    mw_free(u->path);
    mw_ids_free(&u->pieces);
    *u = (unigram){0};
}

/* ---- encoding ---------------------------------------------------------------------------------------- */

static mw_status clear_path(unigram *u, size_t length) {
    while (u->path_capacity <= (int64_t)length)
        if (!mw_grow_((void **)&u->path, &u->path_capacity, sizeof *u->path)) return MW_ERR_MEMORY;
    for (size_t i = 0; i <= length; i++) u->path[i] = (best_path){.start = -1};
    return MW_OK;
}

static void offer(best_path *end, double score, size_t start, int32_t id) {
    if (end->start < 0 || score > end->score) *end = (best_path){score, (int64_t)start, id};
}

/* Finds the best path to each position of a word. */
static mw_status find_paths(token_model *m, const text_origin *origin, const char *word, size_t length) {
    unigram *u = &m->unigram;
    MW_TRY(clear_path(u, length));
    for (size_t start = 0, n; start < length; start += n) {
        double so_far = u->path[start].score;
        bool has_character = false;
        int32_t node = 0;
        n = mw_utf8_length(word + start, length - start);
        for (size_t end = start; end < length && (node = child_of(u, node, (unsigned char)word[end])) >= 0;) {
            end++;
            int32_t id = u->ends[node];
            if (id < 0) continue;
            offer(&u->path[end], u->scores[id] + so_far, start, id);
            has_character = has_character || end - start == n;
        }
        if (has_character) continue;
        if (m->unk < 0 && (u->path[start + n].start < 0 || u->unk_score + so_far > u->path[start + n].score))
            return no_unknown_token(m, origin, word, length);
        offer(&u->path[start + n], u->unk_score + so_far, start, m->unk);
    }
    return MW_OK;
}

/* Lists the pieces of the best path, the last first; unknown neighbours are one piece. */
static mw_status list_pieces(token_model *m, size_t length) {
    unigram *u = &m->unigram;
    u->pieces.count = 0;
    bool unknown_before = false;
    for (int64_t end = (int64_t)length; end > 0; end = u->path[end].start) {
        bool unknown = u->path[end].id == m->unk;
        if (unknown && unknown_before) {
            u->pieces.data[u->pieces.count - 2] = (int32_t)u->path[end].start;
        } else {
            MW_TRY(mw_ids_add(&u->pieces, (int32_t)u->path[end].start));
            MW_TRY(mw_ids_add(&u->pieces, (int32_t)end));
        }
        unknown_before = unknown;
    }
    return MW_OK;
}

mw_status unigram_encode(token_model *m, const text_origin *origin, const char *word, size_t length, mw_ids *out) {
    unigram *u = &m->unigram;
    if (length > INT32_MAX) return text_error(origin, "a word is longer than 2 GB", word, length);
    MW_TRY(find_paths(m, origin, word, length));
    MW_TRY(list_pieces(m, length));
    for (int64_t i = u->pieces.count - 2; i >= 0; i -= 2) {
        const char *piece = word + u->pieces.data[i];
        size_t n = (size_t)(u->pieces.data[i + 1] - u->pieces.data[i]);
        int32_t id = vocabulary_find(&m->tokens, piece, n);
        bool done = false;
        if (id < 0 && u->byte_fallback) MW_TRY(put_byte_tokens(m, piece, n, out, &done));
        if (done) continue;
        if (id < 0) id = m->unk;
        if (id < 0) return no_unknown_token(m, origin, word, length);
        MW_TRY(mw_ids_add(out, id));
    }
    return MW_OK;
}
