/* Metrics of an SAE against sums written as their definitions: also where these are 0/0, where rows are not finite, and
 * at positions in the last bucket. */
#include "microw/evaluate.h"
#include "experiment/run/generation.h"
#include "microw/sae.h"
#include "store.h"

#include <unistd.h>

enum { ROWS = 160, SEQUENCES = 4, LENGTH = ROWS / SEQUENCES, FIRST = 6, SECOND = 4, D = FIRST + SECOND, N = 24 };

static mw_backend *backend;
static mw_comm *self;
static char folder[] = "/tmp/microw-metrics-XXXXXX";
static uint32_t position[ROWS];

/* Writes x [ROWS, D] as two sites of a store; the last sequence has large positions. */
static void write_store(const float *x) {
    static const mw_site sites[] = {{1, MW_RESID_POST}, {2, MW_MLP_OUT}};
    static const int64_t widths[] = {FIRST, SECOND};
    test_store s = test_store_make(&(test_store_shape){sites, widths, 2, ROWS, LENGTH, ROWS / 2, NULL});
    float one[ROWS * FIRST], two[ROWS * SECOND];
    char path[128];
    for (int r = 0; r < ROWS; r++) {
        if (r / LENGTH == 3) s.position[r] += UINT32_C(20000000);
        position[r] = s.position[r];
        memcpy(one + r * FIRST, x + r * D, FIRST * sizeof *x);
        memcpy(two + r * SECOND, x + r * D + FIRST, SECOND * sizeof *x);
    }
    s.layout.keep_nan = true;
    snprintf(path, sizeof path, "%s/activations.h5", folder);
    unlink(path);
    test_store_save(&s.layout, folder, (const void *const[]){one, two}, self);
    test_store_free(&s);
}

static mw_sae *make_sae(void) {
    const int64_t part[] = {FIRST, SECOND};
    mw_sae *sae = NULL;
    NEED_OK(mw_sae_new(
        backend, &(mw_sae_shape){.variant = MW_RELU, .n = N, .d = D, .n_targets = 2, .target_width = part}, &sae));
    fill_random(sae->w_enc, N * D, 1);
    fill_random(sae->w_dec, N * D, 2);
    fill_random(sae->b_enc, N, 3);
    fill_random(sae->b_dec, D, 4);
    for (int i = 0; i < N * D; i++) sae->w_dec[i] *= 0.1f;
    sae->b_enc[5] = -1e6f; /* never active */
    return sae;
}

/* ---- the definitions --------------------------------------------------------------------------------------- */

static void rebuild_row(const mw_sae *sae, const float *x, double *z, double *y) {
    for (int j = 0; j < D; j++) y[j] = sae->b_dec[j];
    for (int i = 0; i < N; i++) {
        double a = sae->b_enc[i];
        for (int j = 0; j < D; j++) a += (double)sae->w_enc[i * D + j] * ((double)x[j] - sae->b_dec[j]);
        z[i] = a > 0 ? a : 0;
        for (int j = 0; j < D; j++) y[j] += z[i] * sae->w_dec[i * D + j];
    }
}

static bool is_finite_row(const float *row) {
    bool good = true;
    for (int j = 0; j < D; j++) good = good && isfinite(row[j]);
    return good;
}

/* FVU of columns from .. to - 1 over the rows at positions first .. last. */
static double fvu_naive(const mw_sae *sae, const float *x, int from, int to, uint32_t first, uint32_t last) {
    double error = 0, variation = 0, z[N], y[D];
    for (int j = from; j < to; j++) {
        double mean = 0, rows = 0;
        for (int r = 0; r < ROWS; r++) {
            if (!is_finite_row(x + r * D)) continue;
            mean += x[r * D + j];
            rows++;
        }
        mean /= rows;
        for (int r = 0; r < ROWS; r++) {
            if (!is_finite_row(x + r * D) || position[r] < first || position[r] > last) continue;
            rebuild_row(sae, x + r * D, z, y);
            error += (x[r * D + j] - y[j]) * (x[r * D + j] - y[j]);
            variation += (x[r * D + j] - mean) * (x[r * D + j] - mean);
        }
    }
    return error / variation;
}

