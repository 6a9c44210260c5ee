/* The operations of the forward pass and of sparse codes on every backend, against naive loops in double. Sizes are odd
 * on purpose. */
#include "microw/backend.h"
#include "device.h"
#include "test.h"

/* f32 accumulation over n terms errs by about n * 2^-24 of the terms' scale; bf16 operands by 2^-8. */
static const double f32_tolerance = 2e-5, bf16_tolerance = 1e-2;

/* ---- matrix product ------------------------------------------------------------------------------------ */

enum { TRANSPOSED = 1, BIAS = 2, ACCUMULATE = 4, PACKED = 8, ALL_FLAGS = 16 };

/* Packs two B into one slot, and multiplies by the second. */
static void multiply_packed(mw_matmul *task, size_t bytes) {
    void *other = put_bytes(NULL, bytes);
    mw_packed *packed = NULL;
    mw_matmul like = *task;
    like.b = other;
    CHECK_OK(b->ops->pack(b, &like, like.b_dtype, NULL, &packed));
    bool made = packed != NULL;
    CHECK_OK(b->ops->pack(b, task, task->b_dtype, NULL, &packed));
    CHECK(made == (packed != NULL));
    task->packed = packed;
    if (packed) task->b = NULL;
    CHECK_OK(b->ops->matmul(b, task));
    b->ops->free_packed(b, packed);
    b->ops->free(b, other);
}

static void check_matmul(int64_t m, int64_t n, int64_t k, mw_dtype dtype, int flags) {
    bool transposed = flags & TRANSPOSED, bias = flags & BIAS, accumulate = flags & ACCUMULATE;
    float *a = numbers(m * k, 1), *w = numbers(k * n, 2), *c = numbers(m * n, 3), *v = numbers(n, 4);
    float *expected = mw_alloc((size_t)(m * n) * sizeof *expected), *got = mw_alloc((size_t)(m * n) * sizeof *got);
    uint16_t *narrow = mw_alloc((size_t)(k * n) * sizeof *narrow);
    if (dtype != MW_F32) { /* the reference multiplies what the 16-bit type holds */
        NEED_OK(mw_convert_from_f32(dtype, w, k * n, narrow));
        NEED_OK(mw_convert_to_f32(dtype, narrow, k * n, w));
    }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = (accumulate ? c[i * n + j] : 0) + (bias ? v[j] : 0);
            for (int64_t l = 0; l < k; l++) sum += (double)a[i * k + l] * w[transposed ? j * k + l : l * n + j];
            expected[i * n + j] = (float)sum;
        }
    float *da = put(a, m * k), *dc = put(c, m * n), *dv = put(v, n);
    void *dw = dtype == MW_F32 ? put_bytes(w, (size_t)(k * n) * 4) : put_bytes(narrow, (size_t)(k * n) * 2);
    mw_matmul task = {.m = m,
                      .n = n,
                      .k = k,
                      .a = da,
                      .lda = k,
                      .b = dw,
                      .b_dtype = dtype,
                      .ldb = transposed ? k : n,
                      .b_transposed = transposed,
                      .bias = bias ? dv : NULL,
                      .c = dc,
                      .ldc = n,
                      .accumulate = accumulate};
    if (flags & PACKED)
        multiply_packed(&task, (size_t)(k * n) * mw_dtype_size(dtype));
    else
        CHECK_OK(b->ops->matmul(b, &task));
    get(got, dc, m * n);
    double error = relative_error(got, expected, m * n), scale = 0;
    for (int64_t i = 0; i < m * n; i++) scale = fmax(scale, fabs(expected[i]));
    error *= scale / fmax(scale, sqrt((double)k)); /* sums that cancel keep the error of their terms, about sqrt(k) */
    if (!(error < (dtype == MW_F32 ? f32_tolerance : bf16_tolerance)))
        fprintf(stderr, "%lld x %lld x %lld %s: error %g\n", (long long)m, (long long)n, (long long)k,
                mw_dtype_name(dtype), error);
    CHECK(error < (dtype == MW_F32 ? f32_tolerance : bf16_tolerance));
    void *device[] = {da, dc, dv, dw};
    for (int i = 0; i < 4; i++) b->ops->free(b, device[i]);
    void *host[] = {a, w, c, v, expected, got, narrow};
    for (int i = 0; i < 7; i++) mw_free(host[i]);
}

static void matrix_products(void) {
    static const int64_t sizes[][3] = {{1, 1, 1}, {1, 7, 3}, {3, 1, 129}, {5, 130, 31}, {129, 513, 65}, {257, 33, 127}};
    static const mw_dtype dtypes[] = {MW_F32, MW_BF16, MW_F16};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int d = 0; d < 3; d++)
            for (int flags = 0; flags < ALL_FLAGS; flags++)
                check_matmul(sizes[s][0], sizes[s][1], sizes[s][2], dtypes[d], flags);
}

