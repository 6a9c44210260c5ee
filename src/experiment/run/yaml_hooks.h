/* The hooks that an experiment file lists. */
#ifndef MICROW_EXPERIMENT_RUN_YAML_HOOKS_H
#define MICROW_EXPERIMENT_RUN_YAML_HOOKS_H

#include "experiment/settings.h"
#include "microw/model.h"

typedef struct yaml_hook {
    const hook_settings *settings;
    mw_affine_rule rule;
    mw_statistics statistics;
    mw_hook_id id;
    bool attached;
} yaml_hook;

typedef struct yaml_hooks {
    mw_model *model;
    yaml_hook *items;
    int64_t count;
} yaml_hooks;

/* MW_ERR_CONFIG for a stop before a harvested site, or before a hook whose statistics would be empty. Local. */
mw_status yaml_hooks_check(const mw_experiment *e) MW_MUST_USE;
/* Whether a hook computes statistics, so that no row may be skipped. */
bool yaml_hooks_want_all(const mw_experiment *e);
/* Attaches the hooks; yaml_hooks_detach detaches and frees. Local. */
mw_status yaml_hooks_attach(const hooks_settings *settings, mw_model *model, yaml_hooks *out) MW_MUST_USE;
/* Merges the statistics of all ranks, in rank order, and writes `folder`/statistics.json. Collective. */
mw_status yaml_hooks_report(yaml_hooks *hooks, const mw_comm *comm, const char *folder) MW_MUST_USE;
void yaml_hooks_detach(yaml_hooks *hooks);

#endif
