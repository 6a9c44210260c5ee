#include "microw/sae.h"

#include <string.h>

mw_status mw_sae_new(mw_backend *backend, int64_t n, int64_t d, int64_t k, mw_sae **out) {
    if (n < 1 || d < 1 || n > INT32_MAX)
        return mw_error(MW_ERR_CONFIG, "an SAE of %lld latents and width %lld cannot be", (long long)n, (long long)d);
    if (k < 1 || k > n)
        return mw_error(MW_ERR_CONFIG, "sae.k = %lld: expected from 1 to the %lld latents", (long long)k, (long long)n);
    if (!backend->ops->host_memory)
        return mw_error(MW_ERR_UNSUPPORTED, "SAEs on device '%s' are not in this build", backend->ops->name);
    mw_sae *sae = mw_calloc(1, sizeof *sae);
    if (!sae) return MW_ERR_MEMORY;
    *sae = (mw_sae){
        .n = n, .d = d, .k = k, .threshold = -1, .backend = backend, .site = mw_strdup(""), .model = mw_strdup("")};
    sae->w_enc = mw_calloc((size_t)n * (size_t)d, sizeof(float));
    sae->w_dec = mw_calloc((size_t)n * (size_t)d, sizeof(float));
    sae->b_enc = mw_calloc((size_t)n, sizeof(float));
    sae->b_dec = mw_calloc((size_t)d, sizeof(float));
    if (!sae->w_enc || !sae->w_dec || !sae->b_enc || !sae->b_dec || !sae->site || !sae->model) {
        mw_sae_free(&sae);
        return MW_ERR_MEMORY;
    }
    *out = sae;
    return MW_OK;
}

void mw_sae_free(mw_sae **slot) {
    mw_sae *sae = *slot;
    if (!sae) return;
    void *all[] = {sae->w_enc, sae->w_dec, sae->b_enc, sae->b_dec, sae->site, sae->model, sae};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *slot = NULL;
}
