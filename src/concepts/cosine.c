/* Latents with similar directions: cosines of every decoder row with every other, a tile of rows at a time. */
#include "concepts/discovery.h"

#include <math.h>

static void offer_cosines(mw_nearest *nearest, int64_t latent, const float *dot, const float *length, int64_t n) {
    float least = -1;
    for (int64_t j = 0; j < n; j++) {
        if (j == latent || !(length[j] > 0)) continue;
        float cosine = dot[j] / (length[latent] * length[j]);
        if (!(cosine > least)) continue;
        nearest_offer(nearest, latent, (int32_t)j, cosine);
        const int64_t last = (latent + 1) * nearest->m - 1;
        if (nearest->index[last] >= 0) least = nearest->value[last];
    }
}

static mw_status dot_products(const mw_sae *sae, int64_t first, int64_t rows, float *dot) {
    return sae->backend->ops->matmul(sae->backend, &(mw_matmul){.m = rows,
                                                                .n = sae->n,
                                                                .k = sae->d_out,
                                                                .a = sae->w_dec + first * sae->d_out,
                                                                .lda = sae->d_out,
                                                                .b = sae->w_dec,
                                                                .b_dtype = MW_F32,
                                                                .ldb = sae->d_out,
                                                                .b_transposed = true,
                                                                .c = dot,
                                                                .ldc = sae->n});
}

static mw_status compare_share(const mw_sae *sae, mw_nearest *nearest, const mw_comm *comm, const float *length,
                               float *dot) {
    int64_t begin, end;
    mw_progress progress;
    mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), sae->n, MW_ROW_TILE, &begin, &end);
    mw_progress_begin(&progress, "cosines", "latents", end - begin, mw_comm_rank(comm) == 0);
    for (int64_t i = begin; i < end; i += MW_ROW_TILE) {
        int64_t rows = end - i < MW_ROW_TILE ? end - i : MW_ROW_TILE;
        MW_TRY(dot_products(sae, i, rows, dot));
        for (int64_t r = 0; r < rows; r++)
            if (length[i + r] > 0) offer_cosines(nearest, i + r, dot + r * sae->n, length, sae->n);
        mw_progress_update(&progress, i + rows - begin, NULL);
    }
    return MW_OK;
}

mw_status find_cosines(const mw_sae *sae, const mw_comm *comm, int64_t m, mw_discovery *d) {
    float *length = mw_alloc((size_t)sae->n * sizeof *length),
          *dot = mw_alloc((size_t)(MW_ROW_TILE * sae->n) * sizeof *dot);
    mw_status status = length && dot ? nearest_new(&d->cosine, sae->n, m) : MW_ERR_MEMORY;
    for (int64_t i = 0; i < sae->n && status == MW_OK; i++) {
        double sum = 0;
        for (int64_t j = 0; j < sae->d_out; j++)
            sum += (double)sae->w_dec[i * sae->d_out + j] * sae->w_dec[i * sae->d_out + j];
        length[i] = (float)sqrt(sum);
    }
    if (status == MW_OK) status = compare_share(sae, &d->cosine, comm, length, dot);
    mw_free(length);
    mw_free(dot);
    MW_TRY(mw_comm_agree(comm, status));
    return nearest_gather(&d->cosine, comm, sae->n, MW_ROW_TILE);
}
