/* Shared libraries of CUDA, found when they are needed: a program starts without them. */
#ifndef MICROW_BACKEND_CUDA_CUDA_LIBRARY_H
#define MICROW_BACKEND_CUDA_CUDA_LIBRARY_H

#include "microw/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_library {
    void *handle;      /* NULL: not loaded */
    char path[512];    /* of the file */
    char problem[512]; /* why it, or one of its functions, cannot be had; "" */
} mw_library;

/* Looks for `soname` in the folders of MICROW_CUDA_PATH; where the dynamic linker looks (LD_LIBRARY_PATH, as modules set it); below
 * CUDA_HOME, CUDA_PATH and NCCL_HOME; in the toolkit this was built with, /usr/local/cuda; and in the packages nvidia-* of Python's
 * environments: VIRTUAL_ENV, CONDA_PREFIX, that of python3, /usr/local, /usr, ~/.local. Nothing is logged. It stays loaded. */
bool mw_library_load(const char *soname, mw_library *out) MW_MUST_USE;
/* First in the folder of one that is loaded: two that belong together. */
bool mw_library_load_beside(const mw_library *other, const char *soname, mw_library *out) MW_MUST_USE;
/* NULL, with the problem noted, where it has none of that name. */
void *mw_library_function(mw_library *library, const char *name);

#ifdef __cplusplus
}
#endif
#endif
