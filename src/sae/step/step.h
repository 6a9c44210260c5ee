/* The pieces of a training step. mw_trainer_step_on_device in step.c calls them in the order of the mathematics. */
#ifndef MICROW_SAE_STEP_STEP_H
#define MICROW_SAE_STEP_STEP_H

#include "comm/exchange.h"
#include "sae/step/trainer.h"

/* ---- layout.c: sizes and shares --------------------------------------------------------------------------------- */

/* Sets this rank's rows and latents, the code sets, and the list of parameters. */
void lay_out(mw_trainer *t, int rank, int size);
/* Tiles of MW_ROW_TILE rows in a batch. */
int64_t batch_tiles(const mw_trainer *t);
/* Blocks of LATENT_BLOCK latents in the whole dictionary; the first one of this rank's share. */
int64_t latent_blocks(const mw_trainer *t);
int64_t first_latent_block(const mw_trainer *t);
/* Width of t->sums: columns and squares of y and of the error, and the squares of each reconstruction. */
int64_t sums_width(const mw_trainer *t);
/* This rank's elements of a parameter's gradient and moments; their offset in its value. */
int64_t parameter_count(const mw_trainer *t, const parameter *p);
int64_t parameter_first(const mw_trainer *t, const parameter *p);
/* The code sets of the reported reconstruction: 0 .. reported_sets - 1. */
int reported_sets(const mw_trainer *t);
/* Reconstruction `recon` in t->out_grad: of all rows [batch, d_out]; from this rank's first row on. */
float *recon_of(const mw_trainer *t, int recon);
float *recon_rows(const mw_trainer *t, int recon);

/* ---- work that can fail on one rank alone ------------------------------------------------------------------------ */

/* Keeps the first failure of this rank for the next exchange. */
static inline void keep_first(mw_trainer *t, mw_status status) {
    if (t->local == MW_OK) t->local = status;
}

/* The loss of another rank, after which this one communicates no more. Other failures wait for the next exchange. */
static inline mw_status lost(mw_status status) {
    return status == MW_ERR_COMM ? status : MW_OK;
}

/* Does work that communicates with nobody, unless this rank has failed before. */
#define LOCALLY(t, work)                                                                                               \
    do {                                                                                                               \
        if ((t)->local == MW_OK) (t)->local = (work);                                                                  \
    } while (0)

/* ---- gathers.c: the exchanges of a step -------------------------------------------------------------------------- */

/* Exchanges over the ranks with the same shard; over all ranks. */
exchange data_exchange(const mw_trainer *t);
exchange whole_exchange(const mw_trainer *t);
/* Runs an exchange with t->local. All its ranks return a failure; in a grid of shards, where not all ranks know of it
 * yet, t->local keeps it instead, unless it is MW_ERR_COMM. Collective. */
mw_status run_exchange(mw_trainer *t, exchange *e) MW_MUST_USE;

/* The functions below add arrays in the backend's memory of which each rank has filled its part, unless a comment says
 * otherwise. Rows [batch, ...]; one item for each tile of rows. */
void add_rows(const mw_trainer *t, exchange *e, void *data, size_t row_bytes);
void add_tiles(const mw_trainer *t, exchange *e, void *data, size_t item_bytes);
/* t->tallies; one number for each row, in host memory. */
void add_tallies(const mw_trainer *t, exchange *e);
void add_row_losses(const mw_trainer *t, exchange *e, double *losses);
/* One item for each block of latents, and rows of W_skip's gradient, over all ranks. */
void add_blocks(const mw_trainer *t, exchange *e, void *data, size_t item_bytes, bool on_host);
void add_skip_rows(const mw_trainer *t, exchange *e);
/* The latents of the shard in a parameter. Between GPUs end_gather of its parameter_index has to follow. */
void add_parameter(const mw_trainer *t, exchange *e, parameter_index i);
/* The numbers of codes of each row in `mine`; then, in an exchange after it, the codes. */
void add_counts(const mw_trainer *t, exchange *e, code_set *c);
void add_codes(mw_trainer *t, exchange *e, code_set *c);
/* Takes the codes of this rank's share of the latents from those of all, and makes room for their gradients. Local. */
mw_status take_share(mw_trainer *t, code_set *c) MW_MUST_USE;
void codes_free(mw_backend *backend, code_set *c);

