/* microw/base.h: status codes, log, counted memory, counter-based random numbers, files, processes and progress.
 *
 *     mw_status f(const char *path) {
 *         char *text = NULL;
 *         MW_TRY(mw_file_read(path, &text, NULL));   // passes the status up; mw_file_read has logged the error
 *         mw_free(text);
 *         return MW_OK;
 *     }
 *
 * Errors: the function that detects an error logs it once with mw_error(); its callers only pass the status up.
 * Out-parameters are set only on success. All functions here are local: no rank communicates. Unless a comment says
 * otherwise, the caller frees a returned `char *` with mw_free, and NULL means out of memory, already logged.
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

/* Status codes and their texts in one list, ordered by severity: mw_comm_agree returns the largest. MW_STOP is no
 * error: it ends a pass early. MW_INTERRUPTED is no error either: after a signal the program has saved its work, and
 * a later run resumes from it. */
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

/* Returns a failing status to the caller. */
#define MW_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        mw_status mw_try_status_ = (expr);                                                                             \
        if (mw_try_status_ != MW_OK) return mw_try_status_;                                                            \
    } while (0)

/* Sets `status` and jumps to `label` on failure, for functions that must clean up first. */
#define MW_TRY_GOTO(status, expr, label)                                                                               \
    do {                                                                                                               \
        (status) = (expr);                                                                                             \
        if ((status) != MW_OK) goto label;                                                                             \
    } while (0)

/* Returns the static text of a status. */
const char *mw_status_text(mw_status status);

/* Installs handlers that record SIGTERM, SIGUSR1, SIGINT and SIGHUP; only a second SIGINT ends the process. SIGINT and
 * SIGHUP that were ignored stay ignored. Under an mpirun that is about to kill its ranks, rank 0 prints a warning.
 * A thread of its own takes the signals; the calling thread and those that it starts later block them. A program that
 * handles signals by itself must do the same: a handler on a thread that computes a product by oneDNN up to 3.11
 * damages the heap. MW_ERR_STATE: a handler cannot be installed, or the thread cannot be started. */
mw_status mw_signals_watch(void) MW_MUST_USE;
/* Returns the number of the last recorded signal, 0 for none. */
int mw_signal_seen(void);
/* Returns MW_INTERRUPTED in place of MW_OK once a signal was recorded: for long loops, at points where the ranks
 * agree. */
mw_status mw_if_interrupted(mw_status status) MW_MUST_USE;

/* For the start of a program: opens missing descriptors 0 to 2 and ignores SIGPIPE, so that a closed reader of the
 * output does not end the program. MW_ERR_IO or MW_ERR_STATE on failure. */
mw_status mw_output_begin(void) MW_MUST_USE;
/* For the end of a program: flushes standard output. MW_ERR_IO unless all output was written or its reader is gone. */
mw_status mw_output_end(void) MW_MUST_USE;

/* Static texts. */
const char *mw_version(void);     /* "0.1.0" */
const char *mw_version_git(void); /* git version of the sources, or "unknown" */
const char *mw_version_compiler(void);
const char *mw_version_build(void); /* "Release" */

/* Receives one library: `version` as the loaded library reports it, which may differ from the version of the build;
 * NULL: this build does not use the library. */
typedef void mw_library_callback(void *self, const char *name, const char *version);
/* Calls `report` once for each library that src/base uses. */
void mw_base_libraries(mw_library_callback *report, void *self);

/* ---- log ------------------------------------------------------------------------------------------ */

typedef enum mw_log_level { MW_LOG_ERROR, MW_LOG_WARNING, MW_LOG_INFO, MW_LOG_DEBUG } mw_log_level;

/* Sets the log's process-wide state: rank and number of ranks, and the level up to which lines are printed. Rank 0
 * prints warnings and notes. With more than one rank, errors are held back so that mw_comm_report_errors prints each
 * once. */
void mw_log_setup(int rank, int size, mw_log_level level);
/* Logs one line, without a newline in `fmt`. Any thread may call. */
void mw_log(mw_log_level level, const char *fmt, ...) MW_PRINTF(2, 3);
/* Receives one line without "microw: error: " and without a newline, one call at a time, from any thread. The function
 * must not log. */
typedef void mw_log_call(void *self, mw_log_level level, const char *line);
/* Sends lines to `call` in place of standard error; NULL: standard error again. */
void mw_log_to(mw_log_call *call, void *self);
/* Logs an error and returns `status`, so that the place of detection reads `return mw_error(...)`. */
mw_status mw_error(mw_status status, const char *fmt, ...) MW_PRINTF(2, 3);
/* Returns the held error lines, each with a newline, and clears them; "" for none. Caller frees. NULL: out of
 * memory. */
