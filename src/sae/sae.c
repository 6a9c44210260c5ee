#include "microw/sae.h"

#include <string.h>

mw_status mw_sae_new(mw_backend *backend, int64_t n, int64_t d, int64_t k, mw_sae **out) {
    if (n < 1 || d < 1 || n > INT32_MAX)
        return mw_error(MW_ERR_CONFIG, "an SAE of %lld latents and width %lld cannot be", (long long)n, (long long)d);
    if (k < 1 || k > n)
        return mw_error(MW_ERR_CONFIG, "sae.k = %lld: expected from 1 to the %lld latents", (long long)k, (long long)n);
    if (!backend->ops->host_memory)
        return mw_error(MW_ERR_UNSUPPORTED, "SAEs on device '%s' are not in this build", backend->ops->name);
    mw_sae *sae = mw_calloc(1, sizeof *sae);
    if (!sae) return MW_ERR_MEMORY;
    *sae = (mw_sae){.n = n, .d = d, .k = k, .backend = backend, .site = mw_strdup(""), .model = mw_strdup("")};
    sae->w_enc = mw_calloc((size_t)n * (size_t)d, sizeof(float));
    sae->w_dec = mw_calloc((size_t)n * (size_t)d, sizeof(float));
    sae->b_enc = mw_calloc((size_t)n, sizeof(float));
    sae->b_dec = mw_calloc((size_t)d, sizeof(float));
    if (!sae->w_enc || !sae->w_dec || !sae->b_enc || !sae->b_dec || !sae->site || !sae->model) {
        mw_sae_free(&sae);
        return MW_ERR_MEMORY;
    }
    *out = sae;
    return MW_OK;
}

void mw_sae_free(mw_sae **slot) {
    mw_sae *sae = *slot;
    if (!sae) return;
    void *all[] = {sae->w_enc, sae->w_dec, sae->b_enc, sae->b_dec, sae->site, sae->model, sae};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *slot = NULL;
}

/* Rows whose pre-activations are in memory at once: whole tiles, about 64 MiB. */
static int64_t chunk_rows(int64_t n) {
    int64_t rows = (INT64_C(1) << 24) / n / MW_ROW_TILE * MW_ROW_TILE;
    return rows < MW_ROW_TILE ? MW_ROW_TILE : rows > 1024 ? 1024 : rows;
}

static mw_status encode_chunk(const mw_sae *sae, const float *x, int64_t rows, float *centered, float *pre,
                              int32_t *index, float *value) {
    const mw_backend_ops *ops = sae->backend->ops;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < sae->d; i++) centered[r * sae->d + i] = x[r * sae->d + i] - sae->b_dec[i];
    MW_TRY(ops->matmul(sae->backend, &(mw_matmul){.m = rows,
                                                  .n = sae->n,
                                                  .k = sae->d,
                                                  .a = centered,
                                                  .lda = sae->d,
                                                  .b = sae->w_enc,
                                                  .b_dtype = MW_F32,
                                                  .ldb = sae->d,
                                                  .b_transposed = true,
                                                  .bias = sae->b_enc,
                                                  .c = pre,
                                                  .ldc = sae->n}));
    MW_TRY(ops->top_k(sae->backend, pre, rows, sae->n, sae->k, index, value));
    return ops->activate(sae->backend, MW_ACT_RELU, value, rows * sae->k);
}

mw_status mw_sae_encode(const mw_sae *sae, const float *x, int64_t rows, int32_t *index, float *value) {
    int64_t chunk = chunk_rows(sae->n);
    if (chunk > rows) chunk = rows;
    float *centered = mw_alloc((size_t)(chunk * sae->d) * sizeof *centered);
    float *pre = mw_alloc((size_t)(chunk * sae->n) * sizeof *pre);
    mw_status status = centered && pre ? MW_OK : MW_ERR_MEMORY;
    for (int64_t r = 0; r < rows && status == MW_OK; r += chunk) {
        int64_t n = rows - r < chunk ? rows - r : chunk;
        status = encode_chunk(sae, x + r * sae->d, n, centered, pre, index + r * sae->k, value + r * sae->k);
    }
    mw_free(centered);
    mw_free(pre);
    return status;
}

mw_status mw_sae_decode(const mw_sae *sae, const int32_t *index, const float *value, int64_t rows, float *x_hat) {
    return sae->backend->ops->sparse_decode(sae->backend, x_hat, sae->b_dec, index, value, rows, sae->k, sae->w_dec,
                                            sae->d);
}
