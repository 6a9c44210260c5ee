/* Baselines: eigenvectors against their definition, and untrained SAEs against a trained one. */
#include "microw/sae.h"
#include "sae/eigenvectors.h"
#include "test.h"

enum { D = 12, ROWS = 3000, N = 48, K = 4 };

static mw_backend *backend;
static mw_comm *self;
static float x[ROWS * D];

/* Rows with 3 of 20 fixed directions each, around a mean far from 0. */
static void make_rows(void) {
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < D; j++) x[r * D + j] = 2;
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t part = 0; part < 3; part++) {
            int64_t from = (int64_t)(mw_rng_uniform(3, 1, (uint64_t)(r * 3 + part)) * 20);
            for (int64_t j = 0; j < D; j++) x[r * D + j] += mw_rng_normal(3, 2, (uint64_t)(from * D + j));
        }
}

/* ---- eigenvectors ----------------------------------------------------------------------------------------------- */

static double at_most(const double *a, const double *v, const double *value, int64_t n) {
    double worst = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double product = 0, same = 0;
            for (int64_t k = 0; k < n; k++) {
                product += a[j * n + k] * v[i * n + k];
                same += v[i * n + k] * v[j * n + k];
            }
            worst = fmax(worst, fabs(product - value[i] * v[i * n + j]));
            worst = fmax(worst, fabs(same - (i == j)));
        }
    return worst;
}

static void check_eigenvectors(const double *a, int64_t n) {
    double *v = mw_alloc((size_t)(n * n) * sizeof *v), *value = mw_alloc((size_t)n * sizeof *value), size = 1;
    NEED(v && value);
    memcpy(v, a, (size_t)(n * n) * sizeof *v);
    NEED_OK(symmetric_eigenvectors(v, n, value));
    for (int64_t i = 0; i < n; i++) size = fmax(size, fabs(value[i]));
    CHECK(at_most(a, v, value, n) < 1e-12 * size * (double)n);
    for (int64_t i = 1; i < n; i++) CHECK(value[i - 1] >= value[i]);
    mw_free(v);
    mw_free(value);
}

static void eigenvectors_by_definition(void) {
    static const int64_t sizes[] = {1, 2, 3, 7, 40, 150};
    for (int s = 0; s < 6; s++) {
        int64_t n = sizes[s];
        double *a = mw_calloc((size_t)(n * n), sizeof *a);
        NEED(a);
        check_eigenvectors(a, n); /* zeros */
        for (int64_t i = 0; i < n; i++) a[i * n + i] = (double)(i % 3);
        check_eigenvectors(a, n); /* equal eigenvalues */
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j <= i; j++) a[i * n + j] = a[j * n + i] = mw_rng_normal(5, 1, (uint64_t)(i * n + j));
        check_eigenvectors(a, n);
        for (int64_t i = 0; i < n * n; i++) a[i] = 1e8 + (double)(i / n) * (double)(i % n); /* rank 2 */
        check_eigenvectors(a, n);
        a[0] = NAN;
        double *value = mw_alloc((size_t)n * sizeof *value);
        NEED(value);
        if (n > 2 && n < 10) CHECK_FAILS(MW_ERR_STATE, symmetric_eigenvectors(a, n, value));
        mw_free(value);
        mw_free(a);
    }
}

/* ---- SAEs ------------------------------------------------------------------------------------------------------- */

static mw_train_options options_of(mw_variant variant) {
    mw_train_options o = mw_train_defaults(&(mw_sae_shape){.variant = variant, .n = N, .d = D, .k = K}, ROWS, 256);
    o.steps = 300;
    o.lr = 3e-3;
    o.init_rows = ROWS;
    o.seed = 4;
    return o;
}

static double fvu_of(const mw_sae *sae, const mw_store_view *view, double *l0) {
    mw_sae_metrics m;
    NEED_OK(mw_sae_measure(sae, view, NULL, MW_NAN_STOP, self, &m));
    if (l0) *l0 = m.l0;
    return m.fvu;
}

/* The largest share of the variance that one direction can have, by power iteration. */
static void first_direction(double *v) {
    double mean[D] = {0}, next[D];
    for (int i = 0; i < ROWS * D; i++) mean[i % D] += x[i] / (double)ROWS;
    for (int j = 0; j < D; j++) v[j] = 1 + j;
    for (int step = 0; step < 300; step++) {
        double length = 0;
        memset(next, 0, sizeof next);
        for (int r = 0; r < ROWS; r++) {
            double dot = 0;
            for (int j = 0; j < D; j++) dot += (x[r * D + j] - mean[j]) * v[j];
            for (int j = 0; j < D; j++) next[j] += dot * (x[r * D + j] - mean[j]);
        }
        for (int j = 0; j < D; j++) length += next[j] * next[j];
        for (int j = 0; j < D; j++) v[j] = next[j] / sqrt(length);
    }
}

