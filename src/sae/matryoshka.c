/* Matryoshka SAEs (Bussmann et al. 2025, arXiv 2503.17547): latents stand in groups, and each prefix of groups must rebuild x
 * by itself: L = mean over g of E|x - x_hat_g|^2, x_hat_g = b_dec + sum over the latents of groups 1 .. g. One selection
 * serves all. The paper sums over g; the mean keeps the weight of AuxK and of clipping what it is for TopK.
 * Parts are groups; block g of dL/dx_hat holds the sum over the reconstructions that group g is part of. */
#include "sae/variants.h"

void matryoshka_lay_out(const mw_trainer *t, layout *out) {
    int groups = (int)t->sae->n_groups;
    *out = (layout){.n_parts = groups, .n_blocks = groups, .bias_blocks = 1, .nested = true};
    for (int g = 0; g < groups; g++) {
        out->uses[g] = PART_WHOLE;
        out->block[g] = g;
        out->weight[g] = 1.0 / groups;
    }
}

/* Latents ascend within a row, so groups are runs. first and last count from this shard's first latent. */
static mw_status take_group(const mw_codes *all, int64_t first, int64_t last, mw_codes *out) {
    int64_t at = 0;
    MW_TRY(mw_codes_begin(out, all->rows));
    MW_TRY(mw_codes_reserve(out, 0, all->start[all->rows]));
    for (int64_t r = 0; r < all->rows; r++) {
        for (int64_t j = all->start[r]; j < all->start[r + 1]; j++) {
            if (all->index[j] < first || all->index[j] >= last) continue;
            out->index[at] = all->index[j];
            out->value[at++] = all->value[j];
        }
        out->start[r + 1] = at;
    }
    return MW_OK;
}

/* By the host: some passes over k entries a row. */
static mw_status split(mw_trainer *t, const mw_codes *selection) {
    mw_codes all = {0}, one = {0};
    int64_t from = t->sae->shard.first;
    mw_status status = codes_to_host(selection, &all);
    for (int g = 0; g < t->layout.n_parts && status == MW_OK; g++) {
        status = take_group(&all, (g ? t->sae->group_end[g - 1] : 0) - from, t->sae->group_end[g] - from, &one);
        if (status == MW_OK) status = codes_from_host(&one, &t->part[g].c.mine);
    }
    mw_codes_free(&all);
    mw_codes_free(&one);
    return status;
}

mw_status matryoshka_top_k_select(mw_trainer *t, const float *x) {
    MW_TRY(top_k_codes(t->sae, x, t->end - t->begin, t->k, &t->selection));
    return split(t, &t->selection);
}

mw_status matryoshka_batch_top_k_select(mw_trainer *t, const float *x) {
    MW_TRY(batch_top_k_codes(t, x, &t->selection));
    return split(t, &t->selection);
}
