/* Documents: trees of nodes made of libyaml events, and changes to them. */
#include "microw/config.h"

#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 32, FILE_MAX = 64 << 20 };

static void node_free(mw_node *node) {
    while (node) {
        mw_node *next = node->next;
        node_free(node->child);
        mw_free(node->key);
        mw_free(node->value);
        mw_free(node);
        node = next;
    }
}

void mw_document_free(mw_document *document) {
    node_free(document->root);
    mw_free(document->file);
    *document = (mw_document){0};
}

const mw_node *mw_node_find(const mw_node *map, const char *key) {
    if (!map || map->kind != MW_NODE_MAP) return NULL;
    for (const mw_node *child = map->child; child; child = child->next)
        if (strcmp(child->key, key) == 0) return child;
    return NULL;
}

void mw_node_text(const mw_node *node, mw_text *out) {
    if (node->kind == MW_NODE_SCALAR) {
        mw_text_addf(out, "%s", node->value);
        return;
    }
    mw_text_addf(out, node->kind == MW_NODE_LIST ? "[" : "{");
    for (const mw_node *child = node->child; child; child = child->next) {
        if (child != node->child) mw_text_addf(out, ", ");
        if (child->key) mw_text_addf(out, "%s: ", child->key);
        mw_node_text(child, out);
    }
    mw_text_addf(out, node->kind == MW_NODE_LIST ? "]" : "}");
}

typedef struct reader {
    yaml_parser_t parser;
    const char *file;
    int depth;
} reader;

static mw_status next_event(reader *in, yaml_event_t *event) {
    if (yaml_parser_parse(&in->parser, event)) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%s:%zu: YAML: %s", in->file, in->parser.problem_mark.line + 1,
                    in->parser.problem ? in->parser.problem : "cannot be parsed");
}

static mw_status read_node(reader *in, yaml_event_t *event, mw_node **out);

/* The keys of a map, to find duplicates: a hash table with open addressing, at most half full. */
typedef struct key_set {
    const mw_node **slots;
    size_t mask, count;
} key_set;

/* Returns the slot of a key, or the empty slot for it. */
static const mw_node **key_slot(const key_set *set, const char *key) {
    size_t i = mw_xxh64(key, strlen(key)) & set->mask;
    while (set->slots[i] && strcmp(set->slots[i]->key, key) != 0) i = (i + 1) & set->mask;
    return &set->slots[i];
}

static mw_status grow_keys(key_set *set) {
    key_set grown = {.mask = set->slots ? 2 * set->mask + 1 : 15, .count = set->count};
    if (!(grown.slots = mw_calloc(grown.mask + 1, sizeof *grown.slots))) return MW_ERR_MEMORY;
    for (size_t i = 0; set->slots && i <= set->mask; i++)
        if (set->slots[i]) *key_slot(&grown, set->slots[i]->key) = set->slots[i];
    mw_free(set->slots);
    *set = grown;
    return MW_OK;
}

static mw_status add_key(reader *in, key_set *set, const mw_node *node) {
    if (!set->slots || 2 * set->count > set->mask) MW_TRY(grow_keys(set));
    const mw_node **slot = key_slot(set, node->key);
    if (*slot)
        return mw_error(MW_ERR_CONFIG, "%s:%d: key '%s' is given twice, first on line %d", in->file, node->line,
                        node->key, (*slot)->line);
    *slot = node;
    set->count++;
    return MW_OK;
}

/* Copies a scalar, which may not contain a NUL. */
static mw_status copy_scalar(const reader *in, const yaml_event_t *event, char **out) {
    const char *text = (const char *)event->data.scalar.value;
    if (strlen(text) != event->data.scalar.length)
        return mw_error(MW_ERR_CONFIG, "%s:%zu: a text with a NUL inside", in->file, event->start_mark.line + 1);
    return (*out = mw_strdup(text)) ? MW_OK : MW_ERR_MEMORY;
}

/* Reads a key and deletes its event; `event` becomes the first event of the value. */
static mw_status read_key(reader *in, yaml_event_t *event, char **out) {
    mw_status status = MW_OK;
    if (event->type != YAML_SCALAR_EVENT)
        status = mw_error(MW_ERR_CONFIG, "%s:%zu: a key must be a plain word", in->file, event->start_mark.line + 1);
    else
        status = copy_scalar(in, event, out);
    yaml_event_delete(event);
    *event = (yaml_event_t){0};
    return status == MW_OK ? next_event(in, event) : status;
}

/* Reads a child that begins with `event`, which is deleted. */
static mw_status read_child(reader *in, yaml_event_t *event, key_set *keys, mw_node ***tail) {
    char *key = NULL;
    mw_node *child = NULL;
    int line = (int)event->start_mark.line + 1;
    mw_status status = keys ? read_key(in, event, &key) : MW_OK;
    if (status == MW_OK) status = read_node(in, event, &child);
    yaml_event_delete(event);
    if (status != MW_OK) {
        mw_free(key);
        return status;
    }
    child->key = key;
    child->line = line;
    **tail = child; /* from here on the parent owns it */
    *tail = &child->next;
    return keys ? add_key(in, keys, child) : MW_OK;
}

