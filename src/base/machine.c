/* Facts about this machine: free memory, processors, control group, limits. */
#include "microw/base.h"

#include <gnu/libc-version.h>
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Returns the first number after `word` in a small text file, else `fallback`. */
static uint64_t number_in(const char *path, const char *word, uint64_t fallback) {
    char line[256];
    unsigned long long value = 0;
    uint64_t found = fallback;
    FILE *file = fopen(path, "re");
    while (file && found == fallback && fgets(line, sizeof line, file))
        if (strncmp(line, word, strlen(word)) == 0 && sscanf(line + strlen(word), " %llu", &value) == 1) found = value;
    if (file) fclose(file);
    return found;
}

/* A control group of the job, which Slurm and containers create: the group of this process, or one above it. Each may
 * have a limit of its own. */
typedef struct control_group {
    char path[512]; /* "": no such group */
    size_t root;    /* length of the topmost group's path */
} control_group;

/* "cpu" is listed in "cpu,cpuacct"; "" only in the empty list. */
static bool is_listed(const char *list, const char *controller) {
    size_t length = strlen(controller);
    for (; *list; list += strcspn(list, ","), list += *list == ',')
        if (length > 0 && strcspn(list, ",") == length && memcmp(list, controller, length) == 0) return true;
    return length == 0 && list[0] == '\0';
}

/* Version 2 has one tree, "0::/job", with `controller` ""; version 1 has one tree per controller: "5:memory:/job". */
static control_group own_group(const char *controller) {
    char line[512] = "", *found = NULL;
    control_group group = {"", 0};
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        char *list = strchr(line, ':'), *end = list ? strchr(list + 1, ':') : NULL;
        if (!end) continue;
        *end = '\0';
        if (is_listed(list + 1, controller)) found = end + 1;
    }
    if (file) fclose(file);
    if (!found) return group;
    found[strcspn(found, "\n")] = '\0';
    group.root =
        (size_t)snprintf(group.path, sizeof group.path, "/sys/fs/cgroup%s%s", controller[0] ? "/" : "", controller);
    if (strcmp(found, "/") != 0) snprintf(group.path + group.root, sizeof group.path - group.root, "%s", found);
    return group;
}

/* Goes to the group above; false: there is none. */
static bool go_up(control_group *group) {
    char *end = strrchr(group->path, '/');
    if (!end || strlen(group->path) <= group->root) return false;
    *end = '\0';
    return true;
}

static uint64_t number_of(const control_group *group, const char *name, uint64_t fallback) {
    char file[640];
    snprintf(file, sizeof file, "%s/%s", group->path, name);
    return number_in(file, "", fallback);
}

/* UINT64_MAX: no limit. Version 2 writes "max", which is no number, version 1 a number near 2^63. */
static uint64_t limit_of(const control_group *group, const char *name) {
    uint64_t limit = number_of(group, name, UINT64_MAX);
    return limit < UINT64_C(1) << 62 ? limit : UINT64_MAX;
}

/* Returns the least that the group of this process and those above it leave: their limits, less what they use where
 * `usage` names that. */
static uint64_t least_of(const char *controller, const char *limit, const char *usage) {
    control_group group = own_group(controller);
    uint64_t least = UINT64_MAX;
    if (!group.path[0]) return least;
    do {
        uint64_t most = limit_of(&group, limit), used = usage ? number_of(&group, usage, 0) : 0;
        uint64_t left = most == UINT64_MAX ? most : most > used ? most - used : 0;
        if (left < least) least = left;
    } while (go_up(&group));
    return least;
}

