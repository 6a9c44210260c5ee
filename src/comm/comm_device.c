/* Collectives on a device's memory: by NCCL if every rank has its own GPU, else through the host. */
#include "comm/comm_nccl.h"

/* Uploads the other ranks' bytes, which are before and after this rank's own. */
static mw_status upload_others(mw_backend *backend, const char *host, char *data, size_t before, size_t own,
                               size_t total) {
    if (before) MW_TRY(backend->ops->upload(backend, data, host, before));
    if (before + own == total) return MW_OK;
    return backend->ops->upload(backend, data + before + own, host + before + own, total - before - own);
}

static mw_status allgather_by_host(const mw_comm *comm, mw_backend *backend, const size_t *bytes, char *data) {
    size_t before = 0, own = bytes[mw_comm_rank(comm)], total = 0;
    for (int r = 0; r < mw_comm_size(comm); r++) {
        if (r < mw_comm_rank(comm)) before += bytes[r];
        total += bytes[r];
    }
    char *host = mw_alloc(total ? total : 1);
    mw_status status = host ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && own) status = backend->ops->download(backend, host + before, data + before, own);
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = mw_comm_allgatherv(comm, NULL, bytes, host);
    if (status == MW_OK) status = mw_comm_agree(comm, upload_others(backend, host, data, before, own, total));
    mw_free(host);
    return status;
}

/* Sets `out` to the communicator's NCCL; NULL: through the host. */
static mw_status find_nccl(const mw_comm *comm, mw_backend *backend, mw_nccl **out) {
    mw_comm_device *device = mw_comm_device_of(comm);
    if (!device->known) {
        MW_TRY(mw_nccl_open(comm, backend, &device->nccl));
        device->known = true;
    }
    *out = device->nccl;
    return MW_OK;
}

mw_status mw_comm_allgather_device(const mw_comm *comm, mw_backend *backend, const size_t *bytes, void *data) {
    mw_nccl *nccl = NULL;
    if (mw_comm_size(comm) == 1) return MW_OK;
    if (backend->ops->host_memory) return mw_comm_allgatherv(comm, NULL, bytes, data);
    MW_TRY(find_nccl(comm, backend, &nccl));
    return nccl ? mw_nccl_allgather(nccl, backend, bytes, data) : allgather_by_host(comm, backend, bytes, data);
}

mw_status mw_comm_begin_allgather(const mw_comm *comm, mw_backend *backend, const size_t *bytes, void *data,
                                  int request) {
    mw_nccl *nccl = NULL;
    if (mw_comm_size(comm) == 1) return MW_OK;
    if (!backend->ops->host_memory) MW_TRY(find_nccl(comm, backend, &nccl));
    return nccl ? mw_nccl_begin_allgather(nccl, backend, bytes, data, request)
                : mw_comm_allgather_device(comm, backend, bytes, data);
}

mw_status mw_comm_end_allgather(const mw_comm *comm, mw_backend *backend, int request) {
    mw_nccl *nccl = mw_comm_device_of(comm)->nccl;
    return nccl ? mw_nccl_end_allgather(backend, request) : MW_OK;
}

enum { PIECE = 1 << 16 };

/* In pieces, so that no buffer has to be allocated. The other rank receives all pieces: after a failed copy zeros
 * are sent and the failure is returned. */
static mw_status send_by_host(const mw_comm *comm, mw_backend *backend, const char *data, size_t bytes, int to) {
    mw_status copied = MW_OK;
    for (size_t at = 0, n; at < bytes; at += n) {
        char host[PIECE] = {0};
        n = bytes - at < PIECE ? bytes - at : PIECE;
        if (copied == MW_OK) copied = backend->ops->download(backend, host, data + at, n);
        MW_TRY(mw_comm_send(comm, host, n, to));
    }
    return copied;
}

static mw_status receive_by_host(const mw_comm *comm, mw_backend *backend, char *data, size_t bytes, int from) {
    mw_status copied = MW_OK;
    for (size_t at = 0, n; at < bytes; at += n) {
        char host[PIECE];
        n = bytes - at < PIECE ? bytes - at : PIECE;
        MW_TRY(mw_comm_receive(comm, host, n, from));
        if (copied == MW_OK) copied = backend->ops->upload(backend, data + at, host, n);
    }
    return copied;
}

mw_status mw_comm_send_device(const mw_comm *comm, mw_backend *backend, const void *data, size_t bytes, int to) {
    mw_nccl *nccl = NULL;
    if (backend->ops->host_memory) return mw_comm_send(comm, data, bytes, to);
    MW_TRY(find_nccl(comm, backend, &nccl));
    return nccl ? mw_nccl_send(nccl, backend, data, bytes, to) : send_by_host(comm, backend, data, bytes, to);
}

mw_status mw_comm_receive_device(const mw_comm *comm, mw_backend *backend, void *data, size_t bytes, int from) {
    mw_nccl *nccl = NULL;
    if (backend->ops->host_memory) return mw_comm_receive(comm, data, bytes, from);
    MW_TRY(find_nccl(comm, backend, &nccl));
    return nccl ? mw_nccl_receive(nccl, backend, data, bytes, from) : receive_by_host(comm, backend, data, bytes, from);
}

void mw_comm_leave_device(const mw_comm *comm, mw_backend *backend) {
    mw_nccl *nccl = mw_comm_device_of(comm)->nccl;
    if (nccl) mw_nccl_leave(nccl, backend);
}
