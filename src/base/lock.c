/* Locks of outputs: a file beside each output that describes its holder. */
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A holder touches its lock every PULSE seconds. Where nothing else tells whether it lives, as on another host, it is
 * taken for dead after SILENCE: network file systems may show the time of the last touch a minute late. */
enum { PULSE = 10, SILENCE = 120 };

/* ---- identity of a process --------------------------------------------------------------------------------------- */

/* Returns whether a process runs, and sets `started` to its start in ticks since the boot, which tells a later
 * process with the same number apart; "": unknown. A zombie does not run: it writes nothing more. */
static bool is_alive(long pid, char started[32]) {
    char path[64], line[1024] = "";
    started[0] = '\0';
    if (pid <= 0 || (kill((pid_t)pid, 0) != 0 && errno == ESRCH)) return false;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "re");
    if (file && !fgets(line, sizeof line, file)) line[0] = '\0';
    if (file) fclose(file);
    char *at = strrchr(line, ')'); /* the process name may contain any characters */
    bool zombie = at && at[1] && (at[2] == 'Z' || at[2] == 'X');
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    if (at) snprintf(started, 32, "%.*s", (int)strcspn(at + 1, " "), at + 1);
    return !zombie;
}

static void read_line(const char *path, char *out, size_t room) {
    FILE *file = fopen(path, "re");
    out[0] = '\0';
    if (file && !fgets(out, (int)room, file)) out[0] = '\0';
    if (file) fclose(file);
    out[strcspn(out, "\n")] = '\0';
}

