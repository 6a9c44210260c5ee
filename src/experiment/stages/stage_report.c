/* Stage report: the results of a run, in a few lines and as a page. */
#include "experiment/run/results.h"
#include "report/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the lines -------------------------------------------------------------------------------------------------- */

static int64_t active_latents(const mw_discovery *d) {
    int64_t n = 0;
    for (int64_t i = 0; i < d->n; i++) n += d->count[i] > 0;
    return n;
}

static void print_scores(const mw_discovery *d) {
    printf("          F1 of the best latents");
    for (int64_t i = 0; i < d->n_scored; i++)
        printf("%s %s %.3f", i ? "," : ":", d->scored[i], (double)d->score[i * MW_SCORES * 3]);
    printf("\n");
}

static void print_measures(const char *name, const json_t *e) {
    printf("%s FVU %s, L0 %.1f", name, mw_show(mw_json_number(e, "fvu", NAN), 4).text, mw_json_number(e, "l0", 0));
    if (json_object_get(e, "cosine")) printf(", cosine %s", mw_show(mw_json_number(e, "cosine", NAN), 4).text);
    if (json_object_get(e, "ce_recovered_zero"))
        printf(", cross-entropy recovered %s %%", mw_show(100 * mw_json_number(e, "ce_recovered_zero", NAN), 2).text);
    printf("\n");
}

static void print_evaluation(const json_t *e) {
    const char *name;
    json_t *one;
    print_measures("evaluate ", e);
    json_object_foreach(json_object_get(e, "baselines"), name, one) {
        printf("          %s:", name);
        print_measures("", one);
    }
}

static void print_summary(const experiment_run *r, const results *m) {
    printf("%s, model %s\n", r->e->top.name, r->e->given->model.path);
    if (m->harvest)
        printf("harvest   %lld rows, %s, in %s\n", (long long)mw_json_number(m->harvest, "rows", 0),
               mw_json_text(m->harvest, "dtype"), r->activations);
    if (m->history)
        printf("train     %.0f steps, loss %.4f, FVU %s, R2 %s, L0 %.1f, %.0f dead latents, in %s\n",
               mw_json_last(m->history, "step"), mw_json_last(m->history, "loss"),
               mw_show(mw_json_last(m->history, "fvu"), 4).text, mw_show(mw_json_last(m->history, "r2"), 4).text,
               mw_json_last(m->history, "l0"), mw_json_last(m->history, "dead"), r->sae_folder);
    if (m->discovered)
        printf("discover  %lld active of %lld latents\n", (long long)active_latents(&m->discovery),
               (long long)m->discovery.n);
    if (m->discovered && m->discovery.n_scored) print_scores(&m->discovery);
    if (m->evaluation) print_evaluation(m->evaluation);
}

/* ---- the page ---------------------------------------------------------------------------------------------------- */

static json_t *names_of(char *const *names, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, mw_json_string(names[i], strlen(names[i])));
    return list;
}

static json_t *counts_of(const int64_t *counts, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, json_integer(counts[i]));
    return list;
}

static void add_fact(json_t *facts, const char *key, const char *value) {
    if (value && value[0]) json_object_set_new(facts, key, mw_json_string(value, strlen(value)));
}

/* Adds the provenance that the activations record. */
static void add_provenance(const experiment_run *r, json_t *facts) {
    static const char *const keys[][2] = {{"model_sha256", "SHA-256 of the model's weights"},
                                          {"tokenizer_sha256", "SHA-256 of the tokenizer"},
                                          {"dataset_sha256", "SHA-256 of the data files"},
                                          {"microw_version", "harvested by microw"},
                                          {"microw_git", "at"}};
    for (size_t i = 0; r->store && i < sizeof keys / sizeof *keys; i++) {
        char *value = NULL;
        if (mw_store_provenance(r->store, keys[i][0], &value) == MW_OK) add_fact(facts, keys[i][1], value);
        mw_free(value);
    }
}

static json_t *facts_of(const experiment_run *r, const results *m) {
    json_t *facts = json_object();
    mw_text sae = {0};
    char now[32];
    mw_timestamp(now);
    add_fact(facts, "experiment", r->e->top.name);
    add_fact(facts, "model", r->e->given->model.path);
    if (r->sae && mw_sae_describe(r->sae, &sae) == MW_OK) add_fact(facts, "SAE", sae.data);
    if (r->sae) add_fact(facts, "fingerprint of data and settings", r->sae->fingerprint);
    if (m->harvest)
        json_object_set_new(facts, "rows of the harvest",
                            json_integer((json_int_t)mw_json_number(m->harvest, "rows", 0)));
    add_provenance(r, facts);
    add_fact(facts, "page made by microw", mw_version());
    add_fact(facts, "from", mw_version_git());
    add_fact(facts, "on", now);
    mw_text_free(&sae);
    return facts;
}

static json_t *reals_of(const float *values, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, mw_json_real((double)values[i]));
    return list;
}

