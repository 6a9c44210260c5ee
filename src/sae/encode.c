/* From activations to codes and back. */
#include "sae/shards.h"

enum {
    HOST_FLOATS = 1 << 21,
    DEVICE_FLOATS = 1 << 23,
    DEVICE_FLOATS_MAX = 1 << 28,
    DEVICE_ROWS = 512,
    CHUNK_ROWS_MAX = 1024
};

/* Rows whose pre-activations are in memory at once: whole tiles, so that selection finds them in the cache: about 8 MiB on a
 * CPU, 32 MiB on a GPU. Where those are few, a GPU would take longer to read the weights for each chunk than to multiply
 * (docs/running/gpu-roofline.md), and chunks are larger, up to 1 GiB. */
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

/* ---- codes of a matrix --------------------------------------------------------------------------------------- */

/* Counts of rows first .. first + rows, which lie behind their starts, become starts; entries get room. */
static mw_status place_rows(mw_codes *out, int64_t first, int64_t rows) {
    int64_t *start = out->start + first;
    for (int64_t r = 0; r < rows; r++) start[r + 1] += start[r];
    return mw_codes_reserve(out, start[0], start[rows]);
}

mw_status append_above(mw_backend *backend, mw_codes *out, int64_t first, int64_t rows, int64_t n,
                       const mw_threshold *how, const float *x) {
    int64_t *start = out->start + first;
    MW_TRY(backend->ops->count_open(backend, how, x, rows, n, start + 1));
    MW_TRY(place_rows(out, first, rows));
    return backend->ops->write_open(backend, how, x, rows, n, start, out->index, out->value);
}

mw_status keep_codes(mw_backend *b, const mw_codes *from, int64_t rows, const mw_filter *how, mw_codes *to) {
    MW_TRY(mw_codes_begin(to, from->rows));
    MW_TRY(b->ops->count_kept(b, how, from->start, from->index, from->value, rows, to->start + 1));
    MW_TRY(place_rows(to, 0, rows));
    return b->ops->write_kept(b, how, from->start, from->index, from->value, rows, to->start, to->index, to->value);
}

mw_filter above(const mw_sae *sae, float level) {
    return (mw_filter){.first = 0, .last = sae->n, .level = level};
}

mw_status append_positive(mw_backend *backend, mw_codes *out, int64_t first, int64_t rows, int64_t k,
                          const int32_t *index, const float *value) {
    return append_above(backend, out, first, rows, k, &(mw_threshold){.labels = index}, value); /* the relu */
}

/* ---- the k largest of a row ------------------------------------------------------------------------------ */

typedef struct top_k_reader {
    const mw_sae *sae;
    candidates *found;
} top_k_reader;

static mw_status take_top_k(void *self, const float *pre, int64_t first, int64_t rows) {
    top_k_reader *t = self;
    return candidates_take(t->found, pre, first, rows, t->sae->n, NULL);
}

mw_status top_k_candidates(const mw_sae *sae, const float *x, int64_t rows, int64_t k, candidates *out) {
    MW_TRY(candidates_make(sae->backend, rows, k, out));
    return sae_visit(sae, x, rows, take_top_k, &(top_k_reader){sae, out});
}

mw_status top_k_codes(const mw_sae *sae, const float *x, int64_t rows, int64_t k, mw_codes *out) {
    candidates found = {0};
    mw_status status = top_k_candidates(sae, x, rows, k, &found);
    status = candidates_choose(sae, &found, k, status, out);
    candidates_free(&found);
    return status;
}

/* ---- all above a floor ----------------------------------------------------------------------------------- */

typedef struct open_reader {
    const mw_sae *sae;
    int count;
    const mw_threshold *how; /* [count] */
    mw_codes *const *out;
} open_reader;

static mw_status take_open(void *self, const float *pre, int64_t first, int64_t rows) {
    open_reader *t = self;
    for (int i = 0; i < t->count; i++)
        MW_TRY(append_above(t->sae->backend, t->out[i], first, rows, t->sae->n, &t->how[i], pre));
    return MW_OK;
}

static mw_status open_all(open_reader *t, const float *x, int64_t rows) {
    for (int i = 0; i < t->count; i++) MW_TRY(mw_codes_begin(t->out[i], rows));
    return sae_visit(t->sae, x, rows, take_open, t);
}

mw_status codes_above(const mw_sae *sae, const float *x, int64_t rows, mw_threshold how, mw_codes *out) {
    return open_all(&(open_reader){sae, 1, &how, &out}, x, rows);
}

mw_status codes_above_both(const mw_sae *sae, const float *x, int64_t rows, const mw_threshold how[2],
                           mw_codes *const out[2]) {
    return open_all(&(open_reader){sae, 2, how, out}, x, rows);
}

/* ---- use ---------------------------------------------------------------------------------------------------- */

enum { FEW_ROWS = 64 }; /* that the host rebuilds sooner than they are sent to a device */

/* Rows of the host's on a device. */
static mw_status send(mw_backend *b, const float *x, int64_t count, float **out) {
    MW_TRY(mw_backend_floats(b, count, out));
    mw_status status = b->ops->upload(b, *out, x, (size_t)count * sizeof *x);
    if (status != MW_OK) b->ops->free(b, *out);
    return status;
}

static mw_status encode_there(const mw_sae *copy, const float *x, int64_t rows, mw_codes *out) {
    mw_backend *b = copy->backend;
    mw_codes codes = {.memory = b};
    float *there = NULL;
    MW_TRY(send(b, x, rows * copy->d, &there));
    mw_status status = variant_of(copy)->encode(copy, there, rows, &codes);
    if (status == MW_OK) status = codes_to_host(&codes, out);
    b->ops->free(b, there);
    mw_codes_free(&codes);
    return status;
}

mw_status mw_sae_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return sae->device ? encode_there(sae->device, x, rows, out) : variant_of(sae)->encode(sae, x, rows, out);
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

/* All in the memory of the SAE's backend. */
static mw_status decode_here(const mw_sae *sae, const mw_codes *codes, const float *x, float *x_hat) {
    MW_TRY(shards_decode(sae, sae->b_dec, codes, x_hat));
    return sae_add_skip(sae, x, codes->rows, x_hat);
}

static mw_status decode_there(const mw_sae *copy, const mw_codes *codes, const float *x, float *x_hat) {
    mw_backend *b = copy->backend;
    mw_codes there = {.memory = b};
    int64_t count = codes->rows * copy->d_out;
    float *input = NULL, *output = NULL;
    mw_status status = codes_from_host(codes, &there);
    if (status == MW_OK && copy->w_skip) status = send(b, x, codes->rows * copy->d, &input);
    if (status == MW_OK) status = mw_backend_floats(b, count, &output);
    if (status == MW_OK) status = decode_here(copy, &there, input, output);
    if (status == MW_OK) status = b->ops->download(b, x_hat, output, (size_t)count * sizeof *x_hat);
    release(b, input);
    release(b, output);
    mw_codes_free(&there);
    return status;
}

mw_status mw_sae_decode(const mw_sae *sae, const mw_codes *codes, const float *x, float *x_hat) {
    bool there = sae->device && codes->rows >= FEW_ROWS;
    return there ? decode_there(sae->device, codes, x, x_hat) : decode_here(sae, codes, x, x_hat);
}
