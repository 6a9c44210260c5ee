/* Generation before and after latents are turned. */
#include "experiment/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct edits {
    mw_latent_edit *items;
    int64_t count, capacity;
} edits;

static mw_status put_edit(edits *list, int64_t latent, bool adds, double value) {
    for (int64_t i = 0; i < list->count; i++)
        if (list->items[i].latent == latent) {
            *(adds ? &list->items[i].add : &list->items[i].scale) = value;
            return MW_OK;
        }
    if (!MW_GROW(list->items, list->count, list->capacity)) return MW_ERR_MEMORY;
    list->items[list->count++] = (mw_latent_edit){latent, adds ? 1 : value, adds ? value : 0};
    return MW_OK;
}

/* ---- a concept's latents -------------------------------------------------------------------------------- */

/* weight: how often the latent is active on the concept's words, times the purity of its top texts: pure latents that
 * carry much of the concept come first, rare ones last. A latent named like the concept beats any. */
typedef struct match {
    int64_t latent;
    double weight, max;
    bool named;
} match;

static int best_match(const void *a, const void *b) {
    const match *x = a, *y = b;
    if (x->named != y->named) return x->named ? -1 : 1;
    if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
    return x->latent < y->latent ? -1 : 1;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static bool same_text(const json_t *object, const char *key, const char *text) {
    const char *value = mw_json_text(object, key);
    return value && strcmp(value, text) == 0;
}

static mw_status matches_of(const json_t *latents, const char *concept, match **out, int64_t *count) {
    size_t n = json_array_size(latents);
    match *list = mw_calloc(n, sizeof *list);
    if (!list) return MW_ERR_MEMORY;
    *count = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *l = json_array_get(latents, i);
        bool named = same_text(l, "name", concept);
        if (!named && !same_text(l, "category", concept)) continue;
        list[(*count)++] =
            (match){json_integer_value(json_object_get(l, "latent")),
                    number(l, "purity") * number(l, "precision") * number(l, "frequency"), number(l, "max"), named};
    }
    qsort(list, (size_t)*count, sizeof *list, best_match);
    *out = list;
    return MW_OK;
}

/* Reads the latents that stage discover found for it. */
static mw_status add_concept(const run *r, edits *list) {
    const steer_settings *s = &r->e->steer;
    if (!s->concept[0]) return MW_OK;
    char *path = mw_path_join(r->sae_folder, "concepts.json");
    json_t *root = NULL;
    match *matches = NULL;
    int64_t count = 0;
    mw_status status = path ? mw_json_load(path, &root) : MW_ERR_MEMORY;
    if (status == MW_OK) status = matches_of(json_object_get(root, "latents"), s->concept, &matches, &count);
    if (status == MW_OK && count == 0)
        status =
            mw_error(MW_ERR_CONFIG, "steer.concept '%s': no latent in %s has this name or category", s->concept, path);
    for (int64_t i = 0; status == MW_OK && i < count && i < s->concept_latents; i++)
        status = put_edit(list, matches[i].latent, true, s->strength * matches[i].max);
    json_decref(root);
    mw_free(matches);
    mw_free(path);
    return status;
}

static mw_status collect_edits(const run *r, edits *list) {
    const steer_settings *s = &r->e->steer;
    MW_TRY(add_concept(r, list));
    for (int64_t i = 0; i < s->edits.count; i++)
        MW_TRY(put_edit(list, s->edits.items[i].index, false, s->edits.items[i].value));
    for (int64_t i = 0; i < s->add.count; i++)
        MW_TRY(put_edit(list, s->add.items[i].index, true, s->add.items[i].value));
    for (int64_t i = 0; i < list->count; i++)
        if (list->items[i].latent >= r->sae->n)
            return mw_error(MW_ERR_CONFIG, "steer: latent %lld: the SAE has %lld latents",
                            (long long)list->items[i].latent, (long long)r->sae->n);
    return list->count ? MW_OK : mw_error(MW_ERR_CONFIG, "steer: no edits, no add and no concept: nothing to turn");
}

/* ---- generation ----------------------------------------------------------------------------------------- */

