/* The training order as keyed permutations of blocks and rows. */
#include "sae/rows/order.h"

static int64_t tiles(const row_order *o) {
    return (o->batch + MW_ROW_TILE - 1) / MW_ROW_TILE;
}

/* Rows of a batch in a tile: MW_ROW_TILE, or fewer in the last tile. */
static int64_t width_of(const row_order *o, int64_t tile) {
    int64_t left = o->batch - tile * MW_ROW_TILE;
    return left < MW_ROW_TILE ? left : MW_ROW_TILE;
}

/* The last tile may have fewer rows: with proportionally smaller windows it advances as the others do. */
int64_t order_window_blocks(const row_order *o, int64_t tile) {
    return (o->window * width_of(o, tile) + MW_ROW_TILE - 1) / MW_ROW_TILE;
}

order_place order_place_of(const row_order *o, int64_t position) {
    int64_t step = position / o->batch, offset = position % o->batch, tile = offset / MW_ROW_TILE;
    int64_t seen = step * width_of(o, tile) + offset % MW_ROW_TILE, size = o->block * order_window_blocks(o, tile);
    return (order_place){tile, seen / size, seen % size};
}

int64_t order_run(const row_order *o, int64_t position) {
    order_place place = order_place_of(o, position);
    int64_t seen = position % o->batch % MW_ROW_TILE, in_tile = width_of(o, place.tile) - seen;
    int64_t in_window = o->block * order_window_blocks(o, place.tile) - place.offset;
    return in_tile < in_window ? in_tile : in_window;
}

/* Blocks are counted from an origin that changes with each pass: so no two rows are neighbours in all passes, and the
 * short last block, which the first rows complete, has other rows in each pass. */
int64_t order_block_row(const row_order *o, int64_t tile, int64_t window, int64_t j) {
    enum { ORIGIN = 1 };
    uint64_t rows = (uint64_t)o->rows, blocks = (rows + (uint64_t)o->block - 1) / (uint64_t)o->block;
    int64_t last = tiles(o) - 1, round = last * o->window + order_window_blocks(o, last); /* a window of every tile */
    uint64_t drawn = (uint64_t)(window * round + tile * o->window + j), pass = drawn / blocks;
    uint32_t origin[4];
    mw_philox(o->seed, ORIGIN, pass, origin);
    uint64_t first = ((uint64_t)origin[0] << 32 | origin[1]) % rows;
    uint64_t block = mw_permute(o->seed, pass, blocks, drawn % blocks);
    return (int64_t)((first + block * (uint64_t)o->block) % rows);
}

static uint64_t key_of(const row_order *o, int64_t tile) {
    static const uint64_t stride = UINT64_C(0x9e3779b97f4a7c15); /* between the keys of tiles */
    return o->seed + stride * (uint64_t)(tile + 1);
}

int64_t order_window_row(const row_order *o, int64_t tile, int64_t window, int64_t offset) {
    uint64_t rows = (uint64_t)(o->block * order_window_blocks(o, tile));
    return (int64_t)mw_permute(key_of(o, tile), (uint64_t)window, rows, (uint64_t)offset);
}

void order_window_rows(const row_order *o, int64_t tile, int64_t window, int64_t offset, int64_t count, int64_t *out) {
    uint64_t rows = (uint64_t)(o->block * order_window_blocks(o, tile));
    mw_permute_range(key_of(o, tile), (uint64_t)window, rows, (uint64_t)offset, count, out);
}

int64_t order_row(const row_order *o, int64_t position) {
    uint64_t rows = (uint64_t)o->rows, p = (uint64_t)position;
    if (o->block == 0) return (int64_t)mw_permute(o->seed, p / rows, rows, p % rows);
    order_place place = order_place_of(o, position);
    int64_t within = order_window_row(o, place.tile, place.window, place.offset);
    return (order_block_row(o, place.tile, place.window, within / o->block) + within % o->block) % o->rows;
}

/* Positions of one pass, from p on. */
static int64_t left_in_pass(const row_order *o, int64_t p) {
    return o->rows - p % o->rows;
}

static void rows_of_piece(const row_order *o, int64_t begin, int64_t count, int64_t *out) {
    for (int64_t n; count > 0; begin += n, out += n, count -= n) {
        n = left_in_pass(o, begin) < count ? left_in_pass(o, begin) : count;
        mw_permute_range(o->seed, (uint64_t)(begin / o->rows), (uint64_t)o->rows, (uint64_t)(begin % o->rows), n, out);
    }
}

void order_rows(const row_order *o, int64_t begin, int64_t count, int64_t *out) {
    enum { PIECE = 512 };
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < count; at += PIECE) {
        int64_t n = count - at < PIECE ? count - at : PIECE;
        if (o->block == 0) rows_of_piece(o, begin + at, n, out + at);
        for (int64_t i = 0; i < n && o->block > 0; i++) out[at + i] = order_row(o, begin + at + i);
    }
}
