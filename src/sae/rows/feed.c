/* Reading rows of a store in training order, row by row or by windows of blocks. */
#include "sae/rows/feed.h"
#include "sae/rows/nonfinite.h"

#include <string.h>

mw_status feed_open(const mw_store_view *in, const mw_store_view *out, const mw_train_options *options, feed *f) {
    *f = (feed){.in = in, .out = out, .skip_nonfinite = options->nan_rule == MW_NAN_SKIP};
    f->order = (row_order){.seed = (uint64_t)options->order_seed,
                           .rows = mw_store_rows(in->store),
                           .batch = options->batch,
                           .block = options->shuffle_block,
                           .window = options->shuffle_window};
    if (f->order.block == 0) return MW_OK;
    f->tiles = (options->batch + MW_ROW_TILE - 1) / MW_ROW_TILE;
    if (!(f->buffers = mw_calloc((size_t)f->tiles, sizeof *f->buffers))) return MW_ERR_MEMORY;
    for (int64_t s = 0; s < f->tiles; s++) f->buffers[s].window = -1;
    return MW_OK;
}

void feed_close(feed *f) {
    for (int64_t s = 0; s < f->tiles; s++) {
        mw_free(f->buffers[s].x);
        mw_free(f->buffers[s].y);
    }
    mw_free(f->buffers);
    mw_free(f->rows);
    *f = (feed){0};
}

static mw_status list_rows(feed *f, int64_t begin, int64_t count) {
    if (count > f->capacity) {
        mw_free(f->rows);
        f->capacity = 0;
        if (!(f->rows = mw_alloc((size_t)count * sizeof *f->rows))) return MW_ERR_MEMORY;
        f->capacity = count;
    }
    order_rows(&f->order, begin, count, f->rows);
    return MW_OK;
}

/* ---- windows ------------------------------------------------------------------------------------------- */

/* Reads `count` rows from row `begin`; row 0 follows the last row. */
static mw_status read_cyclic(const mw_store_view *view, int64_t rows, int64_t begin, int64_t count, float *out) {
    while (count > 0) {
        int64_t n = rows - begin < count ? rows - begin : count;
        MW_TRY(mw_store_view_range(view, begin, n, out));
        out += n * view->width;
        count -= n;
        begin = 0;
    }
    return MW_OK;
}

static mw_status fill_buffer(const feed *f, const mw_store_view *view, int64_t tile, int64_t window, float **buffer) {
    const row_order *o = &f->order;
    size_t bytes = (size_t)(o->block * o->window * view->width) * sizeof **buffer;
    if (!*buffer && !(*buffer = mw_alloc(bytes))) return MW_ERR_MEMORY;
    for (int64_t j = 0; j < order_window_blocks(o, tile); j++)
        MW_TRY(read_cyclic(view, o->rows, order_block_row(o, tile, window, j), o->block,
                           *buffer + j * o->block * view->width));
    return MW_OK;
}

static mw_status fill_window(feed *f, int64_t tile, int64_t window) {
    window_buffer *b = &f->buffers[tile];
    b->window = -1;
    MW_TRY(fill_buffer(f, f->in, tile, window, &b->x));
    if (f->out) MW_TRY(fill_buffer(f, f->out, tile, window, &b->y));
    b->window = window;
    return MW_OK;
}

static mw_status read_windows(feed *f, int64_t begin, int64_t count, float *x, float *y) {
    for (int64_t i = 0; i < count; i++) {
        order_place p = order_place_of(&f->order, begin + i);
        window_buffer *b = &f->buffers[p.tile];
        if (b->window != p.window) MW_TRY(fill_window(f, p.tile, p.window));
        int64_t from = order_window_row(&f->order, p.tile, p.window, p.offset), width = f->in->width;
        memcpy(x + i * width, b->x + from * width, (size_t)width * sizeof *x);
        if (f->out) memcpy(y + i * f->out->width, b->y + from * f->out->width, (size_t)f->out->width * sizeof *y);
    }
    return MW_OK;
}

/* ---- rows that are not finite ----------------------------------------------------------------------------- */

static bool is_finite(const feed *f, const float *x, const float *y) {
    return row_is_finite(f->in, x) && (!f->out || row_is_finite(f->out, y));
}

static mw_status row_error(const feed *f, int64_t row, const float *x, const float *y) {
    static const char remedy[] = "train.nan: skip takes the next finite row instead";
    return row_is_finite(f->in, x) ? nonfinite_error(f->out, row, y, remedy) : nonfinite_error(f->in, row, x, remedy);
}

/* Reads the next finite row, which depends on the data only: results do not depend on the number of ranks. */
static mw_status replace_row(const feed *f, int64_t row, float *x, float *y) {
    for (int64_t tried = 1; tried < f->order.rows; tried++) {
        row = (row + 1) % f->order.rows;
        MW_TRY(mw_store_view_range(f->in, row, 1, x));
        if (f->out) MW_TRY(mw_store_view_range(f->out, row, 1, y));
        if (is_finite(f, x, y)) return MW_OK;
    }
    return mw_error(MW_ERR_STATE, "activations: no row is finite");
}

static mw_status replace_nonfinite(feed *f, int64_t begin, int64_t count, float *x, float *y) {
    for (int64_t i = 0; i < count; i++) {
        float *xi = x + i * f->in->width, *yi = f->out ? y + i * f->out->width : NULL;
        if (is_finite(f, xi, yi)) continue;
        int64_t row = order_row(&f->order, begin + i);
        if (!f->skip_nonfinite) return row_error(f, row, xi, yi);
        f->replaced++;
        MW_TRY(replace_row(f, row, xi, yi));
    }
    return MW_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

mw_status feed_sample(feed *f, int64_t begin, int64_t count, float *x, float *y) {
    MW_TRY(list_rows(f, begin, count));
    MW_TRY(mw_store_view_rows(f->in, f->rows, count, x));
    if (f->out) MW_TRY(mw_store_view_rows(f->out, f->rows, count, y));
    return replace_nonfinite(f, begin, count, x, y);
}

mw_status feed_read(feed *f, int64_t begin, int64_t count, float *x, float *y) {
    if (f->order.block == 0) return feed_sample(f, begin, count, x, y);
    MW_TRY(read_windows(f, begin, count, x, y));
    return replace_nonfinite(f, begin, count, x, y);
}
