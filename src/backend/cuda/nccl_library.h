/* NCCL, which is loaded when ranks with a GPU each first exchange device memory. */
#ifndef MICROW_BACKEND_CUDA_NCCL_LIBRARY_H
#define MICROW_BACKEND_CUDA_NCCL_LIBRARY_H

#include "microw/backend.h"

#ifdef MICROW_HAVE_NCCL
#include <nccl.h>

typedef struct mw_nccl_calls {
    __typeof__(&ncclGetUniqueId) new_id;
    __typeof__(&ncclCommInitRank) open;
    __typeof__(&ncclCommDestroy) close;
    __typeof__(&ncclCommAbort) give_up;
    __typeof__(&ncclCommGetAsyncError) error;
    __typeof__(&ncclGroupStart) begin;
    __typeof__(&ncclGroupEnd) end;
    __typeof__(&ncclBroadcast) broadcast;
    __typeof__(&ncclAllGather) all_gather;
    __typeof__(&ncclSend) send;
    __typeof__(&ncclRecv) receive;
    __typeof__(&ncclGetErrorString) text;
} mw_nccl_calls;

/* Loads NCCL; returns false where it cannot be used, and `found` says why. */
bool mw_nccl_load(mw_nccl_calls *out, mw_gpu_library *found);
#endif

#endif
