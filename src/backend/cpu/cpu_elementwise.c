/* Activations, additions, copies, conversions and gathers of rows. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"
#include "backend/formulas.h"

#include <string.h>

enum { RUN = 4096 }; /* elements of a loop iteration */

static int64_t run_length(int64_t count, int64_t at) {
    return count - at < RUN ? count - at : RUN;
}

void mw_activate_run(mw_activation kind, float *x, int64_t n) {
    switch (kind) {
    case MW_ACT_GELU_TANH:
        mw_gelu_tanh(x, n);
        return;
    case MW_ACT_GELU_ERF:
        mw_gelu_erf(x, n);
        return;
    case MW_ACT_SILU:
        mw_silu(x, n);
        return;
    case MW_ACT_RELU:
        mw_relu(x, n);
        return;
    case MW_ACT_RELU_SQUARED:
        mw_relu(x, n);
        mw_multiply(x, x, n);
        return;
    case MW_ACT_COUNT:
        return;
    }
}

mw_status mw_cpu_add(mw_backend *backend, float *x, const float *y, int64_t count) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < count; at += RUN) mw_add_run(x + at, y + at, run_length(count, at));
    return MW_OK;
}

mw_status mw_cpu_soft_cap(mw_backend *backend, float *x, int64_t count, float cap) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < count; at += RUN) mw_soft_cap_run(x + at, cap, run_length(count, at));
    return MW_OK;
}

mw_status mw_cpu_clamp(mw_backend *backend, float *x, int64_t count, float least, float most) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) x[i] = mw_clamped(x[i], least, most);
    return MW_OK;
}

mw_status mw_cpu_xielu(mw_backend *backend, const mw_xielu *constants, float *x, int64_t count) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) x[i] = mw_xielu_of(x[i], *constants);
    return MW_OK;
}

mw_status mw_cpu_copy_2d(mw_backend *backend, float *to, int64_t to_stride, const float *from, int64_t from_stride,
                         int64_t rows, int64_t width) {
    (void)backend;
    for (int64_t r = 0; r < rows; r++) memcpy(to + r * to_stride, from + r * from_stride, (size_t)width * sizeof *to);
    return MW_OK;
}

mw_status mw_cpu_gather_rows(mw_backend *backend, float *out, const void *table, mw_dtype dtype, const int32_t *index,
                             int64_t rows, int64_t width, float scale, bool add) {
    (void)backend;
    float *row = mw_alloc((size_t)width * sizeof *row);
    if (!row) return MW_ERR_MEMORY;
    mw_status status = MW_OK;
    size_t bytes = (size_t)width * mw_dtype_size(dtype);
    for (int64_t r = 0; r < rows && status == MW_OK; r++) {
        status = mw_convert_to_f32(dtype, (const char *)table + (size_t)index[r] * bytes, width, row);
        if (!add) memset(out + r * width, 0, (size_t)width * sizeof *row);
        if (status == MW_OK) mw_axpy(scale, row, out + r * width, width);
    }
    mw_free(row);
    return status;
}

mw_status mw_cpu_convert(mw_backend *backend, mw_dtype dtype, void *out, const float *x, int64_t count) {
    (void)backend;
    MW_TRY(mw_convert_from_f32(dtype, x, 0, out)); /* fails for a dtype without conversion */
    mw_status worst = MW_OK;
#pragma omp parallel for schedule(static) reduction(max : worst)
    for (int64_t at = 0; at < count; at += RUN) {
        int64_t n = run_length(count, at);
        mw_status status = mw_convert_from_f32(dtype, x + at, n, (char *)out + (size_t)at * mw_dtype_size(dtype));
        worst = status > worst ? status : worst;
    }
    return worst;
}
