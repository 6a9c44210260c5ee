/* The other operations of training on every backend, against naive loops: conversions, sums, codes, maps of entries,
 * and copies beside the operations. */
#include "device.h"

#include <pthread.h>

/* Sums in double differ by their order alone; f32 divisions and roots of a device by a few roundings. */
static const double double_tolerance = 1e-12, f32_tolerance = 1e-6;

static double worst_of(const double *got, const double *expected, int64_t n) {
    double worst = 0, scale = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        double e = fabs(got[i] - expected[i]);
        if (!(e <= worst)) worst = e;
        scale = fmax(scale, fabs(expected[i]));
    }
    return worst / scale;
}

static void *fetch(const void *device, size_t bytes) {
    void *host = mw_alloc(bytes ? bytes : 1);
    NEED(host != NULL);
    NEED_OK(b->ops->download(b, host, device, bytes));
    return host;
}

static void drop(void *device) {
    b->ops->free(b, device);
}

/* ---- conversion ---------------------------------------------------------------------------------------- */

/* Conversions give the bits of the host's: ties, overflow, underflow and infinities included. */
static void check_convert(const float *x, const float *dx, int64_t n) {
    static const mw_dtype types[] = {MW_F32, MW_BF16, MW_F16};
    for (int i = 0; i < 3; i++) {
        size_t bytes = (size_t)n * mw_dtype_size(types[i]);
        void *device = put_bytes(NULL, bytes), *expected = mw_alloc(bytes);
        CHECK_OK(b->ops->convert(b, types[i], device, dx, n));
        void *got = fetch(device, bytes);
        NEED_OK(mw_convert_from_f32(types[i], x, n, expected));
        CHECK(memcmp(got, expected, bytes) == 0);
        drop(device);
        mw_free(got);
        mw_free(expected);
    }
}

static void conversions(void) {
    float x[] = {0,         -0.0f,  1.00390625f, 1.01171875f, -1.00390625f, 65504,    65519.9f,
                 65520,     1e30f,  -1e38f,      3.4e38f,     6.1e-5f,      5.96e-8f, 2.9e-8f,
                 -2.99e-8f, 1e-40f, 2049,        2050.9f,     -2051,        INFINITY, -INFINITY};
    int64_t n = sizeof x / sizeof *x;
    float *dx = put(x, n);
    check_convert(x, dx, n);
    drop(dx);
    CHECK_FAILS(MW_ERR_UNSUPPORTED, b->ops->convert(b, MW_I32, NULL, NULL, 0));
}

/* ---- vectors and sums ---------------------------------------------------------------------------------- */

static void vectors(void) {
    enum { R = 71, D = 37, N = R * D };
    float *x = numbers(N, 1), *y = numbers(N, 2), *row = numbers(D, 3), expected[N], got[N];
    float *dx = put(x, N), *dy = put(y, N), *drow = put(row, D), *out = put(NULL, N);
    for (int i = 0; i < N; i++) expected[i] = x[i] - row[i % D];
    CHECK_OK(b->ops->subtract_row(b, out, dx, drow, R, D));
    get(got, out, N);
    CHECK(relative_error(got, expected, N) == 0);
    CHECK_OK(b->ops->subtract_row(b, out, dx, NULL, R, D));
    get(got, out, N);
    CHECK(relative_error(got, x, N) == 0);
    for (int i = 0; i < N; i++) expected[i] = 0.3f * x[i] - 1.7f * y[i];
    CHECK_OK(b->ops->combine(b, out, 0.3f, dx, -1.7f, dy, N));
    get(got, out, N);
    CHECK(relative_error(got, expected, N) < f32_tolerance);
    for (int i = 0; i < N; i++) expected[i] = x[i] * row[i % D];
    CHECK_OK(b->ops->scale_columns(b, out, dx, drow, R, D));
    get(got, out, N);
    CHECK(relative_error(got, expected, N) == 0);
    CHECK_OK(b->ops->combine(b, dy, 2, dy, 0, NULL, N)); /* in place */
    get(got, dy, N);
    for (int i = 0; i < N; i++) CHECK(got[i] == 2 * y[i]);
    check_convert(x, dx, N);
    CHECK_OK(b->ops->transpose(b, out, dx, R, D));
    get(got, out, N);
    for (int i = 0; i < N; i++) CHECK(got[i % D * R + i / D] == x[i]);
    CHECK_OK(b->ops->fill_zero(b, out, (N - 1) * sizeof(float)));
    get(got, out, N);
    for (int i = 0; i < N - 1; i++) CHECK(got[i] == 0);
    CHECK(got[N - 1] == x[N - 1]);
    void *device[] = {dx, dy, drow, out}, *host[] = {x, y, row};
    for (int i = 0; i < 4; i++) drop(device[i]);
    for (int i = 0; i < 3; i++) mw_free(host[i]);
}

