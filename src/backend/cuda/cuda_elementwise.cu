/* Activations, additions, copies and gathers of rows. */
#include "backend/cuda/cuda.h"
#include "backend/formulas.h"

#include <cuda_fp16.h>

static __device__ float activation_of(mw_activation kind, float x) {
    switch (kind) {
    case MW_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case MW_ACT_GELU_ERF:
        return 0.5f * x * (1.0f + erff(x * 0.7071067812f));
    case MW_ACT_SILU:
        return x / (1.0f + expf(-x));
    case MW_ACT_RELU:
        return x > 0 ? x : 0;
    case MW_ACT_RELU_SQUARED:
        return x > 0 ? x * x : 0;
    case MW_ACT_COUNT:
        break;
    }
    return 0;
}

static __global__ void activate(mw_activation kind, float *x, const float *times, __nv_bfloat16 *rounded,
                                int64_t count) {
    EACH(i, count) {
        float y = activation_of(kind, x[i]) * (times ? times[i] : 1.0f);
        write_number(x, rounded, i, y);
    }
}

static __global__ void add(float *x, const float *y, int64_t count) {
    EACH(i, count) x[i] += y[i];
}

static __global__ void soft_cap(float *x, int64_t count, float cap, float inverse_cap) {
    EACH(i, count) x[i] = mw_soft_capped(x[i], cap, inverse_cap);
}

static __global__ void clamp(float *x, int64_t count, float least, float most) {
    EACH(i, count) x[i] = mw_clamped(x[i], least, most);
}

static __global__ void xielu(float *x, int64_t count, mw_xielu constants) {
    EACH(i, count) x[i] = mw_xielu_of(x[i], constants);
}

static __device__ float element(const void *table, mw_dtype dtype, int64_t i) {
    if (dtype == MW_BF16) return __bfloat162float(((const __nv_bfloat16 *)table)[i]);
    if (dtype == MW_F16) return __half2float(((const __half *)table)[i]);
    return ((const float *)table)[i];
}

static __global__ void gather(float *out, const void *table, mw_dtype dtype, const int32_t *index, int64_t rows,
                              int64_t width, float scale, bool add_to) {
    EACH(i, rows * width) {
        float x = scale * element(table, dtype, index[i / width] * width + i % width);
        out[i] = add_to ? out[i] + x : x;
    }
}

mw_status mw_cuda_finish(mw_cuda_state *s, const mw_epilogue *epilogue, float *x, int64_t count) {
    MW_LAUNCH(activate, cuda_blocks(count), CUDA_THREADS, 0, s->stream, epilogue->activation, x, epilogue->times,
              (__nv_bfloat16 *)epilogue->rounded, count);
    return cuda_launched("activate");
}

mw_status mw_cuda_add(mw_backend *backend, float *x, const float *y, int64_t count) {
    if (count == 0) return MW_OK;
    MW_LAUNCH(add, cuda_blocks(count), CUDA_THREADS, 0, cuda_of(backend)->stream, x, y, count);
    return cuda_launched("add");
}

mw_status mw_cuda_soft_cap(mw_backend *backend, float *x, int64_t count, float cap) {
    if (count == 0) return MW_OK;
    MW_LAUNCH(soft_cap, cuda_blocks(count), CUDA_THREADS, 0, cuda_of(backend)->stream, x, count, cap, 1.0f / cap);
    return cuda_launched("soft_cap");
}

mw_status mw_cuda_clamp(mw_backend *backend, float *x, int64_t count, float least, float most) {
    if (count == 0) return MW_OK;
    MW_LAUNCH(clamp, cuda_blocks(count), CUDA_THREADS, 0, cuda_of(backend)->stream, x, count, least, most);
    return cuda_launched("clamp");
}

mw_status mw_cuda_xielu(mw_backend *backend, const mw_xielu *constants, float *x, int64_t count) {
    if (count == 0) return MW_OK;
    MW_LAUNCH(xielu, cuda_blocks(count), CUDA_THREADS, 0, cuda_of(backend)->stream, x, count, *constants);
    return cuda_launched("xielu");
}

/* Contiguous rows are one copy: copies by rows limit strides to 2^31 - 1 bytes. */
mw_status mw_cuda_copy_2d(mw_backend *backend, float *to, int64_t to_stride, const float *from, int64_t from_stride,
                          int64_t rows, int64_t width) {
    if (rows == 0 || width == 0) return MW_OK;
    if (rows == 1 || (to_stride == width && from_stride == width))
        return cuda_checked(cudaMemcpyAsync(to, from, (size_t)(rows * width) * sizeof *to, cudaMemcpyDeviceToDevice,
                                            cuda_of(backend)->stream),
                            "copy on the device");
    return cuda_checked(cudaMemcpy2DAsync(to, (size_t)to_stride * sizeof *to, from, (size_t)from_stride * sizeof *from,
                                          (size_t)width * sizeof *to, (size_t)rows, cudaMemcpyDeviceToDevice,
                                          cuda_of(backend)->stream),
                        "copy on the device");
}

mw_status mw_cuda_gather_rows(mw_backend *backend, float *out, const void *table, mw_dtype dtype, const int32_t *index,
                              int64_t rows, int64_t width, float scale, bool add_to) {
    if (rows == 0) return MW_OK;
    mw_cuda_state *s = cuda_of(backend);
    cuda_scratch<int32_t> indices(s);
    MW_TRY(indices.copy(index, rows));
    MW_LAUNCH(gather, cuda_blocks(rows * width), CUDA_THREADS, 0, s->stream, out, table, dtype, indices.data, rows,
              width, scale, add_to);
    return cuda_launched("gather");
}
