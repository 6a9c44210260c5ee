/* Environment variables and the clock. */
#include "microw/base.h"

#include <stdlib.h>
#include <time.h>

const char *mw_environment(const char *name) {
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

double mw_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void mw_timestamp(char out[32]) {
    time_t now = time(NULL);
    struct tm parts;
    gmtime_r(&now, &parts);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &parts);
}
