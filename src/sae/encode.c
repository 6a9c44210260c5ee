/* From activations to codes and back. */
#include "sae/variants.h"

#include <math.h>
#include <string.h>

/* Rows whose pre-activations are in memory at once: whole tiles, about 8 MiB, so that selection finds them in the cache. */
static int64_t chunk_rows(int64_t n) {
    int64_t rows = ENCODE_FLOATS / n / MW_ROW_TILE * MW_ROW_TILE;
    return rows < MW_ROW_TILE ? MW_ROW_TILE : rows > 1024 ? 1024 : rows;
}

static mw_status pre_activations(const mw_sae *sae, const float *x, int64_t rows, float *centered, float *pre) {
    for (int64_t r = 0; r < rows && centered; r++)
        for (int64_t i = 0; i < sae->d; i++) centered[r * sae->d + i] = x[r * sae->d + i] - sae->b_dec[i];
    return sae->backend->ops->matmul(sae->backend, &(mw_matmul){.m = rows,
                                                                .n = sae->n,
                                                                .k = sae->d,
                                                                .a = centered ? centered : x,
                                                                .lda = sae->d,
                                                                .b = sae->w_enc,
                                                                .b_dtype = MW_F32,
                                                                .ldb = sae->d,
                                                                .b_transposed = true,
                                                                .bias = sae->b_enc,
                                                                .c = pre,
                                                                .ldc = sae->n});
}

mw_status sae_visit(const mw_sae *sae, const float *x, int64_t rows, pre_visitor visit, void *self) {
    int64_t chunk = chunk_rows(sae->n);
    if (chunk > rows) chunk = rows;
    float *centered = sae->transcoder ? NULL : mw_alloc((size_t)(chunk * sae->d) * sizeof *centered);
    float *pre = mw_alloc((size_t)(chunk * sae->n) * sizeof *pre);
    mw_status status = (centered || sae->transcoder) && pre ? MW_OK : MW_ERR_MEMORY;
    for (int64_t r = 0; r < rows && status == MW_OK; r += chunk) {
        int64_t n = rows - r < chunk ? rows - r : chunk;
        status = pre_activations(sae, x + r * sae->d, n, centered, pre);
        if (status == MW_OK) status = visit(self, pre, r, n);
    }
    mw_free(centered);
    mw_free(pre);
    return status;
}

/* ---- the k largest of a row ------------------------------------------------------------------------------ */

typedef struct top_k_reader {
    const mw_sae *sae;
    mw_codes *out;
    int64_t k;
    int32_t *index; /* [chunk, k] */
    float *value;
} top_k_reader;

mw_status append_positive(mw_codes *out, int64_t first, int64_t rows, int64_t k, const int32_t *index,
                          const float *value) {
    int64_t count = out->start[first];
    MW_TRY(mw_codes_reserve(out, count, count + rows * k));
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t j = r * k; j < (r + 1) * k; j++) {
            if (!(value[j] > 0)) continue; /* the relu */
            out->index[count] = index[j];
            out->value[count++] = value[j];
        }
        out->start[first + r + 1] = count;
    }
    return MW_OK;
}

static mw_status take_top_k(void *self, const float *pre, int64_t first, int64_t rows) {
    top_k_reader *t = self;
    MW_TRY(t->sae->backend->ops->top_k(t->sae->backend, pre, rows, t->sae->n, t->k, t->index, t->value));
    return append_positive(t->out, first, rows, t->k, t->index, t->value);
}

mw_status top_k_codes(const mw_sae *sae, const float *x, int64_t rows, int64_t k, mw_codes *out) {
    int64_t chunk = chunk_rows(sae->n);
    top_k_reader t = {.sae = sae, .out = out, .k = k};
    t.index = mw_alloc((size_t)(chunk * k) * sizeof *t.index);
    t.value = mw_alloc((size_t)(chunk * k) * sizeof *t.value);
    mw_status status = t.index && t.value ? mw_codes_begin(out, rows) : MW_ERR_MEMORY;
    if (status == MW_OK) status = sae_visit(sae, x, rows, take_top_k, &t);
    mw_free(t.index);
    mw_free(t.value);
    return status;
}

/* ---- all above a floor ----------------------------------------------------------------------------------- */

typedef struct open_reader {
    const mw_sae *sae;
    int count;
    const opening *how; /* [count] */
    mw_codes *const *out;
} open_reader;

static float opened(const mw_sae *sae, const opening *how, int64_t latent, float pre) {
    float floor = how->floor ? how->floor[latent] : how->level;
    bool open = how->margin > 0 ? fabsf(pre - floor) < how->margin : pre > floor;
    if (!open) return NAN;
    return how->value ? how->value(sae, latent, pre) : pre;
}

/* Counted first, then written, each row by one thread. */
static mw_status open_rows(const mw_sae *sae, const opening *how, const float *pre, int64_t first, int64_t rows,
                           mw_codes *out) {
    int64_t n = sae->n, *start = out->start + first;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        int64_t above = 0;
        for (int64_t i = 0; i < n; i++) above += !isnan(opened(sae, how, i, pre[r * n + i]));
        start[r + 1] = above;
    }
    for (int64_t r = 0; r < rows; r++) start[r + 1] += start[r];
    MW_TRY(mw_codes_reserve(out, start[0], start[rows]));
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0, at = start[r]; i < n; i++) {
            float value = opened(sae, how, i, pre[r * n + i]);
            if (isnan(value)) continue;
            out->index[at] = (int32_t)i;
            out->value[at++] = value;
        }
    return MW_OK;
}

static mw_status take_open(void *self, const float *pre, int64_t first, int64_t rows) {
    open_reader *t = self;
    for (int i = 0; i < t->count; i++) MW_TRY(open_rows(t->sae, &t->how[i], pre, first, rows, t->out[i]));
    return MW_OK;
}

static mw_status open_all(open_reader *t, const float *x, int64_t rows) {
    for (int i = 0; i < t->count; i++) MW_TRY(mw_codes_begin(t->out[i], rows));
    return sae_visit(t->sae, x, rows, take_open, t);
}

mw_status open_codes(const mw_sae *sae, const float *x, int64_t rows, opening how, mw_codes *out) {
    return open_all(&(open_reader){sae, 1, &how, &out}, x, rows);
}

mw_status open_both(const mw_sae *sae, const float *x, int64_t rows, const opening how[2], mw_codes *const out[2]) {
    return open_all(&(open_reader){sae, 2, how, out}, x, rows);
}

/* ---- use ---------------------------------------------------------------------------------------------------- */

mw_status mw_sae_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return variant_of(sae)->encode(sae, x, rows, out);
}

mw_status sae_add_skip(const mw_sae *sae, const float *x, int64_t rows, float *out) {
    if (!sae->w_skip) return MW_OK;
    return sae->backend->ops->matmul(sae->backend, &(mw_matmul){.m = rows,
                                                                .n = sae->d_out,
                                                                .k = sae->d,
                                                                .a = x,
                                                                .lda = sae->d,
                                                                .b = sae->w_skip,
                                                                .b_dtype = MW_F32,
                                                                .ldb = sae->d,
                                                                .b_transposed = true,
                                                                .c = out,
                                                                .ldc = sae->d_out,
                                                                .accumulate = true});
}

mw_status mw_sae_decode(const mw_sae *sae, const mw_codes *codes, const float *x, float *x_hat) {
    MW_TRY(sae->backend->ops->sparse_decode(sae->backend, x_hat, sae->b_dec, codes->start, codes->index, codes->value,
                                            codes->rows, sae->w_dec, sae->d_out));
    return sae_add_skip(sae, x, codes->rows, x_hat);
}
