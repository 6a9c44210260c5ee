/* Makes sparse codes, and transposes them from entries by row to entries by latent. Atomics are of integers only. */
#include "backend/cuda/cuda.h"
#include "backend/formulas.h"

#include <cub/cub.cuh>

static __global__ void pick(int32_t *index, const int32_t *table, int64_t stride, int64_t count, int64_t k) {
    EACH(i, count) index[i] = table[i / k * stride + index[i]];
}

mw_status mw_cuda_pick(mw_backend *backend, int32_t *index, const int32_t *table, int64_t stride, int64_t rows,
                       int64_t k) {
    if (rows * k == 0) return MW_OK;
    MW_LAUNCH(pick, cuda_blocks(rows * k), CUDA_THREADS, 0, cuda_of(backend)->stream, index, table, stride, rows * k,
              k);
    return cuda_launched("pick");
}

/* ---- threshold ----------------------------------------------------------------------------------------- */

static __global__ void count_rows(mw_threshold how, const float *x, int64_t n, int64_t *count) {
    const float *row = x + blockIdx.x * n;
    int open = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) open += mw_is_open(&how, i, row[i]) ? 1 : 0;
    open = block_sum(open);
    if (threadIdx.x == 0) count[blockIdx.x] = open;
}

/* A thread takes EACH_TAKES neighbours, so that one scan serves a thousand numbers. */
static __global__ void write_rows(mw_threshold how, const float *x, int64_t n, const int64_t *start, int32_t *index,
                                  float *value) {
    enum { EACH_TAKES = 4 };
    const float *row = x + blockIdx.x * n;
    int64_t to = start[blockIdx.x];
    for (int64_t at = 0; at < n; at += EACH_TAKES * blockDim.x) {
        int64_t first = at + EACH_TAKES * threadIdx.x;
        unsigned open = 0, count = 0, all;
        for (int e = 0; e < EACH_TAKES; e++)
            if (first + e < n && mw_is_open(&how, first + e, row[first + e])) {
                open |= 1u << e;
                count++;
            }
        int64_t at_entry = to + block_scan(count, &all);
        for (int e = 0; e < EACH_TAKES; e++) {
            if (!(open >> e & 1u)) continue;
            index[at_entry] = how.labels ? how.labels[blockIdx.x * n + first + e] : (int32_t)(first + e);
            value[at_entry++] = row[first + e];
        }
        to += all;
    }
}

mw_status mw_cuda_count_open(mw_backend *backend, const mw_threshold *how, const float *x, int64_t rows, int64_t n,
                             int64_t *count) {
    if (rows == 0) return MW_OK;
    cudaStream_t stream = cuda_of(backend)->stream;
    cuda_scratch<int64_t> found(cuda_of(backend));
    MW_TRY(found.make(rows));
    MW_LAUNCH(count_rows, (unsigned)rows, cuda_threads(n), 0, stream, *how, x, n, found.data);
    MW_TRY(cuda_launched("count_open"));
    return backend->ops->download(backend, count, found.data, (size_t)rows * sizeof *count);
}

mw_status mw_cuda_write_open(mw_backend *backend, const mw_threshold *how, const float *x, int64_t rows, int64_t n,
                             const int64_t *start, int32_t *index, float *value) {
    if (rows == 0) return MW_OK;
    cudaStream_t stream = cuda_of(backend)->stream;
    cuda_scratch<int64_t> starts(cuda_of(backend));
    MW_TRY(starts.copy(start, rows));
    MW_LAUNCH(write_rows, (unsigned)rows, cuda_threads(n), 0, stream, *how, x, n, starts.data, index, value);
    return cuda_launched("write_open");
}

/* ---- by latent: a stable sort of entries, which come in row order -------------------------------------- */

typedef struct expanded {
    uint32_t *latent,
        *entry; /* latent - first, or n for a latent outside first .. first + n - 1; number of the entry */
    int32_t *row;
    float *coefficient;
} expanded;

static __global__ void expand(mw_code_run run, const int64_t *start, int64_t base, int64_t first, int64_t n,
                              expanded to) {
    for (int64_t j = start[blockIdx.x] + threadIdx.x; j < start[blockIdx.x + 1]; j += blockDim.x) {
        int64_t i = run.index[j] - first, at = base + j - start[0];
        to.latent[at] = (uint32_t)(i >= 0 && i < n ? i : n);
        to.entry[at] = (uint32_t)at;
        to.row[at] = (int32_t)(run.first_row + blockIdx.x);
        to.coefficient[at] = run.coefficient[j];
    }
}

