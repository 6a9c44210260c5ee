/* Findings of `microw doctor`: problems and notes that follow from the facts. */
#include "cli/doctor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool doctor_is_problem(const json_t *finding) {
    const char *kind = doctor_text(finding, "kind");
    return kind && strcmp(kind, "problem") == 0;
}

size_t doctor_problems(const json_t *findings) {
    size_t n = 0;
    while (doctor_is_problem(json_array_get(findings, n))) n++;
    return n;
}

void doctor_add(json_t *findings, json_t *finding) {
    size_t at = doctor_is_problem(finding) ? doctor_problems(findings) : json_array_size(findings);
    json_array_insert_new(findings, at, finding);
}

static void add(json_t *findings, const char *kind, const char *about, const char *fmt, va_list args) {
    char text[1024];
    vsnprintf(text, sizeof text, fmt, args);
    doctor_add(findings,
               json_pack("{s:s, s:s, s:o}", "kind", kind, "about", about, "text", mw_json_string(text, strlen(text))));
}

/* Add a finding. */
static void MW_PRINTF(3, 4) problem(json_t *findings, const char *about, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    add(findings, "problem", about, fmt, args);
    va_end(args);
}

static void MW_PRINTF(3, 4) note(json_t *findings, const char *about, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    add(findings, "note", about, fmt, args);
    va_end(args);
}

static bool is_true(const json_t *facts, const char *path) {
    return json_is_true(doctor_value(facts, path));
}

/* ---- findings about one rank -------------------------------------------------------------------------------- */

/* Texts contain no number that differs between ranks, so that equal findings merge into one. */

static void judge_store(const json_t *facts, json_t *findings) {
    const char *path = doctor_text(facts, "store.path"), *why = doctor_text(facts, "store.problem");
    if (!is_true(facts, "store.writable"))
        problem(findings, "store", "%s: %s; choose another folder (--store DIR here, the key `store` in experiments)",
                path, why);
    else if (is_true(facts, "store.absent"))
        note(findings, "store", "%s: does not exist yet; it can be created", path);
    else if (!is_true(facts, "store.locks"))
        note(findings, "store",
             "%s: %s; ranks that write one file need locks on some file systems: use another "
             "folder (with HDF5_USE_FILE_LOCKING=FALSE HDF5 uses no locks)",
             path, why);
    if (doctor_number(facts, "store.free") < 1e9)
        note(findings, "store", "%s: less than 1 GB is free; `microw plan exp.yaml` estimates what an experiment needs",
             path);
}

static void judge_temporary(const json_t *facts, json_t *findings) {
    const char *path = doctor_text(facts, "tmpdir.path"), *why = doctor_text(facts, "tmpdir.problem");
    if (!is_true(facts, "tmpdir.writable"))
        problem(findings, "TMPDIR", "%s: %s; set TMPDIR to a writable folder: MPI keeps files there", path, why);
    else if (doctor_number(facts, "tmpdir.free") < 64e6)
        note(findings, "TMPDIR", "%s: less than 64 MB is free: MPI may fail to start", path);
}

/* Containers have 64 MB by default. */
static void judge_shared_memory(const json_t *facts, json_t *findings) {
    if (!is_true(facts, "shm.writable"))
        note(findings, "/dev/shm", "%s; ranks of one machine then exchange data through files in TMPDIR",
             doctor_text(facts, "shm.problem"));
    else if (doctor_number(facts, "shm.free") < 67.2e6)
        note(findings, "/dev/shm", "too little is free for many ranks; in a container: --shm-size=1g");
}

static void judge_memory(const json_t *facts, json_t *findings) {
    if (doctor_number(facts, "memory.free") < 1e9)
        note(findings, "memory", "less than 1 GB is free; `microw plan exp.yaml` estimates what an experiment needs");
}

static void judge_limits(const json_t *facts, json_t *findings) {
    if (doctor_number(facts, "limits.open_files.soft") < 256)
        note(findings, "limits", "the number of open files is limited to few: ulimit -n 1024");
    if (json_is_number(doctor_value(facts, "limits.file_size.soft")))
        note(findings, "limits", "the size of files is limited, and harvests are large: ulimit -f unlimited");
    if (json_is_number(doctor_value(facts, "limits.address_space.soft")))
        note(findings, "limits",
             "the address space is limited, and CUDA and MPI map more than they use: ulimit -v unlimited");
    if (is_true(facts, "machine.infiniband") && json_is_number(doctor_value(facts, "limits.locked_memory.soft")))
        note(findings, "limits",
             "InfiniBand locks memory, which is limited: ulimit -l unlimited; for Slurm "
             "LimitMEMLOCK in the unit of slurmd");
}

/* Returns whether a library is in one of the folders of a list with colons. */
static bool is_from(const char *path, const char *folders) {
    for (size_t n; path && *folders; folders += n + (folders[n] == ':')) {
        n = strcspn(folders, ":");
        if (n > 0 && strncmp(path, folders, n) == 0) return true;
    }
    return false;
}

