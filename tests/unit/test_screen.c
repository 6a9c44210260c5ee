/* Screens on every backend: what they find has the bytes of all dot products (docs/design/screening.md). */
#include "backend/formulas.h"
#include "device.h"

#include <math.h>
#include <string.h>

/* ---- data ------------------------------------------------------------------------------------------------ */

typedef enum kind {
    RANDOM,   /* as random numbers come */
    SPARSE,   /* rows are sums of a few latents and noise */
    HUGE_ROW, /* lengths from 1e-9 to 1e18 */
    HUGE_W,   /* the same of latents */
    DENORMAL, /* below the normal numbers */
    EQUAL,    /* all latents are equal */
    TIES,     /* of few kinds, in turns */
    ZERO,     /* rows or latents of zeros */
    OVERFLOW, /* rows that are infinite in bf16 */
    LARGE_BIAS,
    KINDS
} kind;
static const char *const kind_names[KINDS] = {"random",    "sparse", "huge rows", "huge latents", "denormals",
                                              "all equal", "ties",   "zeros",     "overflow",     "large bias"};

typedef struct problem {
    int64_t rows, n, d;
    float *x, *w, *bias; /* host */
    float *device_x, *device_w, *device_bias;
    float *norm, *error;  /* device */
    uint16_t *w16;        /* device */
    mw_packed *packed[2]; /* in f32, in bf16; NULL: a plain W */
    float *exact;         /* host [rows, n] all dot products, and the bias */
} problem;

static void shape_numbers(problem *p, kind kind) {
    for (int64_t i = 0; i < p->n; i++) {
        float *w = p->w + i * p->d, scale = 1;
        if (kind == HUGE_W) scale = powf(10, (float)(i % 19) - 9);
        if (kind == DENORMAL && i % 3 == 0) scale = 1e-39f;
        if (kind == ZERO && i % 4 == 0) scale = 0;
        if (kind == EQUAL) memcpy(w, p->w, (size_t)p->d * sizeof *w);
        if (kind == TIES) memcpy(w, p->w + i % 5 * p->d, (size_t)p->d * sizeof *w);
        for (int64_t j = 0; j < p->d; j++) w[j] *= scale;
        if (kind == EQUAL || kind == TIES) p->bias[i] = 0.25f;
        if (kind == LARGE_BIAS) p->bias[i] *= 1e6f;
    }
    for (int64_t r = 0; r < p->rows; r++) {
        float *x = p->x + r * p->d, scale = 1;
        if (kind == HUGE_ROW) scale = powf(10, (float)(r % 28) - 9);
        if (kind == DENORMAL && r % 2 == 0) scale = 1e-40f;
        if (kind == ZERO && r % 3 == 0) scale = 0;
        if (kind == OVERFLOW && r % 7 == 0) scale = 3.4e38f;
        for (int64_t j = 0; j < p->d; j++) {
            if (kind == OVERFLOW && r % 7 == 0) x[j] = x[j] > 0 ? 1 : -0.01f;
            if (kind == SPARSE) {
                x[j] *= 0.05f;
                for (int64_t s = 0; s < 5; s++) x[j] += p->w[(r * 31 + s * 17) % p->n * p->d + j];
            }
            x[j] *= scale;
        }
    }
}

/* All dot products of a row, by sparse_dot with an entry for each latent. */
static void compute_exact(problem *p) {
    int64_t count = p->rows * p->n, *start = mw_alloc((size_t)(p->rows + 1) * sizeof *start);
    int32_t *index = mw_alloc((size_t)count * sizeof *index);
    NEED(start && index);
    for (int64_t r = 0; r <= p->rows; r++) start[r] = r * p->n;
    for (int64_t i = 0; i < count; i++) index[i] = (int32_t)(i % p->n);
    int32_t *device_index = put_bytes(index, (size_t)count * sizeof *index);
    float *out = put(NULL, count);
    CHECK_OK(b->ops->sparse_dot(b, out, p->device_x, start, device_index, p->rows, p->device_w, p->d, p->device_bias));
    get(p->exact, out, count);
    b->ops->free(b, out);
    b->ops->free(b, device_index);
    mw_free(start);
    mw_free(index);
}

