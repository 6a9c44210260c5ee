/* Rows of a view in the types in which they are stored: in less memory than f32, and widened when they are taken. */
#ifndef MICROW_STORE_STORED_ROWS_H
#define MICROW_STORE_STORED_ROWS_H

#include "microw/store.h"

typedef struct stored_rows {
    const mw_store_view *view;     /* borrowed */
    mw_dtype dtype[MW_VIEW_SITES]; /* of each site; f32 where the files of the store differ */
    size_t before[MW_VIEW_SITES];  /* bytes of a row in the sites before this one */
    size_t bytes;                  /* of a row */
} stored_rows;

stored_rows stored_rows_of(const mw_store_view *view);
/* Reads rows begin .. begin + count of the store to the rows from `at` on of `block`, which has memory for `capacity`
 * rows: [site][capacity, width]. Errors as mw_store_read_range. */
mw_status stored_rows_read(const stored_rows *rows, int64_t begin, int64_t count, int64_t capacity, int64_t at,
                           char *block) MW_MUST_USE;
/* Sets x [view->width] to row `at` of such a block. */
mw_status stored_rows_take(const stored_rows *rows, const char *block, int64_t capacity, int64_t at,
                           float *x) MW_MUST_USE;
/* Brings row `at` of such a block to the processor's cache; only a hint. */
void stored_rows_touch(const stored_rows *rows, const char *block, int64_t capacity, int64_t at);
/* Begins to read rows begin .. begin + count from the disk into the system's cache, and returns at once. Only a hint:
 * rows out of range are left out, and nothing fails. */
void stored_rows_expect(const stored_rows *rows, int64_t begin, int64_t count);

#endif
