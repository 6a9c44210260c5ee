/* Names of latents. */
#include "microw/concepts.h"

#include <math.h>
#include <string.h>

enum { WORD_BYTES = 48 };

mw_status mw_names_new(int64_t n, mw_names *out) {
    mw_name *of = mw_calloc((size_t)n, sizeof *of);
    if (!of) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) of[i].score = NAN;
    *out = (mw_names){of, n};
    return MW_OK;
}

static void free_name(mw_name *name) {
    mw_free(name->name);
    mw_free(name->note);
    mw_free(name->by);
    *name = (mw_name){.score = NAN};
}

void mw_names_free(mw_names *names) {
    for (int64_t i = 0; i < names->n; i++) free_name(&names->of[i]);
    mw_free(names->of);
    *names = (mw_names){0};
}

mw_status mw_names_set(mw_names *names, int64_t latent, const mw_name *name) {
    if (latent < 0 || latent >= names->n)
        return mw_error(MW_ERR_ARG, "latent %lld is not in 0..%lld", (long long)latent, (long long)names->n - 1);
    mw_name copy = {.score = name->score};
    bool good = (!name->name || (copy.name = mw_strdup(name->name))) &&
                (!name->note || (copy.note = mw_strdup(name->note))) && (!name->by || (copy.by = mw_strdup(name->by)));
    if (!good) {
        free_name(&copy);
        return MW_ERR_MEMORY;
    }
    free_name(&names->of[latent]);
    names->of[latent] = copy;
    return MW_OK;
}

/* The token most of the top texts peak on, of those not used yet; -1: there is none. */
static int32_t commonest(const mw_discovery *d, int64_t latent, const int32_t *used, int n_used) {
    int64_t first = latent * d->per, best_count = 0;
    int32_t best = -1;
    for (int64_t i = 0; i < d->top_texts && d->text_row[first + i] >= 0; i++) {
        int32_t id = d->text_id[d->text_start[first + i] + d->text_center[first + i]];
        int64_t same = 0;
        for (int64_t j = 0; j < d->top_texts && d->text_row[first + j] >= 0; j++)
            same += d->text_id[d->text_start[first + j] + d->text_center[first + j]] == id;
        for (int u = 0; u < n_used; u++)
            if (used[u] == id) same = 0;
        if (same > best_count) best_count = same, best = id;
    }
    return best;
}

mw_status mw_name_by_tokens(const mw_discovery *d, int64_t latent, mw_text *out) {
    int32_t used[3];
    out->length = 0;
    for (int n = 0; n < 3; n++) {
        used[n] = commonest(d, latent, used, n);
        if (used[n] < 0) break;
        size_t length;
        const char *text = mw_discovery_token(d, used[n], &length);
        while (length && *text == ' ') text++, length--;
        mw_text_addf(out, "%s", n ? " / " : "");
        if (length)
            mw_utf8_repair_cut(out, text, length, WORD_BYTES);
        else
            mw_text_addf(out, "\u2423"); /* the sign of a space */
    }
    mw_text_add(out, "", 0);
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}
