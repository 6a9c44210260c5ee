#include "backend/cpu/cpu.h"

#include <string.h>

static mw_status cpu_alloc(mw_backend *backend, size_t bytes, void **out) {
    (void)backend;
    void *block = mw_alloc(bytes);
    if (!block) return MW_ERR_MEMORY;
    *out = block;
    return MW_OK;
}

static void cpu_free(mw_backend *backend, void *block) {
    (void)backend;
    mw_free(block);
}

static mw_status cpu_copy(mw_backend *backend, void *to, const void *from, size_t bytes) {
    (void)backend;
    memcpy(to, from, bytes);
    return MW_OK;
}

static mw_status cpu_free_memory(mw_backend *backend, double *bytes) {
    (void)backend;
    *bytes = (double)mw_free_memory();
    return MW_OK;
}

static mw_status cpu_fetch(mw_backend *backend, int slot, void *to, const void *from, size_t bytes) {
    (void)slot;
    return cpu_copy(backend, to, from, bytes);
}

static mw_status cpu_fetched(mw_backend *backend, int slot) {
    (void)backend;
    (void)slot;
    return MW_OK;
}

static mw_status cpu_mark(mw_backend *backend) {
    (void)backend;
    return MW_OK;
}

static void cpu_close(mw_backend *backend) {
    mw_free(backend);
}

static const mw_backend_ops cpu_ops = {
    .name = "cpu",
    .host_memory = true,
    .rows_stand_alone = true,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .free_memory = cpu_free_memory,
    .host_alloc = cpu_alloc,
    .host_free = cpu_free,
    .fetch = cpu_fetch,
    .fetched = cpu_fetched,
    .mark = cpu_mark,
    .send = cpu_copy,
    .copy_2d = mw_cpu_copy_2d,
    .matmul = mw_cpu_matmul,
    .pack = mw_cpu_pack,
    .free_packed = mw_cpu_free_packed,
    .gather_rows = mw_cpu_gather_rows,
    .layer_norm = mw_cpu_layer_norm,
    .rms_norm = mw_cpu_rms_norm,
    .rotary = mw_cpu_rotary,
    .attention = mw_cpu_attention,
    .activate = mw_cpu_activate,
    .activate_gated = mw_cpu_activate_gated,
    .add = mw_cpu_add,
    .soft_cap = mw_cpu_soft_cap,
    .top_k = mw_cpu_top_k,
    .sparse_decode = mw_cpu_sparse_decode,
    .sparse_dot = mw_cpu_sparse_dot,
    .sparse_outer = mw_cpu_sparse_outer,
    .adam = mw_cpu_adam,
    .unit_rows = mw_cpu_unit_rows,
    .pick = mw_cpu_pick,
    .pick_own = mw_cpu_pick_own,
    .count_kept = mw_cpu_count_kept,
    .write_kept = mw_cpu_write_kept,
    .count_digits = mw_cpu_count_digits,
    .map_entries = mw_cpu_map_entries,
    .count_open = mw_cpu_count_open,
    .write_open = mw_cpu_write_open,
    .list_latents = mw_cpu_list_latents,
    .list_sums = mw_cpu_list_sums,
    .mark_fired = mw_cpu_mark_fired,
    .list_silent = mw_cpu_list_silent,
    .count_positive = mw_cpu_count_positive,
    .row_lengths = mw_cpu_row_lengths,
    .add_directions = mw_cpu_add_directions,
    .subtract_row = mw_cpu_subtract_row,
    .scale_columns = mw_cpu_scale_columns,
    .combine = mw_cpu_combine,
    .transpose = mw_cpu_transpose,
    .fill_zero = mw_cpu_fill_zero,
    .tile_sums = mw_cpu_tile_sums,
    .add_rows = mw_cpu_add_rows,
    .column_sums = mw_cpu_column_sums,
    .weigh_rows = mw_cpu_weigh_rows,
    .square_sums = mw_cpu_square_sums,
    .narrow = mw_cpu_narrow,
    .convert = mw_cpu_convert,
    .close = cpu_close,
};

static const mw_cpu_product *const products[] = {
#ifdef MICROW_HAVE_ONEDNN
    &mw_cpu_onednn,
#endif
#ifdef MICROW_HAVE_CBLAS
    &mw_cpu_cblas,
#endif
};
enum { PRODUCT_COUNT = sizeof products / sizeof *products };

const char *mw_cpu_products(void) {
#if defined(MICROW_HAVE_ONEDNN) && defined(MICROW_HAVE_CBLAS)
    return ", cpu:onednn, cpu:cblas";
#elif defined(MICROW_HAVE_ONEDNN)
    return ", cpu:onednn";
#else
    return ", cpu:cblas";
#endif
}

mw_status mw_cpu_open(const char *product, mw_backend **out) {
    const mw_cpu_product *chosen = NULL;
    for (int i = 0; i < PRODUCT_COUNT && !chosen; i++)
        if (!product || strcmp(products[i]->name, product) == 0) chosen = products[i];
    if (!chosen)
        return mw_error(MW_ERR_UNSUPPORTED, "device 'cpu:%s' is not in this build; it has: auto, cpu%s", product,
                        mw_cpu_products());
    if (chosen->suited) chosen = chosen->suited();
    mw_backend *backend = mw_calloc(1, sizeof *backend);
    if (!backend) return MW_ERR_MEMORY;
    if (chosen->prepare) chosen->prepare();
    *backend = (mw_backend){.ops = &cpu_ops, .state = (void *)(uintptr_t)chosen};
    *out = backend;
    return MW_OK;
}
