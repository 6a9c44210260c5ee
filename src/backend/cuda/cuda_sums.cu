/* Sums in double for training, in orders that depend on sizes alone; vector operations; lengths of rows. */
#include "backend/cuda/cuda.h"

/* ---- sums ---------------------------------------------------------------------------------------------- */

/* A thread block sums a tile. */
static __global__ void sum_tiles(double *out, const float *x, int64_t rows, int64_t d) {
    int64_t begin = (int64_t)blockIdx.x * MW_ROW_TILE, end = begin + MW_ROW_TILE < rows ? begin + MW_ROW_TILE : rows;
    double *to = out + blockIdx.x * (d + 1), squares = 0;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
        double sum = 0;
        for (int64_t r = begin; r < end; r++) {
            double value = x[r * d + i];
            sum += value;
            squares += value * value;
        }
        to[i] = sum;
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) to[d] = squares;
}

static __global__ void sum_rows(double *out, const double *x, int64_t rows, int64_t stride, int64_t width, bool add) {
    EACH(i, width) {
        double sum = add ? out[i] : 0;
        for (int64_t r = 0; r < rows; r++) sum += x[r * stride + i];
        out[i] = sum;
    }
}

static mw_status launch_tiles(cudaStream_t stream, double *out, const float *x, int64_t rows, int64_t d) {
    MW_LAUNCH(sum_tiles, (unsigned)((rows + MW_ROW_TILE - 1) / MW_ROW_TILE), cuda_threads(d), 0, stream, out, x, rows,
              d);
    return cuda_launched("tile_sums");
}

mw_status mw_cuda_tile_sums(mw_backend *backend, double *out, const float *x, int64_t rows, int64_t d) {
    return rows ? launch_tiles(cuda_of(backend)->stream, out, x, rows, d) : MW_OK;
}

mw_status mw_cuda_add_rows(mw_backend *backend, double *out, const double *x, int64_t rows, int64_t width, bool add) {
    if (width == 0) return MW_OK;
    MW_LAUNCH(sum_rows, cuda_blocks(width), CUDA_THREADS, 0, cuda_of(backend)->stream, out, x, rows, width, width, add);
    return cuda_launched("add_rows");
}

mw_status mw_cuda_column_sums(mw_backend *backend, double *out, const float *x, int64_t rows, int64_t d) {
    cudaStream_t stream = cuda_of(backend)->stream;
    int64_t tiles = (rows + MW_ROW_TILE - 1) / MW_ROW_TILE;
    if (d == 0) return MW_OK;
    cuda_scratch<double> sums(cuda_of(backend));
    MW_TRY(sums.make(tiles * (d + 1)));
    if (rows) MW_TRY(launch_tiles(stream, sums.data, x, rows, d));
    MW_LAUNCH(sum_rows, cuda_blocks(d), CUDA_THREADS, 0, stream, out, sums.data, tiles, d + 1, d, false);
    return cuda_launched("column_sums");
}

static __global__ void weigh_block(double *out, const double *weight, const float *w, int64_t rows, int64_t d,
                                   int64_t span) {
    int64_t begin = blockIdx.x * span, end = begin + span < rows ? begin + span : rows;
    int64_t j = blockIdx.y * (int64_t)blockDim.x + threadIdx.x;
    if (j >= d) return;
    double sum = 0;
    for (int64_t i = begin; i < end; i++) sum -= weight[i] * w[i * d + j];
    out[blockIdx.x * d + j] = sum;
}

mw_status mw_cuda_weigh_rows(mw_backend *backend, double *out, const double *weight, const float *w, int64_t rows,
                             int64_t d, int64_t span) {
    if (rows == 0 || d == 0) return MW_OK;
    dim3 grid((unsigned)((rows + span - 1) / span), (unsigned)((d + CUDA_THREADS - 1) / CUDA_THREADS));
    MW_LAUNCH(weigh_block, grid, CUDA_THREADS, 0, cuda_of(backend)->stream, out, weight, w, rows, d, span);
    return cuda_launched("weigh_rows");
}

static __global__ void sum_squares(double *out, const float *x, int64_t count, int64_t span, bool add) {
    int64_t begin = blockIdx.x * span, end = begin + span < count ? begin + span : count;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) sum += (double)x[i] * x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = (add ? out[blockIdx.x] : 0) + sum;
}

mw_status mw_cuda_square_sums(mw_backend *backend, double *out, const float *x, int64_t count, int64_t span, bool add) {
    if (count == 0) return MW_OK;
    MW_LAUNCH(sum_squares, (unsigned)((count + span - 1) / span), CUDA_THREADS, 0, cuda_of(backend)->stream, out, x,
              count, span, add);
    return cuda_launched("square_sums");
}

static __global__ void to_float(float *out, const double *x, int64_t count) {
    EACH(i, count) out[i] = (float)x[i];
}

mw_status mw_cuda_narrow(mw_backend *backend, float *out, const double *x, int64_t count) {
    if (count == 0) return MW_OK;
    MW_LAUNCH(to_float, cuda_blocks(count), CUDA_THREADS, 0, cuda_of(backend)->stream, out, x, count);
    return cuda_launched("narrow");
}

/* ---- vectors ------------------------------------------------------------------------------------------- */

/* A thread block takes a row. */
static __global__ void subtract(float *out, const float *x, const float *row, int64_t d) {
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x)
        out[blockIdx.x * d + i] = x[blockIdx.x * d + i] - (row ? row[i] : 0.0f);
}

mw_status mw_cuda_subtract_row(mw_backend *backend, float *out, const float *x, const float *row, int64_t rows,
                               int64_t d) {
    if (rows * d == 0) return MW_OK;
    MW_LAUNCH(subtract, (unsigned)rows, cuda_threads(d), 0, cuda_of(backend)->stream, out, x, row, d);
    return cuda_launched("subtract_row");
}

