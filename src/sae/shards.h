/* Dictionaries that are spread over ranks: what the ranks with the same rows and different latents do together. With a whole SAE
 * each of these is what one rank does, and nothing is sent.
 *
 * Selection: each rank finds the k largest pre-activations of its own latents, the values of these are gathered, and each keeps of
 * its own what is among the k largest of all. Reconstruction: a chain. The first shard adds its latents to the bias, the next
 * goes on from there, piece by piece of the rows, and the last tells all: the sums are made in the order of the latents, as
 * one rank makes them, so the bytes are those of the whole SAE. Gradients and updates of a latent need nothing of other shards.
 */
#ifndef MICROW_SAE_SHARDS_H
#define MICROW_SAE_SHARDS_H

#include "sae/variants/variants.h"

/* Makes of a whole SAE's shape that of the shard which rank `rank` of `ranks` holds. */
void shard_assign(mw_sae *sae, int rank, int ranks, int64_t shards);
/* Shards that options ask for. */
int64_t shards_of(const mw_train_options *options);
/* The rows of a batch that rank `rank` of `ranks` has: ranks with the same rows stand a group apart. */
void shard_rows(const mw_sae *sae, int rank, int ranks, int64_t batch, int64_t *begin, int64_t *end);
/* Its number among the shards. */
int shard_number(const mw_sae *sae);

/* MW_OK only if it is for all shards. */
mw_status shard_agree(const mw_sae *sae, mw_status local) MW_MUST_USE;
mw_status shard_sum(const mw_sae *sae, int64_t *values, int64_t count) MW_MUST_USE;

/* The `width` largest of this shard for each row, latents ascending; where it has fewer, the rest is 0. */
typedef struct candidates {
    mw_backend *backend;
    int64_t rows, width;
    int32_t *index;
    float *value;
} candidates;
mw_status candidates_make(mw_backend *backend, int64_t rows, int64_t width, candidates *out) MW_MUST_USE;
void candidates_free(candidates *c);
/* Of rows x. */
mw_status top_k_candidates(const mw_sae *sae, const float *x, int64_t rows, int64_t k, candidates *out) MW_MUST_USE;
/* From pre-activations [rows, n] of rows first .. first + rows; column i is latent table[i], with NULL latent i. */
mw_status candidates_take(candidates *c, const float *pre, int64_t first, int64_t rows, int64_t n,
                          const int32_t *table) MW_MUST_USE;
/* This shard's codes: of its candidates those among the k largest of all shards, k <= width, where positive. Collective over
 * the shards, if there are others, which all have the same rows and width. `ready` is this rank's status so far. */
mw_status candidates_choose(const mw_sae *sae, const candidates *c, int64_t k, mw_status ready,
                            mw_codes *out) MW_MUST_USE;

/* out[r] = bias + sum over all latents of value * W_dec, [codes->rows, d_out]; bias may be NULL. Collective over the shards; `codes` has
 * this shard's. */
mw_status shards_decode(const mw_sae *sae, const float *bias, const mw_codes *codes, float *out) MW_MUST_USE;

#endif