/* Between GPUs some gathers overlap with the kernels after them: the array must not be touched before end_gather of the
 * same request. */
enum { REQUEST_INPUT = P_COUNT, REQUESTS };
mw_status end_gather(const mw_trainer *t, int request) MW_MUST_USE;
mw_status end_gathers(const mw_trainer *t) MW_MUST_USE;
/* Whether the input is gathered while codes are selected. */
bool gathers_input_early(const mw_trainer *t);
mw_status begin_input(mw_trainer *t) MW_MUST_USE;

/* ---- forward.c: codes, reconstructions, squared errors ----------------------------------------------------------- */

/* Selects the codes of this rank's rows x [rows, d] (device memory), as in training, into the `mine` of each set. */
mw_status encode_batch(mw_trainer *t, const float *x) MW_MUST_USE;
/* The same; between GPUs the input is gathered beside it: request REQUEST_INPUT. */
mw_status encode_and_gather_input(mw_trainer *t, const float *x) MW_MUST_USE;
/* Errors x_hat - y [rows, d_out] of each reconstruction, into its rows of t->out_grad; y in device memory. */
mw_status reconstruct_batch(mw_trainer *t, const float *x, const float *y) MW_MUST_USE;
/* Sums over all rows into t->batch, and the numbers of codes of all rows. Then t->local is MW_ERR_STATE on all ranks if
 * the loss is not finite. */
mw_status measure_errors(mw_trainer *t, const float *y) MW_MUST_USE;
/* The sums of tiles of this rank's rows [rows, d_out], device memory, to exchange with add_spread_tiles; then *out: the
 * sum over all rows of squared distances from the mean. Called after measure_errors. Local. */
mw_status sum_spread_tiles(mw_trainer *t, const float *rows) MW_MUST_USE;
void add_spread_tiles(const mw_trainer *t, exchange *e);
mw_status spread_over_rows(mw_trainer *t, double *out) MW_MUST_USE;
/* Turns errors into dL/dx_hat and gathers codes, inputs and dL/dx_hat of all rows. */
mw_status gather_batch(mw_trainer *t) MW_MUST_USE;
/* Counts rows without activity and the dead latents after this batch, and lists those that AuxK trains. Collective over
 * the shards: without them the numbers are undefined where t->local is a failure. */
mw_status find_dead_latents(mw_trainer *t) MW_MUST_USE;
/* Numbers in t->shard_sums. */
int64_t shard_sums(const mw_trainer *t);
/* Whether AuxK or resampling reads the errors after they have become gradients. */
bool keeps_error(const mw_train_options *options);
/* Rows without activity after which a latent is listed for AuxK, or, without AuxK, is dead. */
int64_t silent_after(const mw_train_options *options);
/* Lists the dead latents in place of AuxK's. Collective. */
mw_status list_dead_latents(mw_trainer *t) MW_MUST_USE;
/* Fills t->report. MW_ERR_STATE if the loss with its penalty is not finite. Local, the same on all ranks. */
mw_status report_loss(mw_trainer *t) MW_MUST_USE;

/* ---- auxk.c ------------------------------------------------------------------------------------------------------ */

/* Codes, loss and dL/dz of the dead latents that reconstruct the residual; t->aux_k is 0 if there is nothing to
 * reconstruct. */
mw_status auxk(mw_trainer *t) MW_MUST_USE;

/* ---- gradients.c ------------------------------------------------------------------------------------------------- */

