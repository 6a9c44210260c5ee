/* A ring of blocks between the thread that computes and the thread that writes. */
#ifndef MICROW_HARVEST_WRITE_QUEUE_H
#define MICROW_HARVEST_WRITE_QUEUE_H

#include "harvest/row_plan.h"

typedef struct queue_slot {
    int64_t block; /* -1: this rank has none in this step */
    int64_t done;  /* blocks complete once this step is written */
    mw_status local;
    void **values; /* [n_sites] -> [rows, width] in the stored type */
} queue_slot;

typedef struct write_queue write_queue;

/* `threaded`: writes happen in a thread of their own, over `comm`, which nobody else may use meanwhile. Slots are memory that
 * the backend's copies go to. */
mw_status write_queue_open(mw_store_writer *writer, const mw_store_layout *layout, mw_backend *backend, bool threaded,
                           write_queue **out) MW_MUST_USE;
/* An empty slot to fill; waits for one. NULL: writing has failed, write_queue_close tells how. Two may be taken at a time. */
queue_slot *write_queue_acquire(write_queue *queue);
/* The slot that was taken first of those not given yet. */
void write_queue_submit(write_queue *queue);
/* Waits for what was given; the first failure of any step. */
mw_status write_queue_close(write_queue **queue) MW_MUST_USE;
double write_queue_waiting(const write_queue *queue); /* seconds in write_queue_acquire */

#endif
