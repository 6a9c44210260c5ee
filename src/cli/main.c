/* Program entry: start, dispatch of verbs, exit codes. */
#include "cli/doctor.h"
#include "cli/table.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Returns whether this process is the first of those of mpirun or srun, before MPI starts: it alone prints what all
 * find. */
static bool is_first(void) {
    static const char *const ranks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
        const char *rank = mw_environment(ranks[i]);
        if (rank) return strcmp(rank, "0") == 0;
    }
    return true;
}

static int exit_code(mw_status status) {
    enum { TRY_AGAIN = 75 }; /* EX_TEMPFAIL of sysexits.h: job scripts requeue on it */
    return status == MW_OK ? 0 : status == MW_ERR_CONFIG ? 2 : status == MW_INTERRUPTED ? TRY_AGAIN : 1;
}

static mw_status run_on_file(const arguments *a, const mw_comm *world) {
    mw_experiment *experiment = NULL;
    mw_status status = mw_experiment_load(a->positional[0], a->sets, a->n_sets, &experiment);
    status = mw_comm_agree(world, status);
    if (status == MW_OK) status = a->verb->on_file(a, experiment, world);
    mw_experiment_free(&experiment);
    return status;
}

/* Checks that all ranks run the same command: others would wait for each other for ever. */
static mw_status same_command(int argc, char **argv, const mw_comm *world) {
    mw_text text = {0};
    mw_text_addf(&text, "microw %s (%s)\n", mw_version(), mw_version_git());
    for (int i = 1; i < argc; i++) mw_text_addf(&text, "%s%s", i > 1 ? " " : "", argv[i]);
    mw_status status = mw_comm_agree(world, text.failed ? MW_ERR_MEMORY : MW_OK);
    if (status == MW_OK) status = mw_comm_require_same(world, "the command", text.data);
    mw_text_free(&text);
    return status;
}

/* Returns the threads that OpenMP gives: OMP_THREAD_LIMIT may make them fewer than those it announces, for which
 * products are planned. */
static int threads_given(void) {
    int given = 1;
    omp_set_dynamic(0); /* as many each time */
#pragma omp parallel
#pragma omp single
    given = omp_get_num_threads();
    return given;
}

/* Limits the threads of OpenMP to those that have a processor, unless the user has chosen their number, since several
 * ranks of a node that are not bound would each take all; and to those that it gives. */
static mw_status share_processors(const mw_comm *world) {
    int before = omp_get_max_threads(), shared;
    MW_TRY(mw_comm_share_processors(world, &shared));
    if (!mw_environment("OMP_NUM_THREADS") && shared < before) omp_set_num_threads(shared);
    omp_set_num_threads(threads_given());
    if (omp_get_max_threads() < before)
        mw_log(MW_LOG_DEBUG, "%d of %d threads, for which there are processors", omp_get_max_threads(), before);
    return MW_OK;
}

static mw_status dispatch(const arguments *a, int argc, char **argv, const mw_comm *world) {
    MW_TRY(same_command(argc, argv, world));
    if (a->verb->on_file) return a->verb->most ? run_on_file(a, world) : a->verb->on_file(a, NULL, world);
    return mw_comm_agree(world, mw_comm_rank(world) == 0 ? a->verb->alone(a) : MW_OK);
}

/* Runs a verb under MPI, or without it where doctor must do so. */
static int run_verb(const arguments *a, int argc, char **argv) {
    mw_comm *world = NULL;
    mw_memory_keep();
    /* Watches signals first, since starting MPI takes a while. */
    mw_status status = a->verb->heeds_signals ? mw_signals_watch() : MW_OK;
    bool alone = a->verb->on_file == verb_doctor && doctor_without_mpi();
    if (status == MW_OK) status = alone ? mw_comm_self(&world) : mw_comm_world(&argc, &argv, &world);
    if (status != MW_OK) return exit_code(status);
    bool all = argument(a, "--verbose") || mw_environment("MICROW_DEBUG");
    mw_log_setup(mw_comm_rank(world), mw_comm_size(world),
                 argument(a, "--quiet") ? MW_LOG_WARNING
                 : all                  ? MW_LOG_DEBUG
                                        : MW_LOG_INFO);
    status = share_processors(world);
    if (status == MW_OK) status = dispatch(a, argc, argv, world);
    mw_status written = mw_output_end();
    if (status == MW_OK) status = written;
    if (!mw_comm_abandoned(world)) status = mw_comm_agree(world, status);
    mw_comm_report_errors(world);
    if (mw_comm_abandoned(world)) _exit(exit_code(status));
    mw_comm_free(&world);
    if (mw_environment("MICROW_CHECK_LEAKS") && mw_alloc_balance() != 0)
        fprintf(stderr, "microw: warning: %lld blocks of memory were not freed\n", (long long)mw_alloc_balance());
    return exit_code(status);
}

/* Ends a process that needed no MPI. The first process alone has printed a text or a message; since mpirun ends all as
 * soon as one fails, the others leave it time to do so. */
static int end_early(mw_status status) {
    mw_status written = mw_output_end();
    if (status != MW_OK && !is_first()) sleep(1);
    return exit_code(status == MW_OK ? written : status);
}

/* Prints the page of `microw help --man`, --bash or --zsh; false: `name` is none of these. */
static bool print_page(const char *name) {
    static const struct {
        const char *name;
        void (*print)(void);
    } pages[] = {{"--man", print_man}, {"--bash", print_bash}, {"--zsh", print_zsh}};
    for (size_t i = 0; name && i < sizeof pages / sizeof *pages; i++) {
        if (strcmp(pages[i].name, name) != 0) continue;
        if (is_first()) pages[i].print();
        return true;
    }
    return false;
}

static int help_on(const char *name) {
    if (print_page(name)) return end_early(MW_OK);
    const verb *v = name ? verb_of(name) : NULL;
    if (name && !v) return end_early(unknown_verb(name));
    if (!is_first()) return 0;
    if (v)
        print_help(v);
    else
        print_usage();
    return end_early(MW_OK);
}

static int print_version(void) {
    if (is_first()) printf("microw %s (%s)\n", mw_version(), mw_version_git());
    return end_early(MW_OK);
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c) {
    return strcmp(word, a) == 0 || strcmp(word, b) == 0 || strcmp(word, c) == 0;
}

int main(int argc, char **argv) {
    arguments a;
    mw_status status = mw_output_begin();
    mw_log_quiet(!is_first()); /* until MPI has assigned ranks */
    if (status != MW_OK) return exit_code(status);
    if (argc < 2)
        return end_early(
            mw_error(MW_ERR_CONFIG, "expected a verb: microw VERB [exp.yaml] [options]; `microw --help` lists them"));
    if (is_one_of(argv[1], "help", "--help", "-h")) return help_on(argc > 2 ? argv[2] : NULL);
    if (is_one_of(argv[1], "version", "--version", "-V")) return print_version();
    const verb *v = verb_of(argv[1]);
    if (!v) return end_early(unknown_verb(argv[1]));
    status = arguments_parse(argc, argv, v, &a);
    if (status != MW_OK) return end_early(status);
    if (argument(&a, "--help")) return help_on(v->name);
    mw_log_quiet(false);
    return run_verb(&a, argc, argv);
}
