/* Makes the baselines of a run's SAE. */
#include "experiment/run/baselines.h"

#include <math.h>

static int64_t k_of(const mw_sae *sae, double l0) {
    if (sae->k) return sae->k;
    double rounded = round(l0);
    return rounded < 1 ? 1 : rounded > (double)sae->n ? sae->n : (int64_t)rounded;
}

static mw_status make_here(const experiment_run *r, const mw_store_view *in, int64_t k, compared_saes *out) {
    const mw_sae_shape shape = {.variant = r->sae->variant, .n = r->sae->n, .d = r->sae->d, .k = r->sae->k};
    mw_train_options options = settings_training(r->e, &shape, NULL);
    for (int kind = 0; kind < MW_BASELINES; kind++) {
        mw_sae **made = &out->made[out->n];
        MW_TRY(mw_sae_baseline(r->sae, (mw_baseline)kind, k, in, &options, made));
        out->sae[out->n] = *made;
        out->name[out->n++] = mw_baseline_name((mw_baseline)kind);
        MW_TRY(mw_sae_use_device(*made, r->backend));
    }
    return MW_OK;
}

mw_status run_compared(experiment_run *r, const site_views *v, double l0, compared_saes *out) {
    *out = (compared_saes){.n = 1, .name = {"trained"}, .sae = {r->sae}};
    if (r->sae->transcoder) {
        if (run_is_root(r)) mw_log(MW_LOG_INFO, "baselines: only of autoencoders, not of a transcoder");
        return MW_OK;
    }
    mw_status status = mw_comm_agree(r->comm, make_here(r, &v->in, k_of(r->sae, l0), out));
    if (status != MW_OK) compared_free(out);
    return status;
}

void compared_free(compared_saes *c) {
    for (int64_t i = 0; i < COMPARED_MAX; i++) mw_sae_free(&c->made[i]);
    *c = (compared_saes){0};
}