/* A row's bytes depend only on its own tile. */
static void rows_do_not_depend_on_other_tiles(void) {
    if (!b->ops->rows_stand_alone) return; /* the backend does not promise it */
    enum { M = 3 * MW_ROW_TILE + 5, N = 67, K = 45 };
    float *a = numbers(M * K, 1), *w = numbers(N * K, 2), *whole = mw_alloc(M * N * 4), *part = mw_alloc(M * N * 4);
    float *da = put(a, M * K), *dw = put(w, N * K), *dc = put(NULL, M * N);
    mw_matmul task = {.m = M,
                      .n = N,
                      .k = K,
                      .a = da,
                      .lda = K,
                      .b = dw,
                      .b_dtype = MW_F32,
                      .ldb = K,
                      .b_transposed = true,
                      .c = dc,
                      .ldc = N};
    CHECK_OK(b->ops->matmul(b, &task));
    get(whole, dc, M * N);
    task.a = da + MW_ROW_TILE * K;
    task.m = M - MW_ROW_TILE;
    CHECK_OK(b->ops->matmul(b, &task));
    get(part, dc, (M - MW_ROW_TILE) * N);
    CHECK(memcmp(whole + MW_ROW_TILE * N, part, (size_t)((M - MW_ROW_TILE) * N) * 4) == 0);
    void *device[] = {da, dw, dc};
    for (int i = 0; i < 3; i++) b->ops->free(b, device[i]);
    mw_free(a);
    mw_free(w);
    mw_free(whole);
    mw_free(part);
}

/* ---- norms, rotary, activations ------------------------------------------------------------------------ */

/* `device` holds the numbers rounded to bf16. */
static void check_rounded(const void *device, const float *numbers, int64_t n) {
    uint16_t *expected = mw_alloc((size_t)n * 2), *got = mw_alloc((size_t)n * 2);
    mw_round_bf16(numbers, n, expected);
    NEED_OK(b->ops->download(b, got, device, (size_t)n * 2));
    CHECK(memcmp(got, expected, (size_t)n * 2) == 0);
    mw_free(expected);
    mw_free(got);
}

static void norms(void) {
    enum { R = 7, W = 133 };
    float *x = numbers(R * W, 1), *weight = numbers(W, 2), *bias = numbers(W, 3), got[R * W], ln[R * W], rms[R * W];
    for (int r = 0; r < R; r++) {
        double mean = 0, var = 0, square = 0;
        for (int i = 0; i < W; i++) mean += x[r * W + i] / (double)W;
        for (int i = 0; i < W; i++) {
            var += pow(x[r * W + i] - mean, 2) / W;
            square += pow(x[r * W + i], 2) / W;
        }
        for (int i = 0; i < W; i++) {
            ln[r * W + i] = (float)((x[r * W + i] - mean) / sqrt(var + 1e-5) * weight[i] + bias[i]);
            rms[r * W + i] = (float)(x[r * W + i] / sqrt(square + 1e-6) * weight[i]);
        }
    }
    float *dx = put(x, R * W), *dw = put(weight, W), *db = put(bias, W), *out = put(NULL, R * W);
    void *rounded = put_bytes(NULL, R * W * 2);
    CHECK_OK(b->ops->layer_norm(b, out, NULL, dx, dw, db, R, W, 1e-5f));
    get(got, out, R * W);
    CHECK(relative_error(got, ln, R * W) < f32_tolerance);
    CHECK_OK(b->ops->layer_norm(b, NULL, rounded, dx, dw, db, R, W, 1e-5f));
    check_rounded(rounded, got, R * W);
    CHECK_OK(b->ops->rms_norm(b, out, NULL, dx, dw, R, W, 1e-6f));
    get(got, out, R * W);
    CHECK_OK(b->ops->rms_norm(b, NULL, rounded, dx, dw, R, W, 1e-6f));
    check_rounded(rounded, got, R * W);
    CHECK_OK(b->ops->rms_norm(b, dx, NULL, dx, dw, R, W, 1e-6f)); /* in place */
    get(got, dx, R * W);
    CHECK(relative_error(got, rms, R * W) < f32_tolerance);
    void *device[] = {dx, dw, db, out, rounded};
    for (int i = 0; i < 5; i++) b->ops->free(b, device[i]);
    mw_free(x);
    mw_free(weight);
    mw_free(bias);
}

static void check_rotary(bool interleaved) {
    enum { R = 5, H = 3, D = 10, P = 3 };
    float *x = numbers(R * H * D, 1), *table = numbers(9 * P * 2, 2), expected[R * H * D], got[R * H * D];
    int32_t position[R] = {0, 3, 8, 1, 2};
    memcpy(expected, x, sizeof expected);
    for (int r = 0; r < R; r++)
        for (int h = 0; h < H; h++)
            for (int i = 0; i < P; i++) {
                const float *cs = table + (position[r] * P + i) * 2, *in = x + (r * H + h) * D;
                int first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + P;
                expected[(r * H + h) * D + first] = in[first] * cs[0] - in[second] * cs[1];
                expected[(r * H + h) * D + second] = in[second] * cs[0] + in[first] * cs[1];
            }
    float *dx = put(x, R * H * D), *dt = put(table, 9 * P * 2);
    CHECK_OK(b->ops->rotary(b, dx, dt, position, R, H, D, P, interleaved));
    get(got, dx, R * H * D);
    CHECK(relative_error(got, expected, R * H * D) < f32_tolerance);
    b->ops->free(b, dx);
    b->ops->free(b, dt);
    mw_free(x);
    mw_free(table);
}

static void rotary(void) {
    check_rotary(false);
    check_rotary(true);
}

static double activation_of(mw_activation kind, double x) {
    switch (kind) {
    case MW_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case MW_ACT_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case MW_ACT_SILU:
        return x / (1 + exp(-x));
    case MW_ACT_RELU:
        return x > 0 ? x : 0;
    case MW_ACT_RELU_SQUARED:
        return x > 0 ? x * x : 0;
    case MW_ACT_COUNT:
        break;
    }
    return 0;
}