static uint64_t lesser(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t group_memory(void) {
    return lesser(least_of("", "memory.max", NULL), least_of("memory", "memory.limit_in_bytes", NULL));
}

static uint64_t left_in_group(void) {
    return lesser(least_of("", "memory.max", "memory.current"),
                  least_of("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"));
}

uint64_t mw_free_memory(void) {
    uint64_t machine = number_in("/proc/meminfo", "MemAvailable:", 0) * 1024, group = left_in_group();
    return machine && machine < group ? machine : group == UINT64_MAX ? machine : group;
}

/* "200000 100000" is two processors, "max 100000" no limit. NAN: no limit. */
static double quota_of(const control_group *group) {
    char file[640];
    double time = NAN, period = NAN;
    snprintf(file, sizeof file, "%s/cpu.max", group->path);
    FILE *text = fopen(file, "re");
    bool limited = text && fscanf(text, "%lf %lf", &time, &period) == 2 && period > 0;
    if (text) fclose(text);
    if (limited) return time / period;
    uint64_t old = number_of(group, "cpu.cfs_quota_us", 0); /* -1, no limit, does not parse */
    uint64_t of = number_of(group, "cpu.cfs_period_us", 0);
    return old > 0 && of > 0 && old < UINT64_C(1) << 62 ? (double)old / (double)of : NAN;
}

double mw_processor_quota(void) {
    static const char *const controllers[] = {"", "cpu"};
    double least = NAN;
    for (int i = 0; i < 2; i++) {
        control_group group = own_group(controllers[i]);
        if (!group.path[0]) continue;
        do least = fmin(least, quota_of(&group)); /* of a number and NAN, the number */
        while (go_up(&group));
    }
    return least;
}

/* ---- processors -------------------------------------------------------------------------------------------- */

static const char *const fast[] = {"avx2",        "fma",         "f16c",     "avx512f",  "avx512bw",
                                   "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_bf16",
                                   "asimd",       "sve",         "sve2",     "bf16",     "i8mm"};

static bool has_word(const char *text, const char *word) {
    size_t length = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at += length)
        if (at > text && strchr(" \t", at[-1]) && strchr(" \n", at[length])) return true;
    return false;
}

static void keep_features(const char *flags, mw_machine *m) {
    m->features[0] = '\0';
    for (size_t i = 0, n = 0; i < sizeof fast / sizeof *fast; i++)
        if (has_word(flags, fast[i]))
            n += (size_t)snprintf(m->features + n, sizeof m->features - n, "%s%s", n ? " " : "", fast[i]);
}

/* Reads the first processor only: all are assumed equal. */
static void read_cpuinfo(mw_machine *m) {
    char line[8192];
    FILE *file = fopen("/proc/cpuinfo", "re");
    bool named = false, known = false;
    while (file && !(named && known) && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (value && strncmp(line, "model name", 10) == 0 && !named) {
            named = true;
            value += 1 + strspn(value + 1, " \t");
            snprintf(m->cpu, sizeof m->cpu, "%.*s", (int)strcspn(value, "\n"), value);
        } else if (value && (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0) && !known) {
            known = true;
            keep_features(value, m);
        }
    }
    if (file) fclose(file);
}

/* Whether a processor is the first of its list of siblings: each core and socket is counted by its first processor. */
static bool is_first_of(int processor, const char *list) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", processor, list);
    return number_in(path, "", UINT64_MAX) == (uint64_t)processor;
}

static void count_nodes(mw_machine *m) {
    enum { NODES_MAX = 1024 };
    char path[64];
    for (int i = 0; i < NODES_MAX; i++) {
        snprintf(path, sizeof path, "/sys/devices/system/node/node%d", i);
        m->numa_nodes += mw_is_directory(path);
    }
}

static void count_processors(mw_machine *m) {
    long present = sysconf(_SC_NPROCESSORS_CONF), online = sysconf(_SC_NPROCESSORS_ONLN);
    m->processors = online > 0 ? (int)online : 0;
    for (int i = 0; i < present; i++) {
        m->cores += is_first_of(i, "thread_siblings_list");
        m->sockets += is_first_of(i, "core_siblings_list");
    }
    count_nodes(m);
}

enum { WORD_BITS = 64 };

static bool is_allowed(const uint64_t *set, int i) {
    return set[i / WORD_BITS] >> i % WORD_BITS & 1;
}

