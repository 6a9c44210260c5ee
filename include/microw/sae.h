/* microw/sae.h: sparse autoencoders: use, files, and data-parallel training.
 *
 *     mw_sae *sae = NULL;
 *     MW_TRY(mw_sae_load("store/sae_models/demo", backend, &sae));
 *     mw_codes codes = {0};
 *     MW_TRY(mw_sae_encode(sae, x, rows, &codes));                  // x [rows, d]
 *     MW_TRY(mw_sae_decode(sae, &codes, x, x_hat));
 *     mw_codes_free(&codes);
 *     mw_sae_free(&sae);
 *
 * a = W_enc (x - b_dec) + b_enc; z from a as the variant says; x_hat = sum_i z_i W_dec,i + b_dec. W_enc is [n, d] and
 * W_dec [n, d_out], with one row a latent. Three kinds of SAE differ in what they read and rebuild:
 *   autoencoder  d_out = d: rebuilds what it reads, one site, or several sites side by side (a crosscoder: Anthropic 2024,
 *                "Sparse Crosscoders"; one dictionary, a decoder for each site);
 *   transcoder   reads one site and rebuilds another (Dunefsky et al. 2024, arXiv 2406.11944); b_dec is not taken from x;
 *   skip transcoder  adds W_skip x to the reconstruction (Paulo et al. 2025, arXiv 2501.18823).
 */
#ifndef MICROW_SAE_H
#define MICROW_SAE_H

#include "microw/backend.h"
#include "microw/comm.h"
#include "microw/store.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Active latents by row: row r has entries start[r] .. start[r + 1], latents ascending, values > 0. {0} is empty; the
 * arrays are kept and grown over uses. */
typedef struct mw_codes {
    int64_t rows;
    int64_t *start; /* [rows + 1]; always plain memory */
    int32_t *index;
    float *value;
    int64_t rows_capacity, capacity;
    mw_backend *memory; /* whose memory index and value are; NULL: plain memory */
} mw_codes;
/* Makes room for rows, with start[0] = 0; for entries, of which the first `kept` are carried over. */
mw_status mw_codes_begin(mw_codes *codes, int64_t rows) MW_MUST_USE;
mw_status mw_codes_reserve(mw_codes *codes, int64_t kept, int64_t entries) MW_MUST_USE;
void mw_codes_free(mw_codes *codes);
/* Value of a latent in a row, 0 where it is silent. */
float mw_codes_find(const mw_codes *codes, int64_t row, int64_t latent);

/* How codes come from pre-activations. One table in variants.c says how each encodes and trains. */
typedef enum mw_variant {
    MW_TOPK,       /* Gao et al. 2024 (arXiv 2406.04093): the k largest of a row */
    MW_BATCH_TOPK, /* Bussmann et al. 2024 (arXiv 2412.06410): the k * rows largest of a batch; a threshold later */
    MW_MULTI_TOPK, /* Gao et al. 2024, 5.3: TopK that also learns to rebuild from the 4 k largest */
    MW_MATRYOSHKA_TOPK,       /* Bussmann et al. 2025 (arXiv 2503.17547): each prefix of groups rebuilds x by itself */
    MW_MATRYOSHKA_BATCH_TOPK, /* the same over BatchTopK */
    MW_RELU,                  /* Anthropic, April 2024 update: z = relu(a), penalty sum_i z_i |W_dec,i| */
    MW_JUMP_RELU,             /* Rajamanoharan et al. 2024 (arXiv 2407.14435): z = a where a > theta_i */
    MW_GATED,                 /* Rajamanoharan et al. 2024 (arXiv 2404.16014): one path opens, another measures */
} mw_variant;
enum { MW_VARIANTS = MW_GATED + 1, MW_EXTRAS = 2, MW_GROUPS_MAX = 16, MW_SITES_MAX = MW_VIEW_SITES };
const char *mw_variant_name(mw_variant variant);
mw_status mw_variant_parse(const char *name, mw_variant *out) MW_MUST_USE;
/* Whether it selects by k; whether it has groups of latents; whether a penalty keeps it sparse. */
bool mw_variant_uses_k(mw_variant variant);
bool mw_variant_uses_groups(mw_variant variant);
bool mw_variant_uses_penalty(mw_variant variant);

