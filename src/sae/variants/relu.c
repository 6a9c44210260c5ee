/* ReLU with an L1 penalty: with decoder rows of unit length (Bricken et al. 2023, "Towards Monosemanticity"),
 *     L = E|x - x_hat|^2 + lambda E sum_i z_i,
 * and weighted by decoder norms (Anthropic, April 2024 update):
 *     L = E|x - x_hat|^2 + lambda E sum_i z_i |W_dec,i|
 * with a free decoder. For a crosscoder |W_dec,i| is the sum of its norms at the target sites (Anthropic 2024,
 * Crosscoders). */
#include "sae/variants/variants.h"

mw_status relu_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return codes_above(sae, x, rows, (mw_threshold){.level = 0}, out);
}

/* The penalty of decoder rows of unit length is sum_i z_i, whose derivative is 1 for each active latent. */
mw_status relu_unit_norm_shape(mw_trainer *t) {
    return map_gradients(t, &t->set[0], &(mw_entry_map){.map = MW_MAP_ADD, .a = t->penalty_unit});
}

mw_status relu_unit_norm_sum(mw_trainer *t) {
    return sum_over_rows(t, &t->set[0], t->set[0].share.value, t->costs);
}

mw_status relu_shape(mw_trainer *t) {
    MW_TRY(decoder_norms(t));
    return map_gradients(t, &t->set[0], &(mw_entry_map){.map = MW_MAP_ADD, .a = t->penalty_unit, .table = {t->norms}});
}

mw_status relu_sum(mw_trainer *t) {
    float *norms = NULL;
    MW_TRY(sum_over_rows(t, &t->set[0], t->set[0].share.value, t->share_sums[0]));
    MW_TRY(borrow(t->backend, t->norms + t->first_latent, (size_t)t->n_latents * sizeof *norms, &norms));
    for (int64_t i = 0; i < t->n_latents; i++) t->costs[i] = t->share_sums[0][i] * norms[i];
    give_back(t->backend, norms);
    return MW_OK;
}

double plain_penalty(const mw_trainer *t, double cost) {
    (void)t;
    return cost;
}

/* d|W_dec,i| / dW_dec,i = W_dec,i / |W_dec,i|, at each target site. */
mw_status relu_finish(mw_trainer *t) {
    mw_backend *b = t->backend;
    const mw_sae *sae = t->sae;
    const mw_column_groups targets = target_groups(sae);
    size_t bytes = (size_t)t->n_latents * sizeof(double);
    double *weight = mw_alloc(bytes ? bytes : 1);
    void *on_device = NULL;
    if (!weight) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < t->n_latents; i++) weight[i] = t->penalty_unit * t->share_sums[0][i];
    mw_status status = b->ops->alloc(b, bytes, &on_device);
    if (status == MW_OK) status = b->ops->upload(b, on_device, weight, bytes);
    if (status == MW_OK)
        status = b->ops->add_directions(b, t->parameter[P_W_DEC].grad, on_device,
                                        sae->w_dec + t->first_latent * sae->d_out, t->n_latents, sae->d_out, &targets);
    if (on_device) b->ops->free(b, on_device);
    mw_free(weight);
    return status;
}