static void check_sums(int64_t rows, int64_t d) {
    int64_t tiles = (rows + MW_ROW_TILE - 1) / MW_ROW_TILE, width = d + 1;
    float *x = numbers(rows * d, 1), *dx = put(x, rows * d), *narrow = put(NULL, width);
    double *expected = mw_calloc((size_t)(tiles * width), sizeof *expected), *got;
    double *total = mw_calloc((size_t)width, sizeof *total);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < d; i++) {
            expected[r / MW_ROW_TILE * width + i] += x[r * d + i];
            expected[r / MW_ROW_TILE * width + d] += (double)x[r * d + i] * x[r * d + i];
            total[i] += x[r * d + i];
            total[d] += (double)x[r * d + i] * x[r * d + i];
        }
    double *sums = put_bytes(NULL, (size_t)(tiles * width) * 8), *whole = put_bytes(NULL, (size_t)width * 8);
    CHECK_OK(b->ops->tile_sums(b, sums, dx, rows, d));
    CHECK(worst_of(got = fetch(sums, (size_t)(tiles * width) * 8), expected, tiles * width) < double_tolerance);
    mw_free(got);
    CHECK_OK(b->ops->add_rows(b, whole, sums, tiles, width, false));
    CHECK(worst_of(got = fetch(whole, (size_t)width * 8), total, width) < double_tolerance);
    mw_free(got);
    CHECK_OK(b->ops->narrow(b, narrow, whole, width));
    float *as_float = fetch(narrow, (size_t)width * 4);
    for (int64_t i = 0; i < width; i++) CHECK(fabs(as_float[i] - total[i]) <= 1e-6 * (fabs(total[i]) + 1));
    mw_free(as_float);
    CHECK_OK(b->ops->add_rows(b, whole, sums, tiles, width, true));
    for (int64_t i = 0; i < width; i++) total[i] *= 2;
    CHECK(worst_of(got = fetch(whole, (size_t)width * 8), total, width) < double_tolerance);
    mw_free(got);
    CHECK_OK(b->ops->column_sums(b, whole, dx, rows, d));
    for (int64_t i = 0; i < width; i++) total[i] /= 2;
    CHECK(worst_of(got = fetch(whole, (size_t)width * 8), total, d) < double_tolerance);
    mw_free(got);
    void *device[] = {dx, narrow, sums, whole}, *host[] = {x, expected, total};
    for (int i = 0; i < 4; i++) drop(device[i]);
    for (int i = 0; i < 3; i++) mw_free(host[i]);
}

