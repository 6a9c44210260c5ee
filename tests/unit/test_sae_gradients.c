/* Gradients of every variant against finite differences of the loss, computed densely in double; schedules of a
 * training. */
#include "device.h"
#include "sae/step/step.h"

enum { N = 37, D = 7, OUT_MAX = 9, K = 3, B = 150, AUX_K = 4, DEAD = 12, GROUPS = 3 };

static const int64_t groups[GROUPS] = {5, 12, 20};
static const double lambda = 0.7;

/* The variant and options under test. */
typedef struct setting {
    const char *name;
    mw_variant variant;
    int64_t d_out; /* 0: autoencoder */
    bool skip;
    int64_t n_targets, target_width[2];
    mw_penalty penalty;
    double l0_target, weak, alpha, scale;
} setting;

static const setting *now;
static int64_t d_out;

typedef struct parameters {
    double w_enc[N * D], b_enc[N], w_dec[N * OUT_MAX], b_dec[OUT_MAX], w_skip[OUT_MAX * D], extra[MW_EXTRAS][N];
} parameters;

static float x[B * D], y[B * OUT_MAX];
static bool dead[N];

/* ---- the loss ---------------------------------------------------------------------------------------------- */

/* The `k` largest of a[] among allowed latents, as codes after a relu. */
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

static int falling(const void *a, const void *b) {
    double p = *(const double *)a, q = *(const double *)b;
    return p < q ? 1 : p > q ? -1 : 0;
}

/* BatchTopK: the smallest of the K * B largest pre-activations of the batch. */
static double batch_floor(double (*a)[N]) {
    static double all[B * N];
    memcpy(all, a, sizeof all);
    qsort(all, B * N, sizeof *all, falling);
    return all[K * B - 1];
}

static void encode(const parameters *p, double (*a)[N]) {
    for (int r = 0; r < B; r++)
        for (int i = 0; i < N; i++) {
            a[r][i] = p->b_enc[i];
            for (int j = 0; j < D; j++)
                a[r][i] += p->w_enc[i * D + j] * (x[r * D + j] - (now->d_out ? 0 : p->b_dec[j]));
        }
}

static bool batched(void) {
    return now->variant == MW_BATCH_TOPK || now->variant == MW_MATRYOSHKA_BATCH_TOPK;
}

static void codes_of(const parameters *p, const double *a, double floor, double *z) {
    if (mw_variant_uses_k(now->variant) && !batched()) {
        select_top(a, NULL, K, z);
        return;
    }
    for (int i = 0; i < N; i++) {
        double theta = now->variant == MW_JUMP_RELU ? p->extra[0][i] : 0;
        z[i] = a[i] > theta && a[i] > 0 && (!batched() || a[i] >= floor) ? a[i] : 0;
        if (now->variant != MW_GATED || a[i] <= 0) continue;
        double m = exp(p->extra[0][i]) * (a[i] - p->b_enc[i]) + p->extra[1][i];
        z[i] = m > 0 ? m : 0;
    }
}

/* Returns the squared error of row r reconstructed from the latents of z below `end` with the decoder of w. e [d_out]
 * gets the error; or NULL. */
static double rebuild(const parameters *p, const parameters *w, int r, const double *z, int64_t end, double *e) {
    double square = 0;
    for (int64_t j = 0; j < d_out; j++) {
        double y_hat = w->b_dec[j];
        for (int i = 0; i < end; i++) y_hat += z[i] * w->w_dec[i * d_out + j];
        for (int i = 0; i < D && now->skip; i++) y_hat += p->w_skip[j * D + i] * x[r * D + i];
        double error = y_hat - y[r * d_out + j];
        square += error * error;
        if (e) e[j] = error;
    }
    return square;
}

static double norm_of(const parameters *p, int i) {
    double norm = 0;
    for (int64_t part = 0, j = 0; part < (now->n_targets ? now->n_targets : 1); part++) {
        double square = 0;
        for (int64_t end = j + (now->n_targets ? now->target_width[part] : d_out); j < end; j++)
            square += pow(p->w_dec[i * d_out + j], 2);
        norm += sqrt(square);
    }
    return norm;
}

