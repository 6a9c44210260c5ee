/* Start, dispatch, end. */
#include "cli/commands.h"
#include "microw/experiment.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "microw - harvest activations, train sparse autoencoders, find and turn concepts\n\n"
    "  microw run exp.yaml [--set key=value ...] [--overwrite]   every stage the file names\n"
    "  microw harvest|train|discover|name|evaluate|steer|report exp.yaml [--set ...] [--overwrite]\n"
    "  microw sweep    exp.yaml [--list | --table | --point N] [--set ...] [--overwrite]   all points, or one\n"
    "  microw names    exp.yaml [--import FILE] [--export FILE] [--format csv|json|neuronpedia]   names of latents\n"
    "  microw plot     exp.yaml [--format svg|png|pdf] [--out DIR] [--latents 42,7]   figures of a run\n"
    "  microw lab      exp.yaml               lines from the keyboard, continued with latents turned between them\n"
    "  microw serve    exp.yaml [--port N]    the report, and generation with latents turned, on this machine alone\n"
    "  microw plan     exp.yaml [--gpus N | --ranks N] [--nodes N] [--device h100|h200|a100|measured] [--tokens N]\n"
    "                  disk, memory and time of an experiment, and how they scale\n"
    "  microw generate --model DIR --prompt TEXT [--max-new-tokens N] [--temperature T] [--top-k K] [--top-p P]\n"
    "                  [--seed S] [--dtype D] [--device D] [--sae DIR] [--site S] [--scale 42=1.5,7=0] [--add 42=3]\n"
    "                  [--drop-error]\n"
    "  microw layers   --model DIR          every site with its width\n"
    "  microw inspect  FILE|FOLDER          what any file or folder of ours, or a model, holds; checksums verified\n"
    "  microw export   --sae DIR --format saelens|sparsify|dictionary_learning --out DIR\n"
    "  microw import   --from DIR --format saelens|sparsify --out DIR [--site S]\n"
    "  microw config   [exp.yaml]           every key with its meaning, or the effective file\n"
    "  microw version\n\n"
    "All run alone or under mpirun and srun. Exit codes: 0 done, 1 failed, 2 usage or configuration,\n"
    "75 interrupted by SIGTERM, SIGUSR1 or SIGINT: what was done is saved, the same command goes on.\n";

static const option_spec experiment_options[] = {{"--set", true}, {"--overwrite", false}, {"--steal-lock", false}, {0}};
static const option_spec sweep_options[] = {{"--set", true},
                                            {"--overwrite", false},
                                            {"--steal-lock", false},
                                            {"--list", false},
                                            {"--table", false},
                                            {"--point", true},
                                            {0}};
static const option_spec names_options[] = {
    {"--set", true}, {"--import", true}, {"--export", true}, {"--format", true}, {0}};
static const option_spec plot_options[] = {
    {"--set", true}, {"--format", true}, {"--out", true}, {"--latents", true}, {0}};
static const option_spec serve_options[] = {{"--set", true}, {"--port", true}, {0}};
static const option_spec plan_options[] = {{"--set", true},
                                           {"--gpus", true},
                                           {"--ranks", true},
                                           {"--nodes", true},
                                           {"--device", true},
                                           {"--tokens", true},
                                           {0}};
static const option_spec generate_options[] = {
    {"--model", true},       {"--prompt", true},      {"--max-new-tokens", true},
    {"--temperature", true}, {"--top-k", true},       {"--top-p", true},
    {"--seed", true},        {"--dtype", true},       {"--device", true},
    {"--sae", true},         {"--site", true},        {"--scale", true},
    {"--add", true},         {"--drop-error", false}, {0}};
static const option_spec layers_options[] = {{"--model", true}, {0}};
static const option_spec no_options[] = {{0}};
static const option_spec export_options[] = {
    {"--sae", true}, {"--format", true}, {"--out", true}, {"--overwrite", false}, {0}};
static const option_spec import_options[] = {{"--from", true},
                                             {"--format", true},
                                             {"--out", true},
                                             {"--site", true},
                                             {"--overwrite", false},
                                             {"--steal-lock", false},
                                             {0}};
static const option_spec config_options[] = {{"--set", true}, {0}};

static const struct {
    const char *name;
    const option_spec *options;
    mw_status (*go)(const arguments *);
} local_commands[] = {
    {"generate", generate_options, command_generate}, {"layers", layers_options, command_layers},
    {"inspect", no_options, command_inspect},         {"export", export_options, command_export},
    {"import", import_options, command_import},       {"config", config_options, command_config},
};
enum { LOCAL_COUNT = sizeof local_commands / sizeof *local_commands };

