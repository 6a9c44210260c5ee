/* Training against the torch runs of tools/make_golden_training.py, and the same bytes at any number of ranks. */
#include "device.h"
#include "microw/safetensors.h"
#include "ranks.h"
#include "sae/step/step.h"

enum { K = 6, SHARDS_MAX = 3 /* of the fixture's 1100 latents, in blocks of 512 */ };

/* An emulated device is some thousand times slower than a real one; test_sae_gradients runs every variant on it. Under
 * a sanitizer further steps of a curve run no other code. */
#ifdef MICROW_CUDA_EMULATED
enum { BATCH = 260, DEAD_AFTER = 700, STEPS = 200, CURVE = 5, SOME = 2, FIRST = 1, STRIDE = 12 };
#elif defined(__SANITIZE_ADDRESS__)
enum { BATCH = 600, DEAD_AFTER = 1500, STEPS = 200, CURVE = 30, SOME = 3, FIRST = 0, STRIDE = 1 };
#else
enum { BATCH = 600, DEAD_AFTER = 1500, STEPS = 200, CURVE = 200, SOME = 7, FIRST = 0, STRIDE = 1 };
#endif

/* A run of the fixture script's table; no_curve: a run that the fixture does not have. */
typedef struct setting {
    const char *name;
    mw_variant variant;
    bool no_curve, transcoder;
    int64_t aux_k, k_start, resample_every;
    double aux_weak, aux_lift, sparsity, l0_target, bandwidth, theta, ema;
    mw_precision precision;
    mw_penalty penalty;
    mw_decay decay;
    int64_t n_targets, target_width[2];
    int64_t batch; /* 0: BATCH */
} setting;

