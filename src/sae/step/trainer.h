/* The state of training.
 *
 * Training is data-parallel with results that do not depend on the number of ranks. Each rank encodes its rows. Sparse
 * codes, inputs and residuals are allgathered. Each rank then finds the gradients of its own share of latents: of their
 * codes, and summed over all rows in row order of their parameters. It updates these latents with its share of Adam's
 * moments, and the updated parameters are allgathered. This moves about as many bytes as an allreduce of the gradient,
 * needs no dense [batch, n] gradient, divides Adam's memory by the ranks, and gives the same bytes at any number of
 * ranks; an allreduce of partial sums does not.
 *
 * What a step gathers is in few exchanges (comm/exchange.h): the numbers of codes with sums over rows; the codes,
 * inputs and residuals; the same two for AuxK; sums over latents; the parameters. Where work fails on one rank, the
 * rank notes it (t->local) and goes on to the next exchange, which ends the step on all ranks.
 *
 * A sharded SAE (shards.h) spreads its latents over the ranks, which then form a grid. Ranks with the same shard divide
 * the rows and allgather by row or by latent over t->data. Ranks with the same rows select codes and reconstruct over
 * sae->shard.peers. Sums over latents and the gradient's norm are over all ranks. The bytes are those of the whole SAE.
 *
 * Between GPUs allgathers overlap with kernels that do not need their data: the input's with encoding, W_dec's with the
 * encoding of the next step.
 *
 * All arrays of a step are in the memory of a backend. If that is not host memory, the trainer works on a copy of the
 * SAE. The host keeps the small things: the offsets of each row's codes, the list of dead latents, sums.
 *
 * A step has code sets and reconstructions. A code set holds sparse codes and their gradients: the selected latents,
 * those of one Matryoshka group, the dead latents of AuxK. A reconstruction has an error [batch, d_out], which becomes
 * dL/dx_hat. The gradient of a code is the dot product of its decoder row and its row in the set's reconstruction. A
 * variant chooses the layout of sets and reconstructions; the rest is the same for all variants.
 */
#ifndef MICROW_SAE_STEP_TRAINER_H
#define MICROW_SAE_STEP_TRAINER_H

#include "sae/sae_private.h"

/* Latents are divided among ranks, and their partial sums are taken, in blocks of this many. */
enum { LATENT_BLOCK = 512 };

/* Entries of all rows of a batch; borrowed. */
typedef struct batch_codes {
    const int64_t *start; /* [batch + 1], host memory; the arrays below are the device's */
    const int32_t *index; /* latents, by row, ascending */
    const float *value;   /* z */
} batch_codes;

/* Sparse codes of a batch. */
typedef struct code_set {
    mw_codes mine;  /* of this rank's rows */
    int64_t *start; /* [batch + 1], host memory: of all rows, as are index and value */
    int32_t *index;
    float *value;
    int64_t capacity;  /* of index and value */
    mw_codes selected; /* memory of `share`, if that is not all */
    batch_codes share; /* of all rows, those of this rank's share of the latents */
    float *grad;       /* by entry of `share`: dL/dz, which the variant turns into dL/da */
    int64_t grads;     /* capacity of grad */
} code_set;

typedef enum set_use {
    SET_DECODES = 1, /* W_dec learns from its values */
    SET_ENCODES = 2, /* W_enc learns from its gradients */
    SET_BIASES = 4,  /* b_enc learns from its gradients */
    SET_FIRES = 8,   /* its values count as activity: L0, dead latents */
    SET_WHOLE = 15,
} set_use;

/* MW_GROUPS_MAX sets of a variant, and AuxK's. */
enum { SETS_MAX = MW_GROUPS_MAX + 2 };

typedef struct layout {
    int n_sets, n_recons;
    bool zeros;      /* a set may hold codes of value 0, which are no activity; else all codes are positive */
    int bias_recons; /* b_dec and W_skip learn from the first `bias_recons` reconstructions */
    /* nested: reconstruction g decodes sets 0 .. g, and the last one is reported. Else: reconstruction g decodes set g,
     * and the first one is reported. */
    bool nested;
    int uses[SETS_MAX], recon[SETS_MAX]; /* set_use flags of each set; the reconstruction it takes gradients from */
    double weight[SETS_MAX];             /* of each reconstruction in the loss */
} layout;

/* What a rank counts of its rows in a step: codes that are not 0; dot products of a screen's candidates. */
enum { TALLY_POSITIVE, TALLY_DOTS, TALLIES };