/* `at_start` has the constants of the gradient: the decoder norms within the tanh. */
static double penalty_of(const parameters *p, const parameters *at_start, const double *a, const double *z) {
    double sum = 0;
    for (int i = 0; i < N; i++) {
        if (now->variant == MW_RELU) sum += z[i] * norm_of(p, i);
        if (now->variant == MW_RELU_UNIT_NORM) sum += z[i];
        if (now->variant == MW_GATED) sum += a[i] > 0 ? a[i] : 0;
        if (now->variant == MW_JUMP_RELU)
            sum += now->penalty == MW_PENALTY_TANH ? tanh(4 * z[i] * norm_of(at_start, i)) : z[i] > 0;
    }
    return sum;
}

typedef struct fixed {
    parameters start;
    double residual[B * OUT_MAX], spread; /* the target of AuxK is detached */
} fixed;

/* Returns the squared error of row r, over all reconstructions of the variant. */
static double row_error(const parameters *p, const fixed *f, int r, const double *a, const double *z, double *e) {
    double square = 0, second[N];
    if (mw_variant_uses_groups(now->variant)) {
        int64_t end = 0;
        for (int g = 0; g < GROUPS; g++) square += rebuild(p, p, r, z, end += groups[g], e) / GROUPS;
        return square;
    }
    square = rebuild(p, p, r, z, N, e);
    if (now->variant == MW_MULTI_TOPK) {
        select_top(a, NULL, 4 * K, second);
        square += rebuild(p, p, r, second, N, NULL) / 8;
    }
    if (now->variant == MW_GATED) {
        for (int i = 0; i < N; i++) second[i] = a[i] > 0 ? a[i] : 0;
        square += rebuild(p, &f->start, r, second, N, NULL);
    }
    return square;
}

static double row_aux(const parameters *p, const fixed *f, int r, const double *a) {
    double z[N], square = 0;
    select_top(a, dead, AUX_K, z);
    for (int64_t j = 0; j < d_out; j++) {
        double recon = 0;
        for (int i = 0; i < N; i++) recon += z[i] * p->w_dec[i * d_out + j];
        square += pow(recon - f->residual[r * d_out + j], 2);
    }
    return square;
}

/* Adds to the residuals what the smallest codes of the batch, now->weak of them, reconstruct. */
static void leave_weak_codes_out(const parameters *p, double (*z)[N], double *residual) {
    static double sorted[B * N];
    int count = 0;
    for (int r = 0; r < B; r++)
        for (int i = 0; i < N; i++)
            if (z[r][i] > 0) sorted[count++] = z[r][i];
    qsort(sorted, (size_t)count, sizeof *sorted, falling);
    int kept = count - (int)(now->weak * count);
    for (int r = 0; r < B; r++)
        for (int i = 0; i < N; i++)
            for (int64_t j = 0; j < d_out && z[r][i] < sorted[kept - 1]; j++)
                residual[r * d_out + j] += z[r][i] * p->w_dec[i * d_out + j];
}

/* Returns the loss of the batch. `residual_out` [B, d_out] gets the target of AuxK; or NULL. */
static double loss_of(const parameters *p, const fixed *f, bool aux, double *residual_out) {
    static double a[B][N], codes[B][N];
    double error = 0, auxiliary = 0, penalty = 0, l0 = 0;
    encode(p, a);
    double floor = batched() ? batch_floor(a) : 0;
    for (int r = 0; r < B; r++) {
        double *z = codes[r], e[OUT_MAX];
        codes_of(p, a[r], floor, z);
        error += row_error(p, f, r, a[r], z, e);
        penalty += penalty_of(p, &f->start, a[r], z) / B;
        for (int i = 0; i < N; i++) l0 += (z[i] > 0) / (double)B;
        for (int64_t j = 0; j < d_out && residual_out; j++) residual_out[r * d_out + j] = -e[j];
        if (aux) auxiliary += row_aux(p, f, r, a[r]) / f->spread;
    }
    if (residual_out && now->weak > 0) leave_weak_codes_out(p, codes, residual_out);
    if (now->l0_target > 0) penalty = pow(l0 / now->l0_target - 1, 2);
    if (!mw_variant_uses_penalty(now->variant)) penalty = 0;
    double unit = now->scale / (double)d_out;
    return unit * error / B + now->alpha * auxiliary + unit * lambda * penalty;
}

