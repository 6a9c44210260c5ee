/* Rows of a store in training order. */
#ifndef MICROW_SAE_ROWS_FEED_H
#define MICROW_SAE_ROWS_FEED_H

#include "microw/sae.h"
#include "sae/rows/order.h"

typedef struct window_buffer {
    int64_t window; /* -1: none yet */
    float *x, *y;   /* its blocks, one behind the other */
} window_buffer;

typedef struct feed {
    const mw_store_view *in, *out; /* out NULL: what is read is what is rebuilt */
    row_order order;
    bool skip_nonfinite;
    int64_t *rows; /* scratch */
    int64_t capacity;
    window_buffer *buffers; /* [tiles], those of this rank filled */
    int64_t tiles;
    int64_t replaced; /* rows that were not finite, since the feed was opened */
} feed;

mw_status feed_open(const mw_store_view *in, const mw_store_view *out, const mw_train_options *options,
                    feed *f) MW_MUST_USE;
void feed_close(feed *f);
/* Rows at positions begin .. begin + count, as stored: x [count, in->width], y [count, out->width], NULL without `out`. A row
 * that is not finite is an error that names it, or gives its place to the row behind it. Local. */
mw_status feed_read(feed *f, int64_t begin, int64_t count, float *x, float *y) MW_MUST_USE;
/* The same, row by row, without windows: for samples. */
mw_status feed_sample(feed *f, int64_t begin, int64_t count, float *x, float *y) MW_MUST_USE;

#endif
