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

/* Names that somebody gave stay when a discovery is made again; those of the file come before them. */
static mw_status load_names(const run *r, findings *f) {
    const char *given = r->e->discover.names;
    MW_TRY(run_names_load(r, r->sae->n, &f->names));
    return given[0] ? mw_names_load(given, MW_NAMES_AUTO, mw_path_basename(given), &f->names) : MW_OK;
}

static mw_status give_names(const mw_discovery *d, mw_names *names) {
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

typedef struct naming {
    const run *r;
    const mw_discovery *d;
} naming;

/* Those that are there now, which may not be those of the beginning. */
static mw_status change_names(void *self, mw_names *names) {
    const naming *g = self;
    const char *given = g->r->e->discover.names;
    if (given[0]) MW_TRY(mw_names_load(given, MW_NAMES_AUTO, mw_path_basename(given), names));
    return give_names(g->d, names);
}

/* ---- printing ------------------------------------------------------------------------------------------- */

typedef struct ranked {
    int64_t latent, count;
    int32_t category;
    double purity;
} ranked;

/* Purest first, then the most frequent. */
static int by_purity(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->purity != y->purity) return x->purity < y->purity ? 1 : -1;
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
    if (l->category >= 0) printf(", category %s, purity %.2f", d->category_name[l->category], l->purity);
    print_promoted(d, l->latent);
    printf("\n");
    for (int64_t t = first; t < first + 3 && t < first + d->top_texts && d->text_row[t] >= 0; t++) {
        if (mw_discovery_line(d, t, 6, &line) != MW_OK) break;
        printf("  %7.2f  %s\n", (double)d->text_score[t], line.data);
    }
    mw_text_free(&line);
}

/* One latent of each category before a second one of any. */
static void choose_varied(ranked *list, int64_t n, int64_t show) {
    for (int64_t place = 0; place < show && place < n; place++)
        for (int64_t i = place; i < n; i++) {
            bool seen = false;
            for (int64_t j = 0; j < place; j++)
                seen = seen || (list[j].category >= 0 && list[j].category == list[i].category);
            if (seen) continue;
            ranked chosen = list[i];
            memmove(list + place + 1, list + place, (size_t)(i - place) * sizeof *list);
            list[place] = chosen;
            break;
        }
}

static mw_status print_findings(const findings *f, const discover_settings *s, const char *path) {
    const mw_discovery *d = &f->discovery;
    ranked *list = mw_calloc((size_t)d->n, sizeof *list);
    if (!list) return MW_ERR_MEMORY;
    int64_t n = 0;
    double purity_sum = 0;
    for (int64_t i = 0; i < d->n; i++) {
        if (!d->count[i]) continue;
        ranked *l = &list[n++];
        *l = (ranked){i, d->count[i], -1, 0};
        bool full = d->text_row[i * d->per + d->top_texts - 1] >= 0; /* few texts make purity easy */
        if (d->n_categories) l->category = d->category[i], l->purity = d->purity[i];
        purity_sum += l->purity;
        if (!full) l->purity = 0;
    }
    qsort(list, (size_t)n, sizeof *list, by_purity);
    choose_varied(list, n, s->show);
    printf("discover: %lld of %lld latents are active on %lld tokens", (long long)n, (long long)d->n,
           (long long)d->rows);
    if (d->n_categories && n) printf("; mean purity of their top texts %.3f", purity_sum / (double)n);
    printf("; %s\n", path);
    for (int64_t i = 0; i < n && i < s->show; i++) print_latent(f, &list[i]);
    fflush(stdout);
    mw_free(list);
    return MW_OK;
}

/* ---- the stage ------------------------------------------------------------------------------------------ */

/* What is made of a discovery: automatic names, and the file for people. */
static mw_status derive(const run *r, findings *f) {
    naming g = {r, &f->discovery};
    MW_TRY(run_names_change(r, r->sae->n, change_names, &g, &f->names));
    return run_concepts_save(r, &f->discovery, &f->names);
}

/* They are missing, or older than what they are made of: a run was ended between the two. */
static bool derived_are_stale(const run *r, const work *w) {
    char *concepts = mw_path_join(r->sae_folder, "concepts.json");
    bool stale = !concepts || !mw_file_is_newer(concepts, w->output);
    mw_free(concepts);
    return stale;
}