static double spread_of(const double *r) {
    double total = 0;
    for (int64_t j = 0; j < d_out; j++) {
        double mean = 0;
        for (int i = 0; i < B; i++) mean += r[i * d_out + j] / B;
        for (int i = 0; i < B; i++) total += pow(r[i * d_out + j] - mean, 2);
    }
    return total;
}

/* ---- comparing --------------------------------------------------------------------------------------------- */

static void compare(const char *name, const double *expected, const float *grad, int64_t count) {
    /* Largest error over the largest gradient: f32 sums over 150 rows, and differences of step 1e-5 */
    double worst = 0, largest = 1e-12;
    for (int64_t i = 0; i < count; i++) {
        worst = fmax(worst, fabs(expected[i] - grad[i]));
        largest = fmax(largest, fabs(expected[i]));
    }
    if (!(worst < 2e-4 * largest)) fprintf(stderr, "%s: %s: error %g of %g\n", now->name, name, worst, largest);
    CHECK(worst < 2e-4 * largest && largest > 1e-6);
}

static void check_array(const char *name, parameters *p, const fixed *f, double *values, const float *grad,
                        int64_t count) {
    static double expected[N * OUT_MAX];
    NEED(count <= N * OUT_MAX);
    for (int64_t i = 0; i < count; i++) {
        double kept = values[i], h = 1e-5;
        values[i] = kept + h;
        double up = loss_of(p, f, true, NULL);
        values[i] = kept - h;
        double down = loss_of(p, f, true, NULL);
        values[i] = kept;
        expected[i] = (up - down) / (2 * h);
    }
    compare(name, expected, grad, count);
}

/* The gradient of the thresholds is not a derivative of the loss: it is the kernel estimate, summed over the batch. */
static void check_thresholds(const parameters *p, const float *grad, double eps) {
    static double a[B][N], expected[N];
    double l0 = 0, unit = now->scale / (double)d_out;
    encode(p, a);
    for (int r = 0; r < B; r++)
        for (int i = 0; i < N; i++) l0 += (a[r][i] > p->extra[0][i]) / (double)B;
    memset(expected, 0, sizeof expected);
    for (int r = 0; r < B; r++) {
        double z[N], e[OUT_MAX];
        codes_of(p, a[r], 0, z);
        rebuild(p, p, r, z, N, e);
        for (int i = 0; i < N; i++) {
            double theta = p->extra[0][i], slope = lambda, dz = 0, t = tanh(4 * z[i] * norm_of(p, i));
            if (!(fabs(a[r][i] - theta) < eps / 2)) continue;
            for (int64_t j = 0; j < d_out; j++) dz += 2 * e[j] * p->w_dec[i * d_out + j];
            if (now->l0_target > 0) slope *= 2 * (l0 / now->l0_target - 1) / now->l0_target;
            if (now->penalty == MW_PENALTY_TANH) {
                dz += lambda * 4 * norm_of(p, i) * (1 - t * t);
                slope = 0;
            }
            expected[i] -= unit / B * (theta * dz + slope) / eps;
        }
    }
    compare("thresholds", expected, grad, N);
}

/* ---- the trainer under test ---------------------------------------------------------------------------------- */