/* Identifies the numbering of processes: the boot of this machine, and its process namespace. */
static char *numbering(void) {
    char boot[64], space[64] = "";
    read_line("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
    space[n > 0 ? n : 0] = '\0';
    return mw_format("%s %s", boot, space);
}

static const char *job_of_this(void) {
    static const char *const names[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (mw_environment(names[i])) return mw_environment(names[i]);
    return "";
}

static int64_t restarts_of_this(void) {
    int64_t n = 0;
    const char *text = mw_environment("SLURM_RESTART_COUNT");
    return text && mw_parse_int(text, &n) ? n : 0;
}

static json_t *describe_this(const char *nonce) {
    char host[256] = "", started[32], now[32], *where = numbering();
    mw_host_name(host, sizeof host);
    (void)is_alive((long)getpid(), started);
    mw_timestamp(now);
    json_t *made =
        where ? json_pack("{s:s, s:I, s:s, s:s, s:s, s:I, s:s, s:i, s:s}", "host", host, "pid", (json_int_t)getpid(),
                          "started", started, "numbering", where, "job", job_of_this(), "restarts",
                          (json_int_t)restarts_of_this(), "since", now, "pulse", PULSE, "nonce", nonce)
              : NULL;
    mw_free(where);
    return made;
}

/* ---- the file ------------------------------------------------------------------------------------------------ */

typedef enum attempt { TAKEN, HELD, FAILED } attempt;

/* Links a complete file to the lock's name. Without hard links the lock is created empty and then written; readers wait
 * until it is readable. */
static attempt create_lock(const char *temporary, const char *path, const char *text) {
    struct stat info;
    if (link(temporary, path) == 0) return TAKEN;
    int why = errno;
    if (stat(temporary, &info) == 0 && info.st_nlink == 2) return TAKEN; /* a network file system lost the reply */
    if (why == EEXIST) return HELD;
    if (why != EPERM && why != EOPNOTSUPP && why != ENOSYS && why != EMLINK) return errno = why, FAILED;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return errno == EEXIST ? HELD : FAILED;
    bool good = write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fsync(fd) == 0;
    why = errno;
    close(fd);
    if (good) return TAKEN;
    unlink(path);
    return errno = why, FAILED;
}

/* Sets `now` to the time by the clock of the lock's file system. */
static mw_status try_once(const char *path, const char *nonce, bool *taken, time_t *now) {
    json_t *holder = describe_this(nonce);
    char *text = holder ? json_dumps(holder, JSON_COMPACT) : NULL, *temporary = mw_format("%s.%s", path, nonce);
    mw_status status = text && temporary ? mw_file_write_atomic(temporary, text, strlen(text)) : MW_ERR_MEMORY;
    *taken = false;
    if (status == MW_OK) {
        struct stat info;
        *now = stat(temporary, &info) == 0 ? info.st_mtime : time(NULL);
        attempt result = create_lock(temporary, path, text);
        if (result == FAILED) status = mw_error(MW_ERR_IO, "%s: cannot create: %s", path, strerror(errno));
        *taken = result == TAKEN;
        unlink(temporary);
    }
    free(text);
    mw_free(temporary);
    json_decref(holder);
    return status;
}

/* NULL: no lock, or an unreadable one. */
static json_t *holder_of(const char *path) {
    json_t *holder = NULL;
    mw_log_quiet(true);
    mw_status status = mw_file_exists(path) ? mw_json_load(path, &holder) : MW_ERR_IO;
    mw_log_quiet(false);
    return status == MW_OK ? holder : NULL;
}

static const char *text_of(const json_t *holder, const char *key) {
    const char *text = mw_json_text(holder, key);
    return text ? text : "";
}

/* Returns the seconds since the holder has last touched its lock. */
static double silence_of(const char *path, time_t now) {
    struct stat info;
    return stat(path, &info) == 0 ? difftime(now, info.st_mtime) : 0;
}

/* Returns how the holder is known to have ended; NULL: it is not. */
static const char *reason_of_end(const json_t *holder, const char *path, time_t now) {
    char started[32], *where = numbering();
    bool here = where && strcmp(where, text_of(holder, "numbering")) == 0;
    const char *job = text_of(holder, "job");
    mw_free(where);
    if (here) {
        bool alive = is_alive((long)mw_json_number(holder, "pid", 0), started);
        bool other = started[0] && strcmp(started, text_of(holder, "started")) != 0;
        return !alive || other ? "the process has ended" : NULL;
    }
    if (job[0] && strcmp(job, job_of_this()) == 0 &&
        (int64_t)mw_json_number(holder, "restarts", 0) < restarts_of_this())
        return "its job was started again";
    bool pulses = mw_json_number(holder, "pulse", 0) > 0;
    return pulses && silence_of(path, now) > SILENCE ? "its host has given no sign of it for two minutes" : NULL;
}

/* Removes a lock by rename, which succeeds for one of several processes. If the renamed lock is not the one that was
 * read, it is restored. */
static bool remove_lock(const char *path, const char *nonce, const char *own) {
    char *aside = mw_format("%s.gone.%s", path, own);
    if (!aside || rename(path, aside) != 0) {
        mw_free(aside);
        return false;
    }
    json_t *moved = holder_of(aside);
    bool same = strcmp(text_of(moved, "nonce"), nonce) == 0;
    if (!same && link(aside, path) != 0 && errno != EEXIST) rename(aside, path);
    unlink(aside);
    json_decref(moved);
    mw_free(aside);
    return same;
}

static void show_time(double seconds, char *out, size_t room) {
    if (seconds < 120)
        snprintf(out, room, "%.0f s", seconds > 0 ? seconds : 0);
    else if (seconds < 7200)
        snprintf(out, room, "%.0f min", seconds / 60);
    else
        snprintf(out, room, "%.1f h", seconds / 3600);
}

static mw_status refuse(const char *output, const char *path, const json_t *holder, time_t now) {
    char silence[32];
    const char *job = text_of(holder, "job");
    show_time(silence_of(path, now), silence, sizeof silence);
    if (!holder)
        return mw_error(MW_ERR_STATE,
                        "%s is locked by %s, which cannot be read, for %s: wait, or give --steal-lock if no process "
                        "writes it any more",
                        output, path, silence);
    return mw_error(MW_ERR_STATE,
                    "%s is being written by process %.0f on %s%s%s, since %s, last sign of it %s ago: wait for it, or "
                    "give --steal-lock if it is surely gone",
                    output, mw_json_number(holder, "pid", 0), text_of(holder, "host"), job[0] ? ", job " : "", job,
                    text_of(holder, "since"), silence);
}

/* ---- signs of life -------------------------------------------------------------------------------------------- */

struct mw_lock_pulse {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t change;
    bool ended;
    char *path;
    struct stat lock; /* the file that was taken: another holder's is not touched */
};

static void touch(const struct mw_lock_pulse *p) {
    struct stat now;
    if (stat(p->path, &now) == 0 && now.st_ino == p->lock.st_ino && now.st_dev == p->lock.st_dev)
        (void)utimensat(AT_FDCWD, p->path, NULL, 0);
}

static void *beat(void *self) {
    struct mw_lock_pulse *p = self;
    pthread_mutex_lock(&p->mutex);
    while (!p->ended) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += PULSE;
        if (pthread_cond_timedwait(&p->change, &p->mutex, &until) == ETIMEDOUT && !p->ended) touch(p);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

static void free_pulse(struct mw_lock_pulse *p) {
    pthread_cond_destroy(&p->change);
    pthread_mutex_destroy(&p->mutex);
    mw_free(p->path);
    mw_free(p);
}

/* Starts the thread that touches the lock, with all signals blocked: they are for others. */
static mw_status begin_pulse(const char *path, struct mw_lock_pulse **out) {
    struct mw_lock_pulse *p = mw_calloc(1, sizeof *p);
    pthread_condattr_t monotonic;
    pthread_attr_t small;
    sigset_t all, before;
    if (!p) return MW_ERR_MEMORY;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->change, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN + (64 << 10));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool good =
        (p->path = mw_strdup(path)) && stat(path, &p->lock) == 0 && pthread_create(&p->thread, &small, beat, p) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&small);
    if (good)
        *out = p;
    else
        free_pulse(p);
    return good ? MW_OK : mw_error(MW_ERR_MEMORY, "%s: no thread for the lock's signs of life", path);
}

static void end_pulse(struct mw_lock_pulse *p) {
    if (!p) return;
    pthread_mutex_lock(&p->mutex);
    p->ended = true;
    pthread_cond_signal(&p->change);
    pthread_mutex_unlock(&p->mutex);
    pthread_join(p->thread, NULL);
    free_pulse(p);
}

/* ---- taking and releasing ------------------------------------------------------------------------------------ */

static void take_over(const char *output, const char *path, const json_t *holder, const char *nonce, const char *why) {
    if (!remove_lock(path, text_of(holder, "nonce"), nonce)) return;
    if (!holder)
        mw_log(MW_LOG_WARNING, "%s: taking over an unreadable lock: %s", output, why);
    else
        mw_log(MW_LOG_WARNING, "%s: taking over the lock of process %.0f on %s: %s", output,
               mw_json_number(holder, "pid", 0), text_of(holder, "host"), why);
}

/* An unreadable lock is being created or was just released; either state lasts a second at most. */
static mw_status wait_and_take(const char *output, const char *path, double seconds, bool steal, const char *nonce) {
    double begun = mw_seconds(), patience = seconds > 1 ? seconds : 1;
    for (;;) {
        bool taken;
        time_t now = 0;
        MW_TRY(try_once(path, nonce, &taken, &now));
        if (taken) return MW_OK;
        json_t *holder = holder_of(path);
        double waited = mw_seconds() - begun;
        bool expired = waited >= (holder ? seconds : patience);
        mw_status status = MW_OK;
        const char *end = holder ? reason_of_end(holder, path, now) : NULL;
        if (end && waited < patience + 1)
            take_over(output, path, holder, nonce, end);
        else if (expired && steal && waited < patience + 1)
            take_over(output, path, holder, nonce, "--steal-lock");
        else if (expired)
            status = refuse(output, path, holder, now);
        else
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        json_decref(holder);
        if (status != MW_OK) return status;
    }
}

mw_status mw_lock_take(const char *output, double seconds, bool steal, mw_lock *out) {
    mw_lock lock = {0};
    MW_TRY(mw_nonce(lock.nonce));
    if (!(lock.path = mw_format("%s.lock", output))) return MW_ERR_MEMORY;
    mw_status status = wait_and_take(output, lock.path, seconds, steal, lock.nonce);
    if (status == MW_OK) {
        status = begin_pulse(lock.path, &lock.pulse);
        if (status != MW_OK) unlink(lock.path);
    }
    if (status == MW_OK)
        *out = lock;
    else
        mw_free(lock.path);
    return status;
}

static bool is_ours(const mw_lock *lock) {
    json_t *holder = holder_of(lock->path);
    bool ours = strcmp(text_of(holder, "nonce"), lock->nonce) == 0;
    json_decref(holder);
    return ours;
}

mw_status mw_lock_check(const mw_lock *lock) {
    if (!lock->path || is_ours(lock)) return MW_OK;
    return mw_error(MW_ERR_STATE, "%s: lost the lock: another process writes this output now", lock->path);
}

void mw_lock_release(mw_lock *lock) {
    end_pulse(lock->pulse);
    if (lock->path && is_ours(lock)) unlink(lock->path);
    mw_free(lock->path);
    *lock = (mw_lock){0};
}
