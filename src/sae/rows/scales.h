/* Training works on scaled activations; the saved SAE reads and reconstructs unscaled ones. */
#ifndef MICROW_SAE_ROWS_SCALES_H
#define MICROW_SAE_ROWS_SCALES_H

#include "microw/sae.h"

/* The factor of each column of the input and of the output. Owned by the user of the struct. */
typedef struct scales {
    double *in, *out; /* [d], [d_out] */
} scales;

/* Multiplies x [rows, width] by scale [width]. */
void scale_columns(float *x, int64_t rows, int64_t width, const double *scale);
/* Fills out [view->width] with scales from a sample [rows, view->width]. MW_NORMALIZE_NORM: one scale per site, so that
 * no site outweighs the others; MW_NORMALIZE_STANDARD: 1 / standard deviation of each column of the sample. */
void choose_scale(mw_normalize kind, const mw_store_view *view, const float *sample, int64_t rows, double *out);
/* Returns 1 / mean variance of the columns of y [rows, d]; 1 where y does not vary. */
double loss_scale_of(const float *y, int64_t rows, int64_t d);

/* Scales decoder rows to unit length; the encoder takes over the length of free ones (ReLU). */
mw_status unit_decoder(mw_sae *sae) MW_MUST_USE;
/* Changes the weights so that the SAE does with unscaled activations what it did with scaled ones. */
void fold_scales(mw_sae *sae, const scales *by);

#endif
