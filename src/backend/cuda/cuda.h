/* Declarations that the files of the CUDA backend share; its first part is for C files too. */
#ifndef MICROW_BACKEND_CUDA_CUDA_H
#define MICROW_BACKEND_CUDA_CUDA_H

#include "microw/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opens GPU number `device`; MW_ERR_UNSUPPORTED: it is missing or cannot be used. */
mw_status mw_cuda_open(int device, mw_backend **out) MW_MUST_USE;
/* Returns the number of GPUs that this process sees; 0 without a driver. */
int mw_cuda_count(void);
/* Whether the GPU can be opened, memory apart; else `problem` says why not. */
enum { MW_CUDA_PROBLEM = 512 };
bool mw_cuda_usable(int device, char problem[MW_CUDA_PROBLEM]);
mw_status mw_cuda_find(mw_gpus *out) MW_MUST_USE;

/* ---- for NCCL ------------------------------------------------------------------------------------------ */

enum { MW_CUDA_NAME = 128, MW_CUDA_WATCHED = 4, MW_CUDA_REQUESTS = 16 };
/* Returns the stream of the operations, a cudaStream_t. */
void *mw_cuda_stream(mw_backend *backend);
/* Makes the GPU the current one of the calling thread. */
mw_status mw_cuda_bind(mw_backend *backend) MW_MUST_USE;
/* Returns freed memory that the backend keeps to the device, so that others can allocate it. */
mw_status mw_cuda_trim(mw_backend *backend) MW_MUST_USE;
/* Writes a name that no other GPU of the cluster has. */
mw_status mw_cuda_name(mw_backend *backend, char out[MW_CUDA_NAME]) MW_MUST_USE;

/* Exchanges that run beside the operations: mw_cuda_begin_exchange gives their stream, a cudaStream_t, which waits for
 * all operations called so far; mw_cuda_record_request marks the exchanges on it so far as request 0 ..
 * MW_CUDA_REQUESTS - 1; after mw_cuda_wait_request operations wait for these exchanges. */
mw_status mw_cuda_begin_exchange(mw_backend *backend, void **stream) MW_MUST_USE;
mw_status mw_cuda_record_request(mw_backend *backend, int request) MW_MUST_USE;
mw_status mw_cuda_wait_request(mw_backend *backend, int request) MW_MUST_USE;

typedef struct mw_cuda_watcher {
    mw_status (*poll)(void *self); /* an error ends the wait for the device */
    void (*abort)(void *self);     /* called when poll of another watched object has failed */
} mw_cuda_watcher;
/* Polls `self`, from now until mw_cuda_unwatch, while the host waits for the device. At most MW_CUDA_WATCHED
 * objects. */
void mw_cuda_watch(mw_backend *backend, const mw_cuda_watcher *watcher, void *self);
void mw_cuda_unwatch(mw_backend *backend, const void *self);

#define CUDA_PROTOTYPE(type, name, ...) type mw_cuda_##name(__VA_ARGS__);
MW_BACKEND_OPERATIONS(CUDA_PROTOTYPE)
#undef CUDA_PROTOTYPE

#ifdef __cplusplus
}

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

/* The emulator of the tests (tests/cuda_emulator) defines its own, because C++ has no <<<>>>. */
#ifndef MW_LAUNCH
#define MW_LAUNCH(kernel, grid, block, shared, stream, ...) kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define MW_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

/* cublasGemmEx, which has overloads in C++. */
typedef cublasStatus_t (*mw_gemm_ex)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k,
                                     const void *alpha, const void *a, cudaDataType, int lda, const void *b,
                                     cudaDataType, int ldb, const void *beta, void *c, cudaDataType, int ldc,
                                     cublasComputeType_t, cublasGemmAlgo_t);

