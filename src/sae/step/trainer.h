/* The state of training and the pieces of a step.
 *
 * Data-parallel with fixed results: each rank encodes its rows; sparse codes, inputs and residuals are gathered; each
 * rank then sums the gradient of its own share of latents over all rows in row order, updates them with its share of
 * Adam's moments, and the updated parameters are gathered. That moves about what an all-reduce of the gradient
 * would, needs no dense [batch, n] gradient, divides Adam's memory by the ranks, and gives the same bytes at any
 * number of ranks, which an all-reduce of partial sums does not.
 *
 * An SAE may be spread over the ranks in shards of latents (shards.h). Then the ranks are a grid: those that hold the same shard
 * share out the rows, and what is gathered by row or by latent is gathered among them (`peers` of rows, t->data); those that have the
 * same rows choose codes and rebuild together (the SAE's shard.peers). Sums over latents, and the norm of the gradient, are of all
 * ranks. The bytes are those of the whole SAE.
 *
 * Exchanges go on beside the kernels where nothing waits for them yet: the inputs' beside encoding, W_enc's beside the update of W_dec,
 * W_dec's beside the encoding of the next step.
 *
 * All of a step is done by operations of a backend, in its memory; where that is not the host's, the trainer has a copy of
 * the SAE there. What stays on the host is small: where codes of a row start, the list of dead latents, sums.
 *
 * A step is made of parts and blocks. A part is a set of sparse codes and their gradients: the selected latents, those of
 * one Matryoshka group, the dead ones of AuxK. A block is dL/d of one reconstruction [batch, d_out]; a code's gradient is the
 * product of its decoder row and its row in the part's block. A variant lays them out; the rest is the same for all.
 */
#ifndef MICROW_SAE_STEP_TRAINER_H
#define MICROW_SAE_STEP_TRAINER_H

#include "microw/sae.h"

enum { NEAR_FLOATS = 1 << 21 }; /* pre-activations in memory at once on a CPU, or a tile of them */
enum { LATENT_BLOCK = 512 };    /* latents are shared out, and their partial sums taken, in blocks of this many */

/* Sparse codes of all rows of a batch, gathered from the ranks' own. */
typedef struct code_set {
    mw_codes mine;       /* of this rank's rows */
    int64_t *start;      /* [batch + 1], on the host; the others are the device's */
    int32_t *index;      /* by row, latents ascending */
    float *value, *grad; /* z and dL/dz, then what the variant makes of that: dL/da */
    int64_t capacity;
} code_set;

typedef enum set_use {
    SET_DECODES = 1, /* W_dec learns from its values */
    SET_ENCODES = 2, /* W_enc learns from its gradients */
    SET_BIASES = 4,  /* and b_enc */
    SET_FIRES = 8,   /* its values count as activity: L0, dead latents */
    SET_WHOLE = 15,
} set_use;

/* The last two are for AuxK. */
enum { SETS_MAX = MW_GROUPS_MAX + 2 };

typedef struct layout {
    int n_sets, n_recons;
    bool zeros;      /* among its codes, which are no activity; else all are positive */
    int bias_recons; /* b_dec and W_skip learn from the first so many blocks */
    bool
        nested; /* reconstruction g is of parts 0 .. g, and the last is the one that is reported; else g is of part g, and
                        the first is */
    int uses[SETS_MAX], recon[SETS_MAX];
    double weight[SETS_MAX]; /* of the reconstructions in the loss */
} layout;

typedef enum parameter_index {
    P_W_ENC,
    P_B_ENC,
    P_W_DEC,
    P_B_DEC,
    P_W_SKIP,
    P_EXTRA,
    P_COUNT = P_EXTRA + MW_EXTRAS
} parameter_index;

/* A parameter of the SAE, and what training keeps for it. Where `shared`, value has a row for each latent that is held here, and the rest is of
 * this rank's share of those; else all are whole and the same everywhere. */
typedef struct parameter {
    const char *name;
    float *value; /* NULL: this SAE has none */
    float *grad, *m, *v, *ema;
    int64_t rows, columns; /* of value */
    bool shared;
    double lr_factor;
} parameter;