static void sums_of_rows(void) {
    static const int64_t sizes[][2] = {{1, 1}, {128, 5}, {129, 300}, {500, 37}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_sums(sizes[i][0], sizes[i][1]);
}

static void weighted_and_squares(void) {
    enum { R = 205, D = 41, SPAN = 64, SPANS = 4, N = R * D };
    float *w = numbers(N, 1), *dw = put(w, N);
    double weight[R], expected[SPANS * D] = {0}, squares[SPANS] = {0}, *got;
    for (int i = 0; i < R; i++) weight[i] = i % 3 ? sin(i) : 0;
    for (int i = 0; i < N; i++) {
        expected[i / D / SPAN * D + i % D] -= weight[i / D] * w[i];
        squares[i / (SPAN * D)] += 2.0 * w[i] * w[i];
    }
    double *dweight = put_bytes(weight, sizeof weight), *out = put_bytes(NULL, sizeof expected);
    CHECK_OK(b->ops->weigh_rows(b, out, dweight, dw, R, D, SPAN));
    CHECK(worst_of(got = fetch(out, sizeof expected), expected, SPANS * D) < double_tolerance);
    mw_free(got);
    CHECK_OK(b->ops->square_sums(b, out, dw, N, SPAN * D, false));
    CHECK_OK(b->ops->square_sums(b, out, dw, N, SPAN * D, true));
    CHECK(worst_of(got = fetch(out, sizeof squares), squares, SPANS) < double_tolerance);
    mw_free(got);
    drop(dw);
    drop(dweight);
    drop(out);
    mw_free(w);
}

static void lengths(void) {
    enum { R = 9, D = 301, N = R * D };
    static const int64_t end[3] = {100, 101, D};
    const mw_column_groups groups = {3, end};
    float *w = numbers(N, 1), *g = numbers(N, 2), expected[N], length[R], got[N];
    double weight[R];
    memset(w + 2 * D, 0, 100 * sizeof *w); /* a group of length 0 */
    memcpy(expected, g, sizeof expected);
    for (int r = 0; r < R; r++) {
        double sum = 0;
        weight[r] = cos(r);
        for (int p = 0; p < 3; p++) {
            double square = 0;
            for (int64_t j = p ? end[p - 1] : 0; j < end[p]; j++) square += (double)w[r * D + j] * w[r * D + j];
            sum += sqrt(square);
            for (int64_t j = p ? end[p - 1] : 0; j < end[p] && square > 0; j++)
                expected[r * D + j] += (float)(weight[r] * w[r * D + j] / sqrt(square));
        }
        length[r] = (float)sum;
    }
    float *dw = put(w, N), *dg = put(g, N), *out = put(NULL, R);
    double *dweight = put_bytes(weight, sizeof weight);
    CHECK_OK(b->ops->row_lengths(b, out, dw, R, D, &groups));
    get(got, out, R);
    CHECK(relative_error(got, length, R) < f32_tolerance);
    CHECK_OK(b->ops->add_directions(b, dg, dweight, dw, R, D, &groups));
    get(got, dg, N);
    CHECK(relative_error(got, expected, N) < f32_tolerance);
    void *device[] = {dw, dg, out, dweight}, *host[] = {w, g};
    for (int i = 0; i < 4; i++) drop(device[i]);
    for (int i = 0; i < 2; i++) mw_free(host[i]);
}

/* ---- making codes -------------------------------------------------------------------------------------- */

static bool opens(const mw_threshold *how, const float *floor, int64_t i, float x) {
    float at = floor ? floor[i] : how->level;
    return how->margin > 0 ? fabsf(x - at) < how->margin : x > at;
}

static void check_opening(int64_t rows, int64_t n, bool floors, float margin, bool labelled) {
    float *x = numbers(rows * n, 1), *floor = numbers(n, 2);
    int32_t *labels = mw_alloc((size_t)(rows * n) * 4);
    for (int64_t i = 0; i < rows * n; i++) labels[i] = (int32_t)(7 * i % 1009);
    if (n > 2) x[2] = NAN;
    float *dx = put(x, rows * n), *dfloor = put(floor, n), *value = put(NULL, rows * n + 3);
    int32_t *dlabels = put_bytes(labels, (size_t)(rows * n) * 4), *index = put_bytes(NULL, (size_t)(rows * n + 3) * 4);
    mw_threshold how = {
        .floor = floors ? dfloor : NULL, .level = 0.4f, .margin = margin, .labels = labelled ? dlabels : NULL};
    int64_t *count = mw_alloc((size_t)rows * 8), *start = mw_alloc((size_t)(rows + 1) * 8);
    CHECK_OK(b->ops->count_open(b, &how, dx, rows, n, count));
    start[0] = 3; /* starts need not begin at 0 */
    for (int64_t r = 0; r < rows; r++) start[r + 1] = start[r] + count[r];
    CHECK_OK(b->ops->write_open(b, &how, dx, rows, n, start, index, value));
    int32_t *got_index = fetch(index, (size_t)(rows * n + 3) * 4);
    float *got = fetch(value, (size_t)(rows * n + 3) * 4);
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = start[r];
        for (int64_t i = 0; i < n; i++) {
            if (!opens(&how, floors ? floor : NULL, i, x[r * n + i])) continue;
            CHECK(at < start[r + 1] && got_index[at] == (labelled ? labels[r * n + i] : i) && got[at] == x[r * n + i]);
            at++;
        }
        CHECK(at == start[r + 1]);
    }
    void *device[] = {dx, dfloor, value, dlabels, index}, *host[] = {x, floor, labels, count, start, got_index, got};
    for (int i = 0; i < 5; i++) drop(device[i]);
    for (int i = 0; i < 7; i++) mw_free(host[i]);
}

static void opening(void) {
    static const int64_t sizes[][2] = {{1, 1}, {7, 300}, {3, 1025}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int how = 0; how < 8; how++) check_opening(sizes[i][0], sizes[i][1], how & 1, how & 2 ? 0.3f : 0, how & 4);
}

static void picking(void) {
    enum { R = 13, K = 7, N = 50 };
    int32_t index[R * K], table[R * N];
    for (int i = 0; i < R * K; i++) index[i] = i * 11 % N;
    for (int i = 0; i < R * N; i++) table[i] = i * 3;
    int32_t *dindex = put_bytes(index, sizeof index), *dtable = put_bytes(table, sizeof table);
    CHECK_OK(b->ops->pick(b, dindex, dtable, N, R, K));
    int32_t *got = fetch(dindex, sizeof index);
    for (int i = 0; i < R * K; i++) CHECK(got[i] == table[i / K * N + index[i]]);
    mw_free(got);
    NEED_OK(b->ops->upload(b, dindex, index, sizeof index));
    CHECK_OK(b->ops->pick(b, dindex, dtable, 0, R, K)); /* one table for all rows */
    got = fetch(dindex, sizeof index);
    for (int i = 0; i < R * K; i++) CHECK(got[i] == table[index[i]]);
    mw_free(got);
    drop(dindex);
    drop(dtable);
}

/* ---- by latent ----------------------------------------------------------------------------------------- */

/* Codes of `rows` rows: some empty, and latent 5 in most of them. */
static int64_t make_codes(int64_t rows, int64_t n, int64_t most, int64_t base, int64_t *start, int32_t *index) {
    int64_t at = base;
    for (int64_t r = 0; r < rows; r++) {
        start[r] = at;
        int64_t k = r % 5 == 3 ? 0 : most;
        for (int64_t j = 0, latent = r % 3; j < k && latent < n; j++, latent += 1 + (r * j) % 4)
            index[at++] = (int32_t)latent;
    }
    start[rows] = at;
    return at;
}

