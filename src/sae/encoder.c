/* How pre-activations a = W_enc (x - b_dec) + b_enc are computed: copies of W_enc that products read, and bounds for a
 * screen, chosen for an SAE and kept up to date; then chunks of rows. */
#include "sae/shards.h"

/* ---- copies of W_enc --------------------------------------------------------------------------------------- */

/* Packing W_enc in f32 pays from about 400 rows on one thread. The choice depends on the batch of all ranks, not on a
 * rank's rows: variants that use the products' values notice it, as packed products round differently. */
enum { PACK_ROWS = 1024 };

void encoder_choose(mw_backend *b, const encoder_choice *c, bool dense, mw_encoder *e) {
    bool f32 = c->precision == MW_PRECISION_F32;
    bool rounds = c->screen == MW_SCREEN_AUTO ? b->ops->has_fast_bf16(b) : c->screen == MW_SCREEN_BF16;
    *e = (mw_encoder){.prepared = true, .tf32 = c->precision == MW_PRECISION_TF32};
    e->how = !f32 || dense ? MW_BY_PRODUCTS : c->screen == MW_SCREEN_OFF ? MW_BY_DOTS : MW_BY_SCREEN;
    bool bf16 = e->how == MW_BY_SCREEN ? rounds : c->precision == MW_PRECISION_BF16;
    e->dtype = bf16 ? MW_BF16 : MW_F32;
    e->packs = e->how != MW_BY_DOTS && (c->rows >= PACK_ROWS || (bf16 && e->how == MW_BY_SCREEN));
}

/* Where products read no packed copy. */
static mw_status round_copy(mw_backend *b, const float *w, int64_t n, int64_t d, mw_encoder *e) {
    if (!e->copy16 && (size_t)(n * d) * sizeof *e->copy16 <= e->room.bytes) e->copy16 = e->room.memory;
    if (!e->copy16) MW_TRY(mw_backend_zeros(b, n * d, sizeof *e->copy16, &e->copy16));
    return b->ops->convert(b, MW_BF16, e->copy16, w, n * d);
}

static mw_status measure_rows(mw_backend *b, const float *w, int64_t n, int64_t d, mw_encoder *e) {
    if (!e->norm) MW_TRY(mw_backend_floats(b, n, &e->norm));
    if (!e->error) MW_TRY(mw_backend_floats(b, n, &e->error));
    return b->ops->round_errors(b, e->norm, e->error, e->dtype, w, n, d);
}

mw_status encoder_copy(mw_backend *b, const float *w, int64_t n, int64_t d, mw_encoder *e) {
    const mw_matmul like = {.n = n, .k = d, .b = w, .b_dtype = MW_F32, .ldb = d, .b_transposed = true};
    if (e->packs) MW_TRY(b->ops->pack(b, &like, e->dtype, &e->room, &e->packed));
    if (e->dtype == MW_BF16 && !e->packed) MW_TRY(round_copy(b, w, n, d, e));
    return e->how == MW_BY_SCREEN ? measure_rows(b, w, n, d, e) : MW_OK;
}

void encoder_free(mw_backend *b, mw_encoder *e) {
    void *all[] = {e->copy16 != e->room.memory ? e->copy16 : NULL, e->norm, e->error};
    if (e->packed) b->ops->free_packed(b, e->packed);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) b->ops->free(b, all[i]);
    *e = (mw_encoder){0};
}

mw_screen encoder_screen(const mw_encoder *e, const float *w, const float *bias, int64_t n, int64_t d) {
    return (mw_screen){.how = e->how,
                       .n = n,
                       .d = d,
                       .w = w,
                       .bias = bias,
                       .packed = e->packed,
                       .b = e->copy16 ? (const void *)e->copy16 : w,
                       .b_dtype = e->dtype,
                       .tf32 = e->tf32,
                       .norm = e->norm,
                       .error = e->error};
}

/* ---- of an SAE ----------------------------------------------------------------------------------------------- */

