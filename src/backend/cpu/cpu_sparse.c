/* The sparse side of an SAE: selection, decoding, and gradients that touch only active latents. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };

/* The best so far are a min-heap whose root is the worst of them. Order: by value; of equal values the lower index is
 * better. */
static bool is_worse(float va, int32_t ia, float vb, int32_t ib) {
    return va < vb || (va == vb && ia > ib);
}

static void sift_down(float *value, int32_t *index, int64_t k, int64_t at) {
    float v = value[at];
    int32_t id = index[at];
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= k) break;
        if (child + 1 < k && is_worse(value[child + 1], index[child + 1], value[child], index[child])) child++;
        if (!is_worse(value[child], index[child], v, id)) break;
        value[at] = value[child];
        index[at] = index[child];
        at = child;
    }
    value[at] = v;
    index[at] = id;
}

static void sort_by_index(float *value, int32_t *index, int64_t k) {
    for (int64_t gap = k / 2; gap > 0; gap /= 2) /* Shell sort: k is small */
        for (int64_t i = gap; i < k; i++) {
            float v = value[i];
            int32_t id = index[i];
            int64_t j = i;
            for (; j >= gap && index[j - gap] > id; j -= gap) {
                value[j] = value[j - gap];
                index[j] = index[j - gap];
            }
            value[j] = v;
            index[j] = id;
        }
}

static void top_k_row(const float *x, int64_t n, int64_t k, int32_t *index, float *value) {
    for (int64_t i = 0; i < k; i++) {
        value[i] = x[i];
        index[i] = (int32_t)i;
    }
    for (int64_t i = k / 2 - 1; i >= 0; i--) sift_down(value, index, k, i);
    int64_t i = k;
    while (i < n) { /* most runs have no value above the root: one vector maximum skips them */
        int64_t run = n - i < LANES ? n - i : LANES;
        float best = x[i];
        for (int64_t j = 1; j < run; j++) best = x[i + j] > best ? x[i + j] : best;
        if (best > value[0])
            for (int64_t j = 0; j < run; j++)
                if (x[i + j] > value[0]) {
                    value[0] = x[i + j];
                    index[0] = (int32_t)(i + j);
                    sift_down(value, index, k, 0);
                }
        i += run;
    }
    sort_by_index(value, index, k);
}

/* ---- by a floor ---------------------------------------------------------------------------------------- */

/* The k-th largest of x, which is reordered. Hoare 1961. */
static float kth_largest(float *x, int64_t n, int64_t k) {
    int64_t low = 0, high = n - 1, want = k - 1;
    while (low < high) {
        float pivot = x[(low + high) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (x[i] > pivot) i++;
            while (x[j] < pivot) j--;
            if (i > j) break;
            float moved = x[i];
            x[i++] = x[j];
            x[j--] = moved;
        }
        if (want <= j)
            high = j;
        else if (want >= i)
            low = i;
        else
            break;
    }
    return x[want];
}

/* Scratch memory for a row of n. */
typedef struct chooser {
    float *maxima, *order; /* [n / 16] each: maxima of columns; their copy for kth_largest */
    float *value;          /* [n] values of the candidates */
    int32_t *index;        /* [n] their indices */
} chooser;

/* Writes the indices of values >= floor to c->index, ascending; returns their number. Reads only spans with such a
 * column. */
static int64_t list_candidates(const float *x, int64_t n, float floor, const chooser *c) {
    int64_t spans = n / MAX_SPAN, count = 0;
    for (int64_t s = 0; s < spans; s++)
        if (mw_max(c->maxima + s * MAX_LANES, MAX_LANES) >= floor)
            count += mw_at_least(x + s * MAX_SPAN, MAX_SPAN, floor, (int32_t)(s * MAX_SPAN), c->index + count);
    int64_t rest = spans * MAX_SPAN;
    return count + mw_at_least(x + rest, n - rest, floor, (int32_t)rest, c->index + count);
}

/* Halves the number of columns, each then twice as long, while many more than k remain: fewer maxima give as good a
 * floor. */
static int64_t fold(float *x, int64_t columns, int64_t k) {
    while (columns % 2 == 0 && columns / 2 >= 8 * k) {
        columns /= 2;
        for (int64_t i = 0; i < columns; i++) x[i] = x[columns + i] > x[i] ? x[columns + i] : x[i];
    }
    return columns;
}

/* Selects by a floor, the k-th largest of the columns' maxima: at least k values reach it, and few more. Returns false
 * where that is impossible: with few columns, or with NaN. */
