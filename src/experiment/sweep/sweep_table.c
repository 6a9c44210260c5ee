/* The table of a sweep's results. */
#include "experiment/sweep/sweep_table.h"
#include "experiment/figures/figure.h"
#include "experiment/sweep/sweep_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The results of a point; NaN: undefined, or not measured. */
typedef struct outcome {
    const sweep_point *point;
    double fvu, l0, dead, ce, steps;
    bool evaluated;         /* the cross-entropy was measured */
    bool best_fvu, best_ce; /* see surpasses */
} outcome;

/* Closer values are a tie: points of about the same L0 are compared with each other, and a difference that another
 * seed could make prefers none. */
static const double same_l0 = 0.02, same_fvu = 0.02; /* relative */
static const double same_ce = 5e-4;                  /* of the recovered share of cross-entropy */

/* ---- reading ------------------------------------------------------------------------------------------- */

static json_t *load_if_there(const sweep *s, const sweep_point *p, const char *kind, const char *file) {
    char *folder = mw_format("%s/%s/%s.%s", s->base->top.store, kind, s->base->top.name, p->name);
    json_t *root = folder ? mw_json_load_optional(folder, file) : NULL;
    mw_free(folder);
    return root;
}

static bool same_text(const char *a, const char *b) {
    return a && b && strcmp(a, b) == 0;
}

/* Whether a point is finished with these settings, and evaluated on its present SAE. */
static mw_status is_current(const sweep *s, int64_t index, bool *out) {
    mw_experiment *e = NULL;
    char fingerprint[MW_SHA256_TEXT];
    json_t *manifest = load_if_there(s, &s->points[index], "runs", "manifest.json");
    json_t *config = load_if_there(s, &s->points[index], "sae_models", "cfg.json"),
           *stages = json_object_get(manifest, "stages");
    const json_t *done = json_object_get(stages, "sweep"), *evaluated = json_object_get(stages, "evaluate");
    const char *recorded = json_is_string(done) ? json_string_value(done) : mw_json_text(done, "fingerprint");
    const char *measured = mw_json_text(json_object_get(evaluated, "upstream"), "SAE"),
               *present = mw_json_text(config, "weights");
    mw_status status = sweep_experiment(s, index, &e);
    if (status == MW_OK) status = sweep_fingerprint(e, fingerprint);
    *out =
        status == MW_OK && same_text(recorded, fingerprint) && (!measured || !present || same_text(measured, present));
    mw_experiment_free(&e);
    json_decref(manifest);
    json_decref(config);
    return status;
}

/* Reads the measures of the evaluation, else of the last training step; false: there are none. */
static bool read_outcome(const sweep *s, const sweep_point *p, outcome *out) {
    json_t *history = load_if_there(s, p, "sae_models", "training_history.json");
    json_t *evaluated = load_if_there(s, p, "runs", "evaluate.json");
    *out = (outcome){.point = p, .ce = NAN};
    out->fvu = evaluated ? mw_json_number(evaluated, "fvu", NAN) : mw_json_last(history, "fvu");
    out->l0 = evaluated ? mw_json_number(evaluated, "l0", NAN) : mw_json_last(history, "l0");
    out->dead = evaluated ? mw_json_number(evaluated, "dead", NAN) : mw_json_last(history, "dead");
    out->steps = mw_json_last(history, "step");
    out->ce = mw_json_number(evaluated, "ce_recovered_zero", NAN);
    out->evaluated = json_object_get(evaluated, "ce_recovered_zero") != NULL;
    json_decref(history);
    json_decref(evaluated);
    return isfinite(out->l0);
}

static int sparsest_first(const void *a, const void *b) {
    const outcome *x = a, *y = b;
    if (x->l0 != y->l0) return x->l0 < y->l0 ? -1 : 1;
    if (x->fvu != y->fvu) return x->fvu < y->fvu || isnan(y->fvu) ? -1 : 1;
    return strcmp(x->point->name, y->point->name);
}

/* Whether a point surpasses another: it is as sparse and clearly better, or clearly sparser and no worse. `same`:
 * the difference of losses that is a tie. An undefined loss surpasses nothing. */
static bool surpasses(double l0, double loss, double other_l0, double other_loss, double same) {
    bool better = loss < other_loss - same, no_worse = loss <= other_loss;
    return (l0 <= other_l0 * (1 + same_l0) && better) || (l0 * (1 + same_l0) < other_l0 && no_worse);
}

static void mark_best(outcome *list, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        outcome *o = &list[i];
        o->best_fvu = isfinite(o->fvu);
        o->best_ce = isfinite(o->ce);
        for (int64_t j = 0; j < n; j++) {
            if (surpasses(list[j].l0, list[j].fvu, o->l0, o->fvu, same_fvu * o->fvu)) o->best_fvu = false;
            if (surpasses(list[j].l0, -list[j].ce, o->l0, -o->ce, same_ce)) o->best_ce = false;
        }
    }
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static void print_legend(const outcome *list, int64_t n) {
    bool undefined = false;
    for (int64_t i = 0; i < n; i++)
        undefined = undefined || isnan(list[i].fvu) || (list[i].evaluated && isnan(list[i].ce));
    if (n > 1)
        printf(
            "best at its L0: no point with an L0 up to %g %% larger has an FVU lower by %g %% or keeps %g %% more of "
            "the CE, and no sparser point is as good\n",
            100 * same_l0, 100 * same_fvu, 100 * same_ce);
    if (undefined) printf("\"-\": undefined: the activations do not vary, or the ablation costs next to nothing\n");
}

