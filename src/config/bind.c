/* Nodes of a document bound to the members of a struct, by a table of fields. */
#include "config/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *mw_nearest_name(const char *word, const char *const *names, int count) {
    const char *best = NULL;
    int best_distance = 1 << 20;
    for (int i = 0; i < count; i++) {
        int distance = mw_edit_distance(word, names[i]);
        int allowed = (int)(strlen(names[i]) + 2) / 3;
        if (distance <= allowed && distance < best_distance) {
            best = names[i];
            best_distance = distance;
        }
    }
    return best;
}

/* ---- messages --------------------------------------------------------------------------------------------- */

enum { SPOT_TEXT = 512 };

/* "FILE:LINE"; "--set" for keys that came with it. */
static const char *spot_of(const char *file, int line, char out[SPOT_TEXT]) {
    if (line > 0)
        snprintf(out, SPOT_TEXT, "%s:%d", file, line);
    else
        snprintf(out, SPOT_TEXT, "--set");
    return out;
}

static mw_status unknown_key(const char *file, const mw_node *node, const char *where, const mw_field *fields) {
    enum { NAMES_MAX = 128 };
    const char *names[NAMES_MAX];
    int count = 0;
    mw_field_walk walk = {.next = fields};
    for (const mw_field *f; count < NAMES_MAX && (f = mw_fields_next(&walk));) names[count++] = f->name;
    const char *near = mw_nearest_name(node->key, names, count);
    char spot[SPOT_TEXT];
    return mw_error(MW_ERR_CONFIG, "%s: unknown key '%s' in '%s'%s%s%s", spot_of(file, node->line, spot), node->key,
                    where, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* The key that is bound, for messages. */
typedef struct binding {
    const char *file, *where;
    const mw_field *field;
} binding;

/* SECTION.KEY; KEY at the top level, which is the one `where` of several words. */
static const char *key_of(const binding *b, char out[SPOT_TEXT]) {
    bool top = strchr(b->where, ' ') != NULL;
    snprintf(out, SPOT_TEXT, "%s%s%s", top ? "" : b->where, top ? "" : ".", b->field->name);
    return out;
}

/* Reports a value; `found` describes it as it stands in a sentence. */
static mw_status expected_not(const binding *b, const mw_node *node, const char *found) {
    const mw_field *f = b->field;
    char range[96] = "", kind[FIELD_KIND_TEXT], spot[SPOT_TEXT], key[SPOT_TEXT];
    if (f->min != 0 || f->max != 0) snprintf(range, sizeof range, " from %.10g to %.10g", f->min, f->max);
    return mw_error(MW_ERR_CONFIG, "%s: %s: expected %s%s%s%s, found %s", spot_of(b->file, node->line, spot),
                    key_of(b, key), f->choices ? "one of " : "", field_kind(f, kind), range,
                    field_has_auto(f) ? " or auto" : "", found);
}

static mw_status expected(const binding *b, const mw_node *node) {
    char *quoted = node->kind == MW_NODE_SCALAR ? mw_format("'%s'", node->value) : NULL;
    mw_status status = expected_not(b, node, quoted ? quoted : node->kind == MW_NODE_LIST ? "a list" : "a map");
    mw_free(quoted);
    return status;
}

/* Reports an item of a map with its key. */
static mw_status expected_item(const binding *b, const mw_node *item) {
    if (item->kind != MW_NODE_SCALAR) return expected(b, item);
    char *pair = mw_format("'%s: %s'", item->key, item->value);
    mw_status status = expected_not(b, item, pair ? pair : "another item");
    mw_free(pair);
    return status;
}

/* Checks a text, or one text of a list. */
static mw_status check_filled(const binding *b, const mw_node *node) {
    char spot[SPOT_TEXT], key[SPOT_TEXT];
    if (!b->field->filled || node->value[0]) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%s: %s: expected a text, found an empty one", spot_of(b->file, node->line, spot),
                    key_of(b, key));
}

/* ---- scalars ---------------------------------------------------------------------------------------------- */

static bool in_range(const mw_field *f, double value) {
    return (f->min == 0 && f->max == 0) || (value >= f->min && value <= f->max);
}

static bool is_auto(const mw_field *f, const char *value) {
    return field_has_auto(f) && strcmp(value, "auto") == 0;
}

static mw_status bind_string(const binding *b, const mw_node *node, void *slot) {
    MW_TRY(check_filled(b, node));
    char *copy = mw_strdup(node->value);
    if (!copy) return MW_ERR_MEMORY;
    mw_free(field_string(slot));
    memcpy(slot, &copy, sizeof copy);
    return MW_OK;
}

/* Looks a word up; false: it is none of the choices. */
static bool choose(const mw_choice *choices, const char *word, int *out) {
    while (choices->text && strcmp(choices->text, word) != 0) choices++;
    if (choices->text) *out = choices->value;
    return choices->text != NULL;
}

static bool parse_bool(const mw_field *f, const char *value, bool *out) {
    static const mw_choice words[] = {{"true", 1}, {"false", 0}, {0}};
    int chosen;
    if (!choose(f->choices ? f->choices : words, value, &chosen)) return false;
    *out = chosen != 0;
    return true;
}

static bool parse_int(const mw_field *f, const char *value, int64_t *out) {
    if (!is_auto(f, value)) return mw_parse_int(value, out) && in_range(f, (double)*out);
    *out = MW_AUTO_INT;
    return true;
}

static bool parse_real(const mw_field *f, const char *value, double *out) {
    if (!is_auto(f, value)) return mw_parse_double(value, out) && in_range(f, *out);
    *out = NAN;
    return true;
}

static mw_status bind_scalar(const binding *b, const mw_node *node, void *slot) {
    const mw_field *f = b->field;
    if (node->kind != MW_NODE_SCALAR) return expected(b, node);
    bool good = false;
    switch (f->type) {
    case MW_FIELD_STRING:
        return bind_string(b, node, slot);
    case MW_FIELD_INT:
        good = parse_int(f, node->value, slot);
        break;
    case MW_FIELD_REAL:
        good = parse_real(f, node->value, slot);
        break;
    case MW_FIELD_BOOL:
        good = parse_bool(f, node->value, slot);
        break;
    case MW_FIELD_CHOICE:
        good = choose(f->choices, node->value, slot);
        break;
    default:
        break;
    }
    return good ? MW_OK : expected(b, node);
}

/* ---- lists and maps --------------------------------------------------------------------------------------- */

static int64_t child_count(const mw_node *node) {
    int64_t count = 0;
    for (const mw_node *child = node->child; child; child = child->next) count++;
    return count;
}

static mw_status bind_strings(const binding *b, const mw_node *item, int64_t count, mw_strings *list) {
    if (!(list->items = mw_calloc((size_t)count, sizeof *list->items))) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++, item = item->next) {
        if (item->kind != MW_NODE_SCALAR) return expected(b, item);
        MW_TRY(check_filled(b, item));
        if (!(list->items[i] = mw_strdup(item->value))) return MW_ERR_MEMORY;
        list->count = i + 1;
    }
    return MW_OK;
}

