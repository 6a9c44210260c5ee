/* microw/sae.h: sparse autoencoders (SAEs): encoding and decoding, files, metrics, data-parallel training.
 *
 *     mw_sae *sae = NULL;
 *     MW_TRY(mw_sae_load("store/sae_models/demo", backend, &sae));
 *     mw_codes codes = {0};
 *     MW_TRY(mw_sae_encode(sae, x, rows, &codes));                  // x [rows, d]
 *     MW_TRY(mw_sae_decode(sae, &codes, x, x_hat));                 // x_hat [rows, d_out]
 *     mw_codes_free(&codes);
 *     mw_sae_free(&sae);
 *
 * Pre-activations are a = W_enc (x - b_dec) + b_enc; the variant makes the codes z from a; the reconstruction is
 * x_hat = sum_i z_i W_dec,i + b_dec. W_enc is [n, d] and W_dec is [n, d_out]: one row per latent. Three kinds of SAE
 * differ in the sites they read and reconstruct:
 *   autoencoder  d_out = d: reconstructs its input: one site, or several concatenated sites (a crosscoder: Anthropic
 *                2024, "Sparse Crosscoders"; one dictionary, one decoder per site);
 *   transcoder   reads one site and reconstructs another (Dunefsky et al. 2024, arXiv 2406.11944); b_dec is not
 *                subtracted from x;
 *   skip transcoder  adds W_skip x to the reconstruction (Paulo et al. 2025, arXiv 2501.18823).
 *
 * "Collective" functions are called by all ranks of a communicator and return the same status on each; all others are
 * local. Arrays are f32, row-major and in host memory unless a comment says otherwise. Functions that allocate may
 * return MW_ERR_MEMORY.
 */
#ifndef MICROW_SAE_H
#define MICROW_SAE_H

#include "microw/backend.h"
#include "microw/comm.h"
#include "microw/store.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Codes of a matrix in compressed sparse rows: row r has the entries start[r] .. start[r + 1], by ascending latent,
 * values > 0. {0} is empty. Functions that fill codes reuse the arrays and grow them where needed; mw_codes_free frees
 * them. */
typedef struct mw_codes {
    int64_t rows;
    int64_t *start;                  /* [rows + 1], in host memory */
    int32_t *index;                  /* [start[rows]] latents */
    float *value;                    /* [start[rows]] codes z */
    int64_t rows_capacity, capacity; /* allocated items of start, and of index and value */
    mw_backend *memory;              /* backend in whose memory index and value are; NULL: host memory */
} mw_codes;
/* Reserves start for `rows` rows and sets rows and start[0] = 0. MW_ERR_MEMORY. */
mw_status mw_codes_begin(mw_codes *codes, int64_t rows) MW_MUST_USE;
/* Reserves index and value for `entries` entries; the first `kept` entries survive a reallocation. MW_ERR_MEMORY. */
mw_status mw_codes_reserve(mw_codes *codes, int64_t kept, int64_t entries) MW_MUST_USE;
/* Frees the arrays; `memory` stays as it is. */
void mw_codes_free(mw_codes *codes);
/* Returns the value of a latent in a row; 0 where the latent is inactive. Codes in host memory only. */
float mw_codes_find(const mw_codes *codes, int64_t row, int64_t latent);

