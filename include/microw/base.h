/* microw/base.h: what every floor stands on: status codes, log, counted memory, counter-based random
 * numbers, files, and progress.
 *
 *     mw_status f(const char *path) {
 *         char *text = NULL;
 *         MW_TRY(mw_file_read(path, &text, NULL));   // passes the status up; the message is logged below
 *         mw_free(text);
 *         return MW_OK;
 *     }
 *
 * Error rule: the function that decides an error logs it once with mw_error(); callers only pass it up.
 * Out-parameters are set only on success.
 */
#ifndef MICROW_BASE_H
#define MICROW_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One list: the enum and the texts cannot drift apart; what is further down is worse. MW_STOP is not an error: it ends a pass
 * early. MW_INTERRUPTED is none either: asked to end, the program saved what it had, and a later run goes on. */
#define MW_STATUS_LIST(X)                                                                                              \
    X(MW_OK, "ok")                                                                                                     \
    X(MW_STOP, "stopped early on request")                                                                             \
    X(MW_INTERRUPTED, "interrupted by a signal")                                                                       \
    X(MW_ERR_ARG, "invalid argument")                                                                                  \
    X(MW_ERR_CONFIG, "invalid configuration")                                                                          \
    X(MW_ERR_MEMORY, "out of memory")                                                                                  \
    X(MW_ERR_IO, "input/output error")                                                                                 \
    X(MW_ERR_FORMAT, "malformed input")                                                                                \
    X(MW_ERR_UNSUPPORTED, "not supported")                                                                             \
    X(MW_ERR_STATE, "wrong state")                                                                                     \
    X(MW_ERR_COMM, "communication error")                                                                              \
    X(MW_ERR_BACKEND, "backend error")

typedef enum mw_status {
#define MW_STATUS_ENUM(code, text) code,
    MW_STATUS_LIST(MW_STATUS_ENUM)
#undef MW_STATUS_ENUM
} mw_status;

#define MW_MUST_USE __attribute__((warn_unused_result))
#define MW_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Passes a failing status up. */
#define MW_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        mw_status mw_try_status_ = (expr);                                                                             \
        if (mw_try_status_ != MW_OK) return mw_try_status_;                                                            \
    } while (0)

/* The same where something must be undone first: sets `status` and jumps. */
#define MW_TRY_GOTO(status, expr, label)                                                                               \
    do {                                                                                                               \
        (status) = (expr);                                                                                             \
        if ((status) != MW_OK) goto label;                                                                             \
    } while (0)

const char *mw_status_text(mw_status status);

/* From here on SIGTERM, SIGUSR1, SIGINT and SIGHUP are noted and end nothing by themselves; a second SIGINT ends the process.
 * SIGINT and SIGHUP that were ignored stay ignored. Under an mpirun that is about to kill its ranks, rank 0 says so. */
mw_status mw_signals_watch(void) MW_MUST_USE;
int mw_signal_seen(void); /* its number; 0: none */
/* MW_INTERRUPTED in place of MW_OK once a signal was seen: for long loops, at places where the ranks agree. */
mw_status mw_if_interrupted(mw_status status) MW_MUST_USE;

/* For programs, at their start: descriptors 0 to 2 are open, and a reader of the output that goes away ends nothing (SIGPIPE is
 * ignored). At their end: MW_ERR_IO unless all of standard output was written, or its reader has gone, who wanted no more. */
mw_status mw_output_begin(void) MW_MUST_USE;
mw_status mw_output_end(void) MW_MUST_USE;

const char *mw_version(void);     /* "0.1.0" */
const char *mw_version_git(void); /* of the tree it was built from, or "unknown" */
const char *mw_version_compiler(void);
const char *mw_version_build(void); /* "Release" */

/* The libraries that a floor calls, as they are loaded now, which may be others than those of the build: `told` hears of each once.
 * `version` is as the library tells it; NULL: this build does without. */
