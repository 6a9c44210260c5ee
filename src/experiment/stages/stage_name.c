/* Stage name: names from another program, and how well they tell texts apart. The program reads a request and writes an
 * answer, as JSON:
 *   {"task": "name", "latents": [{"latent": 7, "texts": [{"text": ..., "tokens": [...], "activations": [...]}],
 *                                 "promoted": [...], "suppressed": [...]}]}
 *   -> {"latents": [{"latent": 7, "name": ..., "note": ..., "by": ...}]}          note and by are optional
 *   {"task": "detect", "latents": [{"latent": 7, "name": ..., "texts": [...]}]}
 *   -> {"latents": [{"latent": 7, "active": [true, false, ...]}]}                 one for each text
 */
#include "evaluate/name_detection.h"
#include "experiment/run/stage_work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_WINDOWS = 512 };
static const size_t answer_most = (size_t)64 << 20;

typedef struct naming {
    experiment_run *r;
    const naming_settings *s;
    mw_discovery d;
    mw_names names;
    name_detection_pool *pool;
    int64_t *latents, count;
    int64_t named, tested;
    double score_sum;
} naming;

/* ---- choosing latents ------------------------------------------------------------------------------------------- */

typedef struct ranked {
    int64_t latent, count;
} ranked;

static int most_frequent_first(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->latent < y->latent ? -1 : 1;
}

static bool is_wanted(const naming *g, int64_t latent) {
    const mw_name *name = &g->names.of[latent];
    bool given = name->name && !(name->by && strcmp(name->by, "tokens") == 0);
    return g->d.count[latent] > 0 && (!given || g->s->again);
}

static mw_status choose_frequent(naming *g) {
    ranked *list = mw_alloc((size_t)g->d.n * sizeof *list);
    if (!list) return MW_ERR_MEMORY;
    int64_t n = 0;
    for (int64_t i = 0; i < g->d.n; i++)
        if (g->d.count[i]) list[n++] = (ranked){i, g->d.count[i]};
    qsort(list, (size_t)n, sizeof *list, most_frequent_first);
    if (g->s->limit && n > g->s->limit) n = g->s->limit;
    for (int64_t i = 0; i < n; i++)
        if (is_wanted(g, list[i].latent)) g->latents[g->count++] = list[i].latent;
    mw_free(list);
    return MW_OK;
}