static mw_sae *make_sae(mw_backend *backend) {
    mw_sae *sae = NULL;
    mw_sae_shape shape = {.variant = now->variant,
                          .n = N,
                          .d = D,
                          .k = K,
                          .d_out = now->d_out,
                          .skip = now->skip,
                          .n_groups = mw_variant_uses_groups(now->variant) ? GROUPS : 0,
                          .group = groups,
                          .n_targets = now->n_targets,
                          .target_width = now->target_width};
    NEED_OK(mw_sae_new(backend, &shape, &sae));
    d_out = sae->d_out;
    fill_random(x, B * D, 1);
    memcpy(y, x, sizeof x);
    if (now->d_out) fill_random(y, B * d_out, 6);
    fill_random(sae->w_enc, N * D, 2);
    fill_random(sae->w_dec, N * d_out, 3); /* rows not of unit length: the gradient must be right for these too */
    fill_random(sae->b_dec, d_out, 4);
    if (sae->w_skip) fill_random(sae->w_skip, d_out * D, 7);
    for (int i = 0; i < N; i++) {
        dead[i] = i % (N / DEAD) == 1;
        /* Dead latents are never selected: for ReLU and Gated their pre-activations must be negative. */
        float low = mw_variant_uses_k(now->variant) ? -3.0f : -40.0f;
        if (now->variant == MW_JUMP_RELU) low = 0;
        sae->b_enc[i] = dead[i] ? low : 0.1f * mw_rng_normal(5, 0, (uint64_t)i);
        if (now->variant == MW_JUMP_RELU) sae->extra[0][i] = dead[i] ? 40 : 0.3f + 0.02f * (float)i;
        if (now->variant == MW_GATED) {
            sae->extra[0][i] = 0.3f * mw_rng_normal(8, 0, (uint64_t)i);
            sae->extra[1][i] = 0.3f * mw_rng_normal(9, 0, (uint64_t)i);
        }
    }
    return sae;
}

static void widen(const float *from, int64_t count, double *to) {
    for (int64_t i = 0; i < count && from; i++) to[i] = from[i];
}

static void copy_parameters(const mw_sae *sae, parameters *p) {
    widen(sae->w_enc, N * D, p->w_enc);
    widen(sae->b_enc, N, p->b_enc);
    widen(sae->w_dec, N * d_out, p->w_dec);
    widen(sae->b_dec, d_out, p->b_dec);
    widen(sae->w_skip, d_out * D, p->w_skip);
    for (int i = 0; i < MW_EXTRAS; i++) widen(sae->extra[i], N, p->extra[i]);
}

static float *fetch_grad(const parameter *p) {
    int64_t count = p->value ? p->rows * p->columns : 0;
    float *grad = mw_alloc((size_t)count * sizeof *grad + 1);
    NEED(grad != NULL);
    if (count) get(grad, p->grad, count);
    return grad;
}

static void check_all(mw_trainer *t, parameters *p, fixed *f) {
    float *grad[P_COUNT];
    for (int i = 0; i < P_COUNT; i++) grad[i] = fetch_grad(&t->parameter[i]);
    f->start = *p;
    f->spread = 1;
    double plain = loss_of(p, f, false, f->residual);
    f->spread = spread_of(f->residual);
    double whole = loss_of(p, f, true, NULL);
    (void)plain;
    CHECK(fabs(t->report.loss - whole) < 1e-5 * whole);
    check_array("W_enc", p, f, p->w_enc, grad[P_W_ENC], N * D);
    check_array("b_enc", p, f, p->b_enc, grad[P_B_ENC], N);
    check_array("W_dec", p, f, p->w_dec, grad[P_W_DEC], N * d_out);
    check_array("b_dec", p, f, p->b_dec, grad[P_B_DEC], d_out);
    if (now->skip) check_array("W_skip", p, f, p->w_skip, grad[P_W_SKIP], d_out * D);
    if (now->variant == MW_GATED) {
        check_array("r_mag", p, f, p->extra[0], grad[P_EXTRA], N);
        check_array("b_mag", p, f, p->extra[1], grad[P_EXTRA + 1], N);
    }
    if (now->variant == MW_JUMP_RELU) check_thresholds(p, grad[P_EXTRA], 0.5);
    for (int i = 0; i < P_COUNT; i++) mw_free(grad[i]);
}