/* cuBLAS, loaded when a GPU is opened. */
struct mw_cuda_blas {
    decltype(&cublasCreate) create;
    decltype(&cublasDestroy) destroy;
    decltype(&cublasSetStream) set_stream;
    decltype(&cublasSetWorkspace) set_workspace;
    mw_gemm_ex gemm;
    decltype(&cublasLtCreate) lt_create;
    decltype(&cublasLtDestroy) lt_destroy;
    decltype(&cublasLtMatmul) lt_matmul;
    decltype(&cublasLtMatmulAlgoGetHeuristic) lt_find_algorithm;
    decltype(&cublasLtMatmulPreferenceCreate) lt_create_preference;
    decltype(&cublasLtMatmulPreferenceSetAttribute) lt_set_preference;
    decltype(&cublasLtMatmulPreferenceDestroy) lt_destroy_preference;
    decltype(&cublasLtMatmulDescCreate) lt_create_matmul;
    decltype(&cublasLtMatmulDescSetAttribute) lt_set_matmul;
    decltype(&cublasLtMatmulDescDestroy) lt_destroy_matmul;
    decltype(&cublasLtMatrixLayoutCreate) lt_create_layout;
    decltype(&cublasLtMatrixLayoutDestroy) lt_destroy_layout;
};
/* As mw_cuda_usable; also loads cuBLAS for a GPU that is usable. */
bool mw_cuda_prepare(int device, mw_cuda_blas *out, char problem[MW_CUDA_PROBLEM]);

/* Bytes of workspace for cuBLAS and cuBLASLt, as recommended for sm_90 and sm_100; the emulator uses none. */
#ifndef MW_CUDA_WORKSPACE
#define MW_CUDA_WORKSPACE ((size_t)32 << 20)
#endif

/* Pinned host memory for copies to the device for which the caller does not wait: copies from pageable memory would
 * wait for the device. The two halves take turns; a half is rewritten when all copies from it have arrived. */
enum { MW_CUDA_STAGING = 4 << 20 };
typedef struct mw_cuda_staging {
    char *half[2];
    cudaEvent_t arrived[2];
    int current; /* half */
    size_t used; /* bytes of the current half */
} mw_cuda_staging;

/* Operations run on one stream, in the order of their calls, as on the CPU. Copies and exchanges beside them have
 * streams of their own (cuda_streams.cu). */
struct mw_cuda_state {
    int device;
    cudaStream_t stream, fetch_stream, send_stream, exchange_stream;
    cudaEvent_t before_fetch, marked, before_exchange; /* operations that a fetch, a send, an exchange follows */
    cudaEvent_t fetched[MW_COPY_SLOTS], exchanged[MW_CUDA_REQUESTS];
    mw_cuda_blas call;
    cublasHandle_t blas;
    cublasLtHandle_t blas_lt;
    void *workspace; /* of both, whose calls follow one another on the stream */
    mw_cuda_staging staging;
    mw_cuda_watcher watcher;
    void *watched[MW_CUDA_WATCHED];
};

/* Copies to the device in stream order; the host may reuse `from` at once. */
mw_status mw_cuda_stage(mw_cuda_state *, void *to, const void *from, size_t bytes);

static inline mw_cuda_state *cuda_of(mw_backend *backend) {
    return (mw_cuda_state *)backend->state;
}

static inline mw_status cuda_checked(cudaError_t code, const char *what) {
    return code == cudaSuccess ? MW_OK
                               : mw_error(MW_ERR_BACKEND, "CUDA: %s failed: %s", what, cudaGetErrorString(code));
}

/* The status of the last kernel launch. */
/* Applies an epilogue to `count` numbers. */
mw_status mw_cuda_finish(mw_cuda_state *s, const mw_epilogue *epilogue, float *x, int64_t count);

static inline mw_status cuda_launched(const char *kernel) {
    return cuda_checked(cudaGetLastError(), kernel);
}

/* Device memory that is allocated in stream order, and freed in stream order at the end of its scope. */
template <typename T> struct cuda_scratch {
    T *data = nullptr;
    mw_cuda_state *state;
    cudaStream_t stream;

    explicit cuda_scratch(mw_cuda_state *s) : state(s), stream(s->stream) {}
    cuda_scratch(const cuda_scratch &) = delete;
    cuda_scratch &operator=(const cuda_scratch &) = delete;
    ~cuda_scratch() {
        if (data) cudaFreeAsync(data, stream);
    }
    mw_status make(int64_t count) {
        size_t bytes = (size_t)(count > 0 ? count : 1) * sizeof(T);
        return cuda_checked(cudaMallocAsync((void **)&data, bytes, stream), "cudaMallocAsync");
    }
    /* Allocates a copy of host memory, which the caller may reuse at once. */
    mw_status copy(const T *host, int64_t count) {
        MW_TRY(make(count));
        return mw_cuda_stage(state, (void *)data, host, (size_t)count * sizeof(T));
    }
};

