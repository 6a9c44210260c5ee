/* Prefetches batches: reads the next one, and sends it to the device, during the step on this one. */
#ifndef MICROW_SAE_ROWS_PREFETCH_H
#define MICROW_SAE_ROWS_PREFETCH_H

#include "sae/rows/feed.h"

typedef struct prefetcher prefetcher;

/* Opens a prefetcher for batches of `count` rows in the memory of the backend `memory`. A batch for host memory is read
 * when it is taken: a thread beside steps on a CPU would take cores from them, which costs more than it hides
 * (measured: 15 %). The feed is borrowed; use it otherwise only after prefetch_wait. */
mw_status prefetch_open(feed *f, int64_t count, mw_backend *memory, prefetcher **out) MW_MUST_USE;
/* Returns the batch from position `begin` of the order, as feed_read reads it: x [count, in->width], y [count,
 * out->width] or NULL, and prefetches the batch from position `next` (< 0: none). The rows stay valid until the next
 * call, and after it until the device has done the work submitted before it. Errors as feed_read. */
mw_status prefetch_take(prefetcher *p, int64_t begin, int64_t next, const float **x, const float **y) MW_MUST_USE;
/* Waits for the thread to finish its batch; the feed may then be used otherwise. */
void prefetch_wait(prefetcher *p);
/* Returns the number of rows that were replaced in the batches taken. */
int64_t prefetch_replaced(const prefetcher *p);
void prefetch_close(prefetcher **p);

#endif
