/* Lists of latent edits, made from the experiment file. */
#include "experiment/run/latent_edits.h"

#include <stdlib.h>
#include <string.h>

/* ---- lists --------------------------------------------------------------------------------------------------- */

/* The place of a latent's edit; -1: it has none. */
static int64_t find_edit(const edit_list *list, int64_t latent) {
    for (int64_t i = 0; i < list->count; i++)
        if (list->items[i].latent == latent) return i;
    return -1;
}

static mw_latent_edit *edit_of(edit_list *list, int64_t latent) {
    int64_t at = find_edit(list, latent);
    if (at >= 0) return &list->items[at];
    if (!MW_GROW(list->items, list->count, list->capacity)) return NULL;
    list->items[list->count] = (mw_latent_edit){.latent = latent, .scale = 1};
    return &list->items[list->count++];
}

mw_status edit_list_put(edit_list *list, int64_t latent, double scale, double add) {
    mw_latent_edit *edit = edit_of(list, latent);
    if (!edit) return MW_ERR_MEMORY;
    *edit = (mw_latent_edit){latent, scale, add};
    return MW_OK;
}

mw_status edit_list_put_scale(edit_list *list, int64_t latent, double scale) {
    mw_latent_edit *edit = edit_of(list, latent);
    if (!edit) return MW_ERR_MEMORY;
    edit->scale = scale;
    return MW_OK;
}

mw_status edit_list_put_add(edit_list *list, int64_t latent, double add) {
    mw_latent_edit *edit = edit_of(list, latent);
    if (!edit) return MW_ERR_MEMORY;
    edit->add = add;
    return MW_OK;
}

bool edit_list_drop(edit_list *list, int64_t latent) {
    int64_t at = find_edit(list, latent);
    if (at < 0) return false;
    memmove(list->items + at, list->items + at + 1, (size_t)(list->count - at - 1) * sizeof *list->items);
    list->count--;
    return true;
}

void edit_list_strengthen(edit_list *list, double strength) {
    for (int64_t i = 0; i < list->count; i++) {
        list->items[i].scale = 1 + strength * (list->items[i].scale - 1);
        list->items[i].add *= strength;
    }
}

mw_status edit_list_scatter(const edit_list *from, int64_t n, uint64_t seed, edit_list *out) {
    int64_t at = 0;
    for (int64_t i = 0; i < from->count; i++) {
        uint64_t latent;
        do {
            if (at == n) return MW_ERR_ARG;
            latent = mw_permute(seed, 0, (uint64_t)n, (uint64_t)at++);
        } while (find_edit(from, (int64_t)latent) >= 0);
        MW_TRY(edit_list_put(out, (int64_t)latent, from->items[i].scale, from->items[i].add));
    }
    return MW_OK;
}

void edit_list_free(edit_list *list) {
    mw_free(list->items);
    *list = (edit_list){0};
}

/* ---- concepts ---------------------------------------------------------------------------------------------------- */

mw_status latent_index_open(const experiment_run *r, latent_index *out) {
    latent_index d = {0};
    char *path = mw_path_join(r->sae_folder, "discovery.h5");
    mw_status status = path ? run_names_load(r, r->sae->n, &d.names) : MW_ERR_MEMORY;
    d.discovered = path && mw_file_exists(path);
    if (status == MW_OK && d.discovered) status = run_discovery(r, &d.discovery);
    mw_free(path);
    if (status != MW_OK)
        latent_index_close(&d);
    else
        *out = d;
    return status;
}

void latent_index_close(latent_index *d) {
    mw_names_free(&d->names);
    mw_discovery_free(&d->discovery);
    *d = (latent_index){0};
}

typedef struct match {
    int64_t latent;
    double weight;
    bool named;
} match;

static int best_match(const void *a, const void *b) {
    const match *x = a, *y = b;
    if (x->named != y->named) return x->named ? -1 : 1;
    if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
    return x->latent < y->latent ? -1 : 1;
}

static int64_t collect_matches(const latent_index *d, const char *concept, match *list) {
    int64_t count = 0;
    const mw_discovery *f = &d->discovery;
    for (int64_t i = 0; i < d->names.n; i++) {
        const char *name = d->names.of[i].name;
        const char *category = d->discovered ? mw_discovery_category(f, i) : NULL;
        bool named = name && strcmp(name, concept) == 0, meant = category && strcmp(category, concept) == 0;
        if (!named && !meant) continue;
        double weight = meant ? (double)f->f1[i] : 0;
        list[count++] = (match){i, weight, named};
    }
    qsort(list, (size_t)count, sizeof *list, best_match);
    return count;
}

mw_status latent_index_find(const latent_index *d, const char *concept, int64_t **latents, int64_t *count) {
    match *list = mw_calloc((size_t)d->names.n, sizeof *list);
    if (!list) return MW_ERR_MEMORY;
    int64_t n = collect_matches(d, concept, list), *found = mw_alloc((size_t)n * sizeof *found);
    for (int64_t i = 0; i < n && found; i++) found[i] = list[i].latent;
    mw_free(list);
    if (!found) return MW_ERR_MEMORY;
    if (n == 0) {
        mw_free(found);
        return mw_error(MW_ERR_CONFIG, "concept '%s': no latent has this name or category%s", concept,
                        d->discovered ? "" : "; `microw discover` computes names and categories");
    }
    *latents = found;
    *count = n;
    return MW_OK;
}

/* Adds `strength` times their largest activation to the latents of the concept. */
static mw_status add_concept(const latent_index *d, const edit_settings *s, edit_list *out) {
    int64_t *latents, count;
    if (!s->concept[0]) return MW_OK;
    if (!d->discovered)
        return mw_error(MW_ERR_STATE, "steer.concept needs the results of `microw discover`, which has not been run");
    MW_TRY(latent_index_find(d, s->concept, &latents, &count));
    mw_status status = MW_OK;
    for (int64_t i = 0; i < count && i < s->concept_latents && status == MW_OK; i++) {
        double largest =
            d->discovery.count[latents[i]] ? (double)d->discovery.text_score[latents[i] * d->discovery.per] : 0;
        status = edit_list_put_add(out, latents[i], s->strength * largest);
    }
    mw_free(latents);
    return status;
}

static mw_status add_given(const edit_settings *s, edit_list *out) {
    for (int64_t i = 0; i < s->scale.count; i++)
        MW_TRY(edit_list_put_scale(out, s->scale.items[i].index, s->scale.items[i].value));
    for (int64_t i = 0; i < s->add.count; i++)
        MW_TRY(edit_list_put_add(out, s->add.items[i].index, s->add.items[i].value));
    for (int64_t i = 0; i < s->clamp.count; i++)
        MW_TRY(edit_list_put(out, s->clamp.items[i].index, 0, s->clamp.items[i].value));
    for (int64_t i = 0; i < s->ablate.count; i++) MW_TRY(edit_list_put(out, s->ablate.items[i], 0, 0));
    return MW_OK;
}

mw_status edit_list_collect(const experiment_run *r, const latent_index *d, const edit_settings *s, const char *where,
                            edit_list *out) {
    MW_TRY(add_concept(d, s, out));
    MW_TRY(add_given(s, out));
    for (int64_t i = 0; i < out->count; i++)
        if (out->items[i].latent < 0 || out->items[i].latent >= r->sae->n)
            return mw_error(MW_ERR_CONFIG, "%s: latent %lld: the SAE has %lld latents", where,
                            (long long)out->items[i].latent, (long long)r->sae->n);
    if (out->count) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%s: nothing to edit: expected edits, add, clamp, ablate or concept", where);
}
