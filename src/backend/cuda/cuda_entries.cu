/* Operations of selections and penalties on the entries of sparse codes. Atomics are of integers only. */
#include "backend/cuda/cuda.h"
#include "backend/formulas.h"

static __global__ void pick_own(int32_t *index, float *value, const int32_t *table, int64_t first, int64_t width,
                                int64_t count, int64_t k) {
    EACH(j, count) {
        int64_t at = index[j] - first;
        bool own = at >= 0 && at < width;
        index[j] = own ? table[j / k * width + at] : 0;
        value[j] = own ? value[j] : 0.0f;
    }
}

mw_status mw_cuda_pick_own(mw_backend *backend, int32_t *index, float *value, const int32_t *table, int64_t first,
                           int64_t width, int64_t rows, int64_t k) {
    if (rows * k == 0) return MW_OK;
    MW_LAUNCH(pick_own, cuda_blocks(rows * k), CUDA_THREADS, 0, cuda_of(backend)->stream, index, value, table, first,
              width, rows * k, k);
    return cuda_launched("pick_own");
}

/* ---- filter: a thread block a row ---------------------------------------------------------------------- */

enum { FILTER_THREADS = 64 }; /* rows have few entries */

typedef struct keeping {
    mw_filter filter; /* its `equals` on the device */
    const int64_t *from;
} keeping;

/* Two counts in one number: entries above the level, and from bit 16 on entries that equal it. */
static __device__ unsigned count_bits(const keeping &k, int32_t latent, float x) {
    mw_filtered decision = mw_filter_entry(&k.filter, latent, x);
    return decision == MW_FILTER_KEEPS ? 1u : decision == MW_FILTER_EQUALS ? 0x10000u : 0u;
}

/* How many of so many entries that equal the level the row keeps. */
static __device__ int64_t kept_equals(const keeping &k, int64_t equals) {
    int64_t most = k.filter.equals ? k.filter.equals[blockIdx.x] : 0;
    return equals < most ? equals : most;
}

static __global__ void count_row(keeping how, const int32_t *index, const float *value, int64_t *count) {
    int64_t begin = how.from[blockIdx.x], end = how.from[blockIdx.x + 1], above = 0, equal = 0;
    for (int64_t j = begin + threadIdx.x; j < end; j += blockDim.x) {
        unsigned s = count_bits(how, index[j], value[j]);
        above += s & 0xffffu;
        equal += s >> 16;
    }
    above = block_sum(above);
    equal = block_sum(equal);
    if (threadIdx.x == 0) count[blockIdx.x] = above + kept_equals(how, equal);
}

static __global__ void write_row(keeping how, const int32_t *index, const float *value, const int64_t *start,
                                 int32_t *to_index, float *to_value) {
    int64_t begin = how.from[blockIdx.x], end = how.from[blockIdx.x + 1], above = 0, equal = 0, to = start[blockIdx.x];
    for (int64_t at = begin; at < end; at += blockDim.x) {
        int64_t j = at + threadIdx.x;
        unsigned s = j < end ? count_bits(how, index[j], value[j]) : 0, all, before = block_scan(s, &all);
        int64_t equals_before = equal + (before >> 16);
        if (s == 1u || (s && equals_before < kept_equals(how, equals_before + 1))) {
            int64_t at_entry = to + above + (before & 0xffffu) + kept_equals(how, equals_before);
            to_index[at_entry] = index[j];
            to_value[at_entry] = value[j];
        }
        above += all & 0xffffu;
        equal += all >> 16;
    }
}

/* A filter whose host arrays are copied to the device for its scope. */
struct device_filter {
    cuda_scratch<int64_t> equals, from;
    keeping on_device;

    explicit device_filter(mw_cuda_state *s) : equals(s), from(s) {}
    mw_status copy(const mw_filter *filter, const int64_t *start, int64_t rows) {
        if (filter->equals) MW_TRY(equals.copy(filter->equals, rows));
        MW_TRY(from.copy(start, rows + 1));
        on_device = {*filter, from.data};
        on_device.filter.equals = equals.data;
        return MW_OK;
    }
};