static mw_status save(run *r, findings *f, const work *w) {
    MW_TRY(mw_lock_check(&w->lock));
    MW_TRY(mw_discovery_save(&f->discovery, w->output, r->sae->fingerprint, w->fingerprint));
    return derive(r, f);
}

static mw_status tell(const run *r, const findings *f) {
    char *concepts = mw_path_join(r->sae_folder, "concepts.json");
    mw_status status = concepts ? print_findings(f, &r->e->discover, concepts) : MW_ERR_MEMORY;
    mw_free(concepts);
    return status;
}

/* What is there already is shown again. */
static mw_status tell_complete(const run *r, const work *w, findings *f) {
    printf("discover: complete, %s\n", w->output);
    MW_TRY(run_discovery(r, &f->discovery));
    MW_TRY(derived_are_stale(r, w) ? derive(r, f) : run_names_load(r, r->sae->n, &f->names));
    return tell(r, f);
}

/* Whatever may be wrong with what was given is better told before a long pass than after it. */
static mw_status load_given(run *r, findings *f) {
    const char *path = r->e->discover.categories;
    mw_status status = path[0] ? mw_store_read_tokens(r->store, &f->tokens) : MW_OK;
    if (status == MW_OK && path[0]) status = mw_categories_load(path, &f->tokens, &f->categories);
    mw_store_tokens_free(&f->tokens);
    if (status == MW_OK && run_is_root(r)) status = load_names(r, f);
    return mw_comm_agree(r->comm, status);
}

static mw_status discover(run *r, const views *v, findings *f) {
    const discover_settings *s = &r->e->discover;
    mw_discover_options options = s->options;
    options.nan_rule = r->e->train.options.nan_rule;
    options.categories = s->categories[0] ? &f->categories : NULL;
    MW_TRY(load_given(r, f));
    MW_TRY(mw_discover(r->sae, &v->in, r->comm, &options, &f->discovery));
    if (s->logit_tokens == 0) return MW_OK;
    return mw_discover_logits(r->sae, r->model, r->comm, s->logit_tokens, &f->discovery);
}

static mw_status describe(run *r, work *w) {
    static const char *const sections[] = {"discover"};
    char *activations = NULL, sae[MW_MODEL_MARK], model[MW_MODEL_MARK] = "", categories[MW_SHA256_TEXT],
         names[MW_SHA256_TEXT];
    run_sae_mark(r, sae);
    mw_status status = mw_store_provenance(r->store, "fingerprint", &activations);
    if (status == MW_OK && r->e->discover.logit_tokens) status = run_model_mark(r, model);
    if (status == MW_OK) status = run_file_mark(r->e->discover.categories, categories);
    if (status == MW_OK) status = run_file_mark(r->e->discover.names, names);
    if (status == MW_OK) {
        const mw_pair upstream[] = {{"SAE", sae},
                                    {"activations", activations},
                                    {"documents", mw_store_schema(r->store) < 2 ? "by sequence" : "by row"},
                                    {"model", model},
                                    {"categories", categories},
                                    {"given names", names}};
        status = work_new(r, w, "discover", mw_path_join(r->sae_folder, "discovery.h5"), sections, 1, upstream,
                          sizeof upstream / sizeof *upstream, work_record_of_arrays);
    }
    mw_free(activations);
    return mw_comm_agree(r->comm, status);
}

static mw_status do_discover(run *r, const views *v, work *w, findings *f) {
    MW_TRY(work_begin(r, w));
    if (w->complete) return MW_OK;
    MW_TRY(discover(r, v, f));
    MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? save(r, f, w) : MW_OK));
    MW_TRY(work_done(r, w));
    return mw_comm_agree(r->comm, run_is_root(r) ? tell(r, f) : MW_OK);
}

mw_status stage_discover(run *r) {
    views v;
    findings f = {0};
    work w = {0};
    MW_TRY(run_sae(r));
    MW_TRY(run_views(r, &v));
    if (r->e->discover.logit_tokens) MW_TRY(run_model(r));
    mw_status status = describe(r, &w);
    if (status == MW_OK) status = work_look_or_redo(r, &w);
    if (status == MW_OK && !w.complete) status = do_discover(r, &v, &w, &f);
    if (status == MW_OK && w.complete)
        status = mw_comm_agree(r->comm, run_is_root(r) ? tell_complete(r, &w, &f) : MW_OK);
    free_findings(&f);
    work_free(&w);
    return status;
}
