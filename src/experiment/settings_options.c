/* The options of the floors below, as the experiment file gives them. */
#include "experiment/settings.h"
#include "sae/train/train_options.h"

mw_dataset_options settings_dataset(const mw_experiment *e) {
    mw_dataset_options options = e->dataset.options;
    options.paths = (const char *const *)e->dataset.path.items;
    options.n_paths = e->dataset.path.count;
    return options;
}

mw_train_options settings_training(const mw_experiment *e, int64_t width, const char *fingerprint) {
    const mw_sae_shape shape = {.variant = settings_variant(e), .d = width};
    mw_train_options options = e->train.options;
    options.seed = e->sae.seed;
    options.fingerprint = fingerprint;
    if (!e->train.by_blocks) options.shuffle_block = 0;
    train_options_resolve(&options, &shape, e->train.tokens);
    return options;
}

mw_variant settings_variant(const mw_experiment *e) {
    mw_variant variant = MW_TOPK;
    mw_status known = mw_variant_parse(e->sae.variant, &variant);
    (void)known; /* when the file was read */
    return variant;
}
