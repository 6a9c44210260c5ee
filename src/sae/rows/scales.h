/* Training works on scaled activations; the saved SAE reads them as they are. */
#ifndef MICROW_SAE_ROWS_SCALES_H
#define MICROW_SAE_ROWS_SCALES_H

#include "microw/sae.h"

/* Factors of each column of what is read and of what is rebuilt. */
typedef struct scales {
    double *in, *out; /* [d], [d_out] */
} scales;

void scale_columns(float *x, int64_t rows, int64_t width, const double *scale);
/* norm: each site by itself, so that none outweighs the others. standard: deviations of the sample [rows, width]. */
void choose_scale(mw_normalize kind, const mw_store_view *view, const float *sample, int64_t rows, double *out);
/* 1 / mean over dimensions of the sample's variance. */
double loss_scale_of(const float *y, int64_t rows, int64_t d);

/* Decoder rows to unit length; where they were free the codes take up what they were. */
mw_status unit_decoder(mw_sae *sae) MW_MUST_USE;
/* The weights that do with activations as they are what the SAE does with scaled ones. */
void fold_scales(mw_sae *sae, const scales *by);

#endif
