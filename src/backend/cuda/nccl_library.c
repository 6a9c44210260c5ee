#include "backend/cuda/nccl_library.h"

#ifdef MICROW_HAVE_NCCL
#include <string.h>

#ifdef MICROW_CUDA_EMULATED

bool mw_nccl_load(mw_nccl_calls *out, mw_gpu_library *found) {
    *out = (mw_nccl_calls){ncclGetUniqueId,       ncclCommInitRank, ncclCommDestroy, ncclCommAbort,
                           ncclCommGetAsyncError, ncclGroupStart,   ncclGroupEnd,    ncclBroadcast,
                           ncclAllGather,         ncclSend,         ncclRecv,        ncclGetErrorString};
    *found = (mw_gpu_library){.name = "NCCL"};
    return true;
}

#else
#include "backend/cuda/cuda_library.h"

#include <stdio.h>

/* Errors are asked for while others are waited for since 2.14. */
enum { NCCL_OLDEST = 21400 };

static void take(mw_library *from, const char *name, void *slot) {
    void *function = mw_library_function(from, name);
    memcpy(slot, &function, sizeof function);
}

static void take_all(mw_library *from, mw_nccl_calls *out) {
    take(from, "ncclGetUniqueId", &out->new_id);
    take(from, "ncclCommInitRank", &out->open);
    take(from, "ncclCommDestroy", &out->close);
    take(from, "ncclCommAbort", &out->give_up);
    take(from, "ncclCommGetAsyncError", &out->error);
    take(from, "ncclGroupStart", &out->begin);
    take(from, "ncclGroupEnd", &out->end);
    take(from, "ncclBroadcast", &out->broadcast);
    take(from, "ncclAllGather", &out->all_gather);
    take(from, "ncclSend", &out->send);
    take(from, "ncclRecv", &out->receive);
    take(from, "ncclGetErrorString", &out->text);
}

bool mw_nccl_load(mw_nccl_calls *out, mw_gpu_library *found) {
    mw_library library;
    __typeof__(&ncclGetVersion) version = NULL;
    *found = (mw_gpu_library){.name = "NCCL", .made_for = NCCL_VERSION_CODE};
    *out = (mw_nccl_calls){0};
    if (mw_library_load("libnccl.so.2", &library)) {
        take_all(&library, out);
        take(&library, "ncclGetVersion", &version);
    }
    if (version && version(&found->found) != ncclSuccess) found->found = 0;
    if (!library.problem[0] && found->found < NCCL_OLDEST)
        snprintf(library.problem, sizeof library.problem, "%.400s is older than NCCL 2.14", library.path);
    memcpy(found->path, library.path, sizeof found->path);
    memcpy(found->problem, library.problem, sizeof found->problem);
    return !found->problem[0];
}

#endif
#endif
