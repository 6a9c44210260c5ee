/* Lists of names of latents, and provisional names from the top texts. */
#include "microw/concepts.h"

#include <math.h>
#include <string.h>

enum { WORD_BYTES = 48, SPACES_SHOWN = 4 };
#define SPACE "\u2423" /* U+2423, open box: shows a space */

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

/* Returns the commonest token at the centers of the top texts that is not in `used`; -1: none. */
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

/* Appends a token's text without leading spaces. A token of spaces alone is shown as signs of a space, one without text
 * as its id. */
static void add_word(const mw_discovery *d, int32_t id, mw_text *out) {
    size_t length, spaces = 0;
    const char *text = mw_discovery_token(d, id, &length);
    while (spaces < length && text[spaces] == ' ') spaces++;
    if (length == 0)
        mw_text_addf(out, "token %d", id);
    else if (spaces < length)
        mw_utf8_show_cut(out, text + spaces, length - spaces, WORD_BYTES);
    else if (spaces <= SPACES_SHOWN)
        for (size_t i = 0; i < spaces; i++) mw_text_addf(out, SPACE);
    else
        mw_text_addf(out, SPACE "x%zu", spaces);
}

mw_status mw_name_by_tokens(const mw_discovery *d, int64_t latent, mw_text *out) {
    int32_t used[3];
    out->length = 0;
    for (int n = 0; n < 3; n++) {
        used[n] = commonest(d, latent, used, n);
        if (used[n] < 0) break;
        mw_text_addf(out, "%s", n ? " / " : "");
        add_word(d, used[n], out);
    }
    mw_text_add(out, "", 0);
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}
