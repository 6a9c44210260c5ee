/* Gradients of the TopK SAE against finite differences of the loss, written out in double. */
#include "sae/trainer.h"
#include "test.h"

enum { N = 37, D = 7, K = 3, B = 150, AUX_K = 4, DEAD = 12 };

typedef struct parameters {
    double w_enc[N * D], b_enc[N], w_dec[N * D], b_dec[D];
} parameters;

static float x[B * D];
static bool dead[N];

/* Largest `k` of a[] among allowed latents, as relu'd codes. */
static void select_top(const double *a, const bool *allowed, int k, double *z) {
    for (int i = 0; i < N; i++) z[i] = 0;
    bool taken[N] = {false};
    for (int j = 0; j < k; j++) {
        int best = -1;
        for (int i = 0; i < N; i++)
            if (!taken[i] && (!allowed || allowed[i]) && (best < 0 || a[i] > a[best])) best = i;
        taken[best] = true;
        z[best] = a[best] > 0 ? a[best] : 0;
    }
}

static mw_variant variant;

static int falling(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* BatchTopK: value that the K * B largest of all positive pre-activations reach. */
static double batch_floor(double (*a)[N]) {
    static double all[B * N];
    memcpy(all, a, sizeof all);
    qsort(all, B * N, sizeof *all, falling);
    return all[K * B - 1];
}

/* The loss with the auxiliary target `residual` and its spread held fixed (they are detached). Fills `residual_out`. */
static double loss_of(const parameters *p, double scale, double alpha, const double *residual, double spread,
                      double *residual_out) {
    static double a[B][N];
    double mse = 0, aux = 0;
    for (int r = 0; r < B; r++)
        for (int i = 0; i < N; i++) {
            a[r][i] = p->b_enc[i];
            for (int j = 0; j < D; j++) a[r][i] += p->w_enc[i * D + j] * (x[r * D + j] - p->b_dec[j]);
        }
    double floor = variant == MW_BATCH_TOPK ? batch_floor(a) : 0;
    for (int r = 0; r < B; r++) {
        double z[N], z_aux[N];
        if (variant == MW_TOPK) select_top(a[r], NULL, K, z);
        for (int i = 0; i < N && variant == MW_BATCH_TOPK; i++) z[i] = a[r][i] >= floor && a[r][i] > 0 ? a[r][i] : 0;
        select_top(a[r], dead, AUX_K, z_aux);
        for (int j = 0; j < D; j++) {
            double x_hat = p->b_dec[j], recon = 0;
            for (int i = 0; i < N; i++) {
                x_hat += z[i] * p->w_dec[i * D + j];
                recon += z_aux[i] * p->w_dec[i * D + j];
            }
            double e = x_hat - x[r * D + j];
            mse += e * e / (B * D);
            if (residual_out) residual_out[r * D + j] = -e;
            if (residual) aux += pow(recon - residual[r * D + j], 2) / spread;
        }
    }
    return scale * mse + alpha * aux;
}

static double spread_of(const double *r) {
    double total = 0;
    for (int j = 0; j < D; j++) {
        double mean = 0;
        for (int i = 0; i < B; i++) mean += r[i * D + j] / B;
        for (int i = 0; i < B; i++) total += pow(r[i * D + j] - mean, 2);
    }
    return total;
}

static void check_array(const char *name, parameters *p, double *values, const float *grad, int count, double scale,
                        double alpha, const double *residual, double spread) {
    /* Largest error over the largest gradient: f32 sums over 150 rows, and differences of step 1e-5 */
    double worst = 0, largest = 1e-12;
    for (int i = 0; i < count; i++) {
        double kept = values[i], h = 1e-5;
        values[i] = kept + h;
        double up = loss_of(p, scale, alpha, residual, spread, NULL);
        values[i] = kept - h;
        double down = loss_of(p, scale, alpha, residual, spread, NULL);
        values[i] = kept;
        double expected = (up - down) / (2 * h);
        worst = fmax(worst, fabs(expected - grad[i]));
        largest = fmax(largest, fabs(expected));
    }
    if (!(worst < 2e-4 * largest)) fprintf(stderr, "%s: error %g of %g\n", name, worst, largest);
    CHECK(worst < 2e-4 * largest && largest > 1e-6);
}

static void check_gradients(double alpha, double scale) {
    mw_backend *backend = NULL;
    mw_comm *comm = NULL;
    mw_sae *sae = NULL;
    mw_trainer *t = NULL;
    NEED_OK(mw_backend_open("cpu", &backend));
    NEED_OK(mw_comm_self(&comm));
    NEED_OK(mw_sae_new(backend, N, D, K, &sae));
    sae->variant = variant;
    mw_train_options options = {.batch = B,
                                .steps = 1,
                                .lr = 1e-3,
                                .beta1 = 0.9,
                                .beta2 = 0.999,
                                .eps = 1e-8,
                                .aux_k = AUX_K,
                                .aux_coefficient = alpha,
                                .dead_after = 1000};
    NEED_OK(mw_trainer_new(sae, comm, &options, scale, &t));
    fill_random(x, B * D, 1);
    fill_random(sae->w_enc, N * D, 2);
    fill_random(sae->w_dec, N * D, 3); /* rows not of unit length: the gradient must hold there too */
    fill_random(sae->b_dec, D, 4);
    static parameters p;
    for (int i = 0; i < N; i++) {
        dead[i] = i % (N / DEAD) == 1;
        sae->b_enc[i] = dead[i] ? -3.0f : 0.1f * mw_rng_normal(5, 0, (uint64_t)i);
        t->since_fired[i] = dead[i] ? 5000 : 0;
        p.b_enc[i] = sae->b_enc[i];
    }
    for (int i = 0; i < N * D; i++) p.w_enc[i] = sae->w_enc[i], p.w_dec[i] = sae->w_dec[i];
    for (int i = 0; i < D; i++) p.b_dec[i] = sae->b_dec[i];
    NEED_OK(step_forward(t, x));
    for (int i = 0; i < N; i++) dead[i] = false;
    for (int64_t i = 0; i < t->n_dead; i++) dead[t->dead[i]] = true; /* those that did not fire in this batch */
    CHECK(t->n_dead >= AUX_K && t->aux_k == AUX_K);
    NEED_OK(step_gradients(t));
    static double residual[B * D];
    double plain = loss_of(&p, scale, 0, NULL, 1, residual), spread = spread_of(residual);
    double whole = loss_of(&p, scale, alpha, residual, spread, NULL);
    CHECK(fabs(t->report.loss - whole) < 1e-5 * whole && fabs(t->report.mse * scale - plain) < 1e-5 * plain);
    check_array("W_enc", &p, p.w_enc, t->g_enc, N * D, scale, alpha, residual, spread);
    check_array("b_enc", &p, p.b_enc, t->g_benc, N, scale, alpha, residual, spread);
    check_array("W_dec", &p, p.w_dec, t->g_dec, N * D, scale, alpha, residual, spread);
    check_array("b_dec", &p, p.b_dec, t->g_bdec, D, scale, alpha, residual, spread);
    mw_trainer_free(&t);
    mw_sae_free(&sae);
    mw_comm_free(&comm);
    mw_backend_close(&backend);
}

static void with_auxk(void) {
    check_gradients(0.5, 1.7); /* a large weight, so that the auxiliary part matters */
}

static void almost_without_auxk(void) {
    check_gradients(1e-9, 1);
}

static void learning_rates(void) {
    mw_train_options o = {.steps = 100, .lr = 1, .warmup_steps = 10, .decay_fraction = 0.2};
    CHECK(fabs(learning_rate(&o, 1, 0) - 0.1) < 1e-12 && learning_rate(&o, 1, 9) == 1 && learning_rate(&o, 1, 80) == 1);
    CHECK(fabs(learning_rate(&o, 1, 90) - 0.5) < 1e-12 && fabs(learning_rate(&o, 1, 99) - 0.05) < 1e-12);
    o.lr = NAN;
    CHECK(fabs(learning_rate(&o, 65536, 50) - 1e-4) < 1e-12);
}

int main(void) {
    for (int v = MW_TOPK; v <= MW_BATCH_TOPK; v++) {
        variant = (mw_variant)v;
        printf("%s\n", mw_variant_name(variant));
        RUN(with_auxk);
        RUN(almost_without_auxk);
    }
    RUN(learning_rates);
    return test_end();
}
