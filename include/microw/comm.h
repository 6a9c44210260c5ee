/* microw/comm.h: the ranks of a run. One process alone is a communicator of size 1.
 *
 *     mw_comm *world = NULL;
 *     MW_TRY(mw_comm_world(&argc, &argv, &world));       // starts MPI
 *     mw_status local = work_that_may_fail_here_only();
 *     MW_TRY(mw_comm_agree(world, local));               // all ranks see the same verdict
 *     mw_comm_free(&world);                              // ends MPI
 *
 * Collective rule: do the local part, agree, then communicate. Never leave others waiting.
 */
#ifndef MICROW_COMM_H
#define MICROW_COMM_H

#include "microw/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_comm mw_comm;

mw_status mw_comm_world(int *argc, char ***argv, mw_comm **out) MW_MUST_USE;
/* A communicator of this process alone; no MPI call is made through it. */
mw_status mw_comm_self(mw_comm **out) MW_MUST_USE;
/* Same ranks, separate messages: for a second thread. Collective. */
mw_status mw_comm_duplicate(const mw_comm *comm, mw_comm **out) MW_MUST_USE;
/* The ranks of `comm` that give the same `color` >= 0, in their order. Collective. */
mw_status mw_comm_split(const mw_comm *comm, int color, mw_comm **out) MW_MUST_USE;
/* This process's number among all of the program that run on its node, whatever `comm` is a part of. */
int mw_comm_local_rank(const mw_comm *comm);
/* Bytes of memory that each rank can still have: what its node has free, by its ranks there; the least of all. 0: not
 * known. Collective. */
mw_status mw_comm_free_memory(const mw_comm *comm, double *out) MW_MUST_USE;
/* Freeing the world ends MPI. */
void mw_comm_free(mw_comm **comm);

/* For a library on top of MPI that is left in a state in which MPI_Finalize would crash (HDF5 after a failed close):
 * the program must then end without freeing the world. Holds for all duplicates of a communicator. */
void mw_comm_abandon(const mw_comm *comm);
bool mw_comm_abandoned(const mw_comm *comm);

int mw_comm_rank(const mw_comm *comm);
int mw_comm_size(const mw_comm *comm);
/* True when several threads may communicate at once. */
bool mw_comm_threads(const mw_comm *comm);
/* Pointer to the MPI communicator for the HDF5 file driver; NULL for self. */
void *mw_comm_mpi_handle(const mw_comm *comm);

/* MW_OK only if every rank says MW_OK; else the largest status, the same on all ranks. */
mw_status mw_comm_agree(const mw_comm *comm, mw_status local) MW_MUST_USE;
/* Ranks that were started differently, or see other files, would wait for each other for ever: each gives what it has, and the first
 * line that is not rank 0's is told (MW_ERR_CONFIG on all ranks). `what`: "the command", of which the text is. Collective. */
mw_status mw_comm_require_same(const mw_comm *comm, const char *what, const char *text) MW_MUST_USE;
mw_status mw_comm_barrier(const mw_comm *comm) MW_MUST_USE;
mw_status mw_comm_broadcast(const mw_comm *comm, void *data, size_t bytes, int root) MW_MUST_USE;
/* Every rank's `bytes` in rank order. `out` has size * bytes. */
mw_status mw_comm_allgather(const mw_comm *comm, const void *in, size_t bytes, void *out) MW_MUST_USE;
/* The same with a length per rank; offsets follow from the lengths. In place: rank r's part already lies in
 * `out` at its offset when `in` is NULL. Lengths are in bytes and may pass 2 GiB in total. */
mw_status mw_comm_allgatherv(const mw_comm *comm, const void *in, const size_t *bytes, void *out) MW_MUST_USE;
/* From one rank to another; both wait. */
mw_status mw_comm_send(const mw_comm *comm, const void *data, size_t bytes, int to) MW_MUST_USE;
mw_status mw_comm_receive(const mw_comm *comm, void *data, size_t bytes, int from) MW_MUST_USE;
mw_status mw_comm_allreduce_sum(const mw_comm *comm, int64_t *values, int64_t count) MW_MUST_USE;
/* Every byte is 0 on all ranks but (at most) one: all get the whole. In place. */
mw_status mw_comm_allreduce_or(const mw_comm *comm, void *data, size_t bytes) MW_MUST_USE;
mw_status mw_comm_allreduce_max(const mw_comm *comm, double *values, int64_t count) MW_MUST_USE;
/* The smallest of the ranks' places (below 2^53); those below 0 stand for none, -1: all do. For faults that ranks find in their shares of
 * one whole: the rank that has the first one names it. */
mw_status mw_comm_allreduce_first(const mw_comm *comm, int64_t index, int64_t *first) MW_MUST_USE;

/* Contiguous share of 0..total-1 in whole blocks (the last may be short): ranks differ by at most one block. */
void mw_comm_share(int rank, int size, int64_t total, int64_t block, int64_t *begin, int64_t *end);

/* Each rank has filled its share, mw_comm_share(rank, size, total, block), of `total` items; all get all. In place. */
mw_status mw_comm_allgather_shares(const mw_comm *comm, void *data, int64_t total, int64_t block,
                                   size_t item_bytes) MW_MUST_USE;

/* As mw_comm_allgatherv, in place, for `data` in a backend's memory: by NCCL where every rank has a GPU of its own and the
 * build has NCCL, else through the host. By NCCL it is done in the order of the backend's other work, and a rank that has gone is
 * noticed where the host next waits for the device (MW_ERR_COMM, with this rank's number). */
mw_status mw_comm_allgather_device(const mw_comm *comm, mw_backend *backend, const size_t *bytes,
                                   void *data) MW_MUST_USE;
/* The same beside the backend's later work, which must leave `data` alone until it has been told to wait for the gather of this
 * request: from `mw_comm_end_allgather` on it does. At once where it goes through the host. A backend's gathers follow each other: a request,
 * < MW_COMM_REQUESTS, stands for the last that was given its number. Those of one communicator are asked for in the same order by all
 * ranks, and no other communicator has any meanwhile. */
enum { MW_COMM_REQUESTS = 16 };
mw_status mw_comm_begin_allgather(const mw_comm *comm, mw_backend *backend, const size_t *bytes, void *data,
                                  int request) MW_MUST_USE;
mw_status mw_comm_end_allgather(const mw_comm *comm, mw_backend *backend, int request) MW_MUST_USE;
/* From one rank to another, in the same way: each call of one has its counterpart on the other, in the same order. */
mw_status mw_comm_send_device(const mw_comm *comm, mw_backend *backend, const void *data, size_t bytes,
                              int to) MW_MUST_USE;
mw_status mw_comm_receive_device(const mw_comm *comm, mw_backend *backend, void *data, size_t bytes,
                                 int from) MW_MUST_USE;
/* Before `comm` ends or when `backend` has had its last gather: it no longer looks for ranks that have gone. */
void mw_comm_leave_device(const mw_comm *comm, mw_backend *backend);

void mw_comm_libraries(mw_library_callback *report, void *self);

/* Prints each distinct held error once, with the ranks that had it. Collective; for the end of a program. */
void mw_comm_report_errors(const mw_comm *comm);

#ifdef __cplusplus
}
#endif
#endif
