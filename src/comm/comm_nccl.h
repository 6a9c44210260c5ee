/* NCCL for collectives on the memory of GPUs. */
#ifndef MICROW_COMM_COMM_NCCL_H
#define MICROW_COMM_COMM_NCCL_H

#include "microw/comm.h"

/* What a communicator knows of its ranks' GPUs, found out at its first collective on device memory. */
typedef struct mw_nccl mw_nccl;
typedef struct mw_comm_device {
    bool known; /* whether NCCL can be used has been decided, by all ranks alike */
    mw_nccl *nccl;
} mw_comm_device;

/* The communicator's own; of all its uses. */
mw_comm_device *mw_comm_device_of(const mw_comm *comm);

/* Decides: NCCL in this build, a GPU for every rank of its own. Leaves nccl NULL where not; no error. Collective. */
mw_status mw_nccl_open(const mw_comm *comm, mw_backend *backend, mw_nccl **out) MW_MUST_USE;
/* As mw_comm_allgather_device; in the order of the backend's other work, without waiting for it. */
mw_status mw_nccl_allgather(mw_nccl *nccl, mw_backend *backend, const size_t *bytes, void *data) MW_MUST_USE;
/* Beside it; its later work follows from `mw_nccl_end_allgather` on. */
mw_status mw_nccl_begin_allgather(mw_nccl *nccl, mw_backend *backend, const size_t *bytes, void *data,
                                  int request) MW_MUST_USE;
mw_status mw_nccl_end_allgather(mw_backend *backend, int request) MW_MUST_USE;
mw_status mw_nccl_send(mw_nccl *nccl, mw_backend *backend, const void *data, size_t bytes, int to) MW_MUST_USE;
mw_status mw_nccl_receive(mw_nccl *nccl, mw_backend *backend, void *data, size_t bytes, int from) MW_MUST_USE;
/* The backend no longer looks for errors of a communicator. */
void mw_nccl_leave(mw_nccl *nccl, mw_backend *backend);
void mw_nccl_free(mw_nccl **nccl);

#endif