typedef void mw_library_callback(void *self, const char *name, const char *version);
void mw_base_libraries(mw_library_callback *told, void *self);

/* ---- log ------------------------------------------------------------------------------------------ */

typedef enum mw_log_level { MW_LOG_ERROR, MW_LOG_WARNING, MW_LOG_INFO, MW_LOG_DEBUG } mw_log_level;

/* The log is the one piece of process-wide state: who writes (rank, size), how much, and held errors.
 * With more than one rank, errors are held so that the launcher side can print each distinct one once. */
void mw_log_setup(int rank, int size, mw_log_level level);
void mw_log(mw_log_level level, const char *fmt, ...) MW_PRINTF(2, 3);
/* Where lines go in place of standard error: `call` gets each without "microw: error: " and without a newline, one at a time, from any
 * thread. It must not log. NULL: standard error again. */
typedef void mw_log_call(void *self, mw_log_level level, const char *line);
void mw_log_to(mw_log_call *call, void *self);
/* Logs an error and returns `status`, so that the place of decision reads `return mw_error(...)`. */
mw_status mw_error(mw_status status, const char *fmt, ...) MW_PRINTF(2, 3);
/* Moves the held error text (newline-separated; may be "") to the caller, who frees it with mw_free. */
char *mw_log_take_held(void);
bool mw_log_shows(mw_log_level level);
/* Drops what was held or would be printed while `quiet`: for probing calls whose failure is no failure. */
void mw_log_quiet(bool quiet); /* what is quiet twice must be told so twice */

/* ---- memory --------------------------------------------------------------------------------------- */

/* Allocations are counted; tests check the balance at exit. Blocks are 64-byte aligned. Zero bytes give a
 * valid pointer. NULL means out of memory, already logged. */
void *mw_alloc(size_t bytes);
void *mw_calloc(size_t count, size_t size);
/* Grows or shrinks a block made by the calls here; old contents are kept up to `old_bytes`. */
void *mw_realloc(void *block, size_t old_bytes, size_t new_bytes);
void mw_free(void *block);
/* For programs, at their start: freed blocks are kept for the next that want them, and some room is set aside, which is given back when a
 * block cannot be had: libraries that crash without memory then still have some while the program ends. */
void mw_memory_keep(void);
/* Whether so much more could be had now, for `what`; MW_ERR_MEMORY, logged, if not. To be asked before calls of libraries that do not
 * survive without. Costs a few microseconds. */
mw_status mw_memory_room(size_t bytes, const char *what) MW_MUST_USE;
char *mw_strdup(const char *text);
/* An owned text becomes a copy of `value` (NULL: ""); stays as it is without memory. */
mw_status mw_put_text(char **slot, const char *value) MW_MUST_USE;
char *mw_strndup(const char *text, size_t length);
char *mw_format(const char *fmt, ...) MW_PRINTF(1, 2);
int64_t mw_alloc_balance(void);

/* A growing text. {0} is empty. `failed` is sticky, so appends need no check each. */
typedef struct mw_text {
    char *data;
    size_t length, capacity;
    bool failed;
} mw_text;
void mw_text_add(mw_text *text, const char *bytes, size_t length);
void mw_text_addf(mw_text *text, const char *fmt, ...) MW_PRINTF(2, 3);
/* The same on one line of a terminal: control characters as \n, \t, \x1b; bytes that are no character as <0xE2>. */
void mw_text_add_visible(mw_text *text, const char *bytes, size_t length);
/* Columns that a terminal takes for it: 2 for wide characters, 0 for combining ones and controls. */
int mw_text_columns(const char *bytes, size_t length);
void mw_text_swap(mw_text *a, mw_text *b);
void mw_text_free(mw_text *text);

/* UTF-8: length of the valid character at `bytes`, 0 if there is none; whether all is valid; a copy in which each
 * broken sequence is one U+FFFD, as Python's errors="replace". */
