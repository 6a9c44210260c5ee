/* The experiment file: read into structs, and written again. */
#include "experiment/settings_tables.h"

#include <stdio.h>
#include <string.h>

/* ---- loading ------------------------------------------------------------------------------------------- */

static mw_status check_keys(const mw_document *document) {
    const char *names[SETTINGS_SECTIONS + 9] = {SWEEP_SECTION};
    int count = 1;
    for (int i = 0; i < SETTINGS_SECTIONS; i++) names[count++] = settings_sections[i].name;
    mw_field_walk walk = {.next = top_fields};
    for (const mw_field *f; (f = mw_fields_next(&walk));) names[count++] = f->name;
    for (const mw_node *n = document->root->child; n; n = n->next) {
        if (mw_fields_have(top_fields, n->key) || settings_find_section(n->key) || strcmp(n->key, SWEEP_SECTION) == 0)
            continue;
        const char *near = mw_nearest_name(n->key, names, count);
        char line[16];
        snprintf(line, sizeof line, ":%d", n->line);
        return mw_error(MW_ERR_CONFIG, "%s%s: unknown section '%s'%s%s%s", n->line > 0 ? document->file : "--set",
                        n->line > 0 ? line : "", n->key, near ? "; did you mean '" : "", near ? near : "",
                        near ? "'?" : "");
    }
    return MW_OK;
}

static void *target_of(const mw_experiment *e, const settings_section *s) {
    return (char *)(uintptr_t)e + s->offset;
}

/* Binds the sections of `e` from a document, which may be another one than its own. */
static mw_status bind_all(const mw_document *from, mw_experiment *e) {
    MW_TRY(check_keys(from));
    MW_TRY(mw_fields_bind_known(from->file, from->root, "the top level", top_fields, &e->top));
    for (int i = 0; i < SETTINGS_SECTIONS; i++)
        if (settings_sections[i].needed && !mw_node_find(from->root, settings_sections[i].name))
            return mw_error(MW_ERR_CONFIG, "%s:1: section '%s' is missing", from->file, settings_sections[i].name);
    for (int i = 0; i < SETTINGS_SECTIONS; i++) {
        const settings_section *s = &settings_sections[i];
        const mw_node *node = mw_node_find(from->root, s->name);
        MW_TRY(mw_fields_bind(from->file, node, s->name, s->fields, target_of(e, s)));
    }
    return MW_OK;
}

/* ---- paths ------------------------------------------------------------------------------------------------- */

/* The default store is located beside the file too. */
static mw_status add_default_store(mw_document *document) {
    mw_node name = {.kind = MW_NODE_SCALAR, .value = (char[]){"store"}, .quoted = true, .line = 1};
    return mw_node_find(document->root, "store") ? MW_OK : mw_document_put(document, "store", &name);
}

static mw_status resolve_all(mw_document *document, const char *folder, const char *here) {
    MW_TRY(add_default_store(document));
    MW_TRY(mw_node_resolve(document->root, top_fields, folder, here));
    for (mw_node *n = document->root->child; n; n = n->next) {
        const settings_section *s = settings_find_section(n->key);
        if (s) MW_TRY(mw_node_resolve(n, s->fields, folder, here));
    }
    return MW_OK;
}

/* Binds with paths relative to the working directory, or with absolute ones. */
static mw_status bind_resolved(const mw_document *from, bool absolute, mw_experiment *e) {
    mw_document copy = {0};
    char *folder = mw_path_directory(from->file), *here = absolute ? mw_path_absolute(".") : NULL;
    char *full = folder && absolute ? mw_path_absolute(folder) : NULL;
    mw_status status = folder && (!absolute || (here && full)) ? mw_document_copy(from, &copy) : MW_ERR_MEMORY;
    if (status == MW_OK) status = resolve_all(&copy, absolute ? full : folder, here);
    if (status == MW_OK) status = bind_all(&copy, e);
    mw_document_free(&copy);
    mw_free(folder);
    mw_free(here);
    mw_free(full);
    return status;
}

mw_status settings_bind(mw_document *document, mw_experiment **out) {
    mw_experiment *e = mw_calloc(1, sizeof *e);
    if (e)
        e->document = *document;
    else
        mw_document_free(document);
    *document = (mw_document){0};
    mw_status status = e && (e->given = mw_calloc(1, sizeof *e->given)) ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) status = bind_all(&e->document, e->given);
    if (status == MW_OK) status = bind_resolved(&e->document, false, e);
    if (status == MW_OK) status = settings_check(e);
    if (status != MW_OK)
        mw_experiment_free(&e);
    else
        *out = e;
    return status;
}

