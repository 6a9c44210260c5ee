/* Loads NCCL. */
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

/* 2.14 is the first version in which ncclCommGetAsyncError may be called during a wait for other ranks. */
enum { NCCL_OLDEST = 21400 };

static void load_function(mw_library *from, const char *name, void *slot) {
    void *function = mw_library_function(from, name);
    memcpy(slot, &function, sizeof function);
}

static void load_functions(mw_library *from, mw_nccl_calls *out) {
    load_function(from, "ncclGetUniqueId", &out->new_id);
    load_function(from, "ncclCommInitRank", &out->open);
    load_function(from, "ncclCommDestroy", &out->close);
    load_function(from, "ncclCommAbort", &out->give_up);
    load_function(from, "ncclCommGetAsyncError", &out->error);
    load_function(from, "ncclGroupStart", &out->begin);
    load_function(from, "ncclGroupEnd", &out->end);
    load_function(from, "ncclBroadcast", &out->broadcast);
    load_function(from, "ncclAllGather", &out->all_gather);
    load_function(from, "ncclSend", &out->send);
    load_function(from, "ncclRecv", &out->receive);
    load_function(from, "ncclGetErrorString", &out->text);
}

bool mw_nccl_load(mw_nccl_calls *out, mw_gpu_library *found) {
    mw_library library;
    __typeof__(&ncclGetVersion) version = NULL;
    *found = (mw_gpu_library){.name = "NCCL", .made_for = NCCL_VERSION_CODE};
    *out = (mw_nccl_calls){0};
    if (mw_library_load("libnccl.so.2", &library)) {
        load_functions(&library, out);
        load_function(&library, "ncclGetVersion", &version);
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