/* How codes are made from pre-activations. A table in variants.c has the functions of each. */
typedef enum mw_variant {
    MW_TOPK,                  /* Gao et al. 2024 (arXiv 2406.04093): the k largest of a row */
    MW_BATCH_TOPK,            /* Bussmann et al. 2024 (arXiv 2412.06410): the k * rows largest of a training batch;
                                 outside training all above a threshold */
    MW_MULTI_TOPK,            /* Gao et al. 2024, 5.3: TopK, trained to reconstruct from the 4 k largest too */
    MW_MATRYOSHKA_TOPK,       /* Bussmann et al. 2025 (arXiv 2503.17547): every prefix of the groups reconstructs x */
    MW_MATRYOSHKA_BATCH_TOPK, /* Matryoshka groups over BatchTopK */
    MW_RELU,                  /* Anthropic, April 2024 update: z = relu(a), penalty sum_i z_i |W_dec,i| */
    MW_JUMP_RELU,             /* Rajamanoharan et al. 2024 (arXiv 2407.14435): z = a where a > theta_i, else 0 */
    MW_GATED,                 /* Rajamanoharan et al. 2024 (arXiv 2404.16014): a gate selects latents, a second path
                                 sets their values */
    MW_RELU_UNIT_NORM,        /* Bricken et al. 2023, "Towards Monosemanticity": z = relu(a), unit decoder rows,
                                 penalty sum_i z_i */
} mw_variant;
enum { MW_VARIANTS = MW_RELU_UNIT_NORM + 1, MW_EXTRAS = 2, MW_GROUPS_MAX = 16, MW_SITES_MAX = MW_VIEW_SITES };
/* Returns the name in experiment files: "topk", "batch_topk", ...; a static string. */
const char *mw_variant_name(mw_variant variant);
/* MW_ERR_UNSUPPORTED lists the known names. */
mw_status mw_variant_parse(const char *name, mw_variant *out) MW_MUST_USE;
/* Return whether the variant selects by k, has Matryoshka groups, is kept sparse by a penalty. */
bool mw_variant_uses_k(mw_variant variant);
bool mw_variant_uses_groups(mw_variant variant);
bool mw_variant_uses_penalty(mw_variant variant);

typedef struct mw_sae_shape {
    mw_variant variant;
    int64_t n, d;                /* latents; width of the input */
    int64_t k;                   /* active latents per row, for variants that use k */
    int64_t d_out;               /* width of a transcoder's output; 0: an autoencoder */
    bool skip;                   /* a transcoder with W_skip */
    int64_t n_groups;            /* Matryoshka groups; 0: five groups of n/16, n/16, n/8, n/4, n/2 */
    const int64_t *group;        /* [n_groups] latents of each group, positive; they sum to n */
    int64_t n_targets;           /* concatenated sites of the output; 0: one */
    const int64_t *target_width; /* [n_targets] width of each site; they sum to d_out (to d for an autoencoder) */
} mw_sae_shape;

/* A shard: latents first .. first + n of a dictionary of `total` latents that is too large for one device. A sharded
 * dictionary has `count` shards in the order of their latents. `peers` are the ranks with the same rows and the other
 * shards: they select latents and reconstruct together. An SAE that is not sharded is one shard with all latents. */
typedef struct mw_shard {
    int64_t first, total, count;
    mw_comm *peers; /* owned; NULL: not sharded */
} mw_shard;

/* How pre-activations are computed, see mw_screen; set by mw_sae_use_device and by training. {0}: by dot products, or
 * for variants with many active latents (relu) by products. */
typedef struct mw_encoder {
    bool prepared, packs, tf32;
    mw_encoding how;
    mw_dtype dtype;      /* of W_enc as products read it: f32 or bf16 */
    mw_room room;        /* borrowed; for the copies below, if they fit */
    mw_packed *packed;   /* owned, as the arrays below, in the memory of the backend; each may be NULL: W_enc packed */
    uint16_t *copy16;    /* [n, d] in bf16 */
    float *norm, *error; /* [n] bounds of the rows' lengths and of their rounding's, for a screen */
    int64_t *dots;       /* borrowed, or NULL: counts the dot products that decided about candidates of a screen */
} mw_encoder;

/* Weights and labels. Made by mw_sae_new, mw_sae_new_shard, mw_sae_load or mw_sae_import; freed by mw_sae_free. */
typedef struct mw_sae {
    mw_variant variant;
    float threshold;        /* BatchTopK: latents with a > threshold are active outside training; < 0: not trained */
    int64_t n, d, d_out, k; /* n: latents of this shard; k: 0 for variants without k */
    mw_shard shard;
    float *w_enc, *b_enc, *w_dec, *b_dec; /* [n, d], [n], [n, d_out], [d_out]; memory of the backend */
    float *extra[MW_EXTRAS]; /* [n] or NULL. MW_JUMP_RELU: theta. MW_GATED: r_mag, b_mag (b_enc is b_gate) */
    float *w_skip;           /* [d_out, d], or NULL */
    mw_encoder encoder;      /* how pre-activations are computed */
    bool centered;           /* rows to encode have b_dec subtracted already, as in a training step */
    bool transcoder;         /* b_dec is not subtracted from x */
    int64_t n_groups, group_end[MW_GROUPS_MAX];  /* Matryoshka groups; latent behind the last of each */
    int64_t n_targets, target_end[MW_SITES_MAX]; /* sites of x_hat; column behind the last of each */
    mw_backend *backend;                         /* borrowed; has host memory */
    struct mw_sae *device;       /* a copy on a device, which encodes and decodes, see mw_sae_use_device; or NULL */
    char *site, *target, *model; /* sites read, joined by commas; site reconstructed ("": those read); model name */
    char *fingerprint;           /* hash of training data and settings, or "weights:HASH"; "": unknown */
} mw_sae;

