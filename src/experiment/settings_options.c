/* The options of the floors below, as the experiment file gives them. */
#include "experiment/settings.h"
#include "sae/train/train_options.h"

mw_dataset_options settings_dataset(const mw_experiment *e) {
    mw_dataset_options options = e->dataset.options;
    options.paths = (const char *const *)e->dataset.path.items;
    options.n_paths = e->dataset.path.count;
    return options;
}

mw_train_options settings_training(const mw_experiment *e, const mw_sae_shape *shape, const char *fingerprint) {
    mw_train_options options = e->train.options;
    options.seed = e->sae.seed;
    options.fingerprint = fingerprint;
    if (!e->train.by_blocks) options.shuffle_block = 0;
    train_options_resolve(&options, shape, e->train.tokens);
    return options;
}

mw_status settings_sae_shape(const mw_experiment *e, int64_t d, bool transcoder, const int64_t *target_width,
                             int64_t n_targets, mw_sae_shape *out) {
    const sae_settings *s = &e->sae;
    int64_t d_out = 0;
    for (int64_t i = 0; i < n_targets; i++) d_out += target_width[i];
    *out = (mw_sae_shape){.variant = settings_variant(e),
                          .n = s->n_latents == MW_AUTO_INT ? 8 * d : s->n_latents,
                          .d = d,
                          .k = s->k,
                          .d_out = transcoder ? d_out : 0,
                          .skip = s->skip,
                          .n_groups = s->groups.count,
                          .group = s->groups.items,
                          .n_targets = n_targets,
                          .target_width = target_width};
    return mw_sae_check(out);
}

mw_variant settings_variant(const mw_experiment *e) {
    mw_variant variant = MW_TOPK;
    mw_status known = mw_variant_parse(e->sae.variant, &variant);
    (void)known; /* when the file was read */
    return variant;
}
