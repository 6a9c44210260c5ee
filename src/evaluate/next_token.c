/* Next-token prediction under treatments: cross-entropy, and divergence from the clean model. */
#include "evaluate/next_token.h"

#include <math.h>
#include <string.h>

enum { LOGITS_MAX = 1 << 24 }; /* clean logits kept at once, in floats */

/* ---- reading the logits ---------------------------------------------------------------------------------- */

/* Detector on logits, which come in pieces: keeps those of the clean model, compares those of the treated one with
 * them. */
typedef struct logit_reader {
    const int32_t *next;      /* next token of each row of the pass */
    const int32_t *sequence;  /* [rows + 1] sequence of each row, -1 after the last */
    float *clean;             /* [rows, vocab] clean log-probabilities */
    bool keep;                /* this is the clean pass */
    int64_t row;              /* of the pass, at which the next event begins */
    int64_t width;            /* of the sums of a sequence */
    double *ce, *kl, *tokens; /* of the first sequence; those of the next are `width` later */
} logit_reader;

static double log_sum_exp(const float *x, int64_t n) {
    double best = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++) best = x[i] > best ? x[i] : best;
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - best);
    return best + log(sum);
}

static void add_row(logit_reader *d, const float *logits, int64_t vocab) {
    double total = log_sum_exp(logits, vocab);
    float *clean = d->clean + d->row * vocab;
    int64_t at = d->sequence[d->row] * d->width;
    if (d->keep) {
        d->tokens[at]++;
        for (int64_t i = 0; i < vocab; i++) clean[i] = (float)(logits[i] - total);
    } else {
        for (int64_t i = 0; i < vocab; i++) d->kl[at] += exp(clean[i]) * (clean[i] - (logits[i] - total));
    }
    d->ce[at] += total - logits[d->next[d->row]];
}

static mw_status read_logits(void *self, const mw_hook_event *event) {
    logit_reader *d = self;
    int64_t vocab = event->x.shape[1];
    float *all = NULL;
    MW_TRY(mw_hook_borrow(event, &all));
    for (int64_t r = 0; r < event->x.shape[0]; r++, d->row++)
        if (d->sequence[d->row] == d->sequence[d->row + 1]) /* a sequence's last token has no next token */
            add_row(d, all + r * vocab, vocab);
    return mw_hook_return(event, all, false);
}

/* ---- passes ---------------------------------------------------------------------------------------------- */

typedef struct measurement {
    const mw_comm *comm;
    const prediction_plan *plan;
    const treatment *treatments;
    int64_t n, n_passes;
    int64_t bad;  /* pass * n + treatment of the first sums that are not finite; -1: none so far */
    double *sums; /* [sequences, 2 n + 1]: cross-entropies, divergences, tokens */
    float *clean;
    int32_t *next, *sequence;
} measurement;

static mw_status with_treatment(measurement *s, const mw_batch *batch, int64_t t,
                                mw_status (*action)(measurement *, const mw_batch *, int64_t)) {
    const treatment *how = &s->treatments[t];
    mw_hooks *hooks = mw_model_hooks(s->plan->model);
    mw_status status = how->attach ? how->attach(how->self, hooks) : MW_OK;
    if (status == MW_OK) status = action(s, batch, t);
    if (how->detach) how->detach(how->self, hooks);
    return status;
}

static mw_status forward(measurement *s, const mw_batch *batch, int64_t t) {
    (void)t;
    return mw_model_forward(s->plan->model, batch, NULL);
}

static mw_status run_treated(measurement *s, const mw_batch *batch, int64_t t, double *sums) {
    mw_hooks *hooks = mw_model_hooks(s->plan->model);
    logit_reader d = {.next = s->next,
                      .sequence = s->sequence,
                      .clean = s->clean,
                      .keep = t == 0,
                      .width = 2 * s->n + 1,
                      .ce = sums + t,
                      .kl = sums + s->n + t,
                      .tokens = sums + 2 * s->n};
    mw_hook_id id;
    MW_TRY(mw_hooks_attach(
        hooks,
        &(mw_hook){.site = {0, MW_LOGITS}, .kind = MW_DETECTOR, .call = read_logits, .self = &d, .name = "predictions"},
        &id));
    mw_status status = with_treatment(s, batch, t, forward);
    mw_hooks_detach(hooks, id);
    return status;
}

typedef struct pass_span {
    int64_t first, n, rows; /* first sequence, number of sequences, their rows */
    mw_batch batch;
} pass_span;

static pass_span span_of(const measurement *s, int64_t pass) {
    const prediction_plan *plan = s->plan;
    const mw_dataset *d = plan->dataset;
    int64_t first = plan->first + pass * plan->per_pass, end = plan->first + plan->count;
    int64_t n = end - first < plan->per_pass ? end - first : plan->per_pass;
    return (pass_span){first, n, d->first[first + n - 1] + d->length[first + n - 1] - d->first[first],
                       (mw_batch){.n_seq = n, .ids = d->ids + d->first[first], .length = d->length + first}};
}

static bool are_finite(const measurement *s, const double *sums, int64_t sequences, int64_t t) {
    for (int64_t q = 0; q < sequences; q++, sums += 2 * s->n + 1)
        if (!isfinite(sums[t]) || !isfinite(sums[s->n + t])) return false;
    return true;
}