static void check_lists(int64_t rows, int64_t n, int64_t most, int64_t first, int64_t count, int64_t d) {
    int64_t *start[2] = {mw_alloc((size_t)(rows + 1) * 8), mw_alloc((size_t)(rows + 1) * 8)};
    int32_t *index = mw_alloc((size_t)(2 * rows * most + 9) * 4);
    int64_t middle = make_codes(rows, n, most, 2, start[0], index),
            end = make_codes(rows, n, most - 1, middle, start[1], index);
    float *coefficient = numbers(end, 3), *dcoefficient = put(coefficient, end), *x = numbers(2 * rows * d, 4),
          *dx = put(x, 2 * rows * d);
    int32_t *dindex = put_bytes(index, (size_t)end * 4);
    mw_code_run runs[2];
    for (int i = 0; i < 2; i++) runs[i] = (mw_code_run){rows, i * rows, start[i], dindex, dcoefficient};
    mw_latent_lists lists = {.n = count, .capacity = end - 2};
    lists.start = put_bytes(NULL, (size_t)(count + 1) * 8);
    lists.row = put_bytes(NULL, (size_t)end * 4);
    lists.coefficient = put(NULL, end);
    float *out = put(NULL, count * d), *expected = mw_calloc((size_t)(count * d + 1), 4);
    double *sums = put_bytes(NULL, (size_t)count * 8), *expected_sums = mw_calloc((size_t)count, 8);
    CHECK_OK(b->ops->list_latents(b, runs, 2, first, &lists));
    CHECK_OK(b->ops->list_sums(b, sums, &lists));
    CHECK_OK(b->ops->sparse_outer(b, out, &lists, dx, d));
    int64_t *got_start = fetch(lists.start, (size_t)(count + 1) * 8), at = 0;
    int32_t *got_row = fetch(lists.row, (size_t)end * 4);
    float *got = fetch(lists.coefficient, (size_t)end * 4), *product = fetch(out, (size_t)(count * d) * 4);
    double *got_sums = fetch(sums, (size_t)count * 8);
    for (int64_t i = 0; i < count; i++) {
        CHECK(got_start[i] == at);
        for (int run = 0; run < 2; run++)
            for (int64_t r = 0; r < rows; r++)
                for (int64_t j = start[run][r]; j < start[run][r + 1]; j++) {
                    if (index[j] != first + i) continue;
                    CHECK(got_row[at] == run * rows + r && got[at] == coefficient[j]);
                    at++;
                    expected_sums[i] += coefficient[j];
                    for (int64_t c = 0; c < d; c++) expected[i * d + c] += coefficient[j] * x[(run * rows + r) * d + c];
                }
    }
    CHECK(got_start[count] == at);
    CHECK(worst_of(got_sums, expected_sums, count) < double_tolerance);
    CHECK(relative_error(product, expected, count * d) < 2e-5); /* sums of some hundred terms in f32 */
    void *device[] = {dcoefficient, dx, dindex, lists.start, lists.row, lists.coefficient, out, sums};
    for (int i = 0; i < 8; i++) drop(device[i]);
    void *host[] = {start[0],      start[1],  index,   coefficient, x,       expected,
                    expected_sums, got_start, got_row, got,         product, got_sums};
    for (int i = 0; i < 12; i++) mw_free(host[i]);
}

static void listing(void) {
    check_lists(1, 1, 2, 0, 1, 1);
    check_lists(40, 33, 5, 0, 33, 19);
    check_lists(600, 50, 6, 0, 50, 7);  /* latents with more entries than a run of a thread block */
    check_lists(600, 300, 6, 10, 3, 5); /* a shard with few of the entries */
    check_lists(30, 40, 3, 35, 5, 300); /* a shard without entries */
}

static int descending(const void *x, const void *y) {
    float p = *(const float *)x, q = *(const float *)y;
    return p < q ? 1 : p > q ? -1 : 0;
}

