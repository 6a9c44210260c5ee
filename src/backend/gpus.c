/* Finds GPUs and their libraries. */
#include "microw/backend.h"

#ifdef MICROW_HAVE_CUDA
#include "backend/cuda/cuda.h"
#include "backend/cuda/nccl_library.h"
#endif

#include <stdio.h>

mw_status mw_gpus_find(mw_gpus *out) {
    *out = (mw_gpus){0};
#ifdef MICROW_HAVE_CUDA
    mw_status status = mw_cuda_find(out);
#ifdef MICROW_HAVE_NCCL
    mw_nccl_calls call;
    (void)mw_nccl_load(&call, &out->libraries[out->n_libraries++]);
#endif
    return status;
#else
    snprintf(out->problem, sizeof out->problem, "this build has no CUDA");
    return MW_OK;
#endif
}

void mw_gpus_free(mw_gpus *gpus) {
    mw_free(gpus->list);
    *gpus = (mw_gpus){0};
}