static bool choose_by_floor(const float *x, int64_t n, int64_t k, chooser *c, int32_t *index, float *value) {
    int64_t columns = n / MAX_SPAN * MAX_LANES, above = 0, at = 0;
    if (columns < 2 * k) return false;
    mw_column_max(x, n / MAX_SPAN, c->maxima);
    memcpy(c->order, c->maxima, (size_t)columns * sizeof *c->order);
    float floor = kth_largest(c->order, fold(c->order, columns, k), k);
    if (!(floor > -INFINITY)) return false;
    int64_t count = list_candidates(x, n, floor, c);
    for (int64_t i = 0; i < count; i++) c->value[i] = x[c->index[i]];
    float last = count > k ? kth_largest(c->value, count, k) : floor;
    for (int64_t i = 0; i < count; i++) above += x[c->index[i]] > last;
    /* The first `equal` of the values that equal the last one are kept. */
    for (int64_t i = 0, equal = k - above; i < count && at < k; i++) {
        float v = x[c->index[i]];
        if (v < last || (v == last && equal-- <= 0)) continue;
        index[at] = c->index[i];
        value[at++] = v;
    }
    return at == k;
}

static bool make_chooser(chooser *c, int64_t n) {
    size_t columns = (size_t)(n / MAX_SPAN * MAX_LANES);
    c->maxima = mw_alloc(columns * sizeof(float));
    c->order = mw_alloc(columns * sizeof(float));
    c->value = mw_alloc((size_t)n * sizeof(float));
    c->index = mw_alloc((size_t)n * sizeof(int32_t));
    return c->maxima && c->order && c->value && c->index;
}

static void free_chooser(chooser *c) {
    mw_free(c->maxima);
    mw_free(c->order);
    mw_free(c->value);
    mw_free(c->index);
}

mw_status mw_cpu_top_k(mw_backend *backend, const float *x, int64_t rows, int64_t n, int64_t k, int32_t *index,
                       float *value) {
    (void)backend;
    if (k > n) return mw_error(MW_ERR_ARG, "top-k: k = %lld is larger than n = %lld", (long long)k, (long long)n);
#pragma omp parallel
    {
        chooser c = {0};
        bool ready = make_chooser(&c, n); /* without memory: top_k_row, which is slower */
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++)
            if (!ready || !choose_by_floor(x + r * n, n, k, &c, index + r * k, value + r * k))
                top_k_row(x + r * n, n, k, index + r * k, value + r * k);
        free_chooser(&c);
    }
    return MW_OK;
}

enum { PREFETCHED = 1024 }; /* floats of a row: the processor prefetches the rest by itself */

/* Prefetches the next row while the current one is used: the order of rows is unpredictable. */
static void prefetch(const float *row, int64_t d) {
    int64_t n = d < PREFETCHED ? d : PREFETCHED;
    for (int64_t i = 0; i < n; i += LANES) __builtin_prefetch(row + i);
}

mw_status mw_cpu_sparse_decode(mw_backend *backend, float *out, const float *bias, bool add, const int64_t *start,
                               const int32_t *index, const float *value, int64_t rows, const float *w, int64_t d) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float *to = out + r * d;
        if (bias && !add) memcpy(to, bias, (size_t)d * sizeof *to);
        if (!bias && !add) memset(to, 0, (size_t)d * sizeof *to);
        for (int64_t j = start[r]; j < start[r + 1]; j++) {
            if (j + 1 < start[rows]) prefetch(w + (int64_t)index[j + 1] * d, d);
            mw_axpy(value[j], w + (int64_t)index[j] * d, to, d);
        }
    }
    return MW_OK;
}

mw_status mw_cpu_sparse_dot(mw_backend *backend, float *out, const float *g, const int64_t *start, const int32_t *index,
                            int64_t rows, const float *w, int64_t d) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = start[r]; j < start[r + 1]; j++) {
            if (j + 1 < start[rows]) prefetch(w + (int64_t)index[j + 1] * d, d);
            out[j] = mw_dot(g + r * d, w + (int64_t)index[j] * d, d);
        }
    return MW_OK;
}

mw_status mw_cpu_sparse_outer(mw_backend *backend, float *out, const mw_latent_lists *lists, const float *x,
                              int64_t d) {
    (void)backend;
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t i = 0; i < lists->n; i++) {
        float *to = out + i * d;
        memset(to, 0, (size_t)d * sizeof *to);
        for (int64_t e = lists->start[i]; e < lists->start[i + 1]; e++) {
            if (e + 1 < lists->start[lists->n]) prefetch(x + (int64_t)lists->row[e + 1] * d, d);
            mw_axpy(lists->coefficient[e], x + (int64_t)lists->row[e] * d, to, d);
        }
    }
    return MW_OK;
}
