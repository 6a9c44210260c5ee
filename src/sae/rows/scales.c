/* Scales of the activations: chosen from a sample before training, folded into the weights after it. */
#include "sae/rows/scales.h"
#include "sae/variants/variants.h"

#include <math.h>

/* ---- before training -------------------------------------------------------------------------------------- */

void scale_columns(float *x, int64_t rows, int64_t width, const double *scale) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++) x[r * width + i] *= (float)scale[i];
}

/* Sum of squared distances of a column from its mean; 0 where it does not vary, as in mw_variance_fraction. */
static void column_variation(const float *x, int64_t rows, int64_t d, int64_t column, double *out) {
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < rows; r++) {
        sum += x[r * d + column];
        squares += (double)x[r * d + column] * x[r * d + column];
    }
    double variation = squares - sum * sum / (double)rows;
    *out = isnan(mw_variance_fraction(1, variation, squares)) ? 0 : variation;
}

/* Returns the mean length of the sample's rows in columns first .. first + width. */
static double mean_norm(const float *sample, int64_t rows, int64_t d, int64_t first, int64_t width) {
    double sum = 0;
    for (int64_t r = 0; r < rows; r++) sum += length_of(sample + r * d + first, width);
    return sum / (double)rows;
}

void choose_scale(mw_normalize kind, const mw_store_view *view, const float *sample, int64_t rows, double *out) {
    for (int64_t s = 0, at = 0; s < view->n_sites; at += view->site[s++].width) {
        const mw_store_site *site = &view->site[s];
        double norm = site->norm_mean; /* NaN where a harvest kept rows that are not finite */
        if (!isfinite(norm)) norm = mean_norm(sample, rows, view->width, at, site->width);
        for (int64_t i = at; i < at + site->width; i++) {
            double variation = 0;
            out[i] = 1;
            if (kind == MW_NORMALIZE_NORM && norm > 0) out[i] = sqrt((double)site->width) / norm;
            if (kind == MW_NORMALIZE_STANDARD) column_variation(sample, rows, view->width, i, &variation);
            if (variation > 0) out[i] = sqrt((double)rows / variation);
        }
    }
}

double loss_scale_of(const float *y, int64_t rows, int64_t d) {
    double variation = 0;
    for (int64_t i = 0; i < d; i++) {
        double one;
        column_variation(y, rows, d, i, &one);
        variation += one;
    }
    return variation > 0 ? (double)rows * (double)d / variation : 1;
}

/* ---- after training --------------------------------------------------------------------------------------- */

/* The encoder takes over the length of free decoder rows: relu(c a) = c relu(a). */
mw_status unit_decoder(mw_sae *sae) {
    for (int64_t i = 0; i < sae->n && variant_of(sae)->free_decoder; i++) {
        float norm = (float)length_of(sae->w_dec + i * sae->d_out, sae->d_out);
        for (int64_t j = 0; j < sae->d; j++) sae->w_enc[i * sae->d + j] *= norm;
        sae->b_enc[i] *= norm;
    }
    return sae->backend->ops->unit_rows(sae->backend, sae->w_dec, NULL, sae->n, sae->d_out);
}

/* Codes are saved in the unit of the output: divided by its scale, the geometric mean where columns have several. */
static double code_scale(const mw_sae *sae, const scales *by) {
    bool same = true;
    double sum = 0;
    for (int64_t i = 0; i < sae->d_out; i++) {
        same = same && by->out[i] == by->out[0];
        sum += log(by->out[i]);
    }
    return same ? by->out[0] : exp(sum / (double)sae->d_out);
}

/* x was multiplied by s_in, y by s_out; codes become z / c. The weights for unscaled x and y follow from
 * z = relu(W_enc (s_in x - b_dec) + b_enc) and s_out x_hat = W_dec z + b_dec. With one scale W_dec does not change. */
void fold_scales(mw_sae *s, const scales *by) {
    double c = code_scale(s, by);
    for (int64_t i = 0; i < s->n; i++) {
        for (int64_t j = 0; j < s->d; j++) s->w_enc[i * s->d + j] *= (float)(by->in[j] / c);
        for (int64_t j = 0; j < s->d_out; j++) s->w_dec[i * s->d_out + j] *= (float)(c / by->out[j]);
        s->b_enc[i] /= (float)c;
        for (int e = 0; e < MW_EXTRAS; e++)
            if (s->extra[e] && variant_of(s)->extra[e].scales) s->extra[e][i] /= (float)c;
    }
    for (int64_t i = 0; i < s->d_out; i++) {
        s->b_dec[i] /= (float)by->out[i];
        for (int64_t j = 0; j < s->d && s->w_skip; j++) s->w_skip[i * s->d + j] *= (float)(by->in[j] / by->out[i]);
    }
    if (s->threshold > 0) s->threshold /= (float)c;
}
