/* SAEs that were not trained, to compare a trained one with. */
#include "sae/rows/feed.h"
#include "sae/rows/scales.h"
#include "sae/eigenvectors.h"
#include "sae/variants/variants.h"

#include <string.h>

enum { STREAM_BASELINE = 6, FIT_ROWS = 1024, COVARIANCE_ROWS = 64 };

static const char *const names[MW_BASELINES] = {"untrained", "random", "pca"};

const char *mw_baseline_name(mw_baseline kind) {
    return names[kind];
}

/* What baselines are made from. */
typedef struct recipe {
    const mw_sae *trained;
    const mw_store_view *in;
    const mw_train_options *options;
    int64_t k, rows;
    float *x;    /* [rows, d] the sample from which a training sets its initial weights */
    float *mean; /* [d] of the sample, once it is centered */
} recipe;

/* ---- parts ------------------------------------------------------------------------------------------------------ */

static mw_status read_sample(recipe *r) {
    feed f;
    int64_t all = mw_store_rows(r->in->store), wanted = r->options->init_rows;
    r->rows = wanted < all ? wanted : all;
    if (!(r->x = mw_alloc((size_t)(r->rows * r->in->width) * sizeof *r->x))) return MW_ERR_MEMORY;
    mw_status status = feed_open(r->in, NULL, r->options, &f);
    if (status == MW_OK) status = feed_sample(&f, 0, r->rows, r->x, NULL);
    feed_close(&f);
    return status;
}

static void widths_of(const mw_sae *sae, int64_t width[MW_SITES_MAX]) {
    for (int64_t p = 0; p < sae->n_targets; p++) width[p] = sae->target_end[p] - (p ? sae->target_end[p - 1] : 0);
}

/* Makes an SAE of n latents for the sites of the trained one. */
static mw_status new_like(const recipe *r, mw_variant variant, int64_t n, mw_sae **out) {
    const mw_sae *t = r->trained;
    int64_t width[MW_SITES_MAX], group[MW_GROUPS_MAX];
    widths_of(t, width);
    for (int64_t g = 0; g < t->n_groups; g++) group[g] = t->group_end[g] - (g ? t->group_end[g - 1] : 0);
    return mw_sae_new(t->backend,
                      &(mw_sae_shape){.variant = variant,
                                      .n = n,
                                      .d = t->d,
                                      .k = r->k < n ? r->k : n,
                                      .n_groups = mw_variant_uses_groups(variant) ? t->n_groups : 0,
                                      .group = group,
                                      .n_targets = t->n_targets,
                                      .target_width = width},
                      out);
}

/* Sets `mean` to the mean of the sample, and subtracts it from the sample. */
static mw_status center_sample(recipe *r) {
    int64_t d = r->trained->d;
    double *sum = mw_calloc((size_t)d, sizeof *sum);
    r->mean = mw_alloc((size_t)d * sizeof *r->mean);
    mw_status status = sum && r->mean ? MW_OK : MW_ERR_MEMORY;
    for (int64_t i = 0; i < r->rows && status == MW_OK; i++)
        for (int64_t j = 0; j < d; j++) sum[j] += r->x[i * d + j];
    for (int64_t j = 0; j < d && status == MW_OK; j++) r->mean[j] = (float)(sum[j] / (double)r->rows);
    for (int64_t i = 0; i < r->rows && status == MW_OK; i++)
        for (int64_t j = 0; j < d; j++) r->x[i * d + j] -= r->mean[j];
    mw_free(sum);
    return status;
}

/* ---- the initial weights of the training ------------------------------------------------------------------------ */

/* Lets any variant select by k: its thresholds and gates come from training. */
static void select_by_k(mw_sae *sae, int64_t k) {
    sae->variant = MW_TOPK;
    sae->k = k < sae->n ? k : sae->n;
    sae->n_groups = 0;
    for (int e = 0; e < MW_EXTRAS; e++) {
        mw_free(sae->extra[e]);
        sae->extra[e] = NULL;
    }
}

static mw_status start_training(recipe *r, const scales *by, mw_sae *sae) {
    choose_scale(r->options->normalize, r->in, r->x, r->rows, by->in);
    scale_columns(r->x, r->rows, sae->d, by->in);
    memcpy(by->out, by->in, (size_t)sae->d * sizeof *by->out);
    MW_TRY(mw_sae_initialize(sae, r->x, NULL, r->rows, r->options));
    MW_TRY(unit_decoder(sae));
    fold_scales(sae, by);
    return MW_OK;
}

static mw_status make_untrained(recipe *r, mw_sae **out) {
    MW_TRY(new_like(r, r->trained->variant, r->trained->n, out));
    mw_sae *sae = *out;
    const scales by = {mw_alloc((size_t)sae->d * sizeof *by.in), mw_alloc((size_t)sae->d * sizeof *by.out)};
    mw_status status = by.in && by.out ? start_training(r, &by, sae) : MW_ERR_MEMORY;
    mw_free(by.in);
    mw_free(by.out);
    select_by_k(sae, r->k);
    return status;
}

/* ---- random directions ------------------------------------------------------------------------------------------ */

static void draw_directions(mw_sae *sae, int64_t seed) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < sae->n; i++) {
        float *w = sae->w_dec + i * sae->d;
        for (int64_t j = 0; j < sae->d; j++)
            w[j] = mw_rng_normal((uint64_t)seed, STREAM_BASELINE, (uint64_t)(i * sae->d + j));
        set_direction(w, w, sae->d, 1);
    }
    memcpy(sae->w_enc, sae->w_dec, (size_t)(sae->n * sae->d) * sizeof *sae->w_enc);
}

