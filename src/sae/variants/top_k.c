/* TopK and Multi-TopK (Gao et al. 2024, 2.3 and 5.3). */
#include "sae/shards.h"

mw_status top_k_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return shard_agree(sae, top_k_codes(sae, MW_OK, x, rows, sae->k, out));
}

mw_status top_k_select(mw_trainer *t, mw_status ready, const float *x) {
    return top_k_codes(t->sae, ready, x, t->end - t->begin, t->k, &t->set[0].mine);
}

/* L = L(k) + L(4k) / 8: code set 0 holds the k largest, code set 1 the 4 k largest. */
void multi_top_k_lay_out(const mw_trainer *t, layout *out) {
    (void)t;
    *out = (layout){.n_sets = 2,
                    .n_recons = 2,
                    .bias_recons = 2,
                    .uses = {SET_WHOLE, SET_WHOLE & ~SET_FIRES},
                    .recon = {0, 1},
                    .weight = {1, 0.125}};
}

/* Selects the k largest from among the 4 k largest. */
mw_status multi_top_k_select(mw_trainer *t, mw_status ready, const float *x) {
    int64_t n = t->sae->shard.total, wide = 4 * t->k < n ? 4 * t->k : n;
    candidates found = candidates_of(t->backend, t->end - t->begin, wide);
    if (ready == MW_OK) ready = top_k_candidates(t->sae, x, &found);
    mw_status status = candidates_choose(t->sae, &found, wide, ready, &t->set[1].mine);
    status = candidates_choose(t->sae, &found, t->k, status, &t->set[0].mine);
    candidates_free(&found);
    return status;
}
