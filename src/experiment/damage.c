#include "experiment/damage.h"

#include <math.h>
#include <string.h>

enum { LOGITS_MAX = 1 << 24 }; /* clean logits kept at once, in floats */

/* ---- replacing the site ---------------------------------------------------------------------------------- */

typedef struct replacement {
    int32_t untouched;
    const float *row; /* [width]; NULL: zeros */
} replacement;

static mw_status replace_rows(void *self, const mw_hook_event *event) {
    const replacement *by = self;
    int64_t width = event->x.shape[1];
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    for (int64_t r = 0; r < event->x.shape[0]; r++) {
        if (event->token[r] == by->untouched) continue;
        if (by->row)
            memcpy(x + r * width, by->row, (size_t)width * sizeof *x);
        else
            memset(x + r * width, 0, (size_t)width * sizeof *x);
    }
    return mw_hook_return(event, x, true);
}

/* ---- reading the logits ---------------------------------------------------------------------------------- */

/* Detector on logits, which come in pieces: keeps the clean ones, compares the damaged ones. */
typedef struct reader {
    const int32_t *next;     /* next token of each row of the pass */
    const int32_t *sequence; /* sequence of each row, one more than there are rows */
    float *clean;            /* [rows, vocab] logits minus their log-sum-exp */
    bool keep;
    int64_t row;
    double ce, kl, tokens;
} reader;

static double log_sum_exp(const float *x, int64_t n) {
    double best = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++) best = x[i] > best ? x[i] : best;
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - best);
    return best + log(sum);
}

static void read_row(reader *d, const float *logits, int64_t vocab) {
    double total = log_sum_exp(logits, vocab);
    float *clean = d->clean + d->row * vocab;
    if (d->keep) {
        for (int64_t i = 0; i < vocab; i++) clean[i] = (float)(logits[i] - total);
    } else {
        for (int64_t i = 0; i < vocab; i++) d->kl += exp(clean[i]) * (clean[i] - (logits[i] - total));
    }
    d->ce += total - logits[d->next[d->row]];
    d->tokens++;
}

static mw_status read_logits(void *self, const mw_hook_event *event) {
    reader *d = self;
    int64_t vocab = event->x.shape[1];
    float *all = NULL;
    MW_TRY(mw_hook_borrow(event, &all));
    for (int64_t r = 0; r < event->x.shape[0]; r++, d->row++)
        if (d->sequence[d->row] == d->sequence[d->row + 1]) /* a sequence's last token has no next one */
            read_row(d, all + r * vocab, vocab);
    return mw_hook_return(event, all, false);
}

/* ---- passes ---------------------------------------------------------------------------------------------- */

typedef struct study {
    run *r;
    int64_t per_pass, n_passes; /* sequences a pass */
    mw_hook damage[DAMAGE_COUNT];
    double *sums; /* [n_passes, SUMS] */
    float *clean;
    int32_t *next, *sequence;
} study;

enum { SUMS = 2 * DAMAGE_COUNT + 1 };

static mw_status one_pass(study *s, const mw_batch *batch, damage_kind kind, double *sums) {
    mw_hooks *hooks = mw_model_hooks(s->r->model);
    reader d = {.next = s->next, .sequence = s->sequence, .clean = s->clean, .keep = kind == DAMAGE_NONE};
    mw_hook watch = {.site = {0, MW_LOGITS}, .kind = MW_DETECTOR, .call = read_logits, .self = &d, .name = "evaluate"};
    mw_hook_id watching = 0, acting = 0;
    MW_TRY(mw_hooks_attach(hooks, &watch, &watching));
    mw_status status = kind == DAMAGE_NONE ? MW_OK : mw_hooks_attach(hooks, &s->damage[kind], &acting);
    if (status == MW_OK) status = mw_model_forward(s->r->model, batch, NULL);
    if (acting) mw_hooks_detach(hooks, acting);
    mw_hooks_detach(hooks, watching);
    sums[kind] = d.ce;
    sums[DAMAGE_COUNT + kind] = d.kl;
    sums[2 * DAMAGE_COUNT] = d.tokens;
    return status;
}

static mw_status all_damages(study *s, int64_t pass, int64_t n_sequences) {
    const mw_dataset *d = s->r->dataset;
    int64_t first = pass * s->per_pass, n = n_sequences - first < s->per_pass ? n_sequences - first : s->per_pass;
    int64_t rows = d->first[first + n - 1] + d->length[first + n - 1] - d->first[first], at = 0;
    for (int64_t q = 0; q < n; q++)
        for (int64_t i = 0; i < d->length[first + q]; i++) s->sequence[at++] = (int32_t)q;
    s->sequence[rows] = -1;
    memcpy(s->next, d->ids + d->first[first] + 1, (size_t)(rows - 1) * sizeof *s->next);
    mw_batch batch = {.n_seq = n, .ids = d->ids + d->first[first], .length = d->length + first};
    for (int kind = 0; kind < DAMAGE_COUNT; kind++)
        MW_TRY(one_pass(s, &batch, (damage_kind)kind, s->sums + pass * SUMS));
    return MW_OK;
}