typedef struct lab {
    run *r;
    mw_ids ids;
    int64_t *length, n;      /* prompts times samples */
    mw_text *before, *after; /* [n] texts without and with the edits */
} lab;

static mw_status encode_prompts(lab *l) {
    const steer_settings *s = &l->r->e->steer;
    l->n = s->prompts.count * s->samples;
    l->length = mw_calloc((size_t)l->n, sizeof *l->length);
    l->before = mw_calloc((size_t)l->n, sizeof *l->before);
    l->after = mw_calloc((size_t)l->n, sizeof *l->after);
    if (!l->length || !l->before || !l->after) return MW_ERR_MEMORY;
    int32_t bos = l->r->e->dataset.bos == MW_BOS_NONE ? -1 : mw_tokenizer_bos(l->r->tokenizer);
    for (int64_t i = 0; i < l->n; i++) {
        const char *prompt = s->prompts.items[i / s->samples];
        int64_t before = l->ids.count;
        if (bos >= 0) MW_TRY(mw_ids_add(&l->ids, bos));
        MW_TRY(mw_tokenizer_encode(l->r->tokenizer, prompt, strlen(prompt), &l->ids));
        l->length[i] = l->ids.count - before;
    }
    return MW_OK;
}

static mw_status generate(lab *l, mw_text *texts) {
    const steer_settings *s = &l->r->e->steer;
    mw_sampling how = {.max_new_tokens = s->max_new_tokens,
                       .temperature = s->temperature,
                       .top_k = s->top_k,
                       .top_p = s->top_p,
                       .seed = s->seed,
                       .stop_id = mw_tokenizer_eos(l->r->tokenizer)};
    mw_batch batch = {.n_seq = l->n, .ids = l->ids.data, .length = l->length};
    int32_t **out = mw_calloc((size_t)l->n, sizeof *out);
    int64_t *made = mw_calloc((size_t)l->n, sizeof *made);
    mw_status status = out && made ? mw_generate(l->r->model, &batch, &how, out, made) : MW_ERR_MEMORY;
    for (int64_t i = 0; out && i < l->n; i++) {
        if (status == MW_OK) {
            mw_text_add(&texts[i], "", 0);
            status = mw_tokenizer_decode(l->r->tokenizer, out[i], made[i], &texts[i]);
        }
        mw_free(out[i]);
    }
    mw_free(out);
    mw_free(made);
    return status;
}

static mw_status generate_both(lab *l, const edits *list) {
    run *r = l->r;
    mw_steering steering = {.sae = r->sae,
                            .edits = list->items,
                            .n_edits = list->count,
                            .keep_error = r->e->steer.keep_error,
                            .untouched = r->e->harvest.skip == MW_SKIP_NONE ? -1 : mw_tokenizer_bos(r->tokenizer)};
    MW_TRY(generate(l, l->before));
    MW_TRY(mw_steering_attach(&steering, mw_model_hooks(r->model), NULL));
    mw_status status = generate(l, l->after);
    mw_steering_detach(&steering, mw_model_hooks(r->model));
    return status;
}

/* ---- what came out -------------------------------------------------------------------------------------- */

typedef struct share {
    int64_t hits, words;
} share;

static void count_words(const json_t *words, const char *category, const mw_text *text, share *out) {
    for (const char *p = text->data; *p;) {
        size_t n = strcspn(p, " \n\t");
        char word[64];
        if (n > 0 && n < sizeof word) {
            memcpy(word, p, n);
            word[n] = '\0';
            out->hits += same_text(words, word, category);
        }
        out->words += n > 0;
        p += n + (p[n] != '\0');
    }
}

/* Share of the words in the concept's category, where categories are known. */
static mw_status measure(const lab *l, share *before, share *after) {
    const char *path = l->r->e->discover.categories;
    if (!path || !path[0] || !l->r->e->steer.concept[0]) return MW_OK;
    json_t *root;
    MW_TRY(mw_json_load(path, &root));
    const json_t *words = json_object_get(root, "words");
    for (int64_t i = 0; i < l->n; i++) {
        count_words(words, l->r->e->steer.concept, &l->before[i], before);
        count_words(words, l->r->e->steer.concept, &l->after[i], after);
    }
    json_decref(root);
    return MW_OK;
}

