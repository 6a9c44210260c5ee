/* Facts that one process finds for `microw doctor`. Nothing is logged, and nothing that is missing is an error. */
#include "cli/doctor.h"
#include "microw/experiment.h"
#include "microw/store.h"
#include "microw/tokenizer.h"

#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- values ------------------------------------------------------------------------------------------------ */

void doctor_put(json_t *object, const char *key, json_t *value) {
    json_object_set_new(object, key, value ? value : json_null());
}

const json_t *doctor_value(const json_t *facts, const char *path) {
    char key[64];
    for (size_t n; facts && *path; path += n + (path[n] == '.')) {
        n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        facts = json_object_get(facts, key);
    }
    return facts;
}

const char *doctor_text(const json_t *facts, const char *path) {
    return json_string_value(doctor_value(facts, path));
}

double doctor_number(const json_t *facts, const char *path) {
    const json_t *value = doctor_value(facts, path);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static json_t *text(const char *value) {
    return value && value[0] ? mw_json_string(value, strlen(value)) : NULL;
}

static json_t *count(int64_t value) {
    return value > 0 ? json_integer(value) : NULL;
}

static json_t *bytes(double value) {
    return value >= 0 ? json_integer((json_int_t)value) : NULL;
}

static json_t *words(const char *value) {
    json_t *list = value[0] ? json_array() : NULL;
    for (size_t n; *value; value += n + (value[n] == ' ')) {
        n = strcspn(value, " ");
        json_array_append_new(list, mw_json_string(value, n));
    }
    return list;
}

static void put_environment(json_t *object, const char *key, const char *name) {
    doctor_put(object, key, text(mw_environment(name)));
}

/* Sets an environment variable as a number if it is one, else as text. */
static void put_environment_count(json_t *object, const char *key, const char *name) {
    const char *value = mw_environment(name);
    int64_t number;
    doctor_put(object, key, value && mw_parse_int(value, &number) ? json_integer(number) : text(value));
}

/* ---- the program ------------------------------------------------------------------------------------------- */

/* Returns the bundle's folder if this program is in it: a bundle's mpirun sets MICROW_BUNDLE for other programs too. */
static const char *bundle(void) {
    const char *root = mw_environment("MICROW_BUNDLE");
    char whole[PATH_MAX], program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (!root || length < 0 || !realpath(root, whole)) return root;
    program[length] = '\0';
    return strncmp(program, whole, strlen(whole)) == 0 && program[strlen(whole)] == '/' ? root : NULL;
}

static json_t *program_facts(const mw_gpus *gpus) {
    json_t *o = json_object();
    doctor_put(o, "version", text(mw_version()));
    doctor_put(o, "git", text(mw_version_git()));
    doctor_put(o, "compiler", text(mw_version_compiler()));
    doctor_put(o, "build", text(mw_version_build()));
    doctor_put(o, "cuda", json_boolean(gpus->in_build));
    doctor_put(o, "bundle", text(bundle()));
    return o;
}

static void put_library(void *self, const char *name, const char *version) {
    doctor_put(self, name, text(version));
}

static json_t *library_facts(void) {
    json_t *o = json_object();
    mw_comm_libraries(put_library, o);
    mw_store_libraries(put_library, o);
    mw_backend_libraries(put_library, o);
    mw_tokenizer_libraries(put_library, o);
    mw_config_libraries(put_library, o);
    mw_base_libraries(put_library, o);
    mw_experiment_libraries(put_library, o);
    return o;
}

/* ---- the machine ------------------------------------------------------------------------------------------- */

static json_t *machine_facts(const mw_machine *m) {
    json_t *o = json_object();
    doctor_put(o, "host", text(m->host));
    doctor_put(o, "kernel", text(m->kernel));
    doctor_put(o, "libc", text(m->libc));
    doctor_put(o, "cpu", text(m->cpu));
    doctor_put(o, "features", words(m->features));
    doctor_put(o, "processors", count(m->processors));
    doctor_put(o, "cores", count(m->cores));
    doctor_put(o, "sockets", count(m->sockets));
    doctor_put(o, "numa_nodes", count(m->numa_nodes));
    doctor_put(o, "cpus", text(m->cpus));
    doctor_put(o, "cpus_allowed", count(m->allowed));
    doctor_put(o, "cpu_quota", mw_json_real(m->quota));
    doctor_put(o, "nvidia", json_boolean(m->has_nvidia));
    doctor_put(o, "infiniband", json_boolean(m->has_infiniband));
    return o;
}

static json_t *memory_facts(const mw_machine *m) {
    json_t *o = json_object();
    uint64_t left = mw_free_memory();
    doctor_put(o, "total", m->memory ? bytes((double)m->memory) : NULL);
    doctor_put(o, "free", left ? bytes((double)left) : NULL);
    doctor_put(o, "group_limit", m->group == UINT64_MAX ? NULL : bytes((double)m->group));
    return o;
}

static json_t *thread_facts(void) {
    json_t *o = json_object();
    doctor_put(o, "openmp", count(omp_get_max_threads()));
    put_environment(o, "OMP_NUM_THREADS", "OMP_NUM_THREADS");
    put_environment(o, "OMP_PROC_BIND", "OMP_PROC_BIND");
    return o;
}

static json_t *limit(uint64_t value) {
    return value == UINT64_MAX ? json_string("unlimited") : json_integer((json_int_t)value);
}

static json_t *limit_facts(void) {
    mw_limit limits[MW_LIMITS];
    json_t *o = json_object();
    mw_limits_find(limits);
    for (int i = 0; i < MW_LIMITS; i++) {
        json_t *one = json_object();
        doctor_put(one, "soft", limit(limits[i].soft));
        doctor_put(one, "hard", limit(limits[i].hard));
        doctor_put(o, limits[i].name, one);
    }
    return o;
}

/* ---- folders ----------------------------------------------------------------------------------------------- */

/* Returns the nearest existing folder above `path`, in which it would be created. The caller frees. */
static char *existing_folder(const char *path) {
    char *at = mw_path_absolute(path);
    while (at && at[1] && !mw_path_exists(at)) {
        char *above = mw_path_directory(at);
        mw_free(at);
        at = above;
    }
    return at;
}

static json_t *folder_facts(const char *path, bool may_be_absent) {
    json_t *o = json_object();
    mw_folder folder;
    char *absolute = mw_path_absolute(path), *nearest = may_be_absent ? existing_folder(path) : NULL;
    bool absent = may_be_absent && !mw_path_exists(path);
    mw_folder_probe(absent && nearest ? nearest : path, &folder);
    mw_free(nearest);
    doctor_put(o, "absent", json_boolean(absent));
    doctor_put(o, "path", text(absolute ? absolute : path));
    doctor_put(o, "type", text(folder.type));
    doctor_put(o, "size", bytes(folder.size));
    doctor_put(o, "free", bytes(folder.free));
    doctor_put(o, "writable", json_boolean(folder.writable));
    doctor_put(o, "locks", folder.writable ? json_boolean(folder.locks) : NULL);
    doctor_put(o, "problem", text(folder.problem));
    mw_free(absolute);
    return o;
}

/* Returns the temporary folder by the rules of Open MPI. */
static const char *temporary_folder(void) {
    static const char *const names[] = {"TMPDIR", "TEMP", "TMP"};
    for (int i = 0; i < 3; i++)
        if (mw_environment(names[i])) return mw_environment(names[i]);
    return "/tmp";
}

/* A launcher that knows MPI has created its folders, and sets a variable. In a step of an srun that does not, Open MPI
 * ends the process. */
bool doctor_without_mpi(void) {
    mw_folder folder;
    if (mw_environment("PMIX_RANK")) return false;
    if (mw_environment("SLURM_STEP_ID")) return true; /* also with --mpi=pmi2, which this Open MPI does not support */
    if (mw_environment("PMI_RANK")) return false;
    mw_folder_probe(temporary_folder(), &folder);
    return !folder.writable;
}

/* ---- MPI --------------------------------------------------------------------------------------------------- */

/* Returns the launcher by variables that it alone sets: Open MPI sets some of those of mpirun also in a process started
 * alone. */
static const char *launcher(void) {
    const char *space = mw_environment("PMIX_NAMESPACE");
    if (space && strncmp(space, "slurm.", 6) == 0) return "srun";
    if (mw_environment("OMPI_UNIVERSE_SIZE") || mw_environment("PRTE_LAUNCHED") || mw_environment("HYDI_CONTROL_FD"))
        return "mpirun";
    return mw_environment("SLURM_STEP_NUM_TASKS") ? "srun" : NULL;
}

static const char *pmix(void) {
    const char *version = mw_environment("PMIX_VERSION");
    return version ? version : mw_environment("PMIX_RANK") ? "of unknown version" : NULL;
}

static json_t *slurm_facts(void) {
    static const char *const names[][2] = {{"job", "SLURM_JOB_ID"},
                                           {"nodes", "SLURM_JOB_NUM_NODES"},
                                           {"tasks", "SLURM_NTASKS"},
                                           {"tasks_of_step", "SLURM_STEP_NUM_TASKS"},
                                           {"cpus_per_task", "SLURM_CPUS_PER_TASK"},
                                           {"cpus_on_node", "SLURM_CPUS_ON_NODE"}};
    enum { NAMES = sizeof names / sizeof *names };
    bool any = false;
    for (int i = 0; i < NAMES; i++) any |= mw_environment(names[i][1]) != NULL;
    json_t *o = any ? json_object() : NULL;
    for (int i = 0; any && i < NAMES; i++) put_environment_count(o, names[i][0], names[i][1]);
    return o;
}

static json_t *mpi_facts(void) {
    json_t *o = json_object();
    doctor_put(o, "launcher", text(launcher()));
    doctor_put(o, "pmix", text(pmix()));
    doctor_put(o, "slurm", slurm_facts());
    put_environment_count(o, "tasks_of_mpirun",
                          mw_environment("OMPI_COMM_WORLD_SIZE") ? "OMPI_COMM_WORLD_SIZE" : "PMI_SIZE");
    doctor_put(o, "bound", json_boolean(mw_environment("OMPI_MCA_orte_bound_at_launch") != NULL));
    return o;
}

/* ---- GPUs -------------------------------------------------------------------------------------------------- */

/* 13000: "13.0". */
static json_t *cuda_version(int value) {
    char shown[32];
    snprintf(shown, sizeof shown, "%d.%d", value / 1000, value % 1000 / 10);
    return value > 0 ? text(shown) : NULL;
}

/* 130100: "13.1.0". cuBLAS before version 11 and NCCL before 2.9 count in thousands. */
static json_t *library_version(const char *name, int value) {
    char shown[48];
    bool old = strcmp(name, "NCCL") == 0 ? value < 10000 : value < 100000;
    int unit = old ? 1000 : 10000;
    snprintf(shown, sizeof shown, "%d.%d.%d", value / unit, value % unit / 100, value % 100);
    return value > 0 ? text(shown) : NULL;
}

static json_t *gpu_facts(const mw_gpu *gpu) {
    char capability[32];
    json_t *o = json_object();
    snprintf(capability, sizeof capability, "%d.%d", gpu->major, gpu->minor);
    doctor_put(o, "name", text(gpu->name));
    doctor_put(o, "bus", text(gpu->bus));
    doctor_put(o, "capability", text(capability));
    doctor_put(o, "memory", bytes(gpu->memory));
    doctor_put(o, "free", bytes(gpu->free));
    doctor_put(o, "has_code", json_boolean(gpu->has_code));
    return o;
}

static json_t *gpu_library_facts(const mw_gpu_library *library) {
    json_t *o = json_object();
    doctor_put(o, "name", text(library->name));
    doctor_put(o, "made_for", library_version(library->name, library->made_for));
    doctor_put(o, "found", library_version(library->name, library->found));
    doctor_put(o, "path", text(library->path));
    doctor_put(o, "problem", text(library->problem));
    return o;
}

static json_t *gpus_facts(const mw_gpus *gpus) {
    json_t *o = json_object(), *list = json_array(), *libraries = json_array();
    for (int64_t i = 0; i < gpus->n; i++) json_array_append_new(list, gpu_facts(&gpus->list[i]));
    for (int i = 0; i < gpus->n_libraries; i++)
        json_array_append_new(libraries, gpu_library_facts(&gpus->libraries[i]));
    doctor_put(o, "auto", json_string(gpus->problem[0] ? "cpu" : "cuda"));
    doctor_put(o, "problem", text(gpus->problem));
    doctor_put(o, "driver", cuda_version(gpus->driver));
    doctor_put(o, "runtime", cuda_version(gpus->runtime));
    doctor_put(o, "architectures", words(gpus->architectures));
    put_environment(o, "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES");
    put_environment(o, "MICROW_CUDA_PATH", "MICROW_CUDA_PATH");
    doctor_put(o, "list", list);
    doctor_put(o, "libraries", libraries);
    return o;
}

static void find_gpus(mw_gpus *gpus) {
    mw_log_quiet(true);
    if (mw_gpus_find(gpus) != MW_OK) {
        *gpus = (mw_gpus){0};
        snprintf(gpus->problem, sizeof gpus->problem, "the GPUs cannot be queried");
    }
    mw_log_quiet(false);
}

/* ---- tools ------------------------------------------------------------------------------------------------- */

static bool is_in_path(const char *tool) {
    char *file = mw_find_program(tool);
    mw_free(file);
    return file != NULL;
}

static json_t *tool_facts(void) {
    json_t *o = json_object();
    doctor_put(o, "gnuplot", json_boolean(is_in_path("gnuplot")));
    doctor_put(o, "python3", json_boolean(is_in_path("python3")));
    return o;
}

json_t *doctor_facts(const char *store) {
    json_t *facts = json_object();
    mw_machine machine;
    mw_gpus gpus;
    mw_machine_find(&machine);
    find_gpus(&gpus);
    doctor_put(facts, "microw", program_facts(&gpus));
    doctor_put(facts, "libraries", library_facts());
    doctor_put(facts, "machine", machine_facts(&machine));
    doctor_put(facts, "memory", memory_facts(&machine));
    doctor_put(facts, "threads", thread_facts());
    doctor_put(facts, "mpi", mpi_facts());
    doctor_put(facts, "store", folder_facts(store, true));
    doctor_put(facts, "tmpdir", folder_facts(temporary_folder(), false));
    doctor_put(facts, "shm", folder_facts("/dev/shm", false));
    doctor_put(facts, "limits", limit_facts());
    doctor_put(facts, "gpus", gpus_facts(&gpus));
    doctor_put(facts, "tools", tool_facts());
    mw_gpus_free(&gpus);
    return facts;
}
