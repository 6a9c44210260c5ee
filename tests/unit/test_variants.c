/* Every variant and kind outside training: codes and reconstructions against naive loops, files, initial weights,
 * shapes, and steering of latents. */
#include "device.h"
#include "microw/concepts.h"
#include "microw/safetensors.h"
#include "sae/step/step.h"

enum { N = 40, D = 6, K = 5, ROWS = 200 };

typedef struct kind {
    const char *name;
    int64_t d_out;
    bool skip;
    int64_t n_targets, target_width[2];
} kind;
static const kind kinds[] = {{"autoencoder", 0, false, 0, {0}},
                             {"transcoder", 4, false, 0, {0}},
                             {"skip transcoder", 9, true, 0, {0}},
                             {"crosscoder", 0, false, 2, {2, 4}}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static mw_backend *backend;
static char folder[] = "/tmp/microw-variants-XXXXXX";

static mw_sae *make_sae(mw_variant variant, const kind *k) {
    static const int64_t groups[] = {10, 30};
    mw_sae *sae = NULL;
    mw_sae_shape shape = {.variant = variant,
                          .n = N,
                          .d = D,
                          .k = K,
                          .d_out = k->d_out,
                          .skip = k->skip,
                          .n_groups = mw_variant_uses_groups(variant) ? 2 : 0,
                          .group = groups,
                          .n_targets = k->n_targets,
                          .target_width = k->target_width};
    NEED_OK(mw_sae_new(backend, &shape, &sae));
    fill_random(sae->w_enc, N * D, 1);
    fill_random(sae->w_dec, N * sae->d_out, 2);
    fill_random(sae->b_enc, N, 3);
    fill_random(sae->b_dec, sae->d_out, 4);
    if (sae->w_skip) fill_random(sae->w_skip, D * sae->d_out, 5);
    for (int e = 0; e < MW_EXTRAS; e++)
        for (int i = 0; i < N && sae->extra[e]; i++) sae->extra[e][i] = 0.4f + 0.02f * (float)i;
    sae->threshold = 1.5f;
    return sae;
}

/* ---- codes ------------------------------------------------------------------------------------------------- */

static void naive_codes(const mw_sae *s, const float *x, double z[N], double *margin) {
    double a[N];
    *margin = 1;
    for (int i = 0; i < N; i++) {
        a[i] = s->b_enc[i];
        for (int j = 0; j < D; j++) a[i] += (double)s->w_enc[i * D + j] * (x[j] - (s->transcoder ? 0 : s->b_dec[j]));
    }
    for (int i = 0; i < N; i++) {
        int above = 0;
        for (int j = 0; j < N; j++) above += a[j] > a[i];
        double floor = 0, value = a[i];
        if (s->variant == MW_BATCH_TOPK || s->variant == MW_MATRYOSHKA_BATCH_TOPK) floor = s->threshold;
        if (s->variant == MW_JUMP_RELU) floor = s->extra[0][i];
        if (s->variant == MW_GATED) value = fmax(exp(s->extra[0][i]) * (a[i] - s->b_enc[i]) + s->extra[1][i], 0);
        bool ranked = s->variant == MW_TOPK || s->variant == MW_MULTI_TOPK || s->variant == MW_MATRYOSHKA_TOPK;
        z[i] = a[i] > floor && (!ranked || above < K) ? value : 0;
        *margin = fmin(*margin, fabs(a[i] - floor));
    }
}

static void check_codes(mw_sae *s) {
    float x[ROWS * D], *x_hat = mw_alloc((size_t)(ROWS * s->d_out) * 4);
    mw_codes codes = {0};
    fill_random(x, ROWS * D, 6);
    CHECK_OK(mw_sae_use_device(s, b));
    CHECK(!s->device == b->ops->host_memory);
    CHECK_OK(mw_sae_encode(s, x, ROWS, &codes));
    CHECK_OK(mw_sae_decode(s, &codes, x, x_hat));
    for (int r = 0; r < ROWS; r++) {
        double z[N], margin;
        naive_codes(s, x + r * D, z, &margin);
        if (margin < 1e-4) continue; /* rounding may decide whether the latent is active */
        for (int i = 0; i < N; i++) CHECK(fabs(mw_codes_find(&codes, r, i) - z[i]) < 1e-4);
        for (int64_t o = 0; o < s->d_out; o++) {
            double expected = s->b_dec[o];
            for (int i = 0; i < N; i++) expected += z[i] * s->w_dec[i * s->d_out + o];
            for (int j = 0; j < D && s->w_skip; j++) expected += (double)s->w_skip[o * D + j] * x[r * D + j];
            CHECK(fabs(x_hat[r * s->d_out + o] - expected) < 1e-3);
        }
    }
    mw_codes_free(&codes);
    mw_free(x_hat);
    mw_sae_leave_device(s);
}

/* Codes do not depend on the screen. */
static void check_screens(mw_sae *s) {
    float x[ROWS * D];
    mw_codes all = {0}, codes = {0};
    fill_random(x, ROWS * D, 6);
    CHECK_OK(mw_sae_use_device(s, b));
    mw_sae *used = s->device ? s->device : s;
    for (int screen = 0; screen < 4; screen++) {
        const encoder_choice choice = {.screen = (mw_screening)((screen + MW_SCREEN_OFF) % 4), .rows = ROWS};
        mw_codes *out = screen == 0 ? &all : &codes;
        CHECK_OK(sae_prepare(used, &choice));
        CHECK_OK(mw_sae_encode(s, x, ROWS, out));
        size_t entries = (size_t)all.start[ROWS];
        CHECK(memcmp(out->start, all.start, (ROWS + 1) * sizeof *all.start) == 0);
        CHECK(out->start[ROWS] == all.start[ROWS] && memcmp(out->index, all.index, entries * sizeof *all.index) == 0 &&
              memcmp(out->value, all.value, entries * sizeof *all.value) == 0);
    }
    mw_codes_free(&all);
    mw_codes_free(&codes);
    mw_sae_leave_device(s);
}

static bool same(const float *a, const float *b, int64_t count) {
    return (!a && !b) || (a && b && memcmp(a, b, (size_t)count * sizeof *a) == 0);
}

static void check_files(const mw_sae *s) {
    char path[96];
    mw_sae *again = NULL;
    snprintf(path, sizeof path, "%s/sae", folder);
    NEED_OK(mw_sae_save(s, path));
    NEED_OK(mw_sae_load(path, backend, &again));
    CHECK(again->variant == s->variant && again->k == s->k && again->transcoder == s->transcoder);
    CHECK(again->n_groups == s->n_groups && memcmp(again->group_end, s->group_end, sizeof s->group_end) == 0);
    CHECK(again->n_targets == s->n_targets && memcmp(again->target_end, s->target_end, sizeof s->target_end) == 0);
    CHECK(same(again->w_enc, s->w_enc, N * D) && same(again->w_dec, s->w_dec, N * s->d_out));
    CHECK(same(again->b_enc, s->b_enc, N) && same(again->b_dec, s->b_dec, s->d_out));
    CHECK(same(again->w_skip, s->w_skip, D * s->d_out));
    CHECK(same(again->extra[0], s->extra[0], N) && same(again->extra[1], s->extra[1], N));
    bool kept = s->variant == MW_BATCH_TOPK || s->variant == MW_MATRYOSHKA_BATCH_TOPK;
    CHECK(again->threshold == (kept ? s->threshold : -1));
    mw_sae_free(&again);
}

static void every_variant(void) {
    for (int v = 0; v < MW_VARIANTS; v++)
        for (int k = 0; k < KINDS; k++) {
            mw_sae *sae = make_sae((mw_variant)v, &kinds[k]);
            check_codes(sae);
            check_screens(sae);
            check_files(sae);
            mw_sae_free(&sae);
        }
}

/* ---- initial weights --------------------------------------------------------------------------------------------- */

static void initial_weights(void) {
    static float x[500 * D], y[500 * 9];
    fill_random(x, 500 * D, 7);
    fill_random(y, 500 * 9, 8);
    for (int i = 0; i < 500 * D; i++) x[i] += 2;
    for (int v = 0; v < MW_VARIANTS; v++)
        for (int k = 0; k < KINDS; k++)
            for (int init = MW_INIT_AUTO; init <= MW_INIT_DATA; init++) {
                mw_sae *s = make_sae((mw_variant)v, &kinds[k]);
                mw_train_options o = {.init = (mw_init)init,
                                      .center = MW_CENTER_MEAN,
                                      .bandwidth = NAN,
                                      .threshold_init = NAN,
                                      .seed = 3};
                CHECK_OK(mw_sae_initialize(s, x, s->transcoder ? y : NULL, 500, &o));
                double expected = v == MW_RELU ? 0.1 : 1;
                for (int i = 0; i < N; i++) {
                    CHECK(fabs(length_of(s->w_dec + i * s->d_out, s->d_out) - expected) < 1e-5);
                    double dot = 0; /* a transcoder's b_enc subtracts the center of x */
                    for (int j = 0; j < D; j++) {
                        double mean = 0;
                        for (int r = 0; r < 500; r++) mean += x[r * D + j] / 500.0;
                        dot += mean * s->w_enc[i * D + j];
                    }
                    CHECK(fabs(s->b_enc[i] - (s->transcoder ? -dot : 0)) < 1e-4);
                    if (init == MW_INIT_TIED && !s->transcoder) CHECK(same(s->w_enc + i * D, s->w_dec + i * D, D));
                }
                mw_sae_free(&s);
            }
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

static void shapes(void) {
    mw_sae *s = NULL;
    int64_t parts[2] = {2, 3};
    CHECK_FAILS(MW_ERR_CONFIG, mw_sae_new(backend, &(mw_sae_shape){.n = N, .d = D, .k = K, .skip = true}, &s));
    CHECK_FAILS(
        MW_ERR_CONFIG,
        mw_sae_new(backend, &(mw_sae_shape){.n = N, .d = D, .k = K, .n_targets = 2, .target_width = parts}, &s));
    CHECK_FAILS(MW_ERR_CONFIG, mw_sae_new(backend, &(mw_sae_shape){.n = N, .d = D, .k = N + 1}, &s));
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.variant = MW_MATRYOSHKA_TOPK, .n = 70, .d = D, .k = K}, &s));
    CHECK(s->n_groups == 5 && s->group_end[0] == 4 && s->group_end[3] == 33 && s->group_end[4] == 70);
    mw_sae_free(&s);
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.variant = MW_MATRYOSHKA_TOPK, .n = 3, .d = D, .k = 1}, &s));
    CHECK(s->n_groups == 1 && s->group_end[0] == 3);
    mw_sae_free(&s);
}

