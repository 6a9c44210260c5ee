/* Initial parameters, see mw_sae_initialize. */
#include "sae/shards.h"

#include <math.h>
#include <string.h>

enum { STREAM_WEIGHTS = 1, STREAM_PROBES = 2, STREAM_DECODER = 4, STREAM_SAMPLE = 5, PROBES = 256 };

static const double free_length = 0.1; /* of decoder rows with free norms: Anthropic, April 2024 */

static double distance(const float *x, const double *y, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++) sum += (x[i] - y[i]) * (x[i] - y[i]);
    return sqrt(sum);
}

static void mean_of(const float *rows, int64_t n, int64_t d, double *mean) {
    memset(mean, 0, (size_t)d * sizeof *mean);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < d; i++) mean[i] += rows[r * d + i] / (double)n;
}

/* Weiszfeld's iteration from the mean: points weighted by the inverse of their distance. */
static mw_status geometric_median(const float *rows, int64_t n, int64_t d, double *median) {
    enum { ITERATIONS = 100 };
    double *next = mw_alloc((size_t)d * sizeof *next);
    if (!next) return MW_ERR_MEMORY;
    mean_of(rows, n, d, median);
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

static mw_status center_of(mw_center kind, const float *rows, int64_t n, int64_t d, double *out) {
    if (kind == MW_CENTER_MEDIAN) return geometric_median(rows, n, d, out);
    if (kind == MW_CENTER_MEAN)
        mean_of(rows, n, d, out);
    else
        memset(out, 0, (size_t)d * sizeof *out);
    return MW_OK;
}

/* ---- directions ------------------------------------------------------------------------------------------ */

/* Draws the rows first .. first + n of the whole dictionary into w [n, d], uniform in +-bound. */
static void draw_uniform(float *w, int64_t first, int64_t n, int64_t d, float bound, int64_t seed, uint64_t stream) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n * d; i++)
        w[i] = bound * (2 * mw_rng_uniform((uint64_t)seed, stream, (uint64_t)(first * d + i)) - 1);
}

/* Directions of rows of the sample from its center; random ones for rows at the center. */
static void draw_from_sample(float *w, int64_t first, int64_t n, int64_t d, const float *rows, int64_t n_rows,
                             const double *center, int64_t seed) {
    draw_uniform(w, first, n, d, 1, seed, STREAM_WEIGHTS);
    for (int64_t i = 0; i < n; i++) {
        uint64_t index = (uint64_t)((first + i) % n_rows);
        int64_t r = (int64_t)mw_permute((uint64_t)seed, STREAM_SAMPLE, (uint64_t)n_rows, index);
        double square = 0;
        for (int64_t j = 0; j < d; j++) square += pow(rows[r * d + j] - center[j], 2);
        if (!(square > 1e-12)) continue;
        for (int64_t j = 0; j < d; j++) w[i * d + j] = (float)(rows[r * d + j] - center[j]);
    }
}

static void set_lengths(float *w, int64_t n, int64_t d, double length) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) set_direction(w + i * d, w + i * d, d, length);
}

/* ---- the scale of the encoder ------------------------------------------------------------ */

/* Mean length of x_hat - b_dec for x = b_dec + a random unit vector. */
static mw_status reconstructed_length(const mw_sae *sae, int64_t seed, double *out) {
    int64_t d = sae->d;
    mw_codes codes = {0};
    float *x = mw_alloc((size_t)(PROBES * d) * sizeof *x), *y = mw_alloc((size_t)(PROBES * sae->d_out) * sizeof *y);
    mw_status status = x && y ? MW_OK : MW_ERR_MEMORY;
    for (int64_t r = 0; status == MW_OK && r < PROBES; r++) {
        for (int64_t i = 0; i < d; i++)
            x[r * d + i] = mw_rng_normal((uint64_t)seed, STREAM_PROBES, (uint64_t)(r * d + i));
        double norm = length_of(x + r * d, d);
        for (int64_t i = 0; i < d; i++)
            x[r * d + i] = (float)(x[r * d + i] / norm) + (sae->transcoder ? 0 : sae->b_dec[i]);
    }
    /* TopK for every variant: thresholds do not exist yet */
    status = shard_agree(sae, status);
    if (status == MW_OK) status = shard_agree(sae, top_k_codes(sae, MW_OK, x, PROBES, sae->k, &codes));
    if (status == MW_OK) status = shards_decode(sae, NULL, &codes, y);
    *out = 0;
    for (int64_t r = 0; status == MW_OK && r < PROBES; r++) *out += length_of(y + r * sae->d_out, sae->d_out) / PROBES;
    mw_codes_free(&codes);
    mw_free(x);
    mw_free(y);
    return status;
}

