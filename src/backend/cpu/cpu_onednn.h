/* The C API of oneDNN 2.x and 3.x behind one interface, for the oneDNN files of the CPU backend. */
#ifndef MICROW_BACKEND_CPU_CPU_ONEDNN_H
#define MICROW_BACKEND_CPU_CPU_ONEDNN_H

#include "backend/cpu/cpu.h"

#include <dnnl.h>

mw_status mw_onednn_checked(dnnl_status_t code, const char *call) MW_MUST_USE;
/* To be called before calls that generate code. MW_ERR_MEMORY: there may be too little memory for it. */
mw_status mw_onednn_room(void) MW_MUST_USE;

/* The layout of a matrix; mw_onednn_layout_free frees it, and allows {0}. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t mw_onednn_layout;
#else
typedef dnnl_memory_desc_t *mw_onednn_layout;
#endif
mw_status mw_onednn_strided(int64_t rows, int64_t columns, dnnl_data_type_t type, int64_t row_stride,
                            int64_t column_stride, mw_onednn_layout *out) MW_MUST_USE;
/* A layout that oneDNN chooses. */
mw_status mw_onednn_any(int64_t rows, int64_t columns, dnnl_data_type_t type, mw_onednn_layout *out) MW_MUST_USE;
void mw_onednn_layout_free(mw_onednn_layout *layout);

/* Executes a primitive on its operands, each with a role (DNNL_ARG_...). Returns when it is done. */
typedef struct mw_onednn_operand {
    int role;
    mw_onednn_layout layout;
    const void *data;
} mw_onednn_operand;
enum { MW_ONEDNN_OPERANDS = 4 /* at most */ };
mw_status mw_onednn_execute(dnnl_primitive_t primitive, dnnl_engine_t engine, dnnl_stream_t stream,
                            const mw_onednn_operand *with, int n) MW_MUST_USE;

/* Makes the primitive descriptor of C = A B. MW_ERR_UNSUPPORTED, not logged: oneDNN has no such kernel. */
mw_status mw_onednn_product(dnnl_engine_t engine, mw_onednn_layout a, mw_onednn_layout b, mw_onednn_layout c,
                            dnnl_primitive_attr_t attributes, dnnl_primitive_desc_t *out) MW_MUST_USE;
/* Copies a layout that a descriptor has chosen. */
mw_status mw_onednn_chosen(dnnl_primitive_desc_t description, dnnl_query_t what, mw_onednn_layout *out) MW_MUST_USE;
size_t mw_onednn_bytes(mw_onednn_layout layout);
/* Whether oneDNN's layout is blocked, not just rows and columns with strides. */
bool mw_onednn_blocked(mw_onednn_layout layout);
mw_status mw_onednn_sum(dnnl_post_ops_t operations) MW_MUST_USE; /* makes the product add to C */

/* Whether this CPU has bf16 products. Without, oneDNN emulates them at a third of the speed of f32, or refuses. */
bool mw_onednn_has_bf16(void);

/* Products with a packed B (cpu_onednn_packed.c); as pack, free_packed and packed of mw_cpu_product. */
mw_status mw_onednn_pack(const mw_matmul *like, mw_dtype as, const mw_room *room, mw_packed **packed) MW_MUST_USE;
void mw_onednn_free_packed(mw_packed *packed);
mw_status mw_onednn_packed(const mw_matmul *whole, mw_tile_source *out) MW_MUST_USE;

#endif
