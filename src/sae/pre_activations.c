/* Pre-activations a = W_enc (x - b_dec) + b_enc, chunk by chunk of rows: [all rows, n] is never in memory. */
#include "sae/variants/variants.h"

enum {
    HOST_FLOATS = 1 << 21,
    DEVICE_FLOATS = 1 << 23,
    DEVICE_FLOATS_MAX = 1 << 28,
    DEVICE_ROWS = 512,
    CHUNK_ROWS_MAX = 1024
};

/* Chunks are whole tiles of about 8 MiB of pre-activations on a CPU, so that selection finds them in the cache, and of
 * 32 MiB on a GPU. Where such a chunk has few rows, a GPU would take longer to read the weights for each chunk than to
 * multiply (docs/running/gpu-roofline.md), and chunks are larger, up to 1 GiB. */
int64_t chunk_rows(bool host_memory, int64_t n) {
    int64_t floats = host_memory ? HOST_FLOATS : DEVICE_FLOATS;
    if (!host_memory && floats / n < DEVICE_ROWS / 2)
        floats = DEVICE_ROWS * n < DEVICE_FLOATS_MAX ? DEVICE_ROWS * n : DEVICE_FLOATS_MAX;
    int64_t rows = floats / n / MW_ROW_TILE * MW_ROW_TILE;
    return rows < MW_ROW_TILE ? MW_ROW_TILE : rows > CHUNK_ROWS_MAX ? CHUNK_ROWS_MAX : rows;
}

static mw_status pre_activations(const mw_sae *sae, const float *x, int64_t rows, float *centered, float *pre) {
    mw_backend *b = sae->backend;
    if (centered) MW_TRY(b->ops->subtract_row(b, centered, x, sae->b_dec, rows, sae->d));
    return b->ops->matmul(b, &(mw_matmul){.m = rows,
                                          .n = sae->n,
                                          .k = sae->d,
                                          .a = centered ? centered : x,
                                          .lda = sae->d,
                                          .b = sae->w_enc16 ? (const void *)sae->w_enc16 : sae->w_enc,
                                          .b_dtype = sae->w_enc16 ? MW_BF16 : MW_F32,
                                          .ldb = sae->d,
                                          .b_transposed = true,
                                          .bias = sae->b_enc,
                                          .c = pre,
                                          .ldc = sae->n,
                                          .tf32 = sae->tf32,
                                          .packed = sae->packed});
}

static void release(mw_backend *backend, void *block) {
    if (block) backend->ops->free(backend, block);
}

mw_status sae_visit(const mw_sae *sae, const float *x, int64_t rows, pre_visitor visit, void *self) {
    mw_backend *b = sae->backend;
    int64_t chunk = chunk_rows(b->ops->host_memory, sae->n);
    if (chunk > rows) chunk = rows;
    float *centered = NULL, *pre = NULL;
    mw_status status = mw_backend_floats(b, chunk * sae->n, &pre);
    if (status == MW_OK && !sae->transcoder && !sae->centered) status = mw_backend_floats(b, chunk * sae->d, &centered);
    for (int64_t r = 0; r < rows && status == MW_OK; r += chunk) {
        int64_t n = rows - r < chunk ? rows - r : chunk;
        status = pre_activations(sae, x + r * sae->d, n, centered, pre);
        if (status == MW_OK) status = visit(self, pre, r, n);
    }
    release(b, centered);
    release(b, pre);
    return status;
}
