#include "cuda_runtime.h"
/* the types above must be known first */
#include "nccl.h"

#include <cstdio>
#include <cstdlib>
#include <mpi.h>

/* The ranks of a communicator are told apart by its id: the ranks of the world that hold the same one. */
struct emulated_nccl {
    MPI_Comm mpi;
    int rank, size;
};

static int groups = 0; /* that are open */

ncclResult_t ncclGetUniqueId(ncclUniqueId *out) {
    static int made = 0;
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    memset(out, 0, sizeof *out);
    snprintf(out->internal, sizeof out->internal, "%d", 1 + 1000 * rank + made++ % 1000);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *out, int size, ncclUniqueId id, int rank) {
    emulated_nccl *c = new emulated_nccl();
    MPI_Comm_split(MPI_COMM_WORLD, atoi(id.internal), rank, &c->mpi);
    MPI_Comm_rank(c->mpi, &c->rank);
    MPI_Comm_size(c->mpi, &c->size);
    *out = c;
    return c->rank == rank && c->size == size ? ncclSuccess : ncclInvalidUsage;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    MPI_Comm_free(&comm->mpi);
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    return ncclCommDestroy(comm);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t *out) {
    *out = ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void) {
    groups++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
    return groups-- > 0 ? ncclSuccess : ncclInvalidUsage;
}

static void need_device(const void *p) {
    if (emulator::is_device(p)) return;
    fprintf(stderr, "CUDA emulator: NCCL got host memory\n");
    abort();
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t, int root, ncclComm_t comm,
                           cudaStream_t) {
    need_device(from);
    need_device(to);
    emulator::opened here;
    if (comm->rank == root && from != to) memcpy(to, from, count);
    return MPI_Bcast(to, (int)count, MPI_BYTE, root, comm->mpi) == MPI_SUCCESS ? ncclSuccess : ncclSystemError;
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t, ncclComm_t comm, cudaStream_t) {
    need_device(from);
    need_device(to);
    emulator::opened here;
    char *mine = (char *)to + (size_t)comm->rank * count;
    if (from != mine) memcpy(mine, from, count);
    return MPI_Allgather(MPI_IN_PLACE, 0, MPI_BYTE, to, (int)count, MPI_BYTE, comm->mpi) == MPI_SUCCESS
               ? ncclSuccess
               : ncclSystemError;
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t) {
    need_device(from);
    emulator::opened here;
    return MPI_Send(from, (int)count, MPI_BYTE, peer, 0, comm->mpi) == MPI_SUCCESS ? ncclSuccess : ncclSystemError;
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t) {
    need_device(to);
    emulator::opened here;
    return MPI_Recv(to, (int)count, MPI_BYTE, peer, 0, comm->mpi, MPI_STATUS_IGNORE) == MPI_SUCCESS ? ncclSuccess
                                                                                                    : ncclSystemError;
}

const char *ncclGetErrorString(ncclResult_t code) {
    return code == ncclSuccess ? "no error" : code == ncclSystemError ? "system error" : "invalid usage";
}
