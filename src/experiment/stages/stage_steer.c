/* What turning latents does: texts of each variant side by side, words of a category, and next-token prediction. */
#include "experiment/run/latent_edits.h"
#include "experiment/run/generation.h"
#include "evaluate/next_token.h"
#include "experiment/run/stage_work.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One way to turn latents; the first of all turns none. */
typedef struct variant {
    char *name;
    const char *category; /* "": not measured */
    double scale;
    edits edits;
    mw_text *texts; /* [prompts * samples] */
    word_share *shares;
    mw_steering steering;
    prediction predicted;
} variant;

typedef struct lab {
    run *r;
    const steer_settings *s;
    variant *list;
    int64_t n, capacity;
    prompt_set prompts;
    json_t *words; /* word -> category, or NULL */
    int64_t tokens;
    mw_dataset *own; /* text that is measured on, if it is not the experiment's */
    work w;
} lab;

/* ---- variants ------------------------------------------------------------------------------------------------- */

static bool turns_anything(const edit_settings *s) {
    return s->scale.count || s->add.count || s->clamp.count || s->ablate.count || s->concept[0];
}

static mw_status new_variant(lab *l, char *name, const edit_settings *s, double scale) {
    if (!name || !MW_GROW(l->list, l->n, l->capacity)) {
        mw_free(name);
        return MW_ERR_MEMORY;
    }
    const char *category = !s ? "" : s->category[0] ? s->category : s->concept;
    l->list[l->n++] = (variant){.name = name, .category = category, .scale = scale};
    return MW_OK;
}

/* At each of the scales. */
static mw_status add_variants(lab *l, const dictionary *d, const char *name, const edit_settings *s) {
    const mw_reals *scales = &l->s->scales;
    for (int64_t i = 0; i < scales->count; i++) {
        double scale = scales->items[i];
        MW_TRY(new_variant(l, scale == 1 ? mw_strdup(name) : mw_format("%s x %.4g", name, scale), s, scale));
        edits *made = &l->list[l->n - 1].edits;
        MW_TRY(edits_collect(l->r, d, s, name, made));
        edits_strengthen(made, scale);
    }
    return MW_OK;
}

static mw_status make_variants(lab *l, const dictionary *d) {
    const steer_settings *s = l->s;
    const variant_settings *given = s->variants.items;
    MW_TRY(new_variant(l, mw_strdup("unchanged"), NULL, 0));
    if (turns_anything(&s->edits) || !s->variants.count)
        MW_TRY(add_variants(l, d, s->edits.concept[0] ? s->edits.concept : "steer", &s->edits));
    for (int64_t i = 0; i < s->variants.count; i++) MW_TRY(add_variants(l, d, given[i].name, &given[i].edits));
    return MW_OK;
}

static mw_status prepare(lab *l) {
    dictionary d;
    MW_TRY(dictionary_open(l->r, &d));
    mw_status status = make_variants(l, &d);
    dictionary_close(&d);
    if (status == MW_OK) status = prompts_encode(l->r, &l->s->prompts, l->s->samples, &l->prompts);
    if (status == MW_OK) status = prompts_check_and_tell(l->r, &l->prompts, l->s->sampling.max_new_tokens);
    for (int64_t v = 0; v < l->n && status == MW_OK; v++) {
        variant *one = &l->list[v];
        one->texts = mw_calloc((size_t)l->prompts.n, sizeof *one->texts);
        one->shares = mw_calloc((size_t)l->prompts.n, sizeof *one->shares);
        one->steering = (mw_steering){.sae = l->r->sae,
                                      .edits = one->edits.items,
                                      .n_edits = one->edits.count,
                                      .keep_error = l->s->keep_error || v == 0,
                                      .untouched = untouched_token(l->r)};
        if (!one->texts || !one->shares) status = MW_ERR_MEMORY;
    }
    return status;
}

static void release(lab *l) {
    for (int64_t v = 0; v < l->n; v++) {
        variant *one = &l->list[v];
        for (int64_t i = 0; i < l->prompts.n && one->texts; i++) mw_text_free(&one->texts[i]);
        mw_free(one->texts);
        mw_free(one->shares);
        mw_free(one->name);
        edits_free(&one->edits);
    }
    mw_free(l->list);
    mw_dataset_free(&l->own);
    work_free(&l->w);
    prompts_free(&l->prompts);
    json_decref(l->words);
}