static problem make_problem(int64_t rows, int64_t n, int64_t d, kind kind) {
    problem p = {
        .rows = rows, .n = n, .d = d, .x = numbers(rows * d, 1), .w = numbers(n * d, 2), .bias = numbers(n, 3)};
    shape_numbers(&p, kind);
    p.exact = mw_alloc((size_t)(rows * n) * sizeof *p.exact);
    p.device_x = put(p.x, rows * d);
    p.device_w = put(p.w, n * d);
    p.device_bias = put(p.bias, n);
    p.norm = put(NULL, n);
    p.error = put(NULL, n);
    p.w16 = put_bytes(NULL, (size_t)(n * d) * 2);
    CHECK_OK(b->ops->convert(b, MW_BF16, p.w16, p.device_w, n * d));
    const mw_matmul like = {.n = n, .k = d, .b = p.device_w, .b_dtype = MW_F32, .ldb = d, .b_transposed = true};
    CHECK_OK(b->ops->pack(b, &like, MW_F32, NULL, &p.packed[0]));
    CHECK_OK(b->ops->pack(b, &like, MW_BF16, NULL, &p.packed[1]));
    compute_exact(&p);
    return p;
}

static void free_problem(problem *p) {
    void *host[] = {p->x, p->w, p->bias, p->exact};
    void *device[] = {p->device_x, p->device_w, p->device_bias, p->norm, p->error, p->w16};
    for (int i = 0; i < 2; i++) b->ops->free_packed(b, p->packed[i]);
    for (int i = 0; i < 4; i++) mw_free(host[i]);
    for (int i = 0; i < 6; i++) b->ops->free(b, device[i]);
}

/* The ways to encode: by dot products, then screens in f32 and bf16, each with a plain and with a packed W. */
enum { WAYS = 5 };

static mw_screen screen_for(const problem *p, int way) {
    bool rounds = way >= 3;
    mw_screen s = {.how = way == 0 ? MW_BY_DOTS : MW_BY_SCREEN,
                   .n = p->n,
                   .d = p->d,
                   .w = p->device_w,
                   .bias = p->device_bias,
                   .packed = way == 2 || way == 4 ? p->packed[rounds] : NULL,
                   .b = rounds ? (const void *)p->w16 : p->device_w,
                   .b_dtype = rounds ? MW_BF16 : MW_F32,
                   .norm = p->norm,
                   .error = p->error};
    if (way) CHECK_OK(b->ops->round_errors(b, p->norm, p->error, s.b_dtype, p->device_w, p->n, p->d));
    return s;
}

/* Emulated devices are slow. */
static bool is_small(void) {
#ifdef MICROW_CUDA_EMULATED
    return !b->ops->host_memory;
#else
    return false;
#endif
}

/* ---- one order of sums ----------------------------------------------------------------------------------- */

/* Entries alone, in fours and in rows with all latents have the same bytes. */
static void dot_products_have_one_order(void) {
    static const int64_t widths[] = {1, 3, 16, 19, 64, 100, 768};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        problem p = make_problem(is_small() ? 2 : 9, 37, widths[w], RANDOM);
        for (int64_t many = 1; many <= 7; many++) {
            int64_t start[] = {0, many};
            float got[7], *out = put(NULL, many);
            for (int64_t r = 0; r < p.rows; r++) {
                int32_t index[7];
                for (int64_t i = 0; i < many; i++) index[i] = (int32_t)(i * 5 + r % 5);
                int32_t *device_index = put_bytes(index, (size_t)many * sizeof *index);
                CHECK_OK(b->ops->sparse_dot(b, out, p.device_x + r * p.d, start, device_index, 1, p.device_w, p.d,
                                            p.device_bias));
                get(got, out, many);
                for (int64_t i = 0; i < many; i++)
                    CHECK(memcmp(&got[i], &p.exact[r * p.n + index[i]], sizeof *got) == 0);
                b->ops->free(b, device_index);
            }
            b->ops->free(b, out);
        }
        for (int64_t r = 0; r < p.rows; r++)
            for (int64_t i = 0; i < p.n; i++) {
                double sum = p.bias[i], size = fabs(sum);
                for (int64_t j = 0; j < p.d; j++) {
                    double one = (double)p.x[r * p.d + j] * p.w[i * p.d + j];
                    sum += one;
                    size += fabs(one);
                }
                /* a chain of additions errs by at most d + 1 roundings of the sum of magnitudes */
                CHECK(fabs(sum - p.exact[r * p.n + i]) <= (double)(p.d + 2) * 0x1p-24 * size);
            }
        free_problem(&p);
    }
}