/* ---- steering latents -------------------------------------------------------------------------------------------- */

static int64_t width_of(const void *model, mw_site site) {
    (void)model;
    return site.layer == 0 ? D : site.layer == 1 ? 9 : site.layer == 2 ? 2 : 4;
}

static void fire(mw_hooks *hooks, int layer, float *x, int64_t rows) {
    static int32_t token[ROWS];
    for (int r = 0; r < ROWS; r++) token[r] = r % 7;
    mw_hook_event event = {.site = {layer, MW_RESID_POST},
                           .backend = backend,
                           .token = token,
                           .x = mw_tensor_2d(MW_F32, x, rows, width_of(NULL, (mw_site){layer, MW_RESID_POST}))};
    CHECK_OK(mw_hooks_fire(hooks, &event));
}

static void set_label(char **slot, const char *text) {
    mw_free(*slot);
    *slot = mw_strdup(text);
}

static void transcoders_steer(void) {
    mw_hooks *hooks = NULL;
    mw_sae *s = make_sae(MW_RELU, &kinds[2]);
    float x[ROWS * D], y[ROWS * 9], before[ROWS * 9], rebuilt[ROWS * 9];
    mw_latent_edit edit = {.latent = 7, .scale = 3, .add = 0.5};
    mw_codes codes = {0};
    NEED_OK(mw_hooks_new(width_of, NULL, &hooks));
    set_label(&s->site, "0.resid_post");
    set_label(&s->target, "1.resid_post");
    for (int keep = 0; keep < 2; keep++) {
        mw_steering steering = {.sae = s, .edits = &edit, .n_edits = 1, .keep_error = keep, .untouched = 4};
        fill_random(x, ROWS * D, 8);
        fill_random(y, ROWS * 9, 9);
        memcpy(before, y, sizeof y);
        NEED_OK(mw_sae_encode(s, x, ROWS, &codes));
        NEED_OK(mw_sae_decode(s, &codes, x, rebuilt));
        NEED_OK(mw_steering_attach(&steering, hooks, NULL));
        fire(hooks, 0, x, ROWS);
        fire(hooks, 1, y, ROWS);
        for (int r = 0; r < ROWS; r++)
            for (int j = 0; j < 9; j++) {
                double change = 2.0 * mw_codes_find(&codes, r, 7) + 0.5,
                       from = keep ? before[r * 9 + j] : rebuilt[r * 9 + j];
                double expected = r % 7 == 4 ? before[r * 9 + j] : from + change * s->w_dec[7 * 9 + j];
                CHECK(fabs(y[r * 9 + j] - expected) < 1e-4);
            }
        mw_steering_detach(&steering, hooks);
    }
    set_label(&s->target, "0.resid_mid");
    mw_steering late = {.sae = s, .edits = &edit, .n_edits = 1, .keep_error = true, .untouched = -1};
    /* the forward pass reaches the target before the site that is read */
    CHECK_FAILS(MW_ERR_UNSUPPORTED, mw_steering_attach(&late, hooks, NULL));
    mw_codes_free(&codes);
    mw_sae_free(&s);
    mw_hooks_free(&hooks);
}

