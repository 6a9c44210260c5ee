/* Stage evaluate: how much of the activations, and of the model's predictions, an SAE keeps. */
#include "experiment/run/baselines.h"
#include "experiment/run/stage_work.h"
#include "microw/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What is measured of the SAE and of each of its baselines. */
typedef struct measurements {
    compared_saes saes;
    mw_sae_metrics metrics[COMPARED_MAX];
    mw_evaluation predictions;
    bool predicted;
} measurements;

static json_t *positions(const mw_sae_metrics *m) {
    json_t *list = json_array();
    for (int b = 0; b < MW_POSITION_BUCKETS; b++) {
        if (m->position_rows[b] == 0) continue;
        bool open = b + 1 == MW_POSITION_BUCKETS; /* the last bucket has all further positions */
        int64_t first = (INT64_C(1) << b) - 1, last = open ? m->last_position : (INT64_C(2) << b) - 2;
        json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:o}", "first", (json_int_t)first, "last",
                                              (json_int_t)last, "rows", (json_int_t)m->position_rows[b], "fvu",
                                              mw_json_real(m->position_fvu[b])));
    }
    return list;
}

static json_t *whole_numbers(const int64_t *values, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_integer(values[i]));
    return list;
}

static json_t *by_site(const mw_store_view *out, const mw_sae_metrics *m) {
    json_t *list = json_array();
    for (int64_t i = 0; i < out->n_sites; i++) {
        char name[MW_SITE_TEXT];
        mw_site_format(out->site[i].site, name);
        json_array_append_new(list, json_pack("{s:s, s:o}", "site", name, "fvu", mw_json_real(m->target_fvu[i])));
    }
    return list;
}

static json_t *interval_of(const mw_estimate *e) {
    return json_pack("[o, o]", mw_json_real(e->low), mw_json_real(e->high));
}

static json_t *reconstruction(const mw_store_view *out, const mw_sae_metrics *m) {
    const struct {
        const char *key;
        double value;
    } measures[] = {{"fvu", m->fvu},
                    {"r2", 1 - m->fvu},
                    {"explained_variance", m->explained_variance},
                    {"mse", m->mse},
                    {"cosine", m->cosine},
                    {"l0", m->l0},
                    {"l0_deviation", m->l0_deviation},
                    {"l1", m->l1}};
    json_t *made = json_pack("{s:I}", "rows", (json_int_t)m->rows);
    if (m->left_out) json_object_set_new(made, "rows_left_out", json_integer(m->left_out));
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++)
        json_object_set_new(made, measures[i].key, mw_json_real(measures[i].value));
    json_object_set_new(made, "fvu_95", interval_of(&m->fvu_95));
    json_object_set_new(made, "cosine_95", interval_of(&m->cosine_95));
    json_object_set_new(made, "l0_95", interval_of(&m->l0_95));
    json_object_set_new(made, "dead", json_integer(m->dead));
    json_object_set_new(made, "dense", json_integer(m->dense));
    json_object_set_new(made, "l0_quantiles", whole_numbers(m->l0_quantile, 5));
    json_object_set_new(made, "frequency_bins", whole_numbers(m->frequency_bin, MW_FREQUENCY_BINS));
    json_object_set_new(made, "by_position", positions(m));
    json_object_set_new(made, "by_site", by_site(out, m));
    return made;
}

static double kl_recovered(const mw_evaluation *d, double kl, mw_ablation baseline) {
    return mw_recovered(0, kl, d->kl[baseline]);
}

static void add_recovered(json_t *made, const mw_evaluation *d, const mw_spliced *s) {
    json_object_set_new(made, "ce_recovered_zero", mw_json_real(s->from_zero.value));
    json_object_set_new(made, "ce_recovered_zero_95", interval_of(&s->from_zero));
    json_object_set_new(made, "ce_recovered_mean", mw_json_real(s->from_mean.value));
    json_object_set_new(made, "ce_recovered_mean_95", interval_of(&s->from_mean));
    json_object_set_new(made, "kl_recovered_zero", mw_json_real(kl_recovered(d, s->kl, MW_ABLATE_ZERO)));
    json_object_set_new(made, "kl_recovered_mean", mw_json_real(kl_recovered(d, s->kl, MW_ABLATE_MEAN)));
}

static void add_predictions(json_t *made, const mw_evaluation *d) {
    static const char *const names[MW_ABLATIONS] = {"clean", "sae", "zero", "mean"};
    json_t *ce = json_object(), *kl = json_object();
    for (int kind = 0; kind < MW_ABLATIONS; kind++) {
        json_object_set_new(ce, names[kind], mw_json_real(d->ce[kind]));
        if (kind != MW_ABLATE_NONE) json_object_set_new(kl, names[kind], mw_json_real(d->kl[kind]));
    }
    json_object_set_new(made, "cross_entropy", ce);
    json_object_set_new(made, "kl", kl);
    add_recovered(made, d, &d->spliced[0]);
    json_object_set_new(made, "predicted_on_tokens", json_integer(d->tokens));
}

