/* Initial parameters as in Gao et al. 2024, appendix A.1. */
#include "sae/variants.h"

#include <math.h>
#include <string.h>

enum { STREAM_WEIGHTS = 1, STREAM_PROBES = 2, PROBES = 256 };

static double distance(const float *x, const double *y, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++) sum += (x[i] - y[i]) * (x[i] - y[i]);
    return sqrt(sum);
}

/* Weiszfeld's iteration from the mean: points weighted by the inverse of their distance. */
static mw_status geometric_median(const float *rows, int64_t n, int64_t d, double *median) {
    enum { ITERATIONS = 100 };
    double *next = mw_alloc((size_t)d * sizeof *next);
    if (!next) return MW_ERR_MEMORY;
    memset(median, 0, (size_t)d * sizeof *median);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < d; i++) median[i] += rows[r * d + i] / (double)n;
    for (int iteration = 0; iteration < ITERATIONS; iteration++) {
        double total = 0, moved = 0, size = 0;
        memset(next, 0, (size_t)d * sizeof *next);
        for (int64_t r = 0; r < n; r++) {
            double weight = 1 / fmax(distance(rows + r * d, median, d), 1e-12);
            total += weight;
            for (int64_t i = 0; i < d; i++) next[i] += weight * rows[r * d + i];
        }
        for (int64_t i = 0; i < d; i++) {
            next[i] /= total;
            moved += (next[i] - median[i]) * (next[i] - median[i]);
            size += next[i] * next[i];
            median[i] = next[i];
        }
        if (moved <= 1e-10 * size) break;
    }
    mw_free(next);
    return MW_OK;
}

/* Mean length of x_hat - b_dec for x = b_dec + a random unit vector. */
static mw_status reconstructed_length(const mw_sae *sae, int64_t seed, double *out) {
    int64_t d = sae->d;
    mw_codes codes = {0};
    float *x = mw_alloc((size_t)(PROBES * d) * sizeof *x);
    mw_status status = x ? MW_OK : MW_ERR_MEMORY;
    for (int64_t r = 0; status == MW_OK && r < PROBES; r++) {
        double norm = 0;
        for (int64_t i = 0; i < d; i++) {
            x[r * d + i] = mw_rng_normal((uint64_t)seed, STREAM_PROBES, (uint64_t)(r * d + i));
            norm += (double)x[r * d + i] * x[r * d + i];
        }
        for (int64_t i = 0; i < d; i++) x[r * d + i] = (float)(x[r * d + i] / sqrt(norm)) + sae->b_dec[i];
    }
    /* by rows for every variant: thresholds do not exist yet */
    if (status == MW_OK) status = top_k_encode(sae, x, PROBES, &codes);
    if (status == MW_OK) status = mw_sae_decode(sae, &codes, x);
    *out = 0;
    for (int64_t r = 0; status == MW_OK && r < PROBES; r++) {
        double norm = 0;
        for (int64_t i = 0; i < d; i++) norm += pow((double)x[r * d + i] - sae->b_dec[i], 2);
        *out += sqrt(norm) / PROBES;
    }
    mw_codes_free(&codes);
    mw_free(x);
    return status;
}

mw_status mw_sae_initialize(mw_sae *sae, const float *rows, int64_t n_rows, int64_t seed) {
    int64_t d = sae->d, count = sae->n * d;
    double *median = mw_alloc((size_t)d * sizeof *median), length = 0;
    mw_status status = median ? geometric_median(rows, n_rows, d, median) : MW_ERR_MEMORY;
    for (int64_t i = 0; status == MW_OK && i < d; i++) sae->b_dec[i] = (float)median[i];
    mw_free(median);
    if (status != MW_OK) return status;
    float bound = 1.0f / sqrtf((float)d);
    memset(sae->b_enc, 0, (size_t)sae->n * sizeof *sae->b_enc);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++)
        sae->w_enc[i] = bound * (2 * mw_rng_uniform((uint64_t)seed, STREAM_WEIGHTS, (uint64_t)i) - 1);
    memcpy(sae->w_dec, sae->w_enc, (size_t)count * sizeof *sae->w_dec);
    MW_TRY(sae->backend->ops->unit_rows(sae->backend, sae->w_dec, NULL, sae->n, d));
    MW_TRY(reconstructed_length(sae, seed, &length));
    float scale = length > 0 ? (float)(1 / length) : 1;
    for (int64_t i = 0; i < count; i++) sae->w_enc[i] *= scale;
    return MW_OK;
}
