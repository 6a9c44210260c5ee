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
    int64_t aux = mw_variant_uses_k(settings_variant(e)) ? width / 2 : 0;
    return (mw_train_options){.batch = t->batch,
                              .steps = steps,
                              .lr = t->lr,
                              .beta1 = t->beta1,
                              .beta2 = t->beta2,
                              .eps = t->eps,
                              .warmup_steps = or_auto(t->warmup, steps < 20000 ? steps / 20 : 1000),
                              .decay = (mw_decay)t->schedule,
                              .decay_fraction = t->decay,
                              .clip_norm = t->clip_norm,
                              .ema = t->ema,
                              .aux_k = or_auto(t->aux_k, aux),
                              .aux_coefficient = t->aux_coefficient,
                              .dead_after =
                                  or_auto(t->dead_after, t->tokens < 100000000 ? t->tokens / 10 + 1 : 10000000),
                              .resample_every = t->resample_every,
                              .k_start = or_auto(t->k_start, width / 2),
                              .k_anneal_steps = t->k_anneal,
                              .sparsity = t->sparsity,
                              .sparsity_warmup = or_auto(t->sparsity_warmup, steps / 20),
                              .penalty = (mw_penalty)t->penalty,
                              .l0_target = t->l0_target,
                              .bandwidth = t->bandwidth,
                              .threshold_init = t->threshold_init,
                              .threshold_batches = t->threshold_batches,
                              .patience = t->patience,
                              .min_gain = t->min_gain,
                              .seed = e->sae.seed,
                              .normalize = (mw_normalize)t->normalize,
                              .init = (mw_init)t->init,
                              .center = (mw_center)t->center,
                              .init_rows = t->init_rows,
                              .log_every = t->log_every,
                              .checkpoint_every = t->checkpoint_every,
                              .keep_checkpoints = t->keep_checkpoints,
                              .fingerprint = fingerprint};
}

static mw_status label(mw_sae *sae, const mw_experiment *e) {
    char *sites = NULL;
    MW_TRY(settings_sites(e, &sites));
    mw_status status = mw_put_text(&sae->site, sites);
    mw_free(sites);
    if (status == MW_OK) status = mw_put_text(&sae->target, e->sae.target);
    return status == MW_OK ? mw_put_text(&sae->model, e->model.path) : status;
}

static mw_status new_sae(const run *r, const views *v, mw_sae **out) {
    const sae_settings *s = &r->e->sae;
    const mw_store_view *made = rebuilt(v);
    int64_t width[MW_SITES_MAX];
    for (int64_t i = 0; i < made->n_sites; i++) width[i] = made->site[i].width;
    mw_sae_shape shape = {.variant = settings_variant(r->e),
                          .n = or_auto(s->n_latents, 8 * v->in.width),
                          .d = v->in.width,
                          .k = s->k,
                          .d_out = v->out ? v->out->width : 0,
                          .skip = s->skip,
                          .n_groups = s->groups.count,
                          .group = s->groups.items,
                          .n_parts = made->n_sites,
                          .part = width};
    return mw_sae_new(r->sae_backend, &shape, out);
}

static mw_status print_result(const mw_sae *sae, const mw_step_report *r, double seconds, int64_t tokens,
                              const char *folder) {
    mw_text what = {0};
    mw_status status = mw_sae_describe(sae, &what);
    if (status == MW_OK)
        printf("train: %s: FVU %.4f, explained variance %.4f, L0 %.1f, dead %.2f %% in %s (%.1f s, %.0f tokens/s)\n",
               what.data, r->fvu, r->explained_variance, r->l0, 100.0 * (double)r->dead / (double)sae->n, folder,
               seconds, (double)tokens / seconds);
    fflush(stdout);
    mw_text_free(&what);
    return status;
}

static mw_status train(run *r, const views *v, const char *fingerprint) {
    double start = mw_seconds();
    mw_train_options options = options_of(r->e, v->in.width, fingerprint);
    mw_step_report last = {0};
    mw_status status = run_sae_backend(r);
    mw_sae_free(&r->sae);
    if (status == MW_OK) status = new_sae(r, v, &r->sae);
    if (status == MW_OK) status = label(r->sae, r->e);
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(mw_sae_train(r->sae, &v->in, v->out, r->comm, &options, r->sae_folder, &last));
    status = run_is_root(r)
                 ? print_result(r->sae, &last, mw_seconds() - start, last.steps * options.batch, r->sae_folder)
                 : MW_OK;
    return mw_comm_agree(r->comm, status);
}

mw_status stage_train(run *r) {
    views v;
    bool complete = false;
    char fingerprint[MW_SHA256_TEXT], *upstream = NULL, *output = NULL;
    MW_TRY(run_views(r, &v));
    mw_status status = mw_store_provenance(r->store, "fingerprint", &upstream);
    if (status == MW_OK && !(output = mw_path_join(r->sae_folder, "sae.safetensors"))) status = MW_ERR_MEMORY;
    if (status == MW_OK) status = run_fingerprint(r, sections, 2, upstream, fingerprint);
    status = mw_comm_agree(r->comm, status);
    if (status == MW_OK) status = run_check_stage(r, "train", fingerprint, output, &complete);
    if (status == MW_OK && complete && run_is_root(r)) printf("train: complete, %s\n", output);
    if (status == MW_OK && !complete) {
        status = train(r, &v, fingerprint);
        if (status == MW_OK) status = run_stage_done(r, "train", fingerprint);
    }
    mw_free(upstream);
    mw_free(output);
    return status;
}
