/* SAEs in memory: shapes, arrays, descriptions. */
#include "sae/shards.h"

#include <string.h>

/* ---- shapes ---------------------------------------------------------------------------------------------- */

static mw_status set_groups(mw_sae *sae, const mw_sae_shape *shape) {
    if (!variant_of(sae)->grouped) {
        if (!shape->n_groups) return MW_OK;
        return mw_error(MW_ERR_CONFIG, "sae.groups: %s has none", mw_variant_name(shape->variant));
    }
    if (shape->n_groups > MW_GROUPS_MAX)
        return mw_error(MW_ERR_CONFIG, "sae.groups: %lld groups; at most %d", (long long)shape->n_groups,
                        MW_GROUPS_MAX);
    int64_t end = 0, n = sae->n;
    const int64_t halves[] = {n / 16, n / 16, n / 8, n / 4, n - n / 16 * 2 - n / 8 - n / 4};
    const int64_t *group = shape->n_groups ? shape->group : halves;
    int64_t count = shape->n_groups ? shape->n_groups : 5;
    for (int64_t g = 0; g < count; g++) {
        if (!shape->n_groups && group[g] == 0) continue; /* a group of n / 16 < 1 */
        if (group[g] < 1 || group[g] > n - end)
            return mw_error(MW_ERR_CONFIG,
                            "sae.groups: %lld as group %lld: groups are positive and sum to the %lld latents",
                            (long long)group[g], (long long)g + 1, (long long)n);
        sae->group_end[sae->n_groups++] = end += group[g];
    }
    if (end != n)
        return mw_error(MW_ERR_CONFIG, "sae.groups sum to %lld: expected the %lld latents", (long long)end,
                        (long long)n);
    return MW_OK;
}

static mw_status set_parts(mw_sae *sae, const mw_sae_shape *shape) {
    int64_t end = 0, count = shape->n_targets ? shape->n_targets : 1;
    if (count > MW_SITES_MAX)
        return mw_error(MW_ERR_CONFIG, "an SAE over %lld sites: at most %d", (long long)count, MW_SITES_MAX);
    for (int64_t p = 0; p < count; p++) {
        int64_t width = shape->n_targets ? shape->target_width[p] : sae->d_out;
        if (width < 1 || width > sae->d_out - end)
            return mw_error(MW_ERR_CONFIG, "site %lld of an SAE is %lld wide: expected widths that sum to %lld",
                            (long long)p + 1, (long long)width, (long long)sae->d_out);
        sae->target_end[sae->n_targets++] = end += width;
    }
    if (end != sae->d_out)
        return mw_error(MW_ERR_CONFIG, "the sites of an SAE are %lld wide: expected %lld", (long long)end,
                        (long long)sae->d_out);
    return MW_OK;
}

