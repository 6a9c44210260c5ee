/* The emulator: device memory, blocks of threads, the runtime, and cuBLAS. */
#include "cublas_v2.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "emulator.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#include <unistd.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define POISON(p, n) __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

/* ---- device memory: one region, without access for the host -------------------------------------------- */

struct heap {
    static constexpr size_t size = size_t(16) << 30, edge = 256;
    char *base = nullptr, *next = nullptr;
    int open = 0;
    std::multimap<size_t, char *> spare;
    std::map<char *, size_t> used;

    void start() {
        if (base) return;
        void *p = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) give_up("no address space for device memory");
        base = next = (char *)p;
        POISON(base, size_t(1) << 20);
    }
    /* Rounds sizes up, so that freed blocks fit later allocations. */
    static size_t rounded(size_t bytes) {
        size_t step = edge;
        while (step * 8 < bytes) step *= 2;
        return bytes ? (bytes + step - 1) / step * step : edge;
    }
    void *take(size_t bytes) {
        start();
        size_t whole = rounded(bytes);
        char *block;
        auto found = spare.find(whole);
        if (found != spare.end()) {
            block = found->second;
            spare.erase(found);
        } else {
            if (next + whole + 2 * edge > base + size) return nullptr;
            block = next + edge;
            next = block + whole;
            POISON(block - edge, whole + 2 * edge);
        }
        used[block] = bytes;
        UNPOISON(block, bytes);
        return block;
    }
    bool give(void *block) {
        auto found = used.find((char *)block);
        if (found == used.end()) return false;
        size_t whole = rounded(found->second);
        POISON(block, whole);
        spare.emplace(whole, (char *)block);
        used.erase(found);
        return true;
    }
    ~heap() {
        if (used.empty()) return;
        fprintf(stderr, "CUDA emulator: %zu blocks of device memory were not freed\n", used.size());
        _exit(1);
    }
} device;

} // namespace

