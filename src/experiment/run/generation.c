/* Generation: prompts, continuations, and the share of words of a category in them. */
#include "experiment/run/generation.h"

#include <math.h>
#include <string.h>

/* ---- texts -------------------------------------------------------------------------------------------------- */

mw_status prompts_encode(const experiment_run *r, const mw_strings *prompts, int64_t samples, prompt_set *out) {
    int32_t bos = r->e->dataset.options.bos == MW_BOS_NONE ? -1 : mw_tokenizer_bos(r->tokenizer);
    out->n = prompts->count * samples;
    if (!(out->length = mw_calloc((size_t)out->n, sizeof *out->length))) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < out->n; i++) {
        const char *prompt = prompts->items[i / samples];
        int64_t before = out->ids.count;
        if (bos >= 0) MW_TRY(mw_ids_add(&out->ids, bos));
        MW_TRY(mw_tokenizer_encode(r->tokenizer, prompt, strlen(prompt), &out->ids));
        out->length[i] = out->ids.count - before;
    }
    return MW_OK;
}

mw_status prompts_check(const experiment_run *r, const prompt_set *set, int64_t wanted, int64_t *full) {
    int64_t context = mw_model_about(r->model)->context;
    *full = 0;
    for (int64_t i = 0; i < set->n; i++) {
        if (set->length[i] < 1 || set->length[i] >= context)
            return mw_error(
                MW_ERR_CONFIG,
                "prompt %lld of %lld has %lld tokens: expected from 1 to %lld, since the model's context is %lld "
                "tokens and a new one must fit",
                (long long)i + 1, (long long)set->n, (long long)set->length[i], (long long)context - 1,
                (long long)context);
        *full += context - set->length[i] < wanted;
    }
    return MW_OK;
}

mw_status prompts_check_and_report(const experiment_run *r, const prompt_set *set, int64_t wanted) {
    int64_t full;
    MW_TRY(prompts_check(r, set, wanted, &full));
    if (full)
        mw_log(MW_LOG_INFO,
               "%lld of %lld prompts have no room for %lld new tokens in the model's context of %lld: "
               "their texts end where it is full",
               (long long)full, (long long)set->n, (long long)wanted, (long long)mw_model_about(r->model)->context);
    return MW_OK;
}

void prompts_free(prompt_set *set) {
    mw_ids_free(&set->ids);
    mw_free(set->length);
    *set = (prompt_set){0};
}

mw_status prompts_continue(const experiment_run *r, const prompt_set *set, const mw_sampling *how, mw_text *texts) {
    mw_batch batch = {.n_seq = set->n, .ids = set->ids.data, .length = set->length};
    int32_t **out = mw_calloc((size_t)set->n, sizeof *out);
    int64_t *made = mw_calloc((size_t)set->n, sizeof *made);
    mw_status status = out && made ? mw_generate(r->model, &batch, how, out, made) : MW_ERR_MEMORY;
    for (int64_t i = 0; out && i < set->n; i++) {
        if (status == MW_OK) {
            mw_text_add(&texts[i], "", 0);
            status = mw_tokenizer_decode(r->tokenizer, out[i], made[i], &texts[i]);
        }
        mw_free(out[i]);
    }
    mw_free(out);
    mw_free(made);
    return status;
}

/* ---- words -------------------------------------------------------------------------------------------------- */

word_share count_words(const json_t *words, const char *category, const char *text) {
    word_share share = {0};
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, " \n\t");
        char word[64];
        if (n > 0 && n < sizeof word) {
            memcpy(word, p, n);
            word[n] = '\0';
            const char *of = mw_json_text(words, word);
            share.hits += of && strcmp(of, category) == 0;
        }
        share.words += n > 0;
        p += n + (p[n] != '\0');
    }
    return share;
}

static double percent_of(int64_t hits, int64_t words) {
    return words ? 100.0 * (double)hits / (double)words : (double)NAN;
}

typedef struct share_pair {
    const word_share *a, *b; /* [n]; a may be NULL */
    int64_t n;
} share_pair;

/* The share of b minus that of a (NULL: 0). */
static void difference_of_shares(const void *self, int64_t draw, double *out) {
    const share_pair *p = self;
    word_share sum[2] = {{0}};
    for (int64_t i = 0; i < p->n; i++) {
        int64_t at = mw_resampled(draw, i, p->n);
        sum[0].hits += p->a ? p->a[at].hits : 0;
        sum[0].words += p->a ? p->a[at].words : 0;
        sum[1].hits += p->b[at].hits;
        sum[1].words += p->b[at].words;
    }
    double before = p->a ? percent_of(sum[0].hits, sum[0].words) : 0;
    *out = percent_of(sum[1].hits, sum[1].words) - before;
}

mw_estimate estimate_change(const word_share *a, const word_share *b, int64_t n) {
    mw_estimate made;
    mw_bootstrap(difference_of_shares, &(share_pair){a, b, n}, n, 1, &made);
    return made;
}

mw_estimate estimate_share(const word_share *texts, int64_t n) {
    return estimate_change(NULL, texts, n);
}