typedef struct mw_sae_shape {
    mw_variant variant;
    int64_t n, d;                /* latents; width of what is read */
    int64_t k;                   /* for the variants that use it */
    int64_t d_out;               /* 0: an autoencoder; else a transcoder's output width */
    bool skip;                   /* of a transcoder */
    int64_t n_groups;            /* Matryoshka: 0: halves, n/16, n/16, n/8, n/4, n/2 */
    const int64_t *group;        /* [n_groups] latents of each, n together */
    int64_t n_targets;           /* sites side by side in what is rebuilt; 0: one */
    const int64_t *target_width; /* [n_targets] width of each, d_out together */
} mw_sae_shape;

/* Latents first .. first + n of a dictionary of `total` that is too large for one device. `count` ranks hold one shard each, in order, for
 * the same rows; what all of them must do together goes through `peers`. A whole SAE is the one shard of itself. */
typedef struct mw_shard {
    int64_t first, total, count;
    mw_comm *peers; /* NULL: whole */
} mw_shard;

typedef struct mw_sae {
    mw_variant variant;
    float threshold;        /* BatchTopK: latents above it are active outside training; < 0: not trained yet */
    int64_t n, d, d_out, k; /* n: latents that are held here */
    mw_shard shard;
    float *w_enc, *b_enc, *w_dec, *b_dec; /* [n, d], [n], [n, d_out], [d_out]; memory of the backend */
    float *extra[MW_EXTRAS];              /* [n] each. MW_JUMP_RELU: theta. MW_GATED: r_mag, b_mag (b_enc is b_gate). */
    float *w_skip;                        /* [d_out, d], or NULL */
    uint16_t *w_enc16; /* while it is trained with bf16 products: W_enc rounded, which these read; else NULL */
    mw_packed *packed; /* while it is used on many rows: a copy of what products read, see mw_backend_ops; or NULL */
    bool tf32;         /* products may round to tf32 */
    bool centered;     /* rows to encode come without b_dec already, as a step has them */
    bool transcoder;   /* b_dec is not subtracted from x */
    int64_t n_groups, group_end[MW_GROUPS_MAX];
    int64_t n_targets, target_end[MW_SITES_MAX]; /* columns of the sites in x_hat */
    mw_backend *backend;                         /* borrowed */
    struct mw_sae *device;       /* a copy elsewhere that encodes and decodes, see mw_sae_use_device; or NULL */
    char *site, *target, *model; /* what it was trained on, sites with commas between; target "": site */
    char *fingerprint;           /* of data and settings it was trained with; "": not known */
} mw_sae;

/* MW_ERR_CONFIG names the number that cannot be. */
mw_status mw_sae_check(const mw_sae_shape *shape) MW_MUST_USE;
/* Parameters are zero. Errors: those of mw_sae_check. */
mw_status mw_sae_new(mw_backend *backend, const mw_sae_shape *shape, mw_sae **out) MW_MUST_USE;
/* This rank's shard of one that is spread over the ranks of `comm`: a grid of `shards` times groups of ranks. The ranks of a group hold
 * the same shard and share out the rows of a batch; rank r holds shard r / (ranks / shards). It can be initialized, trained and
 * saved (which its peers do together: each call is collective); loaded again it is whole. Collective. MW_ERR_CONFIG: the ranks are no
 * multiple of `shards`, or there are too few latents. */
mw_status mw_sae_new_shard(mw_backend *backend, const mw_sae_shape *shape, const mw_comm *comm, int64_t shards,
                           mw_sae **out) MW_MUST_USE;
/* Whether so many ranks can hold it in so many shards; MW_ERR_CONFIG as above. Local. */
mw_status mw_sae_check_shards(const mw_sae_shape *shape, int ranks, int64_t shards) MW_MUST_USE;
void mw_sae_free(mw_sae **sae);
/* "topk, 1024 latents, k 16, on 2.resid_post", "relu skip transcoder, 256 latents, from 2.resid_mid to 2.mlp_out". */
/* A hash of shape and weights, of which cfg.json has a copy; of one that is spread, a summand of its own for each shard. */
uint64_t mw_sae_hash(const mw_sae *sae);
mw_status mw_sae_describe(const mw_sae *sae, mw_text *out) MW_MUST_USE;

/* As outside training. Rows are worked on in tiles of MW_ROW_TILE. */
mw_status mw_sae_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
/* x_hat [codes->rows, d_out]; x, what was encoded, is needed with w_skip only, else NULL will do. */
mw_status mw_sae_decode(const mw_sae *sae, const mw_codes *codes, const float *x, float *x_hat) MW_MUST_USE;

