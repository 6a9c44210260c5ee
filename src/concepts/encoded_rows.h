/* Rows of a store with the latents that are active on them, read and encoded a chunk at a time. */
#ifndef MICROW_CONCEPTS_ENCODED_ROWS_H
#define MICROW_CONCEPTS_ENCODED_ROWS_H

#include "microw/sae.h"
#include "sae/rows/nonfinite.h"

enum { ENCODED_CHUNK = 1024 }; /* rows */

/* Codes of consecutive rows that are still needed after them. */
enum { KEPT_CODES_BYTES = 1 << 27 };
typedef struct kept_codes {
    mw_codes codes; /* of the rows first .. first + codes.rows - 1; none if dropped */
    int64_t first;
    bool dropped; /* they would take more than KEPT_CODES_BYTES */
} kept_codes;

/* Makes memory for the codes of up to `rows` rows from row `first` on; kept_codes_free frees. MW_ERR_MEMORY. */
mw_status kept_codes_begin(kept_codes *kept, int64_t first, int64_t rows) MW_MUST_USE;
void kept_codes_free(kept_codes *kept);

typedef struct encoded_rows {
    const mw_sae *sae;       /* borrowed */
    const mw_store_view *in; /* borrowed */
    finite_rows finite;      /* for finite_rows_end, after the last row */
    mw_codes codes;          /* of the present chunk */
    kept_codes *kept;        /* gets the codes of all rows that are encoded, in order; borrowed. NULL: none */
    float *x;                /* [ENCODED_CHUNK, in->width] */
    int32_t *used;           /* [ENCODED_CHUNK] places of the chunk's finite rows */
} encoded_rows;

/* Makes it ready; encoded_rows_close frees, also after an error. MW_ERR_CONFIG: SAE and site have other widths. */
mw_status encoded_rows_open(const mw_sae *sae, const mw_store_view *in, mw_nan_rule rule,
                            encoded_rows *out) MW_MUST_USE;
void encoded_rows_close(encoded_rows *rows);

/* What is done with encoded rows. `at` is a row's place in its chunk, below ENCODED_CHUNK. */
typedef struct row_use {
    /* Takes a row, whose active latents are the entries begin .. end of rows->codes. Rows come in order. */
    mw_status (*row)(void *self, int64_t row, int64_t at, int64_t begin, int64_t end);
    /* Takes an entry of a row that `row` has taken. Those of a latent come in order, on one thread, those of other
     * latents at the same time on others. */
    void (*entry)(void *self, int64_t at, int64_t latent, float z);
    void *self;
} row_use;
/* Uses each finite row of begin .. end, until one fails or the rule for rows that are not finite asks for the end.
 * Local. */
mw_status each_encoded_row(encoded_rows *rows, int64_t begin, int64_t end, const row_use *use) MW_MUST_USE;

#endif
