/* Rows of a view as they are stored. */
#include "store/stored_rows.h"
#include "store/store.h"

static mw_dtype dtype_of(const mw_store *store, int64_t site) {
    mw_dtype first = store->files[0].sites[site].about.dtype;
    for (int64_t f = 1; f < store->n_files; f++)
        if (store->files[f].sites[site].about.dtype != first) return MW_F32;
    return first;
}

stored_rows stored_rows_of(const mw_store_view *view) {
    stored_rows rows = {.view = view};
    for (int64_t i = 0; i < view->n_sites; i++) {
        rows.dtype[i] = dtype_of(view->store, view->site[i].index);
        rows.before[i] = rows.bytes;
        rows.bytes += (size_t)view->site[i].width * mw_dtype_size(rows.dtype[i]);
    }
    return rows;
}

mw_status stored_rows_read(const stored_rows *rows, int64_t begin, int64_t count, int64_t capacity, int64_t at,
                           char *block) {
    for (int64_t i = 0; i < rows->view->n_sites; i++) {
        const mw_store_site *site = &rows->view->site[i];
        size_t row = (size_t)site->width * mw_dtype_size(rows->dtype[i]);
        char *out = block + rows->before[i] * (size_t)capacity + (size_t)at * row;
        MW_TRY(store_read_as(rows->view->store, site, rows->dtype[i], begin, count, out));
    }
    return MW_OK;
}

/* Returns the columns of a site in a row of a block. */
static const char *columns_of(const stored_rows *rows, const char *block, int64_t capacity, int64_t at, int64_t i,
                              size_t *bytes) {
    *bytes = (size_t)rows->view->site[i].width * mw_dtype_size(rows->dtype[i]);
    return block + rows->before[i] * (size_t)capacity + (size_t)at * *bytes;
}

mw_status stored_rows_take(const stored_rows *rows, const char *block, int64_t capacity, int64_t at, float *x) {
    size_t bytes;
    for (int64_t i = 0; i < rows->view->n_sites; x += rows->view->site[i++].width) {
        const char *in = columns_of(rows, block, capacity, at, i, &bytes);
        MW_TRY(mw_convert_to_f32(rows->dtype[i], in, rows->view->site[i].width, x));
    }
    return MW_OK;
}

void stored_rows_touch(const stored_rows *rows, const char *block, int64_t capacity, int64_t at) {
    enum { LINE = 64, MOST = 64 * LINE }; /* a processor follows longer rows by itself */
    size_t bytes;
    for (int64_t i = 0; i < rows->view->n_sites; i++) {
        const char *in = columns_of(rows, block, capacity, at, i, &bytes);
        for (size_t at_byte = 0; at_byte < bytes && at_byte < MOST; at_byte += LINE) __builtin_prefetch(in + at_byte);
    }
}

void stored_rows_expect(const stored_rows *rows, int64_t begin, int64_t count) {
    for (int64_t i = 0; i < rows->view->n_sites; i++)
        store_expect(rows->view->store, &rows->view->site[i], begin, count);
}