static void check_setting(void) {
    static parameters p;
    static fixed f;
    mw_backend *backend = NULL;
    mw_comm *comm = NULL;
    mw_trainer *t = NULL;
    int64_t since[N];
    NEED_OK(mw_backend_open("cpu", &backend));
    NEED_OK(mw_comm_self(&comm));
    mw_sae *sae = make_sae(backend);
    mw_train_options options = {.batch = B,
                                .steps = 1,
                                .lr = 1e-3,
                                .lr_w_dec = 1,
                                .lr_b_enc = 1,
                                .lr_b_dec = 1,
                                .beta1 = 0.9,
                                .beta2 = 0.999,
                                .eps = 1e-8,
                                .sparsity = lambda,
                                .penalty = now->penalty,
                                .l0_target = now->l0_target,
                                .bandwidth = 0.5,
                                .aux_k = AUX_K,
                                .aux_weak = now->weak,
                                .aux_coefficient = now->alpha,
                                .dead_after = 1000,
                                .device = b};
    NEED_OK(mw_trainer_new(sae, comm, &options, now->scale, &t));
    for (int i = 0; i < N; i++) since[i] = dead[i] ? 5000 : 0;
    NEED_OK(b->ops->upload(b, t->since_fired, since, sizeof since));
    float *dx = put(x, B * D), *dy = put(y, B * OUT_MAX);
    NEED_OK(step_forward(t, dx, dy));
    for (int i = 0; i < N; i++) dead[i] = false;
    /* latents that did not fire in this batch either */
    for (int64_t i = 0; i < t->n_dead; i++) dead[t->dead[i]] = true;
    NEED_OK(step_backward(t));
    CHECK(t->n_dead >= AUX_K && t->aux_k == AUX_K);
    copy_parameters(sae, &p);
    check_all(t, &p, &f);
    b->ops->free(b, dx);
    b->ops->free(b, dy);
    mw_trainer_free(&t);
    mw_sae_free(&sae);
    mw_comm_free(&comm);
    mw_backend_close(&backend);
}

/* AuxK has a large coefficient so that it affects the gradient, or almost none. */
static const setting settings[] = {
    {"topk", MW_TOPK, .alpha = 0.5, .scale = 1.7},
    {"topk, no AuxK", MW_TOPK, .alpha = 1e-9, .scale = 1},
    {"batch_topk", MW_BATCH_TOPK, .alpha = 0.5, .scale = 1.7},
    {"batch_topk, no AuxK", MW_BATCH_TOPK, .alpha = 1e-9, .scale = 1},
    {"multi_topk", MW_MULTI_TOPK, .alpha = 0.5, .scale = 1.7},
    {"matryoshka_topk", MW_MATRYOSHKA_TOPK, .alpha = 0.5, .scale = 1.7},
    {"matryoshka_batch_topk", MW_MATRYOSHKA_BATCH_TOPK, .alpha = 0.5, .scale = 1.7},
    {"relu", MW_RELU, .alpha = 0.5, .scale = 1.7},
    {"jump_relu", MW_JUMP_RELU, .alpha = 0.5, .scale = 1.7},
    {"jump_relu, tanh", MW_JUMP_RELU, .penalty = MW_PENALTY_TANH, .alpha = 0.5, .scale = 1.7},
    {"jump_relu, target", MW_JUMP_RELU, .l0_target = 4, .alpha = 0.5, .scale = 1.7},
    {"relu_unit_norm", MW_RELU_UNIT_NORM, .alpha = 0.5, .scale = 1.7},
    {"gated", MW_GATED, .alpha = 0.5, .scale = 1.7},
    {"topk transcoder", MW_TOPK, .d_out = 5, .alpha = 0.5, .scale = 1.7},
    {"topk skip transcoder", MW_TOPK, .d_out = 5, .skip = true, .alpha = 0.5, .scale = 1.7},
    {"multi_topk skip transcoder", MW_MULTI_TOPK, .d_out = 9, .skip = true, .alpha = 0.5, .scale = 1.7},
    {"matryoshka skip transcoder", MW_MATRYOSHKA_TOPK, .d_out = 5, .skip = true, .alpha = 0.5, .scale = 1.7},
    {"gated transcoder", MW_GATED, .d_out = 5, .alpha = 0.5, .scale = 1.7},
    {"relu transcoder", MW_RELU, .d_out = 9, .alpha = 0.5, .scale = 1.7},
    {"jump_relu skip transcoder", MW_JUMP_RELU, .d_out = 5, .skip = true, .alpha = 0.5, .scale = 1.7},
    {"relu_unit_norm crosscoder", MW_RELU_UNIT_NORM, .n_targets = 2, .target_width = {3, 4}, .alpha = 0.5,
     .scale = 1.7},
    {"relu crosscoder", MW_RELU, .n_targets = 2, .target_width = {3, 4}, .alpha = 0.5, .scale = 1.7},
    {"topk, weak codes", MW_TOPK, .weak = 0.2, .alpha = 0.5, .scale = 1.7},
    {"multi_topk, weak codes", MW_MULTI_TOPK, .weak = 0.5, .alpha = 0.5, .scale = 1.7},
    {"batch_topk transcoder, weak codes", MW_BATCH_TOPK, .d_out = 5, .weak = 0.3, .alpha = 0.5, .scale = 1.7},
    {"matryoshka skip transcoder, weak codes", MW_MATRYOSHKA_TOPK, .d_out = 5, .skip = true, .weak = 0.7, .alpha = 0.5,
     .scale = 1.7},
    {"jump_relu, weak codes", MW_JUMP_RELU, .weak = 0.2, .alpha = 0.5, .scale = 1.7},
    {"batch_topk crosscoder", MW_BATCH_TOPK, .n_targets = 2, .target_width = {3, 4}, .alpha = 0.5, .scale = 1.7},
};

