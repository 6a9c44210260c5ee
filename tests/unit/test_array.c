/* Stores of rows in memory: the same rows, means, training and measures as from a file. */
#include "microw/sae.h"
#include "store.h"

#include <stdlib.h>
#include <unistd.h>

enum { ROWS = 6000, D = 16, N = 64, K = 4, ACTIVE = 3 };
static float x[ROWS * D];
static mw_comm *self;
static mw_backend *backend;
static const mw_site site = {0, MW_RESID_POST};

/* Makes rows that are sums of ACTIVE of 32 random directions. */
static void make_rows(void) {
    float direction[32 * D];
    fill_random(direction, 32 * D, 1);
    for (int r = 0; r < ROWS; r++)
        for (int a = 0; a < ACTIVE; a++) {
            uint32_t drawn[4];
            mw_philox(7, (uint64_t)r, (uint64_t)a, drawn);
            for (int i = 0; i < D; i++)
                x[r * D + i] += direction[drawn[0] % 32 * D + (uint32_t)i] * (0.5f + (float)(drawn[1] % 1000) / 1000);
        }
}

static mw_sae *new_sae(void) {
    mw_sae *sae = NULL;
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.variant = MW_TOPK, .n = N, .d = D, .k = K}, &sae));
    return sae;
}

static mw_train_options options(void) {
    mw_train_options o = mw_train_defaults(&(mw_sae_shape){.variant = MW_TOPK, .n = N, .d = D, .k = K}, 20 * ROWS, 256);
    o.lr = 4e-3;
    o.init_rows = 2000;
    return o;
}

static void reads_as_an_array(void) {
    mw_store *store = NULL;
    mw_store_view view;
    mw_store_tokens tokens = {0};
    NEED_OK(mw_store_of_array(x, ROWS, D, "8.mlp_out", &store));
    NEED_OK(mw_store_view_open(store, "8.mlp_out", &view));
    CHECK(mw_store_rows(store) == ROWS && view.width == D && mw_store_site_count(store) == 1);
    const int64_t rows[] = {5, 0, ROWS - 1};
    float got[3 * D];
    NEED_OK(mw_store_view_rows(&view, rows, 3, got));
    for (int i = 0; i < 3; i++) CHECK(memcmp(got + i * D, x + rows[i] * D, D * sizeof *x) == 0);
    NEED_OK(mw_store_view_range(&view, 17, 3, got));
    CHECK(memcmp(got, x + 17 * D, sizeof got) == 0);
    CHECK_SAYS(MW_ERR_ARG, "the store has 6000", mw_store_view_range(&view, ROWS - 1, 2, got));
    CHECK_SAYS(MW_ERR_CONFIG, "site 8.resid_post was not harvested", mw_store_view_open(store, "8.resid_post", &view));
    double mean[D], sum = 0;
    NEED_OK(mw_store_read_mean(store, mw_store_site_at(store, 0), mean));
    for (int r = 0; r < ROWS; r++) sum += x[r * D + 3];
    CHECK(fabs(mean[3] - sum / ROWS) < 1e-12);
    NEED_OK(mw_store_read_tokens(store, &tokens));
    CHECK(tokens.n_sequences == ROWS && tokens.position[ROWS - 1] == 0);
    mw_store_span span = mw_store_span_of(&tokens, 42);
    CHECK(span.begin == 42 && span.end == 43 && span.document == 0);
    mw_store_tokens_free(&tokens);
    mw_store_close(&store);
}

/* Training gives the weights of training on a file with the same rows, bit for bit. */
static void trains_as_from_a_file(void) {
    char folder[] = "/tmp/microw-array-XXXXXX", out[64];
    mw_store *store = NULL;
    mw_store_view view;
    mw_step_report one, two;
    mw_train_options o = options();
    mw_sae *array = new_sae(), *file = new_sae(), *again = new_sae();
    NEED(mkdtemp(folder) != NULL);
    snprintf(out, sizeof out, "%s/sae", folder);
    test_store_write(folder, site, x, ROWS, D, 1000, self);
    char *path = mw_path_join(folder, "activations.h5");
    NEED_OK(mw_store_open(path, &store));
    NEED_OK(mw_store_view_open(store, "0.resid_post", &view));
    NEED_OK(mw_sae_train(file, &view, NULL, self, &o, out, &one));
    NEED_OK(mw_sae_train_array(array, x, ROWS, self, &o, &two));
    NEED_OK(mw_sae_train_array(again, x, ROWS, self, &o, NULL));
    CHECK(memcmp(array->w_enc, file->w_enc, N * D * sizeof(float)) == 0);
    CHECK(memcmp(array->w_dec, file->w_dec, N * D * sizeof(float)) == 0);
    CHECK(memcmp(array->b_dec, file->b_dec, D * sizeof(float)) == 0);
    CHECK(memcmp(again->w_enc, file->w_enc, N * D * sizeof(float)) == 0);
    CHECK(one.loss == two.loss && one.steps == two.steps && two.steps == o.steps);
    CHECK(two.fvu < 0.2);
    mw_store_close(&store);
    mw_free(path);
    mw_sae_free(&array);
    mw_sae_free(&file);
    mw_sae_free(&again);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
}

enum { SOME = 700 };

