/* Records signals that request the end of the program. The state is process-wide, since a signal handler can reach no
 * other. */
#include "microw/base.h"

#include <errno.h>
#include <pthread.h>
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

/* Handlers run on this thread alone, and all others block the signals: oneDNN's kernels (up to 3.11) let the stack
 * pointer point into the heap while they compute, and a handler's frame then overwrites what is below
 * (findings/onednn_signal_frame_in_heap.sh). */
static void *take_signals(void *watched) {
    pthread_sigmask(SIG_UNBLOCK, watched, NULL);
    for (;;) pause();
    return NULL;
}

static mw_status start_thread(const sigset_t *watched) {
    enum { STACK_BYTES = 256 << 10 }; /* a frame has all registers: 11 kB with AMX */
    static sigset_t of_thread;
    pthread_attr_t detached;
    pthread_t thread;
    of_thread = *watched;
    int error = pthread_attr_init(&detached);
    if (!error) error = pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (!error) error = pthread_attr_setstacksize(&detached, STACK_BYTES);
    if (!error) error = pthread_create(&thread, &detached, take_signals, &of_thread);
    return error ? mw_error(MW_ERR_STATE, "cannot start the thread that takes signals: %s", strerror(error)) : MW_OK;
}

/* A second SIGINT ends the process. The other signals remain requests, since their senders repeat them: a shell and the
 * kernel on a hangup, a job's script, a service manager beside mpirun. */
mw_status mw_signals_watch(void) {
    static const int numbers[] = {SIGTERM, SIGUSR1, SIGINT, SIGHUP};
    static bool started;
    struct sigaction action = {.sa_sigaction = record, .sa_flags = SA_RESTART | SA_SIGINFO};
    const char *rank = mw_environment("OMPI_COMM_WORLD_RANK");
    sigset_t watched;
    if (started) return MW_OK;
    mpirun_will_kill = rank && strcmp(rank, "0") == 0 && !mw_environment("OMPI_MCA_odls_base_sigkill_timeout") &&
                       !mw_environment("PRTE_MCA_odls_base_sigkill_timeout");
    sigemptyset(&action.sa_mask);
    sigemptyset(&watched);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (is_ignored(numbers[i])) continue;
        if (sigaction(numbers[i], &action, NULL) != 0)
            return mw_error(MW_ERR_STATE, "cannot watch signal %d: %s", numbers[i], strerror(errno));
        sigaddset(&watched, numbers[i]);
    }
    pthread_sigmask(SIG_BLOCK, &watched, NULL); /* also for threads that start later */
    MW_TRY(start_thread(&watched));
    started = true;
    return MW_OK;
}

int mw_signal_seen(void) {
    return seen;
}

mw_status mw_if_interrupted(mw_status status) {
    return status == MW_OK && seen ? MW_INTERRUPTED : status;
}