static void judge_cuda_path(const json_t *facts, json_t *findings) {
    const char *folders = doctor_text(facts, "gpus.MICROW_CUDA_PATH");
    const json_t *one;
    size_t i;
    bool used = false;
    json_array_foreach((json_t *)(uintptr_t)doctor_value(facts, "gpus.libraries"), i, one) used =
        used || (folders && is_from(doctor_text(one, "path"), folders));
    if (folders && i > 0 && !used)
        note(findings, "GPUs", "MICROW_CUDA_PATH=%s: no loadable CUDA library was found there", folders);
}

static void judge_gpus(const json_t *facts, json_t *findings) {
    const char *why = doctor_text(facts, "gpus.problem");
    const json_t *one;
    size_t i;
    bool reported = false;
    if (!is_true(facts, "microw.cuda")) {
        if (is_true(facts, "machine.nvidia"))
            note(findings, "GPUs",
                 "this machine has an NVIDIA driver, but this build has no CUDA; the preset `cuda` has");
        return;
    }
    json_array_foreach((json_t *)(uintptr_t)doctor_value(facts, "gpus.libraries"), i, one) {
        const char *name = doctor_text(one, "name"), *wrong = doctor_text(one, "problem");
        bool named = wrong && strstr(wrong, name);
        if (wrong) note(findings, "GPUs", "%s%s%s", named ? "" : name, named ? "" : ": ", wrong);
        reported |= wrong && why && strstr(why, wrong);
    }
    if (why && !reported) note(findings, "GPUs", "the CPU is used: %s", why);
    judge_cuda_path(facts, findings);
    json_array_foreach((json_t *)(uintptr_t)doctor_value(facts, "gpus.list"), i, one) {
        if (is_true(one, "has_code")) continue;
        note(findings, "GPUs",
             "%s: this build has no code for compute capability %s; -DCMAKE_CUDA_ARCHITECTURES adds it",
             doctor_text(one, "name"), doctor_text(one, "capability"));
    }
}

static void judge_tools(const json_t *facts, json_t *findings) {
    if (!is_true(facts, "tools.gnuplot"))
        note(findings, "tools", "gnuplot is not in PATH: `microw plot` and sweeps write scripts, but no figures");
}

void doctor_judge(const json_t *facts, json_t *findings) {
    judge_store(facts, findings);
    judge_temporary(facts, findings);
    judge_shared_memory(facts, findings);
    judge_memory(facts, findings);
    judge_limits(facts, findings);
    judge_gpus(facts, findings);
    judge_tools(facts, findings);
}

/* ---- about all ranks ------------------------------------------------------------------------------------------ */

typedef struct host {
    const char *name;
    int ranks, gpus, threads;
    double processors, quota, free; /* NaN: unknown */
    bool bound_below;               /* a rank has more threads than processors */
    bool uses_gpus;
    int64_t allowed; /* processors that the ranks may use in total */
    uint8_t seen[MW_PROCESSORS_MAX];
} host;

/* Marks the processors of a list such as "0-3,8". */
static void mark_processors(const char *list, host *h) {
    for (int first, last, n; list && sscanf(list, "%d%n", &first, &n) == 1; list += n + (list[n] == ',')) {
        last = first;
        if (list[n] == '-') {
            int m = 0;
            if (sscanf(list + n + 1, "%d%n", &last, &m) != 1) return;
            n += m + 1;
        }
        for (int i = first; i >= 0 && i <= last && i < MW_PROCESSORS_MAX; i++) {
            h->allowed += !h->seen[i];
            h->seen[i] = 1;
        }
    }
}

static void add_rank(const json_t *rank, host *h) {
    double threads = doctor_number(rank, "threads"), own = doctor_number(rank, "cpus_allowed");
    h->ranks++;
    h->threads += threads > 0 ? (int)threads : 0;
    h->processors = doctor_number(rank, "processors");
    h->quota = doctor_number(rank, "cpu_quota");
    h->free = fmin(h->free, doctor_number(rank, "free_memory"));
    h->bound_below |= threads > own;
    h->uses_gpus |= is_true(rank, "uses_gpu");
    if (doctor_number(rank, "gpus") > h->gpus) h->gpus = (int)doctor_number(rank, "gpus");
    mark_processors(doctor_text(rank, "cpus"), h);
    if (own > (double)h->allowed) h->allowed = (int64_t)own; /* the list was cut */
}

static host gather_host(const char *name, const json_t *ranks) {
    host h = {.name = name, .quota = NAN, .free = NAN};
    size_t i;
    const json_t *rank;
    json_array_foreach((json_t *)(uintptr_t)ranks, i, rank) {
        const char *own = doctor_text(rank, "host");
        if (own && strcmp(own, name) == 0) add_rank(rank, &h);
    }
    return h;
}

