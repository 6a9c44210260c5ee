/* microw/safetensors.h: tensors in files, mapped and not copied.
 *
 *     mw_safetensors *file = NULL;
 *     mw_tensor w;
 *     MW_TRY(mw_safetensors_open("model.safetensors", &file));
 *     if (mw_safetensors_find(file, "wte.weight", &w)) ...   // w.data points into the map
 *     mw_safetensors_free(&file);
 *
 * Every offset, size, overlap and name is checked when the file is opened; tensors of a type or rank we do not
 * use are kept out of the way and cannot be found. The format lets data begin at any byte: only memcpy and
 * mw_convert_to_f32 may read it unless its address is a multiple of its type's size.
 */
#ifndef MICROW_SAFETENSORS_H
#define MICROW_SAFETENSORS_H

#include "microw/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_safetensors mw_safetensors;

/* One file. */
mw_status mw_safetensors_open(const char *path, mw_safetensors **out) MW_MUST_USE;
/* `model.safetensors`, or the shards that `model.safetensors.index.json` lists. */
mw_status mw_safetensors_open_folder(const char *folder, mw_safetensors **out) MW_MUST_USE;
void mw_safetensors_free(mw_safetensors **file);

bool mw_safetensors_find(const mw_safetensors *file, const char *name, mw_tensor *out);
int64_t mw_safetensors_count(const mw_safetensors *file);
const char *mw_safetensors_name(const mw_safetensors *file, int64_t index);
/* Value of `__metadata__`, or NULL. Belongs to the file. */
const char *mw_safetensors_metadata(const mw_safetensors *file, const char *key);
/* A fast hash of all bytes, by all threads: to tell files apart, not to keep. */
uint64_t mw_safetensors_mark(const mw_safetensors *file);
/* SHA-256 of the one file, or of the shards' digests in name order. */
mw_status mw_safetensors_hash(const mw_safetensors *file, char out[MW_SHA256_TEXT]) MW_MUST_USE;

typedef struct mw_named_tensor {
    const char *name;
    mw_tensor tensor;
} mw_named_tensor;
/* The bytes before the data, appended to `head`, and where each tensor's data lies in the file: for files that are filled
 * piece by piece. Tensors need no data. */
mw_status mw_safetensors_header(const mw_named_tensor *tensors, int64_t count, const char *const *metadata,
                                mw_text *header, uint64_t *offset) MW_MUST_USE;
/* Written whole or not at all. `metadata` is pairs of key and value, ended by NULL; may be NULL. */
mw_status mw_safetensors_write(const char *path, const mw_named_tensor *tensors, int64_t count,
                               const char *const *metadata) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
