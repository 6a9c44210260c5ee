/* The sparse side of an SAE: decoding, and gradients that touch only active latents. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"

#include <string.h>

enum { LANES = 16 };

enum { PREFETCHED = 1024 }; /* floats of a row: the processor prefetches the rest by itself */

void mw_prefetch_row(const float *row, int64_t d) {
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
            if (j + 1 < start[rows]) mw_prefetch_row(w + (int64_t)index[j + 1] * d, d);
            mw_axpy(value[j], w + (int64_t)index[j] * d, to, d);
        }
    }
    return MW_OK;
}

/* Four entries at a time. */
void mw_dot_entries(float *out, const float *x, const int32_t *index, int64_t count, const float *w, int64_t d) {
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) {
        const float *four[4];
        for (int i = 0; i < 4; i++) four[i] = w + (int64_t)index[j + i] * d;
        for (int64_t i = j + 4; i < j + 8 && i < count; i++) mw_prefetch_row(w + (int64_t)index[i] * d, d);
        mw_dot_four(x, four, d, out + j);
    }
    for (; j < count; j++) out[j] = mw_dot(x, w + (int64_t)index[j] * d, d);
}

/* Four rows at a time and, where they have entries in most of them, four latents: for rows with many entries. */
static void dot_four_rows(float *out, const float *g, const int64_t *start, const int32_t *index, const float *w,
                          int64_t n, int64_t d) {
    int64_t at[4];
    for (int r = 0; r < 4; r++) at[r] = start[r];
    for (int64_t i = 0; i < n; i += 4) {
        float part[16];
        int64_t found = 0, end[4];
        for (int r = 0; r < 4; r++) {
            for (end[r] = at[r]; end[r] < start[r + 1] && index[end[r]] < i + 4;) end[r]++;
            found += end[r] - at[r];
        }
        bool whole = found > 4 && i + 4 <= n;
        if (whole) mw_dot_tile(g, d, 4, w + i * d, d, 4, d, part, 4);
        for (int r = 0; r < 4; r++) {
            if (!whole) mw_dot_entries(out + at[r], g + r * d, index + at[r], end[r] - at[r], w, d);
            for (; at[r] < end[r]; at[r]++)
                if (whole) out[at[r]] = part[4 * r + index[at[r]] - i];
        }
    }
}

/* Returns the number of latents if the rows have entries in an eighth of them or more, by ascending latent; else 0. */
static int64_t dense_latents(const int64_t *start, const int32_t *index, int64_t rows) {
    int64_t n = 0;
    for (int64_t r = 0; r < rows; r++)
        if (start[r + 1] > start[r] && index[start[r + 1] - 1] >= n) n = index[start[r + 1] - 1] + 1;
    if (start[rows] - start[0] < rows * n / 8) return 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = start[r] + 1; j < start[r + 1]; j++)
            if (index[j] <= index[j - 1]) return 0;
    return n;
}

mw_status mw_cpu_sparse_dot(mw_backend *backend, float *out, const float *g, const int64_t *start, const int32_t *index,
                            int64_t rows, const float *w, int64_t d, const float *bias) {
    (void)backend;
    int64_t n = dense_latents(start, index, rows);
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < rows; first += 4) {
        int64_t last = first + 4 < rows ? first + 4 : rows;
        if (n > 0 && first + 4 <= rows)
            dot_four_rows(out, g + first * d, start + first, index, w, n, d);
        else
            for (int64_t r = first; r < last; r++)
                mw_dot_entries(out + start[r], g + r * d, index + start[r], start[r + 1] - start[r], w, d);
        for (int64_t j = start[first]; bias && j < start[last]; j++) out[j] += bias[index[j]];
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
            if (e + 1 < lists->start[lists->n]) mw_prefetch_row(x + (int64_t)lists->row[e + 1] * d, d);
            mw_axpy(lists->coefficient[e], x + (int64_t)lists->row[e] * d, to, d);
        }
    }
    return MW_OK;
}
