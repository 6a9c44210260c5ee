/* The points of a sweep, from the section of the file. */
#include "experiment/sweep/sweep.h"

#include <stdlib.h>
#include <string.h>

enum { POINTS_MAX = 100000 };

/* ---- texts --------------------------------------------------------------------------------------------- */

static const char *last_word(const char *key) {
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

/* Appends a text with the characters that every file system allows in a name. */
static void add_name(mw_text *out, const char *text) {
    for (; *text; text++) {
        bool kept = (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') ||
                    (*text >= 'A' && *text <= 'Z') || strchr("+-._", *text);
        bool dropped = !kept && (*text == ' ' || *text == '[' || *text == ']');
        if (!dropped) mw_text_add(out, kept ? text : "-", 1);
    }
}

static mw_status add_value_name(const sweep_value *value, mw_text *out) {
    mw_text text = {0};
    mw_node_text(value->node, &text);
    const char *given = text.data ? text.data : "";
    bool is_word = (*given >= 'a' && *given <= 'z') && strcmp(given, "true") != 0 && strcmp(given, "false") != 0 &&
                   strcmp(given, "auto") != 0; /* a number needs its key in the name, a word does not */
    if (out->length) mw_text_add(out, "_", 1);
    if (!is_word) mw_text_addf(out, "%s", last_word(value->key));
    add_name(out, given);
    mw_status status = text.failed || out->failed ? MW_ERR_MEMORY : MW_OK;
    mw_text_free(&text);
    return status;
}

/* ---- points -------------------------------------------------------------------------------------------- */

static void free_point(sweep_point *p) {
    for (int64_t i = 0; i < p->n_values; i++) mw_free(p->values[i].key);
    mw_free(p->values);
    mw_free(p->name);
    *p = (sweep_point){0};
}

void sweep_free(sweep *s) {
    for (int64_t i = 0; i < s->n; i++) free_point(&s->points[i]);
    mw_free(s->points);
    *s = (sweep){0};
}

static mw_status add_value(sweep_point *p, const char *key, const mw_node *node) {
    if (!MW_GROW(p->values, p->n_values, p->capacity)) return MW_ERR_MEMORY;
    p->values[p->n_values] = (sweep_value){mw_strdup(key), node};
    return p->values[p->n_values++].key ? MW_OK : MW_ERR_MEMORY;
}

/* Adds a copy of a point with one more value, which its name gets too. */
static mw_status extend(const sweep_point *from, const char *key, const mw_node *node, sweep *to) {
    if (to->n == POINTS_MAX) return mw_error(MW_ERR_CONFIG, "sweep: more than %d points", POINTS_MAX);
    if (!MW_GROW(to->points, to->n, to->capacity)) return MW_ERR_MEMORY;
    sweep_point *p = &to->points[to->n++];
    mw_text name = {0};
    *p = (sweep_point){0};
    for (int64_t i = 0; i < from->n_values; i++) MW_TRY(add_value(p, from->values[i].key, from->values[i].node));
    mw_text_addf(&name, "%s", from->name ? from->name : "");
    mw_status status = MW_OK;
    if (key) {
        status = add_value(p, key, node);
        if (status == MW_OK) status = add_value_name(&p->values[p->n_values - 1], &name);
    }
    if (status == MW_OK && name.failed) status = MW_ERR_MEMORY;
    if (status == MW_OK)
        p->name = name.data;
    else
        mw_text_free(&name);
    return status;
}

static mw_status refuse(const sweep *s, const mw_node *node, const char *what, const char *why) {
    return mw_error(MW_ERR_CONFIG, "%s:%d: sweep: '%s' %s", s->base->document.file, node->line, what, why);
}

/* Points share activations, so no key may change them. */
static mw_status check_key(const sweep *s, const mw_node *node, const char *key) {
    static const char *const allowed[] = {"sae.", "train.", "discover.", "evaluate.", "steer."};
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (strncmp(key, allowed[i], strlen(allowed[i])) == 0 && key[strlen(allowed[i])])
            return strcmp(key, "sae.activations") ? MW_OK : refuse(s, node, key, "must be the same for all points");
    return refuse(s, node, key,
                  "is not a key of sae, train, discover, evaluate or steer: the points share one harvest");
}

/* Replaces the points by copies of each with each value of the list. */
static mw_status multiply(sweep *s, const char *key, const mw_node *list) {
    MW_TRY(check_key(s, list, key));
    if (list->kind != MW_NODE_LIST || !list->child) return refuse(s, list, key, "needs a list of values");
    sweep grown = {.base = s->base, .memory_gb = s->memory_gb, .teams = s->teams};
    mw_status status = MW_OK;
    for (int64_t i = 0; i < s->n; i++)
        for (const mw_node *value = list->child; value && status == MW_OK; value = value->next)
            status = extend(&s->points[i], key, value, &grown);
    sweep_free(s);
    *s = grown;
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* Calls `use` with "a.b" for `a.b: x` and for `a: {b: x}`. */
static mw_status each_key(sweep *s, const mw_node *node, mw_status (*use)(sweep *, const char *, const mw_node *)) {
    if (strchr(node->key, '.') || node->kind != MW_NODE_MAP) return use(s, node->key, node);
    for (const mw_node *child = node->child; child; child = child->next) {
        char *key = mw_format("%s.%s", node->key, child->key);
        mw_status status = key ? use(s, key, child) : MW_ERR_MEMORY;
        mw_free(key);
        if (status != MW_OK) return status;
    }
    return MW_OK;
}

static mw_status add_to_last(sweep *s, const char *key, const mw_node *node) {
    MW_TRY(check_key(s, node, key));
    return add_value(&s->points[s->n - 1], key, node);
}

static mw_status name_point(sweep *s, const mw_node *name) {
    sweep_point *p = &s->points[s->n - 1];
    mw_text text = {0};
    if (name && name->kind != MW_NODE_SCALAR) return refuse(s, name, "name", "must be a word");
    if (name) add_name(&text, name->value);
    mw_status status = MW_OK;
    for (int64_t i = 0; i < p->n_values && !name && status == MW_OK; i++) status = add_value_name(&p->values[i], &text);
    if (status == MW_OK && text.failed) status = MW_ERR_MEMORY;
    if (status != MW_OK) {
        mw_text_free(&text);
        return status;
    }
    mw_free(p->name);
    p->name = text.data;
    return MW_OK;
}

static mw_status read_point(sweep *s, const mw_node *map) {
    if (map->kind != MW_NODE_MAP) return refuse(s, map, "points", "is a list of maps");
    MW_TRY(extend(&(sweep_point){0}, NULL, NULL, s));
    for (const mw_node *node = map->child; node; node = node->next)
        if (strcmp(node->key, "name") != 0) MW_TRY(each_key(s, node, add_to_last));
    MW_TRY(name_point(s, mw_node_find(map, "name")));
    return s->points[s->n - 1].name ? MW_OK : refuse(s, map, "points", "has one without keys and name");
}

static mw_status read_points(sweep *s, const mw_node *list) {
    if (!list) return extend(&(sweep_point){0}, NULL, NULL, s); /* the base is the one point of the grid */
    if (list->kind != MW_NODE_LIST || !list->child) return refuse(s, list, "points", "needs a list of points");
    for (const mw_node *map = list->child; map; map = map->next) MW_TRY(read_point(s, map));
    return MW_OK;
}

typedef struct sweep_options {
    double memory_gb;
    int64_t teams;
} sweep_options;

static const mw_field option_fields[] = {
    {"memory_gb", MW_FIELD_REAL, offsetof(sweep_options, memory_gb), "0", .min = 0, .max = 1e9},
    {"teams", MW_FIELD_INT, offsetof(sweep_options, teams), "auto", .min = 1, .max = 1 << 24},
    {0}};

static mw_status read_options(sweep *s, const mw_node *map) {
    sweep_options options = {0};
    MW_TRY(mw_fields_bind_known(s->base->document.file, map, SWEEP_SECTION, option_fields, &options));
    s->memory_gb = options.memory_gb;
    s->teams = options.teams;
    return MW_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const sweep_point *const *)a)->name, (*(const sweep_point *const *)b)->name);
}

