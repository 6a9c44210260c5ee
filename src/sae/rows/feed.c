/* Reading rows of a store in training order, row by row or by windows of blocks. */
#include "sae/rows/feed.h"
#include "sae/rows/nonfinite.h"

mw_status feed_open(const mw_store_view *in, const mw_store_view *out, const mw_train_options *options, feed *f) {
    *f = (feed){.in = in, .out = out, .skip_nonfinite = options->nan_rule == MW_NAN_SKIP};
    f->order = (row_order){.seed = (uint64_t)options->order_seed,
                           .rows = mw_store_rows(in->store),
                           .batch = options->batch,
                           .block = options->shuffle_block,
                           .window = options->shuffle_window};
    f->taken = options->steps * options->batch;
    f->x = stored_rows_of(in);
    if (out) f->y = stored_rows_of(out);
    if (f->order.block == 0) return MW_OK;
    f->tiles = (options->batch + MW_ROW_TILE - 1) / MW_ROW_TILE;
    if (!(f->buffers = mw_calloc((size_t)f->tiles, sizeof *f->buffers))) return MW_ERR_MEMORY;
    for (int64_t s = 0; s < f->tiles; s++) f->buffers[s].window = f->buffers[s].expected = -1;
    return MW_OK;
}

void feed_close(feed *f) {
    for (int64_t s = 0; s < f->tiles; s++) {
        mw_free(f->buffers[s].x);
        mw_free(f->buffers[s].y);
    }
    mw_free(f->buffers);
    mw_free(f->rows);
    mw_free(f->held_x);
    mw_free(f->held_y);
    *f = (feed){0};
}

static mw_status list_rows(feed *f, int64_t begin, int64_t count) {
    if (count > f->capacity) {
        mw_free(f->rows);
        f->capacity = 0;
        if (!(f->rows = mw_alloc((size_t)count * sizeof *f->rows))) return MW_ERR_MEMORY;
        f->capacity = count;
    }
    enum { PIECE = 256 };
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < count; at += PIECE)
        order_rows(&f->order, begin + at, count - at < PIECE ? count - at : PIECE, f->rows + at);
    return MW_OK;
}

/* ---- windows ------------------------------------------------------------------------------------------- */

/* Reads the block at row `begin` of the store; row 0 follows the last row. */
static mw_status read_block(const feed *f, const stored_rows *rows, int64_t begin, char *block) {
    const row_order *o = &f->order;
    for (int64_t at = 0, n; at < o->block; at += n, begin = 0) {
        n = o->rows - begin < o->block - at ? o->rows - begin : o->block - at;
        MW_TRY(stored_rows_read(rows, begin, n, o->block, at, block));
    }
    return MW_OK;
}

/* The disk reads a block, without its part beyond the last row, while others are used. */
static void expect_block(const feed *f, int64_t tile, int64_t window, int64_t j) {
    int64_t row = order_block_row(&f->order, tile, window, j);
    stored_rows_expect(&f->x, row, f->order.block);
    if (f->out) stored_rows_expect(&f->y, row, f->order.block);
}

/* Threads that have not failed read no more blocks once one has: the first failure is the one that is logged. */
static mw_status fill_buffer(const feed *f, const stored_rows *rows, int64_t tile, int64_t window, char **buffer) {
    const row_order *o = &f->order;
    size_t block = (size_t)o->block * rows->bytes;
    if (!*buffer && !(*buffer = mw_alloc((size_t)o->window * block))) return MW_ERR_MEMORY;
    mw_status worst = MW_OK;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < order_window_blocks(o, tile); j++) {
        mw_status status;
#pragma omp atomic read
        status = worst;
        if (status != MW_OK) continue;
        status = read_block(f, rows, order_block_row(o, tile, window, j), *buffer + (size_t)j * block);
        if (status == MW_OK) continue;
#pragma omp atomic write
        worst = status;
    }
    return worst;
}