/* ---- bounds ---------------------------------------------------------------------------------------------- */

/* No pre-activation exceeds its bound, and the bound is no more than twice the slack above it. */
static void check_bounds(const problem *p, int way, int64_t *pairs) {
    const mw_screen s = screen_for(p, way);
    float *out = put(NULL, p->rows * p->n), *norm = put(NULL, 2 * p->rows);
    float *bounds = mw_alloc((size_t)(p->rows * p->n) * sizeof *bounds),
          *host = mw_alloc((size_t)(2 * p->rows + 2 * p->n) * 4);
    NEED(bounds && host);
    CHECK_OK(b->ops->screen_bounds(b, &s, p->device_x, p->rows, out));
    CHECK_OK(b->ops->round_errors(b, norm, norm + p->rows, s.b_dtype, p->device_x, p->rows, p->d));
    get(bounds, out, p->rows * p->n);
    get(host, norm, 2 * p->rows);
    get(host + 2 * p->rows, p->norm, p->n);
    get(host + 2 * p->rows + p->n, p->error, p->n);
    for (int64_t r = 0; r < p->rows; r++) {
        const mw_slack slack = mw_slack_of(host[r], host[p->rows + r], p->d, 0x1p-22f);
        for (int64_t i = 0; i < p->n; i++) {
            double bound = bounds[r * p->n + i], exact = p->exact[r * p->n + i];
            double by =
                (double)slack.x_part * host[2 * p->rows + i] + (double)slack.w_part * host[2 * p->rows + p->n + i];
            double rest = MW_SLACK_RELATIVE * fmax(fabs(bound), fabs(exact));
            if (!isfinite(slack.w_part)) continue;
            if (!(exact <= bound + rest) || !(bound <= exact + 2.01 * by + rest)) {
                printf("row %lld latent %lld way %d: %.9g, bound %.9g, slack %.3g\n", (long long)r, (long long)i, way,
                       exact, bound, by);
                CHECK(false);
                break;
            }
            (*pairs)++;
        }
    }
    b->ops->free(b, out);
    b->ops->free(b, norm);
    mw_free(bounds);
    mw_free(host);
}

static void bounds_hold(void) {
    static const int64_t widths[] = {5, 64, 1, 257, 768};
    int64_t pairs = 0, n = is_small() ? 61 : 1100, rows = is_small() ? 5 : 65;
    for (int k = 0; k < KINDS; k++)
        for (size_t w = 0; w < (is_small() ? 2 : sizeof widths / sizeof *widths); w++) {
            if (k == OVERFLOW) continue;
            problem p = make_problem(rows, n, widths[w], (kind)k);
            for (int way = 1; way < WAYS; way++) check_bounds(&p, way, &pairs);
            free_problem(&p);
        }
    printf("%lld pairs of rows and latents within their bounds\n", (long long)pairs);
}

/* ---- the k largest --------------------------------------------------------------------------------------- */

/* Of equal values the lower latent; NaN and -inf count as no value at all, hence last. */
static bool comes_before(const float *row, int32_t i, int32_t j) {
    float a = row[i] > -INFINITY ? row[i] : -INFINITY, c = row[j] > -INFINITY ? row[j] : -INFINITY;
    return a > c || (a == c && i < j);
}

static void naive_top(const float *row, int64_t n, int64_t k, int32_t *index) {
    int64_t count = 0;
    int32_t *best = mw_alloc((size_t)(k + 1) * sizeof *best);
    NEED(best != NULL);
    for (int32_t i = 0; i < n; i++) {
        int64_t at = count;
        if (count == k && !comes_before(row, i, best[k - 1])) continue;
        while (at > 0 && comes_before(row, i, best[at - 1])) {
            best[at] = best[at - 1];
            at--;
        }
        best[at] = i;
        if (count < k) count++;
    }
    for (int64_t i = 0; i < k; i++) { /* by index */
        int64_t before = 0;
        for (int64_t j = 0; j < k; j++) before += best[j] < best[i];
        index[before] = best[i];
    }
    mw_free(best);
}