/* FVU and L0 of rows first .. end - 1, all finite, about the mean of all rows. */
static void half_naive(const mw_sae *sae, const float *x, int first, int end, double *fvu, double *l0) {
    double error = 0, variation = 0, mean[D] = {0}, z[N], y[D];
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < D; j++) mean[j] += x[r * D + j] / (double)ROWS;
    *l0 = 0;
    for (int r = first; r < end; r++) {
        rebuild_row(sae, x + r * D, z, y);
        for (int i = 0; i < N; i++) *l0 += (z[i] > 0) / (double)(end - first);
        for (int j = 0; j < D; j++) {
            error += (x[r * D + j] - y[j]) * (x[r * D + j] - y[j]);
            variation += (x[r * D + j] - mean[j]) * (x[r * D + j] - mean[j]);
        }
    }
    *fvu = error / variation;
}

static double explained_naive(const mw_sae *sae, const float *x) {
    double of_error = 0, of_x = 0, z[N], y[D];
    for (int j = 0; j < D; j++) {
        double sum[2] = {0}, squares[2] = {0}, rows = 0;
        for (int r = 0; r < ROWS; r++) {
            if (!is_finite_row(x + r * D)) continue;
            rebuild_row(sae, x + r * D, z, y);
            const double value[] = {x[r * D + j], x[r * D + j] - y[j]};
            for (int k = 0; k < 2; k++) sum[k] += value[k];
            for (int k = 0; k < 2; k++) squares[k] += value[k] * value[k];
            rows++;
        }
        of_x += squares[0] - sum[0] * sum[0] / rows;
        of_error += squares[1] - sum[1] * sum[1] / rows;
    }
    return 1 - of_error / of_x;
}

typedef struct means {
    double mse, cosine, l0, l1, rows;
    int64_t dead;
} means;

static means means_naive(const mw_sae *sae, const float *x) {
    means m = {0};
    double z[N], y[D], nonzero_rows = 0;
    bool alive[N] = {false};
    for (int r = 0; r < ROWS; r++) {
        const float *row = x + r * D;
        double xx = 0, yy = 0, xy = 0;
        if (!is_finite_row(row)) continue;
        rebuild_row(sae, row, z, y);
        for (int j = 0; j < D; j++) {
            m.mse += (row[j] - y[j]) * (row[j] - y[j]) / D;
            xx += (double)row[j] * row[j];
            yy += y[j] * y[j];
            xy += row[j] * y[j];
        }
        for (int i = 0; i < N; i++) {
            m.l0 += z[i] > 0;
            m.l1 += z[i];
            alive[i] = alive[i] || z[i] > 0;
        }
        m.rows++;
        nonzero_rows += xx > 0;
        m.cosine += xx > 0 ? xy / sqrt(xx * yy) : 0;
    }
    for (int i = 0; i < N; i++) m.dead += !alive[i];
    m.mse /= m.rows;
    m.cosine /= nonzero_rows;
    m.l0 /= m.rows;
    m.l1 /= m.rows;
    return m;
}

/* ---- tests ------------------------------------------------------------------------------------------------- */

static bool close_to(double a, double b) {
    return fabs(a - b) <= 1e-5 * fmax(fabs(b), 1e-3);
}

static mw_status measure(const mw_sae *sae, mw_nan_rule rule, mw_sae_metrics *out) {
    mw_store *store = NULL;
    mw_store_view view;
    char path[128];
    snprintf(path, sizeof path, "%s/activations.h5", folder);
    NEED_OK(mw_store_open(path, &store));
    NEED_OK(mw_store_view_open(store, "1.resid_post,2.mlp_out", &view));
    mw_status status = mw_sae_measure(sae, &view, NULL, rule, self, out);
    mw_store_close(&store);
    return status;
}

static void compare(const mw_sae *sae, const float *x, const mw_sae_metrics *m) {
    const uint32_t all = UINT32_MAX;
    means naive = means_naive(sae, x);
    CHECK((double)m->rows == naive.rows && m->rows + m->left_out == ROWS);
    CHECK(close_to(m->fvu, fvu_naive(sae, x, 0, D, 0, all)));
    CHECK(close_to(m->target_fvu[0], fvu_naive(sae, x, 0, FIRST, 0, all)));
    CHECK(close_to(m->target_fvu[1], fvu_naive(sae, x, FIRST, D, 0, all)));
    CHECK(close_to(m->position_fvu[0], fvu_naive(sae, x, 0, D, 0, 0)));
    CHECK(close_to(m->position_fvu[3], fvu_naive(sae, x, 0, D, 7, 14)));
    CHECK(close_to(m->position_fvu[MW_POSITION_BUCKETS - 1], fvu_naive(sae, x, 0, D, 1 << 23, all)));
    CHECK(close_to(m->explained_variance, explained_naive(sae, x)));
    CHECK(close_to(m->mse, naive.mse) && close_to(m->cosine, naive.cosine));
    CHECK(close_to(m->l0, naive.l0) && close_to(m->l1, naive.l1) && m->dead == naive.dead && m->dead > 0);
}

