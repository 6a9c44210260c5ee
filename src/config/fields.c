/* Tables of fields: binding, release and printing all read the same rows. */
#include "microw/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const type_names[] = {
    "text",          "whole number",          "number",          "true or false",         "choice",
    "list of texts", "list of whole numbers", "list of numbers", "map of latent: number", "list of maps"};

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

enum { PLACE_TEXT = 512 };

/* FILE:LINE; keys that came with --set have no line. */
static const char *place_of(const char *file, int line, char out[PLACE_TEXT]) {
    if (line > 0)
        snprintf(out, PLACE_TEXT, "%s:%d", file, line);
    else
        snprintf(out, PLACE_TEXT, "--set");
    return out;
}

static mw_status unknown_key(const char *file, const mw_node *node, const char *where, const mw_field *fields) {
    const char *names[128];
    int count = 0;
    for (const mw_field *f = fields; f->name && count < 128; f++) names[count++] = f->name;
    const char *near = mw_nearest_name(node->key, names, count);
    char spot[PLACE_TEXT];
    return mw_error(MW_ERR_CONFIG, "%s: unknown key '%s' in '%s'%s%s%s", place_of(file, node->line, spot), node->key,
                    where, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* Numbers whose default is worked out from the rest. */
static bool has_auto(const mw_field *f) {
    return (f->type == MW_FIELD_INT || f->type == MW_FIELD_REAL) && f->initial && strcmp(f->initial, "auto") == 0;
}

typedef struct place {
    const char *file, *where;
    const mw_field *field;
} place;

/* SECTION.KEY; keys of the top level stand alone. */
static const char *key_of(const place *at, char out[PLACE_TEXT]) {
    bool top = strchr(at->where, ' ') != NULL;
    snprintf(out, PLACE_TEXT, "%s%s%s", top ? "" : at->where, top ? "" : ".", at->field->name);
    return out;
}

static mw_status expected(const place *at, const mw_node *node) {
    const mw_field *f = at->field;
    char range[96] = "", spot[PLACE_TEXT], key[PLACE_TEXT];
    if (f->min != 0 || f->max != 0) snprintf(range, sizeof range, " from %.10g to %.10g", f->min, f->max);
    return mw_error(MW_ERR_CONFIG, "%s: %s: expected %s%s%s, found '%s'", place_of(at->file, node->line, spot),
                    key_of(at, key), f->type == MW_FIELD_CHOICE ? "one of " : type_names[f->type],
                    f->type == MW_FIELD_CHOICE ? f->choices : range, has_auto(f) ? " or auto" : "",
                    node->kind == MW_NODE_SCALAR ? node->value
                    : node->kind == MW_NODE_LIST ? "a list"
                                                 : "a map");
}

static bool in_range(const mw_field *f, double value) {
    return (f->min == 0 && f->max == 0) || (value >= f->min && value <= f->max);
}

static bool is_auto(const mw_field *f, const mw_node *node) {
    return has_auto(f) && strcmp(node->value, "auto") == 0;
}

static int choice_index(const char *choices, const char *word) {
    size_t length = strlen(word);
    int index = 0;
    for (const char *p = choices;; index++) {
        const char *bar = strchr(p, '|');
        size_t n = bar ? (size_t)(bar - p) : strlen(p);
        if (n == length && memcmp(p, word, n) == 0) return index;
        if (!bar) return -1;
        p = bar + 1;
    }
}

/* Of a text, or of one in a list. */
static mw_status check_filled(const place *at, const mw_node *node) {
    char spot[PLACE_TEXT], key[PLACE_TEXT];
    if (!at->field->filled || node->value[0]) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%s: %s: expected a text, found an empty one", place_of(at->file, node->line, spot),
                    key_of(at, key));
}

static mw_status bind_scalar(const place *at, const mw_node *node, void *slot) {
    const mw_field *f = at->field;
    if (node->kind != MW_NODE_SCALAR) return expected(at, node);
    const char *value = node->value;
    switch (f->type) {
    case MW_FIELD_STRING: {
        MW_TRY(check_filled(at, node));
        char *copy = mw_strdup(value);
        if (!copy) return MW_ERR_MEMORY;
        mw_free(*(char **)slot);
        *(char **)slot = copy;
        return MW_OK;
    }
    case MW_FIELD_INT:
        if (is_auto(f, node)) {
            *(int64_t *)slot = MW_AUTO_INT;
            return MW_OK;
        }
        return mw_parse_int(value, slot) && in_range(f, (double)*(int64_t *)slot) ? MW_OK : expected(at, node);
    case MW_FIELD_REAL:
        if (is_auto(f, node)) {
            *(double *)slot = NAN;
            return MW_OK;
        }
        return mw_parse_double(value, slot) && in_range(f, *(double *)slot) ? MW_OK : expected(at, node);
    case MW_FIELD_BOOL:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0) return expected(at, node);
        *(bool *)slot = value[0] == 't';
        return MW_OK;
    case MW_FIELD_CHOICE:
        *(int *)slot = choice_index(f->choices, value);
        return *(int *)slot >= 0 ? MW_OK : expected(at, node);
    default:
        return expected(at, node);
    }
}

