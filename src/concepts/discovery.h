/* Parts of making a discovery: heaps of rows, histograms, coactive latents, neighbours, texts. */
#ifndef MICROW_CONCEPTS_DISCOVERY_H
#define MICROW_CONCEPTS_DISCOVERY_H

#include "concepts/encoded_rows.h"
#include "microw/concepts.h"

/* Limits of discovery.h5: mw_discover refuses more, so that every file written can be read. */
enum { MW_DISCOVERY_LATENTS = 1 << 30, MW_DISCOVERY_TEXTS = 1 << 20 };
#define MW_DISCOVERY_ROWS ((int64_t)1 << 40)

/* A row on which a latent is active, kept while its key is among the largest. */
typedef struct heap_entry {
    uint64_t key;
    int64_t row; /* -1: unused */
    float score; /* activation */
} heap_entry;

/* Returns whether a is better than b: larger key, then earlier row; unused entries are the worst. */
bool heap_better(heap_entry a, heap_entry b);
/* Compares for qsort, best first. */
int heap_best_first(const void *a, const void *b);
/* Offers an entry to a heap of k entries, whose worst is heap[0]. The heap keeps at most one row of `span`, which
 * contains the entry's row; NULL: no such limit. */
void heap_offer(heap_entry *heap, int64_t k, heap_entry entry, const mw_store_span *span);

enum { BIN_NONE = INT32_MIN }; /* exponent of an empty histogram */
/* Adds an activation z > 0 to a histogram of MW_BINS bins, which widens as needed. */
void histogram_add(int32_t *exponent, int64_t *bin, float z);
/* Widens the bins to 2^wanted, by merging them; does nothing if they are as wide already. */
void histogram_widen(int32_t *exponent, int64_t *bin, int32_t wanted);

/* Active latents of some rows: row r has index[start[r]] .. index[start[r + 1] - 1]. */
typedef struct kept_rows {
    int64_t rows, entries, rows_capacity, capacity;
    int64_t *start; /* [rows + 1] */
    int32_t *index; /* [entries] */
} kept_rows;
/* Appends a row with `count` active latents. Errors: MW_ERR_MEMORY. */
mw_status kept_rows_add(kept_rows *kept, const int32_t *index, int64_t count) MW_MUST_USE;
void kept_rows_free(kept_rows *kept);

/* Sets the category that a latent detects best, and its scores, from the counts of `d`. */
void set_category(mw_discovery *d, int64_t latent);

/* Rows by category in two halves of a store. */
typedef struct category_counts {
    int64_t n, categories;
    int64_t *hits; /* [2, n, categories] rows of the category on which the latent is active */
    int64_t *rows; /* [2, categories] rows of the category */
} category_counts;
/* The counts of a discovery's own SAE, of the rows before `end`. */
struct mw_counted_halves {
    const mw_sae *sae; /* only compared */
    int64_t end;
    category_counts counts;
};
/* Returns the number of rows, from the first on, that are counted: those of whole documents, at most `most`. */
int64_t rows_to_count(const mw_store_tokens *tokens, int64_t most);
/* Returns the half of a row of a document. */
int half_of_row(const mw_store_tokens *tokens, int64_t row, int64_t document);
/* Chooses the best latent of each category by F1 on half 0, and sets f1 [categories] to its F1 on half 1; NaN where a
 * half has no row of the category, or half 1 has no other. */
void score_counts(const category_counts *counts, float *f1);
/* Sets the means over the categories of `f1` that are not NaN, and their number. `first` [categories]: the F1 that `f1`
 * is compared with. Errors: MW_ERR_MEMORY. */
mw_status score_means(const category_counts *counts, const float *f1, const float *first, mw_estimate out[MW_SCORES],
                      int64_t *categories) MW_MUST_USE;

/* Fills the texts of `d` from text_row: their windows, then the activations on their tokens, each rank those of its
 * blocks. `kept`: the codes of this rank's rows; where they were dropped, rows are encoded again. Collective. */
mw_status find_texts(const mw_sae *sae, const mw_store_view *in, const mw_store_tokens *tokens, const kept_codes *kept,
                     const mw_comm *comm, mw_discovery *d) MW_MUST_USE;
/* Fills d->coactive with the m latents of largest Jaccard index, over the rows kept by all ranks. Collective. */
mw_status find_coactive(const kept_rows *kept, const mw_comm *comm, int64_t m, mw_discovery *d) MW_MUST_USE;
/* Fills d->cosine with the m latents whose decoder rows have the largest cosine. Collective. */
mw_status find_cosines(const mw_sae *sae, const mw_comm *comm, int64_t m, mw_discovery *d) MW_MUST_USE;

/* Allocates lists of m unused entries for n latents; the caller frees index and value. */
mw_status nearest_new(mw_nearest *nearest, int64_t n, int64_t m) MW_MUST_USE;
/* Inserts (index, value) into the list of `latent` if it is among the m best, by value, then by lower index. */
void nearest_offer(mw_nearest *nearest, int64_t latent, int32_t index, float value);
/* Gathers the lists of n latents, of which each rank has filled its share (in units of `block`), on all ranks.
 * Collective. */
mw_status nearest_gather(const mw_nearest *nearest, const mw_comm *comm, int64_t n, int64_t block) MW_MUST_USE;

/* Sets *row to the first row of each of the store's blocks and their end, and begin .. end to this rank's share of the
 * blocks. The caller frees *row. Local. */
mw_status share_blocks(const mw_store *store, const mw_comm *comm, uint64_t **row, int64_t *begin,
                       int64_t *end) MW_MUST_USE;

#endif
