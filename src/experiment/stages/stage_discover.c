/* Stage discover: texts, names and neighbours of latents. */
#include "experiment/run/baselines.h"
#include "experiment/run/stage_work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct findings {
    mw_store_tokens tokens;
    mw_categories categories;
    mw_names names;
    mw_discovery discovery;
} findings;

static void free_findings(findings *f) {
    mw_store_tokens_free(&f->tokens);
    mw_categories_free(&f->categories);
    mw_names_free(&f->names);
    mw_discovery_free(&f->discovery);
}

/* ---- names ----------------------------------------------------------------------------------------------- */

/* Loads the names in names.csv, which a new discovery keeps, and over them the names that the file gives. */
static mw_status load_names(const experiment_run *r, findings *f) {
    const char *given = r->e->discover.names;
    MW_TRY(run_names_load(r, r->sae->n, &f->names));
    return given[0] ? mw_names_load(given, MW_NAMES_AUTO, mw_path_basename(given), &f->names) : MW_OK;
}

/* Names active latents by their tokens, unless they have another name. */
static mw_status name_by_tokens(const mw_discovery *d, mw_names *names) {
    mw_text text = {0};
    mw_status status = MW_OK;
    for (int64_t i = 0; i < d->n && status == MW_OK; i++) {
        const mw_name *name = &names->of[i];
        bool automatic = !name->name || (name->by && strcmp(name->by, "tokens") == 0);
        if (!automatic || !d->count[i]) continue;
        status = mw_name_by_tokens(d, i, &text);
        mw_name made = {.name = text.data, .by = (char *)(uintptr_t) "tokens", .score = NAN};
        if (status == MW_OK) status = mw_names_set(names, i, &made);
    }
    mw_text_free(&text);
    return status;
}

typedef struct name_change {
    const experiment_run *r;
    const mw_discovery *d;
} name_change;

/* Changes the names as the file has them now: another process may have changed them since the stage began. */
static mw_status change_names(void *self, mw_names *names) {
    const name_change *g = self;
    const char *given = g->r->e->discover.names;
    if (given[0]) MW_TRY(mw_names_load(given, MW_NAMES_AUTO, mw_path_basename(given), names));
    return name_by_tokens(g->d, names);
}

/* ---- printing ------------------------------------------------------------------------------------------- */

typedef struct ranked {
    int64_t latent, count;
    int32_t category;
    double f1;
} ranked;

/* Orders by F1, then by frequency. */
static int by_f1(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->f1 != y->f1) return x->f1 < y->f1 ? 1 : -1;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    return x->latent < y->latent ? -1 : 1;
}

static void print_promoted(const mw_discovery *d, int64_t latent) {
    mw_text line = {0};
    for (int64_t i = 0; i < 3 && i < d->promoted.m && d->promoted.index[latent * d->promoted.m + i] >= 0; i++) {
        size_t length;
        const char *bytes = mw_discovery_token(d, d->promoted.index[latent * d->promoted.m + i], &length);
        mw_text_addf(&line, i ? ", \"" : "; promotes \"");
        mw_text_add_visible(&line, bytes, length);
        mw_text_addf(&line, "\"");
    }
    if (line.data && !line.failed) printf("%s", line.data);
    mw_text_free(&line);
}

static void print_latent(const findings *f, const ranked *l) {
    const mw_discovery *d = &f->discovery;
    int64_t first = l->latent * d->per;
    mw_text line = {0};
    printf("latent %lld \"%s\": active on %.2f %% of tokens", (long long)l->latent,
           f->names.of[l->latent].name ? f->names.of[l->latent].name : "", 100.0 * (double)l->count / (double)d->rows);
    if (l->category >= 0)
        printf(", category %s, F1 %.2f, precision %.2f", d->category_name[l->category], l->f1,
               (double)d->precision[l->latent]);
    print_promoted(d, l->latent);
    printf("\n");
    for (int64_t t = first; t < first + 3 && t < first + d->top_texts && d->text_row[t] >= 0; t++) {
        if (mw_discovery_line(d, t, 6, &line) != MW_OK) break;
        printf("  %7.2f  %s\n", (double)d->text_score[t], line.data);
    }
    mw_text_free(&line);
}

