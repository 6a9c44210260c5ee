#include "experiment/run.h"

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

/* ---- names from the data -------------------------------------------------------------------------------- */

static void token_text(const mw_store_tokens *t, uint32_t id, const char **text, size_t *length) {
    *text = t->vocabulary_bytes + t->vocabulary_offset[id];
    *length = (size_t)(t->vocabulary_offset[id + 1] - t->vocabulary_offset[id]);
    while (*length && **text == ' ') ++*text, --*length;
}

/* The (up to three) tokens that the top texts peak on most often: a name until somebody gives a better one. */
static mw_status name_by_tokens(const findings *f, int64_t latent, mw_text *out) {
    const mw_top *top = f->discovery.top + latent * f->discovery.top_k;
    int64_t k = f->discovery.top_k;
    uint32_t used[3];
    int n_used = 0;
    out->length = 0;
    while (n_used < 3) {
        int64_t best = 0;
        uint32_t best_id = 0;
        for (int64_t i = 0; i < k && top[i].row >= 0; i++) {
            uint32_t id = f->tokens.ids[top[i].row];
            int64_t same = 0;
            for (int64_t j = 0; j < k && top[j].row >= 0; j++) same += f->tokens.ids[top[j].row] == id;
            for (int u = 0; u < n_used; u++)
                if (used[u] == id) same = 0;
            if (same > best) best = same, best_id = id;
        }
        if (best == 0) break;
        const char *text;
        size_t length;
        token_text(&f->tokens, best_id, &text, &length);
        mw_text_addf(out, "%s", n_used ? " / " : "");
        mw_utf8_repair(out, text, length);
        used[n_used++] = best_id;
    }
    mw_text_add(out, "", 0);
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

static mw_status give_names(findings *f, const char *given) {
    mw_text text = {0};
    MW_TRY(mw_names_new(f->discovery.n, &f->names));
    mw_status status = given[0] ? mw_names_load(given, &f->names) : MW_OK;
    for (int64_t i = 0; i < f->discovery.n && status == MW_OK; i++) {
        if (f->names.name[i] || !f->discovery.count[i]) continue;
        status = name_by_tokens(f, i, &text);
        if (status == MW_OK) status = mw_names_set(&f->names, i, text.data);
    }
    mw_text_free(&text);
    return status;
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

static void print_latent(const findings *f, const ranked *l, int64_t around) {
    const mw_discovery *d = &f->discovery;
    const mw_top *top = d->top + l->latent * d->top_k;
    mw_text before = {0}, token = {0}, after = {0}, line = {0};
    printf("latent %lld \"%s\": active on %.2f %% of tokens", (long long)l->latent,
           f->names.name[l->latent] ? f->names.name[l->latent] : "", 100.0 * (double)l->count / (double)d->rows);
    if (l->category >= 0) printf(", category %s, purity %.2f", f->categories.names[l->category], l->purity);
    printf("\n");
    for (int64_t i = 0; i < 3 && i < d->top_k && top[i].row >= 0; i++) {
        if (mw_context_text(&f->tokens, top[i].row, around < 6 ? around : 6, &before, &token, &after) != MW_OK) break;
        line.length = 0;
        mw_text_add_visible(&line, before.data, before.length);
        mw_text_add(&line, "[", 1);
        mw_text_add_visible(&line, token.data, token.length);
        mw_text_add(&line, "]", 1);
        mw_text_add_visible(&line, after.data, after.length);
        if (!line.failed) printf("  %7.2f  %s\n", (double)top[i].score, line.data);
    }
    mw_text_free(&before);
    mw_text_free(&token);
    mw_text_free(&after);
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
        bool full = d->top[i * d->top_k + d->top_k - 1].row >= 0; /* few texts make purity easy */
        if (f->categories.count) l->category = mw_best_category(d, &f->tokens, &f->categories, i, &l->purity);
        purity_sum += l->purity;
        if (!full) l->purity = 0;
    }
    qsort(list, (size_t)n, sizeof *list, by_purity);
    choose_varied(list, n, s->show);
    printf("discover: %lld of %lld latents are active on %lld tokens", (long long)n, (long long)d->n,
           (long long)d->rows);
    if (f->categories.count && n) printf("; mean purity of their top texts %.3f", purity_sum / (double)n);
    printf("; %s\n", path);
    for (int64_t i = 0; i < n && i < s->show; i++) print_latent(f, &list[i], s->context_tokens);
    fflush(stdout);
    mw_free(list);
    return MW_OK;
}

/* ---- the stage ------------------------------------------------------------------------------------------ */

static mw_status save(run *r, const findings *f) {
    const discover_settings *s = &r->e->discover;
    char *concepts = mw_path_join(r->sae_folder, "concepts.json"), *names = mw_path_join(r->sae_folder, "names.csv");
    mw_status status = concepts && names ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK)
        status = mw_concepts_save(concepts, &f->discovery, &f->tokens, f->categories.count ? &f->categories : NULL,
                                  &f->names, s->context_tokens);
    if (status == MW_OK) status = mw_names_save(names, &f->names);
    if (status == MW_OK) status = print_findings(f, s, concepts);
    mw_free(concepts);
    mw_free(names);
    return status;
}

mw_status stage_discover(run *r) {
    const discover_settings *s = &r->e->discover;
    views v;
    findings f = {0};
    MW_TRY(run_sae(r));
    MW_TRY(run_views(r, &v));
    mw_status status = mw_store_read_tokens(r->store, &f.tokens);
    if (status == MW_OK && s->categories[0]) status = mw_categories_load(s->categories, &f.tokens, &f.categories);
    status = mw_comm_agree(r->comm, status);
    if (status == MW_OK)
        status =
            mw_discover(r->sae, &v.in, r->comm, s->top_texts, f.categories.of_token, f.categories.count, &f.discovery);
    if (status == MW_OK) {
        if (run_is_root(r)) status = give_names(&f, s->names);
        if (run_is_root(r) && status == MW_OK) status = save(r, &f);
        status = mw_comm_agree(r->comm, status);
    }
    free_findings(&f);
    return status;
}
