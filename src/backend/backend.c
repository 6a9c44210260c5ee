#include "backend/cpu/cpu.h"
#include "microw/backend.h"

#include <string.h>

mw_status mw_backend_open(const char *name, mw_backend **out) {
    if (strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0) return mw_cpu_open(NULL, out);
    if (strncmp(name, "cpu:", 4) == 0) return mw_cpu_open(name + 4, out);
    return mw_error(MW_ERR_UNSUPPORTED, "device '%s' is not in this build; it has: auto, cpu%s", name,
                    mw_cpu_products());
}

void mw_backend_close(mw_backend **backend) {
    if (!*backend) return;
    (*backend)->ops->close(*backend);
    *backend = NULL;
}

mw_status mw_backend_floats(mw_backend *backend, int64_t count, float **out) {
    void *block = NULL;
    MW_TRY(backend->ops->alloc(backend, (size_t)count * sizeof(float), &block));
    *out = block;
    return MW_OK;
}