static json_t *host_facts(const host *h) {
    json_t *o = json_object();
    doctor_put(o, "host", mw_json_string(h->name, strlen(h->name)));
    doctor_put(o, "ranks", json_integer(h->ranks));
    doctor_put(o, "cpus_allowed", h->allowed > 0 ? json_integer(h->allowed) : NULL);
    doctor_put(o, "threads", json_integer(h->threads));
    doctor_put(o, "free_memory", h->free >= 0 ? json_integer((json_int_t)h->free) : NULL);
    doctor_put(o, "gpus", json_integer(h->gpus));
    return o;
}

static const char *plural(int64_t n) {
    return n == 1 ? "" : "s";
}

static void judge_threads(const host *h, bool mpirun, json_t *findings) {
    int64_t usable = h->quota < (double)h->allowed ? (int64_t)ceil(h->quota) : h->allowed;
    int64_t fit = usable / h->ranks > 0 ? usable / h->ranks : 1;
    bool bound = mpirun && h->processors > (double)h->allowed;
    const char *unbound = bound ? "; mpirun --bind-to none lets ranks use all CPUs" : "";
    if (usable <= 0) return;
    if (h->threads > usable && h->ranks > usable)
        note(findings, "threads", "%s: %d ranks on %lld CPU%s; start fewer, with OMP_NUM_THREADS=1%s", h->name,
             h->ranks, (long long)usable, plural(usable), unbound);
    else if (h->threads > usable)
        note(findings, "threads", "%s: %d thread%s of %d rank%s on %lld CPU%s; OMP_NUM_THREADS=%lld fits%s", h->name,
             h->threads, plural(h->threads), h->ranks, plural(h->ranks), (long long)usable, plural(usable),
             (long long)fit, unbound);
    else if (h->bound_below)
        note(findings, "threads",
             "%s: ranks are bound to fewer CPUs than they have threads; mpirun --bind-to none, or "
             "--map-by slot:PE=THREADS",
             h->name);
}

/* mpirun binds each of one or two ranks to a core, which limits its threads. CPUs that Slurm does not give the job do
 * not count. */
static void judge_binding(const host *h, const json_t *facts, json_t *findings) {
    double offered = fmin(h->processors, doctor_number(facts, "mpi.slurm.cpus_on_node"));
    if (is_true(facts, "mpi.bound") && offered > (double)h->allowed)
        note(findings, "threads",
             "%s: mpirun has bound the rank%s to %lld of %.0f CPUs; --bind-to none, or --map-by "
             "slot:PE=THREADS, gives more",
             h->name, plural(h->ranks), (long long)h->allowed, offered);
}

static void judge_host(const host *h, const json_t *facts, json_t *findings) {
    const char *launcher = doctor_text(facts, "mpi.launcher");
    bool mpirun = launcher && strcmp(launcher, "mpirun") == 0;
    size_t before = json_array_size(findings);
    judge_threads(h, mpirun, findings);
    if (json_array_size(findings) == before) judge_binding(h, facts, findings);
    if (h->uses_gpus && h->ranks > h->gpus)
        note(findings, "GPUs", "%s: %d ranks share %d GPU%s; one rank per GPU is fastest", h->name, h->ranks, h->gpus,
             plural(h->gpus));
}

/* Finds processes that were started together, but of which each believes to be the only one. */
static void judge_start(const json_t *facts, json_t *findings) {
    const char *launcher = doctor_text(facts, "mpi.launcher");
    bool srun = launcher && strcmp(launcher, "srun") == 0;
    double tasks = doctor_number(facts, srun ? "mpi.slurm.tasks_of_step" : "mpi.tasks_of_mpirun");
    if (srun && !is_true(facts, "mpi.started")) {
        problem(
            findings, "MPI",
            "srun started this without PMIx, so MPI cannot start: use srun --mpi=pmix (srun --mpi=list shows what is "
            "available), or mpirun");
        return;
    }
    if (!launcher || doctor_number(facts, "mpi.ranks") != 1 || !(tasks > 1)) return;
    if (srun)
        note(findings, "MPI",
             "srun started %.0f tasks, but each runs alone and would do all of the work: use srun --mpi=pmix "
             "(srun --mpi=list shows what is available)",
             tasks);
    else
        note(findings, "MPI",
             "mpirun started %.0f processes, but each runs alone and would do all of the work: this mpirun "
             "does not belong to microw's %s",
             tasks, doctor_text(facts, "libraries.MPI"));
}

static bool is_new(const json_t *hosts, const char *name) {
    for (size_t i = 0; i < json_array_size(hosts); i++) {
        const char *known = doctor_text(json_array_get(hosts, i), "host");
        if (known && strcmp(known, name) == 0) return false;
    }
    return true;
}

void doctor_judge_ranks(const json_t *facts, const json_t *ranks, json_t *hosts, json_t *findings) {
    size_t i;
    const json_t *rank;
    judge_start(facts, findings);
    json_array_foreach((json_t *)(uintptr_t)ranks, i, rank) {
        const char *name = doctor_text(rank, "host");
        if (!name || !is_new(hosts, name)) continue;
        host h = gather_host(name, ranks);
        json_array_append_new(hosts, host_facts(&h));
        judge_host(&h, facts, findings);
    }
}