static void crosscoders_steer(void) {
    mw_hooks *hooks = NULL;
    mw_sae *s = make_sae(MW_TOPK, &kinds[3]);
    float x[ROWS * 2] = {0}, y[ROWS * 4] = {0};
    mw_latent_edit edit = {.latent = 3, .scale = 1, .add = 2};
    mw_steering steering = {.sae = s, .edits = &edit, .n_edits = 1, .keep_error = true, .untouched = 4};
    NEED_OK(mw_hooks_new(width_of, NULL, &hooks));
    set_label(&s->site, "2.resid_post,3.resid_post");
    NEED_OK(mw_steering_attach(&steering, hooks, NULL));
    fire(hooks, 2, x, ROWS);
    fire(hooks, 3, y, ROWS);
    for (int r = 0; r < ROWS; r++) {
        for (int j = 0; j < 2; j++) CHECK(x[r * 2 + j] == (r % 7 == 4 ? 0 : 2 * s->w_dec[3 * D + j]));
        for (int j = 0; j < 4; j++) CHECK(y[r * 4 + j] == (r % 7 == 4 ? 0 : 2 * s->w_dec[3 * D + 2 + j]));
    }
    mw_steering_detach(&steering, hooks);
    edit.scale = 2; /* a scale needs the codes, which are not known before the last site */
    CHECK_FAILS(MW_ERR_UNSUPPORTED, mw_steering_attach(&steering, hooks, NULL));
    mw_sae_free(&s);
    mw_hooks_free(&hooks);
}

int main(int argc, char **argv) {
    const char *device = argc > 1 ? argv[1] : "cpu";
    if (!test_has_device(device)) return TEST_SKIPPED;
    NEED(mkdtemp(folder) != NULL);
    NEED_OK(mw_backend_open(device, &b));
    NEED_OK(mw_backend_open("cpu", &backend));
    RUN(every_variant);
    RUN(initial_weights);
    RUN(shapes);
    RUN(transcoders_steer);
    RUN(crosscoders_steer);
    mw_backend_close(&backend);
    mw_backend_close(&b);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return test_end();
}