static void print_table(const sweep *s, const outcome *list, int64_t n) {
    printf("%-32s %8s %8s %8s %9s  %s\n", "point", "L0", "FVU", "dead", "CE kept", "best at its L0");
    for (int64_t i = 0; i < n; i++) {
        const outcome *o = &list[i];
        printf("%-32s %8.2f %8s %8s ", o->point->name, o->l0, mw_show(o->fvu, 4).text, mw_show(o->dead, 0).text);
        if (isfinite(o->ce))
            printf("%7.2f %%", 100 * o->ce);
        else
            printf("%9s", "-");
        const char *best = o->best_fvu && o->best_ce ? "FVU, CE" : o->best_fvu ? "FVU" : o->best_ce ? "CE" : "";
        printf("%s%s\n", best[0] ? "  " : "", best);
    }
    print_legend(list, n);
    printf("%lld of %lld points are finished\n", (long long)n, (long long)s->n);
    fflush(stdout);
}

static json_t *as_json(const outcome *o) {
    json_t *made =
        json_pack("{s:s, s:o, s:o, s:o, s:b, s:b}", "point", o->point->name, "l0", mw_json_real(o->l0), "fvu",
                  mw_json_real(o->fvu), "dead", mw_json_real(o->dead), "best_fvu", o->best_fvu, "best_ce", o->best_ce);
    if (isfinite(o->steps)) json_object_set_new(made, "steps", json_real(o->steps));
    if (o->evaluated) json_object_set_new(made, "ce_recovered_zero", mw_json_real(o->ce));
    json_t *values = json_object();
    mw_text text = {0};
    for (int64_t v = 0; v < o->point->n_values; v++) {
        text.length = 0;
        mw_node_text(o->point->values[v].node, &text);
        if (!text.failed) json_object_set_new(values, o->point->values[v].key, json_string(text.data));
    }
    mw_text_free(&text);
    json_object_set_new(made, "values", values);
    return made;
}

static mw_status write_json(const char *title, const char *folder, const outcome *list, int64_t n) {
    char *path = mw_path_join(folder, "sweep.json");
    json_t *all = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(all, as_json(&list[i]));
    mw_status status = path && all ? mw_json_save(path, all, 1) : MW_ERR_MEMORY;
    if (status == MW_OK) status = figure_pareto(all, title, folder, MW_PLOT_SVG);
    json_decref(all);
    mw_free(path);
    return status;
}

static void add_number(mw_text *out, double value) {
    if (isfinite(value))
        mw_text_addf(out, ",%.9g", value);
    else
        mw_text_addf(out, ",");
}

static mw_status write_text(const char *folder, const char *name, mw_text *text) {
    char *path = mw_path_join(folder, name);
    mw_status status = path && !text->failed ? mw_file_write_atomic(path, text->data, text->length) : MW_ERR_MEMORY;
    mw_text_free(text);
    mw_free(path);
    return status;
}

static mw_status write_csv(const char *folder, const outcome *list, int64_t n) {
    mw_text text = {0};
    mw_text_addf(&text, "point,l0,fvu,dead,ce_recovered_zero,best_fvu,best_ce\n");
    for (int64_t i = 0; i < n; i++) {
        mw_text_addf(&text, "%s", list[i].point->name);
        const double values[] = {list[i].l0, list[i].fvu, list[i].dead, list[i].ce};
        for (int v = 0; v < 4; v++) add_number(&text, values[v]);
        mw_text_addf(&text, ",%d,%d\n", list[i].best_fvu, list[i].best_ce);
    }
    return write_text(folder, "sweep.csv", &text);
}

mw_status sweep_table(const sweep *s) {
    outcome *list = mw_calloc((size_t)s->n, sizeof *list);
    char *folder = mw_format("%s/runs/%s", s->base->top.store, s->base->top.name);
    int64_t n = 0, left_out = 0;
    mw_status status = list && folder ? mw_make_directories(folder) : MW_ERR_MEMORY;
    for (int64_t i = 0; i < s->n && status == MW_OK; i++) {
        bool current = false;
        status = is_current(s, i, &current);
        bool found = status == MW_OK && read_outcome(s, &s->points[i], &list[n]);
        n += found && current;
        left_out += found && !current;
    }
    if (status == MW_OK) {
        qsort(list, (size_t)n, sizeof *list, sparsest_first);
        mark_best(list, n);
        print_table(s, list, n);
        if (left_out) printf("%lld points are left out: unfinished, or of other settings\n", (long long)left_out);
        status = write_csv(folder, list, n);
    }
    if (status == MW_OK) status = write_json(s->base->top.name, folder, list, n);
    mw_free(list);
    mw_free(folder);
    return status;
}
