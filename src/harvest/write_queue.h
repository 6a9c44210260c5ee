/* A ring of blocks between the thread that computes and the thread that writes. */
#ifndef MICROW_HARVEST_WRITE_QUEUE_H
#define MICROW_HARVEST_WRITE_QUEUE_H

#include "harvest/row_plan.h"

typedef struct pipe_slot {
    int64_t block; /* -1: this rank has none in this step */
    int64_t done;  /* blocks complete once this step is written */
    mw_status local;
    void **values; /* [n_sites] -> [rows, width] in the stored type */
} pipe_slot;

typedef struct block_pipe block_pipe;

/* `threaded`: writes happen in a thread of their own, over `comm`, which nobody else may use meanwhile. Slots are memory that
 * the backend's copies go to. */
mw_status pipe_open(mw_store_writer *writer, const mw_store_plan *plan, mw_backend *backend, bool threaded,
                    block_pipe **out) MW_MUST_USE;
/* An empty slot to fill; waits for one. NULL: writing has failed, pipe_close tells how. Two may be taken at a time. */
pipe_slot *pipe_take(block_pipe *pipe);
/* The slot that was taken first of those not given yet. */
void pipe_give(block_pipe *pipe);
/* Waits for what was given; the first failure of any step. */
mw_status pipe_close(block_pipe **pipe) MW_MUST_USE;
double pipe_waiting(const block_pipe *pipe); /* seconds in pipe_take */

#endif