static bool has_nan(const problem *p, int64_t r) {
    bool found = false;
    for (int64_t i = 0; i < p->n; i++) found = found || isnan(p->exact[r * p->n + i]);
    return found;
}

static void check_top_k(const problem *p, int64_t k, kind kind) {
    int32_t *expected = mw_alloc((size_t)(p->rows * k) * 4), *index = mw_alloc((size_t)(p->rows * k) * 4);
    float *value = mw_alloc((size_t)(p->rows * k) * 4), *device_value = put(NULL, p->rows * k);
    int32_t *device_index = put_bytes(NULL, (size_t)(p->rows * k) * 4);
    NEED(expected && index && value);
    for (int64_t r = 0; r < p->rows; r++) naive_top(p->exact + r * p->n, p->n, k, expected + r * k);
    for (int way = 0; way < WAYS; way++) {
        const mw_screen s = screen_for(p, way);
        int64_t dots = 0, wrong = 0;
        CHECK_OK(b->ops->screen_top_k(b, &s, p->device_x, p->rows, k, device_index, device_value, &dots));
        NEED_OK(b->ops->download(b, index, device_index, (size_t)(p->rows * k) * 4));
        get(value, device_value, p->rows * k);
        for (int64_t r = 0; r < p->rows; r++)
            for (int64_t j = r * k; j < (r + 1) * k && !has_nan(p, r); j++)
                wrong +=
                    index[j] != expected[j] || memcmp(&value[j], &p->exact[r * p->n + expected[j]], sizeof *value) != 0;
        if (wrong)
            printf("%s, %lld x %lld x %lld, k %lld, way %d: %lld entries differ\n", kind_names[kind],
                   (long long)p->rows, (long long)p->n, (long long)p->d, (long long)k, way, (long long)wrong);
        CHECK(wrong == 0);
        CHECK(way == 0 ? dots == 0 : dots >= p->rows * k && dots <= p->rows * p->n);
        if (kind == EQUAL && way) CHECK(dots == p->rows * p->n);
    }
    b->ops->free(b, device_index);
    b->ops->free(b, device_value);
    mw_free(expected);
    mw_free(index);
    mw_free(value);
}

static void top_k_has_the_bytes_of_all_dot_products(void) {
    static const int64_t sizes[][3] = {{1, 8, 3}, {130, 300, 17}, {3, 5000, 64}, {300, 1030, 100}, {2, 2500, 768}};
    size_t count = is_small() ? 2 : sizeof sizes / sizeof *sizes;
    for (int k = 0; k < KINDS; k++)
        for (size_t s = 0; s < count; s++) {
            int64_t n = sizes[s][1], rows = is_small() && sizes[s][0] > 8 ? 8 : sizes[s][0];
            const int64_t wanted[] = {1, n / 40 + 1, n / 8, n / 8 + 1, n, 4};
            problem p = make_problem(rows, n, sizes[s][2], (kind)k);
            for (size_t i = 0; i < (is_small() ? 3 : sizeof wanted / sizeof *wanted); i++) {
                bool slow = wanted[i] > 700 && rows > 3;
                if (wanted[i] > 0 && wanted[i] <= n && !slow) check_top_k(&p, wanted[i], (kind)k);
            }
            free_problem(&p);
        }
}

/* Rows of one call do not depend on the others of the call, nor on how many there are. */
static void rows_stand_alone(void) {
    enum { ROWS = 150, K = 9 };
    problem p = make_problem(ROWS, is_small() ? 40 : 3000, 40, SPARSE);
    const mw_screen s = screen_for(&p, 4);
    int32_t whole[ROWS * K], alone[K], *index = put_bytes(NULL, sizeof whole);
    float *value = put(NULL, ROWS * K), values[ROWS * K], one[K];
    int64_t dots = 0;
    CHECK_OK(b->ops->screen_top_k(b, &s, p.device_x, 0, K, index, value, &dots)); /* a rank without rows */
    CHECK(dots == 0);
    CHECK_OK(b->ops->screen_top_k(b, &s, p.device_x, ROWS, K, index, value, &dots));
    NEED_OK(b->ops->download(b, whole, index, sizeof whole));
    get(values, value, ROWS * K);
    for (int r = 0; r < ROWS; r += is_small() ? 70 : 7) {
        CHECK_OK(b->ops->screen_top_k(b, &s, p.device_x + r * p.d, 1, K, index, value, &dots));
        NEED_OK(b->ops->download(b, alone, index, sizeof alone));
        get(one, value, K);
        CHECK(memcmp(alone, whole + r * K, sizeof alone) == 0 && memcmp(one, values + r * K, sizeof one) == 0);
    }
    b->ops->free(b, index);
    b->ops->free(b, value);
    free_problem(&p);
}

