/* Continues prompts token by token with a key-value cache. */
#include "model/model_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

static int by_logit(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int32_t greedy(const float *logits, int64_t vocab) {
    int64_t best = 0;
    for (int64_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

/* Samples from the softmax over the candidates that top-k and then top-p (Holtzman et al. 2020) keep. */
static int32_t sample(const mw_sampling *sampling, const float *logits, int64_t vocab, candidate *pool, float uniform) {
    for (int64_t i = 0; i < vocab; i++) pool[i] = (candidate){logits[i], (int32_t)i};
    qsort(pool, (size_t)vocab, sizeof *pool, by_logit);
    int64_t kept = sampling->top_k > 0 && sampling->top_k < vocab ? sampling->top_k : vocab;
    double total = 0, cut = 0;
    for (int64_t i = 0; i < kept; i++) total += exp((pool[i].logit - pool[0].logit) / sampling->temperature);
    int64_t n = 0;
    while (n < kept && (n == 0 || cut < sampling->top_p * total))
        cut += exp((pool[n++].logit - pool[0].logit) / sampling->temperature);
    double left = uniform * cut;
    for (int64_t i = 0; i < n; i++) {
        left -= exp((pool[i].logit - pool[0].logit) / sampling->temperature);
        if (left < 0) return pool[i].id;
    }
    return pool[n - 1].id;
}

typedef struct run {
    mw_model *model;
    const mw_sampling *sampling;
    int64_t n_seq, vocab;
    mw_kv_cache *cache;
    float *logits;
    candidate *pool;
    int32_t *next;                  /* tokens of the next pass: the new one of each sequence, or its whole text */
    int64_t *length, *made, *limit; /* [n_seq] tokens in the next pass, new tokens, maximum of new tokens */
} run;

static int32_t choose(run *r, int64_t s) {
    const float *logits = r->logits + s * r->vocab;
    if (r->sampling->temperature <= 0) return greedy(logits, r->vocab);
    float uniform = mw_rng_uniform((uint64_t)r->sampling->seed, (uint64_t)s, (uint64_t)r->made[s]);
    return sample(r->sampling, logits, r->vocab, r->pool, uniform);
}

/* Reports the first nonfinite site of a pass over a prompt and its new tokens. */
static mw_status report_nonfinite(run *r, const mw_batch *prompts, int64_t s, const int32_t *made) {
    int64_t before = 0, length = prompts->length[s] + r->made[s];
    char what[64];
    for (int64_t q = 0; q < s; q++) before += prompts->length[q];
    int32_t *ids = mw_alloc((size_t)length * sizeof *ids);
    if (!ids) return MW_ERR_MEMORY;
    memcpy(ids, prompts->ids + before, (size_t)prompts->length[s] * sizeof *ids);
    memcpy(ids + prompts->length[s], made, (size_t)r->made[s] * sizeof *ids);
    snprintf(what, sizeof what, "the logits of new token %lld", (long long)r->made[s]);
    mw_status status =
        mw_model_report_nonfinite(r->model, &(mw_batch){.n_seq = 1, .ids = ids, .length = &length}, what);
    mw_free(ids);
    return status;
}

static bool ends_text(const mw_sampling *sampling, int32_t id) {
    for (int64_t i = 0; i < sampling->n_stop_ids; i++)
        if (sampling->stop_ids[i] == id) return true;
    return id == sampling->stop_id;
}

/* Chooses one token for each active sequence; a sequence that ends has length 0. */
static mw_status advance(run *r, const mw_batch *prompts, int32_t **out) {
    for (int64_t s = 0; s < r->n_seq; s++) {
        if (r->length[s] == 0) continue;
        if (mw_first_not_finite(r->logits + s * r->vocab, r->vocab) < r->vocab)
            return report_nonfinite(r, prompts, s, out[s]);
        int32_t id = choose(r, s);
        bool stop = ends_text(r->sampling, id);
        if (!stop) out[s][r->made[s]++] = id;
        r->length[s] = !stop && r->made[s] < r->limit[s];
    }
    return MW_OK;
}

/* Writes the tokens of the next pass; returns their number. Where the rotary embedding of a longer text is another,
 * the cached keys are of no use: the pass begins that sequence anew. */
static int64_t feed(run *r, const mw_batch *prompts, int32_t *const *out) {
    int64_t fed = 0, before = 0;
    for (int64_t s = 0; s < r->n_seq; before += prompts->length[s++]) {
        int64_t *cached = &r->cache->length[s], prompt = prompts->length[s];
        if (!r->length[s]) continue;
        if (!mw_rope_changes(r->model, *cached, *cached + 1)) {
            r->next[fed++] = out[s][r->made[s] - 1];
            continue;
        }
        *cached = 0;
        r->length[s] = prompt + r->made[s];
        memcpy(r->next + fed, prompts->ids + before, (size_t)prompt * sizeof *r->next);
        memcpy(r->next + fed + prompt, out[s], (size_t)r->made[s] * sizeof *r->next);
        fed += r->length[s];
    }
    return fed;
}

static mw_status generate(run *r, const mw_batch *prompts, int32_t **out) {
    int64_t longest = 0, total = 0, context = mw_model_about(r->model)->context;
    for (int64_t s = 0; s < r->n_seq; s++) {
        if (prompts->length[s] < 1)
            return mw_error(MW_ERR_ARG, "prompt %lld: expected at least 1 token, found 0", (long long)s);
        int64_t left = context - prompts->length[s];
        if (left < 1)
            return mw_error(
                MW_ERR_ARG,
                "prompt %lld: expected at most %lld tokens, which leaves one in the model's context, found %lld",
                (long long)s, (long long)context - 1, (long long)prompts->length[s]);
        r->limit[s] = r->sampling->max_new_tokens < left ? r->sampling->max_new_tokens : left;
        if (prompts->length[s] + r->limit[s] > longest) longest = prompts->length[s] + r->limit[s];
        total += prompts->length[s] + r->limit[s];
        if (!(out[s] = mw_calloc((size_t)r->limit[s] + 1, sizeof **out))) return MW_ERR_MEMORY;
        r->length[s] = r->limit[s] > 0 ? prompts->length[s] : 0;
    }
    if (!(r->next = mw_alloc((size_t)total * sizeof *r->next))) return MW_ERR_MEMORY;
    MW_TRY(mw_kv_cache_new(r->model, r->n_seq, longest, &r->cache));
    mw_batch batch = {.n_seq = r->n_seq, .ids = prompts->ids, .length = prompts->length, .cache = r->cache};
    MW_TRY(mw_model_forward(r->model, &batch, r->logits));
    batch.ids = r->next;
    batch.length = r->length;
    MW_TRY(advance(r, prompts, out));
    while (feed(r, prompts, out) > 0) {
        MW_TRY(mw_model_forward(r->model, &batch, r->logits));
        MW_TRY(advance(r, prompts, out));
    }
    return MW_OK;
}

mw_status mw_generate(mw_model *model, const mw_batch *prompts, const mw_sampling *sampling, int32_t **out,
                      int64_t *out_length) {
    int64_t n = prompts->n_seq, vocab = mw_model_about(model)->vocab;
    run r = {.model = model, .sampling = sampling, .n_seq = n, .vocab = vocab};
    r.logits = mw_alloc((size_t)(n * vocab) * sizeof *r.logits);
    r.pool = mw_alloc((size_t)vocab * sizeof *r.pool);
    r.length = mw_calloc((size_t)n, sizeof *r.length);
    r.made = mw_calloc((size_t)n, sizeof *r.made);
    r.limit = mw_calloc((size_t)n, sizeof *r.limit);
    int32_t **texts = mw_calloc((size_t)n, sizeof *texts);
    bool ready = r.logits && r.pool && r.length && r.made && r.limit && texts;
    mw_status status = ready ? generate(&r, prompts, texts) : MW_ERR_MEMORY;
    for (int64_t s = 0; texts && s < n; s++) {
        if (status == MW_OK) {
            out[s] = texts[s];
            out_length[s] = r.made[s];
        } else {
            mw_free(texts[s]);
        }
    }
    mw_kv_cache_free(&r.cache);
    void *all[] = {r.logits, r.pool, r.next, r.length, r.made, r.limit, texts};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}