static int64_t child_count(const mw_node *node) {
    int64_t count = 0;
    for (const mw_node *child = node->child; child; child = child->next) count++;
    return count;
}

/* A lone scalar stands for a list of one. */
static mw_status bind_list(const place *at, const mw_node *node, void *slot) {
    bool lone = node->kind == MW_NODE_SCALAR;
    if (!lone && node->kind != MW_NODE_LIST) return expected(at, node);
    int64_t count = lone ? (node->value[0] || node->quoted) : child_count(node);
    const mw_node *item = lone ? node : node->child;
    if (at->field->type == MW_FIELD_STRINGS) {
        mw_strings *list = slot;
        if (!(list->items = mw_calloc((size_t)count, sizeof *list->items))) return MW_ERR_MEMORY;
        for (int64_t i = 0; i < count; i++, item = item->next) {
            if (item->kind != MW_NODE_SCALAR) return expected(at, item);
            MW_TRY(check_filled(at, item));
            if (!(list->items[i] = mw_strdup(item->value))) return MW_ERR_MEMORY;
            list->count = i + 1;
        }
        return MW_OK;
    }
    if (at->field->type == MW_FIELD_REALS) {
        mw_reals *list = slot;
        if (!(list->items = mw_calloc((size_t)count, sizeof *list->items))) return MW_ERR_MEMORY;
        list->count = count;
        for (int64_t i = 0; i < count; i++, item = item->next)
            if (item->kind != MW_NODE_SCALAR || !mw_parse_double(item->value, &list->items[i]) ||
                !in_range(at->field, list->items[i]))
                return expected(at, item);
        return MW_OK;
    }
    mw_ints *list = slot;
    if (!(list->items = mw_calloc((size_t)count, sizeof *list->items))) return MW_ERR_MEMORY;
    list->count = count;
    for (int64_t i = 0; i < count; i++, item = item->next)
        if (item->kind != MW_NODE_SCALAR || !mw_parse_int(item->value, &list->items[i]) ||
            !in_range(at->field, (double)list->items[i]))
            return expected(at, item);
    return MW_OK;
}

static mw_status bind_edits(const place *at, const mw_node *node, mw_latent_values *list) {
    if (node->kind != MW_NODE_MAP) return expected(at, node);
    int64_t count = child_count(node);
    if (!(list->items = mw_calloc((size_t)count, sizeof *list->items))) return MW_ERR_MEMORY;
    list->count = count;
    mw_latent_value *edit = list->items;
    for (const mw_node *item = node->child; item; item = item->next, edit++) {
        bool good = item->kind == MW_NODE_SCALAR && mw_parse_int(item->key, &edit->index) && edit->index >= 0 &&
                    mw_parse_double(item->value, &edit->value);
        if (!good) return expected(at, item);
    }
    return MW_OK;
}

static mw_status bind_table(const place *at, const mw_node *node, mw_items *list) {
    const mw_field *f = at->field;
    if (node->kind != MW_NODE_LIST) return expected(at, node);
    int64_t count = child_count(node);
    if (!(list->items = mw_calloc((size_t)count, f->sub_size))) return MW_ERR_MEMORY;
    list->count = count;
    char *slot = list->items;
    for (const mw_node *item = node->child; item; item = item->next, slot += f->sub_size) {
        if (item->kind != MW_NODE_MAP) return expected(at, item);
        MW_TRY(mw_fields_bind(at->file, item, f->name, f->sub, slot));
    }
    return MW_OK;
}