/* Moves one latent of each category before a second one of any. */
static void choose_varied(ranked *list, int64_t n, int64_t show) {
    for (int64_t to = 0; to < show && to < n; to++)
        for (int64_t i = to; i < n; i++) {
            bool seen = false;
            for (int64_t j = 0; j < to; j++)
                seen = seen || (list[j].category >= 0 && list[j].category == list[i].category);
            if (seen) continue;
            ranked chosen = list[i];
            memmove(list + to + 1, list + to, (size_t)(i - to) * sizeof *list);
            list[to] = chosen;
            break;
        }
}

enum { SCORE_WIDTH = 26 };

/* Prints "0.912 (0.853 to 0.961)", or "-" if it is undefined, after so many spaces. Returns those before the next. */
static int print_score(const float *score, int spaces) {
    char text[64];
    if (isnan(score[0]))
        snprintf(text, sizeof text, "-");
    else if (isnan(score[1]))
        snprintf(text, sizeof text, "%.3f (-)", (double)score[0]);
    else
        snprintf(text, sizeof text, "%.3f (%.3f to %.3f)", (double)score[0], (double)score[1], (double)score[2]);
    printf("%*s%s", spaces, "", text);
    return SCORE_WIDTH - (int)strlen(text);
}

static void print_scores(const mw_discovery *d) {
    printf(
        "discover: F1 of the best latent of each of %lld categories, on %lld tokens that it was not chosen on; means "
        "(95 %%)\n  %-12s%-*s%-*s%s\n",
        (long long)d->scored_counts[0], (long long)d->scored_counts[1], "", SCORE_WIDTH, "F1", SCORE_WIDTH,
        "above chance", "trained less this");
    for (int64_t i = 0; i < d->n_scored; i++) {
        int shown = i == 0 ? MW_SCORE_F1_LEAD : MW_SCORES, spaces = 0;
        printf("  %-12s", d->scored[i]);
        for (int s = 0; s < shown; s++) spaces = print_score(d->score + (i * MW_SCORES + s) * 3, spaces);
        printf("\n");
    }
}

static mw_status print_findings(const findings *f, const discover_settings *s, const char *path) {
    const mw_discovery *d = &f->discovery;
    ranked *list = mw_calloc((size_t)d->n, sizeof *list);
    if (!list) return MW_ERR_MEMORY;
    int64_t n = 0;
    for (int64_t i = 0; i < d->n; i++) {
        if (!d->count[i]) continue;
        ranked *l = &list[n++];
        *l = (ranked){i, d->count[i], -1, 0};
        if (d->n_categories) l->category = d->category[i], l->f1 = (double)d->f1[i];
    }
    qsort(list, (size_t)n, sizeof *list, by_f1);
    choose_varied(list, n, s->show);
    printf("discover: %lld of %lld latents are active on %lld tokens", (long long)n, (long long)d->n,
           (long long)d->rows);
    printf("; %s\n", path);
    if (d->n_scored) print_scores(d);
    for (int64_t i = 0; i < n && i < s->show; i++) print_latent(f, &list[i]);
    fflush(stdout);
    mw_free(list);
    return MW_OK;
}

/* ---- the stage ------------------------------------------------------------------------------------------ */

/* Makes the files that follow from a discovery: automatic names, and concepts.json. */
static mw_status derive_files(const experiment_run *r, findings *f) {
    name_change g = {r, &f->discovery};
    MW_TRY(run_names_change(r, r->sae->n, change_names, &g, &f->names));
    return run_concepts_save(r, &f->discovery, &f->names);
}

/* Whether they are missing, or older than the discovery: a run was killed between the two. */
static bool derived_are_stale(const experiment_run *r, const stage_work *w) {
    char *concepts = mw_path_join(r->sae_folder, "concepts.json");
    bool stale = !concepts || !mw_file_is_newer(concepts, w->output);
    mw_free(concepts);
    return stale;
}

static mw_status save(experiment_run *r, findings *f, const stage_work *w) {
    MW_TRY(mw_lock_check(&w->lock));
    MW_TRY(mw_discovery_save(&f->discovery, w->output, r->sae->fingerprint, w->fingerprint));
    return derive_files(r, f);
}

static mw_status print_all(const experiment_run *r, const findings *f) {
    char *concepts = mw_path_join(r->sae_folder, "concepts.json");
    mw_status status = concepts ? print_findings(f, &r->e->discover, concepts) : MW_ERR_MEMORY;
    mw_free(concepts);
    return status;
}

/* Prints a discovery that is complete. */
static mw_status print_complete(const experiment_run *r, const stage_work *w, findings *f) {
    printf("discover: complete, %s\n", w->output);
    MW_TRY(run_discovery(r, &f->discovery));
    MW_TRY(derived_are_stale(r, w) ? derive_files(r, f) : run_names_load(r, r->sae->n, &f->names));
    return print_all(r, f);
}