/* ---- thresholds ------------------------------------------------------------------------------------------ */

/* What passes by its upper bound, decided by dot products, is what passes of all dot products. */
static void check_threshold(const problem *p, int way, const float *floor, float level, float margin) {
    const mw_screen s = screen_for(p, way);
    float *device_floor = floor ? put(floor, p->n) : NULL, *bounds = put(NULL, p->rows * p->n);
    const mw_threshold may = {.floor = device_floor, .level = level, .margin = margin, .upper = true};
    const mw_threshold passes = {.floor = floor, .level = level, .margin = margin};
    const mw_filter filter = {.last = p->n, .level = level, .floor = device_floor, .margin = margin};
    int64_t *start = mw_calloc((size_t)(p->rows + 1), sizeof *start),
            *kept = mw_calloc((size_t)(p->rows + 1), sizeof *kept);
    NEED(start && kept);
    CHECK_OK(b->ops->screen_bounds(b, &s, p->device_x, p->rows, bounds));
    CHECK_OK(b->ops->count_open(b, &may, bounds, p->rows, p->n, start + 1));
    for (int64_t r = 0; r < p->rows; r++) start[r + 1] += start[r];
    int64_t count = start[p->rows];
    float *value = put(NULL, count);
    int32_t *index = put_bytes(NULL, (size_t)count * 4);
    CHECK_OK(b->ops->write_open(b, &may, bounds, p->rows, p->n, start, index, value));
    CHECK_OK(b->ops->sparse_dot(b, value, p->device_x, start, index, p->rows, p->device_w, p->d, p->device_bias));
    CHECK_OK(b->ops->count_kept(b, &filter, start, index, value, p->rows, kept));
    for (int64_t r = 0; r < p->rows; r++) {
        int64_t expected = 0;
        for (int64_t i = 0; i < p->n; i++) expected += mw_is_open(&passes, i, p->exact[r * p->n + i]);
        CHECK(kept[r] == expected);
    }
    void *device[] = {device_floor, bounds, value, index};
    for (int i = 0; i < 4; i++)
        if (device[i]) b->ops->free(b, device[i]);
    mw_free(start);
    mw_free(kept);
}

static void thresholds_pass_the_same(void) {
    for (int k = 0; k < KINDS; k++) {
        if (k == OVERFLOW) continue; /* sums are NaN, for which codes have no rule */
        problem p = is_small() ? make_problem(3, 90, 33, (kind)k) : make_problem(17, 700, 33, (kind)k);
        float *floor = numbers(p.n, 9);
        for (int way = 1; way < WAYS; way++) {
            check_threshold(&p, way, NULL, 0, 0);
            check_threshold(&p, way, NULL, 1.3f, 0);
            check_threshold(&p, way, NULL, p.exact[5], 0);
            check_threshold(&p, way, floor, 0, 0);
            check_threshold(&p, way, p.exact, 0, 0);
            check_threshold(&p, way, floor, 0, 0.7f);
        }
        mw_free(floor);
        free_problem(&p);
    }
}

int main(int argc, char **argv) {
    const char *device = argc > 1 ? argv[1] : "cpu";
    if (!test_has_device(device)) return TEST_SKIPPED;
    NEED_OK(mw_backend_open(device, &b));
    RUN(dot_products_have_one_order);
    RUN(bounds_hold);
    RUN(top_k_has_the_bytes_of_all_dot_products);
    RUN(rows_stand_alone);
    RUN(thresholds_pass_the_same);
    mw_backend_close(&b);
    return test_end();
}