size_t mw_utf8_length(const char *bytes, size_t left);
bool mw_utf8_valid(const char *bytes, size_t length);
void mw_utf8_repair(mw_text *out, const char *bytes, size_t length);
/* For people to read: each byte that is of no character as <0xE2>, so that none is lost. */
void mw_utf8_show(mw_text *out, const char *bytes, size_t length);
/* The same, of what is longer than `most` bytes only the first whole characters, and an ellipsis. */
void mw_utf8_show_cut(mw_text *out, const char *bytes, size_t length, size_t most);

/* Makes room for one more element in a growing array: `array`, its count and its capacity (int64_t). */
#define MW_GROW(array, count, capacity)                                                                                \
    ((count) < (capacity) ? true : mw_grow_((void **)&(array), &(capacity), sizeof *(array)))
bool mw_grow_(void **array, int64_t *capacity, size_t element);

/* ---- random numbers ------------------------------------------------------------------------------- */

/* Philox4x32-10 (Salmon et al., SC'11): a pure function of (key, counter), the same on CPU and GPU. */
void mw_philox(uint64_t key, uint64_t counter_hi, uint64_t counter_lo, uint32_t out[4]);
/* Uniform in [0, 1) with 24 bits; standard normal by Box-Muller. `index` is the position in stream `stream`. */
float mw_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);
float mw_rng_normal(uint64_t seed, uint64_t stream, uint64_t index);
/* Keyed permutation of 0..n-1: where `index` goes. A Feistel network with cycle walking; no state. */
uint64_t mw_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t index);

/* ---- files ---------------------------------------------------------------------------------------- */

bool mw_file_exists(const char *path);
bool mw_file_is_in(const char *folder, const char *name);
bool mw_is_directory(const char *path);
/* Both are there, and the first was not changed before the second. */
bool mw_file_is_newer(const char *path, const char *than);
bool mw_path_exists(const char *path); /* whatever it is: mw_file_exists is about regular files */
mw_status mw_file_size(const char *path, uint64_t *out) MW_MUST_USE;
/* Whole file with a NUL behind it; `length` may be NULL. Caller frees. Here and in mw_map_open only regular files are
 * read: pipes (/dev/stdin too, where it is one) and devices are refused, since every rank reads each file for itself.
 */
mw_status mw_file_read(const char *path, char **out, size_t *length) MW_MUST_USE;
/* Written to a temporary name beside it, synced, renamed: readers see the old or the new, never a half. */
mw_status mw_file_write_atomic(const char *path, const void *data, size_t length) MW_MUST_USE;
/* The same in pieces: begin, write, then commit or abort. */
typedef struct mw_atomic_file {
    char *path, *temporary;
    void *stream;
} mw_atomic_file;
mw_status mw_atomic_begin(const char *path, mw_atomic_file *out) MW_MUST_USE;
mw_status mw_atomic_write(mw_atomic_file *file, const void *data, size_t length) MW_MUST_USE;
mw_status mw_atomic_commit(mw_atomic_file *file) MW_MUST_USE; /* on failure the file is aborted */
void mw_atomic_abort(mw_atomic_file *file);
/* A file that several processes fill, each at its own places: opened by all, made anew by the one that says so. */
typedef struct mw_shared_file {
    const char *path; /* borrowed */
    int fd;
} mw_shared_file;
mw_status mw_shared_open(const char *path, bool make, mw_shared_file *out) MW_MUST_USE;
mw_status mw_shared_write(const mw_shared_file *file, uint64_t place, const void *data, size_t length) MW_MUST_USE;
/* What was written is on disk, unless the status says otherwise. */
mw_status mw_shared_close(mw_shared_file *file) MW_MUST_USE;
/* Gives a synced file its name, in place of one that has it. */
mw_status mw_file_publish(const char *temporary, const char *path) MW_MUST_USE;
/* The same where there is such a file; where there is none, nothing. Frees both paths; one that is NULL: out of memory. */
mw_status mw_file_publish_any(char *temporary, char *path) MW_MUST_USE;
mw_status mw_make_directories(const char *path) MW_MUST_USE;

