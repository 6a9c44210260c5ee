/* Weights that are stored as 8-bit floats with scales. Each product is computed in f32 and rounded once, as
 * transformers 5.24 does without a GPU (integrations/finegrained_fp8.py); activations are not quantized. */
#include "model/quantization.h"

#include <string.h>

static mw_status read_block(const char *path, const json_t *config, mw_quantization *out) {
    const json_t *block = json_object_get(config, "weight_block_size");
    int64_t *const sides[] = {&out->rows, &out->columns};
    *out = (mw_quantization){true, 128, 128};
    if (!block) return MW_OK;
    out->rows = out->columns = 0;
    if (json_is_null(block)) return MW_OK;
    for (size_t i = 0; i < 2; i++) {
        const json_t *side = json_array_get(block, i);
        *sides[i] = json_integer_value(side);
        if (json_array_size(block) != 2 || !json_is_integer(side) || *sides[i] < 1)
            return mw_error(MW_ERR_FORMAT, "%s: 'weight_block_size': expected two whole numbers from 1 on", path);
    }
    return MW_OK;
}

mw_status mw_quantization_read(const char *path, const json_t *config, mw_quantization *out) {
    const char *method = mw_json_text(config, "quant_method");
    if (method && strcmp(method, "fp8") == 0) return read_block(path, config, out);
    return mw_error(MW_ERR_UNSUPPORTED, "%s: the model is quantized by %s, which is not supported", path,
                    method ? method : "an unnamed method");
}

/* ---- expansion ------------------------------------------------------------------------------------------- */

static int64_t blocks(int64_t size, int64_t block) {
    return block ? (size + block - 1) / block : 1;
}

static bool is_real(mw_dtype dtype) {
    return dtype == MW_F32 || dtype == MW_BF16 || dtype == MW_F16;
}

/* A single scale may have no dimension. */
static mw_status check_scale(const mw_quantization *q, const char *name, const mw_tensor *w, const mw_tensor *scale) {
    int64_t rows = blocks(w->shape[0], q->rows), columns = blocks(w->shape[1], q->columns);
    if (!is_real(scale->dtype))
        return mw_error(MW_ERR_UNSUPPORTED, "weight '%s': scales of type %s are not supported", name,
                        mw_dtype_name(scale->dtype));
    bool grid = scale->ndim == 2 && scale->shape[0] == rows && scale->shape[1] == columns;
    if (grid || (!q->rows && mw_tensor_count(scale) == 1)) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "weight '%s': expected [%lld, %lld] scales, found %d dimensions, %lld elements",
                    name, (long long)rows, (long long)columns, scale->ndim, (long long)mw_tensor_count(scale));
}

/* Multiplies the columns [at, at + n) of a row by their scale. */
static mw_status expand_run(const mw_tensor *w, int64_t first, int64_t n, float scale, mw_dtype dtype, void *out) {
    enum { RUN = 1024 };
    float run[RUN];
    for (int64_t at = first; at < first + n; at += RUN) {
        int64_t count = first + n - at < RUN ? first + n - at : RUN;
        MW_TRY(mw_convert_to_f32(w->dtype, (const char *)w->data + (size_t)at, count, run));
        for (int64_t i = 0; i < count; i++) run[i] *= scale;
        MW_TRY(mw_convert_from_f32(dtype, run, count, (char *)out + (size_t)at * mw_dtype_size(dtype)));
    }
    return MW_OK;
}

static mw_status expand_row(const mw_quantization *q, const mw_tensor *w, int64_t row, const float *scales,
                            mw_dtype dtype, void *out) {
    int64_t width = w->shape[1], block = q->columns ? q->columns : width;
    for (int64_t at = 0; at < width; at += block) {
        int64_t n = width - at < block ? width - at : block;
        MW_TRY(expand_run(w, row * width + at, n, scales[at / block], dtype, out));
    }
    return MW_OK;
}

mw_status mw_quantization_expand(const mw_quantization *q, const char *name, const mw_tensor *stored,
                                 const mw_tensor *scale, mw_dtype dtype, void *out) {
    MW_TRY(check_scale(q, name, stored, scale));
    int64_t columns = blocks(stored->shape[1], q->columns), count = mw_tensor_count(scale);
    float *scales = mw_alloc((size_t)count * sizeof *scales);
    mw_status worst = scales ? mw_convert_to_f32(scale->dtype, scale->data, count, scales) : MW_ERR_MEMORY;
    int64_t rows = worst == MW_OK ? stored->shape[0] : 0;
#pragma omp parallel for reduction(max : worst)
    for (int64_t row = 0; row < rows; row++) {
        const float *own = scales + (q->rows ? row / q->rows * columns : 0);
        mw_status status = expand_row(q, stored, row, own, dtype, out);
        worst = status > worst ? status : worst;
    }
    mw_free(scales);
    return worst;
}