static mw_status check_names(const sweep *s, const mw_node *map) {
    const sweep_point **sorted = mw_alloc((size_t)s->n * sizeof *sorted);
    if (!sorted) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < s->n; i++) sorted[i] = &s->points[i];
    qsort(sorted, (size_t)s->n, sizeof *sorted, by_name);
    mw_status status = MW_OK;
    for (int64_t i = 1; i < s->n && status == MW_OK; i++)
        if (strcmp(sorted[i]->name, sorted[i - 1]->name) == 0)
            status = refuse(s, map, sorted[i]->name, "is the name of two points: give them names under points");
    mw_free(sorted);
    return status;
}

static mw_status read_all(sweep *s, const mw_node *map) {
    if (map->kind != MW_NODE_MAP)
        return mw_error(MW_ERR_CONFIG, "%s:%d: sweep must be a map of keys", s->base->document.file, map->line);
    MW_TRY(read_options(s, map));
    MW_TRY(read_points(s, mw_node_find(map, "points")));
    for (const mw_node *node = map->child; node; node = node->next)
        if (strcmp(node->key, "points") != 0 && !mw_fields_have(option_fields, node->key))
            MW_TRY(each_key(s, node, multiply));
    if (s->n == 1 && !s->points[0].n_values && !mw_node_find(map, "points"))
        return mw_error(MW_ERR_CONFIG, "%s:%d: sweep has no keys and no points", s->base->document.file, map->line);
    return check_names(s, map);
}

