/* Texts that the model writes. */
#ifndef MICROW_EXPERIMENT_RUN_GENERATION_H
#define MICROW_EXPERIMENT_RUN_GENERATION_H

#include "experiment/run/run.h"

/* Prompts as ids, each `samples` times, one after another. */
typedef struct prompt_set {
    mw_ids ids;
    int64_t *length, n; /* [n] */
} prompt_set;
mw_status prompts_encode(const run *r, const mw_strings *prompts, int64_t samples, prompt_set *out) MW_MUST_USE;
/* MW_ERR_CONFIG unless every prompt leaves room for a new token in the model's context. `full`: how many have room for fewer than
 * `wanted`. */
mw_status prompts_check(const run *r, const prompt_set *set, int64_t wanted, int64_t *full) MW_MUST_USE;
/* The same, with a note where there are some. */
mw_status prompts_check_and_tell(const run *r, const prompt_set *set, int64_t wanted) MW_MUST_USE;
void prompts_free(prompt_set *set);
/* What the model writes on; `texts` [set->n] of the caller's, empty. */
mw_status prompts_continue(const run *r, const prompt_set *set, const mw_sampling *how, mw_text *texts) MW_MUST_USE;

/* Words of a text in a category, where categories are known. */
typedef struct word_share {
    int64_t hits, words;
} word_share;
word_share count_words(const json_t *words, const char *category, const char *text);

/* A share in percent with its 95 % interval, by a bootstrap over texts (Efron 1979): words of one text are not independent. NaN is
 * undefined: a share of no words; the interval of one text, which says nothing of others. Draws without words have no part in it. */
typedef struct estimate {
    double percent, low, high;
} estimate;
estimate estimate_share(const word_share *texts, int64_t n);
/* Of the difference b - a, text by text from the same prompts. */
estimate estimate_change(const word_share *a, const word_share *b, int64_t n);

#endif
