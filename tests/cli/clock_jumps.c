/* Library to preload: the time of day jumps by up to ten days either way at each call. The monotonic clock is
 * unchanged. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static long jump(void) {
    static long state = 1;
    state = (state * 1103515245 + 12345) % 2147483648;
    return state / 65536 % (2 * 864000) - 864000;
}

static int real_clock(clockid_t which, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    return real(which, out);
}

int clock_gettime(clockid_t which, struct timespec *out) {
    int code = real_clock(which, out);
    if (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE) out->tv_sec += jump();
    return code;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int code = real_clock(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec + jump();
    out->tv_usec = now.tv_nsec / 1000;
    return code;
}

time_t time(time_t *out) {
    struct timespec now;
    real_clock(CLOCK_REALTIME, &now);
    now.tv_sec += jump();
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
