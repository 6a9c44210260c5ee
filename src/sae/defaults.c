/* Default options of a training. */
#include "microw/sae.h"

#include <math.h>

mw_train_options mw_train_defaults(const mw_sae_shape *shape, int64_t rows, int64_t batch) {
    enum { LONG_RUN = 20000, WARMUP = 1000, LONG_ROWS = 100000000, DEAD_AFTER = 10000000 };
    int64_t steps = batch > 0 ? (rows + batch - 1) / batch : 0;
    return (mw_train_options){.batch = batch,
                              .shards = 1,
                              .steps = steps,
                              .lr = NAN,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .eps = 6.25e-10,
                              .warmup_steps = steps < LONG_RUN ? steps / 20 : WARMUP,
                              .decay = MW_DECAY_LINEAR,
                              .decay_fraction = 0.2,
                              .clip_norm = 1,
                              .aux_k = mw_variant_uses_k(shape->variant) ? shape->d / 2 : 0,
                              .aux_coefficient = 1.0 / 32,
                              .dead_after = rows < LONG_ROWS ? rows / 10 + 1 : DEAD_AFTER,
                              .k_start = shape->d / 2,
                              .sparsity = NAN,
                              .sparsity_warmup = steps / 20,
                              .penalty = MW_PENALTY_L0,
                              .bandwidth = NAN,
                              .threshold_init = NAN,
                              .threshold_batches = 16,
                              .min_gain = 0.001,
                              .shuffle_window = 128,
                              .nan_rule = MW_NAN_STOP,
                              .normalize = MW_NORMALIZE_NORM,
                              .precision = MW_PRECISION_F32,
                              .init = MW_INIT_AUTO,
                              .center = MW_CENTER_AUTO,
                              .init_rows = 32768,
                              .log_every = 10,
                              .checkpoint_every = 1000,
                              .checkpoint_minutes = 10,
                              .keep_checkpoints = 2};
}
