/* The log. Its state is process-wide on purpose: any function of any thread can log. */
#include "base/log_hook.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 4096, HELD_MAX_BYTES = 16384 };

static struct {
    pthread_mutex_t lock;
    int rank, size;
    mw_log_level level;
    int quiet; /* nested mw_log_quiet(true) */
    char held[HELD_MAX_BYTES];
    size_t held_length;
    mw_log_call *call; /* NULL: standard error */
    void *self;
    void (*before_line)(void); /* or NULL */
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER, .size = 1, .level = MW_LOG_INFO};

void mw_log_setup(int rank, int size, mw_log_level level) {
    pthread_mutex_lock(&log_state.lock);
    log_state.rank = rank;
    log_state.size = size;
    log_state.level = level;
    pthread_mutex_unlock(&log_state.lock);
}

void mw_log_quiet(bool quiet) {
    pthread_mutex_lock(&log_state.lock);
    if (quiet || log_state.quiet > 0) log_state.quiet += quiet ? 1 : -1;
    pthread_mutex_unlock(&log_state.lock);
}

bool mw_log_shows(mw_log_level level) {
    pthread_mutex_lock(&log_state.lock);
    bool shows = level <= log_state.level;
    pthread_mutex_unlock(&log_state.lock);
    return shows;
}

void mw_log_to(mw_log_call *call, void *self) {
    pthread_mutex_lock(&log_state.lock);
    log_state.call = call;
    log_state.self = self;
    pthread_mutex_unlock(&log_state.lock);
}

void log_before_line(void (*call)(void)) {
    pthread_mutex_lock(&log_state.lock);
    log_state.before_line = call;
    pthread_mutex_unlock(&log_state.lock);
}

static void hold(const char *line) {
    size_t length = strlen(line);
    if (log_state.held_length + length + 2 > HELD_MAX_BYTES) return;
    memcpy(log_state.held + log_state.held_length, line, length);
    log_state.held_length += length;
    log_state.held[log_state.held_length++] = '\n';
    log_state.held[log_state.held_length] = '\0';
}

static void emit(mw_log_level level, const char *fmt, va_list args) {
    static const char *const names[] = {"error", "warning", "info", "debug"};
    if (level > log_state.level || (level != MW_LOG_ERROR && log_state.rank != 0)) return;
    char line[LINE_MAX_BYTES];
    vsnprintf(line, sizeof line, fmt, args);
    pthread_mutex_lock(&log_state.lock);
    if (log_state.quiet) {
        /* dropped */
    } else if (level == MW_LOG_ERROR && log_state.size > 1) {
        hold(line);
    } else if (log_state.call) {
        log_state.call(log_state.self, level, line);
    } else {
        if (log_state.before_line) log_state.before_line();
        fprintf(stderr, "microw: %s: %s\n", names[level], line);
    }
    pthread_mutex_unlock(&log_state.lock);
}

void mw_log(mw_log_level level, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    emit(level, fmt, args);
    va_end(args);
}

mw_status mw_error(mw_status status, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    emit(MW_LOG_ERROR, fmt, args);
    va_end(args);
    return status;
}

char *mw_log_take_held(void) {
    char *text = mw_alloc(HELD_MAX_BYTES); /* before the lock: a failed allocation logs */
    if (!text) return NULL;
    pthread_mutex_lock(&log_state.lock);
    memcpy(text, log_state.held, log_state.held_length + 1);
    log_state.held_length = 0;
    log_state.held[0] = '\0';
    pthread_mutex_unlock(&log_state.lock);
    return text;
}