static json_t *baseline_json(const measurements *m, int64_t i) {
    const mw_sae_metrics *one = &m->metrics[i];
    json_t *made =
        json_pack("{s:I, s:o, s:o, s:o, s:o, s:I}", "latents", (json_int_t)m->saes.sae[i]->n, "fvu",
                  mw_json_real(one->fvu), "fvu_95", interval_of(&one->fvu_95), "explained_variance",
                  mw_json_real(one->explained_variance), "l0", mw_json_real(one->l0), "dead", (json_int_t)one->dead);
    if (!m->predicted) return made;
    json_object_set_new(made, "cross_entropy", mw_json_real(m->predictions.spliced[i].ce));
    json_object_set_new(made, "kl", mw_json_real(m->predictions.spliced[i].kl));
    add_recovered(made, &m->predictions, &m->predictions.spliced[i]);
    return made;
}

static void add_baselines(json_t *made, const measurements *m) {
    json_t *all = json_object();
    for (int64_t i = 1; i < m->saes.n; i++) json_object_set_new(all, m->saes.name[i], baseline_json(m, i));
    json_object_set_new(made, "baselines", all);
}

static mw_status save(const stage_work *w, const site_views *v, const measurements *m) {
    json_t *made = reconstruction(site_views_target(v), &m->metrics[0]);
    if (m->predicted) add_predictions(made, &m->predictions);
    if (m->saes.n > 1) add_baselines(made, m);
    json_object_set_new(made, "stage", json_string(w->fingerprint));
    mw_status status = made ? mw_lock_check(&w->lock) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_json_save(w->output, made, 1);
    json_decref(made);
    return status;
}

static void print_predictions(const mw_evaluation *d) {
    double from_zero = d->spliced[0].from_zero.value, from_mean = d->spliced[0].from_mean.value;
    printf("evaluate: cross-entropy %s clean, %s with the SAE, %s with the site at zero, %s at its mean: "
           "%s %% and %s %% recovered; KL %s\n",
           mw_show(d->ce[MW_ABLATE_NONE], 4).text, mw_show(d->ce[MW_ABLATE_SAE], 4).text,
           mw_show(d->ce[MW_ABLATE_ZERO], 4).text, mw_show(d->ce[MW_ABLATE_MEAN], 4).text,
           mw_show(100 * from_zero, 1).text, mw_show(100 * from_mean, 1).text, mw_show(d->kl[MW_ABLATE_SAE], 4).text);
    if (isnan(from_zero) || isnan(from_mean))
        printf(
            "evaluate: \"-\": the recovered share is undefined if the ablation costs less than %g nats, or if no token "
            "is predicted\n",
            MW_RECOVERED_FROM);
}

/* "99.81 % (99.74 to 99.88)". */
static void print_share(const mw_estimate *e) {
    char text[64];
    if (isnan(e->low))
        snprintf(text, sizeof text, "%.2f %% (-)", 100 * e->value);
    else
        snprintf(text, sizeof text, "%.2f %% (%.2f to %.2f)", 100 * e->value, 100 * e->low, 100 * e->high);
    printf("  %-26s", isnan(e->value) ? "-" : text);
}

/* "0.0068 (0.0067 to 0.0069), "; an interval that has no width in so many digits is left out. */
static void print_number(const char *name, const mw_estimate *e, int digits) {
    mw_shown low = mw_show(e->low, digits), high = mw_show(e->high, digits);
    printf("%s %s", name, mw_show(e->value, digits).text);
    if (!isnan(e->low) && strcmp(low.text, high.text) != 0) printf(" (%s to %s)", low.text, high.text);
    printf(", ");
}

/* Prints the same numbers of the SAE and its baselines, one below the other. */
static void print_compared(const measurements *m) {
    printf("  %-12s%8s%11s%8s%10s", "", "FVU", "explained", "L0", "dead");
    if (m->predicted) printf("  %-26s  %-26s%8s", "recovered from zero (95 %)", "from the mean", "KL");
    printf("\n");
    for (int64_t i = 0; i < m->saes.n; i++) {
        const mw_sae_metrics *one = &m->metrics[i];
        printf("  %-12s%8s%11s%8.1f%8.2f %%", m->saes.name[i], mw_show(one->fvu, 4).text,
               mw_show(one->explained_variance, 4).text, one->l0,
               100.0 * (double)one->dead / (double)m->saes.sae[i]->n);
        if (m->predicted) {
            print_share(&m->predictions.spliced[i].from_zero);
            print_share(&m->predictions.spliced[i].from_mean);
            printf("%8s", mw_show(m->predictions.spliced[i].kl, 4).text);
        }
        printf("\n");
    }
}