/* Selects from a row of a million latents, and lists a few hundred codes of them. */
static void a_million(void) {
    enum { N = 1000000, K = 50, ROWS = 7, ENTRIES = ROWS * K };
    float *x = numbers(N, 1), *sorted = numbers(N, 1), *dx = put(x, N), *value = put(NULL, K), got[K];
    int32_t *index = put_bytes(NULL, K * 4), *codes = mw_alloc(ENTRIES * 4);
    CHECK_OK(b->ops->top_k(b, dx, 1, N, K, index, value));
    int32_t *selected = fetch(index, K * 4);
    get(got, value, K);
    qsort(sorted, N, sizeof *sorted, descending);
    for (int i = 0; i < K; i++)
        CHECK(selected[i] >= 0 && selected[i] < N && got[i] == x[selected[i]] && got[i] >= sorted[K - 1] &&
              (i == 0 || selected[i] > selected[i - 1]));
    int64_t row[ROWS + 1];
    for (int i = 0; i <= ROWS; i++) row[i] = i * K;
    for (int i = 0; i < ENTRIES; i++) codes[i] = (int32_t)(i * 2654435761u % N);
    codes[ENTRIES - 1] = N - 1;
    int32_t *dcodes = put_bytes(codes, ENTRIES * 4);
    mw_latent_lists lists = {.n = N, .capacity = ENTRIES};
    lists.start = put_bytes(NULL, (N + 1) * 8);
    lists.row = put_bytes(NULL, ENTRIES * 4);
    lists.coefficient = put(NULL, ENTRIES);
    const mw_code_run run = {ROWS, 0, row, dcodes, dx};
    CHECK_OK(b->ops->list_latents(b, &run, 1, 0, &lists));
    int64_t *start = fetch(lists.start, (N + 1) * 8), wrong = 0;
    float *coefficient = fetch(lists.coefficient, ENTRIES * 4);
    for (int i = 0; i < ENTRIES; i++) {
        bool found = false;
        for (int64_t e = start[codes[i]]; e < start[codes[i] + 1]; e++) found = found || coefficient[e] == x[i];
        wrong += !found;
    }
    CHECK(wrong == 0 && start[0] == 0 && start[N] == ENTRIES);
    void *device[] = {dx, value, index, dcodes, lists.start, lists.row, lists.coefficient};
    void *host[] = {x, sorted, selected, codes, start, coefficient};
    for (int i = 0; i < 7; i++) drop(device[i]);
    for (int i = 0; i < 6; i++) mw_free(host[i]);
}

static void firing(void) {
    enum { N = 777, ENTRIES = 300 };
    int64_t since[N], expected[N], count = 0, positive = 0, found = 0;
    int32_t index[ENTRIES];
    float *value = numbers(ENTRIES, 9);
    for (int i = 0; i < N; i++) expected[i] = (since[i] = i % 50) + 8;
    for (int j = 0; j < ENTRIES; j++) {
        index[j] = j * 31 % N;
        if (value[j] > 0.1f) expected[index[j]] = 0;
        positive += value[j] > 0;
    }
    int64_t *dsince = put_bytes(since, sizeof since);
    int32_t *dindex = put_bytes(index, sizeof index), *silent = put_bytes(NULL, N * 4);
    float *dvalue = put(value, ENTRIES);
    CHECK_OK(b->ops->mark_fired(b, dsince, N, 8, dindex, dvalue, ENTRIES, 0.1f));
    int64_t *got = fetch(dsince, sizeof since);
    CHECK(memcmp(got, expected, sizeof since) == 0);
    CHECK_OK(b->ops->list_silent(b, dsince, N, 30, silent, &count));
    int32_t *list = fetch(silent, N * 4);
    for (int i = 0; i < N; i++)
        if (expected[i] > 30) CHECK(found < count && list[found++] == i);
    CHECK(found == count);
    CHECK_OK(b->ops->list_silent(b, dsince, N, 1000, silent, &count));
    CHECK(count == 0);
    CHECK_OK(b->ops->count_positive(b, dvalue, ENTRIES, &count));
    CHECK(count == positive);
    CHECK_OK(b->ops->raise_silent(b, dvalue, dsince, ENTRIES, 30, 0.75f));
    float *raised = fetch(dvalue, ENTRIES * sizeof *raised);
    for (int i = 0; i < ENTRIES; i++) CHECK(raised[i] == value[i] + (expected[i] > 30 ? 0.75f : 0));
    void *device[] = {dsince, dindex, silent, dvalue}, *host[] = {value, got, list, raised};
    for (int i = 0; i < 4; i++) drop(device[i]);
    for (int i = 0; i < 4; i++) mw_free(host[i]);
}

/* ---- entries of codes ---------------------------------------------------------------------------------- */

enum { K_ROWS = 67, K_MOST = 300, K_LATENTS = 50 };

/* Rows of 0 to K_MOST entries, with so few different values that many are equal. */
typedef struct some_codes {
    int64_t start[K_ROWS + 1], entries;
    int32_t *index, *device_index;
    float *value, *device_value;
} some_codes;

static some_codes some_new_codes(void) {
    some_codes c = {0};
    for (int r = 0; r < K_ROWS; r++) c.start[r + 1] = c.start[r] + (r * 37 + 5) % K_MOST;
    c.entries = c.start[K_ROWS];
    c.value = numbers(c.entries, 21);
    NEED((c.index = mw_alloc((size_t)c.entries * sizeof *c.index)) != NULL);
    for (int64_t j = 0; j < c.entries; j++) {
        c.index[j] = (int32_t)((j * 31 + 7) % K_LATENTS);
        c.value[j] = roundf(c.value[j] * 4) / 4;
    }
    c.device_index = put_bytes(c.index, (size_t)c.entries * sizeof *c.index);
    c.device_value = put(c.value, c.entries);
    return c;
}

static void free_some_codes(some_codes *c) {
    drop(c->device_index);
    drop(c->device_value);
    mw_free(c->index);
    mw_free(c->value);
}

