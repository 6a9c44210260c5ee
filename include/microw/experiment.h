/* microw/experiment.h: an experiment file and the stages it names.
 *
 *     mw_experiment *experiment = NULL;
 *     MW_TRY(mw_experiment_load("exp.yaml", NULL, 0, &experiment));
 *     MW_TRY(mw_experiment_run(experiment, "run", comm, NULL) );     // or one stage by name
 *     mw_experiment_free(&experiment);
 */
#ifndef MICROW_EXPERIMENT_H
#define MICROW_EXPERIMENT_H

#include "microw/concepts.h"
#include "microw/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mw_experiment mw_experiment;

/* `sets`: "section.key=value" assignments that override the file. */
mw_status mw_experiment_load(const char *path, const char *const *sets, int64_t n_sets,
                             mw_experiment **out) MW_MUST_USE;
void mw_experiment_free(mw_experiment **experiment);

/* NULL stands for neither. */
typedef struct mw_run_options {
    bool
        overwrite; /* make again what is complete with other settings, or damaged; it stays until the new one is finished */
    bool steal_lock; /* write also where another process seems to; for locks whose process is known to have ended */
} mw_run_options;

/* "run": every stage whose section is in the file, skipping those that are complete; else one of harvest, train,
 * discover, name, evaluate, steer, report. Harvest, train, discover, evaluate and steer are skipped where they are complete with the
 * same settings and inputs, and refused with the keys that differ (MW_ERR_STATE) where they are complete with others. Outputs that
 * another process writes are refused with who it is. Ranks must all have been given the same (MW_ERR_CONFIG). Collective. */
mw_status mw_experiment_run(mw_experiment *experiment, const char *command, const mw_comm *comm,
                            const mw_run_options *options) MW_MUST_USE;

/* The points of the file's `sweep` section: experiments BASE.POINT that differ in a few keys of sae, train, discover, evaluate and
 * steer. One harvest serves all; points that read the same rows are trained on shared batches, as many at once as
 * fit into memory, on teams of ranks; each gives the bytes of being run alone. Finished ones are skipped, one that fails does not
 * stop the others (MW_ERR_STATE at the end). `point`: only this one, by name or number; NULL: all. Collective. */
mw_status mw_sweep_run(mw_experiment *experiment, const mw_comm *comm, const mw_run_options *options,
                       const char *point) MW_MUST_USE;
/* Prints the points, a line each: number, name, values. Local. */
mw_status mw_sweep_list(const mw_experiment *experiment) MW_MUST_USE;
/* Prints the finished ones with L0, FVU, dead latents and cross-entropy kept, and writes them to the base's run folder with
 * a figure. Local. */
mw_status mw_sweep_table(const mw_experiment *experiment) MW_MUST_USE;

typedef struct mw_plan_options {
    int64_t ranks, nodes; /* 0: as many ranks as there are; one node */
    int64_t tokens;       /* of the dataset; 0: as the file says, or estimated from its files */
    const char *device;   /* "a100", "h100", "h200", or "measured": on these ranks */
} mw_plan_options;
/* Prints what the experiment takes: disk, memory of a rank, harvest and training time, and how they scale from one rank to so
 * many. Needs config.json of the model, neither weights nor texts. Collective. */
mw_status mw_experiment_plan(const mw_experiment *experiment, const mw_comm *comm,
                             const mw_plan_options *options) MW_MUST_USE;

/* Reads names into the experiment's names.csv and concepts.json, then writes all there are; either may be NULL. AUTO: the format is
 * told by the file. Collective; one rank works. */
typedef struct mw_names_exchange {
    const char *in, *out;
    mw_names_format format;
} mw_names_exchange;
mw_status mw_experiment_names(const mw_experiment *experiment, const mw_comm *comm,
                              const mw_names_exchange *how) MW_MUST_USE;

/* Draws what there is of a run, by gnuplot: training curves, how often latents are active, FVU by position, steering, the Pareto
 * front of a sweep; and histograms of the activations of `latents`. `folder` NULL: the run's own. Where there is no gnuplot, the
 * scripts are written all the same. Collective; one rank works. */
typedef enum mw_plot_format { MW_PLOT_SVG, MW_PLOT_PNG, MW_PLOT_PDF } mw_plot_format;
typedef struct mw_plot_options {
    const char *folder;
    mw_plot_format format;
    const int64_t *latents;
    int64_t n_latents;
} mw_plot_options;
mw_status mw_experiment_plot(const mw_experiment *experiment, const mw_comm *comm,
                             const mw_plot_options *options) MW_MUST_USE;

/* Reads lines from standard input until it ends: texts, which the model continues with latents turned, and commands (":help" lists
 * them). A line that cannot be obeyed is told and costs nothing. One rank only. */
mw_status mw_experiment_lab(const mw_experiment *experiment, const mw_comm *comm) MW_MUST_USE;

/* Makes the report and serves it on 127.0.0.1 alone until a signal comes, at an address with a random token that is printed; port 0:
 * any that is free. GET of the page and its shards; POST to `generate` with {"prompt", "edits": [{"latent", "scale", "add"}],
 * "max_new_tokens", "temperature", "top_k", "top_p", "seed"} gives {"unchanged", "turned"}, and a "note" where the model's context
 * has no room for all new tokens. One request at a time, of at most 65536 bytes; its header must come within 5 seconds and its body
 * within 10; without the token a connection is the first to go when there are many. A request of a page of another origin is refused. MW_ERR_UNSUPPORTED where microw was built without libmicrohttpd. One rank only. */
mw_status mw_experiment_serve(const mw_experiment *experiment, const mw_comm *comm, int64_t port) MW_MUST_USE;
void mw_experiment_libraries(mw_library_callback *told, void *self);

/* Every key with its effective value; with `document`, also type, range and meaning. A NULL experiment: defaults. */
mw_status mw_experiment_describe(const mw_experiment *experiment, bool document, mw_text *out) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