/* For use on many rows: the weights must not change any more. From now on codes are made, and many rows rebuilt, on this device, if
 * it has memory of its own; x, codes and x_hat are still the host's, as are the weights. Else a copy of W_enc is laid out as its products
 * read it fastest. The backend is borrowed and outlives that. */
mw_status mw_sae_use_device(mw_sae *sae, mw_backend *device) MW_MUST_USE;
void mw_sae_leave_device(mw_sae *sae);

/* SAEs in files have finite values: MW_ERR_STATE names the tensor and the place of one that is not, in loading, importing and saving.
 * `folder`/sae.safetensors (W_enc, b_enc, W_dec, b_dec, and by variant threshold, r_mag, b_mag, W_skip; f32) and
 * cfg.json. */
mw_status mw_sae_save(const mw_sae *sae, const char *folder) MW_MUST_USE;
mw_status mw_sae_load(const char *folder, mw_backend *backend, mw_sae **out) MW_MUST_USE;
/* What a training that was ended after its SAE was complete has not done: names of its files, checkpoints that are not needed. */
mw_status mw_training_settle(const char *folder, const char *fingerprint) MW_MUST_USE;
/* Renames the record of a training, if there is one, by the fingerprint of its SAE. */
mw_status mw_history_set_aside(const char *folder, const char *fingerprint) MW_MUST_USE;
/* Where a file of an SAE is kept once another takes its folder: NAME.EXT as `folder`/NAME-XXXXXXXX.EXT, by the SAE's fingerprint.
 * Caller frees; NULL: out of memory. */
char *mw_sae_aside(const char *folder, const char *name, const char *fingerprint);
/* Gives weights their name that a program which was ended in mw_sae_save left without it. */
mw_status mw_sae_publish(const char *folder) MW_MUST_USE;
/* "microw", "saelens", "sparsify" or "dictionary_learning": what the SAE in a folder looks like; NULL: none is there. */
const char *mw_sae_folder_format(const char *folder);
/* MW_ERR_STATE where one is there, unless it is of the same format and may be overwritten. */
mw_status mw_sae_may_write(const char *folder, const char *format, bool overwrite) MW_MUST_USE;
/* `format`: "saelens" (6.x), "sparsify" or "dictionary_learning" (AutoEncoderTopK). Files as those libraries load them. */
mw_status mw_sae_export(const mw_sae *sae, const char *format, const char *folder) MW_MUST_USE;
/* The same in place of an export that may be there, which stays until the new one is whole; in the moment of the change the folder has no
 * configuration. */
mw_status mw_sae_replace(const mw_sae *sae, const char *format, const char *folder) MW_MUST_USE;
/* `format`: "saelens" or "sparsify"; TopK SAEs. What those leave outside the weights (decoder norms in the selection, no
 * b_dec on the input) is folded in. MW_ERR_UNSUPPORTED names the setting that cannot be. */
mw_status mw_sae_import(const char *format, const char *folder, mw_backend *backend, mw_sae **out) MW_MUST_USE;

/* ---- metrics ------------------------------------------------------------------------------------------- */

enum { MW_POSITION_BUCKETS = 24, MW_FREQUENCY_BINS = 10 };

/* What becomes of a row that is not finite: whoever reads it stops and names it, or passes it over and counts it (training takes the row
 * behind it). */
typedef enum mw_nan_rule { MW_NAN_STOP, MW_NAN_SKIP } mw_nan_rule;

/* A share of the variance, `part` / `spread`, where `spread` is a sum of squared distances from the mean and `squares` the sum of squares of
 * the same numbers: NaN, undefined, where these do not vary (spread <= 1e-12 squares: within the rounding of the mean), as all zeros or a
 * constant do not. FVU and explained variance are this everywhere: in training, evaluation, by position and by site. */
double mw_variance_fraction(double part, double spread, double squares);

/* Exact over all rows, summed in an order that does not depend on the number of ranks. x is what is rebuilt: for a
 * transcoder the output. What is undefined is NaN: FVU and explained variance where x does not vary, the cosine where all x are zero. */
