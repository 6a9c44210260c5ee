/* Opens the SAE of a run and the sites that it reads and reconstructs. */
#include "experiment/run/run.h"

#include <stdio.h>

static mw_status load_sae(experiment_run *r) {
    char *path = mw_path_join(r->sae_folder, "sae.safetensors");
    mw_status status = path ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && !mw_file_exists(path))
        status = mw_error(MW_ERR_STATE, "%s does not exist: run `microw train` first", path);
    if (status == MW_OK) status = run_sae_backend(r);
    if (status == MW_OK) status = mw_sae_load(r->sae_folder, r->sae_backend, &r->sae);
    mw_free(path);
    return status;
}

/* A newly trained SAE is open already, but not yet on the device. */
mw_status run_sae_here(experiment_run *r) {
    if (!r->sae) MW_TRY(load_sae(r));
    if (r->sae->device || r->sae->encoder.prepared) return MW_OK;
    MW_TRY(run_backend_here(r));
    return mw_sae_use_device(r->sae, r->backend);
}

void run_sae_hash(const experiment_run *r, char out[MW_MODEL_MARK]) {
    snprintf(out, MW_MODEL_MARK, "%016llx", (unsigned long long)mw_sae_hash(r->sae));
}

mw_status run_sae(experiment_run *r) {
    bool known = r->sae != NULL;
    char hash[MW_MODEL_MARK];
    MW_TRY(mw_comm_agree(r->comm, run_sae_here(r)));
    if (known || mw_comm_size(r->comm) == 1) return MW_OK;
    run_sae_hash(r, hash);
    return mw_comm_require_same(r->comm, "the SAE (a hash of its weights)", hash);
}

/* Compares a site that the experiment requests with the SAE's own; an empty one matches all. */
static mw_status check_site(const experiment_run *r, const char *key, const char *requested, const char *own) {
    if (!requested[0] || !own[0] || settings_same_sites(requested, own)) return MW_OK;
    return mw_error(MW_ERR_CONFIG,
                    "%s: %s is '%s', but the SAE in %s was trained on '%s': leave the key out, or train another SAE",
                    r->e->document.file, key, requested, r->sae_folder, own);
}

/* An imported SAE may not record its site: then it is the site that the file names, or the only one in the store. */
static mw_status site_of_imported(const experiment_run *r, char **out) {
    bool named = r->e->sae.site[0] || r->e->sae.sites.count;
    if (named || mw_store_site_count(r->store) > 1) {
        if (named) return settings_sites(r->e, out);
        return mw_error(
            MW_ERR_CONFIG,
            "%s: the SAE in %s does not record which site it reads, and the activations have %lld: give sae.site",
            r->e->document.file, r->sae_folder, (long long)mw_store_site_count(r->store));
    }
    char name[MW_SITE_TEXT];
    mw_site_format(mw_store_site_at(r->store, 0)->site, name);
    return (*out = mw_strdup(name)) ? MW_OK : MW_ERR_MEMORY;
}

static mw_status sites_of_sae(const experiment_run *r, char **out) {
    char *requested = NULL;
    if (!r->sae->site[0]) return site_of_imported(r, out);
    if (r->e->sae.site[0] || r->e->sae.sites.count) {
        MW_TRY(settings_sites(r->e, &requested));
        mw_status status = check_site(r, r->e->sae.site[0] ? "sae.site" : "sae.sites", requested, r->sae->site);
        mw_free(requested);
        MW_TRY(status);
    }
    if (r->e->sae.target[0] && !r->sae->transcoder)
        return mw_error(MW_ERR_CONFIG, "%s: sae.target is '%s', but the SAE in %s is not a transcoder",
                        r->e->document.file, r->e->sae.target, r->sae_folder);
    MW_TRY(check_site(r, "sae.target", r->e->sae.target, r->sae->target));
    return (*out = mw_strdup(r->sae->site)) ? MW_OK : MW_ERR_MEMORY;
}

static mw_status open_views(const experiment_run *r, site_views *out) {
    char *sites = NULL;
    const char *target = r->sae && r->sae->transcoder && r->sae->target[0] ? r->sae->target : r->e->sae.target;
    MW_TRY(r->sae ? sites_of_sae(r, &sites) : settings_sites(r->e, &sites));
    mw_status status = mw_store_view_open(r->store, sites, &out->in);
    mw_free(sites);
    if (status == MW_OK && target && target[0]) {
        status = mw_store_view_open(r->store, target, &out->target);
        out->out = &out->target;
    }
    return status;
}

mw_status run_site_views(experiment_run *r, site_views *out) {
    *out = (site_views){0};
    MW_TRY(run_store(r));
    return mw_comm_agree(r->comm, open_views(r, out));
}

const mw_store_view *site_views_target(const site_views *v) {
    return v->out ? v->out : &v->in;
}
