/* Encoding and decoding outside training, on the host or on a device. */
#include "sae/shards.h"

static void release(mw_backend *backend, void *block) {
    if (block) backend->ops->free(backend, block);
}

enum { DEVICE_ROWS_MIN = 64 }; /* the host decodes fewer rows sooner than they are sent to a device */

/* Allocates device memory for `count` floats of host memory and copies them. */
static mw_status send(mw_backend *b, const float *x, int64_t count, float **out) {
    MW_TRY(mw_backend_floats(b, count, out));
    mw_status status = b->ops->upload(b, *out, x, (size_t)count * sizeof *x);
    if (status != MW_OK) b->ops->free(b, *out);
    return status;
}

static mw_status encode_on_device(const mw_sae *copy, const float *x, int64_t rows, mw_codes *out) {
    mw_backend *b = copy->backend;
    mw_codes codes = {.memory = b};
    float *device_x = NULL;
    MW_TRY(send(b, x, rows * copy->d, &device_x));
    mw_status status = variant_of(copy)->encode(copy, device_x, rows, &codes);
    if (status == MW_OK) status = codes_to_host(&codes, out);
    b->ops->free(b, device_x);
    mw_codes_free(&codes);
    return status;
}

mw_status mw_sae_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return sae->device ? encode_on_device(sae->device, x, rows, out) : variant_of(sae)->encode(sae, x, rows, out);
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

/* All arrays in the memory of the SAE's backend. */
static mw_status decode_local(const mw_sae *sae, const mw_codes *codes, const float *x, float *x_hat) {
    MW_TRY(shards_decode(sae, sae->b_dec, codes, x_hat));
    return sae_add_skip(sae, x, codes->rows, x_hat);
}

static mw_status decode_on_device(const mw_sae *copy, const mw_codes *codes, const float *x, float *x_hat) {
    mw_backend *b = copy->backend;
    mw_codes device_codes = {.memory = b};
    int64_t count = codes->rows * copy->d_out;
    float *input = NULL, *output = NULL;
    mw_status status = codes_from_host(codes, &device_codes);
    if (status == MW_OK && copy->w_skip) status = send(b, x, codes->rows * copy->d, &input);
    if (status == MW_OK) status = mw_backend_floats(b, count, &output);
    if (status == MW_OK) status = decode_local(copy, &device_codes, input, output);
    if (status == MW_OK) status = b->ops->download(b, x_hat, output, (size_t)count * sizeof *x_hat);
    release(b, input);
    release(b, output);
    mw_codes_free(&device_codes);
    return status;
}

mw_status mw_sae_decode(const mw_sae *sae, const mw_codes *codes, const float *x, float *x_hat) {
    bool on_device = sae->device && codes->rows >= DEVICE_ROWS_MIN;
    return on_device ? decode_on_device(sae->device, codes, x, x_hat) : decode_local(sae, codes, x, x_hat);
}
