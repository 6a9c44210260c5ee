/* Helpers of suites that run once per device. */
#ifndef MICROW_TEST_DEVICE_H
#define MICROW_TEST_DEVICE_H

#include "microw/backend.h"
#include "test.h"

/* Returns whether a device exists; prints that the suite is skipped if not. */
static inline bool test_has_device(const char *name) {
    mw_backend *backend = NULL;
    mw_log_quiet(true);
    mw_status status = mw_backend_open(name, &backend);
    mw_log_quiet(false);
    if (status != MW_OK) printf("skipped: device '%s' is not here\n", name);
    mw_backend_close(&backend);
    return status == MW_OK;
}

static mw_backend *b; /* the backend under test */

/* Returns device memory with a copy of `host`, or uninitialized for NULL. */
static inline float *put(const float *host, int64_t n) {
    float *device = NULL;
    NEED_OK(mw_backend_floats(b, n > 0 ? n : 1, &device));
    if (host) NEED_OK(b->ops->upload(b, device, host, (size_t)n * sizeof(float)));
    return device;
}

static inline void *put_bytes(const void *host, size_t bytes) {
    void *device = NULL;
    NEED_OK(b->ops->alloc(b, bytes ? bytes : 1, &device));
    if (host) NEED_OK(b->ops->upload(b, device, host, bytes));
    return device;
}

/* Returns random numbers on the host; caller frees. */
static inline float *numbers(int64_t n, uint64_t seed) {
    float *x = mw_alloc((size_t)n * sizeof *x);
    NEED(x != NULL);
    fill_random(x, n, seed);
    return x;
}

static inline void get(float *host, const float *device, int64_t n) {
    NEED_OK(b->ops->download(b, host, device, (size_t)n * sizeof(float)));
}

#endif
