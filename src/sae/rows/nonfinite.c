/* Rows of activations that are not finite: found, counted, and named in errors. */
#include "sae/rows/nonfinite.h"

bool row_is_finite(const mw_store_view *view, const float *x) {
    return mw_first_not_finite(x, view->width) == view->width;
}

mw_status nonfinite_error(const mw_store_view *view, int64_t row, const float *x, const char *remedy) {
    int64_t bad = mw_first_not_finite(x, view->width), column = bad, i = 0;
    char site[MW_SITE_TEXT];
    while (column >= view->site[i].width) column -= view->site[i++].width;
    mw_site_format(view->site[i].site, site);
    return mw_error(MW_ERR_STATE, "activations: row %lld, column %lld of site %s is %f; %s", (long long)row,
                    (long long)column, site, (double)x[bad], remedy);
}

finite_rows finite_rows_begin(mw_nan_rule rule) {
    return (finite_rows){.rule = rule, .first = -1};
}

bool finite_row(finite_rows *rows, const mw_store_view *in, const mw_store_view *out, int64_t row, const float *x,
                const float *y) {
    if (row_is_finite(in, x) && (!out || row_is_finite(out, y))) return true;
    if (rows->rule == MW_NAN_SKIP)
        rows->left_out++;
    else if (rows->first < 0)
        rows->first = row;
    return false;
}

static mw_status first_row_error(const finite_rows *rows, const mw_store_view *in, const mw_store_view *out) {
    static const char remedy[] = "train.nan: skip leaves such rows out";
    const mw_store_view *both[] = {in, out};
    mw_status status = MW_OK;
    for (int i = 0; i < 2 && both[i] && status == MW_OK; i++) {
        float *x = mw_alloc((size_t)both[i]->width * sizeof *x);
        status = x ? mw_store_view_range(both[i], rows->first, 1, x) : MW_ERR_MEMORY;
        if (status == MW_OK && !row_is_finite(both[i], x)) status = nonfinite_error(both[i], rows->first, x, remedy);
        mw_free(x);
    }
    return status;
}

mw_status finite_rows_end(finite_rows *rows, const mw_store_view *in, const mw_store_view *out, const mw_comm *comm) {
    int64_t first = 0;
    MW_TRY(mw_comm_allreduce_first(comm, rows->first, &first));
    MW_TRY(mw_comm_agree(comm, first >= 0 && first == rows->first ? first_row_error(rows, in, out) : MW_OK));
    MW_TRY(mw_comm_allreduce_sum(comm, &rows->left_out, 1));
    if (rows->left_out && mw_comm_rank(comm) == 0)
        mw_log(MW_LOG_WARNING, "activations: %lld rows are not finite and are left out", (long long)rows->left_out);
    return MW_OK;
}
