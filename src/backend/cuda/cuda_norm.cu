/* Norms, rotary embeddings, unit rows and Adam: a thread block a row. */
#include "backend/cuda/cuda.h"
#include "backend/formulas.h"

static __global__ void layer_norm(float *out, __nv_bfloat16 *rounded, const float *x, const float *weight,
                                  const float *bias, int64_t width, float eps) {
    const float *in = x + blockIdx.x * width;
    float sum = 0, square = 0;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) sum += in[i];
    float mean = block_sum(sum) / (float)width;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) square += (in[i] - mean) * (in[i] - mean);
    float scale = 1.0f / sqrtf(block_sum(square) / (float)width + eps);
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
        write_number(out, rounded, blockIdx.x * width + i,
                     (in[i] - mean) * scale * weight[i] + (bias ? bias[i] : 0.0f));
}

static __global__ void rms_norm(float *out, __nv_bfloat16 *rounded, const float *x, const float *weight, int64_t width,
                                float eps) {
    const float *in = x + blockIdx.x * width;
    float square = 0;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) square += in[i] * in[i];
    float scale = 1.0f / sqrtf(block_sum(square) / (float)width + eps);
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
        write_number(out, rounded, blockIdx.x * width + i, in[i] * scale * weight[i]);
}

static __global__ void rotary(float *x, const float *cos_sin, const int32_t *position, int64_t heads, int64_t head_dim,
                              int64_t pairs, int64_t step, int64_t partner) {
    const float *rotation = cos_sin + (int64_t)position[blockIdx.x] * pairs * 2;
    for (int64_t i = threadIdx.x; i < heads * pairs; i += blockDim.x) {
        float *head = x + (blockIdx.x * heads + i / pairs) * head_dim;
        int64_t p = i % pairs;
        float *x0 = head + p * step, *x1 = x0 + partner, c = rotation[2 * p], s = rotation[2 * p + 1], a = *x0, b = *x1;
        *x0 = a * c - b * s;
        *x1 = b * c + a * s;
    }
}

/* Scales the block's row to unit length; returns the component of the gradient along it. Each thread later reads the
 * columns that it wrote. */
static __device__ float unit_row(float *row, const float *grad, int64_t d) {
    float square = 0, along = 0;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) square += row[i] * row[i];
    float norm = sqrtf(block_sum(square)), scale = norm > 0 ? 1.0f / norm : 1.0f;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
        row[i] *= scale;
        if (grad) along += row[i] * grad[i];
    }
    return grad ? block_sum(along) : 0;
}

static __global__ void unit_rows(float *w, float *g, int64_t d) {
    float *row = w + blockIdx.x * d, *grad = g ? g + blockIdx.x * d : nullptr;
    float along = unit_row(row, grad, d);
    for (int64_t i = threadIdx.x; grad && i < d; i += blockDim.x) grad[i] -= along * row[i];
}

static __global__ void adam(float *p, const float *g, float *m, float *v, int64_t count, mw_adam_terms terms) {
    EACH(i, count) mw_adam_element(p + i, g[i], 0.0f, m + i, v + i, &terms);
}

static __global__ void adam_of_unit_rows(float *p, const float *g, float *m, float *v, int64_t d, mw_adam_terms terms) {
    int64_t first = blockIdx.x * d;
    float along = unit_row(p + first, g + first, d);
    for (int64_t i = first + threadIdx.x; i < first + d; i += blockDim.x)
        mw_adam_element(p + i, g[i], along, m + i, v + i, &terms);
}

mw_status mw_cuda_layer_norm(mw_backend *backend, float *out, uint16_t *rounded, const float *x, const float *weight,
                             const float *bias, int64_t rows, int64_t width, float eps) {
    if (rows == 0) return MW_OK;
    MW_LAUNCH(layer_norm, (unsigned)rows, cuda_threads(width), 0, cuda_of(backend)->stream, out,
              (__nv_bfloat16 *)rounded, x, weight, bias, width, eps);
    return cuda_launched("layer_norm");
}

mw_status mw_cuda_rms_norm(mw_backend *backend, float *out, uint16_t *rounded, const float *x, const float *weight,
                           int64_t rows, int64_t width, float eps) {
    if (rows == 0) return MW_OK;
    MW_LAUNCH(rms_norm, (unsigned)rows, cuda_threads(width), 0, cuda_of(backend)->stream, out, (__nv_bfloat16 *)rounded,
              x, weight, width, eps);
    return cuda_launched("rms_norm");
}

mw_status mw_cuda_rotary(mw_backend *backend, float *x, const float *cos_sin, const int32_t *position, int64_t rows,
                         int64_t heads, int64_t head_dim, int64_t pairs, bool interleaved) {
    if (rows == 0) return MW_OK;
    mw_cuda_state *s = cuda_of(backend);
    cuda_scratch<int32_t> positions(s);
    MW_TRY(positions.copy(position, rows));
    MW_LAUNCH(rotary, (unsigned)rows, cuda_threads(heads * pairs), 0, s->stream, x, cos_sin, positions.data, heads,
              head_dim, pairs, (int64_t)(interleaved ? 2 : 1), interleaved ? (int64_t)1 : pairs);
    return cuda_launched("rotary");
}

mw_status mw_cuda_unit_rows(mw_backend *backend, float *w, float *g, int64_t rows, int64_t d) {
    if (rows == 0) return MW_OK;
    MW_LAUNCH(unit_rows, (unsigned)rows, cuda_threads(d), 0, cuda_of(backend)->stream, w, g, d);
    return cuda_launched("unit_rows");
}

mw_status mw_cuda_adam(mw_backend *backend, float *param, const float *grad, float *m, float *v, int64_t rows,
                       int64_t d, const mw_adam *options) {
    const mw_adam_terms terms = mw_adam_terms_of(options);
    cudaStream_t stream = cuda_of(backend)->stream;
    if (rows * d == 0) return MW_OK;
    if (options->unit)
        MW_LAUNCH(adam_of_unit_rows, (unsigned)rows, cuda_threads(d), 0, stream, param, grad, m, v, d, terms);
    else
        MW_LAUNCH(adam, cuda_blocks(rows * d), CUDA_THREADS, 0, stream, param, grad, m, v, rows * d, terms);
    return cuda_launched("adam");
}