static mw_status run_pass(measurement *s, int64_t pass) {
    const mw_dataset *d = s->plan->dataset;
    pass_span p = span_of(s, pass);
    double *sums = s->sums + pass * s->plan->per_pass * (2 * s->n + 1);
    int64_t row = 0;
    for (int64_t q = 0; q < p.n; q++)
        for (int64_t i = 0; i < d->length[p.first + q]; i++) s->sequence[row++] = (int32_t)q;
    s->sequence[p.rows] = -1;
    memcpy(s->next, d->ids + d->first[p.first] + 1, (size_t)(p.rows - 1) * sizeof *s->next);
    for (int64_t t = 0; t < s->n; t++) {
        MW_TRY(run_treated(s, &p.batch, t, sums));
        if (!are_finite(s, sums, p.n, t)) {
            s->bad = pass * s->n + t;
            return MW_OK;
        }
        if (s->treatments[t].after) MW_TRY(s->treatments[t].after(s->treatments[t].self, p.rows));
    }
    return MW_OK;
}

static mw_status report_not_finite(measurement *s, const mw_batch *batch, int64_t t) {
    return mw_model_report_nonfinite(s->plan->model, batch, s->treatments[t].name);
}

/* Fails if sums of a pass are not finite. The rank of the first such pass repeats it to report the cause; it has run no
 * pass since. */
static mw_status check_passes(measurement *s) {
    int64_t first;
    MW_TRY(mw_comm_allreduce_first(s->comm, s->bad, &first));
    mw_status status = MW_OK;
    if (first >= 0 && first == s->bad) {
        pass_span p = span_of(s, s->bad / s->n);
        status = with_treatment(s, &p.batch, s->bad % s->n, report_not_finite);
    }
    return mw_comm_agree(s->comm, status);
}

/* Adds the sums of all sequences, in their order. */
static mw_status add_sequences(measurement *s, prediction *out, int64_t *tokens) {
    int64_t width = 2 * s->n + 1;
    MW_TRY(
        mw_comm_allgather_shares(s->comm, s->sums, s->plan->count, s->plan->per_pass, (size_t)width * sizeof *s->sums));
    double all = 0;
    for (int64_t t = 0; t < s->n; t++) out[t] = (prediction){0, 0};
    for (int64_t q = 0; q < s->plan->count; q++) {
        for (int64_t t = 0; t < s->n; t++) {
            out[t].ce += s->sums[q * width + t];
            out[t].kl += s->sums[q * width + s->n + t];
        }
        all += s->sums[q * width + 2 * s->n];
    }
    for (int64_t t = 0; t < s->n; t++) { /* NaN without tokens: 0/0 */
        out[t].ce /= all;
        out[t].kl /= all;
    }
    *tokens = (int64_t)all;
    return MW_OK;
}

prediction_plan plan_predictions(mw_model *model, const mw_dataset *dataset, int64_t first, int64_t count,
                                 int64_t most) {
    int64_t vocab = mw_model_about(model)->vocab, longest = 1;
    for (int64_t q = first; q < first + count; q++)
        if (dataset->length[q] > longest) longest = dataset->length[q];
    prediction_plan plan = {.model = model, .dataset = dataset, .first = first, .count = count};
    plan.per_pass = LOGITS_MAX / vocab / longest;
    if (plan.per_pass < 1) plan.per_pass = 1;
    if (most > 0 && plan.per_pass > most) plan.per_pass = most;
    plan.rows = plan.per_pass * longest;
    return plan;
}

static mw_status prepare(measurement *s) {
    int64_t rows = s->plan->rows;
    s->n_passes = (s->plan->count + s->plan->per_pass - 1) / s->plan->per_pass;
    s->sums = mw_calloc((size_t)(s->plan->count * (2 * s->n + 1)), sizeof *s->sums);
    s->clean = mw_alloc((size_t)(rows * mw_model_about(s->plan->model)->vocab) * sizeof *s->clean);
    s->next = mw_calloc((size_t)rows + 1, sizeof *s->next);
    s->sequence = mw_alloc((size_t)(rows + 1) * sizeof *s->sequence);
    return s->sums && s->clean && s->next && s->sequence ? MW_OK : MW_ERR_MEMORY;
}

mw_status measure_predictions(const prediction_plan *plan, const mw_comm *comm, const treatment *treatments, int64_t n,
                              prediction *out, int64_t *tokens, double **by_sequence) {
    int64_t begin, end;
    measurement s = {.comm = comm, .plan = plan, .treatments = treatments, .n = n, .bad = -1};
    mw_status status = prepare(&s);
    mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), s.n_passes, 1, &begin, &end);
    for (int64_t p = begin; p < end && status == MW_OK && s.bad < 0; p++) status = run_pass(&s, p);
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = check_passes(&s);
    if (status == MW_OK) status = add_sequences(&s, out, tokens);
    if (status == MW_OK && by_sequence) {
        *by_sequence = s.sums;
        s.sums = NULL;
    }
    void *all[] = {s.sums, s.clean, s.next, s.sequence};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}
