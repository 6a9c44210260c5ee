/* microw/safetensors.h: reads tensors of safetensors files from a memory map, without a copy, and writes such files.
 * Reads also state dicts of torch.save.
 *
 *     mw_safetensors *file = NULL;
 *     mw_tensor w;
 *     MW_TRY(mw_safetensors_open("model.safetensors", &file));
 *     if (mw_safetensors_find(file, "wte.weight", &w)) ...   // w.data points into the map
 *     mw_safetensors_free(&file);
 *
 * Opening checks every offset, size, overlap and name. Tensors of an unused type or of more than MW_DIMS_MAX dimensions
 * are listed but cannot be found. The format lets data begin at any byte: read them with memcpy or mw_convert_to_f32
 * unless the address is a multiple of the type's size. All functions are local to the process.
 */
#ifndef MICROW_SAFETENSORS_H
#define MICROW_SAFETENSORS_H

#include "microw/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_safetensors mw_safetensors;

/* Maps one file; *.bin, *.pt and *.pth are read as files of torch.save, whose checksums are compared and whose tensors
 * are copied unless they are row-major in the file. The pickle in them is read as data: nothing is imported or called.
 * The caller frees *out. Errors: MW_ERR_IO, MW_ERR_FORMAT, MW_ERR_MEMORY; MW_ERR_UNSUPPORTED for files of torch.save
 * with more than tensors, or compressed. */
mw_status mw_safetensors_open(const char *path, mw_safetensors **out) MW_MUST_USE;
/* Maps `folder`/model.safetensors, or the shards that model.safetensors.index.json lists; without either
 * pytorch_model.bin, or those of pytorch_model.bin.index.json. A tensor that is listed but in no shard is absent. Of a
 * tensor in several shards the index decides; MW_ERR_FORMAT if that is not the last shard and the bytes differ. Errors
 * as for one file. */
mw_status mw_safetensors_open_folder(const char *folder, mw_safetensors **out) MW_MUST_USE;
/* Unmaps the files and sets *file to NULL: tensors found in them become invalid. NULL is allowed. */
void mw_safetensors_free(mw_safetensors **file);

/* Finds a tensor: *out is a view into the map, which the file owns. false: no such tensor, or one of an unused type. */
bool mw_safetensors_find(const mw_safetensors *file, const char *name, mw_tensor *out);
/* Returns the stored type of a tensor ("F32", "F8_E4M3"), also of one that cannot be found; NULL: no such tensor. */
const char *mw_safetensors_type(const mw_safetensors *file, const char *name);
/* Returns the number of tensors, those that cannot be found included, and the name of one in 0 .. count - 1, sorted
 * and owned by the file. */
int64_t mw_safetensors_count(const mw_safetensors *file);
const char *mw_safetensors_name(const mw_safetensors *file, int64_t index);
/* Returns a value of `__metadata__`, owned by the file, or NULL. */
const char *mw_safetensors_metadata(const mw_safetensors *file, const char *key);
/* Returns a fast hash of all bytes, computed by all threads: to tell files apart, not to keep. */
uint64_t mw_safetensors_mark(const mw_safetensors *file);
/* Writes the SHA-256 of the one file, or of the shards' digests in name order. Error: MW_ERR_MEMORY. */
mw_status mw_safetensors_hash(const mw_safetensors *file, char out[MW_SHA256_TEXT]) MW_MUST_USE;

typedef struct mw_named_tensor {
    const char *name;
    mw_tensor tensor;
} mw_named_tensor;
/* Appends to `header` the bytes that precede the data and writes offset[count], the byte in the file at which each
 * tensor's data begins: for files that are filled piece by piece. Reads no tensor data. `metadata`: as below.
 * Error: MW_ERR_MEMORY. */
mw_status mw_safetensors_header(const mw_named_tensor *tensors, int64_t count, const char *const *metadata,
                                mw_text *header, uint64_t *offset) MW_MUST_USE;
/* Writes a whole file atomically. `metadata`: pairs of key and value, ended by NULL; may be NULL. Errors: MW_ERR_IO,
 * MW_ERR_MEMORY. */
mw_status mw_safetensors_write(const char *path, const mw_named_tensor *tensors, int64_t count,
                               const char *const *metadata) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