/* Writes the first entry of each latent; `latent` is sorted. */
static __global__ void find_starts(const uint32_t *latent, int64_t count, int64_t n, int64_t *start) {
    EACH(i, count + 1) {
        int64_t from = i > 0 ? (int64_t)latent[i - 1] + 1 : 0, to = i < count ? (int64_t)latent[i] : n;
        for (int64_t q = from; q <= to; q++) start[q] = i;
    }
}

static __global__ void place(const uint32_t *entry, int64_t count, expanded from, int32_t *row, float *coefficient) {
    EACH(i, count) {
        row[i] = from.row[entry[i]];
        coefficient[i] = from.coefficient[entry[i]];
    }
}

static mw_status expand_all(mw_cuda_state *s, const mw_code_run *runs, int n_runs, int64_t first, int64_t n,
                            expanded to) {
    int64_t base = 0;
    for (int i = 0; i < n_runs; i++) {
        const mw_code_run *run = &runs[i];
        if (run->rows == 0) continue;
        cuda_scratch<int64_t> start(s);
        MW_TRY(start.copy(run->start, run->rows + 1));
        MW_LAUNCH(expand, (unsigned)run->rows, 64, 0, s->stream, *run, start.data, base, first, n, to);
        MW_TRY(cuda_launched("expand"));
        base += run->start[run->rows] - run->start[0];
    }
    return MW_OK;
}

static mw_status sort(mw_cuda_state *s, const expanded &from, uint32_t *latent, uint32_t *entry, int64_t count,
                      int64_t n) {
    size_t bytes = 0;
    int bits = 1;
    while ((int64_t)1 << bits <= n) bits++;
    MW_TRY(cuda_checked(cub::DeviceRadixSort::SortPairs(nullptr, bytes, from.latent, latent, from.entry, entry, count,
                                                        0, bits, s->stream),
                        "sort"));
    cuda_scratch<char> scratch(s);
    MW_TRY(scratch.make((int64_t)bytes));
    return cuda_checked(cub::DeviceRadixSort::SortPairs(scratch.data, bytes, from.latent, latent, from.entry, entry,
                                                        count, 0, bits, s->stream),
                        "sort");
}

static mw_status list(mw_cuda_state *s, const mw_code_run *runs, int n_runs, int64_t first, int64_t count,
                      mw_latent_lists *out) {
    cuda_scratch<uint32_t> numbers(s);
    cuda_scratch<int32_t> row(s);
    cuda_scratch<float> coefficient(s);
    MW_TRY(numbers.make(4 * count));
    MW_TRY(row.make(count));
    MW_TRY(coefficient.make(count));
    expanded all = {numbers.data, numbers.data + count, row.data, coefficient.data};
    uint32_t *latent = numbers.data + 2 * count, *entry = numbers.data + 3 * count;
    MW_TRY(expand_all(s, runs, n_runs, first, out->n, all));
    MW_TRY(sort(s, all, latent, entry, count, out->n));
    MW_LAUNCH(find_starts, cuda_blocks(count + 1), CUDA_THREADS, 0, s->stream, latent, count, out->n, out->start);
    MW_LAUNCH(place, cuda_blocks(count), CUDA_THREADS, 0, s->stream, entry, count, all, out->row, out->coefficient);
    return cuda_launched("list_latents");
}

mw_status mw_cuda_list_latents(mw_backend *backend, const mw_code_run *runs, int n_runs, int64_t first,
                               mw_latent_lists *out) {
    int64_t count = 0;
    for (int i = 0; i < n_runs; i++) count += runs[i].start[runs[i].rows] - runs[i].start[0];
    if (count > out->capacity || count > UINT32_MAX)
        return mw_error(MW_ERR_ARG, "list_latents: %lld entries exceed the capacity of %lld", (long long)count,
                        (long long)out->capacity);
    if (count == 0) return mw_cuda_fill_zero(backend, out->start, (size_t)(out->n + 1) * sizeof *out->start);
    return list(cuda_of(backend), runs, n_runs, first, count, out);
}

/* A warp sums a latent. */
static __global__ void sum_lists(double *out, const int64_t *start, const float *coefficient, int64_t n) {
    int64_t i = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / 32;
    double sum = 0;
    if (i < n)
        for (int64_t e = start[i] + threadIdx.x % 32; e < start[i + 1]; e += 32) sum += coefficient[e];
    for (int o = 16; o > 0; o /= 2) sum += __shfl_down_sync(0xffffffffu, sum, o);
    if (i < n && threadIdx.x % 32 == 0) out[i] = sum;
}

mw_status mw_cuda_list_sums(mw_backend *backend, double *out, const mw_latent_lists *lists) {
    if (lists->n == 0) return MW_OK;
    unsigned blocks = (unsigned)((lists->n * 32 + CUDA_THREADS - 1) / CUDA_THREADS);
    MW_LAUNCH(sum_lists, blocks, CUDA_THREADS, 0, cuda_of(backend)->stream, out, lists->start, lists->coefficient,
              lists->n);
    return cuda_launched("list_sums");
}

