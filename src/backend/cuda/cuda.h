/* What the files of the CUDA backend share. Included from C++ (nvcc) and, for mw_cuda_open, from C. */
#ifndef MICROW_BACKEND_CUDA_CUDA_H
#define MICROW_BACKEND_CUDA_CUDA_H

#include "microw/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `device`: number of the GPU; MW_ERR_UNSUPPORTED where there is none. */
mw_status mw_cuda_open(int device, mw_backend **out) MW_MUST_USE;
/* GPUs this process can see; 0 where there is no driver. */
int mw_cuda_count(void);
/* Whether it can be opened, but for its memory; else why not. */
enum { MW_CUDA_PROBLEM = 512 };
bool mw_cuda_usable(int device, char problem[MW_CUDA_PROBLEM]);
mw_status mw_cuda_find(mw_gpus *out) MW_MUST_USE;

/* For NCCL: the stream, a cudaStream_t; this thread's calls go to this GPU; a name that no other GPU of the cluster has; what to
 * look at while the host waits for the device, each `self` once, until it is not watched any more. */
enum { MW_CUDA_NAME = 128, MW_CUDA_WATCHED = 4 };
void *mw_cuda_stream(mw_backend *backend);
mw_status mw_cuda_bind(mw_backend *backend) MW_MUST_USE;
/* What the backend keeps of freed memory goes back to the device, for others that allocate there. */
mw_status mw_cuda_trim(mw_backend *backend) MW_MUST_USE;
mw_status mw_cuda_name(mw_backend *backend, char out[MW_CUDA_NAME]) MW_MUST_USE;
/* For exchanges beside the operations: their stream, a cudaStream_t, after all operations so far; when all that was asked of it so
 * far is called `lane`; operations from now on wait for that. */
enum { MW_CUDA_EXCHANGES = 16 };
mw_status mw_cuda_exchange(mw_backend *backend, void **stream) MW_MUST_USE;
mw_status mw_cuda_exchange_asked(mw_backend *backend, int lane) MW_MUST_USE;
mw_status mw_cuda_exchanged(mw_backend *backend, int lane) MW_MUST_USE;
typedef struct mw_cuda_watcher {
    mw_status (*look)(void *self); /* an error ends the wait */
    void (*end)(void *self);       /* another's error has */
} mw_cuda_watcher;
void mw_cuda_watch(mw_backend *backend, const mw_cuda_watcher *watcher, void *self);
void mw_cuda_unwatch(mw_backend *backend, const void *self);

#define CUDA_PROTOTYPE(type, name, ...) type mw_cuda_##name(__VA_ARGS__);
MW_BACKEND_OPERATIONS(CUDA_PROTOTYPE)
#undef CUDA_PROTOTYPE

#ifdef __cplusplus
}

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>

/* The emulator of the tests (tests/cuda_emulator) has its own: C++ compilers know no <<<>>>. */
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
    mw_gemm_ex product;
    decltype(&cublasLtCreate) lt_create;
    decltype(&cublasLtDestroy) lt_destroy;
    decltype(&cublasLtMatmul) lt_product;
    decltype(&cublasLtMatmulAlgoGetHeuristic) lt_choose;
    decltype(&cublasLtMatmulPreferenceCreate) lt_prefer;
    decltype(&cublasLtMatmulPreferenceSetAttribute) lt_set_preference;
    decltype(&cublasLtMatmulPreferenceDestroy) lt_forget_preference;
    decltype(&cublasLtMatmulDescCreate) lt_describe;
    decltype(&cublasLtMatmulDescSetAttribute) lt_set;
    decltype(&cublasLtMatmulDescDestroy) lt_forget;
    decltype(&cublasLtMatrixLayoutCreate) lt_lay_out;
    decltype(&cublasLtMatrixLayoutDestroy) lt_forget_layout;
};
/* As mw_cuda_usable; a GPU that is can be opened with the cuBLAS that is loaded for it. */
bool mw_cuda_prepare(int device, mw_cuda_blas *out, char problem[MW_CUDA_PROBLEM]);

/* Bytes that cuBLAS and cuBLASLt may use, as much as is recommended for sm_90 and sm_100; the emulator's uses none. */
#ifndef MW_CUDA_WORKSPACE
#define MW_CUDA_WORKSPACE ((size_t)32 << 20)
#endif

/* Host memory that copies to the device go through which the caller does not wait for: from pageable memory they would wait for the
 * device. Two halves in turn; a half is written again when what came from it has arrived. */
enum { MW_CUDA_STAGING = 4 << 20 };
typedef struct mw_cuda_staging {
    char *half[2];
    cudaEvent_t arrived[2];
    int now;
    size_t used; /* of that half */
} mw_cuda_staging;

