/* What the files that make a discovery share. */
#ifndef MICROW_CONCEPTS_DISCOVERY_H
#define MICROW_CONCEPTS_DISCOVERY_H

#include "microw/concepts.h"

/* What discovery.h5 may have, so that what is written can be read. */
enum { MW_DISCOVERY_LATENTS = 1 << 30, MW_DISCOVERY_TEXTS = 1 << 20 };
#define MW_DISCOVERY_ROWS ((int64_t)1 << 40)

/* A row that a latent is active on, kept while its key is among the largest. */
typedef struct heap_entry {
    uint64_t key;
    int64_t row; /* -1: unused place */
    float score;
} heap_entry;

/* Whether a comes before b: larger key, then earlier row; unused places come last. */
bool heap_better(heap_entry a, heap_entry b);
/* For qsort, best first. */
int heap_best_first(const void *a, const void *b);
/* heap[0] is the worst of k kept. `span`, if given, holds the entry's row: at most one row of it is kept. */
void heap_offer(heap_entry *heap, int64_t k, heap_entry entry, const mw_store_span *span);

/* Adds an activation z > 0 to a histogram; the first finds *exponent BIN_NONE. */
enum { BIN_NONE = INT32_MIN };
void histogram_add(int32_t *exponent, int64_t *bin, float z);
/* Makes the bins as wide as 2^exponent, which must not be less than they are. */
void histogram_widen(int32_t *exponent, int64_t *bin, int32_t wanted);

/* Codes of rows that are kept whole: latents only. */
typedef struct kept_rows {
    int64_t rows, entries, rows_capacity, capacity;
    int64_t *start; /* [rows + 1] */
    int32_t *index;
} kept_rows;
mw_status kept_rows_add(kept_rows *kept, const int32_t *index, int64_t count) MW_MUST_USE;
void kept_rows_free(kept_rows *kept);

/* The windows of all texts, from their rows; then the activations in them, each rank those of its rows. Collective. */
mw_status find_texts(const mw_sae *sae, const mw_store_view *in, const mw_store_tokens *tokens, const mw_comm *comm,
                     mw_discovery *d) MW_MUST_USE;
/* Latents that are active together on the rows that the ranks have kept. Collective. */
mw_status find_coactive(const kept_rows *mine, const mw_comm *comm, int64_t m, mw_discovery *d) MW_MUST_USE;
/* Latents with like decoder rows. Collective. */
mw_status find_cosines(const mw_sae *sae, const mw_comm *comm, int64_t m, mw_discovery *d) MW_MUST_USE;

mw_status nearest_new(mw_nearest *near, int64_t n, int64_t m) MW_MUST_USE;
/* Puts (index, value) into the m best of `latent`, by value, then by index. */
void nearest_offer(mw_nearest *near, int64_t latent, int32_t index, float value);
/* Each rank has filled its share (in units of `block`) of n latents; all get all. Collective. */
mw_status nearest_gather(const mw_nearest *near, const mw_comm *comm, int64_t n, int64_t block) MW_MUST_USE;

/* First rows of the blocks, and which of them are this rank's. Caller frees. */
mw_status share_blocks(const mw_store *store, const mw_comm *comm, uint64_t **row, int64_t *begin,
                       int64_t *end) MW_MUST_USE;

#endif