/* Reads the children of a map or list, up to the event `end`. */
static mw_status read_children(reader *in, mw_node *parent, yaml_event_type_t end) {
    mw_node **tail = &parent->child;
    key_set keys = {0};
    mw_status status = MW_OK;
    yaml_event_t event;
    while ((status = next_event(in, &event)) == MW_OK && event.type != end)
        MW_TRY_GOTO(status, read_child(in, &event, parent->kind == MW_NODE_MAP ? &keys : NULL, &tail), done);
    if (status == MW_OK) yaml_event_delete(&event);
done:
    mw_free(keys.slots);
    return status;
}

static mw_status fill_node(reader *in, yaml_event_t *event, mw_node *node) {
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        node->kind = MW_NODE_SCALAR;
        node->quoted = event->data.scalar.style == YAML_SINGLE_QUOTED_SCALAR_STYLE ||
                       event->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE;
        return copy_scalar(in, event, &node->value);
    case YAML_SEQUENCE_START_EVENT:
        node->kind = MW_NODE_LIST;
        return read_children(in, node, YAML_SEQUENCE_END_EVENT);
    case YAML_MAPPING_START_EVENT:
        node->kind = MW_NODE_MAP;
        return read_children(in, node, YAML_MAPPING_END_EVENT);
    default:
        return mw_error(MW_ERR_CONFIG, "%s:%d: anchors and aliases are not supported in experiment files", in->file,
                        node->line);
    }
}

static mw_status read_node(reader *in, yaml_event_t *event, mw_node **out) {
    if (in->depth >= DEPTH_MAX)
        return mw_error(MW_ERR_CONFIG, "%s:%zu: nested deeper than %d", in->file, event->start_mark.line + 1,
                        DEPTH_MAX);
    mw_node *node = mw_calloc(1, sizeof *node);
    if (!node) return MW_ERR_MEMORY;
    node->line = (int)event->start_mark.line + 1;
    in->depth++;
    mw_status status = fill_node(in, event, node);
    in->depth--;
    if (status != MW_OK)
        node_free(node);
    else
        *out = node;
    return status;
}

/* Deletes events of `type`; `event` becomes the first of another type. */
static mw_status skip_events(reader *in, yaml_event_type_t type, yaml_event_t *event) {
    for (;;) {
        MW_TRY(next_event(in, event));
        if (event->type != type) return MW_OK;
        yaml_event_delete(event);
    }
}

/* Refuses a second document, which would be ignored. */
static mw_status expect_end(reader *in) {
    yaml_event_t event;
    MW_TRY(skip_events(in, YAML_DOCUMENT_END_EVENT, &event));
    yaml_event_type_t type = event.type;
    size_t line = event.start_mark.line + 1;
    yaml_event_delete(&event);
    if (type == YAML_STREAM_END_EVENT) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%s:%zu: a second YAML document begins here: expected one document", in->file, line);
}

/* Reads the root of the document; an empty file is an empty map. */
static mw_status read_root(reader *in, mw_node **out) {
    yaml_event_t event;
    MW_TRY(skip_events(in, YAML_STREAM_START_EVENT, &event));
    if (event.type == YAML_STREAM_END_EVENT) {
        yaml_event_delete(&event);
        if (!(*out = mw_calloc(1, sizeof **out))) return MW_ERR_MEMORY;
        (*out)->kind = MW_NODE_MAP;
        return MW_OK;
    }
    yaml_event_delete(&event); /* the document's start */
    MW_TRY(next_event(in, &event));
    mw_status status = read_node(in, &event, out);
    yaml_event_delete(&event);
    if (status != MW_OK) return status;
    status = expect_end(in);
    if (status != MW_OK) node_free(*out);
    return status;
}

static mw_status parse_value(const char *name, const char *text, size_t length, mw_node **out) {
    reader in = {.file = name};
    if (!yaml_parser_initialize(&in.parser)) return mw_error(MW_ERR_MEMORY, "libyaml cannot start");
    yaml_parser_set_input_string(&in.parser, (const unsigned char *)text, length);
    mw_status status = read_root(&in, out);
    yaml_parser_delete(&in.parser);
    return status;
}

mw_status mw_document_parse(const char *name, const char *text, size_t length, mw_document *out) {
    mw_node *root = NULL;
    MW_TRY(parse_value(name, text, length, &root));
    if (root->kind != MW_NODE_MAP) {
        node_free(root);
        return mw_error(MW_ERR_CONFIG, "%s:1: expected a map of keys at the top", name);
    }
    char *file = mw_strdup(name);
    if (!file) {
        node_free(root);
        return MW_ERR_MEMORY;
    }
    *out = (mw_document){.file = file, .root = root};
    return MW_OK;
}