static json_t *scored_of(const mw_discovery *d, int64_t i) {
    static const char *const keys[MW_SCORES] = {"f1", "f1_lift", "f1_lead"};
    json_t *one =
        json_pack("{s:o, s:I, s:I, s:o}", "name", mw_json_string(d->scored[i], strlen(d->scored[i])), "categories",
                  (json_int_t)d->scored_counts[i * 2], "rows", (json_int_t)d->scored_counts[i * 2 + 1], "by_category",
                  reals_of(d->scored_f1 + i * d->n_categories, d->n_categories));
    for (int s = 0; s < MW_SCORES; s++)
        json_object_set_new(one, keys[s], reals_of(d->score + (i * MW_SCORES + s) * 3, 3));
    return one;
}

static json_t *best_of(const mw_discovery *d, int64_t category) {
    mw_category_score score;
    int64_t latent = mw_discovery_best(d, category, &score);
    double share = (double)d->category_rows[category] / (double)d->rows;
    if (latent < 0) return NULL;
    return json_pack("{s:I, s:o, s:o, s:I, s:o, s:o}", "number", (json_int_t)category, "category",
                     mw_json_string(d->category_name[category], strlen(d->category_name[category])), "share",
                     mw_json_real(share), "latent", (json_int_t)latent, "f1", mw_json_real(score.f1), "chance",
                     mw_json_real(mw_category_chance(share)));
}

/* How well latents detect the categories, of the SAE and of its baselines. */
static json_t *scores_of(const mw_discovery *d) {
    json_t *scored = json_array(), *best = json_array();
    for (int64_t i = 0; i < d->n_scored; i++) json_array_append_new(scored, scored_of(d, i));
    for (int64_t c = 0; c < d->n_categories; c++) {
        json_t *one = best_of(d, c);
        if (one) json_array_append_new(best, one);
    }
    return json_pack("{s:o, s:o}", "scored", scored, "best", best);
}

static json_t *describe(const experiment_run *r, const results *m) {
    const mw_discovery *d = &m->discovery;
    mw_text config = {0};
    if (settings_write_given(r->e, &config) != MW_OK) return NULL;
    json_t *meta = json_pack("{s:o, s:o, s:o, s:I, s:o, s:o, s:o}", "title",
                             mw_json_string(r->e->top.name, strlen(r->e->top.name)), "facts", facts_of(r, m), "config",
                             mw_json_string(config.data, config.length), "rows", (json_int_t)d->rows, "categories",
                             names_of(d->category_name, d->n_categories), "sources", names_of(d->source, d->n_sources),
                             "source_rows", counts_of(d->source_rows, d->n_sources));
    const struct {
        const char *key;
        json_t *value;
    } parts[] = {
        {"history", m->history}, {"evaluation", m->evaluation}, {"sweep", m->sweep}, {"steering", m->steering}};
    for (int i = 0; i < 4; i++)
        if (parts[i].value) json_object_set(meta, parts[i].key, parts[i].value);
    if (d->n_scored) json_object_set_new(meta, "scores", scores_of(d));
    mw_text_free(&config);
    return meta;
}

/* Opens the activations for their provenance, if they still exist. */
static void open_activations(experiment_run *r) {
    char *path = mw_path_join(r->activations, "activations.h5");
    mw_log_quiet(true);
    if (path && !r->store && mw_file_exists(path) && mw_store_open(path, &r->store) != MW_OK) r->store = NULL;
    mw_log_quiet(false);
    mw_free(path);
}

static mw_status make_page(experiment_run *r, const results *m) {
    double bytes;
    int64_t beside;
    open_activations(r);
    report page = {.path = mw_path_join(r->folder, "report.html"),
                   .meta = describe(r, m),
                   .discovery = m->discovered ? &m->discovery : NULL,
                   .names = &m->names,
                   .embed_bytes = r->e->report.embed_mb * 1e6};
    mw_status status = page.path && page.meta ? report_write(&page, &bytes, &beside) : MW_ERR_MEMORY;
    if (status == MW_OK) {
        printf("report: %s (%.1f MB", page.path, bytes / 1e6);
        if (beside) printf("; %lld files of latents beside it in %s/report_data", (long long)beside, r->folder);
        printf(")\n");
    }
    json_decref(page.meta);
    mw_free((char *)(uintptr_t)page.path);
    return status;
}

/* Writes the page and the files beside it under one lock. */
static mw_status write_page(experiment_run *r, const results *m) {
    enum { LOCK_SECONDS = 10 };
    mw_lock lock = {0};
    char *path = mw_path_join(r->folder, "report.html");
    mw_status status = path ? mw_make_directories(r->folder) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_lock_take(path, LOCK_SECONDS, r->steal_lock, &lock);
    if (status == MW_OK) status = make_page(r, m);
    mw_lock_release(&lock);
    mw_free(path);
    return status;
}

static mw_status report_all(experiment_run *r) {
    results m = {0};
    mw_status status = results_collect(r, &m);
    if (status == MW_OK && results_is_empty(&m))
        status = mw_error(MW_ERR_STATE, "%s: nothing to report yet", r->folder);
    if (status == MW_OK) print_summary(r, &m);
    if (status == MW_OK) status = write_page(r, &m);
    fflush(stdout);
    results_release(&m);
    return status;
}

/* Rank 0 writes. */
mw_status stage_report(experiment_run *r) {
    return mw_comm_agree(r->comm, run_is_root(r) ? report_all(r) : MW_OK);
}
