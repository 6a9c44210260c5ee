/* Collectives on GPU memory by NCCL. */
#ifndef MICROW_COMM_COMM_NCCL_H
#define MICROW_COMM_COMM_NCCL_H

#include "microw/comm.h"

/* Memory for the messages of exchanges (exchange.h); grows, with the same capacity on all ranks. */
typedef struct message_room {
    char *data;
    size_t capacity, *bytes; /* bytes [size] of each rank's message */
} message_room;

/* What calls change of a communicator: its memory for messages, its transfers, and its NCCL, determined at the first
 * collective on device memory. */
typedef struct mw_nccl mw_nccl;
typedef struct transfers transfers;
typedef struct mw_comm_device {
    message_room room;
    transfers *transfers; /* that have begun; NULL: none ever has */
    bool known;           /* all ranks have decided whether to use NCCL */
    mw_nccl *nccl;        /* NULL: not used */
} mw_comm_device;

/* Returns the communicator's own state; borrowed. */
mw_comm_device *mw_comm_device_of(const mw_comm *comm);

/* Opens NCCL if this build has it, every rank has its own GPU and all ranks load the same version; else sets `out`
 * to NULL, which is no error. Collective. */
mw_status mw_nccl_open(const mw_comm *comm, mw_backend *backend, mw_nccl **out) MW_MUST_USE;
/* As mw_comm_allgather_device, in the order of the backend's other work; the host does not wait. */
mw_status mw_nccl_allgather(mw_nccl *nccl, mw_backend *backend, const size_t *bytes, void *data) MW_MUST_USE;
/* As mw_comm_begin_allgather: on a second stream; the backend's later work waits from mw_nccl_end_allgather on. */
mw_status mw_nccl_begin_allgather(mw_nccl *nccl, mw_backend *backend, const size_t *bytes, void *data,
                                  int request) MW_MUST_USE;
mw_status mw_nccl_end_allgather(mw_backend *backend, int request) MW_MUST_USE;
mw_status mw_nccl_send(mw_nccl *nccl, mw_backend *backend, const void *data, size_t bytes, int to) MW_MUST_USE;
mw_status mw_nccl_receive(mw_nccl *nccl, mw_backend *backend, void *data, size_t bytes, int from) MW_MUST_USE;
/* The backend stops polling for errors of this communicator. */
void mw_nccl_leave(mw_nccl *nccl, mw_backend *backend);
void mw_nccl_free(mw_nccl **nccl);

#endif
