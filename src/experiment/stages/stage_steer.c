/* Stage steer: the effect of edits of latents on generated texts, words of a category and next-token prediction. */
#include "experiment/run/latent_edits.h"
#include "experiment/run/generation.h"
#include "evaluate/next_token.h"
#include "experiment/run/stage_work.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One set of edits; the first variant has none. */
typedef struct steer_variant {
    char *name;
    const char *category; /* "": not measured */
    double scale;
    edit_list edits;
    mw_text *texts; /* [prompts * samples] */
    word_share *shares;
    mw_steering steering;
    prediction predicted;
} steer_variant;

typedef struct steer_job {
    experiment_run *r;
    const steer_settings *s;
    steer_variant *list;
    int64_t n, capacity;
    prompt_set prompts;
    json_t *words; /* word -> category, or NULL */
    int64_t tokens;
    mw_dataset *own; /* of steer.measure_path; NULL: the experiment's dataset */
    stage_work work;
} steer_job;

/* ---- variants ------------------------------------------------------------------------------------------------- */

static bool has_edits(const edit_settings *s) {
    return s->scale.count || s->add.count || s->clamp.count || s->ablate.count || s->concept[0];
}

static mw_status new_variant(steer_job *job, char *name, const edit_settings *s, double scale) {
    if (!name || !MW_GROW(job->list, job->n, job->capacity)) {
        mw_free(name);
        return MW_ERR_MEMORY;
    }
    const char *category = !s ? "" : s->category[0] ? s->category : s->concept;
    job->list[job->n++] = (steer_variant){.name = name, .category = category, .scale = scale};
    return MW_OK;
}

/* Adds the control of the last variant, where the SAE has enough other latents. */
static mw_status add_control(steer_job *job, const edit_settings *s) {
    enum { SEED = 1 };
    int64_t last = job->n - 1, n = job->r->sae->n;
    if (!job->s->control || !s->concept[0] || n < 2 * job->list[last].edits.count) return MW_OK;
    MW_TRY(new_variant(job, mw_format("%s, random", job->list[last].name), s, job->list[last].scale));
    return edit_list_scatter(&job->list[last].edits, n, SEED, &job->list[last + 1].edits);
}

/* Adds a variant for each of the scales, with its control if it changes anything. */
static mw_status add_variants(steer_job *job, const latent_index *d, const char *name, const edit_settings *s) {
    const mw_reals *scales = &job->s->scales;
    for (int64_t i = 0; i < scales->count; i++) {
        double scale = scales->items[i];
        MW_TRY(new_variant(job, scale == 1 ? mw_strdup(name) : mw_format("%s x %.4g", name, scale), s, scale));
        edit_list *made = &job->list[job->n - 1].edits;
        MW_TRY(edit_list_collect(job->r, d, s, name, made));
        edit_list_strengthen(made, scale);
        if (scale != 0) MW_TRY(add_control(job, s));
    }
    return MW_OK;
}

static mw_status make_variants(steer_job *job, const latent_index *d) {
    const steer_settings *s = job->s;
    const variant_settings *given = s->variants.items;
    MW_TRY(new_variant(job, mw_strdup("unchanged"), NULL, 0));
    if (has_edits(&s->edits) || !s->variants.count)
        MW_TRY(add_variants(job, d, s->edits.concept[0] ? s->edits.concept : "steer", &s->edits));
    for (int64_t i = 0; i < s->variants.count; i++) MW_TRY(add_variants(job, d, given[i].name, &given[i].edits));
    return MW_OK;
}

static mw_status prepare(steer_job *job) {
    latent_index d;
    MW_TRY(latent_index_open(job->r, &d));
    mw_status status = make_variants(job, &d);
    latent_index_close(&d);
    if (status == MW_OK) status = prompts_encode(job->r, &job->s->prompts, job->s->samples, &job->prompts);
    if (status == MW_OK) status = prompts_check_and_report(job->r, &job->prompts, job->s->sampling.max_new_tokens);
    for (int64_t v = 0; v < job->n && status == MW_OK; v++) {
        steer_variant *one = &job->list[v];
        one->texts = mw_calloc((size_t)job->prompts.n, sizeof *one->texts);
        one->shares = mw_calloc((size_t)job->prompts.n, sizeof *one->shares);
        one->steering = (mw_steering){.sae = job->r->sae,
                                      .edits = one->edits.items,
                                      .n_edits = one->edits.count,
                                      .keep_error = job->s->keep_error || v == 0,
                                      .untouched = run_untouched_token(job->r)};
        if (!one->texts || !one->shares) status = MW_ERR_MEMORY;
    }
    return status;
}

