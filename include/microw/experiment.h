/* microw/experiment.h: an experiment file and the stages it names.
 *
 *     mw_experiment *experiment = NULL;
 *     MW_TRY(mw_experiment_load("exp.yaml", NULL, 0, &experiment));
 *     MW_TRY(mw_experiment_run(experiment, "run", comm, NULL));      // or one stage by name
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

/* Loads an experiment file. `sets` [n_sets]: assignments "section.key=value" that override the file. The caller
 * frees `out`. MW_ERR_CONFIG names file, line, key, what is expected and what was found. Local. */
mw_status mw_experiment_load(const char *path, const char *const *sets, int64_t n_sets,
                             mw_experiment **out) MW_MUST_USE;
void mw_experiment_free(mw_experiment **experiment);

/* A NULL pointer to these options stands for {0}. */
typedef struct mw_run_options {
    /* Make outputs again that are complete with other settings, or damaged. An output stays until the new one is
     * finished. */
    bool overwrite;
    /* Write although another process seems to hold the lock: for locks whose process is known to have ended. */
    bool steal_lock;
} mw_run_options;

/* Runs `command`: "run" for every stage whose section is in the file, skipping complete ones; else one of harvest,
 * train, discover, name, evaluate, steer, report. Harvest, train, discover, evaluate and steer are skipped if they
 * are complete with the same settings and inputs, and refused with the keys that differ (MW_ERR_STATE) if they are
 * complete with others. An output that another process writes is refused with the name of that process. All ranks
 * must have the same settings (MW_ERR_CONFIG). MW_INTERRUPTED if a signal requests the end. Collective. */
mw_status mw_experiment_run(mw_experiment *experiment, const char *command, const mw_comm *comm,
                            const mw_run_options *options) MW_MUST_USE;

/* Runs the points of the file's `sweep` section: experiments BASE.POINT that differ in some keys of sae, train,
 * discover, evaluate and steer. They share one harvest. Points that read the same rows are trained on shared
 * batches, as many at once as fit into memory, on teams of ranks; each has the bytes of a run of its own. Finished
 * points are skipped; a point that fails does not stop the others (MW_ERR_STATE at the end). `point`: run only this
 * one, given by name or number; NULL: all. Collective. */
mw_status mw_sweep_run(mw_experiment *experiment, const mw_comm *comm, const mw_run_options *options,
                       const char *point) MW_MUST_USE;
/* Prints a line for each point: number, name, values. Local. */
mw_status mw_sweep_list(const mw_experiment *experiment) MW_MUST_USE;
/* Prints the finished points with L0, FVU, dead latents and recovered cross-entropy, and writes them and a figure to
 * the base's run folder. Local. */
mw_status mw_sweep_table(const mw_experiment *experiment) MW_MUST_USE;

typedef struct mw_plan_options {
    int64_t ranks, nodes; /* 0: the ranks of `comm`; one node */
    int64_t tokens;       /* of the dataset; 0: dataset.limit_tokens, or an estimate from the size of its files */
    const char *device;   /* "a100", "h100", "h200", or "measured": on these ranks */
} mw_plan_options;
/* Prints the predicted disk space, memory per rank, and times of harvest and training, from one rank up to
 * options->ranks. Needs the model's config.json, but neither weights nor texts. Collective. */
mw_status mw_experiment_plan(const mw_experiment *experiment, const mw_comm *comm,
                             const mw_plan_options *options) MW_MUST_USE;

/* Files of names; NULL: none. The format AUTO follows the file's name. */
typedef struct mw_names_exchange {
    const char *in, *out;
    mw_names_format format;
} mw_names_exchange;
/* Reads names from `in` into the experiment's names.csv and concepts.json, then writes all names to `out`.
 * Collective; rank 0 works. */
mw_status mw_experiment_names(const mw_experiment *experiment, const mw_comm *comm,
                              const mw_names_exchange *how) MW_MUST_USE;

typedef enum mw_plot_format { MW_PLOT_SVG, MW_PLOT_PNG, MW_PLOT_PDF } mw_plot_format;
typedef struct mw_plot_options {
    const char *folder; /* NULL: the run's own */
    mw_plot_format format;
    const int64_t *latents; /* [n_latents] */
    int64_t n_latents;
} mw_plot_options;
/* Draws the results of a run with gnuplot: training curves, frequencies of latents, FVU by position, steering, the
 * Pareto front of a sweep, and histograms of the activations of `latents`. Without gnuplot only the scripts are
 * written. Collective; rank 0 works. */
mw_status mw_experiment_plot(const mw_experiment *experiment, const mw_comm *comm,
                             const mw_plot_options *options) MW_MUST_USE;

/* Reads lines from standard input to its end: prompts, which the model continues unchanged and steered, and commands
 * (":help" lists them). An error of a line is reported, and the next line is read. One rank only (MW_ERR_CONFIG). */
mw_status mw_experiment_lab(const mw_experiment *experiment, const mw_comm *comm) MW_MUST_USE;

/* Writes the report and serves it on 127.0.0.1 alone until a signal comes, at an address with a random token, which
 * it prints. Port 0: any free port. GET returns the page and its shards. POST to `generate` with {"prompt", "edits":
 * [{"latent", "scale", "add"}], "max_new_tokens", "temperature", "top_k", "top_p", "seed"} returns {"unchanged",
 * "steered"}, and a "note" if the model's context has no room for all new tokens. Requests are answered one at a
 * time and have at most 65536 bytes; the header must arrive within 5 seconds, the body within 10. Of too many
 * connections, those without the token are closed first. Requests from pages of another origin are refused.
 * MW_ERR_UNSUPPORTED without libmicrohttpd. One rank only (MW_ERR_CONFIG). */
mw_status mw_experiment_serve(const mw_experiment *experiment, const mw_comm *comm, int64_t port) MW_MUST_USE;
/* Calls `report` with the name and version of the HTTP library. */
void mw_experiment_libraries(mw_library_callback *report, void *self);

/* Appends every key with its effective value; with `document`, also type, range and meaning. A NULL experiment: the
 * defaults. */
mw_status mw_experiment_describe(const mw_experiment *experiment, bool document, mw_text *out) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
