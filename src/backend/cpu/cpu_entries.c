/* Operations of selections and penalties on the entries of sparse codes. */
#include "backend/cpu/cpu.h"
#include "backend/formulas.h"

#include <string.h>

mw_status mw_cpu_pick_own(mw_backend *backend, int32_t *index, float *value, const int32_t *table, int64_t first,
                          int64_t width, int64_t rows, int64_t k) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = r * k; j < (r + 1) * k; j++) {
            int64_t at = index[j] - first;
            bool own = at >= 0 && at < width;
            index[j] = own ? table[r * width + at] : 0;
            value[j] = own ? value[j] : 0;
        }
    return MW_OK;
}

/* ---- filter -------------------------------------------------------------------------------------------- */

/* `equals`: the number of further entries equal to the level that this row may keep. */
static bool is_kept(const mw_filter *filter, int32_t latent, float x, int64_t *equals) {
    mw_filtered decision = mw_filter_entry(filter, latent, x);
    return decision == MW_FILTER_KEEPS || (decision == MW_FILTER_EQUALS && (*equals)-- > 0);
}

mw_status mw_cpu_count_kept(mw_backend *backend, const mw_filter *filter, const int64_t *from, const int32_t *index,
                            const float *value, int64_t rows, int64_t *count) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        int64_t kept = 0, equals = filter->equals ? filter->equals[r] : 0;
        for (int64_t j = from[r]; j < from[r + 1]; j++) kept += is_kept(filter, index[j], value[j], &equals);
        count[r] = kept;
    }
    return MW_OK;
}

mw_status mw_cpu_write_kept(mw_backend *backend, const mw_filter *filter, const int64_t *from, const int32_t *index,
                            const float *value, int64_t rows, const int64_t *start, int32_t *to_index,
                            float *to_value) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = start[r], equals = filter->equals ? filter->equals[r] : 0;
        for (int64_t j = from[r]; j < from[r + 1]; j++) {
            if (!is_kept(filter, index[j], value[j], &equals)) continue;
            to_index[at] = index[j];
            to_value[at++] = value[j];
        }
    }
    return MW_OK;
}

mw_status mw_cpu_count_digits(mw_backend *backend, const float *value, int64_t entries, uint32_t prefix, uint32_t mask,
                              int shift, int64_t counts[256]) {
    (void)backend;
    memset(counts, 0, 256 * sizeof *counts);
    for (int64_t j = 0; j < entries; j++) {
        uint32_t bits;
        memcpy(&bits, &value[j], sizeof bits);
        if ((bits & mask) == prefix) counts[bits >> shift & 255]++;
    }
    return MW_OK;
}

/* ---- maps ---------------------------------------------------------------------------------------------- */

mw_status mw_cpu_map_entries(mw_backend *backend, const mw_entry_map *map, float *out, const int32_t *index,
                             const float *value, int64_t entries) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < entries; j++) out[j] = mw_map_entry(map, out[j], index[j], value[j]);
    return MW_OK;
}
