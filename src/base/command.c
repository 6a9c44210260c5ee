/* Runs other programs: text to standard input, text from standard output. */
#include "microw/base.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

char *mw_find_program(const char *name) {
    const char *path = mw_environment("PATH");
    for (size_t n; path && *path; path += n + (path[n] == ':')) {
        n = strcspn(path, ":"); /* an empty entry is the current folder */
        char *file = mw_format("%.*s/%s", n ? (int)n : 1, n ? path : ".", name);
        if (file && mw_file_exists(file) && access(file, X_OK) == 0) return file;
        mw_free(file);
    }
    return NULL;
}

typedef struct child {
    pid_t pid;
    int in, out; /* our ends of its standard input and output; -1: closed */
} child;

static void close_end(int *end) {
    if (*end >= 0) close(*end);
    *end = -1;
}

/* Starts the command in its own process group, so that kill() reaches its children. Its input is a socket, since send()
 * on a closed socket can suppress SIGPIPE. */
static mw_status start(const char *command, child *c) {
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t how;
    char *const words[] = {"sh", "-c", (char *)(uintptr_t)command, NULL};
    int error = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) || pipe2(out, O_CLOEXEC) ? errno : 0;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&how);
    sigset_t defaults, blocked;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigemptyset(&blocked); /* mw_signals_watch blocks some */
    posix_spawnattr_setsigdefault(&how, &defaults);
    posix_spawnattr_setsigmask(&how, &blocked);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    if (!error) error = posix_spawn_file_actions_adddup2(&actions, in[1], 0);
    if (!error) error = posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    if (!error) error = posix_spawn(&c->pid, "/bin/sh", &actions, &how, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&how);
    close_end(&in[1]);
    close_end(&out[1]);
    c->in = in[0];
    c->out = out[0];
    if (!error) return MW_OK;
    close_end(&c->in);
    close_end(&c->out);
    return mw_error(MW_ERR_IO, "cannot start '%s': %s", command, strerror(error));
}

static void send_input(child *c, const char *input, size_t length, size_t *sent) {
    ssize_t n = send(c->in, input + *sent, length - *sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) *sent += (size_t)n;
    bool broken = n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
    if (*sent == length || broken) close_end(&c->in); /* the command need not read all input */
}

static void read_output(child *c, mw_text *out) {
    char piece[65536];
    ssize_t n = read(c->out, piece, sizeof piece);
    if (n > 0)
        mw_text_add(out, piece, (size_t)n);
    else if (n == 0 || errno != EINTR)
        close_end(&c->out);
}

/* Without reaping: until the command is reaped no other process or group gets its number. */
static bool has_ended(const child *c) {
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == c->pid;
}

/* Exchanges input and output until the command has ended and closed its output, a limit is reached or a signal was
 * recorded. Returns NULL or the reason to kill it. A process that the command leaves running may keep the output open:
 * the wait for it is short. */
static const char *exchange(child *c, const char *input, size_t length, double until, size_t most, mw_text *out) {
    enum { POLL_MS = 10, OPEN_OUTPUT_MS = 500 };
    size_t sent = 0;
    double ended = 0;
    if (length == 0) close_end(&c->in);
    while (!mw_signal_seen()) {
        double now = mw_seconds();
        if (!ended && has_ended(c)) ended = now;
        if (ended && (c->out < 0 || now > ended + OPEN_OUTPUT_MS * 1e-3)) return NULL;
        if (now >= until) return "took too long";
        struct pollfd ends[2] = {{c->out, POLLIN, 0}, {c->in, POLLOUT, 0}}; /* poll ignores -1 */
        if (poll(ends, 2, POLL_MS) <= 0) continue;
        if (ends[1].revents) send_input(c, input, length, &sent);
        if (ends[0].revents) read_output(c, out);
        if (out->failed) return "wrote more than fits into memory";
        if (out->length > most) return "wrote more than the permitted output";
    }
    return "was killed because this program received a signal";
}

mw_status mw_command_run(const char *command, const char *input, size_t length, double seconds, size_t most,
                         mw_text *out) {
    child c = {.pid = -1, .in = -1, .out = -1};
    int result = 0;
    out->length = 0;
    mw_text_add(out, "", 0);
    MW_TRY(start(command, &c));
    const char *why = exchange(&c, input, length, mw_seconds() + seconds, most, out);
    bool interrupted = why && mw_signal_seen();
    close_end(&c.in);
    close_end(&c.out);
    kill(-c.pid, SIGKILL); /* the command, or processes that it left running */
    while (waitpid(c.pid, &result, 0) < 0 && errno == EINTR) {
    }
    if (interrupted) return mw_log(MW_LOG_INFO, "'%s' %s", command, why), MW_INTERRUPTED;
    if (why) return mw_error(MW_ERR_IO, "'%s' %s", command, why);
    if (WIFEXITED(result) && WEXITSTATUS(result) == 0) return MW_OK;
    if (WIFSIGNALED(result)) return mw_error(MW_ERR_IO, "'%s' was ended by signal %d", command, WTERMSIG(result));
    return mw_error(MW_ERR_IO, "'%s' ended with exit code %d", command, WEXITSTATUS(result));
}
