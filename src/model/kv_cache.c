/* Key-value caches. */
#include "model/model_private.h"

mw_status mw_kv_cache_new(const mw_model *model, int64_t n_seq, int64_t capacity, mw_kv_cache **out) {
    const mw_architecture *a = &model->arch;
    mw_kv_cache *cache = mw_calloc(1, sizeof *cache);
    if (!cache) return MW_ERR_MEMORY;
    *cache = (mw_kv_cache){.backend = model->backend,
                           .n_layers = a->n_layers,
                           .n_seq = n_seq,
                           .capacity = capacity,
                           .width = a->n_kv_heads * a->head_dim};
    int64_t count = a->n_layers * n_seq * capacity * cache->width;
    cache->length = mw_calloc((size_t)n_seq, sizeof *cache->length);
    mw_status status = cache->length ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_backend_floats(model->backend, count, &cache->k);
    if (status == MW_OK) status = mw_backend_floats(model->backend, count, &cache->v);
    if (status != MW_OK)
        mw_kv_cache_free(&cache);
    else
        *out = cache;
    return status;
}

void mw_kv_cache_free(mw_kv_cache **slot) {
    mw_kv_cache *cache = *slot;
    if (!cache) return;
    if (cache->k) cache->backend->ops->free(cache->backend, cache->k);
    if (cache->v) cache->backend->ops->free(cache->backend, cache->v);
    mw_free(cache->length);
    mw_free(cache);
    *slot = NULL;
}
