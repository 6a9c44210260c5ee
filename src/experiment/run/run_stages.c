/* Runs one stage of an experiment, or all of them in order. */
#include "experiment/run/run.h"

#include <string.h>

static const stage stages[] = {
    {"harvest", "harvest", stage_harvest, false},    {"train", "train", stage_train, false},
    {"discover", "discover", stage_discover, false}, {"name", "naming", stage_name, false},
    {"evaluate", "evaluate", stage_evaluate, false}, {"steer", "steer", stage_steer, false},
    {"report", "report", stage_report, true},
};
enum { STAGE_COUNT = sizeof stages / sizeof *stages };

/* Returns the number of a stage, or STAGE_COUNT for an unknown name. */
static int stage_index(const char *name) {
    int i = 0;
    while (i < STAGE_COUNT && strcmp(stages[i].name, name) != 0) i++;
    return i;
}

mw_status run_stages(experiment_run *r, const char *first, int *done) {
    for (int i = stage_index(first); i < STAGE_COUNT; i++) {
        if (!settings_has(r->e, stages[i].section)) continue;
        MW_TRY(stages[i].run(r));
        ++*done;
        MW_TRY(mw_comm_agree(r->comm, mw_if_interrupted(MW_OK)));
    }
    return MW_OK;
}

static mw_status run_stage(experiment_run *r, const char *command) {
    int i = stage_index(command);
    if (i == STAGE_COUNT) return mw_error(MW_ERR_CONFIG, "unknown stage '%s'", command);
    if (!stages[i].optional && !settings_has(r->e, stages[i].section))
        return mw_error(MW_ERR_CONFIG, "%s:1: section '%s' is missing", r->e->document.file, stages[i].section);
    return stages[i].run(r);
}

static mw_status run_command(experiment_run *r, const char *command) {
    int done = 0;
    if (strcmp(command, "run") != 0) return run_stage(r, command);
    r->reuse = true;
    MW_TRY(settings_check_harvested(r->e));
    MW_TRY(run_stages(r, stages[0].name, &done));
    return done ? MW_OK
                : mw_error(MW_ERR_CONFIG,
                           "%s: no stage in the file: expected harvest, train, discover, naming, evaluate or steer",
                           r->e->document.file);
}

mw_status mw_experiment_run(mw_experiment *experiment, const char *command, const mw_comm *comm,
                            const mw_run_options *options) {
    experiment_run r;
    MW_TRY(run_open(experiment, comm, options, &r));
    mw_status status = run_command(&r, command);
    run_close(&r);
    return status;
}