static void activations(void) {
    enum { N = 5003 };
    float *x = numbers(N, 1), *up = numbers(N, 2), *expected = mw_alloc(N * 4), *got = mw_alloc(N * 4);
    for (int i = 0; i < N; i++)
        x[i] *= i % 7 == 0 ? 20.0f : i % 5 == 0 ? 1e-4f : 2.0f; /* large values, and values near zero */
    for (int kind = 0; kind < MW_ACT_COUNT; kind++) {
        float one = 1, *dx = put(x, N), *du = put(up, N), *dc = put(x, N), *done = put(&one, 1);
        mw_epilogue then = {.activation = (mw_activation)kind};
        mw_matmul t = {.m = 1, .n = N, .k = 1, .a = done, .lda = 1, .b = dx, .ldb = N, .c = dc, .ldc = N};
        t.epilogue = &then;
        for (int i = 0; i < N; i++) expected[i] = (float)activation_of(then.activation, x[i]);
        CHECK_OK(b->ops->matmul(b, &t));
        get(got, dc, N);
        for (int i = 0; i < N; i++) CHECK(fabs(got[i] - expected[i]) < 1e-6 + 3e-6 * fabs(expected[i]));
        for (int i = 0; i < N; i++) expected[i] *= up[i];
        then.times = du;
        CHECK_OK(b->ops->matmul(b, &t));
        get(got, dc, N);
        CHECK(relative_error(got, expected, N) < f32_tolerance);
        float *all[] = {dx, du, dc, done};
        for (int i = 0; i < 4; i++) b->ops->free(b, all[i]);
    }
    float *dx = put(x, N);
    for (int i = 0; i < N; i++) expected[i] = (float)(3.0 * tanh(x[i] / 3.0));
    CHECK_OK(b->ops->soft_cap(b, dx, N, 3.0f));
    get(got, dx, N);
    CHECK(relative_error(got, expected, N) < f32_tolerance);
    x[0] = NAN;
    NEED_OK(b->ops->upload(b, dx, x, N * 4));
    CHECK_OK(b->ops->clamp(b, dx, N, -0.5f, INFINITY));
    get(got, dx, N);
    for (int i = 0; i < N; i++) CHECK(got[i] == (x[i] > -0.5f ? x[i] : -0.5f));
    CHECK_OK(b->ops->clamp(b, dx, N, -INFINITY, 0.75f));
    get(got, dx, N);
    for (int i = 0; i < N; i++) CHECK(got[i] >= -0.5f && got[i] <= 0.75f && (x[i] > 0.75f) == (got[i] == 0.75f));
    CHECK_OK(b->ops->clamp(b, dx, 0, 1, 2));
    x[0] = 0;
    NEED_OK(b->ops->upload(b, dx, x, N * 4));
    for (int i = 0; i < N; i++)
        expected[i] = (float)(x[i] > 0 ? 0.9 * x[i] * x[i] + 0.5 * x[i] : (expm1(x[i]) - x[i]) * 1.3 + 0.5 * x[i]);
    CHECK_OK(b->ops->xielu(b, &(mw_xielu){.p = 0.9f, .n = 1.3f, .beta = 0.5f, .eps = -1e-6f}, dx, N));
    get(got, dx, N);
    CHECK(relative_error(got, expected, N) < f32_tolerance);
    b->ops->free(b, dx);
    void *host[] = {x, up, expected, got};
    for (int i = 0; i < 4; i++) mw_free(host[i]);
}

/* An activated number has the same bytes wherever it stands in a row, and whatever the row's length. Numbers near 0 and
 * around 0.02 have a branch of their own in tanh. */
static void activations_do_not_depend_on_their_place(void) {
    enum { N = 40000, WIDTH = 1 << 12 };
    float one = 1, *x = numbers(N, 4), *whole = mw_alloc(N * 4), *part = mw_alloc(N * 4);
    for (int i = 0; i < N; i++) x[i] *= i % 3 == 0 ? 0.03f : i % 3 == 1 ? 1.0f : 10.0f;
    float *dx = put(x, N), *dc = put(NULL, N), *done = put(&one, 1);
    static const int lengths[] = {1, 3, 17, 31, WIDTH};
    for (int kind = 0; kind < MW_ACT_COUNT; kind++) {
        const mw_epilogue then = {.activation = (mw_activation)kind};
        mw_matmul t = {.m = 1, .n = N, .k = 1, .a = done, .lda = 1, .b = dx, .ldb = N, .c = dc, .ldc = N};
        t.epilogue = &then;
        CHECK_OK(b->ops->matmul(b, &t));
        get(whole, dc, N);
        for (int l = 0; l < 5; l++)
            for (int from = 0; from + lengths[l] <= (l == 0 ? 600 : N / 8); from += lengths[l]) {
                t.b = dx + from;
                t.n = t.ldb = t.ldc = lengths[l];
                CHECK_OK(b->ops->matmul(b, &t));
                get(part, dc, t.n);
                CHECK(memcmp(whole + from, part, (size_t)t.n * 4) == 0);
            }
    }
    float *device[] = {dx, dc, done}, *host[] = {x, whole, part};
    for (int i = 0; i < 3; i++) b->ops->free(b, device[i]);
    for (int i = 0; i < 3; i++) mw_free(host[i]);
}

/* A product that rounds its results to bf16, and one that reads such a matrix, give the bytes of rounding in between:
 * act(X W) V, with one row, a tile, and a row more. */