/* The store has two blocks, hence two groups. A quarter of the resamples has the first twice, a quarter the second: the
 * interval ends at the numbers of these halves. */
static void intervals_are_of_resampled_groups(const mw_sae *sae, const float *x, const mw_sae_metrics *m) {
    double fvu[2], l0[2];
    for (int i = 0; i < 2; i++) half_naive(sae, x, i * ROWS / 2, (i + 1) * ROWS / 2, &fvu[i], &l0[i]);
    CHECK(fvu[0] != fvu[1] && l0[0] != l0[1]);
    CHECK(m->fvu_95.value == m->fvu && m->l0_95.value == m->l0 && m->cosine_95.value == m->cosine);
    CHECK(close_to(m->fvu_95.low, fmin(fvu[0], fvu[1])) && close_to(m->fvu_95.high, fmax(fvu[0], fvu[1])));
    CHECK(close_to(m->l0_95.low, fmin(l0[0], l0[1])) && close_to(m->l0_95.high, fmax(l0[0], l0[1])));
    CHECK(m->cosine_95.low < m->cosine && m->cosine < m->cosine_95.high);
}

static void metrics_are_their_definitions(void) {
    float x[ROWS * D];
    mw_sae_metrics m;
    mw_sae *sae = make_sae();
    fill_random(x, ROWS * D, 5);
    memset(x + 7 * D, 0, D * sizeof *x); /* a row with no cosine */
    write_store(x);
    NEED_OK(measure(sae, MW_NAN_STOP, &m));
    compare(sae, x, &m);
    intervals_are_of_resampled_groups(sae, x, &m);
    CHECK(m.left_out == 0 && m.last_position == 20000000 + LENGTH - 1);
    CHECK(m.position_rows[MW_POSITION_BUCKETS - 1] == LENGTH);
    mw_sae_free(&sae);
}

static void rows_that_are_not_finite(void) {
    float x[ROWS * D];
    mw_sae_metrics m;
    mw_sae *sae = make_sae();
    fill_random(x, ROWS * D, 6);
    for (int i = 0; i < ROWS * D; i++) x[i] += 3; /* a mean far from 0 */
    x[30 * D + 8] = NAN;
    x[90 * D + 1] = -INFINITY;
    write_store(x);
    CHECK_FAILS(MW_ERR_STATE, measure(sae, MW_NAN_STOP, &m));
    NEED_OK(measure(sae, MW_NAN_SKIP, &m));
    CHECK(m.left_out == 2);
    compare(sae, x, &m);
    for (int r = 0; r < ROWS; r++) x[r * D] = NAN;
    write_store(x);
    CHECK_FAILS(MW_ERR_STATE, measure(sae, MW_NAN_SKIP, &m));
    mw_sae_free(&sae);
}

/* Zeros, then constants: FVU and explained variance are undefined. */
static void what_does_not_vary_is_undefined(void) {
    const float values[] = {0, 0.1f, 12345.678f};
    mw_sae *sae = make_sae();
    for (int v = 0; v < 3; v++) {
        float x[ROWS * D];
        mw_sae_metrics m;
        for (int i = 0; i < ROWS * D; i++) x[i] = values[v] * (float)(1 + i % D);
        write_store(x);
        NEED_OK(measure(sae, MW_NAN_STOP, &m));
        CHECK(isnan(m.fvu) && isnan(m.explained_variance) && isnan(m.target_fvu[0]) && isnan(m.target_fvu[1]));
        CHECK(isnan(m.position_fvu[0]) && isnan(m.position_fvu[3]) && isnan(m.position_fvu[20]));
        CHECK(isnan(m.cosine) == (v == 0));
        CHECK(isfinite(m.mse) && isfinite(m.l0) && m.position_rows[0] == 3);
    }
    mw_sae_free(&sae);
}