static void print_result(const measurements *all) {
    const mw_sae_metrics *m = &all->metrics[0];
    print_number("evaluate: FVU", &m->fvu_95, 4);
    print_number("cosine", &m->cosine_95, 4);
    print_number("L0", &m->l0_95, 1);
    printf("explained variance %s, dead %.2f %%, dense %lld on %lld rows\n", mw_show(m->explained_variance, 4).text,
           100.0 * (double)m->dead / (double)all->saes.sae[0]->n, (long long)m->dense, (long long)m->rows);
    if (isnan(m->fvu)) printf("evaluate: \"-\": undefined, since the activations do not vary\n");
    if (all->predicted) print_predictions(&all->predictions);
    if (all->saes.n > 1) print_compared(all);
    fflush(stdout);
}

static mw_status open_work(experiment_run *r, stage_work *w) {
    static const char *const with_model[] = {"evaluate", "model", "dataset"};
    char *activations = NULL, sae[MW_MODEL_MARK], model[MW_MODEL_MARK] = "", texts[MW_MODEL_MARK] = "";
    bool predict = r->e->evaluate.ce_recovered;
    run_sae_hash(r, sae);
    mw_status status = mw_store_provenance(r->store, "fingerprint", &activations);
    if (status == MW_OK && predict) status = run_model_hash(r, model);
    if (status == MW_OK && predict) dataset_hash(r->dataset, texts);
    if (status == MW_OK) {
        const mw_pair upstream[] = {{"SAE", sae}, {"activations", activations}, {"model", model}, {"texts", texts}};
        status = stage_work_open(r, w, "evaluate", mw_path_join(r->folder, "evaluate.json"), with_model,
                                 predict ? 3 : 1, upstream, 4, stage_record_of_json);
    }
    mw_free(activations);
    return mw_comm_agree(r->comm, status);
}

/* Returns the number of first sequences that have so many tokens. */
static int64_t count_sequences(const mw_dataset *d, int64_t tokens) {
    int64_t n = 0;
    for (int64_t have = 0; n < d->n_sequences && have < tokens; n++) have += d->length[n];
    return n;
}

static mw_status predict_with(experiment_run *r, const site_views *v, measurements *m) {
    const mw_evaluation_input input = {.model = r->model,
                                       .sae = r->sae,
                                       .baselines = m->saes.sae + 1,
                                       .n_baselines = m->saes.n - 1,
                                       .in = &v->in,
                                       .out = v->out,
                                       .dataset = r->dataset,
                                       .sequences = count_sequences(r->dataset, r->e->evaluate.tokens),
                                       .per_pass = r->e->dataset.batch,
                                       .untouched = run_untouched_token(r)};
    return mw_evaluate(&input, r->comm, &m->predictions);
}

static mw_status measure_rows(const experiment_run *r, const site_views *v, measurements *m, int64_t i) {
    return mw_sae_measure(m->saes.sae[i], &v->in, v->out, r->e->train.options.nan_rule, r->comm, &m->metrics[i]);
}

static mw_status measure(experiment_run *r, const site_views *v, measurements *m) {
    m->saes = (compared_saes){.n = 1, .name = {"trained"}, .sae = {r->sae}};
    m->predicted = r->e->evaluate.ce_recovered;
    MW_TRY(measure_rows(r, v, m, 0));
    if (r->e->evaluate.baselines) MW_TRY(run_compared(r, v, m->metrics[0].l0, &m->saes));
    for (int64_t i = 1; i < m->saes.n; i++) MW_TRY(measure_rows(r, v, m, i));
    return m->predicted ? predict_with(r, v, m) : MW_OK;
}

static mw_status evaluate(experiment_run *r, const site_views *v, stage_work *w) {
    measurements m = {0};
    MW_TRY(stage_work_begin(r, w));
    if (w->complete) return MW_OK;
    mw_status status = measure(r, v, &m);
    if (status == MW_OK && run_is_root(r)) print_result(&m);
    if (status == MW_OK) status = mw_comm_agree(r->comm, run_is_root(r) ? save(w, v, &m) : MW_OK);
    compared_free(&m.saes);
    return status == MW_OK ? stage_work_finish(r, w) : status;
}

mw_status stage_evaluate(experiment_run *r) {
    site_views v;
    stage_work w = {0};
    MW_TRY(run_sae(r));
    MW_TRY(run_site_views(r, &v));
    if (r->e->evaluate.ce_recovered) MW_TRY(run_model(r));
    if (r->e->evaluate.ce_recovered) MW_TRY(run_dataset(r));
    mw_status status = open_work(r, &w);
    if (status == MW_OK) status = stage_work_check_or_redo(r, &w);
    if (status == MW_OK && !w.complete) status = evaluate(r, &v, &w);
    if (status == MW_OK && w.complete && run_is_root(r)) printf("evaluate: complete, %s\n", w.output);
    stage_work_free(&w);
    return status;
}
