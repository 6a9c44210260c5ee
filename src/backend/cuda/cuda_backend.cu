/* Memory, copies, and the table of the CUDA backend. */
#include "backend/cuda/cuda.h"

#include <string.h>
#include <unistd.h>

/* Allocates from the device's pool in stream order: neither alloc nor free waits for running kernels. */
mw_status mw_cuda_alloc(mw_backend *backend, size_t bytes, void **out) {
    void *memory = nullptr;
    MW_TRY(cuda_checked(cudaMallocAsync(&memory, bytes ? bytes : 1, cuda_of(backend)->stream), "cudaMallocAsync"));
    *out = memory;
    return MW_OK;
}

void mw_cuda_free(mw_backend *backend, void *memory) {
    if (memory) cudaFreeAsync(memory, cuda_of(backend)->stream);
}

/* Polls the watched objects. When one fails, the device may wait for the others for ever: all are aborted. */
static mw_status poll_watched(mw_cuda_state *s) {
    for (void *&watched : s->watched) {
        mw_status status = watched ? s->watcher.poll(watched) : MW_OK;
        if (status == MW_OK) continue;
        watched = nullptr;
        for (void *&other : s->watched) {
            if (other) s->watcher.abort(other);
            other = nullptr;
        }
        return status;
    }
    return MW_OK;
}

static bool has_watched(const mw_cuda_state *s) {
    for (const void *watched : s->watched)
        if (watched) return true;
    return false;
}

/* Waits until all operations are done, and polls the watched objects now and then: most waits are short. */
static mw_status cuda_wait(mw_cuda_state *s, const char *what) {
    enum { SPINS = 1 << 12 };
    if (!has_watched(s)) return cuda_checked(cudaStreamSynchronize(s->stream), what);
    for (int64_t spin = 1;; spin++) {
        cudaError_t code = cudaStreamQuery(s->stream);
        if (code != cudaErrorNotReady) return cuda_checked(code, what);
        if (spin % SPINS) continue;
        MW_TRY(poll_watched(s));
    }
}

mw_status mw_cuda_upload(mw_backend *backend, void *to, const void *from, size_t bytes) {
    cudaStream_t stream = cuda_of(backend)->stream;
    MW_TRY(cuda_checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "copy to the device"));
    return cuda_wait(cuda_of(backend), "copy to the device");
}

mw_status mw_cuda_download(mw_backend *backend, void *to, const void *from, size_t bytes) {
    cudaStream_t stream = cuda_of(backend)->stream;
    MW_TRY(cuda_checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "copy from the device"));
    return cuda_wait(cuda_of(backend), "copy from the device");
}

/* Freed memory that the pool keeps counts as free. */
mw_status mw_cuda_free_memory(mw_backend *backend, double *bytes) {
    size_t free_bytes = 0, total = 0;
    uint64_t reserved = 0, used = 0;
    cudaMemPool_t pool;
    MW_TRY(cuda_checked(cudaMemGetInfo(&free_bytes, &total), "cudaMemGetInfo"));
    MW_TRY(cuda_checked(cudaDeviceGetDefaultMemPool(&pool, cuda_of(backend)->device), "cudaDeviceGetDefaultMemPool"));
    MW_TRY(cuda_checked(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved),
                        "cudaMemPoolGetAttribute"));
    MW_TRY(
        cuda_checked(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used), "cudaMemPoolGetAttribute"));
    *bytes = (double)free_bytes + (double)reserved - (double)used;
    return MW_OK;
}

mw_status mw_cuda_host_alloc(mw_backend *backend, size_t bytes, void **out) {
    (void)backend;
    void *memory = nullptr;
    MW_TRY(cuda_checked(cudaMallocHost(&memory, bytes ? bytes : 1), "cudaMallocHost"));
    *out = memory;
    return MW_OK;
}

void mw_cuda_host_free(mw_backend *backend, void *memory) {
    (void)backend;
    if (memory) cudaFreeHost(memory);
}

void mw_cuda_close(mw_backend *backend) {
    mw_cuda_state *s = cuda_of(backend);
    mw_cuda_close_streams(s);
    if (s->blas_lt) s->call.lt_destroy(s->blas_lt);
    if (s->blas) s->call.destroy(s->blas);
    if (s->workspace) cudaFreeAsync(s->workspace, s->stream);
    if (s->stream) cudaStreamDestroy(s->stream);
    mw_free(s);
    mw_free(backend);
}

