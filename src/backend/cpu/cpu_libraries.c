/* What multiplies matrices on CPUs. */
#include "backend/cpu/cpu.h"

#include <stdio.h>

#ifdef MICROW_HAVE_CBLAS
#include <cblas.h>

char *openblas_get_config(void) __attribute__((weak)); /* another CBLAS has none, and no way to tell its version */
#endif

#ifdef MICROW_HAVE_ONEDNN
#include <dnnl.h>

static void tell_onednn(mw_library_callback *told, void *self) {
    const dnnl_version_t *v = dnnl_version();
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", v->major, v->minor, v->patch);
    told(self, "oneDNN", version);
}
#else
static void tell_onednn(mw_library_callback *told, void *self) {
    told(self, "oneDNN", NULL);
}
#endif

static const char *cblas(void) {
#ifdef MICROW_HAVE_CBLAS
    return openblas_get_config ? openblas_get_config() : "not OpenBLAS";
#else
    return NULL;
#endif
}

void mw_backend_libraries(mw_library_callback *told, void *self) {
    tell_onednn(told, self);
    told(self, "CBLAS", cblas());
}