namespace emulator {

device_access::device_access() {
    device.start();
    if (device.open++ == 0)
        mprotect(device.base, size_t(device.next - device.base) + heap::edge, PROT_READ | PROT_WRITE);
}

device_access::~device_access() {
    if (--device.open == 0) mprotect(device.base, size_t(device.next - device.base) + heap::edge, PROT_NONE);
}

bool is_device(const void *p) {
    return device.base && (const char *)p >= device.base && (const char *)p < device.base + heap::size;
}

void note(const char *format, ...) {
    static FILE *log = getenv("EMULATOR_LOG") ? fopen(getenv("EMULATOR_LOG"), "a") : nullptr;
    if (!log) return;
    locked here;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(log, format, arguments);
    va_end(arguments);
    fputc('\n', log);
    fflush(log);
}

/* ---- blocks of fibers ---------------------------------------------------------------------------------- */

namespace {

/* Switches between fibers. swapcontext makes a system call for signals, which takes most of a test's time; on x86-64
 * the registers that a call preserves are therefore switched by hand. */
#if defined(__x86_64__)
struct context_t {
    void *sp = nullptr;
};
extern "C" void emulator_switch(void **from, void *to);
asm(R"(
    .text
    .globl emulator_switch
    .type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulator_switch, .-emulator_switch
    .section .note.GNU-stack,"",@progbits
    .text
)");
void switch_to(context_t &from, context_t &to) {
    emulator_switch(&from.sp, to.sp);
}
void prepare(context_t &c, void *stack, size_t size, void (*body)()) {
    void **top = (void **)((char *)stack + size) - 3; /* as a call leaves it: 8 more than a multiple of 16 */
    *top = (void *)give_up;                           /* body never returns */
    *--top = (void *)body;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    c.sp = top;
}
#else
struct context_t {
    ucontext_t u;
};
void switch_to(context_t &from, context_t &to) {
    swapcontext(&from.u, &to.u);
}
void prepare(context_t &c, void *stack, size_t size, void (*body)()) {
    getcontext(&c.u);
    c.u.uc_stack.ss_sp = stack;
    c.u.uc_stack.ss_size = size;
    c.u.uc_link = nullptr;
    makecontext(&c.u, body, 0);
}
#endif

enum { STACK = 256 << 10, LANES = 32, THREADS_MAX = 1024 };

struct barrier { /* of the threads of a block, or of lanes of a warp */
    unsigned arrived = 0;
    uint64_t round = 0;
};

struct warp {
    barrier m;
    unsigned mask = 0;
    uint64_t value[2][LANES]; /* of even and odd rounds: a lane may begin the next round while others still read */
};

struct fiber {
    context_t context;
    void *stack = nullptr;
    bool done = true;
    const barrier *waits = nullptr;
    uint64_t for_round = 0;
};

struct machine {
    fiber fibers[THREADS_MAX];
    warp warps[THREADS_MAX / LANES];
    barrier all;
    context_t host;
    const void *host_stack = nullptr; /* for AddressSanitizer */
    size_t host_stack_size = 0;
    unsigned threads = 0, alive = 0, current = 0;
    const std::function<void()> *kernel = nullptr;
    std::vector<char> shared;
    bool running = false;
} m;

std::vector<unsigned> order_of(size_t n, std::mt19937 &random) {
    static const char *how = getenv("EMULATOR_ORDER");
    std::vector<unsigned> order(n);
    for (size_t i = 0; i < n; i++) order[i] = unsigned(i);
    if (how && strcmp(how, "backward") == 0)
        for (size_t i = 0; i < n; i++) order[i] = unsigned(n - 1 - i);
    else if (how && strcmp(how, "forward") != 0)
        for (size_t i = n; i > 1; i--) std::swap(order[i - 1], order[random() % i]);
    return order;
}

void yield() {
    fiber &f = m.fibers[m.current];
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(f.done ? nullptr : &fake, m.host_stack, m.host_stack_size);
#endif
    switch_to(f.context, m.host);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void body() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &m.host_stack, &m.host_stack_size);
#endif
    (*m.kernel)();
    m.fibers[m.current].done = true;
    m.alive--;
    if (m.all.arrived && m.all.arrived == m.alive)
        give_up("a thread ended while others of its block wait at a barrier");
    yield();
}

void enter(unsigned i) {
    fiber &f = m.fibers[i];
    m.current = i;
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, f.stack, STACK);
#endif
    switch_to(m.host, f.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void start_fiber(fiber &f) {
    if (!f.stack) {
        f.stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (f.stack == MAP_FAILED) give_up("no memory for threads");
    }
    prepare(f.context, f.stack, STACK, body);
    f.done = false;
    f.waits = nullptr;
}

void run_block(std::mt19937 &random) {
    m.alive = m.threads;
    m.all = barrier();
    for (warp &w : m.warps) w = warp();
    for (unsigned i = 0; i < m.threads; i++) start_fiber(m.fibers[i]);
    memset(m.shared.data(), 0xff, m.shared.size());
    std::vector<unsigned> order = order_of(m.threads, random);
    while (m.alive > 0) {
        bool moved = false;
        for (unsigned i : order) {
            fiber &f = m.fibers[i];
            if (f.done || (f.waits && f.waits->round < f.for_round)) continue;
            f.waits = nullptr;
            moved = true;
            enter(i);
        }
        if (!moved) give_up("threads of a block wait for each other: a barrier that not all of them reach");
    }
}

void wait_for(barrier &at, unsigned wanted) {
    fiber &f = m.fibers[m.current];
    f.waits = &at;
    f.for_round = at.round + 1;
    if (++at.arrived == wanted) {
        at.arrived = 0;
        at.round++;
    }
    uint3 own = threadIdx;
    yield();
    threadIdx = own;
}

} // namespace

void block_barrier() {
    wait_for(m.all, m.alive);
}

const uint64_t *warp_exchange(unsigned mask, uint64_t own) {
    unsigned lane = m.current % LANES;
    warp &w = m.warps[m.current / LANES];
    if (!(mask >> lane & 1u)) give_up("a lane takes part in an exchange whose mask leaves it out");
    if (w.m.arrived && w.mask != mask) give_up("lanes of a warp name different masks");
    w.mask = mask;
    uint64_t *value = w.value[w.m.round % 2];
    value[lane] = own;
    wait_for(w.m, (unsigned)__builtin_popcount(mask));
    return value;
}

void *shared_memory() {
    return m.shared.data();
}

void run(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel) {
    size_t blocks = size_t(grid.x) * grid.y * grid.z, threads = size_t(block.x) * block.y * block.z;
    if (m.running) give_up("a kernel starts a kernel");
    if (threads == 0 || threads > THREADS_MAX || blocks == 0 || grid.y > 65535 || grid.z > 65535 ||
        shared > (227u << 10))
        give_up("a launch with a size that no device has");
    device_access here;
    std::mt19937 random(1);
    m.running = true;
    m.threads = unsigned(threads);
    m.kernel = &kernel;
    m.shared.resize(shared + 16);
    blockDim = block;
    gridDim = grid;
    for (unsigned b : order_of(blocks, random)) {
        blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
        run_block(random);
    }
    m.running = false;
}

} // namespace emulator

unsigned emulated_lane_id() {
    return emulator::m.current % 32;
}

