/* The k largest numbers of a row. */
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

/* Finds the k-th largest of a short x by halving the interval of its values, which takes fewer steps than any order of
 * its elements, and none that a processor mispredicts. Returns false where some are equal or not finite. */
static bool find_by_halving(const float *x, int64_t n, int64_t k, float *out) {
    enum { SHORT = 512, HALVINGS = 24 };
    if (n > SHORT) return false;
    float to = mw_max(x, n), from = mw_least_at_least(x, n, -INFINITY);
    if (!isfinite(to - from) || mw_halve(x, n, k, HALVINGS, &from, &to) != k) return false;
    *out = mw_least_at_least(x, n, from);
    return true;
}

/* Hoare 1961. */
float mw_kth_largest(float *x, int64_t n, int64_t k) {
    float found;
    if (find_by_halving(x, n, k, &found)) return found;
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

int64_t mw_keep_best(const int32_t *index, const float *value, int64_t count, int64_t k, float *scratch,
                     int32_t *to_index, float *to_value) {
    int64_t above = 0, at = 0;
    float last = -INFINITY;
    if (count > k) {
        for (int64_t i = 0; i < count; i++) scratch[i] = value[i] > -INFINITY ? value[i] : -INFINITY;
        last = mw_kth_largest(scratch, count, k);
    }
    for (int64_t i = 0; i < count; i++) above += value[i] > last;
    /* The first `equal` of the values that equal the last one are kept. No branch, which nobody could predict. */
    for (int64_t i = 0, equal = k - above; i < count && at < k; i++) {
        float v = value[i];
        bool is_last = v == last;
        to_index[at] = index[i];
        to_value[at] = v;
        at += v > last || (is_last && equal > 0);
        equal -= is_last;
    }
    return at;
}

/* Scratch memory for a row of n. */
typedef struct chooser {
    float *maxima;  /* [n / 16] of columns */
    float *order;   /* [n] a copy that mw_kth_largest reorders */
    float *value;   /* [n] values of the candidates */
    int32_t *index; /* [n] their indices */
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

int64_t mw_fold_maxima(float *x, int64_t columns, int64_t k) {
    while (columns % 2 == 0 && columns / 2 >= 8 * k) {
        columns /= 2;
        for (int64_t i = 0; i < columns; i++) x[i] = x[columns + i] > x[i] ? x[columns + i] : x[i];
    }
    return columns;
}

/* Selects by a floor, the k-th largest of the columns' maxima: at least k values reach it, and few more. Returns false
 * where that is impossible: with few columns, or with NaN. */
static bool choose_by_floor(const float *x, int64_t n, int64_t k, chooser *c, int32_t *index, float *value) {
    int64_t columns = n / MAX_SPAN * MAX_LANES;
    if (columns < 2 * k) return false;
    mw_column_max(x, n / MAX_SPAN, c->maxima);
    memcpy(c->order, c->maxima, (size_t)columns * sizeof *c->order);
    float floor = mw_kth_largest(c->order, mw_fold_maxima(c->order, columns, k), k);
    if (!(floor > -INFINITY)) return false;
    int64_t count = list_candidates(x, n, floor, c);
    for (int64_t i = 0; i < count; i++) c->value[i] = x[c->index[i]];
    return mw_keep_best(c->index, c->value, count, k, c->order, index, value) == k;
}

static bool make_chooser(chooser *c, int64_t n) {
    size_t columns = (size_t)(n / MAX_SPAN * MAX_LANES);
    c->maxima = mw_alloc(columns * sizeof(float));
    c->order = mw_alloc((size_t)n * sizeof(float));
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
