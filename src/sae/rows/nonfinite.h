/* Rows of activations that are not finite, which a harvest stores under harvest.nan: keep. */
#ifndef MICROW_SAE_ROWS_NONFINITE_H
#define MICROW_SAE_ROWS_NONFINITE_H

#include "microw/sae.h"

/* Returns whether x [view->width] is finite. */
bool row_is_finite(const mw_store_view *view, const float *x);
/* MW_ERR_STATE for row `row` of the store, of which x [view->width] is not finite: names site, column, value,
 * `remedy`. */
mw_status nonfinite_error(const mw_store_view *view, int64_t row, const float *x, const char *remedy) MW_MUST_USE;

/* The non-finite rows that this rank found while it read its rows of a store. */
typedef struct finite_rows {
    mw_nan_rule rule;
    int64_t first;    /* MW_NAN_STOP: the first such row; -1: none */
    int64_t left_out; /* MW_NAN_SKIP: number of such rows */
} finite_rows;
finite_rows finite_rows_begin(mw_nan_rule rule);
/* Returns whether a row is finite and to be used; records it in `rows` otherwise. x [in->width], y [out->width]; `out`
 * and y are NULL where the input is what is reconstructed. */
bool finite_row(finite_rows *rows, const mw_store_view *in, const mw_store_view *out, int64_t row, const float *x,
                const float *y);
/* Called after the last row. MW_NAN_STOP: MW_ERR_STATE if any rank found such a row; the rank that found the first logs
 * it. MW_NAN_SKIP: sums `left_out` over all ranks and logs a warning. Collective. */
mw_status finite_rows_end(finite_rows *rows, const mw_store_view *in, const mw_store_view *out,
                          const mw_comm *comm) MW_MUST_USE;

#endif