static mw_status bind_reals(const binding *b, const mw_node *item, int64_t count, mw_reals *list) {
    if (!(list->items = mw_calloc((size_t)count, sizeof *list->items))) return MW_ERR_MEMORY;
    list->count = count;
    for (int64_t i = 0; i < count; i++, item = item->next)
        if (item->kind != MW_NODE_SCALAR || !mw_parse_double(item->value, &list->items[i]) ||
            !in_range(b->field, list->items[i]))
            return expected(b, item);
    return MW_OK;
}

static mw_status bind_ints(const binding *b, const mw_node *item, int64_t count, mw_ints *list) {
    if (!(list->items = mw_calloc((size_t)count, sizeof *list->items))) return MW_ERR_MEMORY;
    list->count = count;
    for (int64_t i = 0; i < count; i++, item = item->next)
        if (item->kind != MW_NODE_SCALAR || !mw_parse_int(item->value, &list->items[i]) ||
            !in_range(b->field, (double)list->items[i]))
            return expected(b, item);
    return MW_OK;
}

/* A lone scalar stands for a list of one. */
static mw_status bind_list(const binding *b, const mw_node *node, void *slot) {
    bool lone = node->kind == MW_NODE_SCALAR;
    if (!lone && node->kind != MW_NODE_LIST) return expected(b, node);
    int64_t count = lone ? (node->value[0] || node->quoted) : child_count(node);
    const mw_node *item = lone ? node : node->child;
    if (b->field->type == MW_FIELD_STRINGS) return bind_strings(b, item, count, slot);
    if (b->field->type == MW_FIELD_REALS) return bind_reals(b, item, count, slot);
    return bind_ints(b, item, count, slot);
}