static void check_kept(const some_codes *c, const mw_filter *how) {
    int64_t count[K_ROWS], start[K_ROWS + 1] = {3}, at = 3; /* the caller chooses where the first row begins */
    CHECK_OK(b->ops->count_kept(b, how, c->start, c->device_index, c->device_value, K_ROWS, count));
    for (int r = 0; r < K_ROWS; r++) start[r + 1] = start[r] + count[r];
    int32_t *to_index = put_bytes(NULL, (size_t)(start[K_ROWS] + 1) * 4), *index;
    float *to_value = put(NULL, start[K_ROWS] + 1), *value;
    CHECK_OK(b->ops->write_kept(b, how, c->start, c->device_index, c->device_value, K_ROWS, start, to_index, to_value));
    index = fetch(to_index, (size_t)start[K_ROWS] * 4);
    value = fetch(to_value, (size_t)start[K_ROWS] * 4);
    for (int r = 0; r < K_ROWS; r++) {
        int64_t equals = how->equals ? how->equals[r] : 0;
        CHECK(at == start[r]);
        for (int64_t j = c->start[r]; j < c->start[r + 1]; j++) {
            bool in = c->index[j] >= how->first && c->index[j] < how->last;
            if (!in || (how->below ? c->value[j] >= how->level : c->value[j] < how->level)) continue;
            if (c->value[j] == how->level && equals-- <= 0) continue;
            CHECK(at < start[K_ROWS] && index[at] == c->index[j] && value[at] == c->value[j]);
            at++;
        }
    }
    CHECK(at == start[K_ROWS]);
    drop(to_index);
    drop(to_value);
    mw_free(index);
    mw_free(value);
}

static void keeping(void) {
    some_codes c = some_new_codes();
    int64_t equals[K_ROWS];
    for (int r = 0; r < K_ROWS; r++) equals[r] = r % 5 == 4 ? INT64_MAX : r % 5;
    check_kept(&c, &(mw_filter){.first = 0, .last = K_LATENTS, .level = -INFINITY});
    check_kept(&c, &(mw_filter){.first = 0, .last = K_LATENTS, .level = INFINITY});
    check_kept(&c, &(mw_filter){.first = 10, .last = 31, .level = 0});
    check_kept(&c, &(mw_filter){.first = -20, .last = 5, .level = -0.5f, .equals = equals});
    check_kept(&c, &(mw_filter){.first = 0, .last = K_LATENTS, .level = 0.25f, .equals = equals});
    check_kept(&c, &(mw_filter){.first = 0, .last = K_LATENTS, .level = 0.25f, .below = true});
    check_kept(&c, &(mw_filter){.first = 10, .last = 31, .level = INFINITY, .below = true});
    check_kept(&c, &(mw_filter){.first = 0, .last = K_LATENTS, .level = -INFINITY, .below = true});
    free_some_codes(&c);
}

static void digits(void) {
    some_codes c = some_new_codes();
    int64_t counts[256];
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t expected[256] = {0};
        int most = 0;
        for (int64_t j = 0; j < c.entries; j++) {
            uint32_t bits;
            memcpy(&bits, &c.value[j], sizeof bits);
            if ((bits & mask) == prefix) expected[bits >> shift & 255]++;
        }
        CHECK_OK(b->ops->count_digits(b, c.device_value, c.entries, prefix, mask, shift, counts));
        for (int i = 0; i < 256; i++) {
            CHECK(counts[i] == expected[i]);
            if (counts[i] > counts[most]) most = i;
        }
        prefix |= (uint32_t)most << shift;
        mask |= UINT32_C(255) << shift;
    }
    CHECK_OK(b->ops->count_digits(b, c.device_value, 0, 0, 0, 0, counts));
    CHECK(counts[0] == 0);
    free_some_codes(&c);
}

static double slope_of(double c, double z, double s) {
    return (tanh(c * (z + 1e-5) * s) - tanh(c * (z - 1e-5) * s)) / 2e-5;
}

/* The formulas of the comments of mw_entry_function. */
static double expected_map(const mw_entry_map *how, const float *table, double x, int64_t i, double z) {
    double t0 = table[i], t1 = table[K_LATENTS + i], t2 = table[2 * K_LATENTS + i], y = z > t1 ? z : 0;
    switch (how->map) {
    case MW_MAP_ADD:
        return x + how->a * (how->table[0] ? t0 : 1);
    case MW_MAP_TIMES:
        return x * z;
    case MW_MAP_GATE:
        return z > 0 ? exp(t0) * x : 0;
    case MW_MAP_MAGNITUDE:
        return fmax(exp(t0) * (z - t1) + t2, 0);
    case MW_MAP_TANH:
        return tanh(how->c * z * t0);
    case MW_MAP_ADD_SLOPE:
        return x + how->a * slope_of(how->c, z, t0);
    case MW_MAP_EDGE:
        return t1 * (x + (how->table[0] ? how->a * slope_of(how->c, y, t0) : 0)) + how->b;
    }
    return 0;
}

