#include "experiment/damage.h"
#include "experiment/predictions.h"

#include <math.h>
#include <string.h>

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

/* ---- treatments ------------------------------------------------------------------------------------------- */

typedef struct surgery {
    run *r;
    const mw_store_view *in, *out;
    int32_t untouched;
    float *mean;         /* [out->width] */
    sheet read, rebuilt; /* of the clean pass; what the SAE makes of it */
} surgery;

typedef struct operation {
    surgery *of;
    damage_kind kind;
    mw_hook_id id[MW_VIEW_SITES];
    int count;
    tap tap[MW_VIEW_SITES];
    replacement by[MW_VIEW_SITES];
} operation;

static mw_status attach(operation *o, mw_hooks *hooks, mw_hook hook) {
    hook.name = "evaluate";
    MW_TRY(mw_hooks_attach(hooks, &hook, &o->id[o->count]));
    o->count++;
    return MW_OK;
}

/* The clean pass is written down where the SAE reads. */
static mw_status attach_readers(void *self, mw_hooks *hooks) {
    operation *o = self;
    surgery *s = o->of;
    for (int64_t i = 0, at = 0; i < s->in->n_sites; at += s->in->site[i++].width) {
        o->tap[i] = (tap){&s->read, at, s->in->site[i].width, 0};
        MW_TRY(
            attach(o, hooks,
                   (mw_hook){.site = s->in->site[i].site, .kind = MW_DETECTOR, .call = keep_rows, .self = &o->tap[i]}));
    }
    return MW_OK;
}

static mw_status attach_damage(void *self, mw_hooks *hooks) {
    operation *o = self;
    surgery *s = o->of;
    for (int64_t i = 0, at = 0; i < s->out->n_sites; at += s->out->site[i++].width) {
        o->by[i] = (replacement){{&s->rebuilt, at, s->out->site[i].width, 0},
                                 s->untouched,
                                 o->kind == DAMAGE_MEAN ? s->mean : NULL,
                                 o->kind == DAMAGE_SAE};
        MW_TRY(attach(
            o, hooks,
            (mw_hook){.site = s->out->site[i].site, .kind = MW_CONTROLLER, .call = replace_rows, .self = &o->by[i]}));
    }
    return MW_OK;
}

static void detach(void *self, mw_hooks *hooks) {
    operation *o = self;
    while (o->count > 0) mw_hooks_detach(hooks, o->id[--o->count]);
}

static mw_status rebuild(void *self, int64_t rows) {
    surgery *s = ((operation *)self)->of;
    mw_codes codes = {0};
    mw_status status = mw_sae_encode(s->r->sae, s->read.data, rows, &codes);
    if (status == MW_OK) status = mw_sae_decode(s->r->sae, &codes, s->read.data, s->rebuilt.data);
    mw_codes_free(&codes);
    return status;
}

static const char *const damage_names[DAMAGE_COUNT] = {"the clean model", "the model with the SAE",
                                                       "the model with the site at zero",
                                                       "the model with the site at its mean"};

static mw_status operate(surgery *s, const prediction_plan *plan, damage *out) {
    operation operations[DAMAGE_COUNT] = {{0}};
    treatment treatments[DAMAGE_COUNT];
    prediction found[DAMAGE_COUNT];
    s->read = (sheet){mw_alloc((size_t)(plan->rows * s->in->width) * sizeof(float)), s->in->width};
    s->rebuilt = (sheet){mw_alloc((size_t)(plan->rows * s->out->width) * sizeof(float)), s->out->width};
    for (int kind = 0; kind < DAMAGE_COUNT; kind++) {
        operations[kind] = (operation){.of = s, .kind = (damage_kind)kind};
        treatments[kind] = (treatment){damage_names[kind], kind == DAMAGE_NONE ? attach_readers : attach_damage, detach,
                                       kind == DAMAGE_NONE ? rebuild : NULL, &operations[kind]};
    }
    MW_TRY(mw_comm_agree(s->r->comm, s->read.data && s->rebuilt.data ? MW_OK : MW_ERR_MEMORY));
    MW_TRY(measure_predictions(s->r, plan, treatments, DAMAGE_COUNT, found, &out->tokens));
    for (int kind = 0; kind < DAMAGE_COUNT; kind++) {
        out->ce[kind] = found[kind].ce;
        out->kl[kind] = found[kind].kl;
    }
    return MW_OK;
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

/* Sequences from the first on until they have so many tokens. */
static int64_t count_sequences(const mw_dataset *d, int64_t tokens) {
    int64_t n = 0;
    for (int64_t have = 0; n < d->n_sequences && have < tokens; n++) have += d->length[n];
    return n;
}

mw_status measure_damage(run *r, const views *v, damage *out) {
    surgery s = {.r = r, .in = &v->in, .out = rebuilt(v)};
    MW_TRY(run_model(r));
    MW_TRY(run_dataset(r));
    MW_TRY(mw_comm_agree(r->comm, mean_row(s.out, &s.mean)));
    s.untouched = untouched_token(r);
    *out = (damage){.sequences = count_sequences(r->dataset, r->e->evaluate.tokens)};
    prediction_plan plan = plan_predictions(r, r->dataset, 0, out->sequences);
    mw_status status = operate(&s, &plan, out);
    mw_free(s.read.data);
    mw_free(s.rebuilt.data);
    mw_free(s.mean);
    return status;
}

double recovered(double clean, double with_sae, double baseline) {
    return baseline - clean >= RECOVERED_FROM ? (baseline - with_sae) / (baseline - clean) : (double)NAN;
}