typedef struct mw_sae_metrics {
    int64_t rows, left_out;    /* that were measured; that were not, as they are not finite */
    double mse;                /* mean over rows and dimensions of (x - x_hat)^2 */
    double fvu;                /* sum (x - x_hat)^2 / sum (x - mean x)^2; R2 = 1 - fvu */
    double explained_variance; /* 1 - sum of var(x - x_hat) / sum of var(x): a constant error does not count */
    double cosine;             /* mean of cos(x, x_hat) over rows x that are not all zero; 0 where x_hat is */
    double l0, l0_deviation;   /* active latents a row: mean and standard deviation */
    double l1;                 /* mean over rows of the sum of z */
    int64_t l0_quantile[5];    /* of rows: 0 %, 25 %, 50 %, 75 %, 100 % */
    int64_t dead, dense;       /* latents that are never active, and on more than a tenth of the rows */
    /* Latents by how often they are active: bin b holds 10^-(b+1) < frequency <= 10^-b, the last all rarer ones. */
    int64_t frequency_bin[MW_FREQUENCY_BINS];
    /* FVU by position in the sequence: bucket b holds positions 2^b - 1 .. 2^(b+1) - 2, the last all behind; rows of each. */
    double position_fvu[MW_POSITION_BUCKETS];
    int64_t position_rows[MW_POSITION_BUCKETS];
    int64_t last_position;           /* the largest of all rows */
    double target_fvu[MW_SITES_MAX]; /* of each site that is rebuilt */
} mw_sae_metrics;

/* `out` NULL: an autoencoder's, the same as `in`. MW_ERR_STATE names a row that is not finite, unless `rule` leaves it out, or says
 * that all are. Collective. */
mw_status mw_sae_measure(const mw_sae *sae, const mw_store_view *in, const mw_store_view *out, mw_nan_rule rule,
                         const mw_comm *comm, mw_sae_metrics *metrics) MW_MUST_USE;

/* ---- training ------------------------------------------------------------------------------------------ */

typedef enum mw_decay { MW_DECAY_LINEAR, MW_DECAY_COSINE, MW_DECAY_NONE } mw_decay;
typedef enum mw_penalty { MW_PENALTY_L0, MW_PENALTY_TANH } mw_penalty;
typedef enum mw_normalize { MW_NORMALIZE_NORM, MW_NORMALIZE_STANDARD, MW_NORMALIZE_NONE } mw_normalize;
/* Of the product that encodes; all else is f32. bf16: of rounded activations with a rounded copy of W_enc, which stays f32 itself. */
typedef enum mw_precision { MW_PRECISION_F32, MW_PRECISION_TF32, MW_PRECISION_BF16 } mw_precision;
typedef enum mw_init { MW_INIT_AUTO, MW_INIT_SCALED, MW_INIT_TIED, MW_INIT_DATA } mw_init;
typedef enum mw_center { MW_CENTER_AUTO, MW_CENTER_MEDIAN, MW_CENTER_MEAN, MW_CENTER_ZERO } mw_center;