/* Loads the files that the experiment gives before the long pass, so that their errors come first. */
static mw_status load_given(experiment_run *r, findings *f) {
    const char *path = r->e->discover.categories;
    mw_status status = path[0] ? mw_store_read_tokens(r->store, &f->tokens) : MW_OK;
    if (status == MW_OK && path[0]) status = mw_categories_load(path, &f->tokens, &f->categories);
    mw_store_tokens_free(&f->tokens);
    if (status == MW_OK && run_is_root(r)) status = load_names(r, f);
    return mw_comm_agree(r->comm, status);
}

static double l0_of(const mw_discovery *d) {
    double active = 0;
    for (int64_t i = 0; i < d->n; i++) active += (double)d->count[i];
    return active / (double)d->rows;
}

/* Scores the SAE and its baselines by the categories. */
static mw_status score(experiment_run *r, const site_views *v, const mw_discover_options *options, mw_discovery *d) {
    compared_saes c;
    MW_TRY(run_compared(r, v, l0_of(d), &c));
    mw_status status = mw_discover_scores(c.sae, c.name, c.n, &v->in, r->comm, options, d);
    compared_free(&c);
    return status;
}

static mw_status discover(experiment_run *r, const site_views *v, findings *f) {
    const discover_settings *s = &r->e->discover;
    mw_discover_options options = s->options;
    options.nan_rule = r->e->train.options.nan_rule;
    options.categories = s->categories[0] ? &f->categories : NULL;
    MW_TRY(load_given(r, f));
    MW_TRY(mw_discover(r->sae, &v->in, r->comm, &options, &f->discovery));
    if (options.categories && options.baseline_rows) MW_TRY(score(r, v, &options, &f->discovery));
    if (s->logit_tokens == 0) return MW_OK;
    return mw_discover_logits(r->sae, r->model, r->comm, s->logit_tokens, &f->discovery);
}

static mw_status open_work(experiment_run *r, stage_work *w) {
    static const char *const sections[] = {"discover"};
    char *activations = NULL, sae[MW_MODEL_MARK], model[MW_MODEL_MARK] = "", categories[MW_SHA256_TEXT],
         names[MW_SHA256_TEXT];
    run_sae_hash(r, sae);
    mw_status status = mw_store_provenance(r->store, "fingerprint", &activations);
    if (status == MW_OK && r->e->discover.logit_tokens) status = run_model_hash(r, model);
    if (status == MW_OK) status = run_file_hash(r->e->discover.categories, categories);
    if (status == MW_OK) status = run_file_hash(r->e->discover.names, names);
    if (status == MW_OK) {
        const mw_pair upstream[] = {{"SAE", sae},
                                    {"activations", activations},
                                    {"documents", mw_store_schema(r->store) < 2 ? "by sequence" : "by row"},
                                    {"model", model},
                                    {"categories", categories},
                                    {"given names", names}};
        status = stage_work_open(r, w, "discover", mw_path_join(r->sae_folder, "discovery.h5"), sections, 1, upstream,
                                 sizeof upstream / sizeof *upstream, stage_record_of_arrays);
    }
    mw_free(activations);
    return mw_comm_agree(r->comm, status);
}

static mw_status make_discovery(experiment_run *r, const site_views *v, stage_work *w, findings *f) {
    MW_TRY(stage_work_begin(r, w));
    if (w->complete) return MW_OK;
    MW_TRY(discover(r, v, f));
    MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? save(r, f, w) : MW_OK));
    MW_TRY(stage_work_finish(r, w));
    return mw_comm_agree(r->comm, run_is_root(r) ? print_all(r, f) : MW_OK);
}

mw_status stage_discover(experiment_run *r) {
    site_views v;
    findings f = {0};
    stage_work w = {0};
    MW_TRY(run_sae(r));
    MW_TRY(run_site_views(r, &v));
    if (r->e->discover.logit_tokens) MW_TRY(run_model(r));
    mw_status status = open_work(r, &w);
    if (status == MW_OK) status = stage_work_check_or_redo(r, &w);
    if (status == MW_OK && !w.complete) status = make_discovery(r, &v, &w, &f);
    if (status == MW_OK && w.complete)
        status = mw_comm_agree(r->comm, run_is_root(r) ? print_complete(r, &w, &f) : MW_OK);
    free_findings(&f);
    stage_work_free(&w);
    return status;
}
