/* A ring of blocks between the computing thread and the writing thread. */
#ifndef MICROW_HARVEST_WRITE_QUEUE_H
#define MICROW_HARVEST_WRITE_QUEUE_H

#include "harvest/row_plan.h"

typedef struct queue_slot {
    int64_t block;   /* -1: this rank has none in this step */
    int64_t done;    /* blocks that are complete once this step is written */
    mw_status local; /* of computing the block; not MW_OK stops all ranks */
    void **values;   /* [n_sites] -> [rows, width] in the stored type */
} queue_slot;

typedef struct write_queue write_queue;

/* Opens a queue of steps for `writer`. `threaded`: one thread digests and one writes, and no other thread may use the
 * writer's communicator meanwhile; else write_queue_submit writes. Slots are the backend's host memory for copies. All
 * pointers are borrowed. MW_ERR_MEMORY. Local. */
mw_status write_queue_open(mw_store_writer *writer, const mw_store_layout *layout, mw_backend *backend, bool threaded,
                           write_queue **out) MW_MUST_USE;
/* Waits for an empty slot and returns it. NULL: writing has failed, write_queue_close returns the status. Two slots
 * may be acquired at a time. */
queue_slot *write_queue_acquire(write_queue *queue);
/* Submits the oldest acquired slot for writing. */
void write_queue_submit(write_queue *queue);
/* Waits until all submitted slots are written, frees the queue and returns the first failure. */
mw_status write_queue_close(write_queue **queue) MW_MUST_USE;
double write_queue_waiting(const write_queue *queue); /* seconds that the computing thread waited */

#endif
