/* What a variant must say of itself: one row of a table. */
#ifndef MICROW_VARIANTS_H
#define MICROW_VARIANTS_H

#include "sae/trainer.h"

/* Sees the pre-activations of rows first .. first + rows, [rows, n]. */
typedef mw_status (*pre_visitor)(void *self, const float *pre, int64_t first, int64_t rows);
/* Chunk after chunk, so that [all rows, n] is never in memory. */
mw_status sae_visit(const mw_sae *sae, const float *x, int64_t rows, pre_visitor visit, void *self) MW_MUST_USE;

typedef struct variant_row {
    const char *name;
    /* Codes outside training. */
    mw_status (*encode)(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out);
    /* Codes of this rank's rows in training; may talk to the other ranks. NULL: as outside training. */
    mw_status (*select)(mw_trainer *t, const float *x, mw_codes *out);
    /* After a selection in training: the same on all ranks. NULL: nothing. */
    void (*after_selection)(mw_trainer *t);
} variant_row;

const variant_row *variant_of(const mw_sae *sae);

mw_status top_k_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
mw_status threshold_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
mw_status batch_top_k_select(mw_trainer *t, const float *x, mw_codes *out) MW_MUST_USE;
void batch_top_k_threshold(mw_trainer *t);

#endif
