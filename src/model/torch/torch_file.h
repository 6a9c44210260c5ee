/* Reads state dicts that torch.save wrote: a zip archive, or before torch 1.6 pickles that the storages follow. */
#ifndef MICROW_MODEL_TORCH_TORCH_FILE_H
#define MICROW_MODEL_TORCH_TORCH_FILE_H

#include "microw/tensor.h"

/* A tensor of the file. */
typedef struct torch_tensor {
    char *name;
    const char *type; /* as in safetensors files: "F32", "BOOL"; "EXPANDED" for a view with more elements than its
                       * storage, whose count is 0; static */
    int bits;         /* of an element */
    int ndim;
    const int64_t *shape, *stride; /* [ndim], owned by the file's description; stride counts elements */
    const void *data;              /* the first element, in the map */
    int64_t count;                 /* elements */
    bool dense;                    /* row-major without holes */
} torch_tensor;

/* Calls `add` for each tensor of the mapped file. `add` takes ownership of the name, also when it fails. Entries of the
 * state dict that are no tensors are passed over. Errors: MW_ERR_FORMAT for damage, MW_ERR_UNSUPPORTED for what the
 * pickle has beside tensors of torch, those of `add`, MW_ERR_MEMORY. */
mw_status torch_file_read(const char *path, const mw_map *map, mw_status (*add)(void *self, const torch_tensor *t),
                          void *self) MW_MUST_USE;

#endif