/* One stream: operations run in the order they are called, as on the CPU. What goes on beside them has others (cuda_streams.cu). */
struct mw_cuda_state {
    int device;
    cudaStream_t stream, copies, arrivals, exchanges;
    cudaEvent_t asked, marked, left; /* operations before a copy; before arrivals; before an exchange */
    cudaEvent_t done[MW_COPY_SLOTS], exchanged[MW_CUDA_EXCHANGES]; /* all copies of a lane; all exchanges up to one */
    mw_cuda_blas call;
    cublasHandle_t blas;
    cublasLtHandle_t blas_lt;
    void *workspace; /* of both, which follow one another on the stream */
    mw_cuda_staging staging;
    mw_cuda_watcher watch; /* while waiting */
    void *watched[MW_CUDA_WATCHED];
};

/* The host may use `from` again at once. */
mw_status mw_cuda_stage(mw_cuda_state *, void *to, const void *from, size_t bytes);

static inline mw_cuda_state *cuda_of(mw_backend *backend) {
    return (mw_cuda_state *)backend->state;
}

static inline mw_status cuda_checked(cudaError_t code, const char *what) {
    return code == cudaSuccess ? MW_OK
                               : mw_error(MW_ERR_BACKEND, "CUDA: %s failed: %s", what, cudaGetErrorString(code));
}

/* After a kernel launch. */
static inline mw_status cuda_launched(const char *kernel) {
    return cuda_checked(cudaGetLastError(), kernel);
}

/* Device memory in stream order, freed when it goes out of scope (also in stream order). */
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
    /* A copy of host memory, which may be used again at once. */
    mw_status copy(const T *host, int64_t count) {
        MW_TRY(make(count));
        return mw_cuda_stage(state, (void *)data, host, (size_t)count * sizeof(T));
    }
};

/* Sum and maximum over a block in a fixed order; every thread gets the result. At most 1024 threads, whole warps. */
template <typename T, typename F> static __device__ __forceinline__ T block_reduce(T x, T nothing, F join) {
    __shared__ T parts[32];
    __shared__ T whole;
    for (int o = 16; o > 0; o /= 2) x = join(x, __shfl_down_sync(0xffffffffu, x, o));
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    if (threadIdx.x < 32) {
        x = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : nothing;
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

/* Every index below `count`, shared out over the grid. */
#define EACH(i, count)                                                                                                 \
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < (count); i += (int64_t)gridDim.x * blockDim.x)

enum { CUDA_THREADS = 256 };

/* Four floats at once where a row's width and place allow it: a quarter of the loads, and more of them under way. Kernels are written
 * for V, one or four floats; sums of an element keep their order. */
static __device__ __forceinline__ float times_plus(float a, float x, float sum) {
    return sum + a * x;
}
static __device__ __forceinline__ float4 times_plus(float a, float4 x, float4 sum) {
    return make_float4(sum.x + a * x.x, sum.y + a * x.y, sum.z + a * x.z, sum.w + a * x.w);
}
static __device__ __forceinline__ float inner(float x, float y) {
    return x * y;
}
static __device__ __forceinline__ float inner(float4 x, float4 y) {
    return x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
}
template <typename V> static __device__ __forceinline__ V nothing_of();
template <> __device__ __forceinline__ float nothing_of<float>() {
    return 0.0f;
}
template <> __device__ __forceinline__ float4 nothing_of<float4>() {
    return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

static __host__ __device__ __forceinline__ bool in_fours(int64_t width, const void *place) {
    return width % 4 == 0 && (uintptr_t)place % sizeof(float4) == 0;
}

/* Threads of a block that goes over `width` numbers: whole warps, and no more than there is work for. */
static inline unsigned cuda_threads(int64_t width) {
    int64_t whole = (width + 31) / 32 * 32, most = CUDA_THREADS;
    return (unsigned)(whole > most ? most : whole < 32 ? 32 : whole);
}

/* Exclusive sum over a block of at most CUDA_THREADS of two counts packed into one number; `all` gets the total. */
static __device__ __forceinline__ unsigned block_scan(unsigned x, unsigned *all) {
    __shared__ unsigned parts[CUDA_THREADS / 32];
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = x;
    for (int o = 1; o < 32; o *= 2) {
        unsigned y = __shfl_up_sync(0xffffffffu, sum, o);
        if (lane >= (unsigned)o) sum += y;
    }
    if (lane == 31) parts[warp] = sum;
    __syncthreads();
    unsigned before = 0, total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) {
        if (w < warp) before += parts[w];
        total += parts[w];
    }
    __syncthreads();
    *all = total;
    return before + sum - x;
}

static inline unsigned cuda_blocks(int64_t count) {
    int64_t blocks = (count + CUDA_THREADS - 1) / CUDA_THREADS;
    return (unsigned)(blocks < 65535 ? blocks : 65535); /* kernels stride over the rest */
}

mw_status mw_cuda_open_streams(mw_cuda_state *);
void mw_cuda_close_streams(mw_cuda_state *);
#endif
#endif