/* Checks a shape: MW_ERR_CONFIG names the value out of range. */
mw_status mw_sae_check(const mw_sae_shape *shape) MW_MUST_USE;
/* Makes an SAE whose parameters are 0. The backend is borrowed. Errors as mw_sae_check; MW_ERR_UNSUPPORTED: a backend
 * without host memory. */
mw_status mw_sae_new(mw_backend *backend, const mw_sae_shape *shape, mw_sae **out) MW_MUST_USE;
/* Makes this rank's shard of an SAE whose dictionary is sharded over `comm`. The ranks form a grid of `shards` groups:
 * rank r owns shard r / (ranks / shards), and the ranks of one group own the same shard and divide the rows of a batch
 * among them. A shard can be initialized, trained and saved; these calls are then collective over its peers. A saved
 * SAE loads as a whole one. Collective. MW_ERR_CONFIG: the number of ranks is no multiple of `shards`, or there are too
 * few latents. */
mw_status mw_sae_new_shard(mw_backend *backend, const mw_sae_shape *shape, const mw_comm *comm, int64_t shards,
                           mw_sae **out) MW_MUST_USE;
/* Checks whether `ranks` ranks can own `shards` shards of this shape; MW_ERR_CONFIG as for mw_sae_new_shard. */
mw_status mw_sae_check_shards(const mw_sae_shape *shape, int ranks, int64_t shards) MW_MUST_USE;
/* Frees all that the SAE owns and sets *sae to NULL; takes NULL. */
void mw_sae_free(mw_sae **sae);
/* Returns a hash of shape and weights, which cfg.json stores. A shard returns one summand: the hash of the whole SAE is
 * the sum over its shards modulo 2^64, whatever their number. */
uint64_t mw_sae_hash(const mw_sae *sae);
/* Appends a description to `out`: "topk, 1024 latents, k 16, on 2.resid_post" or "relu skip transcoder, 256 latents,
 * from 2.resid_mid to 2.mlp_out". MW_ERR_MEMORY. */
mw_status mw_sae_describe(const mw_sae *sae, mw_text *out) MW_MUST_USE;

/* Encodes x [rows, d] as outside training, in tiles of MW_ROW_TILE rows. */
mw_status mw_sae_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
/* Writes x_hat [codes->rows, d_out]. x [codes->rows, d] is the input that was encoded; without w_skip it is not read
 * and may be NULL. */
mw_status mw_sae_decode(const mw_sae *sae, const mw_codes *codes, const float *x, float *x_hat) MW_MUST_USE;

/* Prepares an SAE for many rows; its weights must not change afterwards. A device with its own memory gets a copy of
 * the weights, and encodes and (for many rows) decodes from then on; x, codes, x_hat and the SAE's own weights stay in
 * host memory. On a device with host memory W_enc is packed in the layout that its products read fastest. The device is
 * borrowed until mw_sae_leave_device. */
mw_status mw_sae_use_device(mw_sae *sae, mw_backend *device) MW_MUST_USE;
/* Frees the copy and the packed weights. */
void mw_sae_leave_device(mw_sae *sae);

/* ---- files --------------------------------------------------------------------------------------------- */

/* Saving, loading and importing require finite values: MW_ERR_STATE names tensor and index of the first other one. */

/* Writes `folder`/sae.safetensors (W_enc, b_enc, W_dec, b_dec, and by variant threshold, r_mag, b_mag, W_skip; f32) and
 * `folder`/cfg.json. An SAE that was in the folder can be loaded until the new one is complete. A shard: collective
 * over its peers. */
mw_status mw_sae_save(const mw_sae *sae, const char *folder) MW_MUST_USE;
/* MW_ERR_FORMAT: a file is malformed, or the weights do not match their hash in cfg.json. The backend is borrowed. */
mw_status mw_sae_load(const char *folder, mw_backend *backend, mw_sae **out) MW_MUST_USE;
/* Completes a training that ended after its SAE was saved: gives its files their final names and removes its
 * checkpoints. */
