/* The pieces of a training step. mw_trainer_step_on_device in step.c calls them in the order of the mathematics. */
#ifndef MICROW_SAE_STEP_STEP_H
#define MICROW_SAE_STEP_STEP_H

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
/* Reconstruction `recon` in t->out_grad: of all rows [batch, d_out]; from this rank's first row on. */
float *recon_of(const mw_trainer *t, int recon);
float *recon_rows(const mw_trainer *t, int recon);

/* ---- gathers.c: allgathers of device memory, in place; collective ------------------------------------------------ */

/* Rows [batch, ...] of which each rank has filled its own. */
mw_status gather_rows_of(mw_trainer *t, void *data, size_t row_bytes) MW_MUST_USE;
/* `total` items of which each rank of `comm`, t->comm or t->data, has filled its mw_comm_share. */
mw_status gather_shares(mw_trainer *t, const mw_comm *comm, void *data, int64_t total, int64_t block,
                        size_t item_bytes) MW_MUST_USE;
/* One item for each tile of rows; for each block of latents; for each latent of the shard. */
mw_status gather_tiles(mw_trainer *t, void *data, size_t item_bytes) MW_MUST_USE;
mw_status gather_blocks(mw_trainer *t, void *data, size_t item_bytes) MW_MUST_USE;
mw_status gather_latents(mw_trainer *t, void *data, size_t row_bytes) MW_MUST_USE;
/* Allgathers that overlap with the kernels after them, if each rank has a GPU: `data` must not be touched before
 * end_gather of the same request. The request of a parameter is its parameter_index. */
enum { REQUEST_INPUT = P_COUNT, REQUESTS };
mw_status begin_rows(mw_trainer *t, void *data, size_t row_bytes, int request) MW_MUST_USE;
mw_status begin_latents(mw_trainer *t, void *data, size_t row_bytes, int request) MW_MUST_USE;
mw_status end_gather(const mw_trainer *t, int request) MW_MUST_USE;
mw_status end_gathers(const mw_trainer *t) MW_MUST_USE;
/* Offsets, indices and values of a set, from `mine` of each rank. */
mw_status gather_codes(mw_trainer *t, code_set *c) MW_MUST_USE;
/* Gradients of a set, of which each rank has filled those of its rows. */
mw_status gather_code_grads(mw_trainer *t, code_set *c) MW_MUST_USE;
void codes_free(mw_backend *backend, code_set *c);

/* ---- forward.c: codes, reconstructions, squared errors ----------------------------------------------------------- */

/* Selects the codes of this rank's rows x [rows, d] (device memory), as in training, into the `mine` of each set. */
mw_status encode_batch(mw_trainer *t, const float *x) MW_MUST_USE;
/* The same, while the input is allgathered beside it: request REQUEST_INPUT. */
mw_status encode_and_gather_input(mw_trainer *t, const float *x) MW_MUST_USE;
/* Errors x_hat - y [rows, d_out] of each reconstruction, into its rows of t->out_grad; y in device memory. */
mw_status reconstruct_batch(mw_trainer *t, const float *x, const float *y) MW_MUST_USE;
/* Sums over all rows into t->batch. MW_ERR_STATE on all ranks if the loss is not finite. */
mw_status measure_errors(mw_trainer *t, const float *y) MW_MUST_USE;
/* *out: the sum over all rows of squared distances from the mean; `rows` [rows, d_out] are this rank's, device memory.
 * Called after measure_errors. Collective. */
mw_status spread_over_rows(mw_trainer *t, const float *rows, double *out) MW_MUST_USE;
/* Allgathers the codes of all sets. */
mw_status gather_sets(mw_trainer *t) MW_MUST_USE;
/* Counts rows without activity and the dead latents after this batch, and lists those that AuxK trains. Collective. */
mw_status find_dead_latents(mw_trainer *t) MW_MUST_USE;
/* Whether AuxK or resampling reads the errors after they have become gradients. */
bool keeps_error(const mw_train_options *options);
/* Rows without activity after which a latent is listed for AuxK, or, without AuxK, is dead. */
int64_t silent_after(const mw_train_options *options);
/* Lists the dead latents in place of AuxK's. Collective. */
mw_status list_dead_latents(mw_trainer *t) MW_MUST_USE;
/* Fills t->report. MW_ERR_STATE on all ranks if the loss with its penalty is not finite. */
mw_status report_loss(mw_trainer *t) MW_MUST_USE;

/* ---- auxk.c ------------------------------------------------------------------------------------------------------ */

/* Codes, loss and dL/dz of the dead latents that reconstruct the residual; t->aux_k is 0 if there is nothing to
 * reconstruct. */
mw_status auxk(mw_trainer *t) MW_MUST_USE;

/* ---- gradients.c ------------------------------------------------------------------------------------------------- */

/* Turns errors into dL/dx_hat, this rank's rows. Ends request REQUEST_INPUT. */
mw_status output_gradients(mw_trainer *t) MW_MUST_USE;
/* Allgathers dL/dx_hat of all rows. */
mw_status gather_output_gradients(mw_trainer *t) MW_MUST_USE;
/* dL/dz of a set's codes of this rank's rows, from reconstruction `recon`. */
mw_status dot_with_decoder(mw_trainer *t, code_set *c, int recon) MW_MUST_USE;
/* dL/da of all sets, allgathered. */
mw_status code_gradients(mw_trainer *t) MW_MUST_USE;
/* The variant's penalty into t->report.penalty, with the sums over rows that its own gradients need. */
mw_status penalty_of_batch(mw_trainer *t) MW_MUST_USE;
/* Gradients of this rank's share of W_dec, W_enc, b_enc and the variant's extras. */
mw_status latent_gradients(mw_trainer *t) MW_MUST_USE;
/* Gradient of W_skip, if there is one; of b_dec. Whole on all ranks. */
mw_status skip_gradient(mw_trainer *t) MW_MUST_USE;
mw_status decoder_bias_gradient(mw_trainer *t) MW_MUST_USE;
/* out[i], host memory: for each latent of the share the sum over all rows of its entries' `coefficient` (device memory,
 * like the set's values); the number of its entries. */
mw_status sum_over_rows(mw_trainer *t, const code_set *c, const float *coefficient, double *out) MW_MUST_USE;
mw_status count_over_rows(mw_trainer *t, const code_set *c, double *out) MW_MUST_USE;
/* |W_dec,i|, summed over the target sites, of all latents of the shard, into t->norms. */
mw_status decoder_norms(mw_trainer *t) MW_MUST_USE;

/* ---- optimizer.c ------------------------------------------------------------------------------------------------- */

/* Sets *factor so that factor * gradient has at most the norm options.clip_norm. Removes first the part of W_dec's
 * gradient along unit decoder rows. */
mw_status clip_gradients(mw_trainer *t, float *factor) MW_MUST_USE;
/* Adam on this rank's share, with gradients times `factor`; unit decoder rows; b_enc of latents that AuxK trains rises
 * (options.aux_lift). The updated parameters are allgathered:
 * W_dec's allgather may still run (request P_W_DEC). */
mw_status update_parameters(mw_trainer *t, float factor) MW_MUST_USE;
/* ema = beta ema + (1 - beta) value, with options.ema. */
mw_status update_running_means(mw_trainer *t) MW_MUST_USE;
/* Replaces the SAE's parameters by their running means. Collective. */
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