static mw_status fill_window(feed *f, int64_t tile, int64_t window) {
    window_buffer *b = &f->buffers[tile];
    b->window = -1;
    for (int64_t j = 0; b->expected != window && j < order_window_blocks(&f->order, tile); j++)
        expect_block(f, tile, window, j);
    MW_TRY(fill_buffer(f, &f->x, tile, window, &b->x));
    if (f->out) MW_TRY(fill_buffer(f, &f->y, tile, window, &b->y));
    b->window = window;
    return MW_OK;
}

/* Fills the windows of the positions begin .. begin + count, but of each tile at most one; `n`: the positions before
 * the first one that needs another. */
static mw_status fill_windows(feed *f, int64_t begin, int64_t count, int64_t *n) {
    int64_t group = ++f->group;
    for (*n = 0; *n < count; *n += order_run(&f->order, begin + *n)) {
        order_place p = order_place_of(&f->order, begin + *n);
        window_buffer *b = &f->buffers[p.tile];
        if (b->window != p.window && b->group == group) return MW_OK;
        if (b->window != p.window) MW_TRY(fill_window(f, p.tile, p.window));
        b->group = group;
    }
    *n = count;
    return MW_OK;
}

static const char *block_of(const stored_rows *rows, const char *window, int64_t block, int64_t row) {
    return window + (size_t)(row - row % block) * rows->bytes;
}

/* Takes the rows `row` [count] of a window. */
static mw_status take_rows(const stored_rows *rows, const char *window, int64_t block, const int64_t *row,
                           int64_t count, float *x) {
    enum { AHEAD = 4 };
    for (int64_t i = 0; i < count; i++) {
        int64_t next = i + AHEAD < count ? row[i + AHEAD] : row[i];
        stored_rows_touch(rows, block_of(rows, window, block, next), block, next % block);
        MW_TRY(stored_rows_take(rows, block_of(rows, window, block, row[i]), block, row[i] % block,
                                x + i * rows->view->width));
    }
    return MW_OK;
}

/* Lets the disk read the blocks of the tile's next window: one for every block's worth of rows that are taken, so that
 * it works throughout a window. */
static void expect_next(feed *f, order_place p, int64_t count) {
    int64_t block = f->order.block;
    if (p.offset == 0) f->buffers[p.tile].expected = p.window + 1;
    for (int64_t j = (p.offset + block - 1) / block; j * block < p.offset + count; j++)
        expect_block(f, p.tile, p.window + 1, j);
}

static bool are_finite(const stored_rows *rows, int64_t count, const float *x) {
    for (int64_t i = 0; i < count; i++)
        if (!row_is_finite(rows->view, x + i * rows->view->width)) return false;
    return true;
}

/* Takes up to MW_ROW_TILE positions, whose windows are filled. */
static mw_status take_piece(feed *f, int64_t begin, int64_t count, float *x, float *y, bool *finite) {
    int64_t row[MW_ROW_TILE], width = f->in->width, block = f->order.block;
    for (int64_t at = 0, n; at < count; at += n) {
        order_place p = order_place_of(&f->order, begin + at);
        const window_buffer *b = &f->buffers[p.tile];
        n = order_run(&f->order, begin + at);
        if (n > count - at) n = count - at;
        expect_next(f, p, n);
        order_window_rows(&f->order, p.tile, p.window, p.offset, n, row);
        MW_TRY(take_rows(&f->x, b->x, block, row, n, x + at * width));
        if (f->out) MW_TRY(take_rows(&f->y, b->y, block, row, n, y + at * f->out->width));
    }
    *finite = are_finite(&f->x, count, x) && (!f->out || are_finite(&f->y, count, y));
    return MW_OK;
}

/* Takes positions whose windows are filled; `finite` becomes false if a row is not. */
static mw_status take_positions(feed *f, int64_t begin, int64_t count, float *x, float *y, bool *finite) {
    mw_status worst = MW_OK;
    bool all = true;
#pragma omp parallel for schedule(static) reduction(max : worst) reduction(&& : all)
    for (int64_t at = 0; at < count; at += MW_ROW_TILE) {
        bool good = true;
        int64_t n = count - at < MW_ROW_TILE ? count - at : MW_ROW_TILE;
        mw_status status =
            take_piece(f, begin + at, n, x + at * f->in->width, f->out ? y + at * f->out->width : NULL, &good);
        worst = status > worst ? status : worst;
        all = all && good;
    }
    *finite = *finite && all;
    return worst;
}