static mw_run_options run_options(const arguments *a) {
    return (mw_run_options){argument(a, "--overwrite") != NULL, argument(a, "--steal-lock") != NULL};
}

static mw_status go_experiment(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    mw_run_options options = run_options(a);
    return mw_experiment_run(experiment, a->command, world, &options);
}

static mw_status sweep(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    mw_run_options options = run_options(a);
    return mw_sweep_run(experiment, world, &options, argument(a, "--point"));
}

static mw_status go_sweep(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    bool list = argument(a, "--list") != NULL, table = argument(a, "--table") != NULL;
    if (!list && !table) return sweep(a, experiment, world);
    mw_status status = MW_OK;
    if (mw_comm_rank(world) == 0) status = list ? mw_sweep_list(experiment) : mw_sweep_table(experiment);
    return mw_comm_agree(world, status);
}

/* GPUs are those of a data sheet, ranks without further word those of this machine. */
static mw_status go_plan(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    mw_plan_options options = {.device = argument(a, "--device")};
    bool gpus = argument(a, "--gpus") != NULL;
    if (!options.device) options.device = gpus ? "h100" : "measured";
    MW_TRY(argument_int(a, gpus ? "--gpus" : "--ranks", 0, &options.ranks));
    MW_TRY(argument_int(a, "--nodes", 0, &options.nodes));
    MW_TRY(argument_int(a, "--tokens", 0, &options.tokens));
    if (options.ranks < 0 || options.ranks > 1 << 20 || options.nodes < 0 || options.nodes > 1 << 20)
        return mw_error(MW_ERR_CONFIG, "%s and --nodes: expected from 1 to %d", gpus ? "--gpus" : "--ranks", 1 << 20);
    return mw_experiment_plan(experiment, world, &options);
}

static mw_status go_names(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    mw_names_exchange how = {.in = argument(a, "--import"), .out = argument(a, "--export")};
    if (argument(a, "--format")) MW_TRY(mw_names_format_parse(argument(a, "--format"), &how.format));
    return mw_experiment_names(experiment, world, &how);
}

static mw_status read_format(const char *text, mw_plot_format *out) {
    static const char *const names[] = {"svg", "png", "pdf"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) return *out = (mw_plot_format)i, MW_OK;
    return mw_error(MW_ERR_CONFIG, "--format %s: expected svg, png or pdf", text);
}

static mw_status read_latents(const char *text, int64_t *out, int64_t most, int64_t *count) {
    char word[32];
    for (*count = 0; *text; text += text[strcspn(text, ",")] ? strcspn(text, ",") + 1 : strlen(text)) {
        size_t length = strcspn(text, ",");
        if (*count == most || length >= sizeof word)
            return mw_error(MW_ERR_CONFIG, "--latents: expected up to %lld numbers with commas between",
                            (long long)most);
        memcpy(word, text, length);
        word[length] = '\0';
        if (!mw_parse_int(word, &out[(*count)++]))
            return mw_error(MW_ERR_CONFIG, "--latents: '%s' is not a number", word);
    }
    return MW_OK;
}

static mw_status go_plot(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    enum { LATENTS_MAX = 256 };
    int64_t latents[LATENTS_MAX];
    mw_plot_options options = {.folder = argument(a, "--out"), .latents = latents};
    if (argument(a, "--format")) MW_TRY(read_format(argument(a, "--format"), &options.format));
    if (argument(a, "--latents"))
        MW_TRY(read_latents(argument(a, "--latents"), latents, LATENTS_MAX, &options.n_latents));
    return mw_experiment_plot(experiment, world, &options);
}

static mw_status go_serve(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    int64_t port;
    MW_TRY(argument_int(a, "--port", 0, &port));
    return mw_experiment_serve(experiment, world, port);
}

static mw_status go_lab(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    (void)a;
    return mw_experiment_lab(experiment, world);
}

/* What runs on an experiment file; NULL: another command. */
static const struct file_command {
    const char *name;
    const option_spec *options;
    mw_status (*go)(const arguments *, mw_experiment *, const mw_comm *);
    bool heeds_signals;
} file_commands[] = {{"sweep", sweep_options, go_sweep, true}, {"names", names_options, go_names, false},
                     {"plot", plot_options, go_plot, false},   {"lab", config_options, go_lab, false},
                     {"serve", serve_options, go_serve, true}, {"plan", plan_options, go_plan, false}};