/* The report of a training step has the same undefined values. */
static void training_agrees(void) {
    enum { BATCH = 64 };
    const float values[] = {0, 0.1f};
    for (int v = 0; v < 2; v++) {
        float x[BATCH * D];
        mw_sae *sae = make_sae();
        mw_trainer *t = NULL;
        mw_step_report r;
        mw_train_options o = {.batch = BATCH,
                              .steps = 3,
                              .lr = 1e-3,
                              .lr_w_dec = 1,
                              .lr_b_enc = 1,
                              .lr_b_dec = 1,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .eps = 1e-8};
        for (int i = 0; i < BATCH * D; i++) x[i] = values[v] * (float)(1 + i % D);
        NEED_OK(mw_trainer_new(sae, self, &o, 1, &t));
        NEED_OK(mw_trainer_step(t, x, NULL, &r));
        CHECK(isnan(r.fvu) && isnan(r.explained_variance) && isfinite(r.loss) && isfinite(r.mse));
        x[0] += 0.5f;
        NEED_OK(mw_trainer_step(t, x, NULL, &r));
        CHECK(isfinite(r.fvu) && r.fvu > 0 && isfinite(r.explained_variance));
        mw_trainer_free(&t);
        mw_sae_free(&sae);
    }
}

/* Neither a checkpoint nor an SAE is saved with such weights. */
static void weights_that_are_not_finite_are_not_saved(void) {
    char path[128], sae_folder[128];
    mw_sae *sae = make_sae();
    mw_trainer *t = NULL;
    mw_train_options o = {.batch = 8, .steps = 3, .eps = 1e-8};
    snprintf(path, sizeof path, "%s/checkpoint", folder);
    snprintf(sae_folder, sizeof sae_folder, "%s/sae", folder);
    NEED_OK(mw_trainer_new(sae, self, &o, 1, &t));
    CHECK_OK(mw_trainer_save(t, path));
    CHECK_OK(mw_sae_save(sae, sae_folder));
    sae->w_dec[17] = INFINITY;
    CHECK_FAILS(MW_ERR_STATE, mw_trainer_save(t, path));
    CHECK_FAILS(MW_ERR_STATE, mw_sae_save(sae, sae_folder));
    sae->w_dec[17] = 0;
    mw_trainer_free(&t);
    mw_sae_free(&sae);
    mw_checkpoint_info info; /* the files saved before are intact */
    CHECK_OK(mw_checkpoint_read(path, &info));
    CHECK_OK(mw_sae_load(sae_folder, backend, &sae));
    mw_sae_free(&sae);
}

static void shares_of_little_are_undefined(void) {
    CHECK(isnan(mw_recovered(2, 2.5, 2)) && isnan(mw_recovered(2, 2.5, 2.0009)) && isnan(mw_recovered(2, 2.5, 1.5)));
    CHECK(fabs(mw_recovered(2, 2.5, 4) - 0.75) < 1e-12 && fabs(mw_recovered(2, 2.001, 2.002) - 0.5) < 1e-9);
    const word_share none[] = {{0, 0}, {0, 0}}, some[] = {{1, 4}, {0, 0}, {3, 4}};
    mw_estimate e = estimate_share(none, 2);
    CHECK(isnan(e.value) && isnan(e.low) && isnan(e.high));
    e = estimate_share(some, 1);
    CHECK(e.value == 25 && isnan(e.low) && isnan(e.high));
    e = estimate_share(some, 3);
    CHECK(e.value == 50 && e.low >= 25 && e.high <= 75 &&
          e.low < e.high); /* resamples of the second part only are undefined */
    e = estimate_change(none, some, 2);
    CHECK(isnan(e.value) && isnan(e.low));
}

static void numbers_for_people(void) {
    CHECK(strcmp(mw_show(1.25, 1).text, "1.2") == 0 && strcmp(mw_show((double)NAN, 4).text, "-") == 0);
}

int main(void) {
    NEED(mkdtemp(folder));
    NEED_OK(mw_backend_open("cpu", &backend));
    NEED_OK(mw_comm_self(&self));
    RUN(metrics_are_their_definitions);
    RUN(rows_that_are_not_finite);
    RUN(what_does_not_vary_is_undefined);
    RUN(training_agrees);
    RUN(weights_that_are_not_finite_are_not_saved);
    RUN(shares_of_little_are_undefined);
    RUN(numbers_for_people);
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK(system(command) == 0);
    mw_comm_free(&self);
    mw_backend_close(&backend);
    return test_end();
}
