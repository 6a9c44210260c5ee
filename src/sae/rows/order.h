/* The order of the rows in training: a function of seed and position, without state.
 *
 * Row by row (block 0), pass e over n rows is a keyed permutation of all rows: the best shuffle, but one read per row.
 * By blocks, a batch is divided into tiles of MW_ROW_TILE rows, and each tile takes its rows from windows of `window`
 * blocks of `block` neighbouring rows: a keyed permutation of all blocks draws the blocks, and another one shuffles the
 * rows of a window. A feed then buffers one window per tile, whatever n is, and reads in blocks. A rank has whole
 * tiles: it reads no rows of other ranks, and the order does not depend on the number of ranks.
 */
#ifndef MICROW_SAE_ROWS_ORDER_H
#define MICROW_SAE_ROWS_ORDER_H

#include "microw/backend.h"

typedef struct row_order {
    uint64_t seed;
    int64_t rows, batch;   /* rows of the data; rows of a step */
    int64_t block, window; /* rows of a block, 0: row by row; blocks of a window */
} row_order;

/* Returns the row at a position >= 0 of the training order. */
int64_t order_row(const row_order *o, int64_t position);
/* The rows at positions begin .. begin + count - 1; sooner than one by one. */
void order_rows(const row_order *o, int64_t begin, int64_t count, int64_t *out);

/* By blocks: the tile of a position, the tile's window, and the offset in the window before its rows are shuffled. */
typedef struct order_place {
    int64_t tile, window, offset;
} order_place;
/* Returns the number of blocks in a window of a tile. */
int64_t order_window_blocks(const row_order *o, int64_t tile);
order_place order_place_of(const row_order *o, int64_t position);
/* Returns the number of positions from this one on that have its tile and window. */
int64_t order_run(const row_order *o, int64_t position);
/* Returns the first row of block j of a window; row 0 follows the last row. */
int64_t order_block_row(const row_order *o, int64_t tile, int64_t window, int64_t j);
/* Returns the row, among the concatenated blocks of a window, that the shuffle puts at an offset of the window. */
int64_t order_window_row(const row_order *o, int64_t tile, int64_t window, int64_t offset);
/* The same at offsets offset .. offset + count - 1 of the window; sooner than one by one. */
void order_window_rows(const row_order *o, int64_t tile, int64_t window, int64_t offset, int64_t count, int64_t *out);

#endif