static void every_setting(void) {
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        now = &settings[i];
        printf("%s\n", now->name);
        check_setting();
    }
}

/* ---- odd sizes ---------------------------------------------------------------------------- */

/* Returns the loss of the last of four steps plus the sum of |W_dec| after it. */
static double train_some(mw_backend *device, int64_t width, int64_t n, int64_t k, int64_t batch) {
    mw_backend *host = NULL;
    mw_comm *comm = NULL;
    mw_sae *sae = NULL;
    mw_trainer *t = NULL;
    mw_step_report report = {0};
    mw_train_options o = {.batch = batch,
                          .steps = 4,
                          .lr = 1e-3,
                          .lr_w_dec = 1,
                          .lr_b_enc = 1,
                          .lr_b_dec = 1,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .clip_norm = 1,
                          .aux_k = 2,
                          .aux_coefficient = 0.03,
                          .dead_after = 1,
                          .device = device};
    NEED_OK(mw_backend_open("cpu", &host));
    NEED_OK(mw_comm_self(&comm));
    NEED_OK(mw_sae_new(host, &(mw_sae_shape){.variant = MW_TOPK, .n = n, .d = width, .k = k}, &sae));
    float *rows = mw_alloc((size_t)(batch * width) * sizeof *rows);
    NEED(rows != NULL);
    fill_random(rows, batch * width, 1);
    fill_random(sae->w_enc, n * width, 2);
    fill_random(sae->w_dec, n * width, 3);
    NEED_OK(mw_trainer_new(sae, comm, &o, 1, &t));
    for (int s = 0; s < 4; s++) NEED_OK(mw_trainer_step(t, rows, NULL, &report));
    NEED_OK(mw_trainer_pull(t));
    double sum = report.loss;
    for (int64_t i = 0; i < n * width; i++) sum += fabsf(sae->w_dec[i]);
    mw_trainer_free(&t);
    mw_sae_free(&sae);
    mw_comm_free(&comm);
    mw_backend_close(&host);
    mw_free(rows);
    return sum;
}

/* One row, one latent, k = 1, k = n, widths that no vector divides, n below and above a block of latents. */
static void odd_sizes(void) {
    static const int64_t sizes[][4] = {{3, 5, 5, 1}, {7, 1, 1, 1}, {1, 2, 1, 3}, {13, 300, 1, 5}, {5, 513, 20, 129}};
    mw_backend *cpu = NULL;
    NEED_OK(mw_backend_open("cpu", &cpu));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int64_t *s = sizes[i];
        double tested = train_some(b, s[0], s[1], s[2], s[3]), expected = train_some(cpu, s[0], s[1], s[2], s[3]);
        /* f32 in another order, four steps of Adam */
        CHECK(isfinite(expected) && fabs(tested - expected) < 1e-4 * expected);
    }
    mw_backend_close(&cpu);
}

/* ---- schedules ------------------------------------------------------------------------------------------------- */