enum { FILE_COUNT = sizeof file_commands / sizeof *file_commands };

static const struct file_command *file_command_of(const char *name) {
    static const struct file_command stage = {NULL, experiment_options, go_experiment, true};
    for (int i = 0; i < FILE_COUNT; i++)
        if (strcmp(file_commands[i].name, name) == 0) return &file_commands[i];
    return mw_experiment_has_command(name) ? &stage : NULL;
}

static mw_status run_on_file(const struct file_command *command, const arguments *a, const mw_comm *world) {
    mw_experiment *experiment = NULL;
    mw_status status = a->n_positional == 1
                           ? mw_experiment_load(a->positional[0], a->sets, a->n_sets, &experiment)
                           : mw_error(MW_ERR_CONFIG, "microw %s needs one experiment file", a->command);
    status = mw_comm_agree(world, status);
    if (status == MW_OK) status = command->go(a, experiment, world);
    mw_experiment_free(&experiment);
    return status;
}

static mw_status unknown_command(const char *given) {
    static const char *const names[] = {"run",      "harvest", "train",    "discover", "name",   "names",  "lab",
                                        "plot",     "serve",   "evaluate", "steer",    "report", "sweep",  "plan",
                                        "generate", "layers",  "inspect",  "export",   "import", "config", "version"};
    const char *near = mw_nearest_name(given, names, sizeof names / sizeof *names);
    return mw_error(MW_ERR_CONFIG, "unknown command '%s'%s%s%s; `microw` alone lists them", given,
                    near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* Ranks that were given different commands would wait for each other for ever. */
static mw_status same_command(int argc, char **argv, const mw_comm *world) {
    mw_text text = {0};
    mw_text_addf(&text, "microw %s (%s)\n", mw_version(), mw_version_git());
    for (int i = 1; i < argc; i++) mw_text_addf(&text, "%s%s", i > 1 ? " " : "", argv[i]);
    mw_status status = mw_comm_agree(world, text.failed ? MW_ERR_MEMORY : MW_OK);
    if (status == MW_OK) status = mw_comm_same(world, "the command", text.data);
    mw_text_free(&text);
    return status;
}

static mw_status dispatch(int argc, char **argv, const mw_comm *world) {
    arguments a = {.command = argv[1]};
    MW_TRY(same_command(argc, argv, world));
    const struct file_command *command = file_command_of(a.command);
    if (command) {
        MW_TRY(mw_comm_agree(world, arguments_parse(argc, argv, command->options, &a)));
        return run_on_file(command, &a, world);
    }
    for (int i = 0; i < LOCAL_COUNT; i++) {
        if (strcmp(local_commands[i].name, a.command) != 0) continue;
        MW_TRY(mw_comm_agree(world, arguments_parse(argc, argv, local_commands[i].options, &a)));
        return mw_comm_agree(world, mw_comm_rank(world) == 0 ? local_commands[i].go(&a) : MW_OK);
    }
    return unknown_command(a.command);
}

static int exit_code(mw_status status) {
    enum { TRY_AGAIN = 75 }; /* EX_TEMPFAIL of sysexits.h: what jobs are requeued by */
    return status == MW_OK ? 0 : status == MW_ERR_CONFIG ? 2 : status == MW_INTERRUPTED ? TRY_AGAIN : 1;
}

int main(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        fputs(usage, argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0) {
        printf("microw %s (%s)\n", mw_version(), mw_version_git());
        return 0;
    }
    mw_comm *world = NULL;
    mw_memory_keep();
    const struct file_command *command = file_command_of(argv[1]);
    mw_status status = command && command->heeds_signals ? mw_signals_watch() : MW_OK; /* before MPI takes its time */
    if (status == MW_OK) status = mw_comm_world(&argc, &argv, &world);
    if (status != MW_OK) return exit_code(status);
    mw_log_setup(mw_comm_rank(world), mw_comm_size(world), mw_environment("MICROW_DEBUG") ? MW_LOG_DEBUG : MW_LOG_INFO);
    status = dispatch(argc, argv, world);
    mw_comm_report_errors(world);
    if (mw_comm_abandoned(world)) {
        fflush(NULL);
        _exit(exit_code(status));
    }
    mw_comm_free(&world);
    if (mw_environment("MICROW_CHECK_LEAKS") && mw_alloc_balance() != 0)
        fprintf(stderr, "microw: warning: %lld blocks of memory were not freed\n", (long long)mw_alloc_balance());
    return exit_code(status);
}
