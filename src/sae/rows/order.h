/* The order in which training goes through the rows: a function of the seed and the position, with no state.
 *
 * Row by row (block 0), pass e over n rows is a keyed permutation of them all: the best order there is, but each row is a
 * read of its own. By blocks, each tile of MW_ROW_TILE places of a batch is a tile, and each tile goes through
 * windows of `window` blocks of `block` neighbouring rows each: blocks are drawn by a keyed permutation of all blocks, and
 * the rows of a window are permuted among themselves. A reader then holds one window a tile, whatever n is, and reads
 * in blocks. Since a rank has whole tiles, it reads nothing for others, and the order does not depend on the ranks.
 */
#ifndef MICROW_SAE_ROWS_ORDER_H
#define MICROW_SAE_ROWS_ORDER_H

#include "microw/backend.h"

typedef struct row_order {
    uint64_t seed;
    int64_t rows, batch; /* of the data; of a step */
    int64_t block, window;
} row_order;

/* Row at a position of the training order. */
int64_t order_row(const row_order *o, int64_t position);

/* By blocks: where in which window of which tile a position lies, before the window's rows are permuted. */
typedef struct order_place {
    int64_t tile, window, offset;
} order_place;
/* Blocks in a tile's windows. */
int64_t order_window_blocks(const row_order *o, int64_t tile);
order_place order_place_of(const row_order *o, int64_t position);
/* First row of a window's block j; it goes on at row 0 behind the last. */
int64_t order_block_row(const row_order *o, int64_t tile, int64_t window, int64_t j);
/* Place `at` of a window is this row of its blocks put one behind the other. */
int64_t order_window_row(const row_order *o, int64_t tile, int64_t window, int64_t offset);

#endif
