/* Next-token prediction of a model whose activations at an SAE's sites are replaced. */
#include "evaluate/next_token.h"
#include "microw/evaluate.h"

#include <math.h>
#include <string.h>

/* ---- hooks: read sites, replace sites ------------------------------------------------------- */

/* Rows of a pass at all sites of a view, side by side. */
typedef struct pass_rows {
    float *data; /* [rows, width] */
    int64_t width;
} pass_rows;

/* One site's columns of pass_rows. */
typedef struct site_columns {
    pass_rows *rows;
    int64_t column, width; /* first column, number of columns */
    int64_t row;           /* row of the pass at which the next event begins */
} site_columns;

static mw_status keep_rows(void *self, const mw_hook_event *event) {
    site_columns *c = self;
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    for (int64_t r = 0; r < event->x.shape[0]; r++, c->row++)
        memcpy(c->rows->data + c->row * c->rows->width + c->column, x + r * c->width, (size_t)c->width * sizeof *x);
    return mw_hook_return(event, x, false);
}

typedef struct replacement {
    site_columns site;
    int32_t untouched;
    const float *row;   /* [all columns] replaces every row; NULL: zeros, unless reconstructed */
    bool reconstructed; /* each row is replaced by its row of site.rows */
} replacement;

static mw_status replace_rows(void *self, const mw_hook_event *event) {
    replacement *by = self;
    site_columns *c = &by->site;
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    for (int64_t r = 0; r < event->x.shape[0]; r++, c->row++) {
        const float *from = by->reconstructed ? c->rows->data + c->row * c->rows->width : by->row;
        if (event->token[r] == by->untouched) continue;
        if (from)
            memcpy(x + r * c->width, from + c->column, (size_t)c->width * sizeof *x);
        else
            memset(x + r * c->width, 0, (size_t)c->width * sizeof *x);
    }
    return mw_hook_return(event, x, true);
}

/* ---- treatments ------------------------------------------------------------------------------------------- */

/* Data shared by all ablations. */
typedef struct ablation_data {
    const mw_sae *sae[MW_SPLICED_MAX];
    int64_t n_saes;
    const mw_store_view *in, *out;
    int32_t untouched;
    float *mean;                       /* [out->width] */
    pass_rows read;                    /* the clean pass at the sites read */
    pass_rows rebuilt[MW_SPLICED_MAX]; /* each SAE's reconstruction from it */
} ablation_data;

/* One ablation: `self` of its treatment. */
typedef struct ablation {
    ablation_data *data;
    mw_ablation kind;
    int64_t sae; /* of MW_ABLATE_SAE */
    mw_hook_id id[MW_VIEW_SITES];
    int count; /* hooks attached */
    site_columns read[MW_VIEW_SITES];
    replacement replaced[MW_VIEW_SITES];
} ablation;

static mw_status attach(ablation *a, mw_hooks *hooks, mw_hook hook) {
    hook.name = "evaluate";
    MW_TRY(mw_hooks_attach(hooks, &hook, &a->id[a->count]));
    a->count++;
    return MW_OK;
}

/* Records the clean pass at the sites that the SAE reads. */
static mw_status attach_readers(void *self, mw_hooks *hooks) {
    ablation *a = self;
    ablation_data *s = a->data;
    for (int64_t i = 0, column = 0; i < s->in->n_sites; column += s->in->site[i++].width) {
        a->read[i] = (site_columns){&s->read, column, s->in->site[i].width, 0};
        MW_TRY(attach(
            a, hooks,
            (mw_hook){.site = s->in->site[i].site, .kind = MW_DETECTOR, .call = keep_rows, .self = &a->read[i]}));
    }
    return MW_OK;
}

static mw_status attach_replacements(void *self, mw_hooks *hooks) {
    ablation *a = self;
    ablation_data *s = a->data;
    for (int64_t i = 0, column = 0; i < s->out->n_sites; column += s->out->site[i++].width) {
        a->replaced[i] = (replacement){{&s->rebuilt[a->sae], column, s->out->site[i].width, 0},
                                       s->untouched,
                                       a->kind == MW_ABLATE_MEAN ? s->mean : NULL,
                                       a->kind == MW_ABLATE_SAE};
        MW_TRY(attach(
            a, hooks,
            (mw_hook){
                .site = s->out->site[i].site, .kind = MW_CONTROLLER, .call = replace_rows, .self = &a->replaced[i]}));
    }
    return MW_OK;
}

static void detach(void *self, mw_hooks *hooks) {
    ablation *a = self;
    while (a->count > 0) mw_hooks_detach(hooks, a->id[--a->count]);
}

static mw_status rebuild(void *self, int64_t rows) {
    ablation_data *s = ((ablation *)self)->data;
    mw_codes codes = {0};
    mw_status status = MW_OK;
    for (int64_t i = 0; i < s->n_saes && status == MW_OK; i++) {
        status = mw_sae_encode(s->sae[i], s->read.data, rows, &codes);
        if (status == MW_OK) status = mw_sae_decode(s->sae[i], &codes, s->read.data, s->rebuilt[i].data);
    }
    mw_codes_free(&codes);
    return status;
}

static const char *const ablation_names[MW_ABLATIONS] = {"the clean model", "the model with the SAE",
                                                         "the model with the site at zero",
                                                         "the model with the site at its mean"};

/* The treatments: one of each kind, then the baselines, which are further ones of MW_ABLATE_SAE. */
enum { TREATMENTS_MAX = MW_ABLATIONS + MW_BASELINES };

