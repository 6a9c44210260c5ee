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

/* Refuses a stop before a site that is harvested, or before a hook whose statistics would be empty. */
mw_status yaml_hooks_check(const mw_experiment *e) MW_MUST_USE;
/* Whether one of them sums up all rows, so that none may be left out. */
bool yaml_hooks_want_all(const mw_experiment *e);
mw_status yaml_hooks_attach(const hooks_settings *settings, mw_model *model, yaml_hooks *out) MW_MUST_USE;
/* Writes statistics.json into `folder`, merged over ranks in rank order. Collective. */
mw_status yaml_hooks_report(yaml_hooks *hooks, const mw_comm *comm, const char *folder) MW_MUST_USE;
void yaml_hooks_detach(yaml_hooks *hooks);

#endif
