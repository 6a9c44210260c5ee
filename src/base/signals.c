/* Records signals that request the end of the program. The state is process-wide, since a signal handler can reach no
 * other. */
#include "microw/base.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t seen;
static bool mpirun_will_kill; /* mpirun kills this rank a second after its SIGTERM; set before any handler runs */

static const char mpirun_kills[] =
    "microw: mpirun is ending its ranks and kills them after a second, saved or not: jobs/mpirun.sh in place of "
    "mpirun, or SIGUSR1 to mpirun, lets them save first; `mpirun --mca odls_base_sigkill_timeout 60` makes it wait\n";

/* Whether this SIGINT is a second request: `timeout` and terminals send one request as two signals, microseconds
 * apart. */
static bool is_second(void) {
    enum { APART_MS = 100 };
    static int64_t first; /* only the handler of SIGINT calls, which does not interrupt itself */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (!first) first = ms;
    return ms - first > APART_MS;
}

static void record(int number, siginfo_t *info, void *context) {
    (void)context;
    int kept = errno;
    bool from_mpirun = number == SIGTERM && info->si_code <= 0 && info->si_pid == getppid();
    if (mpirun_will_kill && from_mpirun && !seen) {
        ssize_t written = write(STDERR_FILENO, mpirun_kills, sizeof mpirun_kills - 1);
        (void)written;
    }
    seen = number;
    if (number == SIGINT && is_second()) {
        signal(number, SIG_DFL);
        raise(number); /* delivered after this handler has returned */
    }
    errno = kept;
}

/* nohup, and shells for background jobs, start a program with these signals ignored so that it outlives them. */
static bool is_ignored(int number) {
    struct sigaction now;
    return (number == SIGHUP || number == SIGINT) && sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

/* A second SIGINT ends the process. The other signals remain requests, since their senders repeat them: a shell and the
 * kernel on a hangup, a job's script, a service manager beside mpirun. */
mw_status mw_signals_watch(void) {
    static const int watched[] = {SIGTERM, SIGUSR1, SIGINT, SIGHUP};
    struct sigaction action = {.sa_sigaction = record, .sa_flags = SA_RESTART | SA_SIGINFO};
    const char *rank = mw_environment("OMPI_COMM_WORLD_RANK");
    mpirun_will_kill = rank && strcmp(rank, "0") == 0 && !mw_environment("OMPI_MCA_odls_base_sigkill_timeout") &&
                       !mw_environment("PRTE_MCA_odls_base_sigkill_timeout");
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        if (!is_ignored(watched[i]) && sigaction(watched[i], &action, NULL) != 0)
            return mw_error(MW_ERR_STATE, "cannot watch signal %d: %s", watched[i], strerror(errno));
    return MW_OK;
}

int mw_signal_seen(void) {
    return seen;
}

mw_status mw_if_interrupted(mw_status status) {
    return status == MW_OK && seen ? MW_INTERRUPTED : status;
}
