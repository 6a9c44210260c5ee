/* Memory, copies, and the table of the CPU backend. */
#include "backend/cpu/cpu.h"

#include <string.h>

mw_status mw_cpu_alloc(mw_backend *backend, size_t bytes, void **out) {
    (void)backend;
    void *memory = mw_alloc(bytes);
    if (!memory) return MW_ERR_MEMORY;
    *out = memory;
    return MW_OK;
}

void mw_cpu_free(mw_backend *backend, void *memory) {
    (void)backend;
    mw_free(memory);
}

mw_status mw_cpu_host_alloc(mw_backend *backend, size_t bytes, void **out) {
    return mw_cpu_alloc(backend, bytes, out);
}

void mw_cpu_host_free(mw_backend *backend, void *memory) {
    mw_cpu_free(backend, memory);
}

mw_status mw_cpu_free_memory(mw_backend *backend, double *bytes) {
    (void)backend;
    *bytes = (double)mw_free_memory();
    return MW_OK;
}

mw_status mw_cpu_upload(mw_backend *backend, void *to, const void *from, size_t bytes) {
    (void)backend;
    memcpy(to, from, bytes);
    return MW_OK;
}

mw_status mw_cpu_download(mw_backend *backend, void *to, const void *from, size_t bytes) {
    return mw_cpu_upload(backend, to, from, bytes);
}

mw_status mw_cpu_fetch(mw_backend *backend, int slot, void *to, const void *from, size_t bytes) {
    (void)slot;
    return mw_cpu_upload(backend, to, from, bytes);
}

mw_status mw_cpu_fetched(mw_backend *backend, int slot) {
    (void)backend;
    (void)slot;
    return MW_OK;
}

mw_status mw_cpu_mark(mw_backend *backend) {
    (void)backend;
    return MW_OK;
}

mw_status mw_cpu_send(mw_backend *backend, void *to, const void *from, size_t bytes) {
    return mw_cpu_upload(backend, to, from, bytes);
}

void mw_cpu_close(mw_backend *backend) {
    mw_free(backend);
}

static const mw_backend_ops cpu_ops = {.name = "cpu",
                                       .host_memory = true,
                                       .rows_stand_alone = true,
#define CPU_ENTRY(type, name, ...) .name = mw_cpu_##name,
                                       MW_BACKEND_OPERATIONS(CPU_ENTRY)
#undef CPU_ENTRY
};

static const mw_cpu_product *const products[] = {
#ifdef MICROW_HAVE_ONEDNN
    &mw_cpu_onednn,
#endif
#ifdef MICROW_HAVE_CBLAS
    &mw_cpu_cblas,
#endif
};
enum { PRODUCT_COUNT = sizeof products / sizeof *products };

const char *mw_cpu_products(void) {
#if defined(MICROW_HAVE_ONEDNN) && defined(MICROW_HAVE_CBLAS)
    return ", cpu:onednn, cpu:cblas";
#elif defined(MICROW_HAVE_ONEDNN)
    return ", cpu:onednn";
#else
    return ", cpu:cblas";
#endif
}

mw_status mw_cpu_open(const char *product, mw_backend **out) {
    const mw_cpu_product *chosen = NULL;
    for (int i = 0; i < PRODUCT_COUNT && !chosen; i++)
        if (!product || strcmp(products[i]->name, product) == 0) chosen = products[i];
    if (!chosen)
        return mw_error(MW_ERR_UNSUPPORTED, "device 'cpu:%s' is not in this build; it has: auto, cpu%s", product,
                        mw_cpu_products());
    if (chosen->suited) chosen = chosen->suited();
    mw_backend *backend = mw_calloc(1, sizeof *backend);
    if (!backend) return MW_ERR_MEMORY;
    if (chosen->prepare) chosen->prepare();
    *backend = (mw_backend){.ops = &cpu_ops, .state = (void *)(uintptr_t)chosen};
    *out = backend;
    return MW_OK;
}