static void check_rounded_between(int64_t m, bool packed) {
    enum { D = 37, H = 530 };
    float *x = numbers(m * D, 1), *w = numbers(D * H, 2), *times = numbers(m * H, 3),
          *got = mw_alloc((size_t)m * D * 4), *expected = mw_alloc((size_t)m * D * 4);
    uint16_t *w16 = mw_alloc(D * H * 2);
    CHECK_OK(mw_convert_from_f32(MW_BF16, w, D * H, w16));
    float *dx = put(x, m * D), *dt = put(times, m * H), *active = put(NULL, m * H), *dc = put(NULL, m * D);
    void *dw = put_bytes(w16, D * H * 2), *rounded = put_bytes(NULL, (size_t)(m * H) * 2);
    mw_epilogue then = {.activation = MW_ACT_SILU, .times = dt};
    mw_matmul up = {.m = m, .n = H, .k = D, .a = dx, .lda = D, .b = dw, .b_dtype = MW_BF16, .ldb = H};
    mw_matmul down = {.m = m, .n = D, .k = H, .a = active, .lda = H, .b = dw, .b_dtype = MW_BF16, .ldb = H};
    mw_packed *first = NULL, *second = NULL;
    down.b_transposed = true;
    if (packed) CHECK_OK(b->ops->pack(b, &up, MW_BF16, NULL, &first));
    if (packed) CHECK_OK(b->ops->pack(b, &down, MW_BF16, NULL, &second));
    up.packed = first;
    down.packed = second;
    up.c = active;
    up.ldc = H;
    up.epilogue = &then;
    down.c = dc;
    down.ldc = D;
    CHECK_OK(b->ops->matmul(b, &up));
    CHECK_OK(b->ops->matmul(b, &down));
    get(expected, dc, m * D);
    then.rounded = rounded;
    down.a = NULL;
    down.a_bf16 = rounded;
    CHECK_OK(b->ops->matmul(b, &up));
    CHECK_OK(b->ops->matmul(b, &down));
    get(got, dc, m * D);
    CHECK(memcmp(got, expected, (size_t)m * D * 4) == 0);
    b->ops->free_packed(b, first);
    b->ops->free_packed(b, second);
    void *device[] = {dx, dt, active, dc, dw, rounded}, *host[] = {x, w, times, got, expected, w16};
    for (int i = 0; i < 6; i++) b->ops->free(b, device[i]);
    for (int i = 0; i < 6; i++) mw_free(host[i]);
}

static void rounding_between_products(void) {
    static const int64_t rows[] = {1, 5, MW_ROW_TILE, MW_ROW_TILE + 1};
    if (!b->ops->has_fast_bf16(b)) return;
    for (int i = 0; i < 4; i++)
        for (int packed = 0; packed < 2; packed++) check_rounded_between(rows[i], packed);
}

static void rows_and_sums(void) {
    enum { R = 6, W = 37, V = 11 };
    float *table = numbers(V * W, 1), *x = numbers(R * W, 2), expected[R * W], got[R * W];
    int32_t index[R] = {3, 0, 10, 3, 7, 1};
    for (int r = 0; r < R; r++)
        for (int i = 0; i < W; i++) expected[r * W + i] = x[r * W + i] + 2.5f * table[index[r] * W + i];
    float *dt = put(table, V * W), *dx = put(x, R * W), *dy = put(NULL, R * (W + 3));
    CHECK_OK(b->ops->gather_rows(b, dx, dt, MW_F32, index, R, W, 2.5f, true));
    get(got, dx, R * W);
    CHECK(relative_error(got, expected, R * W) < f32_tolerance);
    CHECK_OK(b->ops->gather_rows(b, dx, dt, MW_F32, index, R, W, 1.0f, false));
    get(got, dx, R * W);
    for (int r = 0; r < R; r++) CHECK(memcmp(got + r * W, table + index[r] * W, W * 4) == 0);
    CHECK_OK(b->ops->add(b, dx, dx, R * W));
    CHECK_OK(b->ops->copy_2d(b, dy, W + 3, dx, W, R, W));
    float strided[R * (W + 3)];
    get(strided, dy, R * (W + 3));
    for (int r = 0; r < R; r++)
        for (int i = 0; i < W; i++) CHECK(strided[r * (W + 3) + i] == 2 * table[index[r] * W + i]);
    void *device[] = {dt, dx, dy};
    for (int i = 0; i < 3; i++) b->ops->free(b, device[i]);
    mw_free(table);
    mw_free(x);
}

/* The host may reuse an array at once after the call, pinned memory of any size too. */
static void host_memory_is_free_again(void) {
    enum { ROWS = (4 << 20) / 4 + 5, V = 3 };
    void *block = NULL;
    float table[V] = {1, 2, 3}, *got = mw_alloc(ROWS * sizeof *got), *dt = put(table, V), *dx = put(NULL, ROWS);
    NEED_OK(b->ops->host_alloc(b, ROWS * sizeof(int32_t), &block));
    int32_t *index = block;
    for (int i = 0; i < ROWS; i++) index[i] = i % V;
    CHECK_OK(b->ops->gather_rows(b, dx, dt, MW_F32, index, ROWS, 1, 1.0f, false));
    for (int i = 0; i < ROWS; i++) index[i] = 0;
    get(got, dx, ROWS);
    int wrong = 0;
    for (int i = 0; i < ROWS; i++) wrong += got[i] != table[i % V];
    CHECK(wrong == 0);
    b->ops->host_free(b, block);
    b->ops->free(b, dt);
    b->ops->free(b, dx);
    mw_free(got);
}

/* A copy of one row ignores strides, however large. */
static void strides_of_one_row(void) {
    enum { W = 5 };
    float *x = numbers(W, 3), got[W], *dx = put(x, W), *dy = put(NULL, W);
    CHECK_OK(b->ops->copy_2d(b, dy, (int64_t)1 << 30, dx, (int64_t)1 << 30, 1, W));
    get(got, dy, W);
    CHECK(memcmp(got, x, sizeof got) == 0);
    b->ops->free(b, dx);
    b->ops->free(b, dy);
    mw_free(x);
}