typedef struct mw_trainer {
    mw_sae *sae;  /* in the memory of `backend` */
    mw_sae *host; /* the caller's; the same where that is the host's memory */
    mw_backend *backend;
    const mw_comm *comm; /* all ranks */
    const mw_comm *data; /* those that hold the same latents; they have the other rows */
    mw_comm *own_data;   /* the same, if it is not `comm` */
    mw_train_options options;
    double loss_scale;
    int64_t begin, end;              /* this rank's rows */
    int64_t first_latent, n_latents; /* this rank's share of the latents that are held */
    int64_t step;
    int64_t k;                /* of this step */
    double penalty_unit;      /* of this step: dL/d(penalty of a row) */
    int64_t *since_fired;     /* [n] rows since a latent fired */
    int32_t *silent;          /* [n]; the first n_dead: those that are dead */
    int32_t *dead;            /* the same on the host */
    int64_t n_dead, all_dead; /* of those that are held here; of all */
    int64_t active;           /* entries of part 0 in this batch, of all latents and rows */
    parameter parameter[P_COUNT];
    mw_latent_lists lists; /* scratch */
    double *pre_sum;       /* [n_latents] sum over rows of dL/da */
    float *x, *y;          /* copies of what the caller gives, where it gives what is the host's; else NULL */
    float *input;          /* [batch, d] what W_enc reads: x - b_dec, or a transcoder's x */
    float *out_grad;       /* [(blocks + 1) * batch, d_out]; the last is AuxK's */
    float *error;          /* x_hat - y of this rank's rows */
    layout layout;
    code_set set[SETS_MAX], aux;
    mw_codes selection;    /* scratch of selections that are split into parts */
    int64_t aux_k;         /* of this step; 0: no auxiliary part */
    float kth;             /* BatchTopK: smallest value selected in the last batch; 0: there was none */
    float *norms;          /* [n] decoder norms, for variants with a penalty */
    double *share_sums[2]; /* [n_latents] for the same, on the host: what a variant sums over rows */
    double *costs;         /* [n_latents] and what its penalty counts */
    double *tile_sums;     /* [2, tiles, d_out + 1], then [blocks, tiles] */
    double *sums;          /* [sums_width] their totals */
    double *totals;        /* the same on the host */
    double *encoder_sums;  /* [latent blocks, d] */
    double *block_sums;    /* [latent blocks], on the host; blocks are those of the whole dictionary */
    uint16_t *w_enc16;     /* [n, d] for bf16 products, after each update */
    size_t *bytes;         /* [size] scratch of gathers */
    double smooth, best;   /* running mean of the loss, and the best of those */
    int64_t best_step;
    mw_step_report report;
} mw_trainer;

/* Blocks of latents of the whole dictionary; the first of this rank's share. */
int64_t latent_blocks(const mw_trainer *t);
int64_t first_latent_block(const mw_trainer *t);
int64_t batch_tiles(const mw_trainer *t);
/* Sums of y and of e by column, with their squares, and squares by reconstruction. */
int64_t sums_width(const mw_trainer *t);
/* This rank's elements of what a parameter's training keeps; where they begin in the whole. */
int64_t parameter_count(const mw_trainer *t, const parameter *p);
int64_t parameter_first(const mw_trainer *t, const parameter *p);

/* ---- what the ranks tell each other; `data` is the device's -------------------------------------------------------- */

/* Gathers rows [batch, width] of which each rank has filled its own. */
mw_status gather_rows_of(mw_trainer *t, void *data, size_t row_bytes) MW_MUST_USE;
/* Each rank of `comm`, all or t->data, has filled its share, mw_comm_share(rank, size, total, block), of `total` items. */
mw_status gather_shares(mw_trainer *t, const mw_comm *comm, void *data, int64_t total, int64_t block,
                        size_t item_bytes) MW_MUST_USE;
/* The same by tiles of rows, and by blocks of latents. */
mw_status gather_tiles(mw_trainer *t, void *data, size_t item_bytes) MW_MUST_USE;
mw_status gather_blocks(mw_trainer *t, void *data, size_t item_bytes) MW_MUST_USE;
/* The same for arrays with a row for each latent that is held. */
mw_status gather_latents(mw_trainer *t, void *data, size_t row_bytes) MW_MUST_USE;
/* Gathers that go on beside the step, where the ranks have GPUs of their own: nothing touches `data` until the step has been told to
 * wait for its request. A parameter's request is its number. */
enum { REQUEST_INPUT = P_COUNT, REQUESTS };
mw_status begin_rows(mw_trainer *t, void *data, size_t row_bytes, int request) MW_MUST_USE;
mw_status begin_latents(mw_trainer *t, void *data, size_t row_bytes, int request) MW_MUST_USE;
mw_status end_gather(const mw_trainer *t, int request) MW_MUST_USE;
mw_status end_gathers(const mw_trainer *t) MW_MUST_USE;
/* From the `mine` of all ranks with these latents: start, index, value of all rows. */
mw_status gather_codes(mw_trainer *t, code_set *c) MW_MUST_USE;
/* Gradients, of which this rank has filled those of its rows. */
mw_status gather_code_grads(mw_trainer *t, code_set *c) MW_MUST_USE;
void codes_free(mw_backend *backend, code_set *c);

/* ---- the device's memory for the host ------------------------------------------------------------------------- */

/* A device's array as host memory: itself, or a copy. What was changed in a copy is written back by `write_back`; `give_back` ends
 * its use, and takes NULL. */
