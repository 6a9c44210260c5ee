/* Private functions of the sae floor about an SAE and its memory. */
#ifndef MICROW_SAE_SAE_PRIVATE_H
#define MICROW_SAE_SAE_PRIVATE_H

#include "microw/sae.h"

/* ---- device memory seen from the host ----------------------------------------------------------------------- */

/* Makes `bytes` of a device array readable on the host: *out is the array itself on a host backend, else a copy.
 * Changes of a copy reach the device through write_back. give_back frees the copy; NULL is allowed. */
mw_status borrow(mw_backend *backend, void *device, size_t bytes, void *out) MW_MUST_USE;
mw_status write_back(mw_backend *backend, void *device, size_t bytes, const void *host) MW_MUST_USE;
void give_back(mw_backend *backend, void *host);
/* Copies codes into plain memory (the caller frees `host` with mw_codes_free), and back. */
mw_status codes_to_host(const mw_codes *from, mw_codes *host) MW_MUST_USE;
mw_status codes_from_host(const mw_codes *host, mw_codes *to) MW_MUST_USE;
/* Copies rows of `width` latent indices on a device, from rows that are packed to rows `to_stride` apart. */
mw_status copy_latents(mw_backend *backend, int32_t *to, int64_t to_stride, const int32_t *from, int64_t rows,
                       int64_t width) MW_MUST_USE;
/* Copies an SAE into the memory of `backend`; sae_free_copy frees it. sae_fetch copies the parameters back to `to`. */
mw_status sae_copy_to(const mw_sae *sae, mw_backend *backend, mw_sae **out) MW_MUST_USE;
mw_status sae_fetch(const mw_sae *copy, mw_sae *to) MW_MUST_USE;
void sae_free_copy(mw_sae **copy);
/* Packs W_enc, again after it has changed, as products of many rows read it fastest. */
mw_status sae_pack(mw_sae *sae) MW_MUST_USE;
void sae_unpack(mw_sae *sae);
/* Whether a training packs W_enc: true if a batch is large enough to pay for it. */
bool training_packs(const mw_train_options *options);
/* Number of rows whose pre-activations of n latents are in memory at once. */
int64_t chunk_rows(bool host_memory, int64_t n);

/* ---- shape, skip connection, rows of weights ------------------------------------------------------------------ */

/* Columns of x_hat that belong to each target site. */
mw_column_groups target_groups(const mw_sae *sae);
/* Sets the members of *sae that `shape` determines; allocates no arrays. */
mw_status sae_set_shape(mw_sae *sae, const mw_sae_shape *shape) MW_MUST_USE;
/* out += W_skip x for SAEs with a skip connection; nothing for others. */
mw_status sae_add_skip(const mw_sae *sae, const float *x, int64_t rows, float *out) MW_MUST_USE;
/* Euclidean length of x [n]. */
double length_of(const float *x, int64_t n);
/* to = from * length / |from|; `to` stays as it is if `from` is zero. `to` may be `from`. */
void set_direction(float *to, const float *from, int64_t n, double length);
/* out[i], in host memory, is the sum over the groups of the length of row i's columns; w [rows, d] is the device's. */
mw_status lengths_of_rows(mw_backend *backend, const float *w, int64_t rows, int64_t d, const mw_column_groups *groups,
                          float *out) MW_MUST_USE;

#endif
