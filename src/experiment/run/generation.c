/* Generation: prompts, continuations, and the share of words of a category in them. */
#include "experiment/run/generation.h"

#include <math.h>
#include <stdlib.h>
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

enum { RESAMPLES = 2000, BOOTSTRAP_SEED = 95 };

static double percent_of(int64_t hits, int64_t words) {
    return words ? 100.0 * (double)hits / (double)words : (double)NAN;
}

/* Returns the share of b minus that of a (NULL: 0), for texts drawn with replacement; draw < 0: for each text once. */
static double resample(const word_share *a, const word_share *b, int64_t n, int64_t draw) {
    word_share sum[2] = {{0}};
    for (int64_t i = 0; i < n; i++) {
        int64_t at = draw < 0 ? i : (int64_t)(mw_rng_uniform(BOOTSTRAP_SEED, (uint64_t)draw, (uint64_t)i) * (float)n);
        if (at >= n) at = n - 1;
        sum[0].hits += a ? a[at].hits : 0;
        sum[0].words += a ? a[at].words : 0;
        sum[1].hits += b[at].hits;
        sum[1].words += b[at].words;
    }
    double before = a ? percent_of(sum[0].hits, sum[0].words) : 0;
    return percent_of(sum[1].hits, sum[1].words) - before;
}

static int ascending(const void *a, const void *b) {
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

estimate estimate_change(const word_share *a, const word_share *b, int64_t n) {
    double drawn[RESAMPLES];
    int64_t count = 0;
    estimate made = {resample(a, b, n, -1), NAN, NAN};
    for (int64_t i = 0; i < RESAMPLES && n > 1; i++) {
        drawn[count] = resample(a, b, n, i);
        count += !isnan(drawn[count]);
    }
    if (count == 0) return made;
    qsort(drawn, (size_t)count, sizeof *drawn, ascending);
    made.low = drawn[count / 40];
    made.high = drawn[count - 1 - count / 40];
    return made;
}

estimate estimate_share(const word_share *texts, int64_t n) {
    return estimate_change(NULL, texts, n);
}
