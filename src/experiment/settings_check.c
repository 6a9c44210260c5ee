/* Checks that concern several keys together. */
#include "experiment/settings.h"

#include <math.h>
#include <string.h>

static mw_status refuse(const mw_experiment *e, const char *key, const char *why) {
    return mw_error(MW_ERR_CONFIG, "%s: %s: %s", e->document.file, key, why);
}

static mw_status check_sites(const mw_experiment *e) {
    const sae_settings *s = &e->sae;
    if (s->site[0] && s->sites.count) return refuse(e, "sae.sites", "sae.site is given too");
    if (s->skip && !s->target[0]) return refuse(e, "sae.skip", "only a transcoder (sae.target) has a skip connection");
    if (s->target[0] && strcmp(s->site, s->target) == 0)
        return refuse(e, "sae.target", "equals sae.site: leave it out for an autoencoder");
    return MW_OK;
}

/* Checks the shape as far as it does not depend on the width of the site. */
static mw_status check_shape(const mw_experiment *e, mw_variant variant) {
    const sae_settings *s = &e->sae;
    int64_t n = s->n_latents;
    if (s->groups.count && !mw_variant_uses_groups(variant))
        return refuse(e, "sae.groups", "only the matryoshka variants have groups");
    if (n == MW_AUTO_INT) return MW_OK;
    if (mw_variant_uses_k(variant) && s->k > n)
        return mw_error(MW_ERR_CONFIG, "%s: sae.k = %lld is larger than sae.n_latents = %lld", e->document.file,
                        (long long)s->k, (long long)n);
    return mw_sae_check(&(mw_sae_shape){
        .variant = variant, .n = n, .d = 1, .k = s->k, .n_groups = s->groups.count, .group = s->groups.items});
}

static mw_status check_training(const mw_experiment *e, mw_variant variant) {
    const mw_train_options *t = &e->train.options;
    if (t->k_anneal_steps > 0 && !mw_variant_uses_k(variant))
        return refuse(e, "train.k_anneal", "this variant has no k");
    if (t->k_anneal_steps > 0 && t->k_start != MW_AUTO_INT && t->k_start < e->sae.k)
        return refuse(e, "train.k_start", "smaller than sae.k: k can only fall");
    if (!isnan(t->sparsity) && !mw_variant_uses_penalty(variant))
        return refuse(e, "train.sparsity", "this variant has no penalty: sae.k makes it sparse");
    bool jump = variant == MW_JUMP_RELU;
    if (!jump && (t->l0_target > 0 || t->penalty != MW_PENALTY_L0 || !isnan(t->bandwidth) || !isnan(t->threshold_init)))
        return refuse(e, "train",
                      "l0_target, penalty, bandwidth and threshold_init apply to sae.variant jump_relu only");
    if (t->aux_k > 0 && (variant == MW_RELU || variant == MW_RELU_UNIT_NORM || variant == MW_GATED))
        return refuse(e, "train.aux_k", "dead latents of this variant have no positive values, which AuxK needs");
    if (t->l0_target > 0 && t->penalty == MW_PENALTY_TANH)
        return refuse(e, "train.l0_target", "requires penalty l0, found tanh");
    return MW_OK;
}

mw_status settings_check(const mw_experiment *e) {
    mw_variant variant;
    if (settings_has(e, "sae")) MW_TRY(check_sites(e));
    mw_status known = mw_variant_parse(e->sae.variant, &variant);
    if (known != MW_OK) return MW_ERR_CONFIG;
    MW_TRY(check_shape(e, variant));
    if (settings_has(e, "train")) MW_TRY(check_training(e, variant));
    for (const char *p = e->top.name; *p; p++)
        if (*p == '/' || e->top.name[0] == '.')
            return mw_error(MW_ERR_CONFIG, "%s: name '%s' cannot be the name of a folder", e->document.file,
                            e->top.name);
    return e->top.name[0] ? MW_OK : mw_error(MW_ERR_CONFIG, "%s: name is empty", e->document.file);
}
