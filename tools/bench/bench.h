/* Functions that the bench programs and the counted workloads of tests/perf share. An error, which is reported already,
 * ends the program. */
#ifndef MICROW_BENCH_H
#define MICROW_BENCH_H

#include "microw/base.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static inline void must(mw_status status) {
    if (status != MW_OK) exit(1);
}

/* Returns zeroed memory. */
static inline void *some(size_t count, size_t size) {
    void *made = mw_calloc(count, size);
    if (!made) exit(1);
    return made;
}

static inline int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts x. */
static inline double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

/* Asks the system to drop the file from its page cache. */
static inline void forget(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) exit(1);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

#endif
