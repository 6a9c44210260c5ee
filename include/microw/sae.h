/* microw/sae.h: sparse autoencoders: use, files, and data-parallel training.
 *
 *     mw_sae *sae = NULL;
 *     MW_TRY(mw_sae_load("store/sae_models/demo", backend, &sae));
 *     mw_codes codes = {0};
 *     MW_TRY(mw_sae_encode(sae, x, rows, &codes));                  // x [rows, d]
 *     MW_TRY(mw_sae_decode(sae, &codes, x_hat));
 *     mw_codes_free(&codes);
 *     mw_sae_free(&sae);
 *
 * TopK (Gao et al. 2024, arXiv 2406.04093, section 2): a = W_enc (x - b_dec) + b_enc; z = relu(a_i) at the k largest
 * a_i, else 0; x_hat = sum_i z_i W_dec,i + b_dec. W_enc and W_dec are [n, d] with one row a latent.
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
    int64_t *start; /* [rows + 1] */
    int32_t *index;
    float *value;
    int64_t rows_capacity, capacity;
} mw_codes;
/* Makes room for rows, with start[0] = 0; for entries, of which the first `kept` are carried over. */
mw_status mw_codes_begin(mw_codes *codes, int64_t rows) MW_MUST_USE;
mw_status mw_codes_reserve(mw_codes *codes, int64_t kept, int64_t entries) MW_MUST_USE;
void mw_codes_free(mw_codes *codes);
/* Value of a latent in a row, 0 where it is silent. */
float mw_codes_find(const mw_codes *codes, int64_t row, int64_t latent);

/* How latents are selected. One table in variants.c says how each encodes and trains. */
typedef enum mw_variant {
    MW_TOPK,       /* Gao et al. 2024: the k largest of a row */
    MW_BATCH_TOPK, /* Bussmann et al. 2024 (arXiv 2412.06410): the k * rows largest of a batch; a threshold afterwards */
} mw_variant;
const char *mw_variant_name(mw_variant variant);
mw_status mw_variant_parse(const char *name, mw_variant *out) MW_MUST_USE;

typedef struct mw_sae {
    mw_variant variant;
    float threshold; /* MW_BATCH_TOPK: latents above it are active outside training; < 0: not trained yet */
    int64_t n, d, k;
    float *w_enc, *b_enc, *w_dec, *b_dec; /* [n, d], [n], [n, d], [d]; memory of the backend */
    mw_backend *backend;                  /* borrowed */
    char *site, *model;                   /* what it was trained on; "" if unknown */
} mw_sae;

/* Parameters are zero. Errors: MW_ERR_CONFIG unless 1 <= k <= n. */
mw_status mw_sae_new(mw_backend *backend, int64_t n, int64_t d, int64_t k, mw_sae **out) MW_MUST_USE;
void mw_sae_free(mw_sae **sae);

/* As outside training. Rows are worked on in tiles of MW_ROW_TILE. */
mw_status mw_sae_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
/* x_hat [codes->rows, d] */
mw_status mw_sae_decode(const mw_sae *sae, const mw_codes *codes, float *x_hat) MW_MUST_USE;

/* `folder`/sae.safetensors (W_enc, b_enc, W_dec, b_dec, f32) and cfg.json. */
mw_status mw_sae_save(const mw_sae *sae, const char *folder) MW_MUST_USE;
mw_status mw_sae_load(const char *folder, mw_backend *backend, mw_sae **out) MW_MUST_USE;
/* `format`: "saelens" (6.x), "sparsify" or "dictionary_learning" (AutoEncoderTopK). Files as those libraries load them. */
mw_status mw_sae_export(const mw_sae *sae, const char *format, const char *folder) MW_MUST_USE;
/* `format`: "saelens" or "sparsify"; TopK SAEs. What those leave outside the weights (decoder norms in the selection, no
 * b_dec on the input) is folded in. MW_ERR_UNSUPPORTED names the setting that cannot be. */
mw_status mw_sae_import(const char *format, const char *folder, mw_backend *backend, mw_sae **out) MW_MUST_USE;

/* ---- metrics ------------------------------------------------------------------------------------------- */

enum { MW_POSITION_BUCKETS = 24, MW_FREQUENCY_BINS = 10 };

