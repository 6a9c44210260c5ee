/* microw/config.h: YAML files bound to C structs by tables of fields.
 *
 *     typedef struct { int64_t k; double lr; } settings;
 *     static const mw_field fields[] = {
 *         {"k", MW_FIELD_INT, offsetof(settings, k), "32", .min = 1, .max = 1e9, .doc = "active latents"},
 *         {"lr", MW_FIELD_REAL, offsetof(settings, lr), "auto", .min = 0, .max = 1, .doc = "learning rate"},
 *         {0}};
 *
 * One table gives parsing, range checks with file and line, nearest-key suggestions, defaults, the effective
 * file and the documented reference. Strings and lists in the struct belong to it: mw_fields_release frees.
 */
#ifndef MICROW_CONFIG_H
#define MICROW_CONFIG_H

#include "microw/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mw_node_kind { MW_NODE_SCALAR, MW_NODE_LIST, MW_NODE_MAP } mw_node_kind;

/* A tree of what the file says, each node with the line it starts on. */
typedef struct mw_node {
    mw_node_kind kind;
    char *key;   /* inside a map, else NULL */
    char *value; /* scalars */
    bool quoted;
    int line;
    struct mw_node *child, *next;
} mw_node;

struct mw_field;
typedef struct mw_document {
    char *file;
    mw_node *root; /* a map */
} mw_document;

mw_status mw_document_load(const char *path, mw_document *out) MW_MUST_USE;
mw_status mw_document_parse(const char *name, const char *text, size_t length, mw_document *out) MW_MUST_USE;
/* `a.b=value`: the value is parsed as YAML, so lists and maps work too. */
mw_status mw_document_set(mw_document *document, const char *assignment) MW_MUST_USE;
/* The same for a node, which is copied, with its lines. */
mw_status mw_document_put(mw_document *document, const char *path, const mw_node *value) MW_MUST_USE;
mw_status mw_document_copy(const mw_document *from, mw_document *out) MW_MUST_USE;
/* Removes a key of the top level, if it is there. */
void mw_document_drop(mw_document *document, const char *key);
void mw_document_free(mw_document *document);
const mw_node *mw_node_find(const mw_node *map, const char *key);
/* Appends "16", "[1, 2]": a node as it may stand in a file. */
void mw_node_text(const mw_node *node, mw_text *out);
/* Makes the texts that are paths relative to where their documents say: below `folder` those of a file (nodes with a line), below
 * `here` the others. NULL: they stay as they are. `fields` are those that the map's keys have; other keys are left alone. */
mw_status mw_node_resolve(mw_node *map, const struct mw_field *fields, const char *folder,
                          const char *here) MW_MUST_USE;

typedef enum mw_field_type {
    MW_FIELD_STRING,        /* char *, "" when unset */
    MW_FIELD_INT,           /* int64_t; MW_AUTO_INT for auto */
    MW_FIELD_REAL,          /* double; NaN for auto */
    MW_FIELD_BOOL,          /* bool */
    MW_FIELD_CHOICE,        /* int: index into `choices` */
    MW_FIELD_STRINGS,       /* mw_strings */
    MW_FIELD_INTS,          /* mw_ints */
    MW_FIELD_REALS,         /* mw_reals */
    MW_FIELD_LATENT_VALUES, /* mw_latent_values: a map from latent to number */
    MW_FIELD_TABLE,         /* mw_items: list of maps with fields `sub` */
} mw_field_type;

#define MW_AUTO_INT INT64_MIN

typedef struct mw_strings {
    char **items;
    int64_t count;
} mw_strings;
typedef struct mw_ints {
    int64_t *items;
    int64_t count;
} mw_ints;
typedef struct mw_reals {
    double *items;
    int64_t count;
} mw_reals;
typedef struct mw_latent_value {
    int64_t index;
    double value;
} mw_latent_value;
typedef struct mw_latent_values {
    mw_latent_value *items;
    int64_t count;
} mw_latent_values;
typedef struct mw_items {
    void *items;
    int64_t count;
} mw_items;

/* What a text is when it names a file. Relative paths of an experiment file begin at the file's folder, those of --set at the working
 * directory. NAME: a word without a slash is no path. HUB: what is no folder there stays as it is, since it may be an id of the Hub. */
typedef enum mw_path_kind { MW_PATH_NONE, MW_PATH_FILE, MW_PATH_NAME, MW_PATH_HUB } mw_path_kind;

typedef struct mw_field {
    const char *name;
    mw_field_type type;
    size_t offset;
    const char *initial; /* default as written in YAML; NULL: must be given */
    double min, max;     /* for numbers, inclusive; both 0: any */
    const char *choices; /* "a|b|c" */
    const char *doc;
    const struct mw_field *sub; /* MW_FIELD_TABLE */
    size_t sub_size;
    bool
        aside; /* how the work is done, not what comes of it: written with its documentation only, so that it is in no fingerprint */
    mw_path_kind path; /* of MW_FIELD_STRING and MW_FIELD_STRINGS */
    bool filled;       /* a text that may not be empty, nor one of a list's: paths, names of folders */
} mw_field;

typedef struct mw_section {
    const char *name;
    const mw_field *fields; /* ends with a NULL name */
    size_t offset;          /* of the section's struct in the whole */
    const char *doc;
} mw_section;

/* Binds a map node (NULL: only defaults) to `target`, zero-filled before. `where` names it in messages. */
mw_status mw_fields_bind(const char *file, const mw_node *map, const char *where, const mw_field *fields,
                         void *target) MW_MUST_USE;
/* The same for a map that holds other keys too: those are left alone. */
mw_status mw_fields_bind_known(const char *file, const mw_node *map, const char *where, const mw_field *fields,
                               void *target) MW_MUST_USE;
/* Whether a field has this name. */
bool mw_fields_have(const mw_field *fields, const char *name);
/* Release is safe on a zero-filled or half-bound target. */
void mw_fields_release(const mw_field *fields, void *target);
/* Appends `name: value` lines, with `indent` spaces; with `document` also type, range and doc as comments. */
void mw_fields_write(mw_text *out, const mw_field *fields, const void *target, int indent, bool document);

void mw_config_libraries(mw_library_callback *told, void *self);

/* Nearest known name within a third of its length, or NULL. */
const char *mw_nearest_name(const char *word, const char *const *names, int count);

#ifdef __cplusplus
}
#endif
#endif
