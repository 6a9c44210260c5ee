/* Generation: prompts, continuations, and the share of words of a category in them. */
#ifndef MICROW_EXPERIMENT_RUN_GENERATION_H
#define MICROW_EXPERIMENT_RUN_GENERATION_H

#include "experiment/run/run.h"

/* Prompts as token ids, concatenated. */
typedef struct prompt_set {
    mw_ids ids;
    int64_t *length, n; /* length [n] */
} prompt_set;
/* Encodes each prompt, `samples` times. The caller frees with prompts_free. */
mw_status prompts_encode(const experiment_run *r, const mw_strings *prompts, int64_t samples,
                         prompt_set *out) MW_MUST_USE;
/* MW_ERR_CONFIG unless the model's context has room for a new token after each prompt. `full`: number of prompts
 * with room for fewer than `wanted`. */
mw_status prompts_check(const experiment_run *r, const prompt_set *set, int64_t wanted, int64_t *full) MW_MUST_USE;
/* The same, with a note if `full` is not 0. */
mw_status prompts_check_and_report(const experiment_run *r, const prompt_set *set, int64_t wanted) MW_MUST_USE;
void prompts_free(prompt_set *set);
/* Generates a continuation of each prompt, appended to texts [set->n]. */
mw_status prompts_continue(const experiment_run *r, const prompt_set *set, const mw_sampling *how,
                           mw_text *texts) MW_MUST_USE;

/* Words of a text: those in a category, and all. */
typedef struct word_share {
    int64_t hits, words;
} word_share;
/* Counts the words of `text`; `words` maps words to categories. */
word_share count_words(const json_t *words, const char *category, const char *text);

/* A share in percent; the interval is by a bootstrap over texts, since words of one text are not independent. NaN: a
 * share of no words. */
mw_estimate estimate_share(const word_share *texts, int64_t n);
/* Estimates the difference b - a of texts from the same prompts. */
mw_estimate estimate_change(const word_share *a, const word_share *b, int64_t n);

#endif