static void learning_rates(void) {
    const mw_sae sae = {.variant = MW_TOPK, .d = 1, .k = 1, .shard.total = 1};
    mw_train_options o = {.steps = 100, .lr = 1, .warmup_steps = 10, .decay_fraction = 0.2};
    CHECK(fabs(learning_rate(&o, &sae, 0) - 0.1) < 1e-12 && learning_rate(&o, &sae, 9) == 1 &&
          learning_rate(&o, &sae, 80) == 1);
    CHECK(fabs(learning_rate(&o, &sae, 90) - 0.5) < 1e-12 && fabs(learning_rate(&o, &sae, 99) - 0.05) < 1e-12);
    o.decay = MW_DECAY_COSINE; /* 1/2 + 1/2 cos: half way down in the middle, slow at both ends */
    CHECK(fabs(learning_rate(&o, &sae, 90) - 0.5) < 1e-12 && learning_rate(&o, &sae, 82) > 0.97 &&
          learning_rate(&o, &sae, 98) < 0.03);
    o.decay = MW_DECAY_NONE;
    CHECK(learning_rate(&o, &sae, 99) == 1);
}

/* lr: auto. The length that a step may move a row, 0.0625, for 32 active rows of a latent in a step of a run of 500. */
static void usual_learning_rates(void) {
    mw_sae sae = {.variant = MW_TOPK, .d = 100, .k = 8, .shard.total = 512};
    mw_train_options o = {.steps = 500, .batch = 2048, .lr = NAN};
    const double unit = 0.0625 / 10;
    CHECK(fabs(learning_rate(&o, &sae, 9) - unit) < 1e-12);
    o.batch = 256; /* an eighth of the rows */
    CHECK(fabs(learning_rate(&o, &sae, 9) - unit / 2) < 1e-12);
    o.steps = 5000;
    CHECK(fabs(learning_rate(&o, &sae, 9) - unit / 2) < 1e-12);
    o.steps = 250;
    CHECK(fabs(learning_rate(&o, &sae, 9) - unit / 2 * pow(2, 0.4)) < 1e-12);
    o.batch = 1 << 20, o.steps = 1; /* more than the limit of 0.2 */
    CHECK(fabs(learning_rate(&o, &sae, 0) - 0.02) < 1e-12);
    sae.k = 0;
    CHECK(fabs(learning_rate(&o, &sae, 0) - unit / 2) < 1e-12);
    o = (mw_train_options){.steps = 500, .batch = 2048, .lr = NAN, .l0_target = 8};
    CHECK(fabs(learning_rate(&o, &sae, 9) - unit) < 1e-12);
}

static void schedules(void) {
    mw_sae topk = {.variant = MW_TOPK, .k = 8, .n = 100, .shard.total = 100},
           relu = {.variant = MW_RELU, .d = 10, .n = 100};
    mw_train_options o = {.k_start = 40, .k_anneal_steps = 8, .sparsity = NAN, .sparsity_warmup = 10};
    CHECK(k_of_step(&o, &topk, 0) == 40 && k_of_step(&o, &topk, 4) == 24 && k_of_step(&o, &topk, 8) == 8);
    o.k_start = 1000;
    CHECK(k_of_step(&o, &topk, 0) == 100); /* at most n */
    CHECK(sparsity_of_step(&o, &topk, 5) == 0);
    CHECK(fabs(sparsity_of_step(&o, &relu, 0) - 0.5) < 1e-12 && sparsity_of_step(&o, &relu, 9) == 5);
    mw_sae jump = {.variant = MW_JUMP_RELU, .d = 100, .n = 100};
    CHECK(fabs(sparsity_of_step(&o, &jump, 20) - 0.06) < 1e-12);
    o.l0_target = 30;
    CHECK(sparsity_of_step(&o, &jump, 20) == 100);
    CHECK(steps_of_schedules(&o) == 10);
}

int main(int argc, char **argv) {
    const char *device = argc > 1 ? argv[1] : "cpu";
    if (!test_has_device(device)) return TEST_SKIPPED;
    NEED_OK(mw_backend_open(device, &b));
    RUN(every_setting);
    RUN(odd_sizes);
    RUN(learning_rates);
    RUN(usual_learning_rates);
    RUN(schedules);
    mw_backend_close(&b);
    return test_end();
}