mw_status borrow(mw_backend *backend, void *device, size_t bytes, void *out) MW_MUST_USE;
mw_status write_back(mw_backend *backend, void *device, size_t bytes, const void *host) MW_MUST_USE;
void give_back(mw_backend *backend, void *host);
/* Codes in plain memory, and back; `host` is freed by the caller with mw_codes_free. */
mw_status codes_to_host(const mw_codes *from, mw_codes *host) MW_MUST_USE;
mw_status codes_from_host(const mw_codes *host, mw_codes *to) MW_MUST_USE;
/* Rows of `width` latents on a device, to rows with a stride. */
mw_status copy_latents(mw_backend *backend, int32_t *to, int64_t to_stride, const int32_t *from, int64_t rows,
                       int64_t width) MW_MUST_USE;
/* A copy of the SAE in a backend's memory; its parameters back. */
mw_status sae_copy_to(const mw_sae *sae, mw_backend *backend, mw_sae **out) MW_MUST_USE;
void sae_free_copy(mw_sae **copy);
/* Lays out, or lays out anew, what products of many rows read; whether a training does. */
mw_status sae_pack(mw_sae *sae) MW_MUST_USE;
void sae_unpack(mw_sae *sae);
bool training_packs(const mw_train_options *options);
mw_status sae_fetch(const mw_sae *copy, mw_sae *to) MW_MUST_USE;
/* Rows whose pre-activations of n latents are in memory at once. */
int64_t chunk_rows(bool host_memory, int64_t n);
mw_column_groups target_groups(const mw_sae *sae);

/* An SAE of this shape, without its arrays. */
mw_status sae_set_shape(mw_sae *sae, const mw_sae_shape *shape) MW_MUST_USE;
/* out += W_skip x, where there is one */
mw_status sae_add_skip(const mw_sae *sae, const float *x, int64_t rows, float *out) MW_MUST_USE;
double length_of(const float *x, int64_t n);
/* to = from at this length; as it is where `from` is 0. The same place will do. */
void set_direction(float *to, const float *from, int64_t n, double length);
/* Sums over its parts of the length of each row of the device's w [rows, d], into host memory. */
mw_status lengths_of_rows(mw_backend *backend, const float *w, int64_t rows, int64_t d, const mw_column_groups *parts,
                          float *out) MW_MUST_USE;
/* Sum over the sites of |W_dec,i| at each, of all latents, into t->norms. */
mw_status decoder_norms(mw_trainer *t) MW_MUST_USE;

/* This rank's codes of rows x of a batch, by part, as in a step; x is the device's. May talk to the other ranks. */
mw_status trainer_select(mw_trainer *t, const float *x) MW_MUST_USE;
/* Forward pass, loss, gradients with respect to codes and reconstructions, dead latents. y is what x should become; both are the
 * device's. */
mw_status step_forward(mw_trainer *t, const float *x, const float *y) MW_MUST_USE;
/* dL/dz of a part's codes from its block of out_grad; this rank's rows. */
mw_status code_gradients(mw_trainer *t, code_set *c, int block) MW_MUST_USE;
/* The auxiliary part: the dead latents rebuild the residual y - x_hat, whose spread is given. */
mw_status auxiliary(mw_trainer *t, double spread) MW_MUST_USE;
/* For each latent of the share the sum over all rows of its entries' coefficients (an array of the device, like the part's values),
 * and how many entries it has, into host memory. */
mw_status sum_over_rows(mw_trainer *t, const code_set *c, const float *coefficient, double *out) MW_MUST_USE;
mw_status count_over_rows(mw_trainer *t, const code_set *c, double *out) MW_MUST_USE;
/* Gradients of the share's parameters and of b_dec. */
mw_status step_gradients(mw_trainer *t) MW_MUST_USE;
/* Makes anew what products read of parameters that have changed. */
mw_status parameters_changed(mw_trainer *t) MW_MUST_USE;
/* Unit decoder rows, gradient projection, Adam, new starts, exchange. */
mw_status step_update(mw_trainer *t) MW_MUST_USE;
/* Gives dead latents new directions from rows of the batch that are rebuilt badly. All parameters are gathered. */
mw_status resample(mw_trainer *t) MW_MUST_USE;
/* The SAE's parameters become their running means. */
mw_status take_means(mw_trainer *t) MW_MUST_USE;

/* Step counts from 0. */
double learning_rate(const mw_train_options *options, int64_t n, int64_t step);
int64_t k_of_step(const mw_train_options *options, const mw_sae *sae, int64_t step);
double sparsity_of_step(const mw_train_options *options, const mw_sae *sae, int64_t step);
/* The first step at which all of them have their end values, the final decay aside. */
int64_t steps_of_schedules(const mw_train_options *options);

#endif