static mw_status scale_encoder(mw_sae *sae, int64_t seed) {
    double length = 0;
    MW_TRY(reconstructed_length(sae, seed, &length));
    float scale = length > 0 ? (float)(1 / length) : 1;
    for (int64_t i = 0; i < sae->n * sae->d; i++) sae->w_enc[i] *= scale;
    return MW_OK;
}

/* ---- all parameters ---------------------------------------------------------------------------- */

static mw_status set_directions(mw_sae *sae, const float *x, int64_t n_rows, const double *center,
                                const mw_train_options *o) {
    const variant_row *variant = variant_of(sae);
    mw_init init = o->init == MW_INIT_AUTO ? variant->init : o->init;
    double length = variant->free_decoder ? free_length : 1;
    if (init == MW_INIT_DATA)
        draw_from_sample(sae->w_enc, sae->shard.first, sae->n, sae->d, x, n_rows, center, o->seed);
    else
        draw_uniform(sae->w_enc, sae->shard.first, sae->n, sae->d, 1.0f / sqrtf((float)sae->d), o->seed,
                     STREAM_WEIGHTS);
    if (sae->transcoder)
        draw_uniform(sae->w_dec, sae->shard.first, sae->n, sae->d_out, 1, o->seed, STREAM_DECODER);
    else
        memcpy(sae->w_dec, sae->w_enc, (size_t)(sae->n * sae->d) * sizeof *sae->w_dec);
    set_lengths(sae->w_dec, sae->n, sae->d_out, length);
    if (init != MW_INIT_SCALED) set_lengths(sae->w_enc, sae->n, sae->d, length);
    return variant->uses_k && init != MW_INIT_TIED ? scale_encoder(sae, o->seed) : MW_OK;
}

/* b_enc = -W_enc center, as b_dec is not subtracted from a transcoder's input. */
static void center_encoder(mw_sae *sae, const double *center) {
    for (int64_t i = 0; i < sae->n; i++) {
        double dot = 0;
        for (int64_t j = 0; j < sae->d; j++) dot += sae->w_enc[i * sae->d + j] * center[j];
        sae->b_enc[i] = (float)-dot;
    }
}

mw_status mw_sae_initialize(mw_sae *sae, const float *x, const float *y, int64_t n_rows, const mw_train_options *o) {
    double *center = mw_alloc((size_t)sae->d * sizeof *center), *out = mw_alloc((size_t)sae->d_out * sizeof *out);
    mw_center kind = o->center == MW_CENTER_AUTO ? variant_of(sae)->center : o->center;
    mw_status status = center && out ? center_of(kind, x, n_rows, sae->d, center) : MW_ERR_MEMORY;
    if (status == MW_OK) status = center_of(kind, y ? y : x, n_rows, sae->d_out, out);
    for (int64_t i = 0; status == MW_OK && i < sae->d_out; i++) sae->b_dec[i] = (float)out[i];
    status = shard_agree(sae, status);
    if (status == MW_OK) {
        memset(sae->b_enc, 0, (size_t)sae->n * sizeof *sae->b_enc);
        status = set_directions(sae, x, n_rows, center, o);
    }
    if (status == MW_OK && sae->transcoder) center_encoder(sae, center);
    if (status == MW_OK && variant_of(sae)->start) variant_of(sae)->start(sae, o, 0, sae->n);
    mw_free(center);
    mw_free(out);
    return status;
}
