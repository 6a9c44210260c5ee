/* Sums in double for training, in orders that depend on sizes alone; vector operations; lengths of rows. */
#include "backend/cpu/cpu.h"

#include <math.h>
#include <string.h>

enum { COLUMNS = 64 }; /* that a thread sums in one pass over the rows */

/* ---- sums ---------------------------------------------------------------------------------------------- */

mw_status mw_cpu_tile_sums(mw_backend *backend, double *out, const float *x, int64_t rows, int64_t d) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t begin = 0; begin < rows; begin += MW_ROW_TILE) {
        int64_t end = begin + MW_ROW_TILE < rows ? begin + MW_ROW_TILE : rows;
        double *sum = out + begin / MW_ROW_TILE * (d + 1), squares = 0;
        memset(sum, 0, (size_t)(d + 1) * sizeof *sum);
        for (int64_t r = begin; r < end; r++)
            for (int64_t i = 0; i < d; i++) {
                sum[i] += x[r * d + i];
                squares += (double)x[r * d + i] * x[r * d + i];
            }
        sum[d] = squares;
    }
    return MW_OK;
}

mw_status mw_cpu_add_rows(mw_backend *backend, double *out, const double *x, int64_t rows, int64_t width, bool add) {
    (void)backend;
    if (!add) memset(out, 0, (size_t)width * sizeof *out);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++) out[i] += x[r * width + i];
    return MW_OK;
}

/* One thread sums a column. */
mw_status mw_cpu_column_sums(mw_backend *backend, double *out, const float *x, int64_t rows, int64_t d) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < d; at += COLUMNS) {
        int64_t end = at + COLUMNS < d ? at + COLUMNS : d;
        for (int64_t j = at; j < end; j++) out[j] = 0;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = at; j < end; j++) out[j] += x[r * d + j];
    }
    return MW_OK;
}

mw_status mw_cpu_weigh_rows(mw_backend *backend, double *out, const double *weight, const float *w, int64_t rows,
                            int64_t d, int64_t span) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t begin = 0; begin < rows; begin += span) {
        int64_t end = begin + span < rows ? begin + span : rows;
        double *sum = out + begin / span * d;
        memset(sum, 0, (size_t)d * sizeof *sum);
        for (int64_t i = begin; i < end; i++)
            if (weight[i] != 0)
                for (int64_t j = 0; j < d; j++) sum[j] -= weight[i] * w[i * d + j];
    }
    return MW_OK;
}

mw_status mw_cpu_square_sums(mw_backend *backend, double *out, const float *x, int64_t count, int64_t span, bool add) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t begin = 0; begin < count; begin += span) {
        int64_t end = begin + span < count ? begin + span : count;
        double sum = 0;
        for (int64_t i = begin; i < end; i++) sum += (double)x[i] * x[i];
        out[begin / span] = (add ? out[begin / span] : 0) + sum;
    }
    return MW_OK;
}

mw_status mw_cpu_narrow(mw_backend *backend, float *out, const double *x, int64_t count) {
    (void)backend;
    for (int64_t i = 0; i < count; i++) out[i] = (float)x[i];
    return MW_OK;
}

/* ---- vectors ------------------------------------------------------------------------------------------- */

mw_status mw_cpu_subtract_row(mw_backend *backend, float *out, const float *x, const float *row, int64_t rows,
                              int64_t d) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < d; i++) out[r * d + i] = x[r * d + i] - (row ? row[i] : 0);
    return MW_OK;
}

mw_status mw_cpu_scale_columns(mw_backend *backend, float *out, const float *x, const float *factor, int64_t rows,
                               int64_t d) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < d; i++) out[r * d + i] = x[r * d + i] * factor[i];
    return MW_OK;
}

mw_status mw_cpu_combine(mw_backend *backend, float *out, float a, const float *x, float b, const float *y,
                         int64_t count) {
    (void)backend;
    if (y) {
#pragma omp parallel for simd schedule(static)
        for (int64_t i = 0; i < count; i++) out[i] = a * x[i] + b * y[i];
        return MW_OK;
    }
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) out[i] = a * x[i];
    return MW_OK;
}

mw_status mw_cpu_transpose(mw_backend *backend, float *out, const float *x, int64_t rows, int64_t columns) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < columns; i++)
        for (int64_t r = 0; r < rows; r++) out[i * rows + r] = x[r * columns + i];
    return MW_OK;
}

mw_status mw_cpu_fill_zero(mw_backend *backend, void *to, size_t bytes) {
    (void)backend;
    memset(to, 0, bytes);
    return MW_OK;
}

/* ---- lengths ------------------------------------------------------------------------------------------- */

static double length_of(const float *x, int64_t n) {
    double square = 0;
    for (int64_t i = 0; i < n; i++) square += (double)x[i] * x[i];
    return sqrt(square);
}

mw_status mw_cpu_row_lengths(mw_backend *backend, float *out, const float *w, int64_t rows, int64_t d,
                             const mw_column_groups *groups) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t k = 0, begin = 0; k < groups->n; begin = groups->end[k++])
            sum += length_of(w + i * d + begin, groups->end[k] - begin);
        out[i] = (float)sum;
    }
    return MW_OK;
}

mw_status mw_cpu_add_directions(mw_backend *backend, float *g, const double *weight, const float *w, int64_t rows,
                                int64_t d, const mw_column_groups *groups) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0, begin = 0; k < groups->n; begin = groups->end[k++]) {
            double length = length_of(w + i * d + begin, groups->end[k] - begin);
            if (!(length > 0)) continue;
            for (int64_t j = i * d + begin; j < i * d + groups->end[k]; j++) g[j] += (float)(weight[i] * w[j] / length);
        }
    return MW_OK;
}
