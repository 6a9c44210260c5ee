/* Rows of a store in training order. */
#ifndef MICROW_SAE_ROWS_FEED_H
#define MICROW_SAE_ROWS_FEED_H

#include "microw/sae.h"
#include "sae/rows/order.h"
#include "store/stored_rows.h"

/* A window of a tile, see order.h. */
typedef struct window_buffer {
    int64_t window;   /* the window in the buffers; -1: none yet */
    int64_t expected; /* the window whose blocks are being read ahead; -1: none */
    int64_t group;    /* the last group of positions that the window is for */
    char *x, *y;      /* [blocks] blocks of its rows, as stored_rows reads them; y NULL without `out` */
} window_buffer;

typedef struct feed {
    const mw_store_view *in, *out; /* borrowed; out NULL: the input is what is reconstructed */
    stored_rows x, y;              /* the same as they are stored */
    row_order order;
    bool skip_nonfinite;
    int64_t *rows; /* [capacity] scratch */
    int64_t capacity;
    int64_t taken;          /* rows of the whole training */
    char *held_x, *held_y;  /* all rows of the store, as one block; NULL: they are read when they are needed */
    bool holds, asked;      /* held_x is filled; whether to hold was decided */
    window_buffer *buffers; /* [tiles]; those of this rank's tiles are filled */
    int64_t tiles, group;
    int64_t replaced; /* rows replaced because they were not finite, since the feed was opened */
} feed;

/* Opens a feed for the batches of `options`. MW_ERR_MEMORY. */
mw_status feed_open(const mw_store_view *in, const mw_store_view *out, const mw_train_options *options,
                    feed *f) MW_MUST_USE;
void feed_close(feed *f);
/* Reads the rows at positions begin .. begin + count of the order, as stored: x [count, in->width], y [count,
 * out->width] (NULL without `out`). A row that is not finite: MW_ERR_STATE names it, or the next finite row takes its
 * place. Local. */
mw_status feed_read(feed *f, int64_t begin, int64_t count, float *x, float *y) MW_MUST_USE;
/* feed_read without windows, row by row: for samples. */
mw_status feed_sample(feed *f, int64_t begin, int64_t count, float *x, float *y) MW_MUST_USE;

#endif