mw_status mw_training_settle(const char *folder, const char *fingerprint) MW_MUST_USE;
/* Renames the history files of a training, where they exist, to mw_sae_aside of the fingerprint of its SAE. */
mw_status mw_history_set_aside(const char *folder, const char *fingerprint) MW_MUST_USE;
/* Returns the path under which a file of a former SAE is kept: NAME.EXT becomes `folder`/NAME-XXXXXXXX.EXT, with 8
 * characters of the SAE's fingerprint. The caller frees it; NULL: out of memory. */
char *mw_sae_aside(const char *folder, const char *name, const char *fingerprint);
/* Renames weights that an interrupted mw_sae_save left under their temporary name. */
mw_status mw_sae_publish(const char *folder) MW_MUST_USE;
/* Returns the format of the SAE in a folder by its files: "microw", "saelens", "sparsify", "dictionary_learning"; NULL:
 * no SAE. */
const char *mw_sae_folder_format(const char *folder);
/* MW_ERR_STATE: the folder has an SAE, and it is of another format or must not be overwritten. */
mw_status mw_sae_may_write(const char *folder, const char *format, bool overwrite) MW_MUST_USE;
/* Writes an SAE for another library. `format`: "saelens" (6.x), "sparsify" or "dictionary_learning" (AutoEncoderTopK
 * and its other classes). MW_ERR_UNSUPPORTED: the library has no such variant or kind; MW_ERR_CONFIG: an unknown
 * format. */
mw_status mw_sae_export(const mw_sae *sae, const char *format, const char *folder) MW_MUST_USE;
/* Exports in place of an earlier export, which stays until the new one is complete; while the files are renamed the
 * folder has no configuration. Errors as mw_sae_export. */
mw_status mw_sae_replace(const mw_sae *sae, const char *format, const char *folder) MW_MUST_USE;
/* Reads an SAE of another library. `format`: "saelens" or "sparsify". Settings that microw does not have are folded
 * into the weights: decoder norms in the selection, inputs without b_dec subtracted. MW_ERR_UNSUPPORTED names a setting
 * that cannot be folded in. The backend is borrowed. */
mw_status mw_sae_import(const char *format, const char *folder, mw_backend *backend, mw_sae **out) MW_MUST_USE;

/* ---- metrics ------------------------------------------------------------------------------------------- */

enum { MW_POSITION_BUCKETS = 24, MW_FREQUENCY_BINS = 10 };

/* Rule for rows that are not finite. MW_NAN_STOP: fails and names the row. MW_NAN_SKIP: leaves the row
 * out and counts it; training takes the next finite row instead. */
typedef enum mw_nan_rule { MW_NAN_STOP, MW_NAN_SKIP } mw_nan_rule;

/* Returns part / total, where `total` is a sum of squared distances from the mean and `squares` the sum of squares of
 * the same numbers. NaN (undefined) where the numbers do not vary, as zeros or a constant: total <= 1e-12 squares,
 * which is within the rounding of the mean. FVU and explained variance are defined by it in training, in evaluation, by
 * position and by site. */
double mw_variance_fraction(double part, double total, double squares);

/* Metrics over all rows, summed in an order that does not depend on the number of ranks. x is what the SAE
 * reconstructs: for a transcoder the output site. Undefined values are NaN: FVU and explained variance where x does not
 * vary, the cosine where all x are 0. */
typedef struct mw_sae_metrics {
    /* FVU, cosine and L0 below with 95 % intervals: a bootstrap over up to 256 groups of neighbouring sequences. */
    mw_estimate fvu_95, cosine_95, l0_95;
    int64_t rows, left_out;    /* rows measured; rows left out because they are not finite */
    double mse;                /* mean over rows and columns of (x - x_hat)^2 */
    double fvu;                /* sum (x - x_hat)^2 / sum (x - mean x)^2; R2 = 1 - fvu */
    double explained_variance; /* 1 - sum of var(x - x_hat) / sum of var(x): a constant error does not count */
    double cosine;             /* mean of cos(x, x_hat) over the rows with x != 0; a row with x_hat = 0 counts as 0 */
    double l0, l0_deviation;   /* active latents per row: mean and standard deviation */
    double l1;                 /* mean over rows of sum_i z_i */
    int64_t l0_quantile[5];    /* active latents per row: minimum, 25 %, 50 %, 75 %, maximum */
    int64_t dead, dense;       /* latents active on no row; latents active on more than a tenth of the rows */
    /* Active latents by frequency: bin b counts 10^-(b+1) < frequency <= 10^-b, the last bin all rarer ones. */
    int64_t frequency_bin[MW_FREQUENCY_BINS];
    /* FVU by position in the sequence: bucket b has positions 2^b - 1 .. 2^(b+1) - 2, the last all later ones. */
    double position_fvu[MW_POSITION_BUCKETS];
    int64_t position_rows[MW_POSITION_BUCKETS]; /* rows of each bucket */
    int64_t last_position;                      /* the largest position of all rows */
    double target_fvu[MW_SITES_MAX];            /* [n_targets] FVU of each reconstructed site */
} mw_sae_metrics;