/* Difference quotients err by the square of their step, and by 1e-16 over their step. */
static void check_map(const some_codes *c, const float *table, const float *x, mw_entry_map how,
                      const float *device_tables) {
    float *out = put(x, c->entries), *got = numbers(c->entries, 1);
    for (int i = 0; i < 3; i++) how.table[i] = how.table[i] ? device_tables + i * K_LATENTS : NULL;
    CHECK_OK(b->ops->map_entries(b, &how, out, c->device_index, c->device_value, c->entries));
    get(got, out, c->entries);
    for (int64_t j = 0; j < c->entries; j++) {
        double expected = expected_map(&how, table, x[j], c->index[j], c->value[j]);
        CHECK(fabs(got[j] - expected) <= 4e-7 * (1 + fabs(expected) + fabs(x[j])));
    }
    drop(out);
    mw_free(got);
}

static void maps(void) {
    some_codes c = some_new_codes();
    float *table = numbers(3 * K_LATENTS, 23), *x = numbers(c.entries, 24), *device_tables = put(table, 3 * K_LATENTS);
    const float *t = table;
    check_map(&c, table, x, (mw_entry_map){.map = MW_MAP_ADD, .a = 0.7}, device_tables);
    check_map(&c, table, x, (mw_entry_map){.map = MW_MAP_ADD, .a = 0.7, .table = {t}}, device_tables);
    check_map(&c, table, x, (mw_entry_map){.map = MW_MAP_TIMES}, device_tables);
    check_map(&c, table, x, (mw_entry_map){.map = MW_MAP_GATE, .table = {t}}, device_tables);
    check_map(&c, table, x, (mw_entry_map){.map = MW_MAP_MAGNITUDE, .table = {t, t, t}}, device_tables);
    check_map(&c, table, x, (mw_entry_map){.map = MW_MAP_TANH, .c = 1.5, .table = {t}}, device_tables);
    check_map(&c, table, x, (mw_entry_map){.map = MW_MAP_ADD_SLOPE, .a = 0.3, .c = 1.5, .table = {t}}, device_tables);
    check_map(&c, table, x, (mw_entry_map){.map = MW_MAP_EDGE, .b = 0.2, .table = {NULL, t}}, device_tables);
    check_map(&c, table, x, (mw_entry_map){.map = MW_MAP_EDGE, .a = 0.3, .b = 0.2, .c = 1.5, .table = {t, t}},
              device_tables);
    drop(device_tables);
    mw_free(x);
    mw_free(table);
    free_some_codes(&c);
}

/* This process has the third of 4 shards of WIDTH latents. */
static void picking_ones_own(void) {
    enum { R = 9, K = 5, WIDTH = 6, FIRST = 12 };
    int32_t index[R * K], table[R * WIDTH];
    float value[R * K];
    for (int i = 0; i < R * WIDTH; i++) table[i] = 1000 + i;
    for (int i = 0; i < R * K; i++) {
        index[i] = (i * 7 + 3) % (4 * WIDTH);
        value[i] = (float)(i + 1);
    }
    int32_t *device_index = put_bytes(index, sizeof index), *device_table = put_bytes(table, sizeof table);
    float *device_value = put(value, R * K);
    CHECK_OK(b->ops->pick_own(b, device_index, device_value, device_table, FIRST, WIDTH, R, K));
    int32_t *got = fetch(device_index, sizeof index);
    float *kept = fetch(device_value, sizeof value);
    for (int i = 0; i < R * K; i++) {
        bool own = index[i] >= FIRST && index[i] < FIRST + WIDTH;
        CHECK(got[i] == (own ? table[i / K * WIDTH + index[i] - FIRST] : 0));
        CHECK(kept[i] == (own ? value[i] : 0));
    }
    void *device[] = {device_index, device_table, device_value}, *host[] = {got, kept};
    for (int i = 0; i < 3; i++) drop(device[i]);
    for (int i = 0; i < 2; i++) mw_free(host[i]);
}

/* ---- copies beside the work ---------------------------------------------------------------------------- */

enum { LONG = 1 << 16 };

static float *host_block(void) {
    void *block = NULL;
    NEED_OK(b->ops->host_alloc(b, LONG * sizeof(float), &block));
    memset(block, 0xff, LONG * sizeof(float));
    return block;
}

static bool all_are(const float *x, float value) {
    for (int i = 0; i < LONG; i++)
        if (x[i] != value) return false;
    return true;
}

/* Each slot gets the result of the operations before its fetch, while later operations change another array. */
static void copies_from_the_device(void) {
    float one = 1, *row = put(&one, 1), *x = put(NULL, LONG), *copy[MW_COPY_SLOTS], *host[MW_COPY_SLOTS];
    for (int slot = 0; slot < MW_COPY_SLOTS; slot++) {
        host[slot] = host_block();
        copy[slot] = put(NULL, LONG);
    }
    CHECK_OK(b->ops->fill_zero(b, x, LONG * sizeof *x));
    for (int slot = 0; slot < MW_COPY_SLOTS; slot++) {
        CHECK_OK(b->ops->subtract_row(b, copy[slot], x, row, LONG, 1));
        CHECK_OK(b->ops->fetch(b, slot, host[slot], copy[slot], LONG * sizeof *x));
        CHECK_OK(b->ops->subtract_row(b, x, copy[slot], row, LONG, 1));
    }
    for (int slot = 0; slot < MW_COPY_SLOTS; slot++) {
        CHECK_OK(b->ops->fetched(b, slot));
        CHECK(all_are(host[slot], slot == 0 ? -1 : -3)); /* 0 - 1, and -2 - 1 */
    }
    for (int slot = 0; slot < MW_COPY_SLOTS; slot++) {
        b->ops->host_free(b, host[slot]);
        drop(copy[slot]);
    }
    drop(x);
    drop(row);
}