static const setting settings[] = {
    {"topk", MW_TOPK, .aux_k = 8},
    {"batch_topk", MW_BATCH_TOPK, .aux_k = 8},
    {"multi_topk", MW_MULTI_TOPK, .aux_k = 8},
    {"matryoshka_topk", MW_MATRYOSHKA_TOPK, .aux_k = 8},
    {"matryoshka_batch_topk", MW_MATRYOSHKA_BATCH_TOPK, .aux_k = 8},
    {"relu", MW_RELU, .sparsity = 0.2},
    {"relu_unit_norm", MW_RELU_UNIT_NORM, .sparsity = 0.2},
    {"jump_relu", MW_JUMP_RELU, .aux_k = 8, .sparsity = 0.02, .bandwidth = 0.3, .theta = 0.2},
    {"jump_relu.tanh", MW_JUMP_RELU, .sparsity = 0.1, .bandwidth = 0.5, .theta = 0.3, .penalty = MW_PENALTY_TANH},
    {"jump_relu.target", MW_JUMP_RELU, .sparsity = 4, .l0_target = K, .bandwidth = 0.3, .theta = 0.2},
    {"gated", MW_GATED, .sparsity = 0.2},
    {"topk.transcoder", MW_TOPK, .aux_k = 8, .transcoder = true},
    {"relu.crosscoder", MW_RELU, .sparsity = 0.2, .n_targets = 2, .target_width = {7, 9}},
    {"topk.annealed", MW_TOPK, .aux_k = 8, .k_start = 40, .decay = MW_DECAY_COSINE},
    {"topk.weak", MW_TOPK, .aux_k = 8, .aux_weak = 0.25, .aux_lift = 3},
    {"batch_topk.weak", MW_BATCH_TOPK, .aux_k = 8, .aux_weak = 0.25, .aux_lift = 3},
    {"multi_topk.weak", MW_MULTI_TOPK, .aux_k = 8, .aux_weak = 0.25, .aux_lift = 3},
    {"matryoshka_topk.weak", MW_MATRYOSHKA_TOPK, .aux_k = 8, .aux_weak = 0.25, .aux_lift = 3},
    {"jump_relu.weak", MW_JUMP_RELU, .aux_k = 8, .aux_weak = 0.25, .aux_lift = 3, .sparsity = 0.02, .bandwidth = 0.3,
     .theta = 0.2},
    {"topk.resampled", MW_TOPK, .no_curve = true, .resample_every = 4, .ema = 0.9},
    {"jump_relu.resampled", MW_JUMP_RELU, .no_curve = true, .resample_every = 4, .ema = 0.9, .sparsity = 0.02,
     .bandwidth = 0.3, .theta = 0.2},
    {"topk.bf16", MW_TOPK, .no_curve = true, .aux_k = 8, .precision = MW_PRECISION_BF16},
    {"topk.few", MW_TOPK, .no_curve = true, .aux_k = 8, .batch = 130}, /* two tiles: later ranks have no rows */
    {"topk.packed", MW_TOPK, .no_curve = true, .aux_k = 8, .batch = 1100},
    {"topk.packed.bf16", MW_TOPK, .no_curve = true, .aux_k = 8, .batch = 1100, .precision = MW_PRECISION_BF16},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static const setting *now;
static int64_t shards = 1; /* of the SAEs that all ranks train together */
static mw_comm *world;
static mw_backend *backend; /* of the SAEs; steps run on the device under test */
static mw_safetensors *golden;

static const float *tensor(const char *name, int64_t *rows, int64_t *columns) {
    mw_tensor t;
    NEED(mw_safetensors_find(golden, name, &t));
    if (rows) *rows = t.shape[0];
    if (columns) *columns = t.ndim > 1 ? t.shape[1] : 0;
    return t.data;
}

static int64_t batch_of(void) {
    return now->batch ? now->batch : BATCH;
}

static mw_train_options options_of(void) {
    return (mw_train_options){.batch = batch_of(),
                              .steps = STEPS,
                              .lr = 2e-3,
                              .lr_w_dec = 1,
                              .lr_b_enc = 1,
                              .lr_b_dec = 1,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .eps = 6.25e-10,
                              .warmup_steps = 20,
                              .clip_norm = 1,
                              .decay = now->decay,
                              .decay_fraction = 0.25,
                              .ema = now->ema,
                              .aux_k = now->aux_k,
                              .aux_weak = now->aux_weak,
                              .aux_lift = now->aux_lift,
                              .aux_coefficient = 1.0 / 32,
                              .dead_after = DEAD_AFTER,
                              .resample_every = now->resample_every,
                              .k_start = now->k_start,
                              .k_anneal_steps = now->k_start ? 50 : 0,
                              .sparsity = now->sparsity,
                              .sparsity_warmup = 40,
                              .penalty = now->penalty,
                              .l0_target = now->l0_target,
                              .bandwidth = now->bandwidth,
                              .threshold_init = now->theta,
                              .patience = 5,
                              .precision = now->precision,
                              .device = b};
}

static void begin(const mw_comm *comm, mw_sae **sae, mw_trainer **trainer) {
    static const int64_t groups[] = {100, 300, 700};
    int64_t n, d;
    char name[64];
    const float *w_enc = tensor("W_enc", &n, &d);
    snprintf(name, sizeof name, "%s.scale", now->no_curve ? "topk" : now->name);
    const double *scale = (const double *)tensor(name, NULL, NULL);
    mw_train_options options = options_of();
    int64_t parts = mw_comm_size(comm) == 1 ? 1 : shards;
    mw_sae_shape shape = {.variant = now->variant,
                          .n = n,
                          .d = d,
                          .k = K,
                          .d_out = now->transcoder ? d : 0,
                          .skip = now->transcoder,
                          .n_groups = mw_variant_uses_groups(now->variant) ? 3 : 0,
                          .group = groups,
                          .n_targets = now->n_targets,
                          .target_width = now->target_width};
    /* All ranks screen in bf16 or f32, one rank alone computes all dot products: that must not matter. */
    options.screen = comm != world ? MW_SCREEN_OFF : (now - settings) % 2 ? MW_SCREEN_F32 : MW_SCREEN_BF16;
    NEED_OK(mw_sae_new_shard(backend, &shape, comm, parts, sae));
    int64_t first = (*sae)->shard.first;
    n = (*sae)->n;
    memcpy((*sae)->w_enc, w_enc + first * d, (size_t)(n * d) * 4);
    memcpy((*sae)->w_dec, tensor("W_dec", NULL, NULL) + first * d, (size_t)(n * d) * 4);
    memcpy((*sae)->b_enc, tensor("b_enc", NULL, NULL) + first, (size_t)n * 4);
    memcpy((*sae)->b_dec, tensor("b_dec", NULL, NULL), (size_t)d * 4);
    for (int64_t i = 0; i < n && now->variant == MW_JUMP_RELU; i++) (*sae)->extra[0][i] = (float)now->theta;
    NEED_OK(mw_trainer_new(*sae, comm, &options, *scale, trainer));
}

/* The target of the transcoder: the absolute columns in reverse order. */
static void target_of(const float *x, int64_t d, float *y) {
    for (int64_t i = 0; i < d; i++) y[i] = fabsf(x[d - 1 - i]);
}

static void step(mw_trainer *t, mw_step_report *report) {
    int64_t rows, d, begin_row, end_row, at = mw_trainer_steps_done(t) * batch_of();
    const float *x = tensor("x", &rows, &d);
    mw_trainer_rows(t, &begin_row, &end_row);
    float *own = mw_alloc((size_t)((end_row - begin_row) * d) * sizeof *own);
    float *target = mw_alloc((size_t)((end_row - begin_row) * d) * sizeof *target);
    for (int64_t r = begin_row; r < end_row; r++) {
        memcpy(own + (r - begin_row) * d, x + ((at + r) % rows) * d, (size_t)d * sizeof *own);
        target_of(own + (r - begin_row) * d, d, target + (r - begin_row) * d);
    }
    NEED_OK(mw_trainer_step(t, own, now->transcoder ? target : NULL, report));
    mw_free(own);
    mw_free(target);
}

static bool same_floats(const float *a, const float *b, int64_t count) {
    return (!a && !b) || memcmp(a, b, (size_t)count * sizeof *a) == 0;
}

/* Compares shard `a` with its latents in the whole SAE `b`. */
static bool same_bytes(const mw_sae *a, const mw_sae *b) {
    int64_t at = a->shard.first;
    NEED(b->n == a->shard.total && !a->extra[0] == !b->extra[0] && !a->extra[1] == !b->extra[1]);
    for (int i = 0; i < MW_EXTRAS; i++)
        if (a->extra[i] && !same_floats(a->extra[i], b->extra[i] + at, a->n)) return false;
    return same_floats(a->w_enc, b->w_enc + at * a->d, a->n * a->d) && same_floats(a->b_dec, b->b_dec, a->d_out) &&
           same_floats(a->w_dec, b->w_dec + at * a->d_out, a->n * a->d_out) &&
           same_floats(a->b_enc, b->b_enc + at, a->n) && same_floats(a->w_skip, b->w_skip, a->d_out * a->d) &&
           a->threshold == b->threshold;
}

/* Rounding changes selections at near ties, and those change the curve: the golden file has the distance of torch
 * itself from its curve in double when weights change in the last place of f32. The curve here must stay within twice
 * that distance, agree closely before the first such step, and agree in the mean. */
static void loss_curve_equals_torch(void) {
    mw_sae *sae = NULL;
    mw_trainer *t = NULL;
    begin(world, &sae, &t);
    char name[64];
    snprintf(name, sizeof name, "%s.curve", now->name);
    const double *curve = (const double *)tensor(name, NULL, NULL);
    snprintf(name, sizeof name, "%s.noise", now->name);
    double noise = *(const double *)tensor(name, NULL, NULL), ties = *(const double *)tensor("topk.noise", NULL, NULL);
    bool ranked = mw_variant_uses_k(now->variant);
    if (ranked && noise < ties) noise = ties; /* the few runs of a fixture meet a tie only by chance */
    double worst = 0, mean = 0, dead = 0;
    for (int s = 0; s < CURVE; s++) {
        mw_step_report r;
        step(t, &r);
        const double *expected = curve + s * 5;
        double error = (r.loss - expected[0]) / expected[0];
        worst = fmax(worst, fabs(error));
        worst = fmax(worst, fabs(r.fvu - expected[2]) / expected[2]);
        dead = fmax(dead, fabs((double)r.dead - expected[4]));
        mean += error / CURVE;
        /* Without selection by rank, a pre-activation near 0 or near a threshold may round to the other side. */
        if (s < 20)
            CHECK(fabs(error) < (ranked ? 1e-6 : 1e-5) && fabs(r.l0 - expected[3]) < (ranked ? 1e-6 : 6.0 / BATCH));
    }
    if (mw_comm_rank(world) == 0)
        printf("largest relative difference to torch in double: %.2e (rounding in torch: %.2e); mean %.1e; "
               "dead latents %.0f\n",
               worst, noise, mean, dead);
    /* f32 sums of 600 rows beside double: 1e-4 where no selection is near a tie */
    CHECK(worst < fmax(2 * noise, 1e-4) && fabs(mean) < 5e-3 && dead < 0.03 * (double)sae->n);
    mw_trainer_free(&t);
    mw_sae_free(&sae);
}

static void *fetch(const void *device, int64_t count, size_t item) {
    void *host = mw_alloc((size_t)count * item + 1);
    NEED(host != NULL);
    if (count) NEED_OK(b->ops->download(b, host, device, (size_t)count * item));
    return host;
}

/* Results have equal bytes at any number of ranks where a row's product depends on its own tile only; where a library
 * selects its method by the shape, only for equal numbers of rows. */
static bool bytes_must_match(void) {
#ifdef MICROW_CUDA_EMULATED
    return true;
#else
    return b->ops->rows_stand_alone || mw_comm_size(world) == 1;
#endif
}

/* Compares the dead latents of the shard of x with those of y, which has all latents. */
static bool same_dead(const mw_trainer *x, const mw_trainer *y) {
    int64_t n = x->sae->n, first = x->sae->shard.first, *one = fetch(x->since_fired, n, sizeof *one),
            *two = fetch(y->since_fired, y->sae->n, sizeof *two), at = 0;
    while (at < y->n_dead && y->dead[at] < first) at++;
    bool same = memcmp(one, two + first, (size_t)n * sizeof *one) == 0 && x->all_dead == y->n_dead &&
                at + x->n_dead <= y->n_dead;
    for (int64_t i = 0; i < x->n_dead && same; i++) same = x->dead[i] + first == y->dead[at + i];
    mw_free(one);
    mw_free(two);
    return same;
}

static void compare_weights(mw_trainer *x, mw_trainer *y) {
    NEED_OK(mw_trainer_pull(x));
    NEED_OK(mw_trainer_pull(y));
    CHECK(!bytes_must_match() || same_bytes(x->host, y->host));
}

/* Training by all ranks together, with a screen, equals training by this rank alone, without. */
static void ranks_do_not_matter(void) {
    mw_sae *together = NULL, *alone = NULL;
    mw_trainer *x = NULL, *y = NULL;
    mw_comm *self = NULL;
    mw_step_report rx, ry;
    NEED_OK(mw_comm_self(&self));
    begin(world, &together, &x);
    begin(self, &alone, &y);
    for (int s = 0; s < 2 * SOME; s++) {
        step(x, &rx);
        step(y, &ry);
        CHECK(fabs(rx.loss - ry.loss) < 1e-4 * ry.loss); /* sums in other orders, and near ties */
        if (!bytes_must_match()) continue;
        rx.candidates = ry.candidates; /* each shard has its own, and none without a screen */
        CHECK(memcmp(&rx, &ry, sizeof rx) == 0);
        CHECK(same_dead(x, y));
    }
    bool long_enough = 2 * SOME * batch_of() > options_of().dead_after;
    if (now->aux_k && !now->k_start && long_enough) CHECK(rx.dead > 0 && rx.aux_loss > 0); /* AuxK took part */
    compare_weights(x, y);
    NEED_OK(take_running_means(x));
    NEED_OK(take_running_means(y));
    compare_weights(x, y);
    mw_trainer_free(&x);
    mw_trainer_free(&y);
    mw_sae_free(&together);
    mw_sae_free(&alone);
    mw_comm_free(&self);
}

/* A checkpoint of all ranks, resumed by each alone, and the reverse: the same bytes as without a break. */
static void checkpoints_lose_nothing(void) {
    mw_sae *whole = NULL, *broken = NULL;
    mw_trainer *x = NULL, *y = NULL;
    mw_comm *self = NULL;
    char path[64] = "/tmp/microw-ckpt-XXXXXX";
    if (mw_comm_rank(world) == 0) NEED(mkstemp(path) >= 0);
    NEED_OK(mw_comm_broadcast(world, path, sizeof path, 0));
    NEED_OK(mw_comm_self(&self));
    begin(world, &whole, &x);
    for (int s = 0; s < SOME; s++) step(x, NULL);
    NEED_OK(mw_trainer_save(x, path));
    for (int s = 0; s < SOME; s++) step(x, NULL);
    begin(self, &broken, &y);
    NEED_OK(mw_trainer_load(y, path));
    CHECK(mw_trainer_steps_done(y) == SOME);
    for (int s = 0; s < SOME; s++) step(y, NULL);
    compare_weights(x, y);
    NEED_OK(take_running_means(x));
    NEED_OK(take_running_means(y));
    compare_weights(x, y);
    if (bytes_must_match()) CHECK(x->smooth == y->smooth && x->best == y->best && x->best_step == y->best_step);
    NEED_OK(mw_trainer_load(x, path)); /* the ranks resume together, in any number of shards */
    for (int s = 0; s < SOME; s++) step(x, NULL);
    NEED_OK(take_running_means(x));
    compare_weights(x, y);
    NEED_OK(mw_comm_barrier(world));
    if (mw_comm_rank(world) == 0) remove(path);
    mw_trainer_free(&x);
    mw_trainer_free(&y);
    mw_sae_free(&whole);
    mw_sae_free(&broken);
    mw_comm_free(&self);
}

/* Dead latents of the fixture, which never fire, are resampled from badly reconstructed rows and fire. */
static void resampling_revives(void) {
    mw_sae *sae = NULL;
    mw_trainer *t = NULL;
    mw_step_report report;
    begin(world, &sae, &t);
    for (int s = 0; s < 3; s++) step(t, &report);
    NEED_OK(mw_trainer_pull(t));
    CHECK(report.dead > 100 && sae->b_enc[0] < -3.9f);
    step(t, &report); /* the fourth */
    int64_t *since = fetch(t->since_fired, sae->n, sizeof *since), silent = 0;
    NEED_OK(mw_trainer_pull(t));
    CHECK(sae->b_enc[0] == 0 && since[0] == 0 && fabs(length_of(sae->w_dec, sae->d) - 1) < 1e-2);
    mw_free(since);
    step(t, &report);
    since = fetch(t->since_fired, sae->n, sizeof *since);
    for (int64_t i = 0; i < sae->n; i += 10) silent += since[i] > 0;
    CHECK(silent < sae->n / 10 / 2);
    mw_free(since);
    mw_trainer_free(&t);
    mw_sae_free(&sae);
}

/* A training whose loss cannot fall stalls after `patience` steps, counted after the schedules. */
static void stalls_are_seen(void) {
    mw_sae *sae = NULL;
    mw_trainer *t = NULL;
    begin(world, &sae, &t);
    t->options.lr = 0;
    int64_t stalled_at = 0;
    for (int s = 1; s <= 60 && !stalled_at; s++) {
        step(t, NULL);
        if (mw_trainer_stalled(t)) stalled_at = s;
    }
    CHECK(stalled_at > 45 && stalled_at < 55); /* 40 steps of warm-up, and 5 of patience */
    mw_trainer_free(&t);
    mw_sae_free(&sae);
}

/* Checks codes against all pre-activations of the batch; returns the number of codes of this rank's latents. */
static int64_t check_selection(const mw_trainer *t, const float *pre, int64_t batch, int64_t n, int64_t wanted) {
    const code_set *c = &t->set[0];
    int64_t count = c->start[batch];
    int32_t *index = fetch(c->index, count, sizeof *index);
    float *value = fetch(c->value, count, sizeof *value);
    for (int64_t r = 0; r < batch; r++)
        for (int64_t j = c->start[r]; j < c->start[r + 1]; j++) {
            int64_t at = r * n + t->sae->shard.first + index[j], above = 0;
            for (int64_t o = 0; o < batch * n; o++) above += pre[o] > pre[at] || (pre[o] == pre[at] && o < at);
            CHECK(value[j] == pre[at] && above < wanted);
        }
    mw_free(index);
    mw_free(value);
    return count;
}

/* Values are coarse: many are equal to the smallest selected value. */
static void batch_selection_is_exact(void) {
    enum { N = 600, D = 4, B = 300, TOP = 2 };
    mw_sae *sae = NULL;
    mw_trainer *t = NULL;
    mw_train_options options = options_of();
    options.batch = B;
    options.lr = 0;
    options.aux_k = 0;
    mw_sae_shape shape = {.variant = MW_BATCH_TOPK, .n = N, .d = D, .k = TOP};
    NEED_OK(mw_sae_new_shard(backend, &shape, world, shards, &sae));
    float x[B * D], w[N * D], *pre = mw_calloc(B * N, sizeof *pre);
    NEED(pre != NULL);
    for (int i = 0; i < B * D; i++) x[i] = (float)(int)(3 * mw_rng_normal(1, 0, (uint64_t)i));
    for (int i = 0; i < N * D; i++) w[i] = (float)(int)(2 * mw_rng_normal(2, 0, (uint64_t)i));
    memcpy(sae->w_enc, w + sae->shard.first * D, (size_t)(sae->n * D) * sizeof *w);
    for (int64_t i = 0; i < sae->n * D; i++) sae->w_dec[i] = i % D == (i / D) % D;
    NEED_OK(mw_trainer_new(sae, world, &options, 1, &t));
    for (int r = 0; r < B; r++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < D; j++) pre[r * N + i] += w[i * D + j] * x[r * D + j];
    int64_t at, end;
    mw_step_report report;
    mw_trainer_rows(t, &at, &end);
    for (int round = 0; round < 2; round++) { /* the second starts from the threshold of the first */
        NEED_OK(mw_trainer_step(t, x + at * D, NULL, &report));
        CHECK(fabs(report.l0 - TOP) < 1e-12);
        int64_t count = check_selection(t, pre, B, N, B * TOP), group = mw_comm_size(world) / shards;
        NEED_OK(mw_comm_allreduce_sum(world, &count, 1));
        CHECK(count == B * TOP * group);
    }
    mw_free(pre);
    mw_trainer_free(&t);
    mw_sae_free(&sae);
}

int main(int argc, char **argv) {
    NEED_OK(mw_comm_world(&argc, &argv, &world));
    const char *device = argc > 1 ? argv[1] : "cpu";
    if (!test_has_device(device)) {
        mw_comm_free(&world);
        return TEST_SKIPPED;
    }
    NEED_OK(mw_backend_open_at(device, mw_comm_rank(world), &b));
    NEED_OK(mw_backend_open("cpu", &backend));
    NEED_OK(mw_safetensors_open(MICROW_GOLDEN "/training.safetensors", &golden));
    for (int i = FIRST; i < SETTINGS; i += STRIDE) {
        now = &settings[i];
        if (mw_comm_rank(world) == 0) printf("%s\n", now->name);
        /* for several ranks ranks_do_not_matter suffices: they give the bytes of one rank */
        if (!now->no_curve && mw_comm_size(world) == 1) RUN(loss_curve_equals_torch);
        for (shards = 1; shards <= mw_comm_size(world) && shards <= SHARDS_MAX; shards++) {
            if (mw_comm_size(world) % shards != 0) continue;
            if (mw_comm_rank(world) == 0 && shards > 1) printf("in %d shards\n", (int)shards);
            RUN(ranks_do_not_matter);
            RUN(checkpoints_lose_nothing);
        }
        shards = 1;
        if (now->resample_every && now->variant == MW_TOPK) RUN(resampling_revives);
    }
    now = &settings[0];
    if (CURVE == STEPS) RUN(stalls_are_seen);
    RUN(batch_selection_is_exact);
    if (mw_comm_size(world) % 2 == 0) {
        shards = 2;
        RUN(batch_selection_is_exact);
    }
    mw_safetensors_free(&golden);
    mw_backend_close(&backend);
    mw_backend_close(&b);
    return test_end_of_ranks(&world);
}