static double percent(share s) {
    return s.words ? 100.0 * (double)s.hits / (double)s.words : 0;
}

static void print_line(const char *label, const char *text, size_t length) {
    mw_text line = {0};
    mw_text_add(&line, "", 0);
    mw_text_add_visible(&line, text, length);
    if (!line.failed) printf("  %s %s\n", label, line.data);
    mw_text_free(&line);
}

static void print_texts(const lab *l, const edits *list, share before, share after) {
    const steer_settings *s = &l->r->e->steer;
    printf("steer:");
    for (int64_t i = 0; i < list->count; i++)
        printf(" latent %lld x %.3g + %.3g%s", (long long)list->items[i].latent, list->items[i].scale,
               list->items[i].add, i + 1 < list->count ? "," : "\n");
    for (int64_t i = 0; i < l->n; i++) {
        if (i % s->samples != 0 || i / s->samples >= 5) continue; /* all are in steer.json */
        const char *prompt = s->prompts.items[i / s->samples];
        print_line("prompt:", prompt, strlen(prompt));
        print_line("before:", l->before[i].data, l->before[i].length);
        print_line("after: ", l->after[i].data, l->after[i].length);
    }
    if (before.words || after.words)
        printf("  words of category %s: %.1f %% before (%lld words), %.1f %% after (%lld words)\n", s->concept,
               percent(before), (long long)before.words, percent(after), (long long)after.words);
    fflush(stdout);
}

static void add_text(json_t *object, const char *key, const mw_text *text) {
    json_t *value = json_stringn(text->data, text->length);
    json_object_set_new(object, key, value ? value : json_string(""));
}

static mw_status save_texts(const lab *l, const edits *list, share before, share after) {
    json_t *root = json_object(), *turned = json_array(), *texts = json_array();
    for (int64_t i = 0; i < list->count; i++)
        json_array_append_new(turned, json_pack("{s:I, s:f, s:f}", "latent", (json_int_t)list->items[i].latent, "scale",
                                                list->items[i].scale, "add", list->items[i].add));
    for (int64_t i = 0; i < l->n; i++) {
        json_t *one = json_object();
        json_object_set_new(one, "prompt", json_string(l->r->e->steer.prompts.items[i / l->r->e->steer.samples]));
        add_text(one, "before", &l->before[i]);
        add_text(one, "after", &l->after[i]);
        json_array_append_new(texts, one);
    }
    json_object_set_new(root, "edits", turned);
    if (before.words || after.words)
        json_object_set_new(root, "category",
                            json_pack("{s:s, s:f, s:f}", "name", l->r->e->steer.concept, "percent_before",
                                      percent(before), "percent_after", percent(after)));
    json_object_set_new(root, "texts", texts);
    char *path = mw_path_join(l->r->folder, "steer.json");
    mw_status status = path ? mw_json_save(path, root, 1) : MW_ERR_MEMORY;
    json_decref(root);
    mw_free(path);
    return status;
}

static mw_status steer(run *r) {
    lab l = {.r = r};
    edits list = {0};
    share before = {0}, after = {0};
    mw_status status = collect_edits(r, &list);
    if (status == MW_OK) status = encode_prompts(&l);
    if (status == MW_OK) status = generate_both(&l, &list);
    if (status == MW_OK) status = measure(&l, &before, &after);
    if (status == MW_OK) print_texts(&l, &list, before, after);
    if (status == MW_OK) status = save_texts(&l, &list, before, after);
    for (int64_t i = 0; i < l.n; i++) {
        if (l.before) mw_text_free(&l.before[i]);
        if (l.after) mw_text_free(&l.after[i]);
    }
    mw_ids_free(&l.ids);
    mw_free(l.length);
    mw_free(l.before);
    mw_free(l.after);
    mw_free(list.items);
    return status;
}

/* A few prompts are one rank's work; the others wait. */
mw_status stage_steer(run *r) {
    MW_TRY(run_sae(r));
    MW_TRY(run_model(r));
    MW_TRY(run_tokenizer(r));
    return mw_comm_agree(r->comm, run_is_root(r) ? steer(r) : MW_OK);
}