char *mw_log_take_held(void);
/* Returns whether lines of this level are printed. */
bool mw_log_shows(mw_log_level level);
/* Drops all lines while quiet, for calls whose failure is no error. Calls nest: two with true need two with false. */
void mw_log_quiet(bool quiet);

/* ---- memory --------------------------------------------------------------------------------------- */

/* Allocates a block, aligned to 64 bytes and counted (tests check the balance at exit). Zero bytes give a valid
 * pointer. Caller frees with mw_free. NULL: out of memory, already logged. */
void *mw_alloc(size_t bytes);
/* As mw_alloc, for count * size bytes of zeros. */
void *mw_calloc(size_t count, size_t size);
/* Moves a block of mw_alloc (or NULL) to a new size and keeps its first min(old_bytes, new_bytes) bytes. On failure
 * the old block stays valid. */
void *mw_realloc(void *block, size_t old_bytes, size_t new_bytes);
void mw_free(void *block); /* NULL: no effect */
/* For the start of a program: keeps freed blocks for reuse, and reserves 64 MB of address space that is released
 * when an allocation fails, since some libraries crash without memory while the program ends. */
void mw_memory_keep(void);
/* Checks that `bytes` can be allocated now for `what`, before calls of libraries that crash without memory.
 * MW_ERR_MEMORY, logged, if not. Takes a few microseconds. */
mw_status mw_memory_room(size_t bytes, const char *what) MW_MUST_USE;
/* Returns allocations minus frees. */
int64_t mw_alloc_balance(void);

/* Makes space for one more element in a growing array: `array`, its count and its capacity (int64_t). False: no
 * memory. */
#define MW_GROW(array, count, capacity)                                                                                \
    ((count) < (capacity) ? true : mw_grow_((void **)&(array), &(capacity), sizeof *(array)))
bool mw_grow_(void **array, int64_t *capacity, size_t element);

/* ---- texts ---------------------------------------------------------------------------------------- */

/* Return a new text; caller frees. NULL: out of memory. */
char *mw_strdup(const char *text);
char *mw_strndup(const char *text, size_t length); /* `length` bytes and a NUL */
char *mw_format(const char *fmt, ...) MW_PRINTF(1, 2);
/* Replaces an owned text by a copy of `value` (NULL: ""). MW_ERR_MEMORY: the old text stays. */
mw_status mw_put_text(char **slot, const char *value) MW_MUST_USE;

/* A growing text with a NUL behind it; {0} is empty. `failed` stays true after an allocation has failed, so one
 * check after the last append suffices. */
typedef struct mw_text {
    char *data;
    size_t length, capacity;
    bool failed;
} mw_text;
void mw_text_add(mw_text *text, const char *bytes, size_t length);
void mw_text_addf(mw_text *text, const char *fmt, ...) MW_PRINTF(2, 3);
/* Appends bytes as one line for a terminal: control characters as \n, \t, \x1b; bytes of invalid UTF-8 as <0xE2>. */
void mw_text_add_visible(mw_text *text, const char *bytes, size_t length);
/* Returns the columns that a terminal uses for a text: 2 for wide characters, 0 for combining ones and controls. */
int mw_text_columns(const char *bytes, size_t length);
void mw_text_swap(mw_text *a, mw_text *b);
void mw_text_free(mw_text *text);

/* Returns the length of the valid UTF-8 character at `bytes`; 0: the bytes are no valid character. */
size_t mw_utf8_length(const char *bytes, size_t left);
bool mw_utf8_valid(const char *bytes, size_t length);
/* Appends a copy in which each invalid sequence is one U+FFFD, as Python's errors="replace". */
void mw_utf8_repair(mw_text *out, const char *bytes, size_t length);
/* Appends a copy for people in which each invalid byte is <0xE2>, so that no byte is lost. */
void mw_utf8_show(mw_text *out, const char *bytes, size_t length);
/* As mw_utf8_show, cut to the whole characters within the first `most` bytes and an ellipsis. */
void mw_utf8_show_cut(mw_text *out, const char *bytes, size_t length, size_t most);

/* ---- random numbers ------------------------------------------------------------------------------- */