mw_status sae_prepare(mw_sae *sae, const encoder_choice *c) {
    sae_unprepare(sae);
    encoder_choose(sae->backend, c, variant_of(sae)->dense, &sae->encoder);
    sae->encoder.room = c->room;
    return sae_refresh(sae);
}

mw_status sae_refresh(mw_sae *sae) {
    return encoder_copy(sae->backend, sae->w_enc, sae->n, sae->d, &sae->encoder);
}

void sae_unprepare(mw_sae *sae) {
    encoder_free(sae->backend, &sae->encoder);
}

mw_screen screen_of(const mw_sae *sae) {
    mw_encoder e = sae->encoder;
    if (!e.prepared) e = (mw_encoder){.how = variant_of(sae)->dense ? MW_BY_PRODUCTS : MW_BY_DOTS, .dtype = MW_F32};
    return encoder_screen(&e, sae->w_enc, sae->b_enc, sae->n, sae->d);
}

int64_t encoder_bytes(const mw_sae *sae, const encoder_choice *c, bool own_memory) {
    bool bf16 = c->precision == MW_PRECISION_BF16 || c->screen == MW_SCREEN_BF16 || own_memory;
    bool copies = c->precision == MW_PRECISION_BF16 || (c->precision == MW_PRECISION_F32 && c->screen != MW_SCREEN_OFF);
    int64_t item = !copies ? 0 : bf16 ? 2 : c->rows >= PACK_ROWS ? 4 : 0, copy = sae->n * sae->d * item;
    return ((size_t)copy > c->room.bytes ? copy : 0) + 2 * sae->n * (int64_t)sizeof(float);
}

/* ---- rows ---------------------------------------------------------------------------------------------------- */

static void release(mw_backend *backend, void *block) {
    if (block) backend->ops->free(backend, block);
}

/* Sets *out to the rows that W_enc multiplies: x, or `centered`, which the caller releases. */
static mw_status center(const mw_sae *sae, const float *x, int64_t rows, float **centered, const float **out) {
    mw_backend *b = sae->backend;
    *out = x;
    if (sae->transcoder || sae->centered || rows == 0) return MW_OK;
    MW_TRY(mw_backend_floats(b, rows * sae->d, centered));
    *out = *centered;
    return b->ops->subtract_row(b, *centered, x, sae->b_dec, rows, sae->d);
}

static mw_status visit_chunk(const mw_sae *sae, chunk *c, const float *x, float *bounds, pre_visitor visit,
                             void *self) {
    mw_backend *b = sae->backend;
    const mw_screen screen = screen_of(sae);
    float *centered = NULL;
    mw_status status = center(sae, x + c->first * sae->d, c->rows, &centered, &c->x);
    if (status == MW_OK) status = b->ops->screen_bounds(b, &screen, c->x, c->rows, bounds);
    if (status == MW_OK) status = visit(self, c);
    release(b, centered);
    return status;
}

mw_status sae_visit(const mw_sae *sae, const float *x, int64_t rows, pre_visitor visit, void *self) {
    mw_backend *b = sae->backend;
    int64_t most = mw_chunk_rows(b->ops->host_memory, sae->n);
    float *bounds = NULL;
    chunk c = {.screened = screen_of(sae).how == MW_BY_SCREEN};
    if (most > rows) most = rows;
    mw_status status = mw_backend_floats(b, most * sae->n, &bounds);
    c.pre = bounds;
    for (; c.first < rows && status == MW_OK; c.first += c.rows) {
        c.rows = rows - c.first < most ? rows - c.first : most;
        status = visit_chunk(sae, &c, x, bounds, visit, self);
    }
    release(b, bounds);
    return status;
}

mw_status sae_top_k(const mw_sae *sae, const float *x, int64_t rows, candidates *c) {
    const mw_screen screen = screen_of(sae);
    const float *input = NULL;
    float *centered = NULL;
    int64_t dots = 0;
    mw_status status = center(sae, x, rows, &centered, &input);
    if (status == MW_OK) status = candidates_find(c, &screen, input, NULL, &dots);
    if (sae->encoder.dots) *sae->encoder.dots += dots;
    release(sae->backend, centered);
    return status;
}