/* Turns errors into dL/dx_hat, this rank's rows. Local, as are the next three. */
mw_status output_gradients(mw_trainer *t) MW_MUST_USE;
/* dL/dz of a set's codes of this rank's share of the latents, from reconstruction `recon`. */
mw_status dot_with_decoder(mw_trainer *t, code_set *c, int recon) MW_MUST_USE;
/* dL/da of all sets. */
mw_status code_gradients(mw_trainer *t) MW_MUST_USE;
/* Gradients of this rank's share of W_dec, W_enc, b_enc and the variant's extras. */
mw_status latent_gradients(mw_trainer *t) MW_MUST_USE;
/* Exchanges what the parameters that are whole on all ranks, the norm of the gradient and the penalty need of all
 * latents. The penalty is then in t->report.penalty, and the gradients of b_dec and W_skip are whole. */
mw_status gather_latent_sums(mw_trainer *t) MW_MUST_USE;
/* out[i], host memory: for each latent of the share the sum over all rows of its entries' `coefficient` (device memory,
 * by entry of c->share); the number of its entries. */
mw_status sum_over_rows(mw_trainer *t, const code_set *c, const float *coefficient, double *out) MW_MUST_USE;
mw_status count_over_rows(mw_trainer *t, const code_set *c, double *out) MW_MUST_USE;
/* |W_dec,i|, summed over the target sites, of all latents of the shard, into t->norms. */
mw_status decoder_norms(mw_trainer *t) MW_MUST_USE;

/* ---- optimizer.c ------------------------------------------------------------------------------------------------- */

/* Sums of squares of the gradients of this rank's share, by block of latents, into t->square_sums, with clip_norm.
 * Removes first the part of W_dec's gradient along unit decoder rows. Local. */
mw_status sum_squares(mw_trainer *t) MW_MUST_USE;
/* Sets *factor so that factor * gradient has at most the norm options.clip_norm; t->square_sums are of all ranks.
 * Local. */
mw_status clip_gradients(mw_trainer *t, float *factor) MW_MUST_USE;
/* Adam on this rank's share, with gradients times `factor`; unit decoder rows; b_enc of latents that AuxK trains rises
 * (options.aux_lift). The updated parameters are allgathered:
 * W_dec's allgather may still run (request P_W_DEC). */
mw_status update_parameters(mw_trainer *t, float factor) MW_MUST_USE;
/* ema = beta ema + (1 - beta) value, with options.ema. */
mw_status update_running_means(mw_trainer *t) MW_MUST_USE;
/* Replaces the SAE's parameters by their running means. Collective; t->local keeps what fails here alone. */
mw_status take_running_means(mw_trainer *t) MW_MUST_USE;

/* ---- resample.c -------------------------------------------------------------------------------------------------- */

/* Gives dead latents new directions from badly reconstructed rows, in the steps that options.resample_every names. All
 * parameters have been allgathered. Collective. */
mw_status resample_dead_latents(mw_trainer *t) MW_MUST_USE;

/* ---- schedule.c: steps count from 0 ------------------------------------------------------------------------------ */

double learning_rate(const mw_train_options *options, const mw_sae *sae, int64_t step);
/* Returns the L0 that an SAE is trained to have: k, or l0_target of variants without k; 0: unknown. */
double wanted_l0(const mw_train_options *options, int64_t k);
int64_t k_of_step(const mw_train_options *options, const mw_sae *sae, int64_t step);
double sparsity_of_step(const mw_train_options *options, const mw_sae *sae, int64_t step);
/* The first step at which every schedule but the final decay has its end value. */
int64_t steps_of_schedules(const mw_train_options *options);

/* ---- step.c ------------------------------------------------------------------------------------------------------ */

/* The first two thirds of a step, for tests of gradients: mw_trainer_step_on_device calls both and then updates. */
mw_status step_forward(mw_trainer *t, const float *x, const float *y) MW_MUST_USE;
mw_status step_backward(mw_trainer *t) MW_MUST_USE;

#endif