static void check_means(const mw_store *store, const float *rows) {
    double mean[D], sum[D] = {0}, norms = 0;
    int64_t kept = 0;
    for (int r = 0; r < SOME; r++) {
        double squares = 0;
        for (int i = 0; i < D; i++) squares += (double)rows[r * D + i] * rows[r * D + i];
        if (!isfinite(squares)) continue;
        for (int i = 0; i < D; i++) sum[i] += rows[r * D + i];
        norms += sqrt(squares);
        kept++;
    }
    NEED_OK(mw_store_read_mean(store, mw_store_site_at(store, 0), mean));
    CHECK(kept > 0 && kept < SOME);
    for (int i = 0; i < D; i++) CHECK(fabs(mean[i] - sum[i] / (double)kept) < 1e-12);
    CHECK(fabs(mw_store_site_at(store, 0)->norm_mean - norms / (double)kept) < 1e-9);
}

static char *write_part(const char *folder, const char *name, const float *rows, int64_t n) {
    char *sub = mw_path_join(folder, name);
    NEED(sub != NULL);
    test_store_write(sub, site, rows, n, D, 300, self);
    char *path = mw_path_join(sub, "activations.h5");
    mw_free(sub);
    return path;
}

/* The means of a file, and of several files as one store, leave out rows that are not finite. */
static void means_of_finite_rows(void) {
    static float some[SOME * D];
    char folder[] = "/tmp/microw-means-XXXXXX", command[96];
    mw_store *store = NULL;
    NEED(mkdtemp(folder) != NULL);
    memcpy(some, x, sizeof some);
    some[3 * D + 1] = NAN;
    some[650 * D] = INFINITY;
    char *whole = write_part(folder, "whole", some, SOME);
    NEED_OK(mw_store_open(whole, &store));
    check_means(store, some);
    mw_store_close(&store);
    for (int r = 0; r < 250; r++) some[r * D] = NAN; /* most rows of the first of two files */
    char *paths[] = {write_part(folder, "first", some, 300), write_part(folder, "second", some + 300 * D, SOME - 300)};
    NEED_OK(mw_store_open_many((const char *const[]){paths[0], paths[1]}, 2, &store));
    check_means(store, some);
    mw_store_close(&store);
    mw_free(whole);
    for (int i = 0; i < 2; i++) mw_free(paths[i]);
    for (int r = 0; r < SOME; r++) some[r * D] = NAN; /* means of no rows are undefined */
    char *none[] = {write_part(folder, "none", some, 300), write_part(folder, "nothing", some + 300 * D, SOME - 300)};
    for (int n = 1; n <= 2; n++) {
        NEED_OK(mw_store_open_many((const char *const[]){none[0], none[1]}, n, &store));
        CHECK(isnan(mw_store_site_at(store, 0)->norm_mean));
        mw_store_close(&store);
    }
    for (int i = 0; i < 2; i++) mw_free(none[i]);
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
}

static void measures_as_plain_loops(void) {
    mw_store *store = NULL;
    mw_store_view view;
    mw_train_options o = options();
    mw_sae *sae = new_sae();
    mw_sae_metrics m;
    mw_codes codes = {0};
    static float rebuilt[ROWS * D];
    NEED_OK(mw_sae_train_array(sae, x, ROWS, self, &o, NULL));
    NEED_OK(mw_store_of_array(x, ROWS, D, "0.resid_post", &store));
    NEED_OK(mw_store_view_open(store, "0.resid_post", &view));
    NEED_OK(mw_sae_measure(sae, &view, NULL, MW_NAN_STOP, self, &m));
    NEED_OK(mw_sae_encode(sae, x, ROWS, &codes));
    NEED_OK(mw_sae_decode(sae, &codes, x, rebuilt));
    double part = 0, spread = 0;
    for (int i = 0; i < D; i++) {
        double mean = 0;
        for (int r = 0; r < ROWS; r++) mean += x[r * D + i] / (double)ROWS;
        for (int r = 0; r < ROWS; r++) {
            part += pow((double)x[r * D + i] - rebuilt[r * D + i], 2);
            spread += pow(x[r * D + i] - mean, 2);
        }
    }
    CHECK(fabs(m.fvu - part / spread) < 1e-9); /* sums of 96000 doubles in another order */
    CHECK(fabs(m.l0 - (double)codes.start[ROWS] / ROWS) < 1e-12);
    mw_codes_free(&codes);
    mw_sae_free(&sae);
    mw_store_close(&store);
}

static void refuses(void) {
    mw_store *store = NULL;
    mw_train_options o = options();
    mw_sae *sae = new_sae();
    CHECK_SAYS(MW_ERR_ARG, "found 0 of 16", mw_store_of_array(x, 0, D, "0.resid_post", &store));
    CHECK_SAYS(MW_ERR_CONFIG, "nowhere", mw_store_of_array(x, 5, D, "nowhere", &store));
    o.batch = 0;
    CHECK_SAYS(MW_ERR_CONFIG, "train.batch", mw_sae_train_array(sae, x, ROWS, self, &o, NULL));
    float kept = x[77 * D];
    x[77 * D] = NAN;
    o = options();
    CHECK(mw_sae_train_array(sae, x, ROWS, self, &o, NULL) == MW_ERR_STATE);
    x[77 * D] = kept;
    mw_sae_free(&sae);
}

int main(void) {
    NEED_OK(mw_comm_self(&self));
    NEED_OK(mw_backend_open("cpu", &backend));
    make_rows();
    RUN(reads_as_an_array);
    RUN(trains_as_from_a_file);
    RUN(means_of_finite_rows);
    RUN(measures_as_plain_loops);
    RUN(refuses);
    mw_backend_close(&backend);
    mw_comm_free(&self);
    return test_end();
}
