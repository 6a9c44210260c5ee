/* Helpers to read and write SAEs in all formats. */
#ifndef MICROW_SAE_FORMATS_SAE_FILE_H
#define MICROW_SAE_FORMATS_SAE_FILE_H

#include "base/json.h"
#include "microw/safetensors.h"
#include "microw/sae.h"

/* Writes tensors to `folder`/`file`; makes the folder. */
mw_status sae_write_tensors(const char *folder, const char *file, const mw_named_tensor *tensors,
                            int64_t count) MW_MUST_USE;
/* Writes `folder`/`file` and frees `config`; NULL: MW_ERR_MEMORY. */
mw_status sae_write_config(const char *folder, const char *file, json_t *config) MW_MUST_USE;
/* mw_sae_new, after a check that the file `weights` is large enough for the shape: a configuration may be wrong. */
mw_status sae_new_for_file(mw_backend *backend, const mw_sae_shape *shape, const char *weights,
                           mw_sae **out) MW_MUST_USE;
/* MW_ERR_STATE names the first value of x [rows, columns] (columns 0: [rows]) that is not finite. */
mw_status sae_check_values(const char *where, const char *name, const float *x, int64_t rows,
                           int64_t columns) MW_MUST_USE;
/* sae_check_values for all tensors of an SAE, of a shard for its latents. */
mw_status sae_check_finite(const mw_sae *sae, const char *where) MW_MUST_USE;
/* Reads a tensor of shape [rows, columns] (columns 0: [rows]) as f32. MW_ERR_FORMAT: another shape; MW_ERR_STATE: a
 * value that is not finite. */
mw_status sae_read_tensor(const mw_safetensors *file, const char *path, const char *name, int64_t rows, int64_t columns,
                          float *to) MW_MUST_USE;

/* Sets the fingerprint to "weights:HASH", for an SAE that microw did not train. */
mw_status sae_fingerprint_by_hash(mw_sae *sae) MW_MUST_USE;

/* Writes a state dict as torch.save does (a zip file with a pickle), for torch.load(weights_only=True). f32, i32,
 * i64. */
mw_status torch_file_write(const char *path, const mw_named_tensor *tensors, int64_t count) MW_MUST_USE;

#endif