mw_status mw_document_load(const char *path, mw_document *out) {
    char *text = NULL;
    size_t length = 0;
    uint64_t bytes = 0;
    if (mw_is_directory(path))
        return mw_error(MW_ERR_CONFIG, "%s: this is a folder: expected an experiment file (YAML)", path);
    if (mw_file_exists(path)) MW_TRY(mw_file_size(path, &bytes));
    if (bytes > FILE_MAX)
        return mw_error(MW_ERR_CONFIG, "%s: %.3g MB is too large for an experiment file (YAML)", path,
                        (double)bytes / 1e6);
    mw_status read = mw_file_read(path, &text, &length);
    if (read != MW_OK)
        return read == MW_ERR_IO ? MW_ERR_CONFIG : read; /* an unreadable file is an error of the command line */
    mw_status status = mw_document_parse(path, text, length, out);
    mw_free(text);
    return status;
}

/* Finds or makes the child `key` of a map. */
static mw_node *child_for(mw_node *map, const char *key) {
    mw_node **tail = &map->child;
    for (; *tail; tail = &(*tail)->next)
        if (strcmp((*tail)->key, key) == 0) return *tail;
    mw_node *made = mw_calloc(1, sizeof *made);
    if (!made) return NULL;
    made->kind = MW_NODE_MAP;
    made->key = mw_strdup(key);
    *tail = made;
    return made->key ? made : NULL;
}

/* Marks a node as one of --set: it is on no line of the file. */
static void forget_lines(mw_node *node) {
    node->line = 0;
    for (mw_node *child = node->child; child; child = child->next) forget_lines(child);
}

static mw_node *copy_node(const mw_node *from);

/* Copies a node and the nodes after it. */
static mw_status copy_list(const mw_node *from, mw_node **out) {
    for (mw_node **tail = out; from; from = from->next, tail = &(*tail)->next)
        if (!(*tail = copy_node(from))) return MW_ERR_MEMORY;
    return MW_OK;
}

/* Copies a node with its children; NULL: out of memory. */
static mw_node *copy_node(const mw_node *from) {
    mw_node *made = mw_calloc(1, sizeof *made);
    if (!made) return NULL;
    *made = (mw_node){.kind = from->kind, .quoted = from->quoted, .line = from->line};
    bool good = (!from->key || (made->key = mw_strdup(from->key))) &&
                (!from->value || (made->value = mw_strdup(from->value))) &&
                copy_list(from->child, &made->child) == MW_OK;
    if (good) return made;
    node_free(made);
    return NULL;
}

mw_status mw_document_copy(const mw_document *from, mw_document *out) {
    mw_document made = {.file = mw_strdup(from->file), .root = copy_node(from->root)};
    if (!made.file || !made.root) {
        mw_document_free(&made);
        return MW_ERR_MEMORY;
    }
    *out = made;
    return MW_OK;
}

/* Returns the node at a path of keys; adds the nodes that are missing. */
static mw_status node_at(mw_document *document, const char *path, mw_node **out) {
    char *words = mw_strdup(path);
    mw_status status = words ? MW_OK : MW_ERR_MEMORY;
    mw_node *node = document->root;
    for (char *part = words, *dot; status == MW_OK && part; part = dot) {
        dot = strchr(part, '.');
        if (dot) *dot++ = '\0';
        if (node->kind != MW_NODE_MAP)
            status = mw_error(MW_ERR_CONFIG, "%s: '%s' has no keys below it", path, node->key);
        else if (!(node = child_for(node, part)))
            status = MW_ERR_MEMORY;
    }
    mw_free(words);
    *out = node;
    return status;
}

mw_status mw_document_put(mw_document *document, const char *path, const mw_node *value) {
    mw_node *to, *copy;
    MW_TRY(node_at(document, path, &to));
    if (!(copy = copy_node(value))) return MW_ERR_MEMORY;
    /* the node keeps its key and neighbours */
    node_free(to->child);
    mw_free(to->value);
    to->kind = copy->kind;
    to->child = copy->child;
    to->value = copy->value;
    to->quoted = copy->quoted;
    to->line = copy->line;
    copy->child = NULL;
    copy->value = NULL;
    node_free(copy);
    return MW_OK;
}

void mw_document_drop(mw_document *document, const char *key) {
    for (mw_node **link = &document->root->child; *link; link = &(*link)->next)
        if (strcmp((*link)->key, key) == 0) {
            mw_node *dropped = *link;
            *link = dropped->next;
            dropped->next = NULL;
            node_free(dropped);
            return;
        }
}

mw_status mw_document_set(mw_document *document, const char *assignment) {
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        return mw_error(MW_ERR_CONFIG, "--set %s: expected KEY=VALUE, for instance sae.k=32", assignment);
    mw_node *value = NULL;
    const char *text = equals[1] ? equals + 1 : "\"\"";
    MW_TRY(parse_value("--set", text, strlen(text), &value));
    forget_lines(value);
    char *path = mw_strndup(assignment, (size_t)(equals - assignment));
    mw_status status = path ? mw_document_put(document, path, value) : MW_ERR_MEMORY;
    node_free(value);
    mw_free(path);
    return status;
}

void mw_config_libraries(mw_library_callback *report, void *self) {
    report(self, "libyaml", yaml_get_version_string());
}