/* NaN: the variant's own value, given with the field. Coefficients are of the loss E|x - x_hat|^2 on normalized data. */
typedef struct mw_train_options {
    int64_t batch;  /* rows of a step, over all ranks */
    int64_t shards; /* that the SAE is spread over, see mw_sae_new_shard; 0 and 1: each rank has all of it */
    int64_t steps;
    double lr;                /* NaN: 2e-4 / sqrt(n / 2^14), as dictionary_learning's trainers */
    double beta1, beta2, eps; /* Adam */
    int64_t warmup_steps;     /* linear from 0 */
    mw_decay decay;
    double decay_fraction;           /* the last part of the run, in which the rate falls to 0 */
    double clip_norm;                /* limit of the gradient's norm, for the loss summed over dimensions; 0: none */
    double ema;                      /* decay of the mean of the weights that is saved; 0: the weights themselves */
    int64_t aux_k;                   /* AuxK latents; 0: off */
    double aux_coefficient;          /* alpha, 1/32 */
    int64_t dead_after;              /* rows without firing (value > 1e-3) after which a latent is dead */
    int64_t resample_every;          /* steps after which dead latents start anew (Bricken et al. 2023); 0: never */
    int64_t k_start, k_anneal_steps; /* k falls linearly from k_start; 0 steps: it is k from the start */
    double sparsity;           /* coefficient of the penalty; NaN: ReLU 5, Gated 2, JumpReLU 6e-4 d, with a target d */
    int64_t sparsity_warmup;   /* steps in which it rises from 0 */
    mw_penalty penalty;        /* JumpReLU: number of active latents, or sum of tanh(4 z |W_dec|) */
    double l0_target;          /* JumpReLU: the penalty is (L0 / target - 1)^2; 0: L0 itself */
    double bandwidth;          /* JumpReLU: of the rectangle kernel; NaN: 0.05, with tanh 2 */
    double threshold_init;     /* JumpReLU: theta; NaN: 0.01, with tanh 0.1 */
    int64_t threshold_batches; /* BatchTopK: batches after training over which the threshold is the mean; 0: none */
    int64_t patience;          /* steps without a better loss after which training ends; 0: all steps are done */
    double min_gain;           /* relative improvement that counts as better */
    int64_t seed;              /* of the weights */
    int64_t order_seed;        /* of the order of rows */
    int64_t shuffle_block, shuffle_window; /* rows of a block, blocks of a window; block 0: each row by itself */
    mw_nan_rule nan_rule;
    mw_normalize normalize; /* |x| has mean sqrt(d); columns have deviation 1; or as it is. Folded in when saved */
    mw_precision precision;
    mw_init init;
    mw_center center;                     /* what b_dec starts as */
    int64_t init_rows;                    /* sample for b_dec and the loss scale */
    int64_t log_every, checkpoint_every;  /* steps; 0: none */
    double checkpoint_minutes;            /* time between checkpoints, looked at when a line is logged; 0: none */
    int64_t keep_checkpoints;             /* the last so many; 0: one */
    mw_status (*before_save)(void *self); /* or NULL: called by rank 0 before the SAE takes another one's place */
    void *before_save_self;
    const mw_lock *lock;     /* or NULL: must still be held when the SAE gets its name */
    const char *fingerprint; /* of data and settings: a checkpoint with another one is not gone on from; or NULL */
    mw_backend *device;      /* that steps run on, with memory of its own or not; NULL: the SAE's */
} mw_train_options;

/* Those of an experiment file that says nothing of them, for an SAE of this shape and a run over so many rows. */
mw_train_options mw_train_defaults(const mw_sae_shape *shape, int64_t rows, int64_t batch);

/* Means over the rows of one step, exact over all ranks. */
typedef struct mw_step_report {
    double loss;               /* mse * scale, also of other reconstructions, + aux and penalty terms */
    double mse;                /* mean over rows and dimensions of (x_hat - x)^2 */
    double aux_loss;           /* normalized mse of the dead latents' reconstruction of the residual */
    double fvu;                /* sum (x - x_hat)^2 / sum (x - mean x)^2; R2 = 1 - fvu */
    double explained_variance; /* 1 - sum of var(x - x_hat) / sum of var(x), over dimensions */
    double penalty;            /* what the sparsity coefficient multiplies: L0, L1, ... a row */
    double l0;                 /* latents with value > 0 a row */
    double lr;
    int64_t dead;  /* dead latents after this step */
    int64_t steps; /* done, with this one */
} mw_step_report;

typedef struct mw_trainer mw_trainer;

/* The trainer changes `sae` in place, after each step, or, where steps run on a device with its own memory, when it is told
 * to (mw_trainer_pull). `loss_scale` is 1 / mean variance of the data (1: plain mse). Collective. */
mw_status mw_trainer_new(mw_sae *sae, const mw_comm *comm, const mw_train_options *options, double loss_scale,
                         mw_trainer **out) MW_MUST_USE;
void mw_trainer_free(mw_trainer **trainer);
/* This rank's rows of a batch: begin .. end. Whole tiles of MW_ROW_TILE, so results do not depend on the ranks. */
void mw_trainer_rows(const mw_trainer *trainer, int64_t *begin, int64_t *end);
/* One step on this rank's rows x [end - begin, d] and what they should become, y [end - begin, d_out]; NULL: x itself.
 * Collective. */
mw_status mw_trainer_step(mw_trainer *trainer, const float *x, const float *y, mw_step_report *report) MW_MUST_USE;
/* The same with rows in the memory of the device that steps run on, which may still read them when this returns. */
mw_status mw_trainer_step_on_device(mw_trainer *trainer, const float *x, const float *y,
                                    mw_step_report *report) MW_MUST_USE;
/* Brings the parameters into the SAE's own arrays. */
mw_status mw_trainer_pull(mw_trainer *trainer) MW_MUST_USE;
int64_t mw_trainer_steps_done(const mw_trainer *trainer);
/* No better loss for `patience` steps, counted when all schedules have reached their end values. */
bool mw_trainer_stalled(const mw_trainer *trainer);
/* Everything a later run needs to go on bit for bit, at any number of ranks, with a checksum. Collective. What is not finite is not saved:
 * MW_ERR_STATE names it. Loading changes nothing unless all of the file is right: MW_ERR_STATE if it is of other data or settings. */
