/* microw/comm.h: the ranks of a run. One process alone is a communicator of size 1.
 *
 *     mw_comm *world = NULL;
 *     MW_TRY(mw_comm_world(&argc, &argv, &world));       // starts MPI
 *     mw_status local = work_that_may_fail_here_only();
 *     MW_TRY(mw_comm_agree(world, local));               // all ranks get the same status
 *     mw_comm_free(&world);                              // ends MPI
 *
 * Collective rule: do the local work, agree, then communicate, so that no rank waits for one that has failed.
 * Collective functions are called by all ranks of `comm` with the same sizes, roots and options; they return
 * MW_ERR_COMM when MPI fails. Sizes are in bytes unless a comment says otherwise, and may exceed 2 GiB. Buffers are
 * the caller's, in host memory. */
#ifndef MICROW_COMM_H
#define MICROW_COMM_H

#include "microw/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_comm mw_comm;

/* Starts MPI and returns the communicator of all ranks; freeing it ends MPI. Collective. MW_ERR_COMM, MW_ERR_MEMORY. */
mw_status mw_comm_world(int *argc, char ***argv, mw_comm **out) MW_MUST_USE;
/* Returns a communicator of this process alone, which makes no MPI call. Local. Caller frees. */
mw_status mw_comm_self(mw_comm **out) MW_MUST_USE;
/* Returns a communicator with the same ranks and separate messages, for a second thread. Collective. Caller frees. */
mw_status mw_comm_duplicate(const mw_comm *comm, mw_comm **out) MW_MUST_USE;
/* Returns a communicator of the ranks with the same `color` >= 0, in their order. Collective. Caller frees. */
mw_status mw_comm_split(const mw_comm *comm, int color, mw_comm **out) MW_MUST_USE;
/* Returns the rank of this process among the program's processes on its node, for any communicator. Local. */
int mw_comm_local_rank(const mw_comm *comm);
/* Sets `out` to the bytes of memory per rank: free memory of the node over its ranks, the minimum over all nodes; 0:
 * unknown. Collective. */
mw_status mw_comm_free_memory(const mw_comm *comm, double *out) MW_MUST_USE;
/* Sets `out` to the number of threads for which this rank has processors, at least 1: those that it may use, shared
 * with the ranks of its node that may use the same ones, and no more than its control group's time allows.
 * Collective. */
mw_status mw_comm_share_processors(const mw_comm *comm, int *out) MW_MUST_USE;
/* Frees a communicator and sets it to NULL; freeing the world ends MPI. Collective unless self. */
void mw_comm_free(mw_comm **comm);

/* Records that MPI_Finalize would crash, which a library on top of MPI can cause (HDF5 after a failed close): the
 * program must then end without freeing the world. Applies to all duplicates of a communicator. Local. */
void mw_comm_abandon(const mw_comm *comm);
bool mw_comm_abandoned(const mw_comm *comm);

int mw_comm_rank(const mw_comm *comm);
int mw_comm_size(const mw_comm *comm);
/* Returns whether several threads may communicate at once. */
bool mw_comm_threads(const mw_comm *comm);
/* Returns a pointer to the MPI_Comm, for the HDF5 file driver; borrowed; NULL for self. */
void *mw_comm_mpi_handle(const mw_comm *comm);

/* Returns the largest status of all ranks: MW_OK only if every rank passes MW_OK. Collective. */
mw_status mw_comm_agree(const mw_comm *comm, mw_status local) MW_MUST_USE;
/* Compares each rank's `text` with rank 0's: MW_ERR_CONFIG on all ranks if one differs, and the message shows the first
 * different line. Ranks with different commands or files would wait for each other for ever. `what` names the text:
 * "the command". Collective. */
mw_status mw_comm_require_same(const mw_comm *comm, const char *what, const char *text) MW_MUST_USE;
/* Waits for all ranks. Collective. */
mw_status mw_comm_barrier(const mw_comm *comm) MW_MUST_USE;
/* Copies `data` [bytes] of rank `root` to all ranks. Collective. */
mw_status mw_comm_broadcast(const mw_comm *comm, void *data, size_t bytes, int root) MW_MUST_USE;
/* Concatenates every rank's `in` [bytes] in rank order into `out` [size * bytes]. Collective. */
mw_status mw_comm_allgather(const mw_comm *comm, const void *in, size_t bytes, void *out) MW_MUST_USE;
/* As mw_comm_allgather with a length per rank, `bytes` [size], the same on all ranks; offsets are the sums of the
 * lengths before. `in` NULL: in place, this rank's data is already in `out` at its offset. Collective. */
