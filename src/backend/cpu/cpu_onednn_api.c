/* The calls that differ between oneDNN 2.x, where layouts are plain structs, and 3.x, where they are objects. */
#include "backend/cpu/cpu.h"

#ifdef MICROW_HAVE_ONEDNN
#include "backend/cpu/cpu_onednn.h"

/* Far more than code, its buffers and a plan take: without memory for these oneDNN writes to address 0. */
mw_status mw_onednn_room(void) {
    return mw_memory_room((size_t)64 << 20, "a product by oneDNN");
}

mw_status mw_onednn_checked(dnnl_status_t code, const char *call) {
    if (code == dnnl_out_of_memory) return mw_error(MW_ERR_MEMORY, "out of memory in oneDNN's %s", call);
    return code == dnnl_success ? MW_OK : mw_error(MW_ERR_BACKEND, "oneDNN: %s failed with code %d", call, (int)code);
}

static mw_status described(dnnl_status_t code) {
    return code == dnnl_unimplemented ? MW_ERR_UNSUPPORTED : mw_onednn_checked(code, "matmul descriptor");
}

mw_status mw_onednn_execute(dnnl_primitive_t primitive, dnnl_engine_t engine, dnnl_stream_t stream,
                            const mw_onednn_operand *with, int n) {
    dnnl_exec_arg_t args[MW_ONEDNN_OPERANDS] = {{0}};
    mw_status status = MW_OK;
    int made = 0;
    for (; made < n && status == MW_OK; made++) {
        void *data = (void *)(uintptr_t)with[made].data;
        args[made] = (dnnl_exec_arg_t){.arg = with[made].role};
        status =
            mw_onednn_checked(dnnl_memory_create(&args[made].memory, with[made].layout, engine, data), "memory_create");
    }
    if (status == MW_OK)
        status = mw_onednn_checked(dnnl_primitive_execute(primitive, stream, n, args), "primitive_execute");
    if (status == MW_OK) status = mw_onednn_checked(dnnl_stream_wait(stream), "stream_wait");
    for (int i = 0; i < made; i++)
        if (args[i].memory) dnnl_memory_destroy(args[i].memory);
    return status;
}

#if DNNL_VERSION_MAJOR >= 3
mw_status mw_onednn_strided(int64_t rows, int64_t columns, dnnl_data_type_t type, int64_t row_stride,
                            int64_t column_stride, mw_onednn_layout *out) {
    dnnl_dims_t dims = {rows, columns}, strides = {row_stride, column_stride};
    return mw_onednn_checked(dnnl_memory_desc_create_with_strides(out, 2, dims, type, strides),
                             "memory_desc_create_with_strides");
}

mw_status mw_onednn_any(int64_t rows, int64_t columns, dnnl_data_type_t type, mw_onednn_layout *out) {
    dnnl_dims_t dims = {rows, columns};
    return mw_onednn_checked(dnnl_memory_desc_create_with_tag(out, 2, dims, type, dnnl_format_tag_any),
                             "memory_desc_create_with_tag");
}

void mw_onednn_layout_free(mw_onednn_layout *layout) {
    if (*layout) dnnl_memory_desc_destroy(*layout);
    *layout = NULL;
}

mw_status mw_onednn_product(dnnl_engine_t engine, mw_onednn_layout a, mw_onednn_layout b, mw_onednn_layout c,
                            dnnl_primitive_attr_t attributes, dnnl_primitive_desc_t *out) {
    return described(dnnl_matmul_primitive_desc_create(out, engine, a, b, NULL, c, attributes));
}

mw_status mw_onednn_chosen(dnnl_primitive_desc_t description, dnnl_query_t what, mw_onednn_layout *out) {
    return mw_onednn_checked(dnnl_memory_desc_clone(out, dnnl_primitive_desc_query_md(description, what, 0)),
                             "memory_desc_clone");
}

bool mw_onednn_blocked(mw_onednn_layout layout) {
    int blocks = 0;
    return dnnl_memory_desc_query(layout, dnnl_query_inner_nblks_s32, &blocks) == dnnl_success && blocks > 0;
}

mw_status mw_onednn_sum(dnnl_post_ops_t operations) {
    return mw_onednn_checked(dnnl_post_ops_append_sum(operations, 1.0f, 0, dnnl_data_type_undef),
                             "post_ops_append_sum");
}
#else
static mw_status layout_make(mw_onednn_layout *out) {
    return (*out = mw_alloc(sizeof **out)) ? MW_OK : MW_ERR_MEMORY;
}

mw_status mw_onednn_strided(int64_t rows, int64_t columns, dnnl_data_type_t type, int64_t row_stride,
                            int64_t column_stride, mw_onednn_layout *out) {
    dnnl_dims_t dims = {rows, columns}, strides = {row_stride, column_stride};
    MW_TRY(layout_make(out));
    return mw_onednn_checked(dnnl_memory_desc_init_by_strides(*out, 2, dims, type, strides),
                             "memory_desc_init_by_strides");
}

mw_status mw_onednn_any(int64_t rows, int64_t columns, dnnl_data_type_t type, mw_onednn_layout *out) {
    dnnl_dims_t dims = {rows, columns};
    MW_TRY(layout_make(out));
    return mw_onednn_checked(dnnl_memory_desc_init_by_tag(*out, 2, dims, type, dnnl_format_tag_any),
                             "memory_desc_init_by_tag");
}

void mw_onednn_layout_free(mw_onednn_layout *layout) {
    mw_free(*layout);
    *layout = NULL;
}

mw_status mw_onednn_product(dnnl_engine_t engine, mw_onednn_layout a, mw_onednn_layout b, mw_onednn_layout c,
                            dnnl_primitive_attr_t attributes, dnnl_primitive_desc_t *out) {
    dnnl_matmul_desc_t product;
    MW_TRY(mw_onednn_checked(dnnl_matmul_desc_init(&product, a, b, NULL, c), "matmul_desc_init"));
    return described(dnnl_primitive_desc_create(out, &product, attributes, engine, NULL));
}

mw_status mw_onednn_chosen(dnnl_primitive_desc_t description, dnnl_query_t what, mw_onednn_layout *out) {
    MW_TRY(layout_make(out));
    **out = *dnnl_primitive_desc_query_md(description, what, 0);
    return MW_OK;
}

bool mw_onednn_blocked(mw_onednn_layout layout) {
    return layout->format_kind == dnnl_blocked && layout->format_desc.blocking.inner_nblks > 0;
}

mw_status mw_onednn_sum(dnnl_post_ops_t operations) {
    return mw_onednn_checked(dnnl_post_ops_append_sum(operations, 1.0f), "post_ops_append_sum");
}
#endif

bool mw_onednn_has_bf16(void) {
    int all = (int)dnnl_get_effective_cpu_isa(), bf16 = (int)dnnl_cpu_isa_avx512_core_bf16;
    return (all & bf16) == bf16;
}

size_t mw_onednn_bytes(mw_onednn_layout layout) {
    return dnnl_memory_desc_get_size(layout);
}
#endif
