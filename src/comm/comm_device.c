/* Collectives on a device's memory: by NCCL where every rank has a GPU of its own, else by way of the host. */
#include "comm/comm_nccl.h"

/* The others' bytes before and behind this rank's own. */
static mw_status bring(mw_backend *backend, const char *host, char *data, size_t before, size_t mine, size_t total) {
    if (before) MW_TRY(backend->ops->upload(backend, data, host, before));
    if (before + mine == total) return MW_OK;
    return backend->ops->upload(backend, data + before + mine, host + before + mine, total - before - mine);
}

static mw_status by_host(const mw_comm *comm, mw_backend *backend, const size_t *bytes, char *data) {
    size_t before = 0, mine = bytes[mw_comm_rank(comm)], total = 0;
    for (int r = 0; r < mw_comm_size(comm); r++) {
        if (r < mw_comm_rank(comm)) before += bytes[r];
        total += bytes[r];
    }
    char *host = mw_alloc(total ? total : 1);
    mw_status status = host ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mine) status = backend->ops->download(backend, host + before, data + before, mine);
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = mw_comm_gather_all_v(comm, NULL, bytes, host);
    if (status == MW_OK) status = mw_comm_agree(comm, bring(backend, host, data, before, mine, total));
    mw_free(host);
    return status;
}

mw_status mw_comm_gather_device(const mw_comm *comm, mw_backend *backend, const size_t *bytes, void *data) {
    if (mw_comm_size(comm) == 1) return MW_OK;
    if (backend->ops->host_memory) return mw_comm_gather_all_v(comm, NULL, bytes, data);
    mw_comm_device *device = mw_comm_device_of(comm);
    if (!device->known) {
        MW_TRY(mw_nccl_open(comm, backend, &device->nccl));
        device->known = true;
    }
    if (device->nccl) return mw_nccl_gather(device->nccl, backend, bytes, data);
    return by_host(comm, backend, bytes, data);
}

void mw_comm_leave_device(const mw_comm *comm, mw_backend *backend) {
    if (mw_comm_device_of(comm)->nccl) mw_nccl_leave(backend);
}
