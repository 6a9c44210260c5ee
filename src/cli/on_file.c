/* The verbs with an experiment file. */
#include "cli/table.h"

#include <string.h>

static mw_run_options run_options(const arguments *a) {
    return (mw_run_options){argument(a, "--overwrite") != NULL, argument(a, "--steal-lock") != NULL};
}

mw_status verb_stage(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    mw_run_options options = run_options(a);
    return mw_experiment_run(experiment, a->verb->name, world, &options);
}

mw_status verb_sweep(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    bool list = argument(a, "--list") != NULL, table = argument(a, "--table") != NULL;
    if ((list && table) || ((list || table) && argument(a, "--point")))
        return mw_error(MW_ERR_CONFIG, "--list, --table and --point: expected at most one of them");
    mw_run_options options = run_options(a);
    if (!list && !table) return mw_sweep_run(experiment, world, &options, argument(a, "--point"));
    mw_status status = MW_OK;
    if (mw_comm_rank(world) == 0) status = list ? mw_sweep_list(experiment) : mw_sweep_table(experiment);
    return mw_comm_agree(world, status);
}

/* --gpus defaults to the rates of a data sheet, --ranks to those measured on this machine. */
mw_status verb_plan(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    mw_plan_options options = {.device = argument(a, "--device")};
    bool gpus = argument(a, "--gpus") != NULL;
    if (gpus && argument(a, "--ranks"))
        return mw_error(MW_ERR_CONFIG, "--gpus and --ranks: expected at most one of them, since each GPU has one rank");
    if (!options.device) options.device = gpus ? "h100" : "measured";
    MW_TRY(argument_int(a, gpus ? "--gpus" : "--ranks", 0, &options.ranks));
    MW_TRY(argument_int(a, "--nodes", 0, &options.nodes));
    MW_TRY(argument_int(a, "--tokens", 0, &options.tokens));
    if (options.ranks < 0 || options.ranks > 1 << 20 || options.nodes < 0 || options.nodes > 1 << 20)
        return mw_error(MW_ERR_CONFIG, "%s and --nodes: expected from 1 to %d", gpus ? "--gpus" : "--ranks", 1 << 20);
    return mw_experiment_plan(experiment, world, &options);
}

mw_status verb_names(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
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
            return mw_error(MW_ERR_CONFIG, "--latents: expected up to %lld numbers separated by commas",
                            (long long)most);
        memcpy(word, text, length);
        word[length] = '\0';
        if (!mw_parse_int(word, &out[(*count)++]))
            return mw_error(MW_ERR_CONFIG, "--latents: '%s' is not a number", word);
    }
    return MW_OK;
}

mw_status verb_plot(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    enum { LATENTS_MAX = 256 };
    int64_t latents[LATENTS_MAX];
    mw_plot_options options = {.folder = argument(a, "--out"), .latents = latents};
    if (argument(a, "--format")) MW_TRY(read_format(argument(a, "--format"), &options.format));
    if (argument(a, "--latents"))
        MW_TRY(read_latents(argument(a, "--latents"), latents, LATENTS_MAX, &options.n_latents));
    return mw_experiment_plot(experiment, world, &options);
}

mw_status verb_serve(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    int64_t port;
    MW_TRY(argument_int(a, "--port", 0, &port));
    return mw_experiment_serve(experiment, world, port);
}

mw_status verb_lab(const arguments *a, mw_experiment *experiment, const mw_comm *world) {
    (void)a;
    return mw_experiment_lab(experiment, world);
}