/* Measures an SAE that is not sharded on all rows of a store. `out`: the view that is reconstructed; NULL: `in`.
 * Collective. MW_ERR_CONFIG: the widths do not fit; MW_ERR_STATE: a row is not finite under MW_NAN_STOP, or no row is
 * finite. */
mw_status mw_sae_measure(const mw_sae *sae, const mw_store_view *in, const mw_store_view *out, mw_nan_rule rule,
                         const mw_comm *comm, mw_sae_metrics *metrics) MW_MUST_USE;

/* ---- training ------------------------------------------------------------------------------------------ */

/* How the learning rate falls to 0 at the end. */
typedef enum mw_decay { MW_DECAY_LINEAR, MW_DECAY_COSINE, MW_DECAY_NONE } mw_decay;
/* JumpReLU's penalty: the number of active latents, or sum_i tanh(4 z_i |W_dec,i|). */
typedef enum mw_penalty { MW_PENALTY_L0, MW_PENALTY_TANH } mw_penalty;
/* Scales of the activations in training: each site's mean |x| becomes sqrt(width); each column's deviation becomes 1;
 * unscaled. */
typedef enum mw_normalize { MW_NORMALIZE_NORM, MW_NORMALIZE_STANDARD, MW_NORMALIZE_NONE } mw_normalize;
/* Precision of the encoder's products; all else is f32. bf16: rounded activations times a rounded copy of W_enc, which
 * stays f32. */
typedef enum mw_precision { MW_PRECISION_F32, MW_PRECISION_TF32, MW_PRECISION_BF16 } mw_precision;
/* With precision f32, what finds the latents whose dot products count, see mw_screen: products in bf16 or f32; none,
 * all dot products are computed; auto: bf16 where these are faster, else f32. The result is the same. */
typedef enum mw_screening { MW_SCREEN_AUTO, MW_SCREEN_OFF, MW_SCREEN_F32, MW_SCREEN_BF16 } mw_screening;
/* Initial weights, see mw_sae_initialize. */
typedef enum mw_init { MW_INIT_AUTO, MW_INIT_SCALED, MW_INIT_TIED, MW_INIT_DATA } mw_init;
typedef enum mw_center { MW_CENTER_AUTO, MW_CENTER_MEDIAN, MW_CENTER_MEAN, MW_CENTER_ZERO } mw_center;

/* NaN: the variant's default, given with the member. Coefficients apply to the loss E|x - x_hat|^2 on normalized data.
 * Strings and pointers are borrowed for the time of the training. */