static mw_status choose(naming *g) {
    const mw_ints *given = &g->s->latents;
    g->latents = mw_alloc((size_t)(given->count > g->d.n ? given->count : g->d.n) * sizeof *g->latents);
    if (!g->latents) return MW_ERR_MEMORY;
    if (!given->count) return choose_frequent(g);
    for (int64_t i = 0; i < given->count; i++) {
        if (given->items[i] < 0 || given->items[i] >= g->d.n)
            return mw_error(MW_ERR_CONFIG, "naming.latents: %lld: the SAE has %lld latents", (long long)given->items[i],
                            (long long)g->d.n);
        if (is_wanted(g, given->items[i])) g->latents[g->count++] = given->items[i];
    }
    return MW_OK;
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static json_t *as_text(mw_text *text) {
    json_t *made = text->failed ? NULL : json_stringn(text->data ? text->data : "", text->length);
    mw_text_free(text);
    return made;
}

static json_t *shown_token(const mw_discovery *d, int32_t id) {
    mw_text text = {0};
    mw_discovery_show(d, id, &text);
    return as_text(&text);
}

static json_t *shown_text(const mw_discovery *d, int64_t t) {
    json_t *tokens = json_array(), *activations = json_array();
    mw_text whole = {0}, shown = {0};
    mw_text_add(&whole, "", 0);
    for (int64_t i = d->text_start[t]; i < d->text_start[t + 1]; i++) {
        size_t length;
        const char *bytes = mw_discovery_token(d, d->text_id[i], &length);
        mw_text_add(&whole, bytes, length);
        json_array_append_new(tokens, shown_token(d, d->text_id[i]));
        json_array_append_new(activations, mw_json_real((double)d->text_value[i]));
    }
    if (!whole.failed) mw_utf8_show(&shown, whole.data, whole.length);
    mw_text_free(&whole);
    return json_pack("{s:o, s:o, s:o}", "text", as_text(&shown), "tokens", tokens, "activations", activations);
}

static json_t *token_list(const mw_discovery *d, const mw_nearest *near, int64_t latent) {
    json_t *list = json_array();
    for (int64_t i = latent * near->m; i < (latent + 1) * near->m && near->index[i] >= 0; i++) {
        json_array_append_new(list, shown_token(d, near->index[i]));
    }
    return list;
}

static json_t *evidence(const naming *g, int64_t latent) {
    const mw_discovery *d = &g->d;
    json_t *texts = json_array();
    for (int64_t i = 0; i < g->s->texts && i < d->top_texts && d->text_row[latent * d->per + i] >= 0; i++)
        json_array_append_new(texts, shown_text(d, latent * d->per + i));
    return json_pack("{s:I, s:o, s:o, s:o, s:o}", "latent", (json_int_t)latent, "frequency",
                     mw_json_real((double)d->count[latent] / (double)d->rows), "texts", texts, "promoted",
                     token_list(d, &d->promoted, latent), "suppressed", token_list(d, &d->suppressed, latent));
}

/* Runs the command on a request, which it frees. `list`: the list "latents" of `answer`, which the caller frees. */
static mw_status ask(const naming *g, json_t *request, json_t **answer, json_t **list) {
    char *text = json_dumps(request, JSON_REAL_PRECISION(6));
    mw_text reply = {0};
    json_t *root = NULL;
    json_decref(request);
    if (!text) return MW_ERR_MEMORY;
    mw_status status = mw_command_run(g->s->command, text, strlen(text), g->s->timeout, answer_most, &reply);
    free(text);
    if (status == MW_OK) status = mw_json_parse("the answer of naming.command", reply.data, reply.length, &root);
    mw_text_free(&reply);
    if (status == MW_OK && !json_is_array(json_object_get(root, "latents"))) {
        json_decref(root);
        return mw_error(MW_ERR_FORMAT, "the answer of naming.command: expected an object with a list \"latents\"");
    }
    if (status != MW_OK) return status;
    *answer = root;
    *list = json_object_get(root, "latents");
    return MW_OK;
}

/* Returns the index of an answer's latent among the requested ones, or -1. */
static int64_t index_of(const int64_t *latents, int64_t n, const json_t *item) {
    const json_t *latent = json_object_get(item, "latent");
    for (int64_t i = 0; i < n && json_is_integer(latent); i++)
        if (latents[i] == json_integer_value(latent)) return i;
    return -1;
}

static mw_status ask_names(naming *g, const int64_t *latents, int64_t n) {
    json_t *list = json_array(), *answer, *items;
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, evidence(g, latents[i]));
    MW_TRY(ask(g, json_pack("{s:s, s:o}", "task", "name", "latents", list), &answer, &items));
    mw_status status = MW_OK;
    for (size_t i = 0; i < json_array_size(items) && status == MW_OK; i++) {
        const json_t *item = json_array_get(items, i);
        int64_t index = index_of(latents, n, item);
        const char *by = mw_json_text(item, "by");
        mw_name name = {(char *)(uintptr_t)mw_json_text(item, "name"), (char *)(uintptr_t)mw_json_text(item, "note"),
                        (char *)(uintptr_t)(by ? by : "command"), NAN};
        if (index < 0 || !name.name || !name.name[0]) continue; /* no name in the answer: the latent keeps its own */
        status = mw_names_set(&g->names, latents[index], &name);
        g->named++;
    }
    json_decref(answer);
    return status;
}

/* ---- testing ----------------------------------------------------------------------------------------------------- */

static mw_status make_tests(naming *g, const int64_t *latents, int64_t n, name_detection_test *tests, json_t *list) {
    for (int64_t i = 0; i < n; i++) {
        const mw_name *name = &g->names.of[latents[i]];
        MW_TRY(name_detection_test_new(g->pool, &g->d, latents[i], g->s->texts, g->s->test_texts, &tests[i]));
        if (name->name && tests[i].count)
            json_array_append_new(list, json_pack("{s:I, s:s, s:O}", "latent", (json_int_t)latents[i], "name",
                                                  name->name, "texts", tests[i].texts));
    }
    return MW_OK;
}

static void add_scores(naming *g, const int64_t *latents, int64_t n, const name_detection_test *tests,
                       const json_t *items) {
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *item = json_array_get(items, i);
        int64_t index = index_of(latents, n, item);
        double score = index < 0 ? NAN : name_detection_score(&tests[index], json_object_get(item, "active"));
        if (!isfinite(score)) continue;
        g->names.of[latents[index]].score = score;
        g->score_sum += score;
        g->tested++;
    }
}