typedef struct sent {
    float *to;
    const float *from;
    mw_status status;
} sent;

static void *send_numbers(void *self) {
    sent *s = self;
    s->status = b->ops->send(b, s->to, s->from, LONG * sizeof *s->to);
    return NULL;
}

/* Operations before the mark read the old numbers, operations after the copy the new ones; a thread copies
 * meanwhile. */
static void copies_to_the_device(void) {
    float *x = put(NULL, LONG), *old = put(NULL, LONG), *new = put(NULL, LONG), *from = host_block(),
          *got = host_block();
    pthread_t thread;
    CHECK_OK(b->ops->fill_zero(b, x, LONG * sizeof *x));
    for (int i = 0; i < LONG; i++) from[i] = 7;
    CHECK_OK(b->ops->combine(b, old, 1, x, 0, NULL, LONG));
    CHECK_OK(b->ops->mark(b));
    sent s = {.to = x, .from = from};
    NEED(pthread_create(&thread, NULL, send_numbers, &s) == 0);
    CHECK_OK(b->ops->combine(b, new, 2, old, 0, NULL, LONG)); /* runs beside the copy */
    pthread_join(thread, NULL);
    CHECK_OK(s.status);
    CHECK_OK(b->ops->combine(b, new, 1, x, 1, new, LONG));
    get(got, old, LONG);
    CHECK(all_are(got, 0));
    get(got, new, LONG);
    CHECK(all_are(got, 7));
    b->ops->host_free(b, from);
    b->ops->host_free(b, got);
    drop(x);
    drop(old);
    drop(new);
}

/* The host may change its arrays when a call returns, after any number of calls since the last wait for the device. */
static void arrays_are_taken_at_once(void) {
    enum { ROWS = 1 << 17, TIMES = 20, TABLE = 16 };
    int32_t *index = mw_alloc(ROWS * sizeof *index);
    float table[TABLE], *device_table, *out[TIMES], *got = numbers(ROWS, 1);
    NEED(index != NULL);
    for (int i = 0; i < TABLE; i++) table[i] = (float)i;
    device_table = put(table, TABLE);
    for (int i = 0; i < TIMES; i++) out[i] = put(NULL, ROWS);
    for (int i = 0; i < TIMES; i++) {
        for (int r = 0; r < ROWS; r++) index[r] = (r + i) % TABLE;
        CHECK_OK(b->ops->gather_rows(b, out[i], device_table, MW_F32, index, ROWS, 1, 1, false));
    }
    for (int i = 0; i < TIMES; i++) {
        int wrong = 0;
        get(got, out[i], ROWS);
        for (int r = 0; r < ROWS; r++) wrong += got[r] != (float)((r + i) % TABLE);
        CHECK(wrong == 0);
        drop(out[i]);
    }
    drop(device_table);
    mw_free(index);
    mw_free(got);
}

/* Closing waits for all operations: copies still read the backend's host memory. */
static void closed_with_work_to_do(const char *device) {
    enum { ROWS = 1 << 12 };
    mw_backend *other = NULL;
    void *table = NULL, *out = NULL;
    int32_t index[ROWS] = {0};
    NEED_OK(mw_backend_open(device, &other));
    NEED_OK(other->ops->alloc(other, sizeof(float), &table));
    NEED_OK(other->ops->alloc(other, ROWS * sizeof(float), &out));
    CHECK_OK(other->ops->fill_zero(other, table, sizeof(float)));
    CHECK_OK(other->ops->gather_rows(other, out, table, MW_F32, index, ROWS, 1, 1, false));
    other->ops->free(other, table);
    other->ops->free(other, out);
    mw_backend_close(&other);
    CHECK(other == NULL);
}

int main(int argc, char **argv) {
    const char *device = argc > 1 ? argv[1] : "cpu";
    if (!test_has_device(device)) return TEST_SKIPPED;
    NEED_OK(mw_backend_open(device, &b));
    RUN(conversions);
    RUN(vectors);
    RUN(sums_of_rows);
    RUN(weighted_and_squares);
    RUN(lengths);
    RUN(opening);
    RUN(picking);
    RUN(listing);
    RUN(a_million);
    RUN(firing);
    RUN(keeping);
    RUN(digits);
    RUN(maps);
    RUN(picking_ones_own);
    RUN(copies_from_the_device);
    RUN(copies_to_the_device);
    RUN(arrays_are_taken_at_once);
    mw_backend_close(&b);
    closed_with_work_to_do(device);
    return test_end();
}