/* ---- attention ----------------------------------------------------------------------------------------- */

typedef struct shape {
    int64_t q_len, kv_len, heads, kv_heads, d, window;
    float softcap;
    bool biased;
} shape;

static void naive_attention(const shape *s, const float *q, const float *k, const float *v, const float *bias,
                            float *out, float scale) {
    for (int64_t i = 0; i < s->q_len; i++)
        for (int64_t h = 0; h < s->heads; h++) {
            int64_t kh = h / (s->heads / s->kv_heads), last = s->kv_len - s->q_len + i, first = 0;
            if (s->window && last - s->window + 1 > 0) first = last - s->window + 1;
            double total = 0, sum[300] = {0};
            for (int64_t j = first; j <= last; j++) {
                double dot = 0;
                for (int64_t c = 0; c < s->d; c++)
                    dot += (double)q[(i * s->heads + h) * s->d + c] * k[(j * s->kv_heads + kh) * s->d + c];
                dot *= scale;
                if (s->softcap > 0) dot = s->softcap * tanh(dot / s->softcap);
                double e = exp(dot + (bias ? (double)bias[h * s->kv_len + j] : 0));
                total += e;
                for (int64_t c = 0; c < s->d; c++) sum[c] += e * v[(j * s->kv_heads + kh) * s->d + c];
            }
            for (int64_t c = 0; c < s->d; c++) out[(i * s->heads + h) * s->d + c] = (float)(sum[c] / total);
        }
}

static void attention(void) {
    static const shape shapes[] = {
        {9, 9, 4, 4, 8, 0, 0, false},       {1, 300, 4, 2, 16, 0, 0, false},       {150, 150, 2, 1, 5, 0, 2.0f, false},
        {140, 270, 3, 3, 7, 20, 0, false},  {4, 4, 6, 2, 64, 1, 0, false},         {65, 130, 2, 2, 24, 0, 0, false},
        {3, 70, 4, 4, 20, 9, 0, false},     {131, 131, 2, 2, 32, 65, 5.0f, false}, {40, 40, 2, 1, 128, 0, 0, false},
        {70, 100, 2, 1, 200, 33, 0, false}, {33, 33, 1, 1, 256, 0, 0, false},      {20, 20, 1, 1, 300, 0, 0, false},
        {150, 170, 6, 3, 8, 0, 0, true},    {3, 140, 2, 1, 8, 40, 3.0f, true}};
    for (size_t n = 0; n < sizeof shapes / sizeof *shapes; n++) {
        const shape *s = &shapes[n];
        int64_t nq = s->q_len * s->heads * s->d, nk = s->kv_len * s->kv_heads * s->d;
        float *q = numbers(nq, 1), *k = numbers(nk, 2), *v = numbers(nk, 3), *expected = mw_alloc((size_t)nq * 4);
        float *got = mw_alloc((size_t)nq * 4), *bias = numbers(s->heads * s->kv_len, 4);
        naive_attention(s, q, k, v, s->biased ? bias : NULL, expected, 0.7f);
        float *dq = put(q, nq), *dk = put(k, nk), *dv = put(v, nk), *out = put(NULL, nq);
        float *db = put(bias, s->heads * s->kv_len);
        const float *keys[1] = {dk}, *values[1] = {dv};
        int64_t row = 0;
        mw_attention task = {.n_seq = 1,
                             .q_row = &row,
                             .q_len = &s->q_len,
                             .kv_len = &s->kv_len,
                             .k = keys,
                             .v = values,
                             .q = dq,
                             .out = out,
                             .n_heads = s->heads,
                             .n_kv_heads = s->kv_heads,
                             .head_dim = s->d,
                             .scale = 0.7f,
                             .softcap = s->softcap,
                             .window = s->window,
                             .key_bias = s->biased ? db : NULL,
                             .key_bias_stride = s->kv_len};
        CHECK_OK(b->ops->attention(b, &task));
        get(got, out, nq);
        CHECK(relative_error(got, expected, nq) < f32_tolerance);
        task.rounded = put_bytes(NULL, (size_t)nq * 2);
        CHECK_OK(b->ops->attention(b, &task));
        check_rounded(task.rounded, got, nq);
        void *device[] = {dq, dk, dv, db, out, task.rounded};
        for (int i = 0; i < 6; i++) b->ops->free(b, device[i]);
        void *host[] = {q, k, v, bias, expected, got};
        for (int i = 0; i < 6; i++) mw_free(host[i]);
    }
}

/* A row's result does not depend on how many rows follow: with a window, rows of a tile see different keys. */
static void attention_does_not_depend_on_later_rows(void) {
    enum { ROWS = 75, WINDOW = 24, D_MAX = 20 };
    for (int64_t d = 1; d <= D_MAX; d++) {
        float *q = numbers(ROWS * d, 1), *k = numbers(ROWS * d, 2), *v = numbers(ROWS * d, 3);
        float *whole = mw_alloc(ROWS * D_MAX * 4), *part = mw_alloc(ROWS * D_MAX * 4);
        float *dq = put(q, ROWS * d), *dk = put(k, ROWS * d), *dv = put(v, ROWS * d), *out = put(NULL, ROWS * d);
        const float *keys[1] = {dk}, *values[1] = {dv};
        int64_t row = 0, rows = ROWS;
        mw_attention task = {.n_seq = 1, .q_row = &row, .q_len = &rows, .kv_len = &rows, .k = keys, .v = values};
        task.q = dq;
        task.out = out;
        task.n_heads = task.n_kv_heads = 1;
        task.head_dim = d;
        task.scale = 0.3f;
        task.window = WINDOW;
        CHECK_OK(b->ops->attention(b, &task));
        get(whole, out, ROWS * d);
        for (rows = 8; rows < ROWS; rows++) { /* fewer take another order of their sums */
            CHECK_OK(b->ops->attention(b, &task));
            get(part, out, rows * d);
            CHECK(memcmp(part, whole, (size_t)(rows * d) * 4) == 0);
        }
        void *device[] = {dq, dk, dv, out}, *host[] = {q, k, v, whole, part};
        for (int i = 0; i < 4; i++) b->ops->free(b, device[i]);
        for (int i = 0; i < 5; i++) mw_free(host[i]);
    }
}

