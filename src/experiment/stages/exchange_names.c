/* microw names: reads names of latents from a file, and writes them to one. */
#include "experiment/run/run.h"

#include <stdio.h>
#include <string.h>

static int64_t count_names(const mw_names *names) {
    int64_t n = 0;
    for (int64_t i = 0; i < names->n; i++) n += names->of[i].name != NULL;
    return n;
}

/* Writes concepts.json again, which has the names too, if there is a discovery. */
static mw_status refresh_concepts(const experiment_run *r, const mw_names *names) {
    mw_discovery d = {0};
    if (!mw_file_is_in(r->sae_folder, "discovery.h5")) return MW_OK;
    mw_status status = run_discovery(r, &d);
    if (status == MW_OK) status = run_concepts_save(r, &d, names);
    mw_discovery_free(&d);
    return status;
}

static mw_status import_names(void *self, mw_names *names) {
    const mw_names_exchange *how = self;
    return mw_names_load(how->in, how->format, mw_path_basename(how->in), names);
}

static mw_status exchange(const experiment_run *r, const mw_names_exchange *how, mw_names *names) {
    MW_TRY(run_names_load(r, r->sae->n, names));
    if (how->in) {
        MW_TRY(run_names_change(r, r->sae->n, import_names, (void *)(uintptr_t)how, names));
        MW_TRY(refresh_concepts(r, names));
        printf("names: %s read into %s/names.csv; %lld latents have a name\n", how->in, r->sae_folder,
               (long long)count_names(names));
    }
    if (how->out) {
        MW_TRY(mw_names_save(how->out, how->format, names, mw_path_basename(r->e->given->model.path), r->sae->site));
        printf("names: %lld of %lld latents in %s\n", (long long)count_names(names), (long long)names->n, how->out);
    }
    fflush(stdout);
    return MW_OK;
}

mw_status mw_experiment_names(const mw_experiment *experiment, const mw_comm *comm, const mw_names_exchange *how) {
    experiment_run r;
    mw_names names = {0};
    if (!how->in && !how->out) return mw_error(MW_ERR_CONFIG, "microw names needs --import FILE or --export FILE");
    MW_TRY(run_open(experiment, comm, NULL, &r));
    mw_status status = run_sae(&r);
    if (status == MW_OK) status = mw_comm_agree(comm, run_is_root(&r) ? exchange(&r, how, &names) : MW_OK);
    mw_names_free(&names);
    run_close(&r);
    return status;
}
