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
/* What decides how an SAE encodes. `rows`: of a call, over all ranks. */
typedef struct encoder_choice {
    mw_precision precision;
    mw_screening screen;
    int64_t rows;
    mw_room room; /* for the copies, if they fit; borrowed */
} encoder_choice;
/* Sets how an encoder works, for variants with many active latents (dense) or few. encoder_copy makes its copies of
 * w [n, d], anew where it has some; encoder_free frees them; encoder_screen is the encoder as operations take it. */
void encoder_choose(mw_backend *backend, const encoder_choice *choice, bool dense, mw_encoder *out);
mw_status encoder_copy(mw_backend *backend, const float *w, int64_t n, int64_t d, mw_encoder *encoder) MW_MUST_USE;
void encoder_free(mw_backend *backend, mw_encoder *encoder);
mw_screen encoder_screen(const mw_encoder *encoder, const float *w, const float *bias, int64_t n, int64_t d);
/* The same of an SAE: makes the copies by which it encodes from now on; again after W_enc has changed; frees them. */
mw_status sae_prepare(mw_sae *sae, const encoder_choice *choice) MW_MUST_USE;
mw_status sae_refresh(mw_sae *sae) MW_MUST_USE;
void sae_unprepare(mw_sae *sae);
mw_screen screen_of(const mw_sae *sae);
/* Returns the bytes of these copies, at most; own_memory: on a device with its own memory. */
int64_t encoder_bytes(const mw_sae *sae, const encoder_choice *choice, bool own_memory);

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
