/* Several arrays in one message: an allgather of all of them at once that also carries a status of each rank.
 *
 *     exchange e = exchange_of(comm, backend);
 *     exchange_add(&e, &(exchanged){.data = sums, .item = 8, .share = {.ranks = size, .total = tiles, .block = 1}});
 *     MW_TRY(exchange_run(&e, local));                   // all ranks get the largest `local`
 *
 * Each rank has filled its share of each array. A rank's message is its status and its shares, one after another: ranks
 * agree in the exchange, and need no allreduce before it. A rank that has failed takes part with a message of the same
 * length, whose arrays nobody reads. Arrays of a device's memory, and those that are too large to be copied for the
 * sake of one message less, follow in messages of their own, unless a rank has failed.
 *
 * One thread runs the exchanges of a communicator, whose memory for messages they share. */
#ifndef MICROW_COMM_EXCHANGE_H
#define MICROW_COMM_EXCHANGE_H

#include "microw/comm.h"

/* The items of each rank: rank r of an exchange has those of mw_comm_share(first + r, ranks, total, block), or with
 * `start` [total + 1] the entries of these items, or with `one` rank `first` has all. The array begins with the items
 * of rank 0. */
typedef struct exchange_share {
    int first, ranks;
    int64_t total, block;
    const int64_t *start; /* borrowed; or NULL */
    bool one;
} exchange_share;

typedef struct exchanged {
    void *data;           /* of all ranks; borrowed */
    size_t item;          /* bytes of an item */
    size_t wire;          /* bytes of an integer of 4 or 8 bytes in a message: 2 or 4; 0: as `item` */
    bool device;          /* in the memory of the exchange's backend; else in host memory */
    bool beside;          /* on a device, its message overlaps with later work (mw_comm_begin_allgather) */
    int request;          /* of an array with `beside` */
    exchange_share share; /* equal on all ranks */
    bool packed;          /* set by exchange_run: it is in the one message */
} exchanged;

/* An array of more bytes, over all ranks, is not copied into a message: that takes about as long as one message less
 * saves. */
enum { EXCHANGED_MAX = 64, EXCHANGE_COPIED = 4 << 20 };

typedef struct exchange {
    const mw_comm *comm;
    mw_backend *backend;
    int count;
    exchanged array[EXCHANGED_MAX];
} exchange;

exchange exchange_of(const mw_comm *comm, mw_backend *backend);
void exchange_add(exchange *e, const exchanged *array);
/* Bytes in which integers below `limit` fit a message, for exchanged.wire. */
size_t exchange_wire(int64_t limit);
/* Exchanges the arrays in place if all ranks pass MW_OK, and returns the largest status. Collective. */
mw_status exchange_run(exchange *e, mw_status local) MW_MUST_USE;
/* Frees the communicator's memory for messages, which the next exchange allocates again. Collective. */
void exchange_close(const mw_comm *comm);

/* mw_comm_allreduce_sum that also carries a status, and returns the largest: behind the `count` values there is room
 * for EXCHANGE_STATUSES more. With a failure the values are undefined. Collective. */
#define COUNT_STATUS(code, text) +1
enum { EXCHANGE_STATUSES = 0 MW_STATUS_LIST(COUNT_STATUS) };
#undef COUNT_STATUS
mw_status exchange_sums(const mw_comm *comm, mw_status local, int64_t *values, int64_t count) MW_MUST_USE;

#endif
