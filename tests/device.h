/* For suites that run once per device. */
#ifndef MICROW_TEST_DEVICE_H
#define MICROW_TEST_DEVICE_H

#include "microw/backend.h"

#include <stdio.h>

/* Says that the suite is skipped where the device is not here. */
static inline bool test_has_device(const char *name) {
    mw_backend *backend = NULL;
    mw_log_quiet(true);
    mw_status status = mw_backend_open(name, &backend);
    mw_log_quiet(false);
    if (status != MW_OK) printf("skipped: device '%s' is not here\n", name);
    mw_backend_close(&backend);
    return status == MW_OK;
}

#endif