mw_status mw_experiment_load(const char *path, const char *const *sets, int64_t n_sets, mw_experiment **out) {
    mw_document document = {0};
    mw_status status = mw_document_load(path, &document);
    for (int64_t i = 0; i < n_sets && status == MW_OK; i++) status = mw_document_set(&document, sets[i]);
    if (status == MW_OK) return settings_bind(&document, out);
    mw_document_free(&document);
    return status;
}

void mw_experiment_free(mw_experiment **slot) {
    mw_experiment *e = *slot;
    if (!e) return;
    mw_fields_release(top_fields, &e->top);
    for (int i = 0; i < SETTINGS_SECTIONS; i++)
        mw_fields_release(settings_sections[i].fields, target_of(e, &settings_sections[i]));
    mw_experiment_free(&e->given);
    mw_document_free(&e->document);
    mw_free(e);
    *slot = NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static void write_section(const mw_experiment *e, const settings_section *s, bool document, mw_text *out) {
    if (document) mw_text_addf(out, "\n# %s\n", s->doc);
    mw_text_addf(out, "%s:\n", s->name);
    mw_fields_write(out, s->fields, target_of(e, s), 2, document);
}

mw_status settings_write(const mw_experiment *e, const char *const *names, int count, bool document, mw_text *out) {
    for (int i = 0; i < count; i++) {
        const settings_section *s = settings_find_section(names[i]);
        if (s && settings_has(e, names[i])) write_section(e->given ? e->given : e, s, document, out);
    }
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

/* A file of defaults. Keys that must be given have an example. */
static const char example[] =
    "model: {path: gpt2}\ndataset: {path: 'data/*.jsonl'}\nhooks: {}\nharvest: {sites: [8.resid_post]}\n"
    "sae: {}\ntrain: {}\ndiscover: {}\nnaming: {command: 'python3 tools/name_latents.py'}\nevaluate: {}\n"
    "steer: {prompts: ['Once upon a time']}\nreport: {}\n";

static mw_status example_experiment(mw_experiment **out) {
    mw_experiment *e = mw_calloc(1, sizeof *e);
    if (!e) return MW_ERR_MEMORY;
    mw_status status = mw_document_parse("defaults", example, strlen(example), &e->document);
    if (status == MW_OK) status = bind_all(&e->document, e);
    if (status != MW_OK)
        mw_experiment_free(&e);
    else
        *out = e;
    return status;
}

/* Writes the sections that `listed` has. */
static void write_all(const mw_experiment *e, const mw_document *listed, bool document, mw_text *out) {
    mw_fields_write(out, top_fields, &e->top, 0, document);
    for (int i = 0; i < SETTINGS_SECTIONS; i++)
        if (mw_node_find(listed->root, settings_sections[i].name))
            write_section(e, &settings_sections[i], document, out);
}

mw_status settings_write_given(const mw_experiment *e, mw_text *out) {
    write_all(e->given, &e->document, false, out);
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

mw_status settings_same(const mw_experiment *e, const mw_comm *comm) {
    mw_text text = {0};
    const mw_node *sweep = mw_node_find(e->document.root, SWEEP_SECTION);
    if (mw_comm_size(comm) == 1) return MW_OK;
    mw_status status = settings_write_given(e, &text);
    if (sweep) mw_text_addf(&text, "%s: ", SWEEP_SECTION);
    if (sweep) mw_node_text(sweep, &text);
    status = mw_comm_agree(comm, status == MW_OK && text.failed ? MW_ERR_MEMORY : status);
    if (status == MW_OK) status = mw_comm_require_same(comm, "the settings", text.data);
    mw_text_free(&text);
    return status;
}

mw_status mw_experiment_describe(const mw_experiment *experiment, bool document, mw_text *out) {
    mw_experiment *made = NULL;
    mw_status status = MW_OK;
    if (!experiment)
        status = example_experiment(&made);
    else if (!(made = mw_calloc(1, sizeof *made)))
        status = MW_ERR_MEMORY;
    else
        status = bind_resolved(&experiment->document, true, made);
    if (status == MW_OK) write_all(made, experiment ? &experiment->document : &made->document, document, out);
    mw_experiment_free(&made);
    return status == MW_OK && out->failed ? MW_ERR_MEMORY : status;
}