/* Adds to the sums of <x, x_hat> and <x_hat, x_hat>. */
static mw_status add_products(const mw_sae *sae, const float *x, int64_t rows, float *x_hat, mw_codes *codes,
                              double *across, double *square) {
    MW_TRY(mw_sae_encode(sae, x, rows, codes));
    MW_TRY(mw_sae_decode(sae, codes, NULL, x_hat));
    for (int64_t i = 0; i < rows * sae->d; i++) {
        *across += (double)x[i] * x_hat[i];
        *square += (double)x_hat[i] * x_hat[i];
    }
    return MW_OK;
}

/* Scales the codes by the factor that makes the squared error of the sample smallest: directions that are not
 * orthogonal reconstruct too much otherwise. b_dec is still 0, as the sample is centered. */
static mw_status fit_length(const recipe *r, mw_sae *sae) {
    double across = 0, square = 0;
    mw_codes codes = {0};
    float *x_hat = mw_alloc((size_t)(FIT_ROWS * sae->d) * sizeof *x_hat);
    mw_status status = x_hat ? MW_OK : MW_ERR_MEMORY;
    for (int64_t at = 0; at < r->rows && status == MW_OK; at += FIT_ROWS) {
        int64_t n = r->rows - at < FIT_ROWS ? r->rows - at : FIT_ROWS;
        status = add_products(sae, r->x + at * sae->d, n, x_hat, &codes, &across, &square);
    }
    float factor = across > 0 && square > 0 ? (float)(across / square) : 1;
    for (int64_t i = 0; i < sae->n * sae->d; i++) sae->w_enc[i] *= factor;
    mw_codes_free(&codes);
    mw_free(x_hat);
    return status;
}

static mw_status make_random(recipe *r, mw_sae **out) {
    MW_TRY(new_like(r, MW_TOPK, r->trained->n, out));
    mw_sae *sae = *out;
    draw_directions(sae, r->options->seed);
    return fit_length(r, sae);
}

/* ---- principal directions --------------------------------------------------------------------------------------- */

/* Adds the products of rows begin .. end to the covariance's row i. */
static void add_covariance(const recipe *r, int64_t d, int64_t begin, int64_t end, int64_t i, double *row) {
    for (int64_t at = begin; at < end; at++) {
        const float *x = r->x + at * d;
        double factor = x[i];
#pragma omp simd
        for (int64_t j = 0; j < d; j++) row[j] += factor * x[j];
    }
}

static void covariance_of(const recipe *r, int64_t d, double *covariance) {
    for (int64_t at = 0; at < r->rows; at += COVARIANCE_ROWS) {
        int64_t end = at + COVARIANCE_ROWS < r->rows ? at + COVARIANCE_ROWS : r->rows;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < d; i++) add_covariance(r, d, at, end, i, covariance + i * d);
    }
}

static mw_status principal_directions(const recipe *r, mw_sae *sae) {
    int64_t d = sae->d;
    double *axes = mw_calloc((size_t)(d * d), sizeof *axes), *variance = mw_alloc((size_t)d * sizeof *variance);
    mw_status status = axes && variance ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) {
        covariance_of(r, d, axes);
        status = symmetric_eigenvectors(axes, d, variance);
    }
    for (int64_t i = 0; i < sae->n && status == MW_OK; i++) /* plus and minus each axis */
        for (int64_t j = 0; j < d; j++)
            sae->w_enc[i * d + j] = sae->w_dec[i * d + j] = (float)(i % 2 ? -axes[i / 2 * d + j] : axes[i / 2 * d + j]);
    mw_free(axes);
    mw_free(variance);
    return status;
}

static mw_status make_pca(recipe *r, mw_sae **out) {
    int64_t most = 2 * r->trained->d;
    MW_TRY(new_like(r, MW_TOPK, r->trained->n < most ? r->trained->n : most, out));
    return principal_directions(r, *out);
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

static mw_status make(recipe *r, mw_baseline kind, mw_sae **out) {
    MW_TRY(read_sample(r));
    if (kind == MW_BASELINE_UNTRAINED) return make_untrained(r, out);
    MW_TRY(center_sample(r));
    MW_TRY(kind == MW_BASELINE_RANDOM ? make_random(r, out) : make_pca(r, out));
    memcpy((*out)->b_dec, r->mean, (size_t)(*out)->d * sizeof *r->mean);
    return MW_OK;
}

mw_status mw_sae_baseline(const mw_sae *trained, mw_baseline kind, int64_t k, const mw_store_view *in,
                          const mw_train_options *options, mw_sae **out) {
    if (trained->transcoder || trained->shard.count > 1)
        return mw_error(MW_ERR_UNSUPPORTED, "baselines of a %s: expected an autoencoder",
                        trained->transcoder ? "transcoder" : "shard");
    if (in->width != trained->d || k < 1)
        return mw_error(MW_ERR_CONFIG,
                        "baselines: expected sites of width %lld and k of at least 1, found %lld and %lld",
                        (long long)trained->d, (long long)in->width, (long long)k);
    recipe r = {.trained = trained, .in = in, .options = options, .k = k};
    mw_sae *made = NULL;
    mw_status status = make(&r, kind, &made);
    mw_free(r.x);
    mw_free(r.mean);
    if (status != MW_OK)
        mw_sae_free(&made);
    else
        *out = made;
    return status;
}