/* Philox4x32-10 (Salmon et al., SC'11): a pure function of key and counter, equal on CPU and GPU. */
/* Sets `out` to 128 random bits of the system, in hexadecimal. MW_ERR_IO. */
enum { MW_NONCE_TEXT = 33 };
mw_status mw_nonce(char out[MW_NONCE_TEXT]) MW_MUST_USE;
void mw_philox(uint64_t key, uint64_t counter_hi, uint64_t counter_lo, uint32_t out[4]);
/* Return number `index` of stream `stream`: uniform in [0, 1) with 24 bits; standard normal by Box-Muller. */
float mw_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);
float mw_rng_normal(uint64_t seed, uint64_t stream, uint64_t index);
/* Returns the image of `index` under a keyed permutation of 0..n-1: a Feistel network with cycle walking, without
 * state. */
uint64_t mw_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t index);
/* out[i] = mw_permute(seed, epoch, n, first + i), i < count; first + count <= n. Several times as fast. */
void mw_permute_range(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t first, int64_t count, int64_t *out);

/* A number with its 95 % interval. NaN: undefined. */
typedef struct mw_estimate {
    double value, low, high;
} mw_estimate;
enum { MW_ESTIMATES_MAX = 16 };
/* Computes up to MW_ESTIMATES_MAX statistics of items 0 .. n - 1 of `self`, of which item mw_resampled(draw, i, n)
 * stands at place i. */
typedef void mw_bootstrap_function(const void *self, int64_t draw, double *out);
/* Returns the item at place i of a resample of n items, drawn with replacement; of draw -1, item i itself. */
int64_t mw_resampled(int64_t draw, int64_t i, int64_t n);
/* Sets out [m] to the statistics of all items and their percentile intervals over 2000 resamples (bootstrap, Efron
 * 1979). Resamples whose statistic is NaN are left out; one item has no interval. Deterministic. */
void mw_bootstrap(mw_bootstrap_function *statistics, const void *self, int64_t n, int m, mw_estimate *out);

/* ---- files ---------------------------------------------------------------------------------------- */

bool mw_file_exists(const char *path); /* a regular file */
bool mw_file_is_in(const char *folder, const char *name);
bool mw_is_directory(const char *path);
bool mw_path_exists(const char *path); /* of any type */
/* Returns whether both files exist and `path` was not modified before `than`. */
bool mw_file_is_newer(const char *path, const char *than);
/* Sets `out` to a size in bytes; MW_ERR_IO. */
mw_status mw_file_size(const char *path, uint64_t *out) MW_MUST_USE;
/* Reads a whole file and appends a NUL; `length` (bytes without the NUL) may be NULL. Caller frees. MW_ERR_IO, also for
 * pipes and devices: mw_file_read and mw_map_open read regular files only, since every rank reads each file itself. */
mw_status mw_file_read(const char *path, char **out, size_t *length) MW_MUST_USE;
/* Writes a temporary file beside `path`, syncs it and renames it: readers see the old or the new file, never a part.
 * MW_ERR_IO; then the old file stays. */
mw_status mw_file_write_atomic(const char *path, const void *data, size_t length) MW_MUST_USE;
/* The same in pieces: begin, write, then commit or abort. Begin allocates; commit and abort free. */
typedef struct mw_atomic_file {
    char *path, *temporary;
    void *stream;
} mw_atomic_file;
mw_status mw_atomic_begin(const char *path, mw_atomic_file *out) MW_MUST_USE;
mw_status mw_atomic_write(mw_atomic_file *file, const void *data, size_t length) MW_MUST_USE;
mw_status mw_atomic_commit(mw_atomic_file *file) MW_MUST_USE; /* on failure the file is aborted */
void mw_atomic_abort(mw_atomic_file *file);
/* A file that several processes write, each at its own offsets. One process opens it with `make` (creates or empties
 * it) before the others open it. */
typedef struct mw_shared_file {
    const char *path; /* borrowed */
    int fd;
} mw_shared_file;
mw_status mw_shared_open(const char *path, bool make, mw_shared_file *out) MW_MUST_USE;
mw_status mw_shared_write(const mw_shared_file *file, uint64_t offset, const void *data, size_t length) MW_MUST_USE;
/* Syncs and closes. MW_ERR_IO: written bytes may not be on disk. */
mw_status mw_shared_close(mw_shared_file *file) MW_MUST_USE;
/* Renames a synced file to `path`, in place of an existing regular file, and syncs the folder. MW_ERR_IO. */
mw_status mw_file_publish(const char *temporary, const char *path) MW_MUST_USE;
/* As mw_file_publish if `temporary` exists, else no effect. Frees both paths; MW_ERR_MEMORY if one is NULL. */
mw_status mw_file_publish_any(char *temporary, char *path) MW_MUST_USE;
/* Creates a folder and its parents; existing ones are no error. MW_ERR_IO. */
mw_status mw_make_directories(const char *path) MW_MUST_USE;