static void check_pca(const mw_sae *pca) {
    double v[D], dot = 0;
    first_direction(v);
    for (int j = 0; j < D; j++) dot += v[j] * pca->w_dec[j];
    CHECK(pca->n == 2 * D && fabs(fabs(dot) - 1) < 1e-5);
    for (int i = 0; i < pca->n; i += 2)
        for (int j = 0; j < D; j++) CHECK(pca->w_enc[i * D + j] == -pca->w_dec[(i + 1) * D + j]);
}

/* No other factor of the codes gives a smaller error. */
static void check_factor(mw_sae *random, const mw_store_view *view, double fvu) {
    static const float factors[] = {0.95f, 1.05f};
    for (int f = 0; f < 2; f++) {
        for (int64_t i = 0; i < random->n * D; i++) random->w_enc[i] *= factors[f];
        CHECK(fvu_of(random, view, NULL) > fvu);
        for (int64_t i = 0; i < random->n * D; i++) random->w_enc[i] /= factors[f];
    }
}

static void trained_is_better(void) {
    static const mw_variant variants[] = {MW_TOPK, MW_MATRYOSHKA_BATCH_TOPK, MW_JUMP_RELU, MW_GATED};
    mw_store *store = NULL;
    mw_store_view view;
    NEED_OK(mw_store_of_array(x, ROWS, D, "8.resid_post", &store));
    NEED_OK(mw_store_view_open(store, "8.resid_post", &view));
    for (int v = 0; v < 4; v++) {
        mw_sae *trained = NULL, *made[MW_BASELINES] = {0}, *again = NULL;
        mw_train_options o = options_of(variants[v]);
        double fvu[MW_BASELINES], l0;
        NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.variant = variants[v], .n = N, .d = D, .k = K}, &trained));
        if (variants[v] == MW_TOPK) NEED_OK(mw_sae_train(trained, &view, NULL, self, &o, NULL, NULL));
        for (int kind = 0; kind < MW_BASELINES; kind++) {
            NEED_OK(mw_sae_baseline(trained, (mw_baseline)kind, K, &view, &o, &made[kind]));
            fvu[kind] = fvu_of(made[kind], &view, &l0);
            CHECK(made[kind]->variant == MW_TOPK && l0 > 0 && l0 <= K && fvu[kind] > 0.01);
            NEED_OK(mw_sae_baseline(trained, (mw_baseline)kind, K, &view, &o, &again));
            CHECK(mw_sae_hash(again) == mw_sae_hash(made[kind]));
            mw_sae_free(&again);
        }
        if (variants[v] == MW_TOPK)
            for (int kind = 0; kind < MW_BASELINES; kind++) CHECK(fvu_of(trained, &view, NULL) < 0.9 * fvu[kind]);
        check_pca(made[MW_BASELINE_PCA]);
        check_factor(made[MW_BASELINE_RANDOM], &view, fvu[MW_BASELINE_RANDOM]);
        for (int kind = 0; kind < MW_BASELINES; kind++) mw_sae_free(&made[kind]);
        mw_sae_free(&trained);
    }
    mw_store_close(&store);
}

/* Training from the untrained baseline's weights, after no step, is the baseline. */
static void untrained_is_the_start(void) {
    mw_store *store = NULL;
    mw_store_view view;
    mw_sae *trained = NULL, *made = NULL;
    mw_train_options o = options_of(MW_TOPK);
    o.steps = 1;
    o.lr = 1e-12;
    NEED_OK(mw_store_of_array(x, ROWS, D, "8.resid_post", &store));
    NEED_OK(mw_store_view_open(store, "8.resid_post", &view));
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.n = N, .d = D, .k = K}, &trained));
    NEED_OK(mw_sae_train(trained, &view, NULL, self, &o, NULL, NULL));
    NEED_OK(mw_sae_baseline(trained, MW_BASELINE_UNTRAINED, K, &view, &o, &made));
    for (int i = 0; i < N * D; i++)
        CHECK(fabsf(made->w_enc[i] - trained->w_enc[i]) < 1e-6f && fabsf(made->w_dec[i] - trained->w_dec[i]) < 1e-6f);
    for (int j = 0; j < D; j++) CHECK(fabsf(made->b_dec[j] - trained->b_dec[j]) < 1e-6f);
    mw_sae_free(&made);
    CHECK_FAILS(MW_ERR_CONFIG, mw_sae_baseline(trained, MW_BASELINE_PCA, 0, &view, &o, &made));
    mw_sae_free(&trained);
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.n = N, .d = D, .k = K, .d_out = D}, &trained));
    CHECK_FAILS(MW_ERR_UNSUPPORTED, mw_sae_baseline(trained, MW_BASELINE_PCA, K, &view, &o, &made));
    mw_sae_free(&trained);
    mw_store_close(&store);
}

int main(void) {
    NEED_OK(mw_comm_self(&self));
    NEED_OK(mw_backend_open("cpu", &backend));
    make_rows();
    RUN(eigenvectors_by_definition);
    RUN(trained_is_better);
    RUN(untrained_is_the_start);
    mw_backend_close(&backend);
    mw_comm_free(&self);
    return test_end();
}
