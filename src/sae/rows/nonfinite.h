/* Rows of activations that are not finite: a harvest keeps them where it is told to (harvest.nan: keep). */
#ifndef MICROW_SAE_ROWS_NONFINITE_H
#define MICROW_SAE_ROWS_NONFINITE_H

#include "microw/sae.h"

bool row_is_finite(const mw_store_view *view, const float *x);
/* Row `row` of the store, of which x are the view's columns, is not finite: names the first column, and the remedy. */
mw_status nonfinite_error(const mw_store_view *view, int64_t row, const float *x, const char *remedy) MW_MUST_USE;

/* Rows that a rank met while it read its share of a store. */
typedef struct finite_rows {
    mw_nan_rule rule;
    int64_t first, left_out; /* row at which the rank stopped, -1: none; rows that were passed over */
} finite_rows;
finite_rows finite_rows_begin(mw_nan_rule rule);
/* Whether a row is used: not where it is not finite. Then it is counted, or the rank has to stop (`first` is it). `y`, `out`: NULL where
 * nothing else is rebuilt. */
bool finite_row(finite_rows *rows, const mw_store_view *in, const mw_store_view *out, int64_t row, const float *x,
                const float *y);
/* After the last: MW_ERR_STATE, and one message from the rank that met the first such row; else the number of rows that all ranks left
 * out is in `left_out` of each, and is told. Collective. */
mw_status finite_rows_end(finite_rows *rows, const mw_store_view *in, const mw_store_view *out,
                          const mw_comm *comm) MW_MUST_USE;

#endif
