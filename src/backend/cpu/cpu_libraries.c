/* Reports the libraries that multiply matrices on CPUs. */
#include "backend/cpu/cpu.h"

#include <stdio.h>

#ifdef MICROW_HAVE_CBLAS
#include <cblas.h>

char *openblas_get_config(void) __attribute__((weak)); /* OpenBLAS only: other CBLAS do not report their version */
#endif

#ifdef MICROW_HAVE_ONEDNN
#include <dnnl.h>

static void report_onednn(mw_library_callback *report, void *self) {
    const dnnl_version_t *v = dnnl_version();
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", v->major, v->minor, v->patch);
    report(self, "oneDNN", version);
}
#else
static void report_onednn(mw_library_callback *report, void *self) {
    report(self, "oneDNN", NULL);
}
#endif

static const char *cblas_version(void) {
#ifdef MICROW_HAVE_CBLAS
    return openblas_get_config ? openblas_get_config() : "not OpenBLAS";
#else
    return NULL;
#endif
}

void mw_backend_libraries(mw_library_callback *report, void *self) {
    report_onednn(report, self);
    report(self, "CBLAS", cblas_version());
}
