/* Reads the next batch, and sends it to the device, while a step is made of this one. */
#ifndef MICROW_SAE_ROWS_PREFETCH_H
#define MICROW_SAE_ROWS_PREFETCH_H

#include "sae/rows/feed.h"

typedef struct prefetcher prefetcher;

/* For batches of `count` rows in the memory of `memory`. Where that is the host's each is read when it is asked for: beside steps of a
 * CPU a thread would take cores from them, which costs more than it hides (measured: 15 %). The feed is the prefetcher's until it
 * rests. */
mw_status prefetch_open(feed *f, int64_t count, mw_backend *memory, prefetcher **out) MW_MUST_USE;
/* Rows from position `begin` of the order on, as feed_read gives them, and the reading of those from `next` is begun (< 0: of
 * none). They stay as they are until the next call, and then until the work that has been asked of the device by then is done. */
mw_status prefetch_take(prefetcher *p, int64_t begin, int64_t next, const float **x, const float **y) MW_MUST_USE;
/* Waits until nothing is being read: then the feed may be used otherwise. */
void prefetch_wait(prefetcher *p);
/* Rows that were not finite, in the batches that were taken. */
int64_t prefetch_replaced(const prefetcher *p);
void prefetch_close(prefetcher **p);

#endif
