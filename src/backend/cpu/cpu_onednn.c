/* Products of tiles by oneDNN: f32 through dnnl_sgemm, bf16 through its matmul primitive (C API 2.x and 3.x). */
#include "backend/cpu/cpu.h"

#ifdef MICROW_HAVE_ONEDNN
#include "backend/cpu/cpu_onednn.h"

#include <stdatomic.h>

/* Checks memory before the first sgemm of each kind of product, which generates code. Vectors and small products have
 * other kernels. */
static mw_status room_for_sgemm(const mw_matmul *t) {
    static atomic_uint seen;
    unsigned kind = (unsigned)t->b_transposed | (unsigned)t->accumulate << 1 | (unsigned)(t->m == 1) << 2 |
                    (unsigned)(t->n == 1) << 3 | (unsigned)(t->m < 16 || t->n < 16 || t->k < 16) << 4;
    unsigned bit = 1u << kind;
    if (atomic_load_explicit(&seen, memory_order_relaxed) & bit) return MW_OK;
    MW_TRY(mw_onednn_room());
    atomic_fetch_or(&seen, bit);
    return MW_OK;
}

static mw_status onednn_f32(const mw_matmul *t) {
    MW_TRY(room_for_sgemm(t));
    return mw_onednn_checked(dnnl_sgemm('N', t->b_transposed ? 'T' : 'N', t->m, t->n, t->k, 1.0f, t->a, t->lda, t->b,
                                        t->ldb, t->accumulate ? 1.0f : 0.0f, t->c, t->ldc),
                             "sgemm");
}

/* A primitive with its three layouts; oneDNN caches primitives by shape. */
typedef struct product {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_attr_t attributes;
    mw_onednn_layout a, b, c;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
} product;

static mw_status sum_into(const mw_matmul *t, product *p) {
    MW_TRY(mw_onednn_checked(dnnl_primitive_attr_create(&p->attributes), "primitive_attr_create"));
    if (!t->accumulate) return MW_OK;
    dnnl_post_ops_t sum;
    MW_TRY(mw_onednn_checked(dnnl_post_ops_create(&sum), "post_ops_create"));
    mw_status status = mw_onednn_sum(sum);
    if (status == MW_OK)
        status = mw_onednn_checked(dnnl_primitive_attr_set_post_ops(p->attributes, sum), "primitive_attr_set_post_ops");
    dnnl_post_ops_destroy(sum);
    return status;
}

static mw_status describe(const mw_matmul *t, product *p) {
    MW_TRY(mw_onednn_strided(t->m, t->k, dnnl_bf16, t->k, 1, &p->a));
    MW_TRY(mw_onednn_strided(t->k, t->n, dnnl_bf16, t->b_transposed ? 1 : t->ldb, t->b_transposed ? t->ldb : 1, &p->b));
    MW_TRY(mw_onednn_strided(t->m, t->n, dnnl_f32, t->ldc, 1, &p->c));
    return mw_onednn_product(p->engine, p->a, p->b, p->c, p->attributes, &p->description);
}

static mw_status run(const mw_matmul *t, const uint16_t *a16, product *p) {
    MW_TRY(mw_onednn_room());
    MW_TRY(mw_onednn_checked(dnnl_engine_create(&p->engine, dnnl_cpu, 0), "engine_create"));
    MW_TRY(mw_onednn_checked(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags), "stream_create"));
    MW_TRY(sum_into(t, p));
    MW_TRY(describe(t, p));
    MW_TRY(mw_onednn_checked(dnnl_primitive_create(&p->primitive, p->description), "primitive_create"));
    const mw_onednn_operand with[] = {
        {DNNL_ARG_SRC, p->a, a16}, {DNNL_ARG_WEIGHTS, p->b, t->b}, {DNNL_ARG_DST, p->c, t->c}};
    return mw_onednn_execute(p->primitive, p->engine, p->stream, with, 3);
}

static mw_status onednn_bf16(const mw_matmul *t, const uint16_t *a16) {
    product p = {0};
    mw_status status = run(t, a16, &p);
    if (status == MW_ERR_UNSUPPORTED) status = mw_error(status, "oneDNN has no such bf16 product");
    if (p.primitive) dnnl_primitive_destroy(p.primitive);
    if (p.description) dnnl_primitive_desc_destroy(p.description);
    mw_onednn_layout_free(&p.a);
    mw_onednn_layout_free(&p.b);
    mw_onednn_layout_free(&p.c);
    if (p.attributes) dnnl_primitive_attr_destroy(p.attributes);
    if (p.stream) dnnl_stream_destroy(p.stream);
    if (p.engine) dnnl_engine_destroy(p.engine);
    return status;
}

static const mw_cpu_product in_f32_only = {.name = "onednn",
                                           .f32 = onednn_f32,
                                           .pack = mw_onednn_pack,
                                           .free_packed = mw_onednn_free_packed,
                                           .packed = mw_onednn_packed};

static const mw_cpu_product *suited(void) {
    return mw_onednn_has_bf16() ? &mw_cpu_onednn : &in_f32_only;
}

const mw_cpu_product mw_cpu_onednn = {.name = "onednn",
                                      .f32 = onednn_f32,
                                      .bf16 = onednn_bf16,
                                      .suited = suited,
                                      .pack = mw_onednn_pack,
                                      .free_packed = mw_onednn_free_packed,
                                      .packed = mw_onednn_packed};
#endif