static mw_status bind_one(const place *at, const mw_node *node, void *slot) {
    switch (at->field->type) {
    case MW_FIELD_STRINGS:
    case MW_FIELD_INTS:
    case MW_FIELD_REALS:
        return bind_list(at, node, slot);
    case MW_FIELD_LATENT_VALUES:
        return bind_edits(at, node, slot);
    case MW_FIELD_TABLE:
        return bind_table(at, node, slot);
    default:
        return bind_scalar(at, node, slot);
    }
}

static mw_status bind_default(const place *at, void *slot) {
    const mw_field *f = at->field;
    if (f->type == MW_FIELD_LATENT_VALUES || f->type == MW_FIELD_TABLE) return MW_OK; /* empty */
    if (f->type == MW_FIELD_STRINGS || f->type == MW_FIELD_INTS || f->type == MW_FIELD_REALS) {
        mw_node empty = {.kind = MW_NODE_LIST};
        if (!f->initial[0]) return bind_list(at, &empty, slot);
    }
    mw_node node = {.kind = MW_NODE_SCALAR, .value = (char *)(uintptr_t)f->initial};
    return bind_one(at, &node, slot);
}

bool mw_fields_have(const mw_field *fields, const char *name) {
    while (fields->name && strcmp(fields->name, name) != 0) fields++;
    return fields->name != NULL;
}

mw_status mw_fields_bind_known(const char *file, const mw_node *map, const char *where, const mw_field *fields,
                               void *target) {
    char spot[PLACE_TEXT];
    for (const mw_field *f = fields; f->name; f++) {
        const mw_node *node = mw_node_find(map, f->name);
        place at = {file, where, f};
        void *slot = (char *)target + f->offset;
        if (!node && !f->initial)
            return mw_error(MW_ERR_CONFIG, "%s: '%s.%s' is missing: %s",
                            place_of(file, map && map->line ? map->line : 1, spot), where, f->name,
                            f->doc ? f->doc : type_names[f->type]);
        MW_TRY(node ? bind_one(&at, node, slot) : bind_default(&at, slot));
    }
    return MW_OK;
}

mw_status mw_fields_bind(const char *file, const mw_node *map, const char *where, const mw_field *fields,
                         void *target) {
    char spot[PLACE_TEXT];
    if (map && map->kind != MW_NODE_MAP)
        return mw_error(MW_ERR_CONFIG, "%s: '%s' must be a map of keys", place_of(file, map->line, spot), where);
    for (const mw_node *node = map ? map->child : NULL; node; node = node->next)
        if (!mw_fields_have(fields, node->key)) return unknown_key(file, node, where, fields);
    return mw_fields_bind_known(file, map, where, fields, target);
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
    for (const mw_field *f = fields; f->name; f++)
        for (mw_node *child = map->child; child && (f->path || f->type == MW_FIELD_TABLE); child = child->next)
            if (strcmp(child->key, f->name) == 0) MW_TRY(resolve_node(child, f, folder, here));
    return MW_OK;
}