typedef struct mw_train_options {
    int64_t batch;  /* rows of a step, over all ranks */
    int64_t shards; /* shards of the dictionary, see mw_sae_new_shard; 0 and 1: not sharded */
    int64_t steps;
    double lr;                 /* learning rate of W_enc; NaN: by d, n, k, batch and steps, see docs/design/step.md */
    double lr_w_dec;           /* learning rate of W_dec, in units of lr sqrt(d / d_out) */
    double lr_b_enc, lr_b_dec; /* learning rates of b_enc and b_dec, in units of lr; 0: the initial values stay */
    double beta1, beta2, eps;  /* Adam */
    int64_t warmup_steps;      /* steps in which the learning rate rises linearly from 0 */
    mw_decay decay;
    double decay_fraction;           /* fraction of the steps, the last ones, in which the learning rate falls to 0 */
    double clip_norm;                /* limit of the gradient's norm, for the loss summed over columns; 0: none */
    double ema;                      /* decay of the weights' running mean, which is saved; 0: the weights are saved */
    int64_t aux_k;                   /* silent latents per row in the auxiliary loss, AuxK; 0: no auxiliary loss */
    double aux_coefficient;          /* coefficient of the auxiliary loss, alpha; 1/32 */
    double aux_weak;                 /* fraction of a batch's codes, the smallest, that count as residual for AuxK */
    double aux_lift;                 /* rise of b_enc of a latent that AuxK trains, per step, in units of lr */
    int64_t aux_after;               /* rows without firing after which AuxK trains a latent; 0: dead_after */
    int64_t dead_after;              /* rows without firing (z > 1e-3) after which a latent is dead */
    int64_t resample_every;          /* steps between resamplings of dead latents (Bricken et al. 2023); 0: none */
    int64_t k_start, k_anneal_steps; /* k falls linearly from k_start in so many steps; 0 steps: k is constant */
    double sparsity;           /* coefficient of the penalty; NaN: ReLU 5, Gated 2, JumpReLU 6e-4 d, with a target d */
    int64_t sparsity_warmup;   /* steps in which the coefficient rises linearly from 0 */
    mw_penalty penalty;        /* JumpReLU only */
    double l0_target;          /* JumpReLU: the penalty is (L0 / target - 1)^2; 0: L0 itself */
    double bandwidth;          /* JumpReLU: width of the rectangle kernel; NaN: 2 */
    double threshold_init;     /* JumpReLU: initial theta; NaN: 0.01, with tanh 0.1 */
    int64_t threshold_batches; /* BatchTopK: batches after training whose mean threshold is saved; 0: none */
    int64_t patience;          /* steps without a better loss after which training ends; 0: all steps are done */
    double min_gain;           /* relative improvement that counts as a better loss */
    int64_t seed;              /* seed of the weights */
    int64_t order_seed;        /* seed of the order of the rows */
    int64_t shuffle_block, shuffle_window; /* rows of a block, blocks of a window; block 0: shuffled row by row */
    mw_nan_rule nan_rule;
    mw_normalize normalize; /* the scales are folded into the weights that are saved */
    mw_precision precision;
    mw_screening screen;
    mw_init init;
    mw_center center;                     /* initial b_dec */
    int64_t init_rows;                    /* rows of the sample for initial weights, scales and loss scale */
    int64_t log_every, checkpoint_every;  /* steps; 0: never */
    double checkpoint_minutes;            /* minutes between checkpoints, checked at logged steps; 0: no limit */
    int64_t keep_checkpoints;             /* newest checkpoints that are kept; 0: one */
    mw_status (*before_save)(void *self); /* or NULL: rank 0 calls it before the SAE replaces an earlier one */
    void *before_save_self;
    const mw_lock *lock;     /* or NULL: must still be held when the SAE is saved */
    const char *fingerprint; /* hash of data and settings: checkpoints with another one are not resumed; or NULL */
    mw_backend *device;      /* device on which steps run, with or without its own memory; NULL: the SAE's backend */
} mw_train_options;

/* Returns the defaults of an experiment file, for an SAE of this shape and a training over `rows` rows. */
mw_train_options mw_train_defaults(const mw_sae_shape *shape, int64_t rows, int64_t batch);

/* Means over the rows of one step, exact over all ranks. x is what is reconstructed, on normalized data. */
typedef struct mw_step_report {
    double loss;     /* mse times the loss scale (over all reconstructions), plus the terms of AuxK and penalty */
    double mse;      /* mean over rows and columns of (x_hat - x)^2 */
    double aux_loss; /* AuxK: mse of the dead latents' reconstruction of the residual, over its variance */
    double fvu;      /* sum (x - x_hat)^2 / sum (x - mean x)^2; R2 = 1 - fvu */
    double explained_variance; /* 1 - sum of var(x - x_hat) / sum of var(x), over columns */
    double penalty;            /* the penalty before its coefficient: L0, L1, ... per row */
    double l0;                 /* latents with z > 0 per row */
    double lr;
    double candidates; /* dot products per row by which a screen's candidates were decided; 0: without a screen */
    int64_t dead;      /* dead latents after this step */
    int64_t steps;     /* steps done, this one included */
} mw_step_report;

/* The state of the steps of one SAE: gradients, Adam's moments, schedules. For rows from other sources than a store. */
typedef struct mw_trainer mw_trainer;

