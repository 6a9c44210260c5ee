/* What goes on beside the stream of the operations: copies from the device and to it, and exchanges with other GPUs. Each has a stream
 * of its own; events say what of the operations must be done before, and what operations wait for. */
#include "backend/cuda/cuda.h"

#include <string.h>

static mw_status new_event(cudaEvent_t *out) {
    return cuda_checked(cudaEventCreateWithFlags(out, cudaEventDisableTiming), "cudaEventCreate");
}

static mw_status new_stream(cudaStream_t *out) {
    return cuda_checked(cudaStreamCreateWithFlags(out, cudaStreamNonBlocking), "cudaStreamCreate");
}

mw_status mw_cuda_open_streams(mw_cuda_state *s) {
    MW_TRY(new_stream(&s->copies));
    MW_TRY(new_stream(&s->arrivals));
    MW_TRY(new_stream(&s->exchanges));
    MW_TRY(new_event(&s->asked));
    MW_TRY(new_event(&s->marked));
    MW_TRY(new_event(&s->left));
    for (int i = 0; i < MW_COPY_SLOTS; i++) MW_TRY(new_event(&s->done[i]));
    for (int i = 0; i < MW_CUDA_EXCHANGES; i++) MW_TRY(new_event(&s->exchanged[i]));
    for (int i = 0; i < 2; i++) {
        MW_TRY(new_event(&s->staging.arrived[i]));
        MW_TRY(cuda_checked(cudaMallocHost((void **)&s->staging.half[i], MW_CUDA_STAGING), "cudaMallocHost"));
    }
    return MW_OK;
}

/* When all is done: copies still under way read the host memory that is freed here. */
void mw_cuda_close_streams(mw_cuda_state *s) {
    if (s->stream) cudaStreamSynchronize(s->stream);
    const cudaEvent_t some[] = {s->asked, s->marked, s->left};
    const cudaStream_t streams[] = {s->copies, s->arrivals, s->exchanges};
    for (int i = 0; i < MW_COPY_SLOTS; i++)
        if (s->done[i]) cudaEventDestroy(s->done[i]);
    for (int i = 0; i < MW_CUDA_EXCHANGES; i++)
        if (s->exchanged[i]) cudaEventDestroy(s->exchanged[i]);
    for (int i = 0; i < 2; i++) {
        if (s->staging.half[i]) cudaFreeHost(s->staging.half[i]);
        if (s->staging.arrived[i]) cudaEventDestroy(s->staging.arrived[i]);
    }
    for (cudaEvent_t event : some)
        if (event) cudaEventDestroy(event);
    for (cudaStream_t stream : streams)
        if (stream) cudaStreamDestroy(stream);
}

/* `to` goes on when all that was asked of `from` so far is done. */
static mw_status follow(cudaStream_t to, cudaStream_t from, cudaEvent_t event) {
    MW_TRY(cuda_checked(cudaEventRecord(event, from), "cudaEventRecord"));
    return cuda_checked(cudaStreamWaitEvent(to, event, 0), "cudaStreamWaitEvent");
}

/* ---- from the device ----------------------------------------------------------------------------------------- */

mw_status mw_cuda_fetch(mw_backend *backend, int lane, void *to, const void *from, size_t bytes) {
    mw_cuda_state *s = cuda_of(backend);
    MW_TRY(follow(s->copies, s->stream, s->asked));
    MW_TRY(cuda_checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s->copies), "copy from the device"));
    return cuda_checked(cudaEventRecord(s->done[lane], s->copies), "cudaEventRecord");
}

mw_status mw_cuda_fetched(mw_backend *backend, int lane) {
    return cuda_checked(cudaEventSynchronize(cuda_of(backend)->done[lane]), "copy from the device");
}

/* ---- to the device ------------------------------------------------------------------------------------------- */

/* The other half, when all that came from it has arrived. */
static mw_status turn_over(mw_cuda_state *s) {
    mw_cuda_staging *g = &s->staging;
    MW_TRY(cuda_checked(cudaEventRecord(g->arrived[g->now], s->stream), "cudaEventRecord"));
    g->now = 1 - g->now;
    g->used = 0;
    return cuda_checked(cudaEventSynchronize(g->arrived[g->now]), "copy to the device");
}

static mw_status stage_piece(mw_cuda_state *s, char *to, const char *from, size_t bytes) {
    enum { ALIGNMENT = 256 };
    mw_cuda_staging *g = &s->staging;
    if (g->used + bytes > MW_CUDA_STAGING) MW_TRY(turn_over(s));
    char *place = g->half[g->now] + g->used;
    memcpy(place, from, bytes);
    g->used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return cuda_checked(cudaMemcpyAsync(to, place, bytes, cudaMemcpyHostToDevice, s->stream), "copy to the device");
}

/* Piece by piece: whether a copy from the caller's own memory has read it when the call returns depends on the kind of that memory,
 * and of the machine. */
mw_status mw_cuda_stage(mw_cuda_state *s, void *to, const void *from, size_t bytes) {
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < MW_CUDA_STAGING ? bytes - at : (size_t)MW_CUDA_STAGING;
        MW_TRY(stage_piece(s, (char *)to + at, (const char *)from + at, n));
    }
    return MW_OK;
}

mw_status mw_cuda_mark(mw_backend *backend) {
    mw_cuda_state *s = cuda_of(backend);
    return cuda_checked(cudaEventRecord(s->marked, s->stream), "cudaEventRecord");
}

mw_status mw_cuda_send(mw_backend *backend, void *to, const void *from, size_t bytes) {
    mw_cuda_state *s = cuda_of(backend);
    MW_TRY(mw_cuda_bind(backend)); /* this may be another thread */
    MW_TRY(cuda_checked(cudaStreamWaitEvent(s->arrivals, s->marked, 0), "cudaStreamWaitEvent"));
    MW_TRY(cuda_checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, s->arrivals), "copy to the device"));
    return cuda_checked(cudaStreamSynchronize(s->arrivals), "copy to the device");
}

/* ---- between GPUs -------------------------------------------------------------------------------------------- */

mw_status mw_cuda_exchange(mw_backend *backend, void **stream) {
    mw_cuda_state *s = cuda_of(backend);
    *stream = s->exchanges;
    return follow(s->exchanges, s->stream, s->left);
}

mw_status mw_cuda_exchange_asked(mw_backend *backend, int lane) {
    mw_cuda_state *s = cuda_of(backend);
    return cuda_checked(cudaEventRecord(s->exchanged[lane], s->exchanges), "cudaEventRecord");
}

mw_status mw_cuda_exchanged(mw_backend *backend, int lane) {
    mw_cuda_state *s = cuda_of(backend);
    return cuda_checked(cudaStreamWaitEvent(s->stream, s->exchanged[lane], 0), "cudaStreamWaitEvent");
}
