/* Eigenvectors of a symmetric matrix A: Householder reflections make it tridiagonal, T = Q' A Q; the QL algorithm with
 * implicit shifts finds the eigenvectors of T; the reflections turn these into the eigenvectors of A (Golub and Van
 * Loan, Matrix Computations, 8.3). An own solver, since builds without a LAPACK need it too. */
#include "sae/eigenvectors.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 64, ITERATIONS_MAX = 64, PARALLEL_FROM = 512 };

static double dot(const double *x, const double *y, int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

static void add_multiple(double *to, double factor, const double *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] += factor * x[i];
}

/* ---- tridiagonal form ------------------------------------------------------------------------------------------- */

/* Replaces x [n] by the unit vector v of the reflection I - 2 v v' that maps x to alpha e_0; returns alpha. v is 0 if x
 * is 0. */
static double make_reflection(double *x, int64_t n) {
    double length = sqrt(dot(x, x, n)), alpha = x[0] > 0 ? -length : length;
    if (length == 0) return 0;
    x[0] -= alpha;
    length = sqrt(dot(x, x, n));
    for (int64_t i = 0; i < n; i++) x[i] /= length;
    return alpha;
}

/* Applies a reflection to both sides of the lower right part of a, from row and column `first`: A - 2 v w' - 2 w v'
 * with w = A v - (v' A v) v. */
static void reflect_both(double *a, int64_t n, int64_t first, const double *v, double *w) {
    int64_t m = n - first;
#pragma omp parallel for schedule(static) if (n >= PARALLEL_FROM)
    for (int64_t i = 0; i < m; i++) w[i] = dot(a + (first + i) * n + first, v, m);
    add_multiple(w, -dot(v, w, m), v, m);
#pragma omp parallel for schedule(static) if (n >= PARALLEL_FROM)
    for (int64_t i = 0; i < m; i++) {
        add_multiple(a + (first + i) * n + first, -2 * v[i], w, m);
        add_multiple(a + (first + i) * n + first, -2 * w[i], v, m);
    }
}

/* Leaves the vector of reflection k in row k, from column k + 1. `beside` [n] gets the numbers beside the diagonal. */
static void make_tridiagonal(double *a, int64_t n, double *diagonal, double *beside, double *scratch) {
    for (int64_t k = 0; k < n; k++) {
        double *v = a + k * n + k + 1;
        diagonal[k] = a[k * n + k];
        beside[k] = k + 1 < n ? v[0] : 0;
        if (k + 2 >= n) continue;
        beside[k] = make_reflection(v, n - k - 1);
        reflect_both(a, n, k + 1, v, scratch);
    }
}

/* Turns eigenvectors of T, rows of z, into those of A. */
static void reflect_back(const double *a, int64_t n, double *z) {
#pragma omp parallel for schedule(static) if (n >= PARALLEL_FROM)
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = n - 3; k >= 0; k--) {
            const double *v = a + k * n + k + 1;
            double *part = z + i * n + k + 1;
            add_multiple(part, -2 * dot(v, part, n - k - 1), v, n - k - 1);
        }
}

/* ---- eigenvectors of the tridiagonal form ------------------------------------------------------------------------ */

typedef struct rotation {
    double c, s;
} rotation;

/* Rotates rows i and i + 1 of z, for i = last - 1 down to `first`. */
static void rotate_rows(double *z, int64_t n, const rotation *by, int64_t first, int64_t last) {
#pragma omp parallel for schedule(static) if (n >= PARALLEL_FROM)
    for (int64_t column = 0; column < n; column += COLUMNS) {
        int64_t end = column + COLUMNS < n ? column + COLUMNS : n;
        for (int64_t i = last - 1; i >= first; i--) {
            double *x = z + i * n, *y = x + n, c = by[i].c, s = by[i].s;
#pragma omp simd
            for (int64_t j = column; j < end; j++) {
                double was = y[j];
                y[j] = s * x[j] + c * was;
                x[j] = c * x[j] - s * was;
            }
        }
    }
}

/* Returns the end of the block from `first` on that does not fall apart. */
static int64_t end_of_block(const double *d, const double *e, int64_t n, int64_t first) {
    int64_t m = first;
    while (m + 1 < n && !(fabs(e[m]) <= DBL_EPSILON * (fabs(d[m]) + fabs(d[m + 1])))) m++; /* NaN does not */
    return m;
}

/* One step of QL on the block first .. last. Returns the first rotation that was made. */
static int64_t ql_step(double *d, double *e, int64_t first, int64_t last, rotation *made) {
    double half = (d[first + 1] - d[first]) / (2 * e[first]);
    double g = d[last] - d[first] + e[first] / (half + copysign(hypot(half, 1), half)), s = 1, c = 1, p = 0;
    for (int64_t i = last - 1; i >= first; i--) {
        double f = s * e[i], b = c * e[i], r = hypot(f, g);
        e[i + 1] = r;
        if (r == 0) { /* the block falls apart */
            d[i + 1] -= p;
            e[last] = 0;
            return i + 1;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        made[i] = (rotation){c, s};
    }
    d[first] -= p;
    e[first] = g;
    e[last] = 0;
    return first;
}

/* Replaces the diagonal d by the eigenvalues, and the rows of z, those of the identity, by the eigenvectors. */
static mw_status solve_tridiagonal(double *d, double *e, int64_t n, double *z, rotation *made) {
    for (int64_t first = 0; first < n; first++)
        for (int iteration = 0;; iteration++) {
            int64_t last = end_of_block(d, e, n, first);
            if (last == first) break;
            if (iteration == ITERATIONS_MAX)
                return mw_error(MW_ERR_STATE, "eigenvectors: expected a finite matrix, found one of NaN or infinity");
            int64_t from = ql_step(d, e, first, last, made);
            rotate_rows(z, n, made, from, last);
        }
    return MW_OK;
}

/* ---- order ------------------------------------------------------------------------------------------------------ */

typedef struct place {
    double value;
    int64_t row;
} place;

static int falling(const void *a, const void *b) {
    const place *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static void copy_with_sign(double *to, const double *from, int64_t n) {
    int64_t largest = 0;
    for (int64_t i = 1; i < n; i++)
        if (fabs(from[i]) > fabs(from[largest])) largest = i;
    for (int64_t i = 0; i < n; i++) to[i] = from[largest] < 0 ? -from[i] : from[i];
}

static void put_in_order(const double *z, int64_t n, place *order, double *value, double *out) {
    for (int64_t i = 0; i < n; i++) order[i] = (place){value[i], i};
    qsort(order, (size_t)n, sizeof *order, falling);
    for (int64_t i = 0; i < n; i++) {
        value[i] = order[i].value;
        copy_with_sign(out + i * n, z + order[i].row * n, n);
    }
}

mw_status symmetric_eigenvectors(double *a, int64_t n, double *value) {
    double *z = mw_calloc((size_t)(n * n), sizeof *z), *beside = mw_alloc((size_t)n * sizeof *beside);
    double *scratch = mw_alloc((size_t)n * sizeof *scratch);
    rotation *made = mw_alloc((size_t)n * sizeof *made);
    place *order = mw_alloc((size_t)n * sizeof *order);
    mw_status status = z && beside && scratch && made && order ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) {
        for (int64_t i = 0; i < n; i++) z[i * n + i] = 1;
        make_tridiagonal(a, n, value, beside, scratch);
        status = solve_tridiagonal(value, beside, n, z, made);
    }
    if (status == MW_OK) {
        reflect_back(a, n, z);
        put_in_order(z, n, order, value, a);
    }
    void *all[] = {z, beside, scratch, made, order};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}
