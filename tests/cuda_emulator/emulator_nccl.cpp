/* Emulates NCCL by MPI. */
#include "cuda_runtime.h"
/* needs the types of cuda_runtime.h */
#include "nccl.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mpi.h>
#include <string>

/* The ranks of a communicator are the ranks of the world with the same id. */
struct emulated_nccl {
    MPI_Comm mpi;
    int rank, size;
};

static int groups = 0; /* open ones */

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

/* Other ranks wait for a message, so a rank sends it at once, after all earlier work of its stream. The receiver gets
 * it at once and writes it when its stream reaches that work. */
typedef std::shared_ptr<std::string> message;

static message read_device(const void *from, size_t bytes, cudaStream_t stream) {
    emulator::reach(stream);
    emulator::device_access here;
    return std::make_shared<std::string>((const char *)from, bytes);
}

static void write_later(void *to, const message &what, cudaStream_t stream) {
    auto arrive = [=] {
        emulator::device_access here;
        memcpy(to, what->data(), what->size());
    };
    emulator::later(stream, arrive, emulator::ARRIVAL);
}

static ncclResult_t checked(int code) {
    return code == MPI_SUCCESS ? ncclSuccess : ncclSystemError;
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t, int root, ncclComm_t comm,
                           cudaStream_t stream) {
    need_device(from);
    need_device(to);
    message all = comm->rank == root ? read_device(from, count, stream) : std::make_shared<std::string>(count, '\0');
    ncclResult_t code = checked(MPI_Bcast(&(*all)[0], (int)count, MPI_BYTE, root, comm->mpi));
    write_later(to, all, stream);
    return code;
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t, ncclComm_t comm,
                           cudaStream_t stream) {
    need_device(from);
    need_device(to);
    message mine = read_device(from, count, stream),
            all = std::make_shared<std::string>(count * (size_t)comm->size, '\0');
    ncclResult_t code =
        checked(MPI_Allgather(mine->data(), (int)count, MPI_BYTE, &(*all)[0], (int)count, MPI_BYTE, comm->mpi));
    write_later(to, all, stream);
    return code;
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream) {
    need_device(from);
    message mine = read_device(from, count, stream);
    return checked(MPI_Send(mine->data(), (int)count, MPI_BYTE, peer, 0, comm->mpi));
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream) {
    need_device(to);
    message theirs = std::make_shared<std::string>(count, '\0');
    ncclResult_t code = checked(MPI_Recv(&(*theirs)[0], (int)count, MPI_BYTE, peer, 0, comm->mpi, MPI_STATUS_IGNORE));
    write_later(to, theirs, stream);
    return code;
}

const char *ncclGetErrorString(ncclResult_t code) {
    return code == ncclSuccess ? "no error" : code == ncclSystemError ? "system error" : "invalid usage";
}