static void allow(uint64_t *set, int i) {
    if (i >= 0 && i < MW_PROCESSORS_MAX) set[i / WORD_BITS] |= UINT64_C(1) << i % WORD_BITS;
}

/* Adds all OpenMP places: with OMP_PROC_BIND the affinity of this thread is its own place only. */
static void add_places(uint64_t *set) {
    int ids[MW_PROCESSORS_MAX];
    for (int i = 0; i < omp_get_num_places(); i++) {
        int n = omp_get_place_num_procs(i);
        if (n <= 0 || n > MW_PROCESSORS_MAX) continue;
        omp_get_place_proc_ids(i, ids);
        for (int k = 0; k < n; k++) allow(set, ids[k]);
    }
}

void mw_processors_allowed(uint64_t out[MW_PROCESSORS_WORDS]) {
    cpu_set_t set[MW_PROCESSORS_MAX / CPU_SETSIZE];
    memset(set, 0, sizeof set);
    memset(out, 0, MW_PROCESSORS_WORDS * sizeof *out);
    if (sched_getaffinity(0, sizeof set, set) != 0) return;
    for (int i = 0; i < MW_PROCESSORS_MAX; i++)
        if (CPU_ISSET_S(i, sizeof set, set)) allow(out, i);
    add_places(out);
}

/* Lists processors as "0-3,8", cut to the size of the text. */
static void list_allowed(const uint64_t *set, mw_machine *m) {
    size_t length = 0;
    for (int i = 0, end; i < MW_PROCESSORS_MAX && length + 32 < sizeof m->cpus; i = end) {
        end = i + 1;
        if (!is_allowed(set, i)) continue;
        while (end < MW_PROCESSORS_MAX && is_allowed(set, end)) end++;
        length += (size_t)snprintf(m->cpus + length, sizeof m->cpus - length, length ? ",%d" : "%d", i);
        if (end - i > 1) length += (size_t)snprintf(m->cpus + length, sizeof m->cpus - length, "-%d", end - 1);
    }
}

static void find_allowed(mw_machine *m) {
    uint64_t set[MW_PROCESSORS_WORDS];
    mw_processors_allowed(set);
    for (int i = 0; i < MW_PROCESSORS_MAX; i++) m->allowed += is_allowed(set, i);
    list_allowed(set, m);
}

void mw_host_name(char *out, size_t room) {
    memset(out, 0, room);
    if (gethostname(out, room - 1) != 0) out[0] = '\0';
}

void mw_machine_find(mw_machine *out) {
    struct utsname name;
    *out = (mw_machine){.quota = mw_processor_quota(), .group = group_memory()};
    mw_host_name(out->host, sizeof out->host);
    if (uname(&name) == 0)
        snprintf(out->kernel, sizeof out->kernel, "%s %s %s", name.sysname, name.release, name.machine);
    snprintf(out->libc, sizeof out->libc, "glibc %s", gnu_get_libc_version());
    read_cpuinfo(out);
    count_processors(out);
    find_allowed(out);
    out->memory = number_in("/proc/meminfo", "MemTotal:", 0) * 1024;
    out->has_nvidia = mw_path_exists("/dev/nvidiactl");
    out->has_infiniband = mw_is_directory("/sys/class/infiniband");
}

/* ---- limits ------------------------------------------------------------------------------------------------ */

void mw_limits_find(mw_limit out[MW_LIMITS]) {
    static const struct {
        const char *name;
        int resource;
    } all[MW_LIMITS] = {{"open_files", RLIMIT_NOFILE}, {"processes", RLIMIT_NPROC},  {"locked_memory", RLIMIT_MEMLOCK},
                        {"stack", RLIMIT_STACK},       {"address_space", RLIMIT_AS}, {"file_size", RLIMIT_FSIZE}};
    for (int i = 0; i < MW_LIMITS; i++) {
        struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
        getrlimit(all[i].resource, &limit);
        out[i].name = all[i].name;
        out[i].soft = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
        out[i].hard = limit.rlim_max == RLIM_INFINITY ? UINT64_MAX : limit.rlim_max;
    }
}