static mw_status test_names(naming *g, const int64_t *latents, int64_t n) {
    name_detection_test *tests = mw_calloc((size_t)n, sizeof *tests);
    json_t *list = json_array(), *answer = NULL, *items;
    mw_status status = tests ? make_tests(g, latents, n, tests, list) : MW_ERR_MEMORY;
    if (status == MW_OK && json_array_size(list)) {
        status = ask(g, json_pack("{s:s, s:o}", "task", "detect", "latents", list), &answer, &items);
        list = NULL;
        if (status == MW_OK) add_scores(g, latents, n, tests, items);
    }
    json_decref(list);
    json_decref(answer);
    for (int64_t i = 0; i < n && tests; i++) name_detection_test_free(&tests[i]);
    mw_free(tests);
    return status;
}

/* ---- the stage --------------------------------------------------------------------------------------------------- */

typedef struct answered_latents {
    const naming *g;
    const int64_t *latents;
    int64_t n;
} answered_latents;

/* Sets the new names among the names that the file has now. */
static mw_status set_names(void *self, mw_names *names) {
    const answered_latents *a = self;
    for (int64_t i = 0; i < a->n; i++)
        if (a->g->names.of[a->latents[i]].name)
            MW_TRY(mw_names_set(names, a->latents[i], &a->g->names.of[a->latents[i]]));
    return MW_OK;
}

static mw_status save_names(naming *g, const int64_t *latents, int64_t n) {
    answered_latents a = {g, latents, n};
    mw_names now = {0};
    MW_TRY(run_names_change(g->r, g->d.n, set_names, &a, &now));
    mw_names_free(&g->names);
    g->names = now;
    return MW_OK;
}

/* Saves after each request, so that a failure loses no earlier answer. */
static mw_status name_all(naming *g) {
    mw_progress progress;
    mw_status status = MW_OK;
    mw_progress_begin(&progress, "name", "latents", g->count, true);
    for (int64_t at = 0; at < g->count && status == MW_OK; at += g->s->batch) {
        int64_t n = g->count - at < g->s->batch ? g->count - at : g->s->batch;
        status = ask_names(g, g->latents + at, n);
        if (status == MW_OK && g->pool) status = test_names(g, g->latents + at, n);
        if (status == MW_OK) status = save_names(g, g->latents + at, n);
        if (status == MW_OK) status = mw_if_interrupted(MW_OK);
        mw_progress_update(&progress, at + n, NULL);
    }
    if (status == MW_OK) mw_progress_end(&progress, g->count, NULL);
    return status;
}

static mw_status name_latents(naming *g, const site_views *v) {
    MW_TRY(run_discovery(g->r, &g->d));
    MW_TRY(run_names_load(g->r, g->d.n, &g->names));
    MW_TRY(choose(g));
    if (g->s->test_texts && g->count) MW_TRY(name_detection_pool_new(g->r->sae, &v->in, &g->d, POOL_WINDOWS, &g->pool));
    mw_status status = name_all(g), saved = run_concepts_save(g->r, &g->d, &g->names);
    if (status == MW_OK) status = saved;
    if (status != MW_OK) return status;
    printf("name: %lld of %lld latents by '%s'", (long long)g->named, (long long)g->count, g->s->command);
    if (g->tested)
        printf("; mean balanced accuracy of detection %.3f (%lld latents)", g->score_sum / (double)g->tested,
               (long long)g->tested);
    printf("; %s/names.csv\n", g->r->sae_folder);
    fflush(stdout);
    return MW_OK;
}

/* Names under a lock, so that two processes do not request the same names. Another run of the stage is never
 * refused: latents keep their names, unless naming.again is set. */
static mw_status name_locked(naming *g, const site_views *v) {
    mw_lock lock = {0};
    char *output = mw_path_join(g->r->sae_folder, "naming");
    mw_status status = output ? mw_lock_take(output, 0, g->r->steal_lock, &lock) : MW_ERR_MEMORY;
    if (status == MW_OK) status = name_latents(g, v);
    mw_lock_release(&lock);
    mw_free(output);
    return status == MW_OK ? manifest_put(g->r, "name", "fingerprint", json_string(g->r->sae->fingerprint)) : status;
}

/* Rank 0 works; the others wait. */
mw_status stage_name(experiment_run *r) {
    site_views v;
    naming g = {.r = r, .s = &r->e->naming};
    MW_TRY(run_sae(r));
    MW_TRY(run_site_views(r, &v));
    mw_status status = mw_comm_agree(r->comm, run_is_root(r) ? name_locked(&g, &v) : MW_OK);
    name_detection_pool_free(&g.pool);
    mw_discovery_free(&g.d);
    mw_names_free(&g.names);
    mw_free(g.latents);
    return status;
}