/* Makes a trainer of `sae`, which it changes in place after each step; where steps run on a device with its own memory,
 * mw_trainer_pull does. `sae` and `comm` are borrowed, the options copied. `loss_scale`: 1 / mean variance of the
 * columns; 1: the loss is the mse. Collective. MW_ERR_CONFIG: bad batch or steps, or some ranks only have a GPU. */
mw_status mw_trainer_new(mw_sae *sae, const mw_comm *comm, const mw_train_options *options, double loss_scale,
                         mw_trainer **out) MW_MUST_USE;
void mw_trainer_free(mw_trainer **trainer);
/* Returns this rank's rows begin .. end of a batch: whole tiles of MW_ROW_TILE, so that results do not depend on the
 * number of ranks. */
void mw_trainer_rows(const mw_trainer *trainer, int64_t *begin, int64_t *end);
/* Does one step on this rank's rows: inputs x [end - begin, d] and targets y [end - begin, d_out]; NULL: y is x.
 * `report` may be NULL. Collective. MW_ERR_STATE: the loss is not finite. */
mw_status mw_trainer_step(mw_trainer *trainer, const float *x, const float *y, mw_step_report *report) MW_MUST_USE;
/* mw_trainer_step with x and y in the memory of the device on which steps run; the device may still read them after the
 * return. */
mw_status mw_trainer_step_on_device(mw_trainer *trainer, const float *x, const float *y,
                                    mw_step_report *report) MW_MUST_USE;
/* Copies the parameters from the device into the SAE's arrays. */
mw_status mw_trainer_pull(mw_trainer *trainer) MW_MUST_USE;
int64_t mw_trainer_steps_done(const mw_trainer *trainer);
/* Returns whether `patience` steps passed without a better loss, counted after warmup and annealing. */
bool mw_trainer_stalled(const mw_trainer *trainer);
/* Writes a checkpoint: all that a later training needs to resume bit for bit, at any number of ranks, with a checksum.
 * Collective. MW_ERR_STATE: a value is not finite; nothing is written. */
mw_status mw_trainer_save(const mw_trainer *trainer, const char *path) MW_MUST_USE;
/* Resumes from a checkpoint; after an error the trainer is unchanged. Collective. MW_ERR_STATE: a checkpoint of other
 * data or settings; MW_ERR_FORMAT: a damaged one. */
mw_status mw_trainer_load(mw_trainer *trainer, const char *path) MW_MUST_USE;

typedef struct mw_checkpoint_info {
    int64_t step, n, d, d_out;
    double threshold;
    char fingerprint[MW_SHA256_TEXT];
} mw_checkpoint_info;
/* Reads the description of a checkpoint and verifies its checksum. MW_ERR_FORMAT: not a checkpoint, or damaged. */
mw_status mw_checkpoint_read(const char *path, mw_checkpoint_info *out) MW_MUST_USE;
/* mw_checkpoint_read without reading the tensors and verifying the checksum. */
mw_status mw_checkpoint_head(const char *path, mw_checkpoint_info *out) MW_MUST_USE;
/* Returns the path of the checkpoint with the most steps, which the caller frees; NULL: `folder` has none. */
mw_status mw_checkpoint_newest(const char *folder, char **out) MW_MUST_USE;

/* Sets the initial weights from a sample x [n_rows, d] and y [n_rows, d_out] (NULL: x). b_dec becomes the center of y:
 * by default the geometric median (Weiszfeld 1937) for the TopK family, 0 for the others. Inits:
 * SCALED  W_enc uniform in +-1/sqrt(d), W_dec its rows at unit length, W_enc then scaled so that random unit vectors
 *         are reconstructed at their length (Gao et al. 2024, A.1); the TopK family's default.
 * TIED    random directions, W_enc = W_dec, at unit length, or 0.1 with free decoder norms (ReLU); the others' default.
 * DATA    as TIED, with the directions of rows of the sample from their center.
 * A transcoder's decoder is drawn independently, and b_enc = -W_enc (center of x). A shard: collective over its peers.
 */
mw_status mw_sae_initialize(mw_sae *sae, const float *x, const float *y, int64_t n_rows,
                            const mw_train_options *options) MW_MUST_USE;