/* Lock of an output: the file OUTPUT.lock with host, process, job and time, created by link(2), which is atomic on
 * network file systems too. */
typedef struct mw_lock {
    char *path; /* NULL: not held */
    char nonce[MW_NONCE_TEXT];
    struct mw_lock_pulse *pulse; /* a thread that touches the file every ten seconds */
} mw_lock;
/* Takes the lock of `output`. Takes over the lock of a process of this machine that has ended, of an earlier start of
 * the same Slurm job, or of another machine's process that has not touched it for two minutes. Waits up to `seconds`
 * for any other holder, then takes over with `steal`, else fails with MW_ERR_STATE and names the holder.
 * mw_lock_release frees. */
mw_status mw_lock_take(const char *output, double seconds, bool steal, mw_lock *out) MW_MUST_USE;
/* MW_ERR_STATE if another process has taken the lock meanwhile: the written file must not get its final name. */
mw_status mw_lock_check(const mw_lock *lock) MW_MUST_USE;
void mw_lock_release(mw_lock *lock);
/* Sets `out` to the bytes of all files below a folder; 0 if the folder does not exist. */
mw_status mw_folder_size(const char *path, uint64_t *out) MW_MUST_USE;
/* Sets `out` to the free bytes of the file system of `path`. */
mw_status mw_free_space(const char *path, uint64_t *out) MW_MUST_USE;

/* Directory and last component of a path, and joined paths. New texts; caller frees. */
char *mw_path_join(const char *directory, const char *name);
char *mw_path_directory(const char *path);
/* Returns `path` relative to `directory`, without "." and without "name/.." where `name` is no symbolic link. Absolute
 * paths stay. */
char *mw_path_from(const char *directory, const char *path);
/* As mw_path_from, relative to the working directory; NULL also if the working directory is unknown. */
char *mw_path_absolute(const char *path);
const char *mw_path_basename(const char *path); /* a part of `path` */

/* A read-only map of a whole regular file. */
typedef struct mw_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t length;
} mw_map;
mw_status mw_map_open(const char *path, mw_map *out) MW_MUST_USE;
void mw_map_close(mw_map *map);

typedef enum mw_compression { MW_COMPRESSION_NONE, MW_COMPRESSION_GZIP, MW_COMPRESSION_ZSTD } mw_compression;
mw_compression mw_compression_of(const char *path); /* by the ending: .gz, .zst */
/* Decompresses one or several concatenated gzip or zstd streams. Caller frees. MW_ERR_FORMAT for truncated or damaged
 * data, MW_ERR_MEMORY for more data than memory; messages name `path`. */
mw_status mw_decompress(const char *path, mw_compression packing, const void *data, size_t length, uint8_t **out,
                        size_t *out_length) MW_MUST_USE;

#define MW_SHA256_TEXT 65 /* 64 hex digits and a NUL */
mw_status mw_sha256(const void *data, size_t length, char out[MW_SHA256_TEXT]) MW_MUST_USE;
mw_status mw_sha256_file(const char *path, char out[MW_SHA256_TEXT]) MW_MUST_USE;
/* Append to `out`: bytes in base64; their zlib stream in base64; their SHA-256 in base64. */
mw_status mw_base64(const void *data, size_t length, mw_text *out) MW_MUST_USE;
mw_status mw_deflate_base64(const void *data, size_t length, mw_text *out) MW_MUST_USE;
mw_status mw_sha256_base64(const void *data, size_t length, mw_text *out) MW_MUST_USE;
/* XXH64 with seed 0. */
uint64_t mw_xxh64(const void *data, size_t length);

/* ---- machine -------------------------------------------------------------------------------------- */

/* Returns the bytes of memory that processes can still allocate on this machine, within the control group; 0:
 * unknown. */
uint64_t mw_free_memory(void);