/* Keys and values that a query does not see do not change its result, NaN included. */
static void attention_keeps_to_what_it_sees(void) {
    enum { ROWS = 70, D = 16, SPOILT = 41 };
    float *q = numbers(ROWS * D, 1), *k = numbers(ROWS * D, 2), *v = numbers(ROWS * D, 3);
    float *got = mw_alloc(ROWS * D * sizeof *got);
    for (int c = 0; c < D; c++) k[SPOILT * D + c] = v[SPOILT * D + c] = c % 2 ? NAN : INFINITY;
    float *dq = put(q, ROWS * D), *dk = put(k, ROWS * D), *dv = put(v, ROWS * D), *out = put(NULL, ROWS * D);
    const float *keys[1] = {dk}, *values[1] = {dv};
    const int64_t row = 0, rows = ROWS;
    mw_attention task = {.n_seq = 1,
                         .q_row = &row,
                         .q_len = &rows,
                         .kv_len = &rows,
                         .k = keys,
                         .v = values,
                         .q = dq,
                         .out = out,
                         .n_heads = 1,
                         .n_kv_heads = 1,
                         .head_dim = D,
                         .scale = 0.25f,
                         .window = 5};
    CHECK_OK(b->ops->attention(b, &task));
    get(got, out, ROWS * D);
    for (int i = 0; i < ROWS; i++) {
        bool sees = i >= SPOILT && i < SPOILT + 5, finite = true;
        for (int c = 0; c < D; c++) finite = finite && isfinite(got[i * D + c]);
        CHECK(finite != sees);
    }
    void *device[] = {dq, dk, dv, out};
    for (int i = 0; i < 4; i++) b->ops->free(b, device[i]);
    void *host[] = {q, k, v, got};
    for (int i = 0; i < 4; i++) mw_free(host[i]);
}

/* ---- the sparse side ----------------------------------------------------------------------------------- */

static void check_top_k(int64_t rows, int64_t n, int64_t k, bool with_ties) {
    float *x = numbers(rows * n, 5), *value = mw_alloc((size_t)(rows * k) * 4);
    int32_t *index = mw_alloc((size_t)(rows * k) * 4);
    if (with_ties)
        for (int64_t i = 0; i < rows * n; i++) x[i] = (float)(int)(x[i] * 2);
    float *dx = put(x, rows * n), *dv = put(NULL, rows * k);
    int32_t *di = put_bytes(NULL, (size_t)(rows * k) * 4);
    CHECK_OK(b->ops->top_k(b, dx, rows, n, k, di, dv));
    get(value, dv, rows * k);
    NEED_OK(b->ops->download(b, index, di, (size_t)(rows * k) * 4));
    for (int64_t r = 0; r < rows; r++) {
        int64_t found = 0;
        for (int64_t i = 0; i < n; i++) { /* i is selected if fewer than k others beat it */
            int64_t beaten_by = 0;
            for (int64_t j = 0; j < n; j++)
                beaten_by += x[r * n + j] > x[r * n + i] || (x[r * n + j] == x[r * n + i] && j < i);
            if (beaten_by >= k) continue;
            CHECK(found < k && index[r * k + found] == i && value[r * k + found] == x[r * n + i]);
            found++;
        }
        CHECK(found == k);
    }
    b->ops->free(b, dx);
    b->ops->free(b, dv);
    b->ops->free(b, di);
    mw_free(x);
    mw_free(value);
    mw_free(index);
}

static void top_k(void) {
    static const int64_t sizes[][3] = {{1, 1, 1},     {3, 17, 1},   {3, 17, 17},    {2, 1000, 32}, {5, 333, 100},
                                       {3, 5000, 32}, {4, 4173, 7}, {2, 16384, 64}, {2, 512, 16}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int ties = 0; ties < 2; ties++) check_top_k(sizes[i][0], sizes[i][1], sizes[i][2], ties);
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_ARG, b->ops->top_k(b, NULL, 1, 3, 4, NULL, NULL));
    mw_log_quiet(false);
}

enum { ROWS = 9, N = 31, K = 4, D_MAX = 1040 };
static int D; /* width */

/* Decodes the entries of each row in two calls, the second adding to the first: the same bytes as in one. */
static void check_split_rows(const float *whole, const int64_t *start, int32_t *di, float *dv, float *dw, float *db) {
    float got[ROWS * D_MAX], *out = put(NULL, ROWS * D);
    for (int r = 0; r < ROWS; r++) {
        const int64_t split = start[r] + (start[r + 1] - start[r]) / 3, first[] = {start[r], split},
                      second[] = {split, start[r + 1]};
        CHECK_OK(b->ops->sparse_decode(b, out + r * D, db, false, first, di, dv, 1, dw, D));
        CHECK_OK(b->ops->sparse_decode(b, out + r * D, NULL, true, second, di, dv, 1, dw, D));
    }
    get(got, out, ROWS * D);
    CHECK(memcmp(got, whole, (size_t)(ROWS * D) * sizeof *got) == 0);
    b->ops->free(b, out);
}

