/* The order of training rows: every row once per pass, the same by position and by window, and well mixed. */
#include "sae/rows/order.h"
#include "test.h"

static int64_t *count_rows(const row_order *o, int64_t positions) {
    int64_t *seen = mw_calloc((size_t)o->rows, sizeof *seen);
    NEED(seen != NULL);
    for (int64_t p = 0; p < positions; p++) {
        int64_t row = order_row(o, p);
        NEED(row >= 0 && row < o->rows);
        seen[row]++;
    }
    return seen;
}

static void each_row_once_a_pass(void) {
    /* three passes row by row; one pass by blocks with all windows full; then sizes that divide nothing */
    const row_order whole = {.seed = 5, .rows = 4099, .batch = 300};
    int64_t *seen = count_rows(&whole, 3 * whole.rows);
    for (int64_t r = 0; r < whole.rows; r++) CHECK(seen[r] == 3);
    mw_free(seen);
    const row_order even = {.seed = 5, .rows = 2 * 128 * 16 * 8, .batch = 256, .block = 16, .window = 8};
    seen = count_rows(&even, even.rows);
    for (int64_t r = 0; r < even.rows; r++) CHECK(seen[r] == 1);
    mw_free(seen);
    /* A pass over the blocks differs from one over the rows by the windows open at its ends, and by the first rows,
     * which complete the last block. */
    const row_order odd = {.seed = 7, .rows = 40009, .batch = 700, .block = 13, .window = 32};
    int64_t passes = 20, open = (odd.batch / MW_ROW_TILE + 1) * odd.block * odd.window, extra = 0;
    seen = count_rows(&odd, passes * odd.rows);
    for (int64_t r = 0; r < odd.rows; r++) {
        CHECK(seen[r] >= passes - 3 && seen[r] <= passes + 3);
        extra += llabs(seen[r] - passes);
    }
    CHECK(extra <= 2 * open + 2 * passes * odd.block);
    mw_free(seen);
}

static void several_are_one_by_one(void) {
    static const row_order orders[] = {{.seed = 5, .rows = 1499, .batch = 300},
                                       {.seed = 9, .rows = 5000, .batch = 500, .block = 7, .window = 5}};
    for (int k = 0; k < 2; k++) {
        int64_t rows[5000];
        order_rows(&orders[k], 77, 5000, rows); /* more than three passes of the first */
        for (int64_t i = 0; i < 5000; i++) CHECK(rows[i] == order_row(&orders[k], 77 + i));
    }
}

static void positions_agree_with_windows(void) {
    const row_order o = {.seed = 9, .rows = 5000, .batch = 500, .block = 7, .window = 5};
    for (int64_t p = 0; p < 20000; p++) {
        order_place place = order_place_of(&o, p);
        int64_t within = order_window_row(&o, place.tile, place.window, place.offset);
        int64_t row = (order_block_row(&o, place.tile, place.window, within / o.block) + within % o.block) % o.rows;
        CHECK(place.tile == p % o.batch / MW_ROW_TILE && place.offset < o.block * o.window && row == order_row(&o, p));
    }
}

/* Returns the mean number of other rows of a row's neighbourhood of 16 that are in the same batch: its mates. */
static double mates(const row_order *o, int64_t batches) {
    enum { NEAR = 16 };
    int64_t groups = o->rows / NEAR + 1, pairs = 0;
    int32_t *seen = mw_calloc((size_t)groups, sizeof *seen);
    NEED(seen != NULL);
    for (int64_t b = 0; b < batches; b++) {
        memset(seen, 0, (size_t)groups * sizeof *seen);
        for (int64_t i = 0; i < o->batch; i++) pairs += 2 * seen[order_row(o, b * o->batch + i) / NEAR]++;
    }
    mw_free(seen);
    return (double)pairs / (double)(batches * o->batch);
}

/* Theory: from a window of W blocks of R rows a tile gets 127 (R - 1) / (W R - 1) mates of a row's own block, which
 * covers (16 + 1/16) / 2 / 16 of a neighbourhood of 16 where blocks of 16 do not begin at its edges; a perfect shuffle
 * gives batch * 15 / rows. The tolerance is a tenth of the sum, and 0.02, as pairs are counted over 40 batches. */
static void mixes_as_in_theory(void) {
    const row_order rows = {.seed = 1, .rows = 1000000, .batch = 2048};
    row_order blocks = rows;
    blocks.block = 16;
    blocks.window = 128;
    double perfect = 2048 * 15.0 / 1000000, own = 127 * 15.0 / (128 * 16 - 1);
    double by_rows = mates(&rows, 40), by_blocks = mates(&blocks, 40);
    printf("mates of a row in its batch: %.4f row by row (perfect %.4f), %.3f by blocks (at most %.3f)\n", by_rows,
           perfect, by_blocks, own + perfect);
    CHECK(fabs(by_rows - perfect) < 0.1 * perfect + 0.02);
    CHECK(by_blocks < 1.1 * (own + perfect) + 0.02 && by_blocks > 0.4 * own);
}

static void seeds_differ(void) {
    row_order a = {.seed = 1, .rows = 10000, .batch = 256, .block = 16, .window = 8}, b = a;
    b.seed = 2;
    int64_t same = 0;
    for (int64_t p = 0; p < 10000; p++) same += order_row(&a, p) == order_row(&b, p);
    CHECK(same < 30); /* one is expected */
}

int main(void) {
    RUN(each_row_once_a_pass);
    RUN(several_are_one_by_one);
    RUN(positions_agree_with_windows);
    RUN(mixes_as_in_theory);
    RUN(seeds_differ);
    return test_end();
}