/* Adds the passes in order, whatever rank made them. */
static mw_status add_passes(study *s, damage *out) {
    MW_TRY(mw_comm_gather_shares(s->r->comm, s->sums, s->n_passes, 1, SUMS * sizeof *s->sums));
    double total[SUMS] = {0};
    for (int64_t p = 0; p < s->n_passes; p++)
        for (int i = 0; i < SUMS; i++) total[i] += s->sums[p * SUMS + i];
    double tokens = total[2 * DAMAGE_COUNT];
    for (int kind = 0; kind < DAMAGE_COUNT; kind++) {
        out->ce[kind] = tokens > 0 ? total[kind] / tokens : 0;
        out->kl[kind] = tokens > 0 ? total[DAMAGE_COUNT + kind] / tokens : 0;
    }
    return MW_OK;
}

static mw_status run_passes(study *s, int64_t n_sequences, int64_t longest, damage *out) {
    int64_t vocab = mw_model_about(s->r->model)->vocab, rows, begin, end;
    s->per_pass = LOGITS_MAX / vocab / longest;
    if (s->per_pass < 1) s->per_pass = 1;
    if (s->per_pass > s->r->e->dataset.batch) s->per_pass = s->r->e->dataset.batch;
    s->n_passes = (n_sequences + s->per_pass - 1) / s->per_pass;
    rows = s->per_pass * longest;
    s->sums = mw_calloc((size_t)(s->n_passes * SUMS), sizeof *s->sums);
    s->clean = mw_alloc((size_t)(rows * vocab) * sizeof *s->clean);
    s->next = mw_calloc((size_t)rows + 1, sizeof *s->next);
    s->sequence = mw_alloc((size_t)(rows + 1) * sizeof *s->sequence);
    mw_status status = s->sums && s->clean && s->next && s->sequence ? MW_OK : MW_ERR_MEMORY;
    mw_comm_share(mw_comm_rank(s->r->comm), mw_comm_size(s->r->comm), s->n_passes, 1, &begin, &end);
    for (int64_t p = begin; p < end && status == MW_OK; p++) status = all_damages(s, p, n_sequences);
    status = mw_comm_agree(s->r->comm, status);
    return status == MW_OK ? add_passes(s, out) : status;
}

static mw_status mean_row(run *r, const mw_store_site *site, float **out) {
    double *mean = mw_alloc((size_t)site->width * sizeof *mean);
    float *row = mw_alloc((size_t)site->width * sizeof *row);
    mw_status status = mean && row ? mw_store_read_mean(r->store, site, mean) : MW_ERR_MEMORY;
    for (int64_t i = 0; status == MW_OK && i < site->width; i++) row[i] = (float)mean[i];
    mw_free(mean);
    if (status != MW_OK)
        mw_free(row);
    else
        *out = row;
    return status;
}

mw_status measure_damage(run *r, const mw_store_site *site, damage *out) {
    int64_t n = 0, longest = 1;
    float *mean = NULL;
    MW_TRY(run_model(r));
    MW_TRY(run_dataset(r));
    MW_TRY(mw_comm_agree(r->comm, mean_row(r, site, &mean)));
    *out = (damage){0};
    for (; n < r->dataset->n_sequences && out->tokens < r->e->evaluate.tokens; n++) {
        out->tokens += r->dataset->length[n];
        if (r->dataset->length[n] > longest) longest = r->dataset->length[n];
    }
    out->sequences = n;
    int32_t untouched = r->e->harvest.skip == MW_SKIP_NONE ? -1 : mw_tokenizer_bos(r->tokenizer);
    mw_steering splice = {.sae = r->sae, .keep_error = false, .untouched = untouched};
    replacement zero = {untouched, NULL}, average = {untouched, mean};
    mw_hook act = {.site = site->site, .kind = MW_CONTROLLER, .name = "evaluate"};
    study s = {.r = r, .damage = {act, act, act, act}};
    s.damage[DAMAGE_SAE].call = mw_steer;
    s.damage[DAMAGE_SAE].self = &splice;
    s.damage[DAMAGE_ZERO].call = s.damage[DAMAGE_MEAN].call = replace_rows;
    s.damage[DAMAGE_ZERO].self = &zero;
    s.damage[DAMAGE_MEAN].self = &average;
    mw_status status = run_passes(&s, n, longest, out);
    void *all[] = {s.sums, s.clean, s.next, s.sequence, mean};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}

double recovered(double clean, double with_sae, double baseline) {
    return baseline != clean ? (baseline - with_sae) / (baseline - clean) : 0;
}