/* One process at a time writes an output: who does holds OUTPUT.lock, a file with host, process, job and time, made by link(2), which
 * is one step on network file systems too. The lock of a process of this machine that has ended, or of an earlier start of the same
 * Slurm job, is taken over; any other is waited for so long, then refused with its holder (MW_ERR_STATE), unless `steal`. */
typedef struct mw_lock {
    char *path; /* NULL: none is held */
    char nonce[33];
} mw_lock;
mw_status mw_lock_take(const char *output, double seconds, bool steal, mw_lock *out) MW_MUST_USE;
/* MW_ERR_STATE where another process has taken it meanwhile: what was written must not get its name. */
mw_status mw_lock_check(const mw_lock *lock) MW_MUST_USE;
void mw_lock_release(mw_lock *lock);
/* Bytes of all files below a folder; 0 if it is not there. */
mw_status mw_folder_size(const char *path, uint64_t *out) MW_MUST_USE;
mw_status mw_free_space(const char *path, uint64_t *out) MW_MUST_USE;
/* Bytes of memory that processes can still have on this machine; 0: not known. */
uint64_t mw_free_memory(void);

enum { MW_PROCESSORS_MAX = 8192 }; /* that are told apart */
/* What the machine is, as far as this process sees it: /proc and /sys may be absent. Numbers that are not known are 0, texts "". */
typedef struct mw_machine {
    char host[256], kernel[256], libc[64], cpu[128];
    char features[256];    /* of the CPU, those that matter for speed: "avx2 fma" */
    char cpus[1024];       /* that this process may use: "0-3,8" */
    int allowed;           /* how many these are */
    int processors, cores; /* of the machine: with and without what cores have of hardware threads */
    int sockets, numa_nodes;
    double quota;           /* processors' worth of time that the control group gives; NaN: as much as there is */
    uint64_t memory, group; /* bytes: of the machine; at most for the control group, UINT64_MAX: no limit */
    bool has_nvidia, has_infiniband; /* by their device files */
} mw_machine;
void mw_machine_find(mw_machine *out);
/* What setrlimit and `ulimit` set; UINT64_MAX: no limit. */
typedef struct mw_limit {
    const char *name; /* "open_files" */
    uint64_t soft, hard;
} mw_limit;
enum { MW_LIMITS = 6 };
void mw_limits_find(mw_limit out[MW_LIMITS]);
/* What a folder is good for, found out with a file that has no name any more. */
typedef struct mw_folder {
    char type[32];     /* of the file system: "xfs"; "0x1234": one without a name here; "": not known */
    double size, free; /* bytes; NaN: not known */
    bool writable, locks;
    char problem[256]; /* why it cannot be written, else why files cannot be locked; "" */
} mw_folder;
void mw_folder_probe(const char *path, mw_folder *out);
/* Directory and last component of a path, joined paths: new strings, caller frees. */
char *mw_path_join(const char *directory, const char *name);
char *mw_path_directory(const char *path);
/* `path` as seen from `directory`, without "." and without "name/.." where `name` is no symbolic link. Absolute paths stay. */
char *mw_path_from(const char *directory, const char *path);
/* The same from the working directory; NULL also where that is not known. */
char *mw_path_absolute(const char *path);
const char *mw_path_basename(const char *path);

/* A read-only map of a whole file. */
typedef struct mw_map {
    const uint8_t *data;
    size_t length;
} mw_map;
mw_status mw_map_open(const char *path, mw_map *out) MW_MUST_USE;
void mw_map_close(mw_map *map);

/* What a gzip or zstd stream holds, or several of them one after another. Truncated, damaged, or more than there is
 * memory for: one error that names `path`. Caller frees. */
