/* Effect of a latent's direction on the logits, through the final norm's weights and the unembedding. */
#include "concepts/discovery.h"

#include <math.h>
#include <string.h>

/* Finds the columns of W_dec of the last site that is added to the residual stream; width 0: there is none. */
static mw_status find_columns(const mw_sae *sae, const mw_model *model, int64_t *first, int64_t *width) {
    const char *p = sae->target[0] ? sae->target : sae->site;
    *width = 0;
    for (int64_t part = 0; *p && part < MW_SITES_MAX; part++) {
        char name[MW_SITE_TEXT] = "";
        size_t length = strcspn(p, ",");
        mw_site site;
        if (length >= sizeof name) break;
        memcpy(name, p, length);
        MW_TRY(mw_site_parse(name, &site));
        bool stream = site.kind == MW_EMBED || site.kind == MW_RESID_PRE || site.kind == MW_ATTN_OUT ||
                      site.kind == MW_RESID_MID || site.kind == MW_MLP_OUT || site.kind == MW_RESID_POST;
        int64_t begin = sae->n_targets > 1 && part ? sae->target_end[part - 1] : 0,
                end = sae->n_targets > 1 ? sae->target_end[part] : sae->d_out;
        if (stream && end - begin == mw_model_about(model)->d_model) {
            *first = begin;
            *width = end - begin;
        }
        p += length + (p[length] == ',');
    }
    return MW_OK;
}

/* Keeps the m largest of sign * (logits - their mean). */
static void keep_extremes(mw_discovery *d, int64_t latent, const float *logits, int64_t vocab, float sign,
                          mw_nearest *into) {
    int64_t n = vocab < d->n_vocabulary ? vocab : d->n_vocabulary;
    double mean = 0;
    for (int64_t v = 0; v < vocab; v++) mean += logits[v];
    mean /= (double)vocab;
    for (int64_t v = 0; v < n; v++) nearest_offer(into, latent, (int32_t)v, sign * (float)(logits[v] - mean));
    for (int64_t i = latent * into->m; i < (latent + 1) * into->m && sign < 0; i++) into->value[i] = -into->value[i];
}

enum { ROWS = 128 };

static mw_status project_share(const mw_sae *sae, mw_model *model, int64_t first, int64_t width, int64_t begin,
                               int64_t end, bool shown, mw_discovery *d) {
    int64_t vocab = mw_model_about(model)->vocab;
    float *x = mw_alloc((size_t)(ROWS * width) * sizeof *x), *logits = mw_alloc((size_t)(ROWS * vocab) * sizeof *x);
    mw_status status = x && logits ? MW_OK : MW_ERR_MEMORY;
    mw_progress progress;
    mw_progress_begin(&progress, "logits", "latents", end - begin, shown);
    for (int64_t i = begin; i < end && status == MW_OK; i += ROWS) {
        int64_t n = end - i < ROWS ? end - i : ROWS;
        for (int64_t r = 0; r < n; r++)
            memcpy(x + r * width, sae->w_dec + (i + r) * sae->d_out + first, (size_t)width * sizeof *x);
        status = mw_model_unembed(model, x, n, logits);
        if (status == MW_OK && mw_first_not_finite(logits, n * vocab) < n * vocab)
            status = mw_model_report_nonfinite(model, NULL, "what latents add to the logits");
        for (int64_t r = 0; r < n && status == MW_OK; r++) {
            keep_extremes(d, i + r, logits + r * vocab, vocab, 1, &d->promoted);
            keep_extremes(d, i + r, logits + r * vocab, vocab, -1, &d->suppressed);
        }
        mw_progress_update(&progress, i + n - begin, NULL);
    }
    mw_free(x);
    mw_free(logits);
    return status;
}

mw_status mw_discover_logits(const mw_sae *sae, mw_model *model, const mw_comm *comm, int64_t m, mw_discovery *d) {
    int64_t first = 0, width, begin, end;
    MW_TRY(mw_comm_agree(comm, find_columns(sae, model, &first, &width)));
    if (width == 0 || m == 0) return MW_OK;
    mw_status status = nearest_new(&d->promoted, sae->n, m);
    if (status == MW_OK) status = nearest_new(&d->suppressed, sae->n, m);
    mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), sae->n, ROWS, &begin, &end);
    if (status == MW_OK) status = project_share(sae, model, first, width, begin, end, mw_comm_rank(comm) == 0, d);
    MW_TRY(mw_comm_agree(comm, status));
    MW_TRY(nearest_gather(&d->promoted, comm, sae->n, ROWS));
    return nearest_gather(&d->suppressed, comm, sae->n, ROWS);
}