mw_status mw_comm_allgatherv(const mw_comm *comm, const void *in, const size_t *bytes, void *out) MW_MUST_USE;
/* Send `data` from one rank to another; both ranks block. */
mw_status mw_comm_send(const mw_comm *comm, const void *data, size_t bytes, int to) MW_MUST_USE;
mw_status mw_comm_receive(const mw_comm *comm, void *data, size_t bytes, int from) MW_MUST_USE;
/* The same without a wait: `data` is in use until mw_comm_end_transfer of the same `transfer` < MW_COMM_TRANSFERS,
 * which does nothing if none has begun. The counterpart on the other rank may wait or not. */
enum { MW_COMM_TRANSFERS = 32 };
mw_status mw_comm_begin_send(const mw_comm *comm, const void *data, size_t bytes, int to, int transfer) MW_MUST_USE;
mw_status mw_comm_begin_receive(const mw_comm *comm, void *data, size_t bytes, int from, int transfer) MW_MUST_USE;
mw_status mw_comm_end_transfer(const mw_comm *comm, int transfer) MW_MUST_USE;
/* Sums values [count] over all ranks, element by element, in place. Collective. */
mw_status mw_comm_allreduce_sum(const mw_comm *comm, int64_t *values, int64_t count) MW_MUST_USE;
/* Bitwise or of data [bytes] over all ranks, in place: merges data of which each byte is 0 on all ranks but one.
 * Collective. */
mw_status mw_comm_allreduce_or(const mw_comm *comm, void *data, size_t bytes) MW_MUST_USE;
/* Maximum of values [count] over all ranks, element by element, in place. Collective. */
mw_status mw_comm_allreduce_max(const mw_comm *comm, double *values, int64_t count) MW_MUST_USE;
/* Sets `first` to the smallest index >= 0 of all ranks (indices are below 2^53); -1 if every rank passes a negative
 * one. For errors that ranks find in their shares: the rank with the first one reports it. Collective. */
mw_status mw_comm_allreduce_first(const mw_comm *comm, int64_t index, int64_t *first) MW_MUST_USE;

/* Sets begin and end (exclusive) of a rank's contiguous share of 0..total-1, in whole blocks of `block` items (the
 * last may be short): shares differ by at most one block. Local. */
void mw_comm_share(int rank, int size, int64_t total, int64_t block, int64_t *begin, int64_t *end);

/* Allgathers `total` items of which each rank has filled its share by mw_comm_share(rank, size, total, block). In
 * place. Collective. */
mw_status mw_comm_allgather_shares(const mw_comm *comm, void *data, int64_t total, int64_t block,
                                   size_t item_bytes) MW_MUST_USE;

/* As mw_comm_allgatherv, in place, for `data` in a backend's memory: by NCCL if every rank has its own GPU and the
 * build has NCCL, else through the host. NCCL runs in the order of the backend's other work; the loss of a rank is
 * detected when the host next waits for the device (MW_ERR_COMM, with this rank's number). Collective. */
mw_status mw_comm_allgather_device(const mw_comm *comm, mw_backend *backend, const size_t *bytes,
                                   void *data) MW_MUST_USE;
/* Begins an allgather that overlaps the backend's later work: until mw_comm_end_allgather of the same request that
 * work must not touch `data`. Through the host the gather completes at once. A backend runs its gathers one after
 * another; `request` < MW_COMM_REQUESTS denotes the last gather with that number. All ranks begin a communicator's
 * gathers in the same order, and no other communicator has a gather in progress meanwhile. Collective. */
enum { MW_COMM_REQUESTS = 16 };
mw_status mw_comm_begin_allgather(const mw_comm *comm, mw_backend *backend, const size_t *bytes, void *data,
                                  int request) MW_MUST_USE;
/* Makes the backend's later work wait for the gather of `request`. The host does not wait. */
mw_status mw_comm_end_allgather(const mw_comm *comm, mw_backend *backend, int request) MW_MUST_USE;
/* Send device memory from one rank to another, by NCCL or through the host: each call of one rank has its
 * counterpart on the other, in the same order. */
mw_status mw_comm_send_device(const mw_comm *comm, mw_backend *backend, const void *data, size_t bytes,
                              int to) MW_MUST_USE;
mw_status mw_comm_receive_device(const mw_comm *comm, mw_backend *backend, void *data, size_t bytes,
                                 int from) MW_MUST_USE;
/* Ends the backend's watch for lost ranks of `comm`: before `comm` is freed, or after the backend's last gather.
 * Local. */
void mw_comm_leave_device(const mw_comm *comm, mw_backend *backend);

/* Reports the MPI library. */
void mw_comm_libraries(mw_library_callback *report, void *self);

/* Rank 0 prints each distinct held error once, with its ranks. Collective; for the end of a program. */
void mw_comm_report_errors(const mw_comm *comm);

#ifdef __cplusplus
}
#endif
#endif
