/* Requests to end. A signal's handler can reach nothing but process-wide state: this one flag. */
#include "microw/base.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static volatile sig_atomic_t seen;

static void note(int number) {
    seen = number;
}

/* The first signal asks for an end at the next safe place; a second one of the same kind ends the process. */
mw_status mw_signals_watch(void) {
    static const int watched[] = {SIGTERM, SIGUSR1, SIGINT};
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        if (sigaction(watched[i], &action, NULL) != 0)
            return mw_error(MW_ERR_STATE, "signal %d cannot be watched: %s", watched[i], strerror(errno));
    return MW_OK;
}

int mw_signal_seen(void) {
    return seen;
}

mw_status mw_if_interrupted(mw_status status) {
    return status == MW_OK && seen ? MW_INTERRUPTED : status;
}
