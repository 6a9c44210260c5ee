/* Shared libraries of CUDA, which are found when they are needed: a program starts without them. */
#ifndef MICROW_BACKEND_CUDA_CUDA_LIBRARY_H
#define MICROW_BACKEND_CUDA_CUDA_LIBRARY_H

#include "microw/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_library {
    void *handle;      /* NULL: not loaded */
    char path[512];    /* of the file */
    char problem[512]; /* why it, or one of its functions, cannot be used; "" */
} mw_library;

/* Loads `soname` from the first of: the folders of MICROW_CUDA_PATH; where the dynamic linker looks (LD_LIBRARY_PATH,
 * as modules set it); CUDA_HOME, CUDA_PATH and NCCL_HOME; the toolkit of the build, /usr/local/cuda; and the packages
 * nvidia-* of Python's environments: VIRTUAL_ENV, CONDA_PREFIX, that of python3, /usr/local, /usr, ~/.local. Logs
 * nothing. The library stays loaded. */
bool mw_library_load(const char *soname, mw_library *out) MW_MUST_USE;
/* As mw_library_load, but first from the folder of another loaded library, to which it belongs. */
bool mw_library_load_beside(const mw_library *other, const char *soname, mw_library *out) MW_MUST_USE;
/* Returns the function of that name; NULL, with `problem` set, if the library lacks it. */
void *mw_library_function(mw_library *library, const char *name);

#ifdef __cplusplus
}
#endif
#endif