typedef enum parameter_index {
    P_W_ENC,
    P_B_ENC,
    P_W_DEC,
    P_B_DEC,
    P_W_SKIP,
    P_EXTRA,
    P_COUNT = P_EXTRA + MW_EXTRAS
} parameter_index;

/* A parameter of the SAE with its gradient, Adam's moments and running mean. If `shared`, `value` has one row for each
 * latent of this rank's shard, and the other arrays only those of this rank's share. Else all arrays are whole and
 * equal on all ranks. */
typedef struct parameter {
    const char *name;
    float *value; /* NULL: this SAE has no such parameter */
    float *grad, *m, *v, *ema;
    int64_t rows, columns; /* of value */
    bool shared;
    double lr_factor;
} parameter;

/* Sums over all rows of a batch. */
typedef struct batch_sums {
    double y2, e2, positive;   /* of y^2 and (x_hat - y)^2 over dimensions; of active codes */
    double y_spread, e_spread; /* of squared distances from the mean over the batch */
    double weighted;           /* of the squared errors of all reconstructions, times their weights */
} batch_sums;

typedef struct mw_trainer {
    mw_sae *sae;  /* in the memory of `backend` */
    mw_sae *host; /* the caller's; equal to `sae` on a host backend */
    mw_backend *backend;
    const mw_comm *comm; /* all ranks */
    const mw_comm *data; /* the ranks with the same latents and other rows */
    mw_comm *own_data;   /* `data`, if it is not `comm` */
    mw_train_options options;
    double loss_scale;
    mw_status local;                 /* what has failed on this rank alone: the next exchange carries it */
    int64_t begin, end;              /* this rank's rows of a batch */
    int64_t first_latent, n_latents; /* this rank's share of its shard's latents */
    int64_t step;
    layout layout;
    parameter parameter[P_COUNT];
    int64_t *since_fired; /* [n] rows since a latent fired */

    /* State of the present step. */
    int64_t k;
    double penalty_unit;      /* dL/d(penalty of a row) */
    code_set set[SETS_MAX];   /* the variant's code sets */
    code_set aux;             /* AuxK's code set */
    int64_t aux_k;            /* latents of AuxK; 0: AuxK is off */
    float *input;             /* [batch, d] what W_enc multiplies: x - b_dec, or a transcoder's x */
    float *error;             /* x_hat - y of this rank's rows; without kept_error only until it becomes a gradient */
    float *kept_error;        /* memory for `error` where AuxK or resampling reads it later; else NULL */
    float *out_grad;          /* [n_recons + 1, batch, d_out] errors, then dL/dx_hat; the last is AuxK's */
    int32_t *silent;          /* [n] latents that AuxK trains, while resampling the dead; n_dead entries are valid */
    int32_t *dead;            /* host copy of `silent` */
    int64_t n_dead, all_dead; /* entries of `silent` of this rank's shard; of all shards */
    int64_t active;           /* entries of set 0, over all latents and rows */
    int64_t *shard_entries;   /* [shards + 1], host: sums over the shards before of the codes of the reported sets */
    float kth;    /* BatchTopK: smallest selected value; 0: the batch had fewer positive values than wanted */
    int64_t dots; /* of this rank's candidates, see mw_encoder */
    batch_sums batch;
    mw_step_report report;

    /* Early stopping. */
    double smooth, best; /* running mean of the loss; the lowest so far */
    int64_t best_step;

    /* Scratch. */
    float *x, *y;          /* device copies of rows that the caller gave in host memory */
    mw_codes selection;    /* of selections that are then split into sets */
    mw_latent_lists lists; /* entries of a step by latent */
    double *pre_sum;       /* [n_latents] sum over rows of dL/da */
    float *norms;          /* [n] decoder norms, for variants with a penalty */
    double *share_sums[2]; /* [n_latents], host: sums over rows that a variant needs for its own gradients */
    double *costs;         /* [n_latents], host: what the variant's penalty counts */
    double *tile_sums;     /* [2, tiles, d_out + 1], then [n_recons, tiles] */
    double *sums;          /* [sums_width] totals of tile_sums */
    double *totals;        /* host copy of `sums` */
    double *encoder_sums;  /* [latent blocks, d] */
    double *square_sums;   /* [latent blocks of the whole dictionary] squares of gradients */
    double *block_sums;    /* [latent blocks of the whole dictionary], host */
    int64_t *shard_sums;   /* [shard_sums()], host */
    int64_t *tallies;      /* [ranks of data, TALLIES], host: counts of each rank's rows */
} mw_trainer;

#endif
