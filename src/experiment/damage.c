#include "experiment/damage.h"

#include <math.h>
#include <string.h>

enum { LOGITS_MAX = 1 << 24 }; /* clean logits kept at once, in floats */

/* ---- what the sites hold, and what takes their place ------------------------------------------------------- */

/* Rows of a pass side by side: all sites of a view, [rows, width]. */
typedef struct sheet {
    float *data;
    int64_t width;
} sheet;

/* One site's columns of a sheet. */
typedef struct tap {
    sheet *on;
    int64_t column, width, row; /* row: of the pass, where the next event begins */
} tap;

static mw_status keep_rows(void *self, const mw_hook_event *event) {
    tap *t = self;
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    for (int64_t r = 0; r < event->x.shape[0]; r++, t->row++)
        memcpy(t->on->data + t->row * t->on->width + t->column, x + r * t->width, (size_t)t->width * sizeof *x);
    return mw_hook_return(event, x, false);
}

typedef struct replacement {
    tap at;
    int32_t untouched;
    const float *row; /* [all columns] for every row; NULL: zeros, or the sheet's own rows */
    bool own;
} replacement;

static mw_status replace_rows(void *self, const mw_hook_event *event) {
    replacement *by = self;
    tap *t = &by->at;
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    for (int64_t r = 0; r < event->x.shape[0]; r++, t->row++) {
        const float *from = by->own ? t->on->data + t->row * t->on->width : by->row;
        if (event->token[r] == by->untouched) continue;
        if (from)
            memcpy(x + r * t->width, from + t->column, (size_t)t->width * sizeof *x);
        else
            memset(x + r * t->width, 0, (size_t)t->width * sizeof *x);
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
    const mw_store_view *in, *out;
    int32_t untouched;
    const float *mean;          /* [out->width] */
    int64_t per_pass, n_passes; /* sequences a pass */
    double *sums;               /* [n_passes, SUMS] */
    float *clean;
    int32_t *next, *sequence;
    sheet read, rebuilt; /* of the clean pass; what the SAE makes of it */
} study;

enum { SUMS = 2 * DAMAGE_COUNT + 1, HOOKS_MAX = MW_VIEW_SITES + 1 };

typedef struct attached {
    mw_hook_id id[HOOKS_MAX];
    int count;
    tap tap[MW_VIEW_SITES];
    replacement by[MW_VIEW_SITES];
} attached;

static mw_status attach(study *s, attached *a, mw_hook hook) {
    hook.name = "evaluate";
    MW_TRY(mw_hooks_attach(mw_model_hooks(s->r->model), &hook, &a->id[a->count]));
    a->count++;
    return MW_OK;
}

/* The clean pass is written down where the SAE reads. */
static mw_status attach_readers(study *s, attached *a) {
    for (int64_t i = 0, at = 0; i < s->in->n_sites; at += s->in->site[i++].width) {
        a->tap[i] = (tap){&s->read, at, s->in->site[i].width, 0};
        MW_TRY(attach(
            s, a, (mw_hook){.site = s->in->site[i].site, .kind = MW_DETECTOR, .call = keep_rows, .self = &a->tap[i]}));
    }
    return MW_OK;
}

static mw_status attach_damage(study *s, attached *a, damage_kind kind) {
    for (int64_t i = 0, at = 0; i < s->out->n_sites; at += s->out->site[i++].width) {
        a->by[i] = (replacement){{&s->rebuilt, at, s->out->site[i].width, 0},
                                 s->untouched,
                                 kind == DAMAGE_MEAN ? s->mean : NULL,
                                 kind == DAMAGE_SAE};
        MW_TRY(attach(
            s, a,
            (mw_hook){.site = s->out->site[i].site, .kind = MW_CONTROLLER, .call = replace_rows, .self = &a->by[i]}));
    }
    return MW_OK;
}

static mw_status rebuild(study *s, int64_t rows) {
    mw_codes codes = {0};
    mw_status status = mw_sae_encode(s->r->sae, s->read.data, rows, &codes);
    if (status == MW_OK) status = mw_sae_decode(s->r->sae, &codes, s->read.data, s->rebuilt.data);
    mw_codes_free(&codes);
    return status;
}

static mw_status one_pass(study *s, const mw_batch *batch, damage_kind kind, double *sums) {
    reader d = {.next = s->next, .sequence = s->sequence, .clean = s->clean, .keep = kind == DAMAGE_NONE};
    attached a = {0};
    mw_status status =
        attach(s, &a, (mw_hook){.site = {0, MW_LOGITS}, .kind = MW_DETECTOR, .call = read_logits, .self = &d});
    if (status == MW_OK) status = kind == DAMAGE_NONE ? attach_readers(s, &a) : attach_damage(s, &a, kind);
    if (status == MW_OK) status = mw_model_forward(s->r->model, batch, NULL);
    while (a.count > 0) mw_hooks_detach(mw_model_hooks(s->r->model), a.id[--a.count]);
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
    for (int kind = 0; kind < DAMAGE_COUNT; kind++) {
        MW_TRY(one_pass(s, &batch, (damage_kind)kind, s->sums + pass * SUMS));
        if (kind == DAMAGE_NONE) MW_TRY(rebuild(s, rows));
    }
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
    s->read = (sheet){mw_alloc((size_t)(rows * s->in->width) * sizeof(float)), s->in->width};
    s->rebuilt = (sheet){mw_alloc((size_t)(rows * s->out->width) * sizeof(float)), s->out->width};
    bool good = s->sums && s->clean && s->next && s->sequence && s->read.data && s->rebuilt.data;
    mw_status status = good ? MW_OK : MW_ERR_MEMORY;
    mw_comm_share(mw_comm_rank(s->r->comm), mw_comm_size(s->r->comm), s->n_passes, 1, &begin, &end);
    for (int64_t p = begin; p < end && status == MW_OK; p++) status = all_damages(s, p, n_sequences);
    status = mw_comm_agree(s->r->comm, status);
    return status == MW_OK ? add_passes(s, out) : status;
}

static mw_status mean_row(const mw_store_view *view, float **out) {
    double *mean = mw_alloc((size_t)view->width * sizeof *mean);
    float *row = mw_alloc((size_t)view->width * sizeof *row);
    mw_status status = mean && row ? mw_store_view_mean(view, mean) : MW_ERR_MEMORY;
    for (int64_t i = 0; status == MW_OK && i < view->width; i++) row[i] = (float)mean[i];
    mw_free(mean);
    if (status != MW_OK)
        mw_free(row);
    else
        *out = row;
    return status;
}

mw_status measure_damage(run *r, const views *v, damage *out) {
    int64_t n = 0, longest = 1;
    float *mean = NULL;
    MW_TRY(run_model(r));
    MW_TRY(run_dataset(r));
    MW_TRY(mw_comm_agree(r->comm, mean_row(rebuilt(v), &mean)));
    *out = (damage){0};
    for (; n < r->dataset->n_sequences && out->tokens < r->e->evaluate.tokens; n++) {
        out->tokens += r->dataset->length[n];
        if (r->dataset->length[n] > longest) longest = r->dataset->length[n];
    }
    out->sequences = n;
    study s = {.r = r,
               .in = &v->in,
               .out = rebuilt(v),
               .mean = mean,
               .untouched = r->e->harvest.skip == MW_SKIP_NONE ? -1 : mw_tokenizer_bos(r->tokenizer)};
    mw_status status = run_passes(&s, n, longest, out);
    void *all[] = {s.sums, s.clean, s.next, s.sequence, s.read.data, s.rebuilt.data, mean};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}

double recovered(double clean, double with_sae, double baseline) {
    return baseline != clean ? (baseline - with_sae) / (baseline - clean) : 0;
}
