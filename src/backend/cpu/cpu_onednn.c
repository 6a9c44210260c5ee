/* Tile products by oneDNN: f32 through dnnl_sgemm, bf16 through its matmul primitive (C API 2.x and 3.x). */
#include "backend/cpu/cpu.h"

#ifdef MICROW_HAVE_ONEDNN
#include <dnnl.h>

static mw_status checked(dnnl_status_t code, const char *call) {
    return code == dnnl_success ? MW_OK : mw_error(MW_ERR_BACKEND, "oneDNN: %s failed with code %d", call, (int)code);
}

static mw_status onednn_f32(const mw_matmul *t) {
    return checked(dnnl_sgemm('N', t->b_transposed ? 'T' : 'N', t->m, t->n, t->k, 1.0f, t->a, t->lda, t->b, t->ldb,
                              t->accumulate ? 1.0f : 0.0f, t->c, t->ldc),
                   "sgemm");
}

typedef struct layouts {
    dnnl_dims_t a_dims, a_strides, b_dims, b_strides, c_dims, c_strides;
} layouts;

static layouts layouts_of(const mw_matmul *t) {
    layouts l = {.a_dims = {t->m, t->k},
                 .a_strides = {t->k, 1},
                 .b_dims = {t->k, t->n},
                 .c_dims = {t->m, t->n},
                 .c_strides = {t->ldc, 1}};
    l.b_strides[0] = t->b_transposed ? 1 : t->ldb;
    l.b_strides[1] = t->b_transposed ? t->ldb : 1;
    return l;
}

/* A primitive descriptor with its three memories described; oneDNN keeps a cache behind it, keyed by shape. */
typedef struct product {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
} product;

static mw_status sum_into(const mw_matmul *t, product *p) {
    MW_TRY(checked(dnnl_primitive_attr_create(&p->attributes), "primitive_attr_create"));
    if (!t->accumulate) return MW_OK;
    dnnl_post_ops_t sum;
    MW_TRY(checked(dnnl_post_ops_create(&sum), "post_ops_create"));
#if DNNL_VERSION_MAJOR >= 3
    dnnl_status_t code = dnnl_post_ops_append_sum(sum, 1.0f, 0, dnnl_data_type_undef);
#else
    dnnl_status_t code = dnnl_post_ops_append_sum(sum, 1.0f);
#endif
    if (code == dnnl_success) code = dnnl_primitive_attr_set_post_ops(p->attributes, sum);
    dnnl_post_ops_destroy(sum);
    return checked(code, "post_ops_append_sum");
}

#if DNNL_VERSION_MAJOR >= 3
static mw_status describe(const mw_matmul *t, const uint16_t *a16, product *p) {
    layouts l = layouts_of(t);
    dnnl_memory_desc_t a = NULL, b = NULL, c = NULL;
    mw_status status = checked(dnnl_memory_desc_create_with_strides(&a, 2, l.a_dims, dnnl_bf16, l.a_strides), "A");
    if (status == MW_OK)
        status = checked(dnnl_memory_desc_create_with_strides(&b, 2, l.b_dims, dnnl_bf16, l.b_strides), "B");
    if (status == MW_OK)
        status = checked(dnnl_memory_desc_create_with_strides(&c, 2, l.c_dims, dnnl_f32, l.c_strides), "C");
    if (status == MW_OK)
        status = checked(dnnl_matmul_primitive_desc_create(&p->description, p->engine, a, b, NULL, c, p->attributes),
                         "matmul_primitive_desc_create");
    if (status == MW_OK) status = checked(dnnl_memory_create(&p->a, a, p->engine, (void *)(uintptr_t)a16), "memory A");
    if (status == MW_OK) status = checked(dnnl_memory_create(&p->b, b, p->engine, (void *)(uintptr_t)t->b), "memory B");
    if (status == MW_OK) status = checked(dnnl_memory_create(&p->c, c, p->engine, t->c), "memory C");
    if (a) dnnl_memory_desc_destroy(a);
    if (b) dnnl_memory_desc_destroy(b);
    if (c) dnnl_memory_desc_destroy(c);
    return status;
}
#else
static mw_status describe(const mw_matmul *t, const uint16_t *a16, product *p) {
    layouts l = layouts_of(t);
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t description;
    MW_TRY(checked(dnnl_memory_desc_init_by_strides(&a, 2, l.a_dims, dnnl_bf16, l.a_strides), "A"));
    MW_TRY(checked(dnnl_memory_desc_init_by_strides(&b, 2, l.b_dims, dnnl_bf16, l.b_strides), "B"));
    MW_TRY(checked(dnnl_memory_desc_init_by_strides(&c, 2, l.c_dims, dnnl_f32, l.c_strides), "C"));
    MW_TRY(checked(dnnl_matmul_desc_init(&description, &a, &b, NULL, &c), "matmul_desc_init"));
    MW_TRY(checked(dnnl_primitive_desc_create(&p->description, &description, p->attributes, p->engine, NULL),
                   "primitive_desc_create"));
    MW_TRY(checked(dnnl_memory_create(&p->a, &a, p->engine, (void *)(uintptr_t)a16), "memory A"));
    MW_TRY(checked(dnnl_memory_create(&p->b, &b, p->engine, (void *)(uintptr_t)t->b), "memory B"));
    return checked(dnnl_memory_create(&p->c, &c, p->engine, t->c), "memory C");
}
#endif

static mw_status run(const mw_matmul *t, const uint16_t *a16, product *p) {
    MW_TRY(checked(dnnl_engine_create(&p->engine, dnnl_cpu, 0), "engine_create"));
    MW_TRY(checked(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags), "stream_create"));
    MW_TRY(sum_into(t, p));
    MW_TRY(describe(t, a16, p));
    MW_TRY(checked(dnnl_primitive_create(&p->primitive, p->description), "primitive_create"));
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
    MW_TRY(checked(dnnl_primitive_execute(p->primitive, p->stream, 3, args), "primitive_execute"));
    return checked(dnnl_stream_wait(p->stream), "stream_wait");
}

static mw_status onednn_bf16(const mw_matmul *t, const uint16_t *a16) {
    product p = {0};
    mw_status status = run(t, a16, &p);
    if (p.a) dnnl_memory_destroy(p.a);
    if (p.b) dnnl_memory_destroy(p.b);
    if (p.c) dnnl_memory_destroy(p.c);
    if (p.primitive) dnnl_primitive_destroy(p.primitive);
    if (p.description) dnnl_primitive_desc_destroy(p.description);
    if (p.attributes) dnnl_primitive_attr_destroy(p.attributes);
    if (p.stream) dnnl_stream_destroy(p.stream);
    if (p.engine) dnnl_engine_destroy(p.engine);
    return status;
}

const mw_cpu_product mw_cpu_onednn = {.name = "onednn", .f32 = onednn_f32, .bf16 = onednn_bf16};
#endif
