/* Emulates as much of CUDA as the project's kernels need to run on a CPU, for tests on machines without a GPU.
 *
 * The .cu files are compiled as C++ with this header in place of the toolkit's (preset `emulated`). Every thread of a
 * block is a fiber; blocks run one after another. The emulator finds errors that a GPU would not report clearly:
 *   - the host cannot access device memory: an access ends the program, as does a copy in the wrong direction;
 *   - new device memory is filled with NaN; under AddressSanitizer its blocks have poisoned edges;
 *   - a barrier that not all threads of a block (or lanes of a mask) reach ends the program;
 *   - work of a stream is done as late as possible: when the host waits for it, or when another stream needs an event
 *     of it. After a missing wait a copy or a kernel has old data, or reads host memory that was changed too early.
 *     EMULATOR_STREAMS=eager does all work at once;
 *   - between barriers, threads run in the order of EMULATOR_ORDER (forward, backward, or a seed of a shuffle), and so
 *     do blocks: a result that depends on the order is a race.
 * EMULATOR_LOG=FILE appends a line for each launch, product, copy, fill, sort and scan, so that the work of a step can
 * be counted (tools/roofline.py).
 * It does not emulate speed, memory ordering between barriers, or the results of the real cuBLAS and NCCL. */
#ifndef MICROW_EMULATED_CUDA_RUNTIME_H
#define MICROW_EMULATED_CUDA_RUNTIME_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __restrict__
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 : uint3 {
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : uint3{a, b, c} {}
};
struct float4 {
    float x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}

/* ---- host functions ------------------------------------------------------------------------------------ */

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidValue = 1,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorNotReady = 600
} cudaError_t;
typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef enum { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 } cudaMemcpyKind;
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };
typedef enum {
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrMaxSharedMemoryPerBlockOptin,
    cudaDevAttrComputeCapabilityMajor,
    cudaDevAttrComputeCapabilityMinor
} cudaDeviceAttr;
struct cudaDeviceProp {
    char name[256];
    int major, minor;
    size_t totalGlobalMem;
};

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaDeviceGetPCIBusId(char *out, int bytes, int device);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t code);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int device);
typedef struct emulated_pool *cudaMemPool_t;
typedef enum {
    cudaMemPoolAttrReleaseThreshold = 4,
    cudaMemPoolAttrReservedMemCurrent = 5,
    cudaMemPoolAttrUsedMemCurrent = 7
} cudaMemPoolAttr;
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *out, int device);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr what, void *value);
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr what, void *value);
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *block);
cudaError_t cudaMallocHost(void **out, size_t bytes);
cudaError_t cudaFreeHost(void *block);
cudaError_t cudaMallocAsync(void **out, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void *block, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows,
                              cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
template <typename T> cudaError_t cudaFuncSetAttribute(T *, int, int) {
    return cudaSuccess;
}
enum { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace emulator {

/* Opens device memory to accesses for its scope: in kernels, and in the emulated cuBLAS and NCCL. */
struct device_access {
    device_access();
    ~device_access();
};
bool is_device(const void *p);
/* Appends work to a stream. */
enum kind { WORK, WAIT, ARRIVAL };
void later(cudaStream_t stream, std::function<void()> work, kind what = WORK);
/* Does all work of a stream. */
void finish(cudaStream_t stream);
/* Does the work of a stream that its results for other ranks need: all but arrivals from them at its end. */
void reach(cudaStream_t stream);
void run(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel);
void *shared_memory();
void block_barrier();
/* Appends a line to EMULATOR_LOG, if set. */
__attribute__((format(printf, 1, 2))) void note(const char *format, ...);
template <typename... P, typename... A>
void launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
            A... arguments) {
    note("launch %s blocks %zu threads %u shared %zu", name, size_t(grid.x) * grid.y * grid.z, block.x, shared);
    std::tuple<std::decay_t<P>...> given(static_cast<std::decay_t<P>>(arguments)...);
    later(stream, [=] { run(grid, block, shared, [&] { std::apply(kernel, given); }); });
}
/* A barrier of the lanes of `mask`, at which each gives 8 bytes; returns those of all lanes. */
const uint64_t *warp_exchange(unsigned mask, uint64_t own);

} // namespace emulator

/* Launches a kernel, as <<<grid, block, shared, stream>>> of nvcc, with copies of the arguments. */
#define MW_LAUNCH(kernel, grid, block, shared, stream, ...)                                                            \
    emulator::launch(#kernel, kernel, grid, block, shared, stream, __VA_ARGS__)
#define MW_DYNAMIC_SHARED(type, name) type *name = (type *)emulator::shared_memory()

/* ---- device functions ---------------------------------------------------------------------------------- */

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

static inline void __syncthreads() {
    emulator::block_barrier();
}

static inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulator::warp_exchange(mask, 0);
}

static inline void __threadfence() {}

template <typename T> static inline uint64_t emulated_bits(T x) {
    static_assert(sizeof(T) <= 8, "a lane's value has at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof x);
    return bits;
}

template <typename T> static inline T emulated_lane(unsigned mask, T x, unsigned from) {
    uint64_t bits = emulated_bits(x);
    const uint64_t *all = emulator::warp_exchange(mask, bits);
    if (from < 32 && (mask >> from & 1u)) bits = all[from];
    T y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

unsigned emulated_lane_id();

template <typename T> static inline T __shfl_sync(unsigned mask, T x, int from) {
    return emulated_lane(mask, x, (unsigned)from % 32);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T x, unsigned by) {
    return emulated_lane(mask, x, emulated_lane_id() + by);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T x, unsigned by) {
    unsigned lane = emulated_lane_id();
    return emulated_lane(mask, x, lane >= by ? lane - by : lane);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T x, int with) {
    return emulated_lane(mask, x, emulated_lane_id() ^ (unsigned)with);
}
static inline unsigned __ballot_sync(unsigned mask, int yes) {
    const uint64_t *all = emulator::warp_exchange(mask, yes ? 1 : 0);
    unsigned bits = 0;
    for (unsigned i = 0; i < 32; i++)
        if (mask >> i & 1u) bits |= (unsigned)(all[i] != 0) << i;
    return bits;
}

template <typename T> static inline T atomicAdd(T *to, T x) {
    static_assert(std::is_integral<T>::value, "sums of floating-point numbers would depend on their order");
    T old = *to;
    *to = old + x;
    return old;
}
template <typename T> static inline T atomicMax(T *to, T x) {
    T old = *to;
    if (x > old) *to = x;
    return old;
}

static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}

#endif