mw_status mw_trainer_save(const mw_trainer *trainer, const char *path) MW_MUST_USE;
mw_status mw_trainer_load(mw_trainer *trainer, const char *path) MW_MUST_USE;

/* What a checkpoint says of itself, when its checksum matches; MW_ERR_FORMAT if it does not, or the file is none. */
typedef struct mw_checkpoint_info {
    int64_t step, n, d, d_out;
    double threshold;
    char fingerprint[MW_SHA256_TEXT];
} mw_checkpoint_info;
mw_status mw_checkpoint_read(const char *path, mw_checkpoint_info *out) MW_MUST_USE;
/* The same without reading the tensors: whether they are whole is not told. */
mw_status mw_checkpoint_head(const char *path, mw_checkpoint_info *out) MW_MUST_USE;
/* Path of the one with the most steps; NULL: `folder` has none. Caller frees. */
mw_status mw_checkpoint_newest(const char *folder, char **out) MW_MUST_USE;

/* From a sample x [n_rows, d], y [n_rows, d_out] (NULL: x). b_dec: their center (geometric median, Weiszfeld 1937, is the TopK
 * family's own; zero the others'). Inits:
 * SCALED  W_enc uniform +-1/sqrt(d), W_dec its rows at unit length, W_enc then scaled so that random unit vectors are
 *         rebuilt at their length (Gao et al. 2024, A.1); the TopK family's own.
 * TIED    random directions, W_enc = W_dec, at unit length, or 0.1 with a free decoder (ReLU); the others' own.
 * DATA    as TIED, with directions of rows of the sample from their center.
 * A transcoder's decoder is drawn by itself, and b_enc takes the center of x away. */
mw_status mw_sae_initialize(mw_sae *sae, const float *x, const float *y, int64_t n_rows,
                            const mw_train_options *options) MW_MUST_USE;

/* Trains on what `in` and `out` (NULL: `in`) show of a store and writes `folder` (SAE, history.jsonl,
 * training_history.json); goes on from the newest whole `folder`/checkpoint-STEP.safetensors of the same options. Asked to
 * end by a signal it saves one and gives MW_INTERRUPTED. Rows come in an order that is a function of order_seed and
 * position alone. `folder` NULL: nothing is written or gone on from; the SAE is trained in memory. Collective. */
mw_status mw_sae_train(mw_sae *sae, const mw_store_view *in, const mw_store_view *out, const mw_comm *comm,
                       const mw_train_options *options, const char *folder, mw_step_report *last) MW_MUST_USE;

/* The same on rows [n, sae->d] in memory, which all ranks have alike: nothing is written. Collective. */
mw_status mw_sae_train_array(mw_sae *sae, const float *rows, int64_t n, const mw_comm *comm,
                             const mw_train_options *options, mw_step_report *last) MW_MUST_USE;

/* One SAE of several that are trained on the same batches. */
typedef struct mw_training {
    mw_sae *sae;
    const mw_train_options *options;
    const char *folder;
    /* results */
    mw_status status;
    mw_step_report last;
    double seconds; /* in its own steps, and waiting for rows */
    double waiting; /* for rows; where steps run on a GPU they are read while the one before is made */
} mw_training;
/* Whether two trainings on the same sites read the same batches: batch, shards, order_seed, shuffle_*, nan_rule. */
bool mw_training_same_batches(const mw_train_options *a, const mw_train_options *b);
/* Each batch is read once and every SAE takes its step on it: all need the same batches. The bytes of each are those of training it alone. One that fails ends, its status says how, and the
 * others go on. MW_OK unless none can go on, or all were asked to end. Collective. */
mw_status mw_sae_train_many(mw_training *jobs, int64_t n, const mw_store_view *in, const mw_store_view *out,
                            const mw_comm *comm) MW_MUST_USE;
/* Bytes that training takes on the rank of `ranks` that has most, weights included. `own_memory`: on a device that has its own, which
 * rows are copied to and where weights are not packed. */
int64_t mw_training_bytes(const mw_sae_shape *shape, const mw_train_options *options, int ranks, bool own_memory);

#ifdef __cplusplus
}
#endif
#endif
