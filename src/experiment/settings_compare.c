/* Differences between two texts of settings. */
#include "experiment/settings_tables.h"

#include <string.h>

typedef struct comparison {
    mw_document stored, requested, defaults;
    mw_text *out;
    int64_t count;
} comparison;

enum { DIFFERENCES_SHOWN = 4 };

static mw_status default_document(mw_document *out) {
    mw_text text = {0};
    mw_status status = mw_experiment_describe(NULL, false, &text);
    if (status == MW_OK) status = mw_document_parse("defaults", text.data, text.length, out);
    mw_text_free(&text);
    return status;
}

/* Appends a key's value as a document has it, or its default. */
static mw_status value_of(const comparison *c, const mw_document *in, const settings_section *s, const mw_field *f,
                          mw_text *out) {
    const mw_node *node = mw_node_find(mw_node_find(in->root, s->name), f->name);
    if (!node) node = mw_node_find(mw_node_find(c->defaults.root, s->name), f->name);
    mw_text_add(out, "", 0);
    if (node) mw_node_text(node, out);
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

static void add_difference(comparison *c, const settings_section *s, const mw_field *f, const char *stored,
                           const char *requested) {
    enum { SHOWN = 48 };
    if (++c->count > DIFFERENCES_SHOWN) return;
    mw_text_addf(c->out, "%s%s.%s: %.*s%s stored, %.*s%s requested", c->count > 1 ? "; " : "", s->name, f->name, SHOWN,
                 stored[0] ? stored : "nothing", strlen(stored) > SHOWN ? "..." : "", SHOWN,
                 requested[0] ? requested : "nothing", strlen(requested) > SHOWN ? "..." : "");
}

static mw_status compare_field(comparison *c, const settings_section *s, const mw_field *f) {
    mw_text stored = {0}, requested = {0};
    mw_status status = value_of(c, &c->stored, s, f, &stored);
    if (status == MW_OK) status = value_of(c, &c->requested, s, f, &requested);
    if (status == MW_OK && strcmp(stored.data, requested.data) != 0)
        add_difference(c, s, f, stored.data, requested.data);
    mw_text_free(&stored);
    mw_text_free(&requested);
    return status;
}

static mw_status compare_sections(comparison *c, bool paths) {
    for (int i = 0; i < SETTINGS_SECTIONS; i++) {
        const settings_section *s = &settings_sections[i];
        if (!mw_node_find(c->stored.root, s->name) && !mw_node_find(c->requested.root, s->name)) continue;
        mw_field_walk walk = {.next = s->fields};
        for (const mw_field *f; (f = mw_fields_next(&walk));)
            if (!f->aside && (paths || !f->path)) MW_TRY(compare_field(c, s, f));
    }
    if (c->count > DIFFERENCES_SHOWN)
        mw_text_addf(c->out, "; and %lld more", (long long)(c->count - DIFFERENCES_SHOWN));
    return c->out->failed ? MW_ERR_MEMORY : MW_OK;
}

mw_status settings_differences(const char *stored, const char *requested, bool paths, mw_text *out) {
    comparison c = {.out = out};
    mw_text_add(out, "", 0);
    mw_status status = mw_document_parse("the stored settings", stored, strlen(stored), &c.stored);
    if (status == MW_OK)
        status = mw_document_parse("the requested settings", requested, strlen(requested), &c.requested);
    if (status == MW_OK) status = default_document(&c.defaults);
    if (status == MW_OK) status = compare_sections(&c, paths);
    mw_document_free(&c.stored);
    mw_document_free(&c.requested);
    mw_document_free(&c.defaults);
    return status;
}
