#include "experiment/run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const sections[] = {"sae", "train"};

static int64_t or_auto(int64_t value, int64_t otherwise) {
    return value == MW_AUTO_INT ? otherwise : value;
}

static mw_train_options options_of(const mw_experiment *e, int64_t width, const char *fingerprint) {
    const train_settings *t = &e->train;
    int64_t steps = (t->tokens + t->batch - 1) / t->batch;
    return (mw_train_options){.batch = t->batch,
                              .steps = steps,
                              .lr = t->lr,
                              .beta1 = t->beta1,
                              .beta2 = t->beta2,
                              .eps = t->eps,
                              .warmup_steps = or_auto(t->warmup, steps < 20000 ? steps / 20 : 1000),
                              .decay_fraction = t->decay,
                              .clip_norm = t->clip_norm,
                              .aux_k = or_auto(t->aux_k, width / 2),
                              .aux_coefficient = t->aux_coefficient,
                              .dead_after =
                                  or_auto(t->dead_after, t->tokens < 100000000 ? t->tokens / 10 + 1 : 10000000),
                              .seed = e->sae.seed,
                              .normalize = t->normalize,
                              .init_rows = t->init_rows,
                              .log_every = t->log_every,
                              .checkpoint_every = t->checkpoint_every,
                              .fingerprint = fingerprint};
}

static mw_status label(mw_sae *sae, const char *site, const char *model) {
    char *s = mw_strdup(site), *m = mw_strdup(model);
    if (!s || !m) {
        mw_free(s);
        mw_free(m);
        return MW_ERR_MEMORY;
    }
    mw_free(sae->site);
    mw_free(sae->model);
    sae->site = s;
    sae->model = m;
    return MW_OK;
}

static void print_result(const mw_sae *sae, const mw_step_report *r, double seconds, int64_t tokens,
                         const char *folder) {
    printf("train: %s, %lld latents, k %lld, on %s: FVU %.4f, explained variance %.4f, L0 %.1f, dead %.2f %% in %s "
           "(%.1f s, %.0f tokens/s)\n",
           mw_variant_name(sae->variant), (long long)sae->n, (long long)sae->k, sae->site, r->fvu,
           r->explained_variance, r->l0, 100.0 * (double)r->dead / (double)sae->n, folder, seconds,
           (double)tokens / seconds);
    fflush(stdout);
}

static mw_status train(run *r, const mw_store_site *site, const char *fingerprint) {
    const mw_experiment *e = r->e;
    double start = mw_seconds();
    mw_train_options options = options_of(e, site->width, fingerprint);
    mw_step_report last = {0};
    mw_status status = run_sae_backend(r);
    mw_sae_free(&r->sae);
    if (status == MW_OK)
        status = mw_sae_new(r->sae_backend, or_auto(e->sae.n_latents, 8 * site->width), site->width, e->sae.k, &r->sae);
    if (status == MW_OK) r->sae->variant = (mw_variant)e->sae.variant;
    if (status == MW_OK) status = label(r->sae, settings_site(e), e->model.path);
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(mw_sae_train(r->sae, r->store, site, r->comm, &options, r->sae_folder, &last));
    if (run_is_root(r)) print_result(r->sae, &last, mw_seconds() - start, options.steps * options.batch, r->sae_folder);
    return MW_OK;
}

mw_status stage_train(run *r) {
    mw_store_site site;
    bool complete = false;
    char fingerprint[MW_SHA256_TEXT], *upstream = NULL, *output = NULL;
    MW_TRY(run_site(r, &site));
    mw_status status = mw_store_provenance(r->store, "fingerprint", &upstream);
    if (status == MW_OK && !(output = mw_path_join(r->sae_folder, "sae.safetensors"))) status = MW_ERR_MEMORY;
    if (status == MW_OK) status = run_fingerprint(r, sections, 2, upstream, fingerprint);
    status = mw_comm_agree(r->comm, status);
    if (status == MW_OK) status = run_check_stage(r, "train", fingerprint, output, &complete);
    if (status == MW_OK && complete && run_is_root(r)) printf("train: complete, %s\n", output);
    if (status == MW_OK && !complete) {
        status = train(r, &site, fingerprint);
        if (status == MW_OK) status = run_stage_done(r, "train", fingerprint);
    }
    mw_free(upstream);
    mw_free(output);
    return status;
}