static mw_backend_ops cuda_table(void) {
    mw_backend_ops ops = {};
    ops.name = "cuda";
    ops.host_memory = false;
    ops.rows_stand_alone = false;
#define CUDA_ENTRY(type, name, ...) ops.name = mw_cuda_##name;
    MW_BACKEND_OPERATIONS(CUDA_ENTRY)
#undef CUDA_ENTRY
    return ops;
}

static const mw_backend_ops cuda_ops = cuda_table();

void *mw_cuda_stream(mw_backend *backend) {
    return cuda_of(backend)->stream;
}

mw_status mw_cuda_bind(mw_backend *backend) {
    return cuda_checked(cudaSetDevice(cuda_of(backend)->device), "cudaSetDevice");
}

/* The name is that of the node and the bus. */
mw_status mw_cuda_name(mw_backend *backend, char out[MW_CUDA_NAME]) {
    enum { HOST = 96 };
    memset(out, 0, MW_CUDA_NAME);
    if (gethostname(out, HOST - 1) != 0) out[0] = 0;
    return cuda_checked(cudaDeviceGetPCIBusId(out + HOST, MW_CUDA_NAME - HOST, cuda_of(backend)->device),
                        "cudaDeviceGetPCIBusId");
}

void mw_cuda_watch(mw_backend *backend, const mw_cuda_watcher *watcher, void *self) {
    mw_cuda_state *s = cuda_of(backend);
    mw_cuda_unwatch(backend, self);
    s->watcher = *watcher;
    for (void *&watched : s->watched)
        if (!watched) {
            watched = self;
            return;
        }
}

void mw_cuda_unwatch(mw_backend *backend, const void *self) {
    for (void *&watched : cuda_of(backend)->watched)
        if (watched == self) watched = nullptr;
}

/* Makes the pool keep freed memory: each step allocates and frees the same sizes. */
static mw_status keep_memory(int device) {
    cudaMemPool_t pool;
    uint64_t all = UINT64_MAX;
    MW_TRY(cuda_checked(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool"));
    return cuda_checked(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all),
                        "cudaMemPoolSetAttribute");
}

mw_status mw_cuda_trim(mw_backend *backend) {
    cudaMemPool_t pool;
    MW_TRY(cuda_checked(cudaDeviceGetDefaultMemPool(&pool, cuda_of(backend)->device), "cudaDeviceGetDefaultMemPool"));
    MW_TRY(cuda_wait(cuda_of(backend), "all operations"));
    return cuda_checked(cudaMemPoolTrimTo(pool, 0), "cudaMemPoolTrimTo");
}

static mw_status start(mw_cuda_state *s) {
    MW_TRY(cuda_checked(cudaSetDevice(s->device), "cudaSetDevice"));
    MW_TRY(keep_memory(s->device));
    MW_TRY(cuda_checked(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), "cudaStreamCreate"));
    MW_TRY(mw_cuda_open_streams(s));
    MW_TRY(cuda_checked(cudaMallocAsync(&s->workspace, MW_CUDA_WORKSPACE, s->stream), "cudaMallocAsync"));
    /* The workspace is set after the stream; with cuBLAS' own pool results of two streams could differ in bits. */
    if (s->call.create(&s->blas) != CUBLAS_STATUS_SUCCESS ||
        s->call.set_stream(s->blas, s->stream) != CUBLAS_STATUS_SUCCESS ||
        s->call.set_workspace(s->blas, s->workspace, MW_CUDA_WORKSPACE) != CUBLAS_STATUS_SUCCESS ||
        s->call.lt_create(&s->blas_lt) != CUBLAS_STATUS_SUCCESS)
        return mw_error(MW_ERR_BACKEND, "cuBLAS cannot start on GPU %d", s->device);
    return MW_OK;
}

mw_status mw_cuda_open(int device, mw_backend **out) {
    char problem[MW_CUDA_PROBLEM];
    mw_cuda_blas call;
    if (!mw_cuda_prepare(device, &call, problem))
        return mw_error(MW_ERR_UNSUPPORTED, "device 'cuda:%d' is not available: %s", device, problem);
    mw_backend *backend = (mw_backend *)mw_calloc(1, sizeof *backend);
    mw_cuda_state *s = (mw_cuda_state *)mw_calloc(1, sizeof *s);
    if (!backend || !s) {
        mw_free(backend);
        mw_free(s);
        return MW_ERR_MEMORY;
    }
    s->device = device;
    s->call = call;
    backend->ops = &cuda_ops;
    backend->state = s;
    mw_status status = start(s);
    if (status != MW_OK)
        mw_cuda_close(backend);
    else
        *out = backend;
    return status;
}