mw_status sweep_read(const mw_experiment *base, sweep *out) {
    sweep s = {.base = base};
    const mw_node *map = mw_node_find(base->document.root, SWEEP_SECTION);
    mw_status status =
        map ? read_all(&s, map) : mw_error(MW_ERR_CONFIG, "%s:1: section 'sweep' is missing", base->document.file);
    if (status != MW_OK)
        sweep_free(&s);
    else
        *out = s;
    return status;
}

/* ---- experiments ----------------------------------------------------------------------------------------- */

/* Sets the name, the harvest and the values of a point. */
static mw_status set_keys(const sweep *s, const sweep_point *p, mw_document *document) {
    char *name = mw_format("%s.%s", s->base->top.name, p->name);
    const mw_strings *given = &s->base->sae.activations;
    mw_node text = {.kind = MW_NODE_SCALAR, .value = name, .quoted = true};
    mw_node own = {.kind = MW_NODE_SCALAR, .value = s->base->top.name, .quoted = true};
    mw_node list = {.kind = MW_NODE_LIST, .child = &own};
    mw_status status = name ? mw_document_put(document, "name", &text) : MW_ERR_MEMORY;
    if (status == MW_OK && !given->count) status = mw_document_put(document, "sae.activations", &list);
    for (int64_t i = 0; i < p->n_values && status == MW_OK; i++)
        status = mw_document_put(document, p->values[i].key, p->values[i].node);
    mw_free(name);
    return status;
}

mw_status sweep_experiment(const sweep *s, int64_t point, mw_experiment **out) {
    mw_document document = {0};
    MW_TRY(mw_document_copy(&s->base->document, &document));
    mw_document_drop(&document, SWEEP_SECTION);
    mw_status status = set_keys(s, &s->points[point], &document);
    if (status == MW_OK) return settings_bind(&document, out);
    mw_document_free(&document);
    return status;
}

mw_status sweep_find(const sweep *s, const char *name, int64_t *out) {
    for (int64_t i = 0; i < s->n; i++)
        if (strcmp(s->points[i].name, name) == 0) {
            *out = i;
            return MW_OK;
        }
    if (mw_parse_int(name, out) && *out >= 0 && *out < s->n) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%s: no point '%s': expected a name, or a number from 0 to %lld; the first is %s",
                    s->base->document.file, name, (long long)s->n - 1, s->points[0].name);
}