static mw_status bind_latent_values(const binding *b, const mw_node *node, mw_latent_values *list) {
    if (node->kind != MW_NODE_MAP) return expected(b, node);
    int64_t count = child_count(node);
    if (!(list->items = mw_calloc((size_t)count, sizeof *list->items))) return MW_ERR_MEMORY;
    list->count = count;
    mw_latent_value *one = list->items;
    for (const mw_node *item = node->child; item; item = item->next, one++) {
        bool good = item->kind == MW_NODE_SCALAR && mw_parse_int(item->key, &one->index) && one->index >= 0 &&
                    mw_parse_double(item->value, &one->value);
        if (!good) return expected_item(b, item);
    }
    return MW_OK;
}

static mw_status bind_table(const binding *b, const mw_node *node, mw_items *list) {
    const mw_field *f = b->field;
    if (node->kind != MW_NODE_LIST) return expected(b, node);
    int64_t count = child_count(node);
    if (!(list->items = mw_calloc((size_t)count, f->sub_size))) return MW_ERR_MEMORY;
    list->count = count;
    char *slot = list->items;
    for (const mw_node *item = node->child; item; item = item->next, slot += f->sub_size) {
        char key[SPOT_TEXT];
        if (item->kind != MW_NODE_MAP) return expected(b, item);
        MW_TRY(mw_fields_bind(b->file, item, key_of(b, key), f->sub, slot));
    }
    return MW_OK;
}

/* ---- tables ----------------------------------------------------------------------------------------------- */

static mw_status bind_field(const binding *b, const mw_node *node, void *slot) {
    switch (b->field->type) {
    case MW_FIELD_STRINGS:
    case MW_FIELD_INTS:
    case MW_FIELD_REALS:
        return bind_list(b, node, slot);
    case MW_FIELD_LATENT_VALUES:
        return bind_latent_values(b, node, slot);
    case MW_FIELD_TABLE:
        return bind_table(b, node, slot);
    default:
        return bind_scalar(b, node, slot);
    }
}

static mw_status bind_default(const binding *b, void *slot) {
    const mw_field *f = b->field;
    if (f->type == MW_FIELD_LATENT_VALUES || f->type == MW_FIELD_TABLE) return MW_OK; /* empty */
    if (f->type == MW_FIELD_STRINGS || f->type == MW_FIELD_INTS || f->type == MW_FIELD_REALS) {
        mw_node empty = {.kind = MW_NODE_LIST};
        if (!f->initial[0]) return bind_list(b, &empty, slot);
    }
    mw_node node = {.kind = MW_NODE_SCALAR, .value = (char *)(uintptr_t)f->initial};
    return bind_field(b, &node, slot);
}

mw_status mw_fields_bind_known(const char *file, const mw_node *map, const char *where, const mw_field *fields,
                               void *target) {
    char spot[SPOT_TEXT], kind[FIELD_KIND_TEXT];
    mw_field_walk walk = {.next = fields};
    for (const mw_field *f; (f = mw_fields_next(&walk));) {
        const mw_node *node = mw_node_find(map, f->name);
        const binding b = {file, where, f};
        void *slot = (char *)target + walk.offset;
        if (!map && !f->initial) continue;
        if (!node && !f->initial)
            return mw_error(MW_ERR_CONFIG, "%s: '%s.%s' is missing: %s", spot_of(file, map ? map->line : 1, spot),
                            where, f->name, f->doc ? f->doc : field_kind(f, kind));
        MW_TRY(node ? bind_field(&b, node, slot) : bind_default(&b, slot));
    }
    return MW_OK;
}

mw_status mw_fields_bind(const char *file, const mw_node *map, const char *where, const mw_field *fields,
                         void *target) {
    char spot[SPOT_TEXT];
    if (map && map->kind != MW_NODE_MAP)
        return mw_error(MW_ERR_CONFIG, "%s: '%s' must be a map of keys", spot_of(file, map->line, spot), where);
    for (const mw_node *node = map ? map->child : NULL; node; node = node->next)
        if (!mw_fields_have(fields, node->key)) return unknown_key(file, node, where, fields);
    return mw_fields_bind_known(file, map, where, fields, target);
}
