/* Matryoshka SAEs (Bussmann et al. 2025, arXiv 2503.17547): latents form groups, and each prefix of groups reconstructs
 * x:
 *     L = mean over g of E|x - x_hat_g|^2,  x_hat_g = b_dec + sum over the latents of groups 1 .. g.
 * One selection serves all prefixes. The paper sums over g; the mean keeps the weights of AuxK and of clipping equal to
 * TopK's. Each group is a code set; reconstruction g's gradient is the sum over the reconstructions that group g is
 * part of. */
#include "sae/variants/variants.h"

void matryoshka_lay_out(const mw_trainer *t, layout *out) {
    int groups = (int)t->sae->n_groups;
    *out = (layout){.n_sets = groups, .n_recons = groups, .bias_recons = 1, .nested = true};
    for (int g = 0; g < groups; g++) {
        out->uses[g] = SET_WHOLE;
        out->recon[g] = g;
        out->weight[g] = 1.0 / groups;
    }
}

/* Splits codes by group. group_end counts from the dictionary's first latent, codes from the shard's first. */
static mw_status split_by_group(mw_trainer *t, const mw_codes *all) {
    int64_t from = t->sae->shard.first, last = -from;
    for (int g = 0; g < t->layout.n_sets; g++) {
        mw_filter group = {.first = last, .last = t->sae->group_end[g] - from, .level = 0};
        last = group.last;
        MW_TRY(keep_codes(t->backend, all, all->rows, &group, &t->set[g].mine));
    }
    return MW_OK;
}

mw_status matryoshka_top_k_select(mw_trainer *t, mw_status ready, const float *x) {
    MW_TRY(top_k_codes(t->sae, ready, x, t->end - t->begin, t->k, &t->selection));
    return split_by_group(t, &t->selection);
}

mw_status matryoshka_batch_top_k_select(mw_trainer *t, mw_status ready, const float *x) {
    MW_TRY(batch_top_k_codes(t, ready, x, &t->selection));
    return split_by_group(t, &t->selection);
}