static bool is_finite(const feed *f, const float *x, const float *y) {
    return row_is_finite(f->in, x) && (!f->out || row_is_finite(f->out, y));
}

/* ---- rows that are not finite ----------------------------------------------------------------------------- */

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

/* ---- rows in memory ------------------------------------------------------------------------------------- */

/* A training that takes all rows, and of a store that is small beside the free memory, holds them: a call of the system
 * for each row takes longer than the row. */
static bool should_hold(const feed *f) {
    enum { MOST = 256 << 20, FREE = 32 };
    uint64_t bytes = (uint64_t)f->order.rows * (f->x.bytes + (f->out ? f->y.bytes : 0));
    return f->taken >= f->order.rows && bytes <= MOST && bytes <= mw_free_memory() / FREE;
}

static mw_status hold(const feed *f, const stored_rows *rows, char **out) {
    enum { PIECE = 4096 };
    int64_t n = f->order.rows;
    if (!(*out = mw_alloc((size_t)n * rows->bytes))) return MW_ERR_MEMORY;
    mw_status worst = MW_OK;
#pragma omp parallel for schedule(dynamic) reduction(max : worst)
    for (int64_t at = 0; at < n; at += PIECE) {
        mw_status status = stored_rows_read(rows, at, n - at < PIECE ? n - at : PIECE, n, at, *out);
        worst = status > worst ? status : worst;
    }
    return worst;
}

static mw_status hold_rows(feed *f) {
    f->asked = true;
    if (!should_hold(f)) return MW_OK;
    MW_TRY(hold(f, &f->x, &f->held_x));
    if (f->out) MW_TRY(hold(f, &f->y, &f->held_y));
    f->holds = true;
    return MW_OK;
}

/* Takes rows; `finite` becomes false if one is not. */
static mw_status take_held(const stored_rows *rows, const char *all, int64_t n, const int64_t *row, int64_t count,
                           float *x, bool *finite) {
    mw_status worst = MW_OK;
    bool good = true;
#pragma omp parallel for schedule(static) reduction(max : worst) reduction(&& : good)
    for (int64_t at = 0; at < count; at += MW_ROW_TILE) {
        int64_t some = count - at < MW_ROW_TILE ? count - at : MW_ROW_TILE;
        float *to = x + at * rows->view->width;
        mw_status status = take_rows(rows, all, n, row + at, some, to);
        worst = status > worst ? status : worst;
        good = good && are_finite(rows, some, to);
    }
    *finite = *finite && good;
    return worst;
}

static mw_status read_held(feed *f, int64_t begin, int64_t count, float *x, float *y) {
    bool finite = true;
    MW_TRY(list_rows(f, begin, count));
    MW_TRY(take_held(&f->x, f->held_x, f->order.rows, f->rows, count, x, &finite));
    if (f->out) MW_TRY(take_held(&f->y, f->held_y, f->order.rows, f->rows, count, y, &finite));
    return finite ? MW_OK : replace_nonfinite(f, begin, count, x, y);
}

static mw_status read_windows(feed *f, int64_t begin, int64_t count, float *x, float *y) {
    bool finite = true;
    for (int64_t at = 0, n; at < count; at += n) {
        MW_TRY(fill_windows(f, begin + at, count - at, &n));
        MW_TRY(
            take_positions(f, begin + at, n, x + at * f->in->width, f->out ? y + at * f->out->width : NULL, &finite));
    }
    return finite ? MW_OK : replace_nonfinite(f, begin, count, x, y);
}

mw_status feed_read(feed *f, int64_t begin, int64_t count, float *x, float *y) {
    if (f->order.block > 0) return read_windows(f, begin, count, x, y);
    if (!f->asked) MW_TRY(hold_rows(f));
    return f->holds ? read_held(f, begin, count, x, y) : feed_sample(f, begin, count, x, y);
}