/* Sum and maximum over a thread block in a fixed order; every thread gets the result. At most 1024 threads, whole
 * warps. */
template <typename T, typename F> static __device__ __forceinline__ T block_reduce(T x, T identity, F join) {
    __shared__ T warp_results[32];
    __shared__ T whole;
    for (int o = 16; o > 0; o /= 2) x = join(x, __shfl_down_sync(0xffffffffu, x, o));
    if (threadIdx.x % 32 == 0) warp_results[threadIdx.x / 32] = x;
    __syncthreads();
    if (threadIdx.x < 32) {
        x = threadIdx.x < blockDim.x / 32 ? warp_results[threadIdx.x] : identity;
        for (int o = 16; o > 0; o /= 2) x = join(x, __shfl_down_sync(0xffffffffu, x, o));
        if (threadIdx.x == 0) whole = x;
    }
    __syncthreads();
    x = whole;
    __syncthreads();
    return x;
}

template <typename T> struct add_two {
    __device__ T operator()(T a, T b) const {
        return a + b;
    }
};
struct larger_of_two {
    __device__ float operator()(float a, float b) const {
        return fmaxf(a, b);
    }
};

template <typename T> static __device__ __forceinline__ T block_sum(T x) {
    return block_reduce(x, (T)0, add_two<T>());
}

static __device__ __forceinline__ float block_max(float x) {
    return block_reduce(x, -INFINITY, larger_of_two());
}

/* Loops over the indices below `count`, distributed over the grid. */
#define EACH(i, count)                                                                                                 \
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < (count); i += (int64_t)gridDim.x * blockDim.x)

enum { CUDA_THREADS = 256 };

/* Kernels take V, one or four floats: four where width and alignment of a row allow it, for a quarter of the loads and
 * more bytes in flight. Sums of an element keep their order. */
static __device__ __forceinline__ float multiply_add(float a, float x, float sum) {
    return sum + a * x;
}
static __device__ __forceinline__ float4 multiply_add(float a, float4 x, float4 sum) {
    return make_float4(sum.x + a * x.x, sum.y + a * x.y, sum.z + a * x.z, sum.w + a * x.w);
}
template <typename V> static __device__ __forceinline__ V zero_of();
template <> __device__ __forceinline__ float zero_of<float>() {
    return 0.0f;
}
template <> __device__ __forceinline__ float4 zero_of<float4>() {
    return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

/* Writes x to out[i] or, where it is not NULL, rounded to rounded[i]. */
static __device__ __forceinline__ void write_number(float *out, __nv_bfloat16 *rounded, int64_t i, float x) {
    if (rounded)
        rounded[i] = __float2bfloat16_rn(x);
    else
        out[i] = x;
}

static __host__ __device__ __forceinline__ bool fits_float4(int64_t width, const void *row) {
    return width % 4 == 0 && (uintptr_t)row % sizeof(float4) == 0;
}

/* Returns the threads of a block that processes `width` numbers: whole warps, and no more than there are numbers. */
static inline unsigned cuda_threads(int64_t width) {
    int64_t whole = (width + 31) / 32 * 32, most = CUDA_THREADS;
    return (unsigned)(whole > most ? most : whole < 32 ? 32 : whole);
}

/* Exclusive scan over a thread block (at most CUDA_THREADS) of two counts packed into one number; `all` gets the
 * total. */
static __device__ __forceinline__ unsigned block_scan(unsigned x, unsigned *all) {
    __shared__ unsigned warp_sums[CUDA_THREADS / 32];
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = x;
    for (int o = 1; o < 32; o *= 2) {
        unsigned y = __shfl_up_sync(0xffffffffu, sum, o);
        if (lane >= (unsigned)o) sum += y;
    }
    if (lane == 31) warp_sums[warp] = sum;
    __syncthreads();
    unsigned before = 0, total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) {
        if (w < warp) before += warp_sums[w];
        total += warp_sums[w];
    }
    __syncthreads();
    *all = total;
    return before + sum - x;
}

static inline unsigned cuda_blocks(int64_t count) {
    int64_t blocks = (count + CUDA_THREADS - 1) / CUDA_THREADS;
    return (unsigned)(blocks < 65535 ? blocks : 65535); /* EACH loops over the rest */
}

mw_status mw_cuda_open_streams(mw_cuda_state *);
void mw_cuda_close_streams(mw_cuda_state *);
#endif
#endif