static void check_sparse_products(void) {
    float *w = numbers(N * D, 1), *g = numbers(ROWS * D, 2), *value = numbers(ROWS * K, 3), *bias = numbers(D, 4);
    float decoded[ROWS * D_MAX], dots[ROWS * K], outer[N * D_MAX] = {0}, got[N * D_MAX];
    int32_t index[ROWS * K], rows[ROWS * K];
    int64_t start[N + 1] = {0};
    float coefficient[ROWS * K];
    int64_t row_start[ROWS + 1];
    int32_t row_of[ROWS * K];
    for (int r = 0; r <= ROWS; r++) row_start[r] = r * K - (r == 3 ? K : 0); /* row 2 has none, row 3 twice as many */
    for (int r = 0; r < ROWS; r++)
        for (int64_t j = row_start[r]; j < row_start[r + 1]; j++) {
            index[j] = (int32_t)((r * 7 + (j - row_start[r]) * 5) % N);
            row_of[j] = r;
        }
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < D; i++) {
            double sum = bias[i];
            for (int64_t j = row_start[r]; j < row_start[r + 1]; j++) sum += (double)value[j] * w[index[j] * D + i];
            decoded[r * D + i] = (float)sum;
        }
        for (int64_t j = row_start[r]; j < row_start[r + 1]; j++) {
            double dot = 0;
            for (int i = 0; i < D; i++) {
                dot += (double)g[r * D + i] * w[index[j] * D + i];
                outer[index[j] * D + i] += value[j] * g[r * D + i];
            }
            dots[j] = (float)dot;
        }
    }
    int at = 0;
    for (int n = 0; n < N; n++) {
        start[n] = at;
        for (int e = 0; e < ROWS * K; e++)
            if (index[e] == n) {
                rows[at] = row_of[e];
                coefficient[at++] = value[e];
            }
    }
    start[N] = at;
    float *dw = put(w, N * D), *dg = put(g, ROWS * D), *dv = put(value, ROWS * K), *db = put(bias, D);
    float *out = put(NULL, N * D + ROWS * K);
    int32_t *di = put_bytes(index, sizeof index);
    CHECK_OK(b->ops->sparse_decode(b, out, db, false, row_start, di, dv, ROWS, dw, D));
    get(got, out, ROWS * D);
    CHECK(relative_error(got, decoded, ROWS * D) < f32_tolerance);
    check_split_rows(got, row_start, di, dv, dw, db);
    CHECK_OK(b->ops->sparse_dot(b, out, dg, row_start, di, ROWS, dw, D, NULL));
    get(got, out, ROWS * K);
    CHECK(relative_error(got, dots, ROWS * K) < f32_tolerance);
    mw_latent_lists lists = {N, at, put_bytes(start, sizeof start), put_bytes(rows, sizeof rows), put(coefficient, at)};
    CHECK_OK(b->ops->sparse_outer(b, out, &lists, dg, D));
    get(got, out, N * D);
    CHECK(relative_error(got, outer, N * D) < f32_tolerance);
    void *device[] = {dw, dg, dv, db, out, di, lists.start, lists.row, lists.coefficient};
    for (int i = 0; i < 9; i++) b->ops->free(b, device[i]);
    void *host[] = {w, g, value, bias};
    for (int i = 0; i < 4; i++) mw_free(host[i]);
}

/* Widths are multiples of four and others, below a warp and above a thread block. */
static void sparse_products(void) {
    static const int widths[] = {19, 20, 1, 4, 300, D_MAX, D_MAX - 3};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        D = widths[i];
        check_sparse_products();
    }
}

/* One latent has most entries, another none: sums are cut into runs, and partial sums added. */
static void long_lists(void) {
    enum { LATENTS = 5, ENTRIES = 1500, ROW_COUNT = 40 };
    static const int64_t start[LATENTS + 1] = {0, 3, 1203, 1203, 1331, ENTRIES};
    static const int widths[] = {6, 8};
    float *x = numbers(ROW_COUNT * 8, 1), *coefficient = numbers(ENTRIES, 2), got[LATENTS * 8];
    int32_t row[ENTRIES];
    for (int e = 0; e < ENTRIES; e++) row[e] = (e * 17 + 5) % ROW_COUNT;
    mw_latent_lists lists = {LATENTS, ENTRIES, put_bytes(start, sizeof start), put_bytes(row, sizeof row),
                             put(coefficient, ENTRIES)};
    float *dx = put(x, ROW_COUNT * 8), *out = put(NULL, LATENTS * 8);
    for (int w = 0; w < 2; w++) {
        int d = widths[w];
        CHECK_OK(b->ops->sparse_outer(b, out, &lists, dx, d));
        get(got, out, LATENTS * d);
        for (int i = 0; i < LATENTS; i++)
            for (int c = 0; c < d; c++) {
                double sum = 0, size = 0;
                for (int64_t e = start[i]; e < start[i + 1]; e++) {
                    sum += (double)coefficient[e] * x[row[e] * d + c];
                    size += fabs((double)coefficient[e] * x[row[e] * d + c]);
                }
                CHECK(fabs(got[i * d + c] - sum) <= 1e-6 * size); /* the largest error of sums of a thousand floats */
            }
    }
    void *device[] = {dx, out, lists.start, lists.row, lists.coefficient}, *host[] = {x, coefficient};
    for (int i = 0; i < 5; i++) b->ops->free(b, device[i]);
    for (int i = 0; i < 2; i++) mw_free(host[i]);
}