/* Exact over all rows of a site, summed in an order that does not depend on the number of ranks. */
typedef struct mw_sae_metrics {
    int64_t rows;
    double mse;                /* mean over rows and dimensions of (x - x_hat)^2 */
    double fvu;                /* sum (x - x_hat)^2 / sum (x - mean x)^2; R2 = 1 - fvu */
    double explained_variance; /* 1 - sum of var(x - x_hat) / sum of var(x): a constant error does not count */
    double cosine;             /* mean over rows of cos(x, x_hat) */
    double l0, l0_deviation;   /* active latents a row: mean and standard deviation */
    double l1;                 /* mean over rows of the sum of z */
    int64_t l0_quantile[5];    /* of rows: 0 %, 25 %, 50 %, 75 %, 100 % */
    int64_t dead, dense;       /* latents that are never active, and on more than a tenth of the rows */
    /* Latents by how often they are active: bin b holds 10^-(b+1) < frequency <= 10^-b, the last all rarer ones. */
    int64_t frequency_bin[MW_FREQUENCY_BINS];
    /* FVU by position in the sequence: bucket b holds positions 2^b - 1 .. 2^(b+1) - 2; rows of each. */
    double position_fvu[MW_POSITION_BUCKETS];
    int64_t position_rows[MW_POSITION_BUCKETS];
} mw_sae_metrics;

/* Collective. */
mw_status mw_sae_measure(const mw_sae *sae, const mw_store *store, const mw_store_site *site, const mw_comm *comm,
                         mw_sae_metrics *out) MW_MUST_USE;

/* ---- training ------------------------------------------------------------------------------------------ */

typedef struct mw_train_options {
    int64_t batch; /* rows of a step, over all ranks */
    int64_t steps;
    double lr;                /* NaN: 2e-4 / sqrt(n / 2^14), as dictionary_learning's trainers */
    double beta1, beta2, eps; /* Adam */
    int64_t warmup_steps;     /* linear from 0 */
    double decay_fraction;    /* the last part of the run, linear to 0 */
    double clip_norm;         /* limit of the gradient's norm, for the loss summed over dimensions; 0: none */
    int64_t aux_k;            /* AuxK latents; 0: off */
    double aux_coefficient;   /* alpha, 1/32 */
    int64_t dead_after;       /* rows without firing (value > 1e-3) after which a latent is dead */
    int64_t seed;
    bool normalize;                      /* train on x * sqrt(d) / E|x|; folded into the biases when saved */
    int64_t init_rows;                   /* sample for b_dec (geometric median) and the loss scale */
    int64_t log_every, checkpoint_every; /* steps; 0: none */
    const char *fingerprint; /* of data and settings: a checkpoint with another one is not gone on from; or NULL */
} mw_train_options;

/* Means over the rows of one step, exact over all ranks. */
typedef struct mw_step_report {
    double loss;               /* mse * scale + aux_coefficient * aux_loss */
    double mse;                /* mean over rows and dimensions of (x_hat - x)^2 */
    double aux_loss;           /* normalized mse of the dead latents' reconstruction of the residual */
    double fvu;                /* sum (x - x_hat)^2 / sum (x - mean x)^2; R2 = 1 - fvu */
    double explained_variance; /* 1 - sum of var(x - x_hat) / sum of var(x), over dimensions */
    double l0;                 /* latents with value > 0 a row */
    double lr;
    int64_t dead; /* dead latents after this step */
} mw_step_report;

typedef struct mw_trainer mw_trainer;

/* The trainer changes `sae` in place; `loss_scale` is 1 / mean variance of the data (1: plain mse). Collective. */
mw_status mw_trainer_new(mw_sae *sae, const mw_comm *comm, const mw_train_options *options, double loss_scale,
                         mw_trainer **out) MW_MUST_USE;
void mw_trainer_free(mw_trainer **trainer);
/* This rank's rows of a batch: begin .. end. Whole tiles of MW_ROW_TILE, so results do not depend on the ranks. */
void mw_trainer_rows(const mw_trainer *trainer, int64_t *begin, int64_t *end);
/* One step on this rank's rows x [end - begin, d]. Collective. */
mw_status mw_trainer_step(mw_trainer *trainer, const float *x, mw_step_report *report) MW_MUST_USE;
int64_t mw_trainer_steps_done(const mw_trainer *trainer);
/* Everything a later run needs to go on bit for bit, at any number of ranks. Collective. */
mw_status mw_trainer_save(const mw_trainer *trainer, const char *path) MW_MUST_USE;
mw_status mw_trainer_load(mw_trainer *trainer, const char *path) MW_MUST_USE;

/* b_dec: geometric median (Weiszfeld 1937) of rows [rows, d]; W_enc uniform +-1/sqrt(d), scaled so that random unit
 * vectors are reconstructed at their length; W_dec its transpose with unit rows. */
mw_status mw_sae_initialize(mw_sae *sae, const float *rows, int64_t n_rows, int64_t seed) MW_MUST_USE;

/* Trains on one site of a store and writes `folder` (SAE, history.jsonl, training_history.json); goes on from
 * `folder`/checkpoint.safetensors where one of the same options is. Row order: a keyed permutation of the rows for
 * each pass over the data, a function of seed and position alone. Collective. */
mw_status mw_sae_train(mw_sae *sae, const mw_store *store, const mw_store_site *site, const mw_comm *comm,
                       const mw_train_options *options, const char *folder, mw_step_report *last) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
