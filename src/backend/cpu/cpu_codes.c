/* Makes sparse codes, and transposes them from entries by row to entries by latent. */
#include "backend/cpu/cpu.h"
#include "backend/formulas.h"

#include <math.h>
#include <omp.h>
#include <string.h>

mw_status mw_cpu_pick(mw_backend *backend, int32_t *index, const int32_t *table, int64_t stride, int64_t rows,
                      int64_t k) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = r * k; j < (r + 1) * k; j++) index[j] = table[r * stride + index[j]];
    return MW_OK;
}

/* ---- threshold ----------------------------------------------------------------------------------------- */

static int64_t count_row(const mw_threshold *threshold, const float *x, int64_t n) {
    int64_t count = 0;
    if (!threshold->floor && !(threshold->margin > 0) && !threshold->upper) {
        for (int64_t i = 0; i < n; i++) count += x[i] > threshold->level;
        return count;
    }
    for (int64_t i = 0; i < n; i++) count += mw_is_open(threshold, i, x[i]);
    return count;
}

mw_status mw_cpu_count_open(mw_backend *backend, const mw_threshold *threshold, const float *x, int64_t rows, int64_t n,
                            int64_t *count) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) count[r] = count_row(threshold, x + r * n, n);
    return MW_OK;
}

mw_status mw_cpu_write_open(mw_backend *backend, const mw_threshold *threshold, const float *x, int64_t rows, int64_t n,
                            const int64_t *start, int32_t *index, float *value) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const int32_t *labels = threshold->labels ? threshold->labels + r * n : NULL;
        for (int64_t i = 0, at = start[r]; i < n; i++) {
            if (!mw_is_open(threshold, i, x[r * n + i])) continue;
            index[at] = labels ? labels[i] : (int32_t)i;
            value[at++] = x[r * n + i];
        }
    }
    return MW_OK;
}

/* ---- by latent ----------------------------------------------------------------------------------------- */

/* A counting sort. Each run is cut into pieces of rows, one for each thread. The entries of a latent in a piece follow
 * those in the pieces and runs before it, so their order does not depend on the number of pieces. */
typedef struct sorting {
    const mw_code_run *runs;
    int n_runs, pieces; /* of each run */
    int64_t first;
    mw_latent_lists *out;
    int64_t *next; /* [n_runs * pieces, n] number of entries in a piece, then the offset of the next one */
} sorting;

static int pieces_of(const mw_code_run *runs, int n_runs, int64_t n) {
    int64_t entries = 0, most = omp_get_max_threads();
    for (int i = 0; i < n_runs; i++) entries += runs[i].start[runs[i].rows] - runs[i].start[0];
    int64_t worth = n > 0 ? entries / (4 * n) : 0; /* adding up the counts of more pieces takes longer than they save */
    return (int)(worth < 1 ? 1 : worth > most ? most : worth);
}

/* Returns the run of piece p, and its rows begin .. end - 1. */
static const mw_code_run *piece_rows(const sorting *s, int p, int64_t *begin, int64_t *end) {
    const mw_code_run *run = &s->runs[p / s->pieces];
    *begin = run->rows * (p % s->pieces) / s->pieces;
    *end = run->rows * (p % s->pieces + 1) / s->pieces;
    return run;
}

static void count_piece(const sorting *s, int p) {
    int64_t begin, end, n = s->out->n, *count = s->next + p * n;
    const mw_code_run *run = piece_rows(s, p, &begin, &end);
    memset(count, 0, (size_t)n * sizeof *count);
    for (int64_t j = run->start[begin]; j < run->start[end]; j++) {
        int64_t i = run->index[j] - s->first;
        if (i >= 0 && i < n) count[i]++;
    }
}

static void write_piece(const sorting *s, int p) {
    int64_t begin, end, n = s->out->n, *next = s->next + p * n;
    const mw_code_run *run = piece_rows(s, p, &begin, &end);
    for (int64_t r = begin; r < end; r++)
        for (int64_t j = run->start[r]; j < run->start[r + 1]; j++) {
            int64_t i = run->index[j] - s->first;
            if (i < 0 || i >= n) continue;
            int64_t at = next[i]++;
            s->out->row[at] = (int32_t)(run->first_row + r);
            s->out->coefficient[at] = run->coefficient[j];
        }
}

/* Turns counts into offsets. */
static void set_offsets(const sorting *s) {
    int64_t n = s->out->n, at = 0;
    for (int64_t i = 0; i < n; i++) {
        s->out->start[i] = at;
        for (int p = 0; p < s->n_runs * s->pieces; p++) {
            int64_t count = s->next[p * n + i];
            s->next[p * n + i] = at;
            at += count;
        }
    }
    s->out->start[n] = at;
}

mw_status mw_cpu_list_latents(mw_backend *backend, const mw_code_run *runs, int n_runs, int64_t first,
                              mw_latent_lists *out) {
    (void)backend;
    sorting s = {.runs = runs, .n_runs = n_runs, .pieces = pieces_of(runs, n_runs, out->n), .first = first, .out = out};
    int all = n_runs * s.pieces;
    s.next = mw_alloc((size_t)(all * out->n + 1) * sizeof *s.next);
    if (!s.next) return MW_ERR_MEMORY;
#pragma omp parallel for schedule(static)
    for (int p = 0; p < all; p++) count_piece(&s, p);
    set_offsets(&s);
#pragma omp parallel for schedule(static)
    for (int p = 0; p < all; p++) write_piece(&s, p);
    mw_free(s.next);
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

/* ---- firing -------------------------------------------------------------------------------------------- */

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

mw_status mw_cpu_raise_silent(mw_backend *backend, float *x, const int64_t *since, int64_t n, int64_t after, float by) {
    (void)backend;
    for (int64_t i = 0; i < n; i++)
        if (since[i] > after) x[i] += by;
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
