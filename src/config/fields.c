/* Tables of fields: going through their rows, freeing what they have bound, resolving paths. */
#include "config/fields.h"

#include <stdio.h>
#include <string.h>

const mw_field *mw_fields_next(mw_field_walk *walk) {
    for (;;) {
        const mw_field *f = walk->inner;
        if (f && f->name && !(walk->until && strcmp(f->name, walk->until) == 0)) {
            walk->inner++;
            walk->offset = walk->base + f->offset;
            return f;
        }
        walk->inner = NULL;
        f = walk->next;
        if (!f->name) return NULL;
        walk->next++;
        walk->offset = f->offset;
        if (f->type != MW_FIELD_ROWS) return f;
        walk->base = f->offset;
        walk->until = f->until;
        walk->inner = f->sub;
        while (walk->inner->name && strcmp(walk->inner->name, f->name) != 0) walk->inner++;
    }
}

bool mw_fields_have(const mw_field *fields, const char *name) {
    mw_field_walk walk = {.next = fields};
    for (const mw_field *f; (f = mw_fields_next(&walk));)
        if (strcmp(f->name, name) == 0) return true;
    return false;
}

const char *field_kind(const mw_field *f, char out[FIELD_KIND_TEXT]) {
    static const char *const names[] = {
        [MW_FIELD_STRING] = "text",
        [MW_FIELD_INT] = "whole number",
        [MW_FIELD_REAL] = "number",
        [MW_FIELD_BOOL] = "true or false",
        [MW_FIELD_CHOICE] = "choice",
        [MW_FIELD_STRINGS] = "list of texts",
        [MW_FIELD_INTS] = "list of whole numbers",
        [MW_FIELD_REALS] = "list of numbers",
        [MW_FIELD_LATENT_VALUES] = "map of latent: number",
        [MW_FIELD_TABLE] = "list of maps",
    };
    size_t length = 0;
    if (!f->choices) snprintf(out, FIELD_KIND_TEXT, "%s", names[f->type]);
    for (const mw_choice *c = f->choices; c && c->text && length < FIELD_KIND_TEXT; c++)
        length += (size_t)snprintf(out + length, FIELD_KIND_TEXT - length, "%s%s", c == f->choices ? "" : "|", c->text);
    return out;
}

bool field_has_auto(const mw_field *f) {
    return (f->type == MW_FIELD_INT || f->type == MW_FIELD_REAL) && f->initial && strcmp(f->initial, "auto") == 0;
}

/* By memcpy: a table may describe a const char * as well as a char *. */
char *field_string(const void *slot) {
    char *text;
    memcpy(&text, slot, sizeof text);
    return text;
}

/* ---- release ---------------------------------------------------------------------------------------------- */

static void release_field(const mw_field *f, void *slot) {
    if (f->type == MW_FIELD_STRING) {
        mw_free(field_string(slot));
        memset(slot, 0, sizeof(char *));
    } else if (f->type == MW_FIELD_STRINGS) {
        mw_strings *list = slot;
        for (int64_t i = 0; i < list->count; i++) mw_free(list->items[i]);
        mw_free(list->items);
        *list = (mw_strings){0};
    } else if (f->type == MW_FIELD_TABLE) {
        mw_items *list = slot;
        for (int64_t i = 0; i < list->count; i++)
            mw_fields_release(f->sub, (char *)list->items + (size_t)i * f->sub_size);
        mw_free(list->items);
        *list = (mw_items){0};
    } else if (f->type == MW_FIELD_INTS || f->type == MW_FIELD_REALS || f->type == MW_FIELD_LATENT_VALUES) {
        mw_items *list = slot; /* all list types have the same shape: items, count */
        mw_free(list->items);
        *list = (mw_items){0};
    }
}

void mw_fields_release(const mw_field *fields, void *target) {
    mw_field_walk walk = {.next = fields};
    for (const mw_field *f; (f = mw_fields_next(&walk));) release_field(f, (char *)target + walk.offset);
}

/* ---- paths ------------------------------------------------------------------------------------------------ */

static mw_status resolve_text(mw_node *node, mw_path_kind kind, const char *folder, const char *here) {
    const char *base = node->line > 0 ? folder : here;
    if (!base || node->kind != MW_NODE_SCALAR || node->value[0] == '\0' || node->value[0] == '/') return MW_OK;
    if (kind == MW_PATH_NAME && !strchr(node->value, '/')) return MW_OK;
    char *path = mw_path_from(base, node->value);
    if (!path) return MW_ERR_MEMORY;
    bool keep = kind == MW_PATH_HUB && !mw_is_directory(path) && !mw_file_exists(path);
    mw_free(keep ? path : node->value);
    if (!keep) node->value = path;
    return MW_OK;
}

static mw_status resolve_node(mw_node *node, const mw_field *f, const char *folder, const char *here) {
    if (node->kind == MW_NODE_SCALAR && f->path) return resolve_text(node, f->path, folder, here);
    for (mw_node *child = node->kind == MW_NODE_LIST ? node->child : NULL; child; child = child->next) {
        if (f->type == MW_FIELD_TABLE) MW_TRY(mw_node_resolve(child, f->sub, folder, here));
        if (f->path) MW_TRY(resolve_text(child, f->path, folder, here));
    }
    return MW_OK;
}

mw_status mw_node_resolve(mw_node *map, const mw_field *fields, const char *folder, const char *here) {
    if (!map || map->kind != MW_NODE_MAP) return MW_OK;
    mw_field_walk walk = {.next = fields};
    for (const mw_field *f; (f = mw_fields_next(&walk));)
        for (mw_node *child = map->child; child && (f->path || f->type == MW_FIELD_TABLE); child = child->next)
            if (strcmp(child->key, f->name) == 0) MW_TRY(resolve_node(child, f, folder, here));
    return MW_OK;
}
