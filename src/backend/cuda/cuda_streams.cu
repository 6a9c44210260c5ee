/* Copies from and to the device, and exchanges with other GPUs, that run beside the stream of the operations. Each kind
 * has its own stream; events order them after operations, and operations after them. */
#include "backend/cuda/cuda.h"

#include <string.h>

static mw_status new_event(cudaEvent_t *out) {
    return cuda_checked(cudaEventCreateWithFlags(out, cudaEventDisableTiming), "cudaEventCreate");
}

static mw_status new_stream(cudaStream_t *out) {
    return cuda_checked(cudaStreamCreateWithFlags(out, cudaStreamNonBlocking), "cudaStreamCreate");
}

mw_status mw_cuda_open_streams(mw_cuda_state *s) {
    MW_TRY(new_stream(&s->fetch_stream));
    MW_TRY(new_stream(&s->send_stream));
    MW_TRY(new_stream(&s->exchange_stream));
    MW_TRY(new_event(&s->before_fetch));
    MW_TRY(new_event(&s->marked));
    MW_TRY(new_event(&s->before_exchange));
    for (int i = 0; i < MW_COPY_SLOTS; i++) MW_TRY(new_event(&s->fetched[i]));
    for (int i = 0; i < MW_CUDA_REQUESTS; i++) MW_TRY(new_event(&s->exchanged[i]));
    for (int i = 0; i < 2; i++) {
        MW_TRY(new_event(&s->staging.arrived[i]));
        MW_TRY(cuda_checked(cudaMallocHost((void **)&s->staging.half[i], MW_CUDA_STAGING), "cudaMallocHost"));
    }
    return MW_OK;
}

/* Waits for the device first: copies in flight read the host memory that is freed here. */
void mw_cuda_close_streams(mw_cuda_state *s) {
    if (s->stream) cudaStreamSynchronize(s->stream);
    const cudaEvent_t events[] = {s->before_fetch, s->marked, s->before_exchange};
    const cudaStream_t streams[] = {s->fetch_stream, s->send_stream, s->exchange_stream};
    for (int i = 0; i < MW_COPY_SLOTS; i++)
        if (s->fetched[i]) cudaEventDestroy(s->fetched[i]);
    for (int i = 0; i < MW_CUDA_REQUESTS; i++)
        if (s->exchanged[i]) cudaEventDestroy(s->exchanged[i]);
    for (int i = 0; i < 2; i++) {
        if (s->staging.half[i]) cudaFreeHost(s->staging.half[i]);
        if (s->staging.arrived[i]) cudaEventDestroy(s->staging.arrived[i]);
    }
    for (cudaEvent_t event : events)
        if (event) cudaEventDestroy(event);
    for (cudaStream_t stream : streams)
        if (stream) cudaStreamDestroy(stream);
}

/* Makes later work of `to` wait for all work of `from` so far. */
static mw_status follow(cudaStream_t to, cudaStream_t from, cudaEvent_t event) {
    MW_TRY(cuda_checked(cudaEventRecord(event, from), "cudaEventRecord"));
    return cuda_checked(cudaStreamWaitEvent(to, event, 0), "cudaStreamWaitEvent");
}

/* ---- from the device ----------------------------------------------------------------------------------- */

mw_status mw_cuda_fetch(mw_backend *backend, int slot, void *to, const void *from, size_t bytes) {
    mw_cuda_state *s = cuda_of(backend);
    MW_TRY(follow(s->fetch_stream, s->stream, s->before_fetch));
    MW_TRY(cuda_checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s->fetch_stream),
                        "copy from the device"));
    return cuda_checked(cudaEventRecord(s->fetched[slot], s->fetch_stream), "cudaEventRecord");
}

mw_status mw_cuda_fetched(mw_backend *backend, int slot) {
    return cuda_checked(cudaEventSynchronize(cuda_of(backend)->fetched[slot]), "copy from the device");
}

/* ---- to the device ------------------------------------------------------------------------------------- */

/* Switches to the other half, once all copies from it have arrived. */
static mw_status switch_half(mw_cuda_state *s) {
    mw_cuda_staging *g = &s->staging;
    MW_TRY(cuda_checked(cudaEventRecord(g->arrived[g->current], s->stream), "cudaEventRecord"));
    g->current = 1 - g->current;
    g->used = 0;
    return cuda_checked(cudaEventSynchronize(g->arrived[g->current]), "copy to the device");
}

static mw_status stage_piece(mw_cuda_state *s, char *to, const char *from, size_t bytes) {
    enum { ALIGNMENT = 256 };
    mw_cuda_staging *g = &s->staging;
    if (g->used + bytes > MW_CUDA_STAGING) MW_TRY(switch_half(s));
    char *piece = g->half[g->current] + g->used;
    memcpy(piece, from, bytes);
    g->used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return cuda_checked(cudaMemcpyAsync(to, piece, bytes, cudaMemcpyHostToDevice, s->stream), "copy to the device");
}

/* Copies through pinned memory, because it depends on the kind of the caller's memory and on the machine whether a
 * direct copy has read that memory when the call returns. */
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
    MW_TRY(mw_cuda_bind(backend)); /* the calling thread may be another one */
    MW_TRY(cuda_checked(cudaStreamWaitEvent(s->send_stream, s->marked, 0), "cudaStreamWaitEvent"));
    MW_TRY(
        cuda_checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, s->send_stream), "copy to the device"));
    return cuda_checked(cudaStreamSynchronize(s->send_stream), "copy to the device");
}

/* ---- between GPUs -------------------------------------------------------------------------------------- */

mw_status mw_cuda_begin_exchange(mw_backend *backend, void **stream) {
    mw_cuda_state *s = cuda_of(backend);
    *stream = s->exchange_stream;
    return follow(s->exchange_stream, s->stream, s->before_exchange);
}

mw_status mw_cuda_record_request(mw_backend *backend, int request) {
    mw_cuda_state *s = cuda_of(backend);
    return cuda_checked(cudaEventRecord(s->exchanged[request], s->exchange_stream), "cudaEventRecord");
}

mw_status mw_cuda_wait_request(mw_backend *backend, int request) {
    mw_cuda_state *s = cuda_of(backend);
    return cuda_checked(cudaStreamWaitEvent(s->stream, s->exchanged[request], 0), "cudaStreamWaitEvent");
}