/* adam with `unit` gives the same as unit_rows and adam, and leaves the gradients unchanged. */
static void adam_with_unit_rows(const float *p, const float *g, const float *m, const float *v, const mw_adam *how,
                                float *unit, float *tangent, int64_t rows, int64_t d) {
    int64_t n = rows * d;
    float *dp = put(p, n), *dg = put(g, n), *dm = put(m, n), *dv = put(v, n);
    float *m2 = put(m, n), *v2 = put(v, n), *expected = mw_alloc((size_t)n * 4), *got = mw_alloc((size_t)n * 4);
    mw_adam together = *how;
    together.unit = true;
    CHECK_OK(b->ops->adam(b, dp, dg, dm, dv, rows, d, &together));
    CHECK_OK(b->ops->adam(b, unit, tangent, m2, v2, rows, d, how));
    float *pairs[][2] = {{dp, unit}, {dm, m2}, {dv, v2}};
    for (int i = 0; i < 3; i++) {
        get(got, pairs[i][0], n);
        get(expected, pairs[i][1], n);
        CHECK(relative_error(got, expected, n) < 1e-6); /* one of the two kernels may fuse products with sums */
    }
    get(got, dg, n);
    CHECK(memcmp(got, g, (size_t)n * 4) == 0);
    void *device[] = {dp, dg, dm, dv, m2, v2};
    for (int i = 0; i < 6; i++) b->ops->free(b, device[i]);
    mw_free(expected);
    mw_free(got);
}

static void adam_and_unit_rows(void) {
    enum { R = 5, D = 1031, N = R * D };
    float *p = numbers(N, 1), *g = numbers(N, 2), *m = numbers(N, 3), *v = numbers(N, 4);
    float *expected = mw_alloc(N * 4), *got = mw_alloc(N * 4);
    double worst = 0;
    for (int i = 0; i < N; i++) v[i] = i < N / 2 ? v[i] * v[i] : 0; /* from 0 the second moment is its new term alone */
    mw_adam adam = {.lr = 0.01f,
                    .beta1 = 0.9f,
                    .beta2 = 0.999f,
                    .one_minus_beta1 = 0.1f,
                    .one_minus_beta2 = 0.001f,
                    .eps = 1e-8f,
                    .correction1 = 0.271f,
                    .correction2 = 0.003f,
                    .grad_scale = 0.5f};
    for (int i = 0; i < N; i++) {
        double h = 0.5 * g[i], m1 = 0.9 * m[i] + 0.1 * h, v1 = 0.999 * v[i] + 0.001 * h * h;
        expected[i] = (float)(p[i] - 0.01 * (m1 / 0.271) / (sqrt(v1 / 0.003) + 1e-8));
    }
    float *dp = put(p, N), *dg = put(g, N), *dm = put(m, N), *dv = put(v, N);
    CHECK_OK(b->ops->adam(b, dp, dg, dm, dv, R, D, &adam));
    get(got, dp, N);
    CHECK(relative_error(got, expected, N) < f32_tolerance);
    get(got, dv, N);
    for (int i = N / 2; i < N; i++) worst = fmax(worst, fabs(got[i] / (0.00025 * g[i] * g[i]) - 1));
    CHECK(worst < 4e-7); /* a few roundings; with 1 - 0.999f it would be off by 1.3e-5 */
    NEED_OK(b->ops->upload(b, dp, p, N * 4));
    CHECK_OK(b->ops->unit_rows(b, dp, dg, R, D));
    get(got, dp, N);
    get(expected, dg, N);
    for (int r = 0; r < R; r++) {
        double norm = 0, along = 0;
        for (int i = 0; i < D; i++) {
            norm += (double)got[r * D + i] * got[r * D + i];
            along += (double)got[r * D + i] * expected[r * D + i];
        }
        CHECK(fabs(sqrt(norm) - 1) < 1e-6);
        CHECK(fabs(along) < 1e-4);
    }
    adam_with_unit_rows(p, g, m, v, &adam, dp, dg, R, D);
    void *device[] = {dp, dg, dm, dv};
    for (int i = 0; i < 4; i++) b->ops->free(b, device[i]);
    void *host[] = {p, g, m, v, expected, got};
    for (int i = 0; i < 6; i++) mw_free(host[i]);
}

/* ---- the table of operations --------------------------------------------------------------------------- */

static void no_operation_is_missing(void) {
#define CHECK_ENTRY(type, operation, ...) CHECK(b->ops->operation != NULL);
    MW_BACKEND_OPERATIONS(CHECK_ENTRY)
#undef CHECK_ENTRY
}

int main(int argc, char **argv) {
    const char *device = argc > 1 ? argv[1] : "cpu";
    if (!test_has_device(device)) return TEST_SKIPPED;
    NEED_OK(mw_backend_open(device, &b));
    RUN(no_operation_is_missing);
    RUN(matrix_products);
    RUN(rows_do_not_depend_on_other_tiles);
    RUN(norms);
    RUN(rotary);
    RUN(activations);
    RUN(activations_do_not_depend_on_their_place);
    RUN(rounding_between_products);
    RUN(rows_and_sums);
    RUN(host_memory_is_free_again);
    RUN(strides_of_one_row);
    RUN(attention);
    RUN(attention_does_not_depend_on_later_rows);
    RUN(attention_keeps_to_what_it_sees);
    RUN(top_k);
    RUN(sparse_products);
    RUN(long_lists);
    RUN(adam_and_unit_rows);
    mw_backend_close(&b);
    return test_end();
}
