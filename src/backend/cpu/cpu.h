/* What the files of the CPU backend share. */
#ifndef MICROW_BACKEND_CPU_CPU_H
#define MICROW_BACKEND_CPU_CPU_H

#include "microw/backend.h"

/* `product`: "onednn", "cblas" or NULL for the better one of this build. */
mw_status mw_cpu_open(const char *product, mw_backend **out) MW_MUST_USE;
const char *mw_cpu_products(void);

/* One tile's product on one thread: C = A * B (+ C), all f32 or B in bf16 where `bf16` is not NULL. */
typedef struct mw_cpu_product {
    const char *name;
    mw_status (*f32)(const mw_matmul *tile);
    /* `a16` is A rounded to bf16, [m,k] dense. */
    mw_status (*bf16)(const mw_matmul *tile, const uint16_t *a16);
    void (*prepare)(void);
    /* Where products in bf16 are no faster than in f32 on this CPU, or there are none: the same without them. */
    const struct mw_cpu_product *(*suited)(void);
    /* As mw_backend_ops. All NULL: plain B is as good. */
    mw_status (*pack)(const mw_matmul *like, mw_packed **slot);
    void (*free_packed)(mw_packed *);
    mw_status (*packed)(const mw_matmul *whole);
} mw_cpu_product;

extern const mw_cpu_product mw_cpu_onednn, mw_cpu_cblas;

mw_status mw_cpu_copy_2d(mw_backend *, float *, int64_t, const float *, int64_t, int64_t, int64_t);
mw_status mw_cpu_matmul(mw_backend *, const mw_matmul *);
mw_status mw_cpu_pack(mw_backend *, const mw_matmul *, mw_packed **);
void mw_cpu_free_packed(mw_backend *, mw_packed *);
mw_status mw_cpu_gather_rows(mw_backend *, float *, const void *, mw_dtype, const int32_t *, int64_t, int64_t, float,
                             bool);
mw_status mw_cpu_layer_norm(mw_backend *, float *, const float *, const float *, const float *, int64_t, int64_t,
                            float);
mw_status mw_cpu_rms_norm(mw_backend *, float *, const float *, const float *, int64_t, int64_t, float, float);
mw_status mw_cpu_rotary(mw_backend *, float *, const float *, const int32_t *, int64_t, int64_t, int64_t, int64_t);
mw_status mw_cpu_attention(mw_backend *, const mw_attention *);
mw_status mw_cpu_activate(mw_backend *, mw_activation, float *, int64_t);
mw_status mw_cpu_activate_gated(mw_backend *, mw_activation, float *, const float *, int64_t);
mw_status mw_cpu_add(mw_backend *, float *, const float *, int64_t);
mw_status mw_cpu_soft_cap(mw_backend *, float *, int64_t, float);
mw_status mw_cpu_top_k(mw_backend *, const float *, int64_t, int64_t, int64_t, int32_t *, float *);
mw_status mw_cpu_sparse_decode(mw_backend *, float *, const float *, bool, const int64_t *, const int32_t *,
                               const float *, int64_t, const float *, int64_t);
mw_status mw_cpu_sparse_dot(mw_backend *, float *, const float *, const int64_t *, const int32_t *, int64_t,
                            const float *, int64_t);
mw_status mw_cpu_sparse_outer(mw_backend *, float *, const mw_latent_lists *, const float *, int64_t);
mw_status mw_cpu_adam(mw_backend *, float *, const float *, float *, float *, int64_t, int64_t, const mw_adam *);
mw_status mw_cpu_unit_rows(mw_backend *, float *, float *, int64_t, int64_t);
mw_status mw_cpu_pick(mw_backend *, int32_t *, const int32_t *, int64_t, int64_t, int64_t);
mw_status mw_cpu_pick_own(mw_backend *, int32_t *, float *, const int32_t *, int64_t, int64_t, int64_t, int64_t);
mw_status mw_cpu_count_kept(mw_backend *, const mw_filter *, const int64_t *, const int32_t *, const float *, int64_t,
                            int64_t *);
mw_status mw_cpu_write_kept(mw_backend *, const mw_filter *, const int64_t *, const int32_t *, const float *, int64_t,
                            const int64_t *, int32_t *, float *);
mw_status mw_cpu_count_digits(mw_backend *, const float *, int64_t, uint32_t, uint32_t, int, int64_t[256]);
mw_status mw_cpu_map_entries(mw_backend *, const mw_entry_map *, float *, const int32_t *, const float *, int64_t);
mw_status mw_cpu_count_open(mw_backend *, const mw_threshold *, const float *, int64_t, int64_t, int64_t *);
mw_status mw_cpu_write_open(mw_backend *, const mw_threshold *, const float *, int64_t, int64_t, const int64_t *,
                            int32_t *, float *);
mw_status mw_cpu_list_latents(mw_backend *, const mw_code_run *, int, int64_t, mw_latent_lists *);
mw_status mw_cpu_list_sums(mw_backend *, double *, const mw_latent_lists *);
mw_status mw_cpu_mark_fired(mw_backend *, int64_t *, int64_t, int64_t, const int32_t *, const float *, int64_t, float);
mw_status mw_cpu_list_silent(mw_backend *, const int64_t *, int64_t, int64_t, int32_t *, int64_t *);
mw_status mw_cpu_count_positive(mw_backend *, const float *, int64_t, int64_t *);
mw_status mw_cpu_row_lengths(mw_backend *, float *, const float *, int64_t, int64_t, const mw_column_groups *);
mw_status mw_cpu_add_directions(mw_backend *, float *, const double *, const float *, int64_t, int64_t,
                                const mw_column_groups *);
mw_status mw_cpu_subtract_row(mw_backend *, float *, const float *, const float *, int64_t, int64_t);
mw_status mw_cpu_scale_columns(mw_backend *, float *, const float *, const float *, int64_t, int64_t);
mw_status mw_cpu_combine(mw_backend *, float *, float, const float *, float, const float *, int64_t);
mw_status mw_cpu_transpose(mw_backend *, float *, const float *, int64_t, int64_t);
mw_status mw_cpu_fill_zero(mw_backend *, void *, size_t);
mw_status mw_cpu_tile_sums(mw_backend *, double *, const float *, int64_t, int64_t);
mw_status mw_cpu_add_rows(mw_backend *, double *, const double *, int64_t, int64_t, bool);
mw_status mw_cpu_column_sums(mw_backend *, double *, const float *, int64_t, int64_t);
mw_status mw_cpu_weigh_rows(mw_backend *, double *, const double *, const float *, int64_t, int64_t, int64_t);
mw_status mw_cpu_square_sums(mw_backend *, double *, const float *, int64_t, int64_t, bool);
mw_status mw_cpu_narrow(mw_backend *, float *, const double *, int64_t);
mw_status mw_cpu_convert(mw_backend *, mw_dtype, void *, const float *, int64_t);

#endif
