/* libyaml events to a tree that knows its lines. */
#include "microw/config.h"

#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 32 };

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

static mw_status check_key(reader *in, const yaml_event_t *event, const mw_node *map) {
    int line = (int)event->start_mark.line + 1;
    if (event->type != YAML_SCALAR_EVENT)
        return mw_error(MW_ERR_CONFIG, "%s:%d: a key must be a plain word", in->file, line);
    const char *key = (const char *)event->data.scalar.value;
    const mw_node *first = mw_node_find(map, key);
    if (first)
        return mw_error(MW_ERR_CONFIG, "%s:%d: key '%s' is given twice, first on line %d", in->file, line, key,
                        first->line);
    return MW_OK;
}

/* Reads the children of a map or list until `end`. */
static mw_status read_children(reader *in, mw_node *parent, yaml_event_type_t end) {
    mw_node **tail = &parent->child;
    for (;;) {
        yaml_event_t event;
        MW_TRY(next_event(in, &event));
        if (event.type == end) {
            yaml_event_delete(&event);
            return MW_OK;
        }
        char *key = NULL;
        int line = (int)event.start_mark.line + 1;
        if (parent->kind == MW_NODE_MAP) {
            mw_status status = check_key(in, &event, parent);
            if (status == MW_OK && !(key = mw_strdup((const char *)event.data.scalar.value))) status = MW_ERR_MEMORY;
            yaml_event_delete(&event);
            if (status != MW_OK) return status;
            status = next_event(in, &event);
            if (status != MW_OK) {
                mw_free(key);
                return status;
            }
        }
        mw_node *child = NULL;
        mw_status status = read_node(in, &event, &child);
        yaml_event_delete(&event);
        if (status != MW_OK) {
            mw_free(key);
            return status;
        }
        child->key = key;
        child->line = line;
        *tail = child;
        tail = &child->next;
    }
}

static mw_status fill_node(reader *in, yaml_event_t *event, mw_node *node) {
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        node->kind = MW_NODE_SCALAR;
        node->value = mw_strdup((const char *)event->data.scalar.value);
        node->quoted = event->data.scalar.style == YAML_SINGLE_QUOTED_SCALAR_STYLE ||
                       event->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE;
        return node->value ? MW_OK : MW_ERR_MEMORY;
    case YAML_SEQUENCE_START_EVENT:
        node->kind = MW_NODE_LIST;
        return read_children(in, node, YAML_SEQUENCE_END_EVENT);
    case YAML_MAPPING_START_EVENT:
        node->kind = MW_NODE_MAP;
        return read_children(in, node, YAML_MAPPING_END_EVENT);
    default:
        return mw_error(MW_ERR_CONFIG, "%s:%d: anchors and aliases are not used in experiment files", in->file,
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

/* Reads the first document's root; an empty file is an empty map. */
static mw_status read_root(reader *in, mw_node **out) {
    for (;;) {
        yaml_event_t event;
        MW_TRY(next_event(in, &event));
        yaml_event_type_t type = event.type;
        if (type == YAML_STREAM_END_EVENT) {
            yaml_event_delete(&event);
            if (!(*out = mw_calloc(1, sizeof **out))) return MW_ERR_MEMORY;
            (*out)->kind = MW_NODE_MAP;
            return MW_OK;
        }
        mw_status status = MW_OK;
        bool content = type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT;
        if (content) status = read_node(in, &event, out);
        yaml_event_delete(&event);
        if (content || status != MW_OK) return status;
    }
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
    MW_TRY(mw_file_read(path, &text, &length));
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

/* What --set gives is on no line of the file. */
static void forget_lines(mw_node *node) {
    node->line = 0;
    for (mw_node *child = node->child; child; child = child->next) forget_lines(child);
}

static mw_node *copy_node(const mw_node *from);

/* A copy of a node and of the nodes after it. */
static mw_status copy_list(const mw_node *from, mw_node **out) {
    for (mw_node **tail = out; from; from = from->next, tail = &(*tail)->next)
        if (!(*tail = copy_node(from))) return MW_ERR_MEMORY;
    return MW_OK;
}

/* Without its neighbours; NULL: out of memory. */
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

/* The node at a path of keys, made where it is not there. */
static mw_status node_at(mw_document *document, const char *path, mw_node **out) {
    char *words = mw_strdup(path);
    mw_status status = words ? MW_OK : MW_ERR_MEMORY;
    mw_node *at = document->root;
    for (char *part = words, *dot; status == MW_OK && part; part = dot) {
        dot = strchr(part, '.');
        if (dot) *dot++ = '\0';
        if (at->kind != MW_NODE_MAP)
            status = mw_error(MW_ERR_CONFIG, "%s: '%s' has no keys below it", path, at->key);
        else if (!(at = child_for(at, part)))
            status = MW_ERR_MEMORY;
    }
    mw_free(words);
    *out = at;
    return status;
}

mw_status mw_document_put(mw_document *document, const char *path, const mw_node *value) {
    mw_node *at, *copy;
    MW_TRY(node_at(document, path, &at));
    if (!(copy = copy_node(value))) return MW_ERR_MEMORY;
    /* the value takes the node's place, keeping key and neighbours */
    node_free(at->child);
    mw_free(at->value);
    at->kind = copy->kind;
    at->child = copy->child;
    at->value = copy->value;
    at->quoted = copy->quoted;
    at->line = copy->line;
    copy->child = NULL;
    copy->value = NULL;
    node_free(copy);
    return MW_OK;
}

void mw_document_drop(mw_document *document, const char *key) {
    for (mw_node **at = &document->root->child; *at; at = &(*at)->next)
        if (strcmp((*at)->key, key) == 0) {
            mw_node *gone = *at;
            *at = gone->next;
            gone->next = NULL;
            node_free(gone);
            return;
        }
}

mw_status mw_document_set(mw_document *document, const char *assignment) {
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment) return mw_error(MW_ERR_CONFIG, "--set %s: expected key=value", assignment);
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
