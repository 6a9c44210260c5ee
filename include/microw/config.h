/* microw/config.h: YAML files bound to C structs by tables of fields.
 *
 *     typedef struct { int64_t k; double lr; mode mode; } settings;
 *     static const mw_choice modes[] = {{"fast", MODE_FAST}, {"exact", MODE_EXACT}, {0}};
 *     static const mw_field fields[] = {
 *         {"k", MW_FIELD_INT, offsetof(settings, k), "32", .min = 1, .max = 1e9, .doc = "active latents"},
 *         {"lr", MW_FIELD_REAL, offsetof(settings, lr), "auto", .min = 0, .max = 1, .doc = "learning rate"},
 *         {"mode", MW_FIELD_CHOICE, MW_ENUM_AT(settings, mode), "fast", .choices = modes, .doc = "arithmetic"},
 *         {0}};
 *
 * One table gives parsing, range checks with file and line, nearest-key suggestions, defaults, the effective
 * file and the documented reference. Strings and lists that a table has bound belong to the struct, and
 * mw_fields_release frees them.
 */
#ifndef MICROW_CONFIG_H
#define MICROW_CONFIG_H

#include "microw/base.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- documents ------------------------------------------------------------------------------------------ */

typedef enum mw_node_kind { MW_NODE_SCALAR, MW_NODE_LIST, MW_NODE_MAP } mw_node_kind;

/* A node of a YAML tree, with the line on which it starts; 0: the node came with --set. */
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

/* Reads one YAML document from a file, or from `length` bytes; `name` stands for the file in messages. The caller
 * frees `out` with mw_document_free. MW_ERR_CONFIG names file and line. */
mw_status mw_document_load(const char *path, mw_document *out) MW_MUST_USE;
mw_status mw_document_parse(const char *name, const char *text, size_t length, mw_document *out) MW_MUST_USE;
/* Applies `a.b=value`. The value is parsed as YAML, so lists and maps work too. */
mw_status mw_document_set(mw_document *document, const char *assignment) MW_MUST_USE;
/* Puts a copy of a node, lines included, at the path `a.b`. */
mw_status mw_document_put(mw_document *document, const char *path, const mw_node *value) MW_MUST_USE;
mw_status mw_document_copy(const mw_document *from, mw_document *out) MW_MUST_USE;
/* Removes a key of the top level; does nothing if the key is absent. */
void mw_document_drop(mw_document *document, const char *key);
void mw_document_free(mw_document *document);
/* Returns the child `key`, or NULL; `map` may be NULL or no map. */
const mw_node *mw_node_find(const mw_node *map, const char *key);
/* Appends a node in YAML's flow style: "16", "[1, 2]". */
void mw_node_text(const mw_node *node, mw_text *out);
/* Makes relative paths begin at a folder: at `folder` those of the file (nodes with a line), at `here` those of
 * --set. NULL leaves them as they are. `fields` says which keys hold paths; other keys stay unchanged. */
mw_status mw_node_resolve(mw_node *map, const struct mw_field *fields, const char *folder,
                          const char *here) MW_MUST_USE;

/* ---- tables of fields ----------------------------------------------------------------------------------- */