/* ---- texts: each variant on one rank, then all at rank 0 --------------------------------------------------------- */

static mw_status attach(void *self, mw_hooks *hooks) {
    variant *one = self;
    return one->edits.count ? mw_steering_attach(&one->steering, hooks, NULL) : MW_OK;
}

static void detach(void *self, mw_hooks *hooks) {
    mw_steering_detach(&((variant *)self)->steering, hooks);
}

static mw_status write(lab *l, variant *one) {
    mw_sampling how = l->s->sampling;
    how.stop_id = mw_tokenizer_eos(l->r->tokenizer);
    mw_hooks *hooks = mw_model_hooks(l->r->model);
    MW_TRY(attach(one, hooks));
    mw_status status = prompts_continue(l->r, &l->prompts, &how, one->texts);
    detach(one, hooks);
    return status;
}

static bool is_mine(const lab *l, int64_t variant) {
    return variant % mw_comm_size(l->r->comm) == mw_comm_rank(l->r->comm);
}

static mw_status write_mine(lab *l) {
    for (int64_t v = 0; v < l->n; v++)
        if (is_mine(l, v)) MW_TRY(write(l, &l->list[v]));
    return MW_OK;
}

/* Texts of this rank's variants, each ended by a NUL. */
static mw_status join_mine(const lab *l, mw_text *out) {
    mw_text_add(out, "", 0);
    for (int64_t v = 0; v < l->n; v++)
        for (int64_t i = 0; i < l->prompts.n && is_mine(l, v); i++) {
            mw_text_add(out, l->list[v].texts[i].data, strlen(l->list[v].texts[i].data));
            mw_text_add(out, "", 1);
        }
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

static void split_all(lab *l, const char *all, const size_t *bytes) {
    int size = mw_comm_size(l->r->comm);
    for (int rank = 0; rank < size; all += bytes[rank++]) {
        const char *at = all;
        for (int64_t v = rank; v < l->n; v += size)
            for (int64_t i = 0; i < l->prompts.n; i++, at += strlen(at) + 1) {
                l->list[v].texts[i].length = 0;
                mw_text_add(&l->list[v].texts[i], at, strlen(at));
            }
    }
}

static mw_status gather_texts(lab *l) {
    const mw_comm *comm = l->r->comm;
    mw_text mine = {0};
    size_t *bytes = mw_alloc((size_t)mw_comm_size(comm) * sizeof *bytes), total = 0;
    mw_status status = mw_comm_agree(comm, bytes ? join_mine(l, &mine) : MW_ERR_MEMORY);
    if (status == MW_OK) status = mw_comm_allgather(comm, &mine.length, sizeof *bytes, bytes);
    for (int r = 0; r < mw_comm_size(comm) && status == MW_OK; r++) total += bytes[r];
    char *all = status == MW_OK ? mw_alloc(total + 1) : NULL;
    if (status == MW_OK) status = mw_comm_agree(comm, all ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = mw_comm_allgatherv(comm, mine.data, bytes, all);
    if (status == MW_OK) split_all(l, all, bytes);
    mw_text_free(&mine);
    mw_free(bytes);
    mw_free(all);
    return status;
}

/* ---- prediction on text that is not the model's own ---------------------------------------------------------------- */

/* The last sequences of the dataset until they have so many tokens. */
static int64_t first_of_last(const mw_dataset *d, int64_t tokens) {
    int64_t first = d->n_sequences;
    for (int64_t have = 0; first > 0 && have < tokens;) have += d->length[--first];
    return first;
}

static mw_status load_text(lab *l) {
    const mw_strings *paths = &l->s->measure_path;
    if (l->s->measure_tokens == 0) return MW_OK;
    if (!paths->count) return run_dataset(l->r);
    mw_dataset_options options = settings_dataset(l->r->e);
    options.paths = (const char *const *)paths->items;
    options.n_paths = paths->count;
    options.limit_tokens = l->s->measure_tokens;
    options.limit_documents = 0;
    return mw_dataset_load(&options, l->r->tokenizer, l->r->comm, &l->own);
}

static mw_status predict(lab *l) {
    if (l->s->measure_tokens == 0) return MW_OK;
    const mw_dataset *text = l->own ? l->own : l->r->dataset;
    int64_t first = l->own ? 0 : first_of_last(text, l->s->measure_tokens);
    prediction_plan plan =
        plan_predictions(l->r->model, text, first, text->n_sequences - first, l->r->e->dataset.batch);
    treatment *treatments = mw_calloc((size_t)l->n, sizeof *treatments);
    prediction *found = mw_calloc((size_t)l->n, sizeof *found);
    mw_status status = mw_comm_agree(l->r->comm, treatments && found ? MW_OK : MW_ERR_MEMORY);
    for (int64_t v = 0; v < l->n && status == MW_OK; v++)
        treatments[v] = (treatment){l->list[v].name, attach, detach, NULL, &l->list[v]};
    if (status == MW_OK) status = measure_predictions(&plan, l->r->comm, treatments, l->n, found, &l->tokens);
    for (int64_t v = 0; v < l->n && status == MW_OK; v++) l->list[v].predicted = found[v];
    mw_free(treatments);
    mw_free(found);
    return status;
}

/* ---- words ------------------------------------------------------------------------------------------------------------ */

static mw_status load_words(lab *l) {
    const char *path = l->r->e->discover.categories;
    json_t *root = NULL;
    if (!path || !path[0]) return MW_OK;
    MW_TRY(mw_json_load(path, &root));
    l->words = json_incref(json_object_get(root, "words"));
    json_decref(root);
    return MW_OK;
}

typedef struct effect {
    estimate before, after, change;
} effect;

static effect effect_of(const lab *l, const variant *one, word_share *before) {
    for (int64_t i = 0; i < l->prompts.n; i++) {
        before[i] = count_words(l->words, one->category, l->list[0].texts[i].data);
        one->shares[i] = count_words(l->words, one->category, one->texts[i].data);
    }
    return (effect){estimate_share(before, l->prompts.n), estimate_share(one->shares, l->prompts.n),
                    estimate_change(before, one->shares, l->prompts.n)};
}

/* ---- out ---------------------------------------------------------------------------------------------------------------- */

static void print_line(const char *label, const char *text) {
    mw_text line = {0};
    mw_text_add(&line, "", 0);
    mw_text_add_visible(&line, text, strlen(text));
    if (!line.failed) printf("  %-12s %s\n", label, line.data);
    mw_text_free(&line);
}

static void print_edits(const variant *one) {
    printf("steer: %s:", one->name);
    for (int64_t i = 0; i < one->edits.count; i++)
        printf(" latent %lld x %.3g + %.3g%s", (long long)one->edits.items[i].latent, one->edits.items[i].scale,
               one->edits.items[i].add, i + 1 < one->edits.count ? "," : "\n");
}

static void print_texts(const lab *l) {
    for (int64_t v = 1; v < l->n; v++) print_edits(&l->list[v]);
    for (int64_t p = 0; p < l->s->prompts.count && p < 5; p++) { /* all are in steer.json */
        print_line("prompt:", l->s->prompts.items[p]);
        for (int64_t v = 0; v < l->n; v++) print_line(l->list[v].name, l->list[v].texts[p * l->s->samples].data);
    }
}

/* "27.9 % (24.4 to 31.1)", "27.9 % (-)" of one text, "-" of no words. */
static void format_share(const estimate *e, char out[64]) {
    if (isnan(e->percent))
        snprintf(out, 64, "-");
    else if (isnan(e->low))
        snprintf(out, 64, "%.1f %% (-)", e->percent);
    else
        snprintf(out, 64, "%.1f %% (%.1f to %.1f)", e->percent, e->low, e->high);
}

static void format_change(const estimate *e, char out[64]) {
    if (isnan(e->percent))
        snprintf(out, 64, "-");
    else if (isnan(e->low))
        snprintf(out, 64, "%+.1f (-)", e->percent);
    else
        snprintf(out, 64, "%+.1f (%+.1f to %+.1f)", e->percent, e->low, e->high);
}

static void print_share(const char *category, const effect *e) {
    char share[64], change[64], named[128];
    format_share(&e->after, share);
    format_change(&e->change, change);
    snprintf(named, sizeof named, "%.40s %s", category, share);
    printf("  %-32s %-24s", named, change);
}

static void print_unchanged(const char *category, const estimate *before, int64_t texts) {
    char share[64];
    format_share(before, share);
    printf("  unchanged, the category %s has %s of the words\n", category, share);
    if (texts == 1) printf("  (-): one text has no interval; steer.samples makes more\n");
}

static void print_table(const lab *l, const effect *effects) {
    bool words = l->words != NULL;
    printf("  %-20s", "");
    if (words) printf("  %-32s %-24s", "words of the category (95 %)", "change");
    if (l->tokens) printf("%10s %10s", "CE", "KL");
    printf("\n");
    for (int64_t v = 0; v < l->n; v++) {
        const variant *one = &l->list[v];
        bool counted = words && one->category[0];
        printf("  %-20s", one->name);
        if (counted) print_share(one->category, &effects[v]);
        if (words && !counted) printf("  %-32s %-24s", "", "");
        if (l->tokens && v == 0) printf("%10.4f", one->predicted.ce);
        if (l->tokens && v > 0)
            printf("%+10.4f %10.4f", one->predicted.ce - l->list[0].predicted.ce, one->predicted.kl);
        printf("\n");
    }
    if (words && l->n > 1 && l->list[1].category[0])
        print_unchanged(l->list[1].category, &effects[1].before, l->prompts.n);
    if (l->tokens) printf("  CE and KL on %lld tokens of text\n", (long long)l->tokens);
}

static json_t *estimate_json(estimate e) {
    return json_pack("{s:o, s:o, s:o}", "percent", mw_json_real(e.percent), "low", mw_json_real(e.low), "high",
                     mw_json_real(e.high));
}

static json_t *effect_json(const variant *one, const effect *e) {
    json_t *made = estimate_json(e->after);
    json_object_set_new(made, "name", json_string(one->category));
    json_object_set_new(made, "unchanged", estimate_json(e->before));
    json_object_set_new(made, "change", estimate_json(e->change));
    return made;
}

static json_t *variant_json(const lab *l, const variant *one, const effect *e) {
    json_t *turned = json_array(), *texts = json_array();
    for (int64_t i = 0; i < one->edits.count; i++)
        json_array_append_new(turned, json_pack("{s:I, s:o, s:o}", "latent", (json_int_t)one->edits.items[i].latent,
                                                "scale", mw_json_real(one->edits.items[i].scale), "add",
                                                mw_json_real(one->edits.items[i].add)));
    for (int64_t p = 0; p < l->s->prompts.count; p++) {
        json_t *samples = json_array();
        for (int64_t i = 0; i < l->s->samples; i++)
            json_array_append_new(samples, mw_json_string(one->texts[p * l->s->samples + i].data,
                                                          strlen(one->texts[p * l->s->samples + i].data)));
        json_array_append_new(texts, samples);
    }
    json_t *made = json_pack("{s:s, s:o, s:o}", "name", one->name, "scale", mw_json_real(one->scale), "edits", turned);
    if (l->words && one->category[0]) json_object_set_new(made, "category", effect_json(one, e));
    if (l->tokens)
        json_object_set_new(made, "predictions",
                            json_pack("{s:o, s:o, s:o}", "cross_entropy", mw_json_real(one->predicted.ce), "change",
                                      mw_json_real(one->predicted.ce - l->list[0].predicted.ce), "kl",
                                      mw_json_real(one->predicted.kl)));
    json_object_set_new(made, "texts", texts);
    return made;
}

static mw_status save(const lab *l, const effect *effects) {
    json_t *root = json_object(), *prompts = json_array(), *list = json_array();
    for (int64_t p = 0; p < l->s->prompts.count; p++)
        json_array_append_new(prompts, json_string(l->s->prompts.items[p]));
    for (int64_t v = 0; v < l->n; v++) json_array_append_new(list, variant_json(l, &l->list[v], &effects[v]));
    json_object_set_new(root, "prompts", prompts);
    json_object_set_new(root, "predicted_on_tokens", json_integer(l->tokens));
    json_object_set_new(root, "variants", list);
    json_object_set_new(root, "stage", json_string(l->w.fingerprint));
    mw_status status = mw_lock_check(&l->w.lock);
    if (status == MW_OK) status = mw_json_save(l->w.output, root, 1);
    json_decref(root);
    return status;
}

static mw_status tell(lab *l) {
    effect *effects = mw_calloc((size_t)l->n, sizeof *effects);
    word_share *before = mw_calloc((size_t)l->prompts.n, sizeof *before);
    mw_status status = effects && before ? load_words(l) : MW_ERR_MEMORY;
    for (int64_t v = 1; v < l->n && status == MW_OK && l->words; v++)
        if (l->list[v].category[0]) effects[v] = effect_of(l, &l->list[v], before);
    if (status == MW_OK) {
        print_texts(l);
        print_table(l, effects);
        fflush(stdout);
        status = save(l, effects);
    }
    mw_free(effects);
    mw_free(before);
    return status;
}

/* ---- the stage ---------------------------------------------------------------------------------------------------------- */

/* The latents that names and categories stand for today, and what is done to them. */
static mw_status edits_text(const lab *l, mw_text *out) {
    mw_text_add(out, "", 0);
    for (int64_t v = 0; v < l->n; v++)
        for (int64_t i = 0; i < l->list[v].edits.count; i++) {
            const mw_latent_edit *e = &l->list[v].edits.items[i];
            mw_text_addf(out, "%lld %lld %.9g %.9g\n", (long long)v, (long long)e->latent, e->scale, e->add);
        }
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

static mw_status describe(lab *l) {
    static const char *const sections[] = {"model", "steer", "dataset"};
    run *r = l->r;
    char sae[MW_MODEL_MARK], model[MW_MODEL_MARK], texts[MW_MODEL_MARK] = "", words[MW_SHA256_TEXT],
                                                   edits[MW_SHA256_TEXT];
    bool experiments_own = l->s->measure_tokens && !l->own;
    mw_text turned = {0};
    run_sae_mark(r, sae);
    mw_status status = run_model_mark(r, model);
    if (status == MW_OK) status = run_file_mark(r->e->discover.categories, words);
    if (status == MW_OK) status = edits_text(l, &turned);
    if (status == MW_OK) status = mw_sha256(turned.data, turned.length, edits);
    if (status == MW_OK && l->s->measure_tokens) dataset_mark(l->own ? l->own : r->dataset, texts);
    if (status == MW_OK) {
        const mw_pair upstream[] = {
            {"model", model}, {"SAE", sae}, {"turned latents", edits}, {"categories", words}, {"texts", texts}};
        status = work_new(r, &l->w, "steer", mw_path_join(r->folder, "steer.json"), sections, experiments_own ? 3 : 2,
                          upstream, 5, work_record_of_json);
    }
    mw_text_free(&turned);
    return mw_comm_agree(r->comm, status);
}

static mw_status steer(lab *l) {
    MW_TRY(work_begin(l->r, &l->w));
    if (l->w.complete) return MW_OK;
    MW_TRY(mw_comm_agree(l->r->comm, write_mine(l)));
    MW_TRY(gather_texts(l));
    MW_TRY(predict(l));
    MW_TRY(mw_comm_agree(l->r->comm, run_is_root(l->r) ? tell(l) : MW_OK));
    return work_done(l->r, &l->w);
}

static mw_status look_and_steer(lab *l) {
    MW_TRY(mw_comm_agree(l->r->comm, prepare(l)));
    MW_TRY(load_text(l));
    MW_TRY(describe(l));
    MW_TRY(work_look_or_redo(l->r, &l->w));
    if (!l->w.complete) MW_TRY(steer(l));
    if (l->w.complete && run_is_root(l->r)) printf("steer: complete, %s\n", l->w.output);
    return MW_OK;
}

mw_status stage_steer(run *r) {
    lab l = {.r = r, .s = &r->e->steer};
    MW_TRY(run_sae(r));
    MW_TRY(run_model(r));
    MW_TRY(run_tokenizer(r));
    mw_status status = look_and_steer(&l);
    release(&l);
    return status;
}
