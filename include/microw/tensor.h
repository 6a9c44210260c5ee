/* microw/tensor.h: element types and row-major views.
 *
 *     float data[6] = {0};
 *     mw_tensor x = mw_tensor_2d(MW_F32, data, 2, 3);   // 2 rows of width 3; a view never owns its data
 */
#ifndef MICROW_TENSOR_H
#define MICROW_TENSOR_H

#include "microw/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* MW_F8_E4M3 has no infinities (OCP 8-bit floating point, e4m3fn). */
typedef enum mw_dtype {
    MW_F32,
    MW_BF16,
    MW_F16,
    MW_F64,
    MW_I64,
    MW_I32,
    MW_U32,
    MW_U8,
    MW_F8_E4M3,
    MW_F8_E5M2
} mw_dtype;

enum { MW_DIMS_MAX = 4 };

typedef struct mw_tensor {
    mw_dtype dtype;
    int ndim;
    int64_t shape[MW_DIMS_MAX];
    void *data;
} mw_tensor;

size_t mw_dtype_size(mw_dtype dtype);      /* bytes of an element */
const char *mw_dtype_name(mw_dtype dtype); /* "f32", "bf16", ...; static */
/* Convert between f32 and the 16-bit floats: to nearest, ties to even; NaN stays NaN. */
uint16_t mw_f32_to_bf16(float x);
float mw_bf16_to_f32(uint16_t x);
uint16_t mw_f32_to_f16(float x);
float mw_f16_to_f32(uint16_t x);
/* Converts `count` numbers to f32. `in`: MW_F32, MW_BF16, MW_F16, MW_F64 or 8-bit floats, at any address; `out` does
 * not overlap it.
 * MW_ERR_UNSUPPORTED: another dtype. */
mw_status mw_convert_to_f32(mw_dtype dtype, const void *in, int64_t count, float *out) MW_MUST_USE;
/* Rounds `count` numbers to bf16, halves to even. */
void mw_round_bf16(const float *in, int64_t count, uint16_t *out);
/* Converts `count` numbers from f32 to MW_F32, MW_BF16 or MW_F16. MW_ERR_UNSUPPORTED: another dtype. */
mw_status mw_convert_from_f32(mw_dtype dtype, const float *in, int64_t count, void *out) MW_MUST_USE;

/* Returns the index of the first value that is not finite; `count` if all are finite. */
int64_t mw_first_not_finite(const float *x, int64_t count);

/* Views of data that the caller owns; tensors have no memory to free. */
mw_tensor mw_tensor_1d(mw_dtype dtype, void *data, int64_t n);
mw_tensor mw_tensor_2d(mw_dtype dtype, void *data, int64_t rows, int64_t columns);
int64_t mw_tensor_count(const mw_tensor *tensor); /* number of elements */

#ifdef __cplusplus
}
#endif
#endif