static void release(steer_job *job) {
    for (int64_t v = 0; v < job->n; v++) {
        steer_variant *one = &job->list[v];
        for (int64_t i = 0; i < job->prompts.n && one->texts; i++) mw_text_free(&one->texts[i]);
        mw_free(one->texts);
        mw_free(one->shares);
        mw_free(one->name);
        edit_list_free(&one->edits);
    }
    mw_free(job->list);
    mw_dataset_free(&job->own);
    stage_work_free(&job->work);
    prompts_free(&job->prompts);
    json_decref(job->words);
}

/* ---- texts: each variant on one rank, then all at rank 0 --------------------------------------------------------- */

static mw_status attach(void *self, mw_hooks *hooks) {
    steer_variant *one = self;
    return one->edits.count ? mw_steering_attach(&one->steering, hooks, NULL) : MW_OK;
}

static void detach(void *self, mw_hooks *hooks) {
    mw_steering_detach(&((steer_variant *)self)->steering, hooks);
}

static mw_status write_texts(steer_job *job, steer_variant *one) {
    mw_sampling how = job->s->sampling;
    mw_model_stop_at(job->r->model, job->r->tokenizer, &how);
    mw_hooks *hooks = mw_model_hooks(job->r->model);
    MW_TRY(attach(one, hooks));
    mw_status status = prompts_continue(job->r, &job->prompts, &how, one->texts);
    detach(one, hooks);
    return status;
}

static bool is_own(const steer_job *job, int64_t variant) {
    return variant % mw_comm_size(job->r->comm) == mw_comm_rank(job->r->comm);
}

static mw_status write_own(steer_job *job) {
    for (int64_t v = 0; v < job->n; v++)
        if (is_own(job, v)) MW_TRY(write_texts(job, &job->list[v]));
    return MW_OK;
}

