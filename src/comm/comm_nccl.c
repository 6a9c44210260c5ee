/* Collectives on GPU memory by NCCL, with detection of lost ranks. */
#include "comm/comm_nccl.h"

#include <string.h>

#ifdef MICROW_HAVE_NCCL
#include "backend/cuda/cuda.h"
#include "backend/cuda/nccl_library.h"

struct mw_nccl {
    mw_nccl_calls call;
    ncclComm_t comm;
    int rank, size;
};

static mw_status checked(const mw_nccl *n, ncclResult_t code, const char *call) {
    return code == ncclSuccess ? MW_OK : mw_error(MW_ERR_COMM, "%s failed: %s", call, n->call.text(code));
}

/* Aborts the communicator, so that ranks whose devices already wait for this one get an error. */
static void give_up(void *self) {
    mw_nccl *n = self;
    if (n->comm) n->call.give_up(n->comm);
    n->comm = NULL;
}

/* Polled while the host waits for the device. NCCL's kernels wait for ever for a lost rank; only its own threads detect
 * the loss. */
static mw_status look_for_errors(void *self) {
    mw_nccl *n = self;
    ncclResult_t found = ncclSuccess;
    ncclResult_t asked = n->call.error(n->comm, &found);
    if (asked == ncclSuccess && (found == ncclSuccess || found == ncclInProgress)) return MW_OK;
    give_up(n);
    return mw_error(MW_ERR_COMM, "NCCL: rank %d of %d: %s; another rank has ended, or the network has failed", n->rank,
                    n->size, n->call.text(asked != ncclSuccess ? asked : found));
}

/* Whether every rank has its own GPU: NCCL refuses two ranks on one. */
static mw_status find_own_gpus(const mw_comm *comm, mw_backend *backend, bool *out) {
    int size = mw_comm_size(comm);
    char name[MW_CUDA_NAME] = "", *all = mw_calloc((size_t)size, sizeof name);
    mw_status status = all ? mw_cuda_name(backend, name) : MW_ERR_MEMORY;
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = mw_comm_allgather(comm, name, sizeof name, all);
    *out = true;
    for (int r = 0; status == MW_OK && r < size; r++)
        for (int q = 0; q < r; q++)
            if (memcmp(all + (size_t)r * sizeof name, all + (size_t)q * sizeof name, sizeof name) == 0) *out = false;
    mw_free(all);
    return status;
}

static mw_status start(const mw_comm *comm, mw_backend *backend, mw_nccl *n) {
    ncclUniqueId id;
    memset(&id, 0, sizeof id);
    mw_status status = n->rank == 0 ? checked(n, n->call.new_id(&id), "ncclGetUniqueId") : MW_OK;
    MW_TRY(mw_comm_agree(comm, status));
    MW_TRY(mw_comm_broadcast(comm, &id, sizeof id, 0));
    MW_TRY(mw_comm_agree(comm, mw_cuda_bind(backend)));
    MW_TRY(mw_comm_agree(comm, mw_cuda_trim(backend))); /* NCCL allocates beside the backend */
    MW_TRY(mw_comm_agree(comm, checked(n, n->call.open(&n->comm, n->size, id, n->rank), "ncclCommInitRank")));
    return MW_OK;
}

static void warn_host(const mw_gpu_library *first, const mw_gpu_library *other, int rank) {
    if (other->problem[0])
        mw_log(MW_LOG_WARNING, "NCCL: rank %d: %s; ranks exchange through the host", rank, other->problem);
    else
        mw_log(MW_LOG_WARNING, "NCCL: rank 0 has version %d (%s), rank %d %d (%s); ranks exchange through the host",
               first->found, first->path, rank, other->found, other->path);
}

