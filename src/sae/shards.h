/* Sharded dictionaries: what the peers (ranks with the same rows and different shards) do together. Without shards the
 * functions do the same on one rank and send nothing.
 *
 * Selection: each rank finds the k largest pre-activations of its own latents, the values are gathered, and each rank
 * keeps those of its own that are among the k largest of all. Reconstruction: a chain over the shards. The first shard
 * adds its latents to the bias, the next adds its latents to that, in pieces of the rows, and the last sends the result
 * to all: the sums are made in the order of the latents, as on one rank, and the bytes are those of the whole SAE.
 * Gradients and updates of a latent need no other shard.
 */
#ifndef MICROW_SAE_SHARDS_H
#define MICROW_SAE_SHARDS_H

#include "sae/variants/variants.h"

/* Reduces an SAE with the shape of the whole dictionary to the shard that rank `rank` of `ranks` owns. */
void shard_assign(mw_sae *sae, int rank, int ranks, int64_t shards);
/* Returns options->shards, at least 1. */
int64_t shards_of(const mw_train_options *options);
/* Returns the rows begin .. end of a batch on rank `rank` of `ranks`; the ranks of a group divide the batch. */
void shard_rows(const mw_sae *sae, int rank, int ranks, int64_t batch, int64_t *begin, int64_t *end);
/* Returns the index of this shard. */
int shard_number(const mw_sae *sae);

/* mw_comm_agree over the peers; without shards it changes nothing. Collective over the peers. */
mw_status shard_agree(const mw_sae *sae, mw_status local) MW_MUST_USE;

/* The `width` largest pre-activations of each row in this shard, by ascending latent; 0 behind the last where the shard
 * has fewer latents. */
typedef struct candidates {
    mw_backend *backend;
    int64_t rows, width;
    int32_t *index; /* [rows, width], as value; in the memory of the backend, owned */
    float *value;
} candidates;
/* Allocates candidates of value 0. */
mw_status candidates_make(mw_backend *backend, int64_t rows, int64_t width, candidates *out) MW_MUST_USE;
void candidates_free(candidates *c);
/* Returns candidates without memory: rows and width alone. */
candidates candidates_of(mw_backend *backend, int64_t rows, int64_t width);
/* Makes the candidates, out->width of each of the out->rows rows x [rows, d]; the caller frees them. */
mw_status top_k_candidates(const mw_sae *sae, const float *x, candidates *out) MW_MUST_USE;
/* Sets all rows from x [c->rows, d], what the screen's W multiplies; its latent i is latent table[i]; table NULL: i.
 * Adds the dot products of a screen to *dots. */
mw_status candidates_find(candidates *c, const mw_screen *screen, const float *x, const int32_t *table,
                          int64_t *dots) MW_MUST_USE;
/* The same from activations x [rows, d]. */
mw_status sae_top_k(const mw_sae *sae, const float *x, int64_t rows, candidates *c) MW_MUST_USE;
/* Sets rows first .. first + rows from pre-activations pre [rows, n]; column i is latent table[i]; table NULL: i. */
mw_status candidates_take(candidates *c, const float *pre, int64_t first, int64_t rows, int64_t n,
                          const int32_t *table) MW_MUST_USE;
/* Makes the codes of this shard: those of its candidates that are positive and among the k largest of all shards, k <=
 * width. Rows and width are the same on all peers, also where there are no candidates because of a failure. `ready`:
 * this rank's status so far. Returns a failure of this rank or of another peer, of which not all need to know.
 * Collective over the peers. */
mw_status candidates_choose(const mw_sae *sae, const candidates *c, int64_t k, mw_status ready,
                            mw_codes *out) MW_MUST_USE;

/* Writes out [rows, d_out] = bias + sum over the latents of this shard and those before of z_i W_dec,i; bias [d_out]
 * may be NULL. `codes` are those of this shard. shards_spread then copies it from the last shard, whose sum is whole,
 * to all: `n` arrays [rows, d_out] at once. `ready` and the result are as in candidates_choose. Collective over the
 * peers. */
mw_status shards_add(const mw_sae *sae, mw_status ready, const float *bias, const mw_codes *codes, int64_t rows,
                     float *out) MW_MUST_USE;
mw_status shards_spread(const mw_sae *sae, mw_status ready, float *const *out, int n, int64_t rows) MW_MUST_USE;
/* Both, of one array. */
mw_status shards_decode(const mw_sae *sae, const float *bias, const mw_codes *codes, float *out) MW_MUST_USE;

#endif