/* Joins the texts of this rank's variants, each with its NUL. */
static mw_status join_own(const steer_job *job, mw_text *out) {
    mw_text_add(out, "", 0);
    for (int64_t v = 0; v < job->n; v++)
        for (int64_t i = 0; i < job->prompts.n && is_own(job, v); i++) {
            mw_text_add(out, job->list[v].texts[i].data, strlen(job->list[v].texts[i].data));
            mw_text_add(out, "", 1);
        }
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

static void split_all(steer_job *job, const char *all, const size_t *bytes) {
    int size = mw_comm_size(job->r->comm);
    for (int rank = 0; rank < size; all += bytes[rank++]) {
        const char *at = all;
        for (int64_t v = rank; v < job->n; v += size)
            for (int64_t i = 0; i < job->prompts.n; i++, at += strlen(at) + 1) {
                job->list[v].texts[i].length = 0;
                mw_text_add(&job->list[v].texts[i], at, strlen(at));
            }
    }
}

static mw_status gather_texts(steer_job *job) {
    const mw_comm *comm = job->r->comm;
    mw_text own = {0};
    size_t *bytes = mw_alloc((size_t)mw_comm_size(comm) * sizeof *bytes), total = 0;
    mw_status status = mw_comm_agree(comm, bytes ? join_own(job, &own) : MW_ERR_MEMORY);
    if (status == MW_OK) status = mw_comm_allgather(comm, &own.length, sizeof *bytes, bytes);
    for (int r = 0; r < mw_comm_size(comm) && status == MW_OK; r++) total += bytes[r];
    char *all = status == MW_OK ? mw_alloc(total + 1) : NULL;
    if (status == MW_OK) status = mw_comm_agree(comm, all ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = mw_comm_allgatherv(comm, own.data, bytes, all);
    if (status == MW_OK) split_all(job, all, bytes);
    mw_text_free(&own);
    mw_free(bytes);
    mw_free(all);
    return status;
}

/* ---- prediction on text that is not the model's own -------------------------------------------------------------- */

/* Returns the first of the last sequences, which have so many tokens together. */
static int64_t first_of_last(const mw_dataset *d, int64_t tokens) {
    int64_t first = d->n_sequences;
    for (int64_t have = 0; first > 0 && have < tokens;) have += d->length[--first];
    return first;
}

static mw_status load_text(steer_job *job) {
    const mw_strings *paths = &job->s->measure_path;
    if (job->s->measure_tokens == 0) return MW_OK;
    if (!paths->count) return run_dataset(job->r);
    mw_dataset_options options = settings_dataset(job->r->e);
    options.paths = (const char *const *)paths->items;
    options.n_paths = paths->count;
    options.limit_tokens = job->s->measure_tokens;
    options.limit_documents = 0;
    return mw_dataset_load(&options, job->r->tokenizer, job->r->comm, &job->own);
}

static mw_status predict(steer_job *job) {
    if (job->s->measure_tokens == 0) return MW_OK;
    const mw_dataset *text = job->own ? job->own : job->r->dataset;
    int64_t first = job->own ? 0 : first_of_last(text, job->s->measure_tokens);
    prediction_plan plan =
        plan_predictions(job->r->model, text, first, text->n_sequences - first, job->r->e->dataset.batch);
    treatment *treatments = mw_calloc((size_t)job->n, sizeof *treatments);
    prediction *found = mw_calloc((size_t)job->n, sizeof *found);
    mw_status status = mw_comm_agree(job->r->comm, treatments && found ? MW_OK : MW_ERR_MEMORY);
    for (int64_t v = 0; v < job->n && status == MW_OK; v++)
        treatments[v] = (treatment){job->list[v].name, attach, detach, NULL, &job->list[v]};
    if (status == MW_OK)
        status = measure_predictions(&plan, job->r->comm, treatments, job->n, found, &job->tokens, NULL);
    for (int64_t v = 0; v < job->n && status == MW_OK; v++) job->list[v].predicted = found[v];
    mw_free(treatments);
    mw_free(found);
    return status;
}

/* ---- words ------------------------------------------------------------------------------------------------------- */

static mw_status load_words(steer_job *job) {
    const char *path = job->r->e->discover.categories;
    json_t *root = NULL;
    if (!path || !path[0]) return MW_OK;
    MW_TRY(mw_json_load(path, &root));
    job->words = json_incref(json_object_get(root, "words"));
    json_decref(root);
    return MW_OK;
}

typedef struct effect {
    mw_estimate before, after, change;
} effect;

static effect effect_of(const steer_job *job, const steer_variant *one, word_share *before) {
    for (int64_t i = 0; i < job->prompts.n; i++) {
        before[i] = count_words(job->words, one->category, job->list[0].texts[i].data);
        one->shares[i] = count_words(job->words, one->category, one->texts[i].data);
    }
    return (effect){estimate_share(before, job->prompts.n), estimate_share(one->shares, job->prompts.n),
                    estimate_change(before, one->shares, job->prompts.n)};
}

/* ---- output ------------------------------------------------------------------------------------------------------ */

/* Of the column of names. */
static int name_width(const steer_job *job, int least) {
    enum { MOST = 40 };
    size_t width = (size_t)least;
    for (int64_t v = 0; v < job->n; v++)
        if (strlen(job->list[v].name) > width) width = strlen(job->list[v].name);
    return width < MOST ? (int)width : MOST;
}

static void print_line(int width, const char *label, const char *text) {
    mw_text line = {0};
    mw_text_add(&line, "", 0);
    mw_text_add_visible(&line, text, strlen(text));
    if (!line.failed) printf("  %-*s %s\n", width, label, line.data);
    mw_text_free(&line);
}

static void print_edits(const steer_variant *one) {
    printf("steer: %s:", one->name);
    for (int64_t i = 0; i < one->edits.count; i++)
        printf(" latent %lld x %.3g + %.3g%s", (long long)one->edits.items[i].latent, one->edits.items[i].scale,
               one->edits.items[i].add, i + 1 < one->edits.count ? "," : "\n");
}

static void print_texts(const steer_job *job) {
    int width = name_width(job, 12);
    for (int64_t v = 1; v < job->n; v++) print_edits(&job->list[v]);
    for (int64_t p = 0; p < job->s->prompts.count && p < 5; p++) { /* all are in steer.json */
        print_line(width, "prompt:", job->s->prompts.items[p]);
        for (int64_t v = 0; v < job->n; v++)
            print_line(width, job->list[v].name, job->list[v].texts[p * job->s->samples].data);
    }
}

/* "27.9 % (24.4 to 31.1)", "27.9 % (-)" of one text, "-" of no words. */
static void format_share(const mw_estimate *e, char out[64]) {
    if (isnan(e->value))
        snprintf(out, 64, "-");
    else if (isnan(e->low))
        snprintf(out, 64, "%.1f %% (-)", e->value);
    else
        snprintf(out, 64, "%.1f %% (%.1f to %.1f)", e->value, e->low, e->high);
}

static void format_change(const mw_estimate *e, char out[64]) {
    if (isnan(e->value))
        snprintf(out, 64, "-");
    else if (isnan(e->low))
        snprintf(out, 64, "%+.1f (-)", e->value);
    else
        snprintf(out, 64, "%+.1f (%+.1f to %+.1f)", e->value, e->low, e->high);
}

static void print_share(const char *category, const effect *e) {
    char share[64], change[64], named[128];
    format_share(&e->after, share);
    format_change(&e->change, change);
    snprintf(named, sizeof named, "%.40s %s", category, share);
    printf("  %-32s %-24s", named, change);
}

static void print_unchanged(const char *category, const mw_estimate *before, int64_t texts) {
    char share[64];
    format_share(before, share);
    printf("  unchanged, the category %s has %s of the words\n", category, share);
    if (texts == 1) printf("  (-): one text has no interval; steer.samples sets their number\n");
}

static void print_table(const steer_job *job, const effect *effects) {
    bool words = job->words != NULL;
    int width = name_width(job, 20);
    printf("  %-*s", width, "");
    if (words) printf("  %-32s %-24s", "words of the category (95 %)", "change");
    if (job->tokens) printf("%10s %10s", "CE", "KL");
    printf("\n");
    for (int64_t v = 0; v < job->n; v++) {
        const steer_variant *one = &job->list[v];
        bool counted = words && one->category[0];
        printf("  %-*s", width, one->name);
        if (counted) print_share(one->category, &effects[v]);
        if (words && !counted) printf("  %-32s %-24s", "", "");
        if (job->tokens && v == 0) printf("%10.4f", one->predicted.ce);
        if (job->tokens && v > 0)
            printf("%+10.4f %10.4f", one->predicted.ce - job->list[0].predicted.ce, one->predicted.kl);
        printf("\n");
    }
    if (words && job->n > 1 && job->list[1].category[0])
        print_unchanged(job->list[1].category, &effects[1].before, job->prompts.n);
    if (job->tokens) printf("  CE and KL on %lld tokens of text\n", (long long)job->tokens);
}

static json_t *estimate_json(mw_estimate e) {
    return json_pack("{s:o, s:o, s:o}", "percent", mw_json_real(e.value), "low", mw_json_real(e.low), "high",
                     mw_json_real(e.high));
}

static json_t *effect_json(const steer_variant *one, const effect *e) {
    json_t *made = estimate_json(e->after);
    json_object_set_new(made, "name", json_string(one->category));
    json_object_set_new(made, "unchanged", estimate_json(e->before));
    json_object_set_new(made, "change", estimate_json(e->change));
    return made;
}

static json_t *variant_json(const steer_job *job, const steer_variant *one, const effect *e) {
    json_t *edits = json_array(), *texts = json_array();
    for (int64_t i = 0; i < one->edits.count; i++)
        json_array_append_new(edits, json_pack("{s:I, s:o, s:o}", "latent", (json_int_t)one->edits.items[i].latent,
                                               "scale", mw_json_real(one->edits.items[i].scale), "add",
                                               mw_json_real(one->edits.items[i].add)));
    for (int64_t p = 0; p < job->s->prompts.count; p++) {
        json_t *samples = json_array();
        for (int64_t i = 0; i < job->s->samples; i++)
            json_array_append_new(samples, mw_json_string(one->texts[p * job->s->samples + i].data,
                                                          strlen(one->texts[p * job->s->samples + i].data)));
        json_array_append_new(texts, samples);
    }
    json_t *made = json_pack("{s:s, s:o, s:o}", "name", one->name, "scale", mw_json_real(one->scale), "edits", edits);
    if (job->words && one->category[0]) json_object_set_new(made, "category", effect_json(one, e));
    if (job->tokens)
        json_object_set_new(made, "predictions",
                            json_pack("{s:o, s:o, s:o}", "cross_entropy", mw_json_real(one->predicted.ce), "change",
                                      mw_json_real(one->predicted.ce - job->list[0].predicted.ce), "kl",
                                      mw_json_real(one->predicted.kl)));
    json_object_set_new(made, "texts", texts);
    return made;
}

static mw_status save(const steer_job *job, const effect *effects) {
    json_t *root = json_object(), *prompts = json_array(), *list = json_array();
    for (int64_t p = 0; p < job->s->prompts.count; p++)
        json_array_append_new(prompts, json_string(job->s->prompts.items[p]));
    for (int64_t v = 0; v < job->n; v++) json_array_append_new(list, variant_json(job, &job->list[v], &effects[v]));
    json_object_set_new(root, "prompts", prompts);
    json_object_set_new(root, "predicted_on_tokens", json_integer(job->tokens));
    json_object_set_new(root, "variants", list);
    json_object_set_new(root, "stage", json_string(job->work.fingerprint));
    mw_status status = mw_lock_check(&job->work.lock);
    if (status == MW_OK) status = mw_json_save(job->work.output, root, 1);
    json_decref(root);
    return status;
}

static mw_status print_and_save(steer_job *job) {
    effect *effects = mw_calloc((size_t)job->n, sizeof *effects);
    word_share *before = mw_calloc((size_t)job->prompts.n, sizeof *before);
    mw_status status = effects && before ? load_words(job) : MW_ERR_MEMORY;
    for (int64_t v = 1; v < job->n && status == MW_OK && job->words; v++)
        if (job->list[v].category[0]) effects[v] = effect_of(job, &job->list[v], before);
    if (status == MW_OK) {
        print_texts(job);
        print_table(job, effects);
        fflush(stdout);
        status = save(job, effects);
    }
    mw_free(effects);
    mw_free(before);
    return status;
}

/* ---- the stage --------------------------------------------------------------------------------------------------- */

/* Lists the edits of all variants, with the latents that names and categories stand for now. */
static mw_status edits_text(const steer_job *job, mw_text *out) {
    mw_text_add(out, "", 0);
    for (int64_t v = 0; v < job->n; v++)
        for (int64_t i = 0; i < job->list[v].edits.count; i++) {
            const mw_latent_edit *e = &job->list[v].edits.items[i];
            mw_text_addf(out, "%lld %lld %.9g %.9g\n", (long long)v, (long long)e->latent, e->scale, e->add);
        }
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

static mw_status open_work(steer_job *job) {
    static const char *const sections[] = {"model", "steer", "dataset"};
    experiment_run *r = job->r;
    char sae[MW_MODEL_MARK], model[MW_MODEL_MARK], texts[MW_MODEL_MARK] = "", words[MW_SHA256_TEXT],
                                                   edits[MW_SHA256_TEXT];
    bool uses_dataset = job->s->measure_tokens && !job->own;
    mw_text list = {0};
    run_sae_hash(r, sae);
    mw_status status = run_model_hash(r, model);
    if (status == MW_OK) status = run_file_hash(r->e->discover.categories, words);
    if (status == MW_OK) status = edits_text(job, &list);
    if (status == MW_OK) status = mw_sha256(list.data, list.length, edits);
    if (status == MW_OK && job->s->measure_tokens) dataset_hash(job->own ? job->own : r->dataset, texts);
    if (status == MW_OK) {
        const mw_pair upstream[] = {
            {"model", model}, {"SAE", sae}, {"steered latents", edits}, {"categories", words}, {"texts", texts}};
        status = stage_work_open(r, &job->work, "steer", mw_path_join(r->folder, "steer.json"), sections,
                                 uses_dataset ? 3 : 2, upstream, 5, stage_record_of_json);
    }
    mw_text_free(&list);
    return mw_comm_agree(r->comm, status);
}

static mw_status steer(steer_job *job) {
    MW_TRY(stage_work_begin(job->r, &job->work));
    if (job->work.complete) return MW_OK;
    MW_TRY(mw_comm_agree(job->r->comm, write_own(job)));
    MW_TRY(gather_texts(job));
    MW_TRY(predict(job));
    MW_TRY(mw_comm_agree(job->r->comm, run_is_root(job->r) ? print_and_save(job) : MW_OK));
    return stage_work_finish(job->r, &job->work);
}

static mw_status check_and_steer(steer_job *job) {
    MW_TRY(mw_comm_agree(job->r->comm, prepare(job)));
    MW_TRY(load_text(job));
    MW_TRY(open_work(job));
    MW_TRY(stage_work_check_or_redo(job->r, &job->work));
    if (!job->work.complete) MW_TRY(steer(job));
    if (job->work.complete && run_is_root(job->r)) printf("steer: complete, %s\n", job->work.output);
    return MW_OK;
}

mw_status stage_steer(experiment_run *r) {
    steer_job job = {.r = r, .s = &r->e->steer};
    MW_TRY(run_sae(r));
    MW_TRY(run_model(r));
    MW_TRY(run_tokenizer(r));
    mw_status status = check_and_steer(&job);
    release(&job);
    return status;
}
