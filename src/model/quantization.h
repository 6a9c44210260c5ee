/* Weights that are stored as 8-bit floats with scales: quant_method fp8 of transformers (DeepSeek-V3, Qwen3). */
#ifndef MICROW_MODEL_QUANTIZATION_H
#define MICROW_MODEL_QUANTIZATION_H

#include "base/json.h"
#include "microw/tensor.h"

typedef struct mw_quantization {
    bool fp8;              /* matrices may be 8-bit floats: w[i, j] = stored[i, j] * scale[i / rows, j / columns] */
    int64_t rows, columns; /* of a block with one scale; 0: the whole matrix is the block */
} mw_quantization;

/* Reads quantization_config, an object; `path` is for messages. MW_ERR_UNSUPPORTED names another method; MW_ERR_FORMAT
 * for impossible blocks. */
mw_status mw_quantization_read(const char *path, const json_t *config, mw_quantization *out) MW_MUST_USE;
/* Writes the matrix `stored` (MW_F8_E4M3 or MW_F8_E5M2) times its scales to `out`, in `dtype`. MW_ERR_FORMAT for scales
 * of another shape, MW_ERR_UNSUPPORTED for another type of scales or matrix; `name` is for messages. */
mw_status mw_quantization_expand(const mw_quantization *q, const char *name, const mw_tensor *stored,
                                 const mw_tensor *scale, mw_dtype dtype, void *out) MW_MUST_USE;

#endif