void mw_fields_release(const mw_field *fields, void *target) {
    for (const mw_field *f = fields; f->name; f++) {
        void *slot = (char *)target + f->offset;
        if (f->type == MW_FIELD_STRING) {
            mw_free(*(char **)slot);
            *(char **)slot = NULL;
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
}

/* What YAML takes for a line's end, or does not take as it is: C1 controls, U+2028, U+2029, U+FEFF, U+FFFE, U+FFFF. */
static uint32_t code_to_escape(const unsigned char *p, size_t length) {
    uint32_t two = length == 2 ? (uint32_t)(p[0] & 31) << 6 | (p[1] & 63) : 0;
    uint32_t three = length == 3 ? (uint32_t)(p[0] & 15) << 12 | (uint32_t)(p[1] & 63) << 6 | (p[2] & 63) : 0;
    if (two >= 0x80 && two < 0xa0) return two;
    return three == 0x2028 || three == 0x2029 || three == 0xfeff || three >= 0xfffe ? three : 0;
}

static void write_quoted(mw_text *out, const char *value) {
    mw_text_add(out, "\"", 1);
    for (size_t length, left = strlen(value); left; value += length, left -= length) {
        unsigned char c = (unsigned char)*value;
        length = mw_utf8_length(value, left);
        if (length == 0) length = 1;
        uint32_t code = code_to_escape((const unsigned char *)value, length);
        if (code)
            mw_text_addf(out, "\\u%04x", code);
        else if (c == '"' || c == '\\')
            mw_text_addf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            mw_text_addf(out, "\\x%02x", c);
        else
            mw_text_add(out, value, length);
    }
    mw_text_add(out, "\"", 1);
}

static void write_choice(mw_text *out, const char *choices, int index) {
    const char *p = choices;
    for (int i = 0; i < index; i++) p = strchr(p, '|') + 1;
    mw_text_add(out, p, strcspn(p, "|"));
}

static void write_value(mw_text *out, const mw_field *f, const void *slot, int indent) {
    switch (f->type) {
    case MW_FIELD_STRING:
        write_quoted(out, *(char *const *)slot);
        return;
    case MW_FIELD_INT:
        if (*(const int64_t *)slot == MW_AUTO_INT)
            mw_text_addf(out, "auto");
        else
            mw_text_addf(out, "%lld", (long long)*(const int64_t *)slot);
        return;
    case MW_FIELD_REAL:
        if (isnan(*(const double *)slot))
            mw_text_addf(out, "auto");
        else
            mw_text_addf(out, "%.10g", *(const double *)slot);
        return;
    case MW_FIELD_BOOL:
        mw_text_addf(out, *(const bool *)slot ? "true" : "false");
        return;
    case MW_FIELD_CHOICE:
        write_choice(out, f->choices, *(const int *)slot);
        return;
    case MW_FIELD_STRINGS: {
        const mw_strings *list = slot;
        mw_text_addf(out, "[");
        for (int64_t i = 0; i < list->count; i++) {
            if (i) mw_text_addf(out, ", ");
            write_quoted(out, list->items[i]);
        }
        mw_text_addf(out, "]");
        return;
    }
    case MW_FIELD_INTS: {
        const mw_ints *list = slot;
        mw_text_addf(out, "[");
        for (int64_t i = 0; i < list->count; i++) mw_text_addf(out, "%s%lld", i ? ", " : "", (long long)list->items[i]);
        mw_text_addf(out, "]");
        return;
    }
    case MW_FIELD_REALS: {
        const mw_reals *list = slot;
        mw_text_addf(out, "[");
        for (int64_t i = 0; i < list->count; i++) mw_text_addf(out, "%s%.10g", i ? ", " : "", list->items[i]);
        mw_text_addf(out, "]");
        return;
    }
    case MW_FIELD_LATENT_VALUES: {
        const mw_latent_values *list = slot;
        mw_text_addf(out, "{");
        for (int64_t i = 0; i < list->count; i++)
            mw_text_addf(out, "%s%lld: %.10g", i ? ", " : "", (long long)list->items[i].index, list->items[i].value);
        mw_text_addf(out, "}");
        return;
    }
    case MW_FIELD_TABLE: {
        const mw_items *list = slot;
        if (!list->count) mw_text_addf(out, "[]");
        for (int64_t i = 0; i < list->count; i++) {
            mw_text_addf(out, "\n%*s-\n", indent + 2, "");
            mw_fields_write(out, f->sub, (const char *)list->items + (size_t)i * f->sub_size, indent + 4, false);
            if (out->length) out->length--; /* the newline: the caller ends the line */
        }
        return;
    }
    }
}

static void write_comment(mw_text *out, const mw_field *f, int indent) {
    mw_text_addf(out, "%*s# %s\n%*s# %s", indent, "", f->doc ? f->doc : "", indent, "",
                 f->type == MW_FIELD_CHOICE ? f->choices : type_names[f->type]);
    if (f->min != 0 || f->max != 0) mw_text_addf(out, ", %.10g to %.10g", f->min, f->max);
    if (has_auto(f)) mw_text_addf(out, ", or auto");
    if (!f->initial) mw_text_addf(out, "; must be given");
    mw_text_addf(out, "\n");
    if (f->type != MW_FIELD_TABLE) return;
    for (const mw_field *s = f->sub; s->name; s++)
        mw_text_addf(out, "%*s#   %s: %s (%s%s%s)\n", indent, "", s->name, s->doc ? s->doc : "",
                     s->type == MW_FIELD_CHOICE ? s->choices : type_names[s->type],
                     s->initial ? "; default " : "; must be given",
                     s->initial ? (s->initial[0] ? s->initial : "none") : "");
}

void mw_fields_write(mw_text *out, const mw_field *fields, const void *target, int indent, bool document) {
    for (const mw_field *f = fields; f->name; f++) {
        if (f->aside && !document) continue;
        if (document) write_comment(out, f, indent);
        mw_text_addf(out, "%*s%s: ", indent, "", f->name);
        write_value(out, f, (const char *)target + f->offset, indent);
        mw_text_addf(out, "\n");
    }
}