typedef enum mw_compression { MW_COMPRESSION_NONE, MW_COMPRESSION_GZIP, MW_COMPRESSION_ZSTD } mw_compression;
mw_compression mw_compression_of(const char *path); /* by the ending: .gz, .zst */
mw_status mw_decompress(const char *path, mw_compression packing, const void *data, size_t length, uint8_t **out,
                        size_t *out_length) MW_MUST_USE;

/* The program that a shell would start by this name; caller frees. NULL: PATH has none. */
char *mw_find_program(const char *name);
/* Runs a shell command with `input` on its standard input, and takes what it writes to standard output into `out`, until it has
 * ended; at most `seconds` long and about `most` bytes, else it is killed. What it started in its process group ends with it.
 * MW_ERR_IO says how it ended, unless with exit code 0; MW_INTERRUPTED: killed because a signal was seen. */
mw_status mw_command_run(const char *command, const char *input, size_t length, double seconds, size_t most,
                         mw_text *out) MW_MUST_USE;

/* SHA-256 as 64 hex digits and a NUL. */
#define MW_SHA256_TEXT 65
mw_status mw_sha256(const void *data, size_t length, char out[MW_SHA256_TEXT]) MW_MUST_USE;
mw_status mw_sha256_file(const char *path, char out[MW_SHA256_TEXT]) MW_MUST_USE;
/* Appended to `out`: bytes in base64; the same of their zlib stream; the same of their SHA-256. */
mw_status mw_base64(const void *data, size_t length, mw_text *out) MW_MUST_USE;
mw_status mw_deflate_base64(const void *data, size_t length, mw_text *out) MW_MUST_USE;
mw_status mw_sha256_base64(const void *data, size_t length, mw_text *out) MW_MUST_USE;
/* XXH64 with seed 0. */
uint64_t mw_xxh64(const void *data, size_t length);

/* Numbers in text, in the C locale: underscores between digits allowed, all of the text must be used. */
bool mw_parse_int(const char *text, int64_t *out);
bool mw_parse_double(const char *text, double *out);
/* A number for people, with so many decimals; "-" where it is undefined (NaN). */
typedef struct mw_shown {
    char text[352]; /* all of DBL_MAX */
} mw_shown;
mw_shown mw_show(double value, int decimals);
bool mw_ends_with(const char *text, const char *suffix);
bool mw_ends_with_any_case(const char *text, const char *suffix); /* of ASCII letters */
/* Of the line that byte `at` is on, from 1. */
int64_t mw_line_number(const char *text, size_t at);
/* Number of edits between two words: for "did you mean". */
int mw_edit_distance(const char *a, const char *b);

/* ---- environment, clock and progress ---------------------------------------------------------------- */

const char *mw_environment(const char *name); /* NULL when unset or empty */
double mw_seconds(void);                      /* monotonic */
void mw_timestamp(char out[32]);              /* 2026-01-31T12:00:00Z */

/* Progress of a long piece of work on rank 0, on standard error, where notes are logged: a live line on a terminal, no wider than
 * its window; plain lines where TERM is dumb; JSON lines elsewhere. There are no colours. */
typedef struct mw_progress {
    const char *what, *unit;
    int64_t total;
    double start, last;
    bool active, terminal, live;
} mw_progress;
/* What else is told, as JSON pairs `"loss":0.5,"fvu":0.2` and, for terminals, in words: "loss 0.5, FVU 0.2". */
typedef struct mw_progress_extra {
    const char *pairs, *words;
} mw_progress_extra;
void mw_progress_begin(mw_progress *progress, const char *what, const char *unit, int64_t total, bool active);
/* `extra` may be NULL. At most every 0.2 s on a terminal, every 5 s elsewhere. */
void mw_progress_update(mw_progress *progress, int64_t done, const mw_progress_extra *extra);
void mw_progress_end(mw_progress *progress, int64_t done, const mw_progress_extra *extra);
/* Takes the live line away, if there is one, before something else is printed. */
void mw_progress_clear(void);

#ifdef __cplusplus
}
#endif
#endif