typedef enum mw_field_type {
    MW_FIELD_STRING,        /* char *, "" when unset */
    MW_FIELD_INT,           /* int64_t; MW_AUTO_INT for auto */
    MW_FIELD_REAL,          /* double; NaN for auto */
    MW_FIELD_BOOL,          /* bool; true and false, or the two words of `choices` */
    MW_FIELD_CHOICE,        /* int or an enum: a value of `choices` */
    MW_FIELD_STRINGS,       /* mw_strings */
    MW_FIELD_INTS,          /* mw_ints */
    MW_FIELD_REALS,         /* mw_reals */
    MW_FIELD_LATENT_VALUES, /* mw_latent_values: a map from latent to number */
    MW_FIELD_TABLE,         /* mw_items: list of maps with fields `sub` */
    MW_FIELD_ROWS,          /* no key: rows of the table `sub`, see MW_ROWS */
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

/* Kinds of texts that name files. Relative paths of an experiment file begin at the file's folder, those of --set at
 * the working directory. NAME: a word without a slash is no path. HUB: a text that names no existing file or folder
 * stays as it is, since it may be an id of the Hub. */
typedef enum mw_path_kind { MW_PATH_NONE, MW_PATH_FILE, MW_PATH_NAME, MW_PATH_HUB } mw_path_kind;

/* A word of the file and the value that the struct holds for it. */
typedef struct mw_choice {
    const char *text;
    int value;
} mw_choice;

typedef struct mw_field {
    const char *name;
    mw_field_type type;
    size_t offset;
    const char *initial;      /* default as written in YAML; NULL: the key must be given */
    double min, max;          /* of numbers, inclusive; both 0: any */
    const mw_choice *choices; /* ends with a NULL text */
    const char *doc;
    const struct mw_field *sub; /* MW_FIELD_TABLE, MW_FIELD_ROWS */
    size_t sub_size;            /* MW_FIELD_TABLE: bytes of an item */
    const char *until;          /* MW_FIELD_ROWS */
    bool aside; /* affects how the work is done, not its result: written with documentation only, in no fingerprint */
    mw_path_kind path; /* MW_FIELD_STRING and MW_FIELD_STRINGS */
    bool filled;       /* texts that may not be empty: paths, names of folders */
} mw_field;

/* Offset of a member that is an enum, or an int: the size of an enum is the compiler's choice, and MW_FIELD_CHOICE
 * writes an int. */
#define MW_ENUM_AT(type, member)                                                                                       \
    (offsetof(type, member) + 0 * sizeof(char[sizeof(((type *)0)->member) == sizeof(int) ? 1 : -1]))

/* A row that stands for rows of another table, which describes the struct `member` of `type`: from the row `first`
 * up to the row `next`, which is not among them (NULL: to the end). So a section's keys may belong to several
 * structs, in any order. The other table has no such row itself. */
#define MW_ROWS(type, member, table, first, next)                                                                      \
    { first, MW_FIELD_ROWS, offsetof(type, member), .sub = (table), .until = (next) }

/* Goes through a table's keys, those of MW_ROWS in their place:
 *     for (mw_field_walk w = {.next = fields}; (f = mw_fields_next(&w));) ... (char *)target + w.offset ... */
typedef struct mw_field_walk {
    const mw_field *next;  /* row of the table */
    const mw_field *inner; /* row of an included table; NULL: the walk is in none */
    const char *until;
    size_t base, offset; /* of the included struct, of the field */
} mw_field_walk;
/* Returns the next field, or NULL at the end. */
const mw_field *mw_fields_next(mw_field_walk *walk);

typedef struct mw_section {
    const char *name;
    const mw_field *fields; /* ends with a NULL name */
    size_t offset;          /* of the section's struct in the whole */
    const char *doc;
} mw_section;

/* Binds a map node (NULL: defaults; keys without one stay as they are) to `target`, which the caller zero-fills before
 * and releases after, also after an error. `where` names the map in messages. MW_ERR_CONFIG names file, line, key, what
 * is expected and what was found. */
mw_status mw_fields_bind(const char *file, const mw_node *map, const char *where, const mw_field *fields,
                         void *target) MW_MUST_USE;
/* The same for a map that may hold other keys, which are ignored. */
mw_status mw_fields_bind_known(const char *file, const mw_node *map, const char *where, const mw_field *fields,
                               void *target) MW_MUST_USE;
/* Whether a field has this name. */
bool mw_fields_have(const mw_field *fields, const char *name);
/* Frees strings and lists; safe on a zero-filled or half-bound target. */
void mw_fields_release(const mw_field *fields, void *target);
/* Appends `name: value` lines, with `indent` spaces; with `document` also type, range and doc as comments. */
void mw_fields_write(mw_text *out, const mw_field *fields, const void *target, int indent, bool document);

/* Calls `report` with the name and version of the YAML library. */
void mw_config_libraries(mw_library_callback *report, void *self);

/* Returns the nearest known name, at an edit distance of at most a third of its length, or NULL. */
const char *mw_nearest_name(const char *word, const char *const *names, int count);

#ifdef __cplusplus
}
#endif
#endif
