/* A model's predictions while something takes the place of an SAE's sites. */
#include "evaluate/next_token.h"
#include "microw/evaluate.h"

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
    const mw_sae *sae;
    const mw_store_view *in, *out;
    int32_t untouched;
    float *mean;         /* [out->width] */
    sheet read, rebuilt; /* of the clean pass; what the SAE makes of it */
} surgery;

typedef struct operation {
    surgery *of;
    mw_ablation kind;
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

static mw_status attach_replacements(void *self, mw_hooks *hooks) {
    operation *o = self;
    surgery *s = o->of;
    for (int64_t i = 0, at = 0; i < s->out->n_sites; at += s->out->site[i++].width) {
        o->by[i] = (replacement){{&s->rebuilt, at, s->out->site[i].width, 0},
                                 s->untouched,
                                 o->kind == MW_ABLATE_MEAN ? s->mean : NULL,
                                 o->kind == MW_ABLATE_SAE};
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
    mw_status status = mw_sae_encode(s->sae, s->read.data, rows, &codes);
    if (status == MW_OK) status = mw_sae_decode(s->sae, &codes, s->read.data, s->rebuilt.data);
    mw_codes_free(&codes);
    return status;
}

static const char *const ablation_names[MW_ABLATIONS] = {"the clean model", "the model with the SAE",
                                                         "the model with the site at zero",
                                                         "the model with the site at its mean"};

static mw_status operate(surgery *s, const prediction_plan *plan, const mw_comm *comm, mw_evaluation *out) {
    operation operations[MW_ABLATIONS] = {{0}};
    treatment treatments[MW_ABLATIONS];
    prediction found[MW_ABLATIONS];
    s->read = (sheet){mw_alloc((size_t)(plan->rows * s->in->width) * sizeof(float)), s->in->width};
    s->rebuilt = (sheet){mw_alloc((size_t)(plan->rows * s->out->width) * sizeof(float)), s->out->width};
    for (int kind = 0; kind < MW_ABLATIONS; kind++) {
        operations[kind] = (operation){.of = s, .kind = (mw_ablation)kind};
        treatments[kind] =
            (treatment){ablation_names[kind], kind == MW_ABLATE_NONE ? attach_readers : attach_replacements, detach,
                        kind == MW_ABLATE_NONE ? rebuild : NULL, &operations[kind]};
    }
    MW_TRY(mw_comm_agree(comm, s->read.data && s->rebuilt.data ? MW_OK : MW_ERR_MEMORY));
    MW_TRY(measure_predictions(plan, comm, treatments, MW_ABLATIONS, found, &out->tokens));
    for (int kind = 0; kind < MW_ABLATIONS; kind++) {
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

mw_status mw_evaluate(const mw_evaluation_input *input, const mw_comm *comm, mw_evaluation *out) {
    surgery s = {
        .sae = input->sae, .in = input->in, .out = input->out ? input->out : input->in, .untouched = input->untouched};
    *out = (mw_evaluation){0};
    MW_TRY(mw_comm_agree(comm, mean_row(s.out, &s.mean)));
    prediction_plan plan =
        plan_predictions(input->model, input->dataset, input->first, input->sequences, input->per_pass);
    mw_status status = operate(&s, &plan, comm, out);
    mw_free(s.read.data);
    mw_free(s.rebuilt.data);
    mw_free(s.mean);
    return status;
}

double mw_recovered(double clean, double with_sae, double baseline) {
    return baseline - clean >= MW_RECOVERED_FROM ? (baseline - with_sae) / (baseline - clean) : (double)NAN;
}