/* ---- runtime ------------------------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *count) {
    const char *set = getenv("EMULATOR_GPUS");
    *count = set ? atoi(set) : 2; /* two, so that ranks of a node choose */
    return *count ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaDriverGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int) {
    *out = {"emulated", 9, 0, (size_t)16 << 30};
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    return device == 0 || device == 1 ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaDeviceGetPCIBusId(char *out, int bytes, int device) {
    snprintf(out, size_t(bytes), "emulated:%d", device);
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void) {
    return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t code) {
    return code == cudaErrorMemoryAllocation ? "out of memory" : "invalid value";
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int) {
    *value = what == cudaDevAttrMultiProcessorCount      ? 4
             : what == cudaDevAttrComputeCapabilityMajor ? 9
             : what == cudaDevAttrComputeCapabilityMinor ? 0
                                                         : 227 << 10;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *out, int) {
    *out = nullptr;
    return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void *) {
    return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) {
    return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void *value) {
    memset(value, 0, sizeof(uint64_t)); /* freed memory is free at once */
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = heap::size;
    *free_bytes = heap::size - size_t(device.next - device.base);
    return cudaSuccess;
}
static void fill_nan(void *block, size_t bytes) {
    emulator::device_access here;
    memset(block, 0xff, bytes);
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    emulator::locked here;
    if (!(*out = device.take(bytes))) return cudaErrorMemoryAllocation;
    fill_nan(*out, bytes);
    return cudaSuccess;
}
cudaError_t cudaFree(void *block) {
    emulator::locked here;
    emulator::finish_all();
    return !block || device.give(block) ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaMallocAsync(void **out, size_t bytes, cudaStream_t stream) {
    emulator::locked here;
    void *block = device.take(bytes);
    if (!(*out = block)) return cudaErrorMemoryAllocation;
    emulator::later(stream, [=] { fill_nan(block, bytes); });
    return cudaSuccess;
}
cudaError_t cudaFreeAsync(void *block, cudaStream_t stream) {
    if (!block) return cudaSuccess;
    if (!emulator::is_device(block)) return cudaErrorInvalidValue;
    emulator::later(stream, [=] {
        if (!device.give(block)) give_up("freed memory was not allocated");
    });
    return cudaSuccess;
}

/* ---- cuBLAS -------------------------------------------------------------------------------------------- */

struct emulated_blas {
    cudaStream_t stream;
};

cublasStatus_t cublasCreate(cublasHandle_t *out) {
    *out = new emulated_blas();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *, size_t) {
    return CUBLAS_STATUS_SUCCESS;
}

/* Copies op(A) [rows, k], column-major, into rows of k, the order in which the product reads it. */
static std::vector<float> packed(const void *from, cudaDataType type, int64_t ld, int64_t rows, int64_t k,
                                 bool transposed) {
    std::vector<float> out(size_t(rows * k));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t l = 0; l < k; l++) {
            int64_t at = transposed ? i * ld + l : l * ld + i;
            out[size_t(i * k + l)] = type == CUDA_R_32F    ? ((const float *)from)[at]
                                     : type == CUDA_R_16BF ? __bfloat162float(((const __nv_bfloat16 *)from)[at])
                                                           : __half2float(((const __half *)from)[at]);
        }
    return out;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                            const void *alpha, const void *a, cudaDataType a_type, int lda, const void *b,
                            cudaDataType b_type, int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
    if (m < 0 || n < 0 || k < 0 || a_type != b_type || ldc < m || lda < (op_a == CUBLAS_OP_N ? m : k) ||
        ldb < (op_b == CUBLAS_OP_N ? k : n) || (c_type != CUDA_R_32F && c_type != CUDA_R_16BF))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!emulator::is_device(a) || !emulator::is_device(b) || !emulator::is_device(c))
        give_up("cuBLAS got host memory");
    emulator::note("product m %d n %d k %d type %s", n, m, k,
                   a_type == CUDA_R_16BF                     ? "bf16"
                   : compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? "tf32"
                                                             : "f32");
    float scale = *(const float *)alpha, keep = *(const float *)beta;
    emulator::later(handle->stream, [=] {
        emulator::device_access here;
        std::vector<float> left = packed(a, a_type, lda, m, k, op_a == CUBLAS_OP_T),
                           right = packed(b, b_type, ldb, n, k, op_b == CUBLAS_OP_N);
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) {
                const float *x = &left[size_t(i * k)], *y = &right[size_t(j * k)];
                float sum = 0;
                for (int64_t l = 0; l < k; l++) sum += x[l] * y[l];
                float *to = (float *)c + j * ldc + i;
                if (c_type == CUDA_R_32F)
                    *to = scale * sum + (keep != 0 ? keep * *to : 0);
                else
                    ((__nv_bfloat16 *)c)[j * ldc + i] = __float2bfloat16_rn(scale * sum);
            }
    });
    return CUBLAS_STATUS_SUCCESS;
}
