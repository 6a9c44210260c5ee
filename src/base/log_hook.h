/* A function that the log calls before it prints a line to standard error. */
#ifndef MICROW_BASE_LOG_HOOK_H
#define MICROW_BASE_LOG_HOOK_H

#include "microw/base.h"

/* `call` runs under the log's lock and must not log; NULL removes it. */
void log_before_line(void (*call)(void));

#endif