/* SAEs that were not trained, to compare a trained one with. All have its n and d, and select by TopK.
 * UNTRAINED  the initial weights of the training (mw_sae_initialize), for unscaled activations.
 * RANDOM     random unit directions for encoder and decoder around the mean row; the codes are scaled by the one factor
 *            that makes the squared error of the sample smallest.
 * PCA        plus and minus each principal direction of the sample around its mean, by falling variance: at most 2 d
 *            latents. */
typedef enum mw_baseline { MW_BASELINE_UNTRAINED, MW_BASELINE_RANDOM, MW_BASELINE_PCA } mw_baseline;
enum { MW_BASELINES = MW_BASELINE_PCA + 1 };
/* Returns "untrained", "random", "pca"; a static string. */
const char *mw_baseline_name(mw_baseline kind);
/* Makes a baseline of an autoencoder or crosscoder that reads the view `in`, from the sample of rows that a training
 * with these options takes its initial weights from. k: active latents per row; the trained SAE's own k, or its L0.
 * Every rank makes the same. The caller frees *out. MW_ERR_UNSUPPORTED: a transcoder or a shard; MW_ERR_CONFIG: another
 * width, or k below 1; MW_ERR_STATE: a row is not finite under MW_NAN_STOP. Local. */
mw_status mw_sae_baseline(const mw_sae *trained, mw_baseline kind, int64_t k, const mw_store_view *in,
                          const mw_train_options *options, mw_sae **out) MW_MUST_USE;

/* Trains an SAE to reconstruct the view `out` (NULL: `in`) from the view `in` of a store. Writes the SAE,
 * history.jsonl, training_history.json and checkpoints to `folder`, and resumes from its newest valid
 * checkpoint-STEP.safetensors with the same options->fingerprint; `folder` NULL: nothing is written or resumed, the SAE
 * is trained in memory. The order of the rows depends on order_seed and position only. `last`, or NULL: report of the
 * last step. Collective. MW_INTERRUPTED: a signal arrived, and a checkpoint was saved; other errors as
 * mw_sae_train_many and the trainer's. */
mw_status mw_sae_train(mw_sae *sae, const mw_store_view *in, const mw_store_view *out, const mw_comm *comm,
                       const mw_train_options *options, const char *folder, mw_step_report *last) MW_MUST_USE;

/* mw_sae_train on rows [n, sae->d] in memory, which must be the same on all ranks; nothing is written. Collective. */
mw_status mw_sae_train_array(mw_sae *sae, const float *rows, int64_t n, const mw_comm *comm,
                             const mw_train_options *options, mw_step_report *last) MW_MUST_USE;

/* One of several SAEs that are trained on the same batches. All pointers are borrowed. */
typedef struct mw_training {
    mw_sae *sae;
    const mw_train_options *options;
    const char *folder; /* as in mw_sae_train */
    /* results */
    mw_status status;
    mw_step_report last;
    double seconds;   /* time of its own steps and of waiting for rows */
    double late_fall; /* rank 0: the fraction by which FVU fell over the second half of the steps before the learning
                         rate falls, see docs/design/step.md; NaN without a folder */
    double waiting; /* time of waiting for rows; where steps run on a GPU rows are prefetched during the step before */
} mw_training;
/* Returns whether two trainings on the same sites read the same batches: equal batch, shards, order_seed, shuffle_*,
 * nan_rule. */
bool mw_training_same_batches(const mw_train_options *a, const mw_train_options *b);
/* Trains n SAEs together: each batch is read once, and every SAE takes its step on it. The results equal those of
 * training each alone, byte for byte. A training that fails ends with its status, and the others continue. Collective.
 * Returns MW_OK unless none can continue: MW_INTERRUPTED (a signal), MW_ERR_COMM (a lost rank), MW_ERR_CONFIG and
 * MW_ERR_ARG (widths, shards, devices or batches that do not fit together), MW_ERR_STATE (a row that is not finite),
 * and errors of the store. */
mw_status mw_sae_train_many(mw_training *jobs, int64_t n, const mw_store_view *in, const mw_store_view *out,
                            const mw_comm *comm) MW_MUST_USE;
/* Returns the bytes that training takes, weights included, on the one of `ranks` ranks that needs most; 0: the shape or
 * number of shards is invalid. `own_memory`: steps run on a device with its own memory, to which rows are copied and
 * where weights are not packed. */
int64_t mw_training_bytes(const mw_sae_shape *shape, const mw_train_options *options, int ranks, bool own_memory);

#ifdef __cplusplus
}
#endif
#endif