/* Whether all ranks have loaded the same version: NCCL does not guarantee that versions work together. */
static mw_status same_library(const mw_comm *comm, const mw_gpu_library *found, bool *out) {
    int size = mw_comm_size(comm);
    mw_gpu_library *all = mw_calloc((size_t)size, sizeof *all);
    mw_status status = mw_comm_agree(comm, all ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = mw_comm_allgather(comm, found, sizeof *found, all);
    *out = true;
    for (int r = 0; status == MW_OK && r < size && *out; r++) {
        *out = !all[r].problem[0] && all[r].found == all[0].found;
        if (!*out) warn_host(&all[0], &all[r], r);
    }
    mw_free(all);
    return status;
}

mw_status mw_nccl_open(const mw_comm *comm, mw_backend *backend, mw_nccl **out) {
    bool own = false;
    *out = NULL;
    int64_t cuda = strcmp(backend->ops->name, "cuda") == 0, all = cuda;
    MW_TRY(mw_comm_allreduce_sum(comm, &all, 1));
    if (all < mw_comm_size(comm)) return MW_OK;
    MW_TRY(find_own_gpus(comm, backend, &own));
    if (!own) {
        mw_log(MW_LOG_INFO, "ranks share GPUs: they exchange data through the host");
        return MW_OK;
    }
    mw_nccl_calls call;
    mw_gpu_library found;
    bool loaded = mw_nccl_load(&call, &found);
    MW_TRY(same_library(comm, &found, &own));
    if (!own || !loaded) return MW_OK;
    mw_nccl *n = mw_calloc(1, sizeof *n);
    MW_TRY(mw_comm_agree(comm, n ? MW_OK : MW_ERR_MEMORY));
    *n = (mw_nccl){.call = call, .rank = mw_comm_rank(comm), .size = mw_comm_size(comm)};
    mw_status status = start(comm, backend, n);
    if (status != MW_OK)
        mw_nccl_free(&n);
    else
        *out = n;
    return status;
}

static mw_status gather_equal(mw_nccl *n, void *stream, size_t bytes, char *data) {
    return checked(
        n, n->call.all_gather(data + (size_t)n->rank * bytes, data, bytes, ncclInt8, n->comm, (cudaStream_t)stream),
        "ncclAllGather");
}

/* One broadcast per rank, in one launch. */
static mw_status gather_unequal(mw_nccl *n, void *stream, const size_t *bytes, char *data) {
    mw_status status = checked(n, n->call.begin(), "ncclGroupStart");
    for (int r = 0; r < n->size && status == MW_OK; data += bytes[r++])
        if (bytes[r])
            status = checked(n, n->call.broadcast(data, data, bytes[r], ncclInt8, r, n->comm, (cudaStream_t)stream),
                             "ncclBroadcast");
    mw_status ended = checked(n, n->call.end(), "ncclGroupEnd");
    return status != MW_OK ? status : ended;
}

/* Before each call: MW_ERR_COMM after an abort; else the backend watches the communicator from now on. */
static mw_status begin_call(mw_nccl *n, mw_backend *backend) {
    if (!n->comm) return mw_error(MW_ERR_COMM, "NCCL: rank %d: the communicator was aborted", n->rank);
    mw_cuda_watch(backend, &(mw_cuda_watcher){look_for_errors, give_up}, n);
    return MW_OK;
}

/* Gives the communicator up after a failed call; returns `status`. */
static mw_status end_call(mw_nccl *n, mw_status status) {
    if (status != MW_OK) give_up(n);
    return status;
}

static mw_status gather(mw_nccl *n, void *stream, const size_t *bytes, void *data) {
    bool equal = true;
    for (int r = 1; r < n->size; r++) equal = equal && bytes[r] == bytes[0];
    return end_call(n, equal ? gather_equal(n, stream, bytes[0], data) : gather_unequal(n, stream, bytes, data));
}

mw_status mw_nccl_allgather(mw_nccl *n, mw_backend *backend, const size_t *bytes, void *data) {
    MW_TRY(begin_call(n, backend));
    return gather(n, mw_cuda_stream(backend), bytes, data);
}

_Static_assert((int)MW_COMM_REQUESTS == (int)MW_CUDA_REQUESTS, "a request is an event");

mw_status mw_nccl_begin_allgather(mw_nccl *n, mw_backend *backend, const size_t *bytes, void *data, int request) {
    void *stream = NULL;
    MW_TRY(begin_call(n, backend));
    MW_TRY(mw_cuda_begin_exchange(backend, &stream));
    MW_TRY(gather(n, stream, bytes, data));
    return mw_cuda_record_request(backend, request);
}

mw_status mw_nccl_end_allgather(mw_backend *backend, int request) {
    return mw_cuda_wait_request(backend, request);
}

mw_status mw_nccl_send(mw_nccl *n, mw_backend *backend, const void *data, size_t bytes, int to) {
    MW_TRY(begin_call(n, backend));
    return end_call(n,
                    checked(n, n->call.send(data, bytes, ncclInt8, to, n->comm, (cudaStream_t)mw_cuda_stream(backend)),
                            "ncclSend"));
}

mw_status mw_nccl_receive(mw_nccl *n, mw_backend *backend, void *data, size_t bytes, int from) {
    MW_TRY(begin_call(n, backend));
    return end_call(
        n, checked(n, n->call.receive(data, bytes, ncclInt8, from, n->comm, (cudaStream_t)mw_cuda_stream(backend)),
                   "ncclRecv"));
}

void mw_nccl_leave(mw_nccl *n, mw_backend *backend) {
    mw_cuda_unwatch(backend, n);
}

void mw_nccl_free(mw_nccl **slot) {
    if (*slot && (*slot)->comm) (*slot)->call.close((*slot)->comm);
    mw_free(*slot);
    *slot = NULL;
}

#else

mw_status mw_nccl_open(const mw_comm *comm, mw_backend *backend, mw_nccl **out) {
    (void)comm;
    (void)backend;
    *out = NULL;
    return MW_OK;
}

mw_status mw_nccl_allgather(mw_nccl *nccl, mw_backend *backend, const size_t *bytes, void *data) {
    (void)nccl;
    (void)backend;
    (void)bytes;
    (void)data;
    return mw_error(MW_ERR_UNSUPPORTED, "NCCL is not in this build");
}

mw_status mw_nccl_begin_allgather(mw_nccl *nccl, mw_backend *backend, const size_t *bytes, void *data, int request) {
    (void)request;
    return mw_nccl_allgather(nccl, backend, bytes, data);
}

mw_status mw_nccl_end_allgather(mw_backend *backend, int request) {
    (void)request;
    return mw_nccl_allgather(NULL, backend, NULL, NULL);
}

mw_status mw_nccl_send(mw_nccl *nccl, mw_backend *backend, const void *data, size_t bytes, int to) {
    (void)data;
    (void)to;
    return mw_nccl_allgather(nccl, backend, &bytes, NULL);
}

mw_status mw_nccl_receive(mw_nccl *nccl, mw_backend *backend, void *data, size_t bytes, int from) {
    (void)data;
    (void)from;
    return mw_nccl_allgather(nccl, backend, &bytes, NULL);
}

void mw_nccl_leave(mw_nccl *nccl, mw_backend *backend) {
    (void)nccl;
    (void)backend;
}

void mw_nccl_free(mw_nccl **slot) {
    *slot = NULL;
}
#endif