static mw_status check_shape(const mw_sae_shape *s) {
    if (s->n < 1 || s->d < 1 || s->d_out < 0 || s->n > INT32_MAX || s->d > INT32_MAX || s->d_out > INT32_MAX)
        return mw_error(MW_ERR_CONFIG, "an SAE of %lld latents and width %lld: expected both from 1 to %d",
                        (long long)s->n, (long long)s->d, INT32_MAX);
    if (mw_variant_uses_k(s->variant) && (s->k < 1 || s->k > s->n))
        return mw_error(MW_ERR_CONFIG, "sae.k = %lld: expected from 1 to the %lld latents", (long long)s->k,
                        (long long)s->n);
    if (s->skip && !s->d_out)
        return mw_error(MW_ERR_CONFIG, "sae.skip: only a transcoder (sae.target) has a skip connection");
    return MW_OK;
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

static mw_status allocate(mw_sae *sae, bool skip) {
    size_t n = (size_t)sae->n, d = (size_t)sae->d, d_out = (size_t)sae->d_out;
    bool good = (sae->w_enc = mw_calloc(n * d, sizeof(float))) && (sae->w_dec = mw_calloc(n * d_out, sizeof(float))) &&
                (sae->b_enc = mw_calloc(n, sizeof(float))) && (sae->b_dec = mw_calloc(d_out, sizeof(float))) &&
                (!skip || (sae->w_skip = mw_calloc(d_out * d, sizeof(float))));
    for (int i = 0; i < MW_EXTRAS && variant_of(sae)->extra[i].name && good; i++)
        good = (sae->extra[i] = mw_calloc(n, sizeof(float)));
    good = good && (sae->site = mw_strdup("")) && (sae->target = mw_strdup("")) && (sae->model = mw_strdup("")) &&
           (sae->fingerprint = mw_strdup(""));
    return good ? MW_OK : MW_ERR_MEMORY;
}

mw_status sae_set_shape(mw_sae *sae, const mw_sae_shape *shape) {
    MW_TRY(check_shape(shape));
    *sae = (mw_sae){.variant = shape->variant,
                    .n = shape->n,
                    .d = shape->d,
                    .d_out = shape->d_out ? shape->d_out : shape->d,
                    .transcoder = shape->d_out > 0,
                    .k = mw_variant_uses_k(shape->variant) ? shape->k : 0,
                    .threshold = -1,
                    .shard = {.total = shape->n, .count = 1}};
    MW_TRY(set_groups(sae, shape));
    return set_parts(sae, shape);
}

mw_status mw_sae_check(const mw_sae_shape *shape) {
    mw_sae sae;
    return sae_set_shape(&sae, shape);
}

/* Allocates an SAE with the shape of `made`. */
static mw_status make(mw_backend *backend, const mw_sae *made, bool skip, mw_sae **out) {
    if (!backend->ops->host_memory)
        return mw_error(MW_ERR_UNSUPPORTED, "an SAE on device '%s': expected a device with host memory",
                        backend->ops->name);
    mw_sae *sae = mw_alloc(sizeof *sae);
    if (!sae) return MW_ERR_MEMORY;
    *sae = *made;
    sae->backend = backend;
    mw_status status = allocate(sae, skip);
    if (status != MW_OK)
        mw_sae_free(&sae);
    else
        *out = sae;
    return status;
}

mw_status mw_sae_new(mw_backend *backend, const mw_sae_shape *shape, mw_sae **out) {
    mw_sae made;
    MW_TRY(sae_set_shape(&made, shape));
    return make(backend, &made, shape->skip, out);
}

mw_status mw_sae_new_shard(mw_backend *backend, const mw_sae_shape *shape, const mw_comm *comm, int64_t shards,
                           mw_sae **out) {
    mw_sae made, *sae = NULL;
    int rank = mw_comm_rank(comm), ranks = mw_comm_size(comm);
    MW_TRY(mw_comm_agree(comm, mw_sae_check_shards(shape, ranks, shards)));
    mw_status status = sae_set_shape(&made, shape);
    if (status == MW_OK) {
        shard_assign(&made, rank, ranks, shards);
        status = make(backend, &made, shape->skip, &sae);
    }
    status = mw_comm_agree(comm, status);
    if (status == MW_OK && shards > 1) status = mw_comm_split(comm, (int)(rank % (ranks / shards)), &sae->shard.peers);
    if (status != MW_OK)
        mw_sae_free(&sae);
    else
        *out = sae;
    return status;
}

void mw_sae_free(mw_sae **slot) {
    mw_sae *sae = *slot;
    if (!sae) return;
    mw_sae_leave_device(sae);
    mw_comm_free(&sae->shard.peers);
    void *all[] = {sae->w_enc,  sae->w_dec, sae->b_enc,  sae->b_dec, sae->extra[0],    sae->extra[1],
                   sae->w_skip, sae->site,  sae->target, sae->model, sae->fingerprint, sae};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *slot = NULL;
}

static const char *kind_of(const mw_sae *sae) {
    if (sae->transcoder) return sae->w_skip ? " skip transcoder" : " transcoder";
    return sae->n_targets > 1 ? " crosscoder" : "";
}

mw_status mw_sae_describe(const mw_sae *sae, mw_text *out) {
    mw_text_addf(out, "%s%s, %lld latents", mw_variant_name(sae->variant), kind_of(sae), (long long)sae->shard.total);
    if (sae->k) mw_text_addf(out, ", k %lld", (long long)sae->k);
    if (sae->n_groups) mw_text_addf(out, " in %lld groups", (long long)sae->n_groups);
    if (sae->transcoder)
        mw_text_addf(out, ", from %s to %s", sae->site, sae->target);
    else if (sae->site[0])
        mw_text_addf(out, ", on %s", sae->site);
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}
