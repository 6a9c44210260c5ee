/* Other programs: text in, text out. */
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
        n = strcspn(path, ":"); /* an empty part is the current folder */
        char *file = mw_format("%.*s/%s", n ? (int)n : 1, n ? path : ".", name);
        if (file && mw_file_exists(file) && access(file, X_OK) == 0) return file;
        mw_free(file);
    }
    return NULL;
}

typedef struct child {
    pid_t pid;
    int in, out; /* what it reads and writes; -1: closed */
} child;

static void close_end(int *end) {
    if (*end >= 0) close(*end);
    *end = -1;
}

/* In a process group of its own, so that what it starts ends with it. A socket for its input, since writing to one that is
 * closed can be told not to raise a signal. */
static mw_status start(const char *command, child *c) {
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t how;
    char *const words[] = {"sh", "-c", (char *)(uintptr_t)command, NULL};
    int error = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) || pipe2(out, O_CLOEXEC) ? errno : 0;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&how);
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&how, &defaults);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
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
    return mw_error(MW_ERR_IO, "'%s' cannot be started: %s", command, strerror(error));
}

static void give(child *c, const char *input, size_t length, size_t *given) {
    ssize_t n = send(c->in, input + *given, length - *given, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) *given += (size_t)n;
    bool broken = n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
    if (*given == length || broken) close_end(&c->in); /* it may answer without reading everything */
}

static void take(child *c, mw_text *out) {
    char piece[65536];
    ssize_t n = read(c->out, piece, sizeof piece);
    if (n > 0)
        mw_text_add(out, piece, (size_t)n);
    else if (n == 0 || errno != EINTR)
        close_end(&c->out);
}

/* It has ended, and is not reaped: until then no other process or group gets its number. */
static bool has_ended(const child *c) {
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == c->pid;
}

/* Until it has ended and said all, or the time or the room is over; which is told by `why`. What it leaves running may have its
 * output open: that is not waited for long. */
static const char *talk(child *c, const char *input, size_t length, double until, size_t most, mw_text *out) {
    enum { LOOK_MS = 10, LEFT_MS = 500 };
    size_t given = 0;
    double ended = 0;
    if (length == 0) close_end(&c->in);
    while (!mw_signal_seen()) {
        double now = mw_seconds();
        if (!ended && has_ended(c)) ended = now;
        if (ended && (c->out < 0 || now > ended + LEFT_MS * 1e-3)) return NULL;
        if (now >= until) return "took too long";
        struct pollfd ends[2] = {{c->out, POLLIN, 0}, {c->in, POLLOUT, 0}}; /* closed ones are passed over */
        if (poll(ends, 2, LOOK_MS) <= 0) continue;
        if (ends[1].revents) give(c, input, length, &given);
        if (ends[0].revents) take(c, out);
        if (out->failed) return "filled the memory";
        if (out->length > most) return "wrote more than was asked for";
    }
    return "was ended: this program was asked to end";
}

mw_status mw_command_run(const char *command, const char *input, size_t length, double seconds, size_t most,
                         mw_text *out) {
    child c = {.pid = -1, .in = -1, .out = -1};
    int result = 0;
    out->length = 0;
    mw_text_add(out, "", 0);
    MW_TRY(start(command, &c));
    const char *why = talk(&c, input, length, mw_seconds() + seconds, most, out);
    bool asked = why && mw_signal_seen();
    close_end(&c.in);
    close_end(&c.out);
    kill(-c.pid, SIGKILL); /* itself, or what it left running */
    while (waitpid(c.pid, &result, 0) < 0 && errno == EINTR) {
    }
    if (asked) return mw_log(MW_LOG_INFO, "'%s' %s", command, why), MW_INTERRUPTED;
    if (why) return mw_error(MW_ERR_IO, "'%s' %s", command, why);
    if (WIFEXITED(result) && WEXITSTATUS(result) == 0) return MW_OK;
    if (WIFSIGNALED(result)) return mw_error(MW_ERR_IO, "'%s' was ended by signal %d", command, WTERMSIG(result));
    return mw_error(MW_ERR_IO, "'%s' ended with exit code %d", command, WEXITSTATUS(result));
}