/* ---- firing -------------------------------------------------------------------------------------------- */

static __global__ void grow_older(int64_t *since, int64_t n, int64_t by) {
    EACH(i, n) since[i] += by;
}

/* Several threads may write one element; all write the same value. */
static __global__ void fire(int64_t *since, const int32_t *index, const float *value, int64_t entries, float above) {
    EACH(j, entries) {
        if (value[j] > above) since[index[j]] = 0;
    }
}

mw_status mw_cuda_mark_fired(mw_backend *backend, int64_t *since, int64_t n, int64_t by, const int32_t *index,
                             const float *value, int64_t entries, float above) {
    cudaStream_t stream = cuda_of(backend)->stream;
    if (n && by) MW_LAUNCH(grow_older, cuda_blocks(n), CUDA_THREADS, 0, stream, since, n, by);
    if (entries) MW_LAUNCH(fire, cuda_blocks(entries), CUDA_THREADS, 0, stream, since, index, value, entries, above);
    return cuda_launched("mark_fired");
}

static __global__ void flag_silent(const int64_t *since, int64_t n, int64_t after, int32_t *flag) {
    EACH(i, n) flag[i] = since[i] > after ? 1 : 0;
}

static __global__ void write_silent(const int64_t *since, int64_t n, int64_t after, const int32_t *place,
                                    int32_t *out) {
    EACH(i, n) {
        if (since[i] > after) out[place[i] - 1] = (int32_t)i;
    }
}

static mw_status running_sum(mw_cuda_state *s, const int32_t *in, int32_t *out, int64_t n) {
    size_t bytes = 0;
    MW_TRY(cuda_checked(cub::DeviceScan::InclusiveSum(nullptr, bytes, in, out, n, s->stream), "scan"));
    cuda_scratch<char> scratch(s);
    MW_TRY(scratch.make((int64_t)bytes));
    return cuda_checked(cub::DeviceScan::InclusiveSum(scratch.data, bytes, in, out, n, s->stream), "scan");
}

mw_status mw_cuda_list_silent(mw_backend *backend, const int64_t *since, int64_t n, int64_t after, int32_t *out,
                              int64_t *count) {
    mw_cuda_state *s = cuda_of(backend);
    int32_t found = 0;
    *count = 0;
    if (n == 0) return MW_OK;
    cuda_scratch<int32_t> flags(s);
    MW_TRY(flags.make(2 * n));
    MW_LAUNCH(flag_silent, cuda_blocks(n), CUDA_THREADS, 0, s->stream, since, n, after, flags.data);
    MW_TRY(running_sum(s, flags.data, flags.data + n, n));
    MW_LAUNCH(write_silent, cuda_blocks(n), CUDA_THREADS, 0, s->stream, since, n, after, flags.data + n, out);
    MW_TRY(cuda_launched("list_silent"));
    MW_TRY(backend->ops->download(backend, &found, flags.data + 2 * n - 1, sizeof found));
    *count = found;
    return MW_OK;
}

static __global__ void raise_silent(float *x, const int64_t *since, int64_t n, int64_t after, float by) {
    EACH(i, n) {
        if (since[i] > after) x[i] += by;
    }
}

mw_status mw_cuda_raise_silent(mw_backend *backend, float *x, const int64_t *since, int64_t n, int64_t after,
                               float by) {
    if (n) MW_LAUNCH(raise_silent, cuda_blocks(n), CUDA_THREADS, 0, cuda_of(backend)->stream, x, since, n, after, by);
    return cuda_launched("raise_silent");
}

static __global__ void count_above_zero(const float *x, int64_t n, unsigned long long *count) {
    int mine = 0;
    EACH(i, n) mine += x[i] > 0 ? 1 : 0;
    mine = block_sum(mine);
    if (threadIdx.x == 0) atomicAdd(count, (unsigned long long)mine);
}

mw_status mw_cuda_count_positive(mw_backend *backend, const float *x, int64_t n, int64_t *count) {
    cudaStream_t stream = cuda_of(backend)->stream;
    cuda_scratch<unsigned long long> found(cuda_of(backend));
    MW_TRY(found.make(1));
    MW_TRY(mw_cuda_fill_zero(backend, found.data, sizeof *found.data));
    if (n) MW_LAUNCH(count_above_zero, cuda_blocks(n), CUDA_THREADS, 0, stream, x, n, found.data);
    MW_TRY(cuda_launched("count_positive"));
    return backend->ops->download(backend, count, found.data, sizeof *count);
}