enum { MW_PROCESSORS_MAX = 8192 }; /* highest processor number that is seen, plus 1 */
/* Facts about the machine as this process sees it; /proc and /sys may be missing. Unknown numbers are 0, texts "". */
typedef struct mw_machine {
    char host[256], kernel[256], libc[64], cpu[128];
    char features[256];              /* CPU features that matter for speed: "avx2 fma" */
    char cpus[1024];                 /* processors that this process may use: "0-3,8" */
    int allowed;                     /* their number */
    int processors, cores;           /* of the machine: with and without hardware threads */
    int sockets, numa_nodes;         /* of the machine */
    double quota;                    /* processors' worth of time that the control group allows; NaN: no limit */
    uint64_t memory, group;          /* bytes: of the machine; limit of the control group, UINT64_MAX: none */
    bool has_nvidia, has_infiniband; /* by their device files */
} mw_machine;
void mw_machine_find(mw_machine *out);
/* Sets `out` [room] to the name of this host; "": unknown. */
void mw_host_name(char *out, size_t room);
enum { MW_PROCESSORS_WORDS = MW_PROCESSORS_MAX / 64 };
/* Sets bit i % 64 of word i / 64 for each processor i that this process may use. */
void mw_processors_allowed(uint64_t out[MW_PROCESSORS_WORDS]);
/* Returns the processors' worth of time that the control groups of this process allow; NaN: no limit. */
double mw_processor_quota(void);
/* A limit of setrlimit and `ulimit`; UINT64_MAX: no limit. */
typedef struct mw_limit {
    const char *name; /* "open_files"; static */
    uint64_t soft, hard;
} mw_limit;
enum { MW_LIMITS = 6 };
void mw_limits_find(mw_limit out[MW_LIMITS]);
typedef struct mw_folder {
    char type[32];     /* file system: "xfs"; "0x1234": a type without a name in the table; "": unknown */
    double size, free; /* bytes; NaN: unknown */
    bool writable, locks;
    char problem[256]; /* why the folder cannot be written, else why files cannot be locked; "" */
} mw_folder;
/* Tests what a folder supports, with an unlinked file. */
void mw_folder_probe(const char *path, mw_folder *out);

/* ---- programs ------------------------------------------------------------------------------------- */

/* Returns the file that a shell would start by this name; caller frees. NULL: not found in PATH. */
char *mw_find_program(const char *name);
/* Runs a shell command with `input` [length] on its standard input and puts its standard output into `out`. Kills the
 * command after `seconds` or about `most` bytes of output; processes that it leaves in its process group end with it.
 * MW_ERR_IO: the command failed, the message says how; MW_INTERRUPTED: killed because a signal was recorded. */
mw_status mw_command_run(const char *command, const char *input, size_t length, double seconds, size_t most,
                         mw_text *out) MW_MUST_USE;

/* ---- numbers in text ------------------------------------------------------------------------------ */

/* Parse a whole text as a number in the C locale; underscores between digits are allowed. False: not a finite
 * number. */
bool mw_parse_int(const char *text, int64_t *out); /* also "1e6" */
bool mw_parse_double(const char *text, double *out);
/* Formats a number for people with so many decimals; "-" for NaN (undefined). */
typedef struct mw_shown {
    char text[352]; /* fits DBL_MAX */
} mw_shown;
mw_shown mw_show(double value, int decimals);
bool mw_ends_with(const char *text, const char *suffix);
bool mw_ends_with_any_case(const char *text, const char *suffix); /* of ASCII letters */
/* Returns the number, from 1, of the line that contains byte `at`. */
int64_t mw_line_number(const char *text, size_t at);
/* Returns the number of edits between two words, for "did you mean". */
int mw_edit_distance(const char *a, const char *b);

/* ---- environment, clock and progress ---------------------------------------------------------------- */

const char *mw_environment(const char *name); /* borrowed; NULL when unset or empty */
double mw_seconds(void);                      /* monotonic */
void mw_timestamp(char out[32]);              /* 2026-01-31T12:00:00Z */

/* Progress of a long task on standard error, at log level info: a live line on a terminal, no wider than its window;
 * plain lines where TERM is dumb; JSON lines elsewhere. No colours. */
typedef struct mw_progress {
    const char *what, *unit; /* borrowed */
    int64_t total;
    double start, last;
    bool active, terminal, live;
} mw_progress;
/* Further values: JSON pairs `"loss":0.5,"fvu":0.2` and, for terminals, words: "loss 0.5, FVU 0.2". */
typedef struct mw_progress_extra {
    const char *pairs, *words;
} mw_progress_extra;
/* `active`: this rank prints, normally rank 0 alone. */
void mw_progress_begin(mw_progress *progress, const char *what, const char *unit, int64_t total, bool active);
/* Prints at most every 0.2 s on a terminal, every 5 s elsewhere. `extra` may be NULL. */
void mw_progress_update(mw_progress *progress, int64_t done, const mw_progress_extra *extra);
void mw_progress_end(mw_progress *progress, int64_t done, const mw_progress_extra *extra);
/* Erases the live line, if any, before other output; the log does so itself. */
void mw_progress_clear(void);

#ifdef __cplusplus
}
#endif
#endif
