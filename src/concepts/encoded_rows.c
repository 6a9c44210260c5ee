/* Rows of a store with the latents that are active on them. */
#include "concepts/encoded_rows.h"

#include <omp.h>
#include <string.h>

/* ---- kept codes ------------------------------------------------------------------------------------------ */

void kept_codes_free(kept_codes *kept) {
    mw_codes_free(&kept->codes);
    *kept = (kept_codes){0};
}

static void drop(kept_codes *kept) {
    mw_codes_free(&kept->codes);
    kept->dropped = true;
}

mw_status kept_codes_begin(kept_codes *kept, int64_t first, int64_t rows) {
    *kept = (kept_codes){.first = first};
    if (rows > KEPT_CODES_BYTES / (int64_t)sizeof *kept->codes.start) {
        drop(kept);
        return MW_OK;
    }
    MW_TRY(mw_codes_begin(&kept->codes, rows));
    kept->codes.rows = 0;
    return MW_OK;
}

static mw_status keep(kept_codes *kept, const mw_codes *more) {
    mw_codes *to = &kept->codes;
    if (kept->dropped) return MW_OK;
    int64_t before = to->start[to->rows], entries = more->start[more->rows];
    int64_t item = sizeof *to->index + sizeof *to->value, starts = (to->rows + more->rows) * (int64_t)sizeof *to->start;
    if ((before + entries) * item + starts > KEPT_CODES_BYTES) {
        drop(kept);
        return MW_OK;
    }
    MW_TRY(mw_codes_reserve(to, before, before + entries));
    memcpy(to->index + before, more->index, (size_t)entries * sizeof *to->index);
    memcpy(to->value + before, more->value, (size_t)entries * sizeof *to->value);
    for (int64_t r = 0; r < more->rows; r++) to->start[++to->rows] = before + more->start[r + 1];
    return MW_OK;
}

/* ---- rows ------------------------------------------------------------------------------------------------ */

mw_status encoded_rows_open(const mw_sae *sae, const mw_store_view *in, mw_nan_rule rule, encoded_rows *out) {
    *out = (encoded_rows){.sae = sae, .in = in, .finite = finite_rows_begin(rule)};
    if (in->width != sae->d)
        return mw_error(MW_ERR_CONFIG, "the SAE has width %lld, the site has width %lld", (long long)sae->d,
                        (long long)in->width);
    out->x = mw_alloc((size_t)(ENCODED_CHUNK * sae->d) * sizeof *out->x);
    out->used = mw_alloc(ENCODED_CHUNK * sizeof *out->used);
    return out->x && out->used ? MW_OK : MW_ERR_MEMORY;
}

void encoded_rows_close(encoded_rows *rows) {
    mw_free(rows->x);
    mw_free(rows->used);
    mw_codes_free(&rows->codes);
    *rows = (encoded_rows){0};
}

/* Each thread takes the entries of a share of the latents. */
static void use_entries(const encoded_rows *rows, int64_t n_used, const row_use *use) {
    const mw_codes *codes = &rows->codes;
    int64_t n = rows->sae->n;
#pragma omp parallel
    {
        int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        int64_t first = n * thread / threads, end = n * (thread + 1) / threads;
        for (int64_t i = 0; i < n_used; i++) {
            int64_t at = rows->used[i], last = codes->start[at + 1];
            for (int64_t j = codes->start[at]; j < last && codes->index[j] < end; j++)
                if (codes->index[j] >= first) use->entry(use->self, at, codes->index[j], codes->value[j]);
        }
    }
}

/* Uses the n rows of the present chunk, of which the first is row `first`. */
static mw_status use_chunk(encoded_rows *rows, int64_t first, int64_t n, const row_use *use) {
    int64_t n_used = 0;
    for (int64_t at = 0; at < n; at++) {
        if (!finite_row(&rows->finite, rows->in, NULL, first + at, rows->x + at * rows->in->width, NULL)) continue;
        rows->used[n_used++] = (int32_t)at;
        MW_TRY(use->row(use->self, first + at, at, rows->codes.start[at], rows->codes.start[at + 1]));
    }
    use_entries(rows, n_used, use);
    return MW_OK;
}

mw_status each_encoded_row(encoded_rows *rows, int64_t begin, int64_t end, const row_use *use) {
    for (int64_t at = begin; at < end && rows->finite.first < 0; at += ENCODED_CHUNK) {
        int64_t n = end - at < ENCODED_CHUNK ? end - at : ENCODED_CHUNK;
        MW_TRY(mw_store_view_range(rows->in, at, n, rows->x));
        MW_TRY(mw_sae_encode(rows->sae, rows->x, n, &rows->codes));
        if (rows->kept) MW_TRY(keep(rows->kept, &rows->codes));
        MW_TRY(use_chunk(rows, at, n, use));
    }
    return MW_OK;
}
