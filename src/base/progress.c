#include "microw/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

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

void mw_progress_begin(mw_progress *progress, const char *what, const char *unit, int64_t total, bool active) {
    double now = mw_seconds();
    *progress = (mw_progress){.what = what,
                              .unit = unit,
                              .total = total,
                              .start = now,
                              .last = now,
                              .active = active,
                              .terminal = isatty(STDERR_FILENO) == 1};
}

static void show(mw_progress *progress, int64_t done, const char *extra, bool final) {
    double elapsed = mw_seconds() - progress->start;
    double rate = elapsed > 0 ? (double)done / elapsed : 0;
    double left = rate > 0 ? (double)(progress->total - done) / rate : 0;
    double percent = progress->total > 0 ? 100.0 * (double)done / (double)progress->total : 100.0;
    if (progress->terminal) {
        fprintf(stderr, "\r\033[K%s %5.1f%%  %lld/%lld %s  %.3g %s/s  %s %.0fs  %s%s", progress->what, percent,
                (long long)done, (long long)progress->total, progress->unit, rate, progress->unit,
                final ? "took" : "ETA", final ? elapsed : left, extra ? extra : "", final ? "\n" : "");
    } else {
        fprintf(stderr,
                "{\"stage\":\"%s\",\"done\":%lld,\"total\":%lld,\"unit\":\"%s\",\"per_second\":%.6g,"
                "\"elapsed_s\":%.2f,\"eta_s\":%.2f%s%s}\n",
                progress->what, (long long)done, (long long)progress->total, progress->unit, rate, elapsed,
                final ? 0.0 : left, extra ? "," : "", extra ? extra : "");
    }
    fflush(stderr);
}

void mw_progress_update(mw_progress *progress, int64_t done, const char *extra) {
    if (!progress->active) return;
    double now = mw_seconds(), every = progress->terminal ? 0.2 : 5.0;
    if (now - progress->last < every) return;
    progress->last = now;
    show(progress, done, extra, false);
}

void mw_progress_end(mw_progress *progress, int64_t done, const char *extra) {
    if (progress->active) show(progress, done, extra, true);
    progress->active = false;
}
