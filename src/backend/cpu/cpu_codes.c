/* Making sparse codes, and turning them over: from entries by row to entries by latent. */
#include "backend/cpu/cpu.h"

#include <math.h>
#include <string.h>

mw_status mw_cpu_pick(mw_backend *backend, int32_t *index, const int32_t *table, int64_t stride, int64_t rows,
                      int64_t k) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = r * k; j < (r + 1) * k; j++) index[j] = table[r * stride + index[j]];
    return MW_OK;
}

/* ---- opening --------------------------------------------------------------------------------------------- */

/* Comparisons with a NaN are false: it is never open. */
static bool is_open(const mw_opening *how, int64_t column, float x) {
    float floor = how->floor ? how->floor[column] : how->level;
    return how->margin > 0 ? fabsf(x - floor) < how->margin : x > floor;
}

static int64_t count_row(const mw_opening *how, const float *x, int64_t n) {
    int64_t count = 0;
    if (!how->floor && !(how->margin > 0)) {
        for (int64_t i = 0; i < n; i++) count += x[i] > how->level;
        return count;
    }
    for (int64_t i = 0; i < n; i++) count += is_open(how, i, x[i]);
    return count;
}

mw_status mw_cpu_count_open(mw_backend *backend, const mw_opening *how, const float *x, int64_t rows, int64_t n,
                            int64_t *count) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) count[r] = count_row(how, x + r * n, n);
    return MW_OK;
}

mw_status mw_cpu_write_open(mw_backend *backend, const mw_opening *how, const float *x, int64_t rows, int64_t n,
                            const int64_t *start, int32_t *index, float *value) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const int32_t *labels = how->labels ? how->labels + r * n : NULL;
        for (int64_t i = 0, at = start[r]; i < n; i++) {
            if (!is_open(how, i, x[r * n + i])) continue;
            index[at] = labels ? labels[i] : (int32_t)i;
            value[at++] = x[r * n + i];
        }
    }
    return MW_OK;
}

/* ---- by latent ------------------------------------------------------------------------------------------- */

static void count_run(const mw_code_run *run, int64_t first, mw_latent_lists *out) {
    for (int64_t j = run->start[0]; j < run->start[run->rows]; j++) {
        int64_t i = run->index[j] - first;
        if (i >= 0 && i < out->n) out->start[i + 1]++;
    }
}

static void place_run(const mw_code_run *run, int64_t first, int64_t *next, mw_latent_lists *out) {
    for (int64_t r = 0; r < run->rows; r++)
        for (int64_t j = run->start[r]; j < run->start[r + 1]; j++) {
            int64_t i = run->index[j] - first;
            if (i < 0 || i >= out->n) continue;
            int64_t at = next[i]++;
            out->row[at] = (int32_t)(run->first_row + r);
            out->coefficient[at] = run->coefficient[j];
        }
}

/* A counting sort. */
mw_status mw_cpu_list_latents(mw_backend *backend, const mw_code_run *runs, int n_runs, int64_t first,
                              mw_latent_lists *out) {
    (void)backend;
    int64_t *next = mw_alloc((size_t)(out->n + 1) * sizeof *next);
    if (!next) return MW_ERR_MEMORY;
    memset(out->start, 0, (size_t)(out->n + 1) * sizeof *out->start);
    for (int i = 0; i < n_runs; i++) count_run(&runs[i], first, out);
    for (int64_t i = 0; i < out->n; i++) out->start[i + 1] += out->start[i];
    memcpy(next, out->start, (size_t)out->n * sizeof *next);
    for (int i = 0; i < n_runs; i++) place_run(&runs[i], first, next, out);
    mw_free(next);
    return MW_OK;
}

mw_status mw_cpu_list_sums(mw_backend *backend, double *out, const mw_latent_lists *lists) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < lists->n; i++) {
        out[i] = 0;
        for (int64_t e = lists->start[i]; e < lists->start[i + 1]; e++) out[i] += lists->coefficient[e];
    }
    return MW_OK;
}

/* ---- who fires --------------------------------------------------------------------------------------------- */

mw_status mw_cpu_mark_fired(mw_backend *backend, int64_t *since, int64_t n, int64_t by, const int32_t *index,
                            const float *value, int64_t entries, float above) {
    (void)backend;
    for (int64_t i = 0; i < n; i++) since[i] += by;
    for (int64_t j = 0; j < entries; j++)
        if (value[j] > above) since[index[j]] = 0;
    return MW_OK;
}

mw_status mw_cpu_list_silent(mw_backend *backend, const int64_t *since, int64_t n, int64_t after, int32_t *out,
                             int64_t *count) {
    (void)backend;
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        if (since[i] > after) out[found++] = (int32_t)i;
    *count = found;
    return MW_OK;
}

mw_status mw_cpu_count_positive(mw_backend *backend, const float *x, int64_t n, int64_t *count) {
    (void)backend;
    int64_t found = 0;
#pragma omp parallel for schedule(static) reduction(+ : found)
    for (int64_t i = 0; i < n; i++) found += x[i] > 0;
    *count = found;
    return MW_OK;
}