static __global__ void scale_columns(float *out, const float *x, const float *factor, int64_t d) {
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) out[blockIdx.x * d + i] = x[blockIdx.x * d + i] * factor[i];
}

mw_status mw_cuda_scale_columns(mw_backend *backend, float *out, const float *x, const float *factor, int64_t rows,
                                int64_t d) {
    if (rows * d == 0) return MW_OK;
    MW_LAUNCH(scale_columns, (unsigned)rows, cuda_threads(d), 0, cuda_of(backend)->stream, out, x, factor, d);
    return cuda_launched("scale_columns");
}

static __global__ void combine(float *out, float a, const float *x, float b, const float *y, int64_t count) {
    EACH(i, count) out[i] = y ? a * x[i] + b * y[i] : a * x[i];
}

mw_status mw_cuda_combine(mw_backend *backend, float *out, float a, const float *x, float b, const float *y,
                          int64_t count) {
    if (count == 0) return MW_OK;
    MW_LAUNCH(combine, cuda_blocks(count), CUDA_THREADS, 0, cuda_of(backend)->stream, out, a, x, b, y, count);
    return cuda_launched("combine");
}

enum { SIDE = 32, SIDE_ROWS = CUDA_THREADS / SIDE };

/* Transposes squares through shared memory, with one more column so that no two threads of a warp use the same bank. */
static __global__ void turn(float *out, const float *x, int64_t rows, int64_t columns) {
    __shared__ float square[SIDE][SIDE + 1];
    int64_t r0 = (int64_t)blockIdx.x * SIDE, c0 = (int64_t)blockIdx.y * SIDE;
    unsigned across = threadIdx.x % SIDE, down = threadIdx.x / SIDE;
    for (unsigned i = down; i < SIDE; i += SIDE_ROWS)
        if (r0 + i < rows && c0 + across < columns) square[i][across] = x[(r0 + i) * columns + c0 + across];
    __syncthreads();
    for (unsigned i = down; i < SIDE; i += SIDE_ROWS)
        if (c0 + i < columns && r0 + across < rows) out[(c0 + i) * rows + r0 + across] = square[across][i];
}

mw_status mw_cuda_transpose(mw_backend *backend, float *out, const float *x, int64_t rows, int64_t columns) {
    if (rows * columns == 0) return MW_OK;
    dim3 grid((unsigned)((rows + SIDE - 1) / SIDE), (unsigned)((columns + SIDE - 1) / SIDE));
    MW_LAUNCH(turn, grid, CUDA_THREADS, 0, cuda_of(backend)->stream, out, x, rows, columns);
    return cuda_launched("transpose");
}

mw_status mw_cuda_fill_zero(mw_backend *backend, void *to, size_t bytes) {
    return bytes ? cuda_checked(cudaMemsetAsync(to, 0, bytes, cuda_of(backend)->stream), "cudaMemset") : MW_OK;
}

/* ---- lengths: a thread block a row --------------------------------------------------------------------- */

typedef struct device_groups {
    int n;
    int64_t end[16];
} device_groups;

static mw_status copy_groups(const mw_column_groups *groups, device_groups *out) {
    if (groups->n > 16)
        return mw_error(MW_ERR_ARG, "a row of %lld column groups, at most 16 are supported", (long long)groups->n);
    out->n = (int)groups->n;
    for (int p = 0; p < out->n; p++) out->end[p] = groups->end[p];
    return MW_OK;
}

static __device__ double length_of(const float *x, int64_t begin, int64_t end) {
    double square = 0;
    for (int64_t j = begin + threadIdx.x; j < end; j += blockDim.x) square += (double)x[j] * x[j];
    return sqrt(block_sum(square));
}

static __global__ void lengths(float *out, const float *w, int64_t d, device_groups groups) {
    double sum = 0;
    for (int64_t k = 0, begin = 0; k < groups.n; begin = groups.end[k++])
        sum += length_of(w + blockIdx.x * d, begin, groups.end[k]);
    if (threadIdx.x == 0) out[blockIdx.x] = (float)sum;
}

mw_status mw_cuda_row_lengths(mw_backend *backend, float *out, const float *w, int64_t rows, int64_t d,
                              const mw_column_groups *groups) {
    device_groups all;
    MW_TRY(copy_groups(groups, &all));
    if (rows == 0) return MW_OK;
    MW_LAUNCH(lengths, (unsigned)rows, cuda_threads(d), 0, cuda_of(backend)->stream, out, w, d, all);
    return cuda_launched("row_lengths");
}

static __global__ void directions(float *g, const double *weight, const float *w, int64_t d, device_groups groups) {
    const float *row = w + blockIdx.x * d;
    for (int64_t k = 0, begin = 0; k < groups.n; begin = groups.end[k++]) {
        double length = length_of(row, begin, groups.end[k]);
        if (!(length > 0)) continue;
        for (int64_t j = begin + threadIdx.x; j < groups.end[k]; j += blockDim.x)
            g[blockIdx.x * d + j] += (float)(weight[blockIdx.x] * row[j] / length);
    }
}

mw_status mw_cuda_add_directions(mw_backend *backend, float *g, const double *weight, const float *w, int64_t rows,
                                 int64_t d, const mw_column_groups *groups) {
    device_groups all;
    MW_TRY(copy_groups(groups, &all));
    if (rows == 0) return MW_OK;
    MW_LAUNCH(directions, (unsigned)rows, cuda_threads(d), 0, cuda_of(backend)->stream, g, weight, w, d, all);
    return cuda_launched("add_directions");
}
