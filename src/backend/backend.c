/* Opens backends by their name. */
#include "backend/cpu/cpu.h"
#include "microw/backend.h"

#ifdef MICROW_HAVE_CUDA
#include "backend/cuda/cuda.h"
#define CUDA_DEVICES ", cuda"

/* Opens "cuda" or "cuda:N". */
static mw_status open_cuda(const char *name, int local_rank, mw_backend **out) {
    int count = mw_cuda_count();
    int64_t device = count > 0 ? local_rank % count : 0;
    if (name[4] && (name[4] != ':' || !mw_parse_int(name + 5, &device) || device < 0 || device > 1023))
        return mw_error(MW_ERR_UNSUPPORTED, "device '%s': expected cuda or cuda:NUMBER", name);
    return mw_cuda_open((int)device, out);
}

/* Whether `auto` takes a GPU. Warns where there is a GPU that cannot be used. */
static bool takes_gpu(int local_rank) {
    char problem[MW_CUDA_PROBLEM];
    int count = mw_cuda_count();
    if (mw_cuda_usable(count > 0 ? local_rank % count : 0, problem)) return true;
    mw_log(count > 0 ? MW_LOG_WARNING : MW_LOG_INFO, "device auto: the CPU, because %s", problem);
    return false;
}
#else
#define CUDA_DEVICES ""
#endif

#include <string.h>

mw_status mw_backend_open_at(const char *name, int local_rank, mw_backend **out) {
#ifdef MICROW_HAVE_CUDA
    bool automatic = strcmp(name, "auto") == 0 && takes_gpu(local_rank);
    if (automatic || strncmp(name, "cuda", 4) == 0) return open_cuda(automatic ? "cuda" : name, local_rank, out);
#endif
    (void)local_rank;
    if (strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0) return mw_cpu_open(NULL, out);
    if (strncmp(name, "cpu:", 4) == 0) return mw_cpu_open(name + 4, out);
    return mw_error(MW_ERR_UNSUPPORTED, "device '%s' is not in this build; it has: auto, cpu%s%s", name,
                    mw_cpu_products(), CUDA_DEVICES);
}

mw_status mw_backend_open(const char *name, mw_backend **out) {
    return mw_backend_open_at(name, 0, out);
}

void mw_backend_close(mw_backend **backend) {
    if (!*backend) return;
    (*backend)->ops->close(*backend);
    *backend = NULL;
}

mw_status mw_backend_floats(mw_backend *backend, int64_t count, float **out) {
    void *memory = NULL;
    MW_TRY(backend->ops->alloc(backend, (size_t)count * sizeof(float), &memory));
    *out = memory;
    return MW_OK;
}

mw_status mw_backend_zeros(mw_backend *backend, int64_t count, size_t item, void *out) {
    void *memory = NULL;
    size_t bytes = (size_t)count * item;
    MW_TRY(backend->ops->alloc(backend, bytes, &memory));
    mw_status status = backend->ops->fill_zero(backend, memory, bytes);
    if (status != MW_OK)
        backend->ops->free(backend, memory);
    else
        memcpy(out, &memory, sizeof memory);
    return status;
}

/* ---- chunks of rows ------------------------------------------------------------------------------------- */

enum {
    HOST_FLOATS = 1 << 21,
    DEVICE_FLOATS = 1 << 23,
    DEVICE_FLOATS_MAX = 1 << 28,
    DEVICE_ROWS = 512,
    CHUNK_ROWS_MAX = 1024
};

/* Chunks are whole tiles of about 8 MiB of pre-activations on a CPU, so that selection finds them in the cache, and of
 * 32 MiB on a GPU. Where such a chunk has few rows, a GPU would take longer to read the weights for each chunk than to
 * multiply (docs/running/gpu-roofline.md), and chunks are larger, up to 1 GiB. */
int64_t mw_chunk_rows(bool host_memory, int64_t n) {
    int64_t floats = host_memory ? HOST_FLOATS : DEVICE_FLOATS;
    if (!host_memory && floats / n < DEVICE_ROWS / 2)
        floats = DEVICE_ROWS * n < DEVICE_FLOATS_MAX ? DEVICE_ROWS * n : DEVICE_FLOATS_MAX;
    int64_t rows = floats / n / MW_ROW_TILE * MW_ROW_TILE;
    return rows < MW_ROW_TILE ? MW_ROW_TILE : rows > CHUNK_ROWS_MAX ? CHUNK_ROWS_MAX : rows;
}