mw_status mw_cuda_count_kept(mw_backend *backend, const mw_filter *how, const int64_t *from, const int32_t *index,
                             const float *value, int64_t rows, int64_t *count) {
    if (rows == 0) return MW_OK;
    cudaStream_t stream = cuda_of(backend)->stream;
    device_filter filter(cuda_of(backend));
    cuda_scratch<int64_t> found(cuda_of(backend));
    MW_TRY(filter.copy(how, from, rows));
    MW_TRY(found.make(rows));
    MW_LAUNCH(count_row, (unsigned)rows, FILTER_THREADS, 0, stream, filter.on_device, index, value, found.data);
    MW_TRY(cuda_launched("count_kept"));
    return backend->ops->download(backend, count, found.data, (size_t)rows * sizeof *count);
}

mw_status mw_cuda_write_kept(mw_backend *backend, const mw_filter *how, const int64_t *from, const int32_t *index,
                             const float *value, int64_t rows, const int64_t *start, int32_t *to_index,
                             float *to_value) {
    if (rows == 0) return MW_OK;
    cudaStream_t stream = cuda_of(backend)->stream;
    device_filter filter(cuda_of(backend));
    cuda_scratch<int64_t> to(cuda_of(backend));
    MW_TRY(filter.copy(how, from, rows));
    MW_TRY(to.copy(start, rows));
    MW_LAUNCH(write_row, (unsigned)rows, FILTER_THREADS, 0, stream, filter.on_device, index, value, to.data, to_index,
              to_value);
    return cuda_launched("write_kept");
}

/* ---- digits -------------------------------------------------------------------------------------------- */

static __global__ void count_digits(const float *value, int64_t entries, unsigned prefix, unsigned mask, int shift,
                                    unsigned long long *counts) {
    __shared__ unsigned block_counts[256];
    for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) block_counts[i] = 0;
    __syncthreads();
    EACH(j, entries) {
        unsigned bits = __float_as_uint(value[j]);
        if ((bits & mask) == prefix) atomicAdd(&block_counts[bits >> shift & 255u], 1u);
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < 256; i += blockDim.x)
        if (block_counts[i]) atomicAdd(&counts[i], (unsigned long long)block_counts[i]);
}

mw_status mw_cuda_count_digits(mw_backend *backend, const float *value, int64_t entries, uint32_t prefix, uint32_t mask,
                               int shift, int64_t counts[256]) {
    cudaStream_t stream = cuda_of(backend)->stream;
    cuda_scratch<unsigned long long> found(cuda_of(backend));
    size_t bytes = 256 * sizeof *counts;
    MW_TRY(found.make(256));
    MW_TRY(mw_cuda_fill_zero(backend, found.data, bytes));
    if (entries)
        MW_LAUNCH(count_digits, cuda_blocks(entries), CUDA_THREADS, 0, stream, value, entries, prefix, mask, shift,
                  found.data);
    MW_TRY(cuda_launched("count_digits"));
    return backend->ops->download(backend, counts, found.data, bytes);
}

/* ---- maps ---------------------------------------------------------------------------------------------- */

static __global__ void map_entries(mw_entry_map map, float *out, const int32_t *index, const float *value,
                                   int64_t entries) {
    EACH(j, entries) out[j] = mw_map_entry(&map, out[j], index[j], value[j]);
}

mw_status mw_cuda_map_entries(mw_backend *backend, const mw_entry_map *map, float *out, const int32_t *index,
                              const float *value, int64_t entries) {
    if (entries == 0) return MW_OK;
    MW_LAUNCH(map_entries, cuda_blocks(entries), CUDA_THREADS, 0, cuda_of(backend)->stream, *map, out, index, value,
              entries);
    return cuda_launched("map_entries");
}