static int64_t treatment_of_sae(int64_t sae) {
    return sae == 0 ? MW_ABLATE_SAE : MW_ABLATIONS + sae - 1;
}

static mw_status allocate_rows(ablation_data *s, int64_t rows) {
    s->read = (pass_rows){mw_alloc((size_t)(rows * s->in->width) * sizeof(float)), s->in->width};
    if (!s->read.data) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < s->n_saes; i++) {
        s->rebuilt[i] = (pass_rows){mw_alloc((size_t)(rows * s->out->width) * sizeof(float)), s->out->width};
        if (!s->rebuilt[i].data) return MW_ERR_MEMORY;
    }
    return MW_OK;
}

static int64_t list_treatments(ablation_data *s, ablation *ablations, treatment *treatments) {
    int64_t n = MW_ABLATIONS + s->n_saes - 1;
    for (int64_t t = 0; t < n; t++) {
        bool baseline = t >= MW_ABLATIONS;
        mw_ablation kind = baseline ? MW_ABLATE_SAE : (mw_ablation)t;
        ablations[t] = (ablation){.data = s, .kind = kind, .sae = baseline ? t - MW_ABLATIONS + 1 : 0};
        treatments[t] = (treatment){baseline ? "the model with a baseline" : ablation_names[t],
                                    t == MW_ABLATE_NONE ? attach_readers : attach_replacements, detach,
                                    t == MW_ABLATE_NONE ? rebuild : NULL, &ablations[t]};
    }
    return n;
}

/* ---- intervals ---------------------------------------------------------------------------------------------- */

/* Sums of each sequence, as measure_predictions makes them. */
typedef struct sequence_sums {
    const double *sums;
    int64_t sequences, treatments, saes;
} sequence_sums;

/* Shares recovered by each SAE, from zero and from the mean, of resampled sequences. */
static void recovered_shares(const void *self, int64_t draw, double *out) {
    const sequence_sums *s = self;
    int64_t width = 2 * s->treatments + 1;
    double ce[TREATMENTS_MAX] = {0}, tokens = 0;
    for (int64_t q = 0; q < s->sequences; q++) {
        const double *one = s->sums + mw_resampled(draw, q, s->sequences) * width;
        for (int64_t t = 0; t < s->treatments; t++) ce[t] += one[t];
        tokens += one[width - 1];
    }
    for (int64_t t = 0; t < s->treatments; t++) ce[t] /= tokens;
    for (int64_t i = 0; i < s->saes; i++) {
        double with_sae = ce[treatment_of_sae(i)];
        out[2 * i] = mw_recovered(ce[MW_ABLATE_NONE], with_sae, ce[MW_ABLATE_ZERO]);
        out[2 * i + 1] = mw_recovered(ce[MW_ABLATE_NONE], with_sae, ce[MW_ABLATE_MEAN]);
    }
}

static void set_results(const sequence_sums *s, const prediction *found, mw_evaluation *out) {
    mw_estimate share[2 * MW_SPLICED_MAX];
    for (int kind = 0; kind < MW_ABLATIONS; kind++) {
        out->ce[kind] = found[kind].ce;
        out->kl[kind] = found[kind].kl;
    }
    mw_bootstrap(recovered_shares, s, s->sequences, (int)(2 * s->saes), share);
    for (int64_t i = 0; i < s->saes; i++) {
        const prediction *one = &found[treatment_of_sae(i)];
        out->spliced[i] = (mw_spliced){one->ce, one->kl, share[2 * i], share[2 * i + 1]};
    }
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

static mw_status measure_ablations(ablation_data *s, const prediction_plan *plan, const mw_comm *comm,
                                   mw_evaluation *out) {
    ablation ablations[TREATMENTS_MAX] = {{0}};
    treatment treatments[TREATMENTS_MAX];
    prediction found[TREATMENTS_MAX];
    double *sums = NULL;
    int64_t n = list_treatments(s, ablations, treatments);
    MW_TRY(mw_comm_agree(comm, allocate_rows(s, plan->rows)));
    MW_TRY(measure_predictions(plan, comm, treatments, n, found, &out->tokens, &sums));
    set_results(&(sequence_sums){sums, plan->count, n, s->n_saes}, found, out);
    mw_free(sums);
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

static void free_rows(ablation_data *s) {
    mw_free(s->read.data);
    for (int64_t i = 0; i < s->n_saes; i++) mw_free(s->rebuilt[i].data);
    mw_free(s->mean);
}

mw_status mw_evaluate(const mw_evaluation_input *input, const mw_comm *comm, mw_evaluation *out) {
    ablation_data s = {.sae = {input->sae},
                       .n_saes = 1 + input->n_baselines,
                       .in = input->in,
                       .out = input->out ? input->out : input->in,
                       .untouched = input->untouched};
    *out = (mw_evaluation){0};
    if (input->n_baselines > MW_BASELINES)
        return mw_error(MW_ERR_ARG, "evaluation with %lld baselines: expected at most %d",
                        (long long)input->n_baselines, MW_BASELINES);
    for (int64_t i = 0; i < input->n_baselines; i++) s.sae[1 + i] = input->baselines[i];
    MW_TRY(mw_comm_agree(comm, mean_row(s.out, &s.mean)));
    prediction_plan plan =
        plan_predictions(input->model, input->dataset, input->first, input->sequences, input->per_pass);
    mw_status status = measure_ablations(&s, &plan, comm, out);
    free_rows(&s);
    return status;
}

double mw_recovered(double clean, double with_sae, double baseline) {
    return baseline - clean >= MW_RECOVERED_FROM ? (baseline - with_sae) / (baseline - clean) : (double)NAN;
}
