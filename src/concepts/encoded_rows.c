/* Rows of a store with the latents that are active on them. */
#include "concepts/encoded_rows.h"

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
    return out->x ? MW_OK : MW_ERR_MEMORY;
}

void encoded_rows_close(encoded_rows *rows) {
    mw_free(rows->x);
    mw_codes_free(&rows->codes);
    *rows = (encoded_rows){0};
}

mw_status each_encoded_row(encoded_rows *rows, int64_t begin, int64_t end, use_row *use, void *self) {
    const mw_store_view *in = rows->in;
    for (int64_t at = begin; at < end && rows->finite.first < 0; at += ENCODED_CHUNK) {
        int64_t n = end - at < ENCODED_CHUNK ? end - at : ENCODED_CHUNK;
        MW_TRY(mw_store_view_range(in, at, n, rows->x));
        MW_TRY(mw_sae_encode(rows->sae, rows->x, n, &rows->codes));
        if (rows->kept) MW_TRY(keep(rows->kept, &rows->codes));
        for (int64_t r = 0; r < n; r++)
            if (finite_row(&rows->finite, in, NULL, at + r, rows->x + r * in->width, NULL))
                MW_TRY(use(self, at + r, rows->codes.start[r], rows->codes.start[r + 1]));
    }
    return MW_OK;
}
