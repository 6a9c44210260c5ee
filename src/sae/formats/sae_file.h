/* What reading and writing SAEs in several formats shares. */
#ifndef MICROW_SAE_FORMATS_SAE_FILE_H
#define MICROW_SAE_FORMATS_SAE_FILE_H

#include "base/json.h"
#include "microw/safetensors.h"
#include "microw/sae.h"

/* Tensors of an SAE, in a folder that is made. */
mw_status sae_write_tensors(const char *folder, const char *file, const mw_named_tensor *tensors,
                            int64_t count) MW_MUST_USE;
/* `folder`/`file`; takes over the reference. NULL counts as out of memory. */
mw_status sae_write_config(const char *folder, const char *file, json_t *config) MW_MUST_USE;
/* mw_sae_new, unless `weights` is too small to hold such an SAE: what a configuration says is not yet true. */
mw_status sae_new_for_file(mw_backend *backend, const mw_sae_shape *shape, const char *weights,
                           mw_sae **out) MW_MUST_USE;
/* MW_ERR_STATE names the first of x [rows, columns] (columns 0: [rows]) that is not finite; of all tensors of an SAE. */
mw_status sae_check_values(const char *where, const char *name, const float *x, int64_t rows,
                           int64_t columns) MW_MUST_USE;
mw_status sae_check_finite(const mw_sae *sae, const char *where) MW_MUST_USE;
/* Copies a tensor of this shape (columns 0: one dimension) as f32; its values must be finite. */
mw_status sae_read_tensor(const mw_safetensors *file, const char *path, const char *name, int64_t rows, int64_t columns,
                          float *to) MW_MUST_USE;

/* A fingerprint by its weights, for one that was not trained here. */
mw_status sae_fingerprint_by_hash(mw_sae *sae) MW_MUST_USE;

/* A state dict as torch.save writes it (a zip file with a pickle), for torch.load with weights_only. f32, i32 and i64. */
mw_status torch_file_write(const char *path, const mw_named_tensor *tensors, int64_t count) MW_MUST_USE;

#endif
