/* Reads pickles of protocol 2 as data. Nothing is imported or called: a call is a value that names its function, and
 * only functions that the reader of the file knows are accepted. */
#ifndef MICROW_MODEL_TORCH_PICKLE_H
#define MICROW_MODEL_TORCH_PICKLE_H

#include "microw/base.h"

typedef enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_REAL,       /* its value is not kept */
    PICKLE_TEXT,       /* also bytes */
    PICKLE_TUPLE,      /* items */
    PICKLE_LIST,       /* items */
    PICKLE_DICT,       /* items: key, value, key, value ...; also an OrderedDict, whose attributes are not kept */
    PICKLE_GLOBAL,     /* the number is its place in the list of known ones */
    PICKLE_CALL,       /* items: global, tuple of arguments */
    PICKLE_PERSISTENT, /* item: the id of an object that is stored outside of the pickle */
} pickle_kind;

typedef struct pickle_value {
    pickle_kind kind;
    int64_t number;
    const char *text; /* in the bytes of the pickle, `length` of them, without a NUL */
    size_t length;
    int64_t count, first, last; /* items: their number, and places in `links` */
} pickle_value;

typedef struct pickle_link {
    int64_t value, next; /* next -1: the last */
} pickle_link;

typedef struct pickle {
    pickle_value *values;
    pickle_link *links;
    int64_t n_values, values_capacity, n_links, links_capacity, root;
} pickle;

/* A name as in a pickle's GLOBAL: "module\nname\n". */
typedef const char *pickle_global;

/* Reads the pickle at the start of `bytes` (16 MiB at most), and how long it is. `what` names it in messages, "FILE:
 * data.pkl". `known`: the accepted globals, ended by NULL; the first must be collections.OrderedDict. Values point into
 * `bytes`. pickle_free frees *out, also after an error. Errors: MW_ERR_FORMAT for damage, MW_ERR_UNSUPPORTED for
 * another global or code, MW_ERR_MEMORY. */
mw_status pickle_read(const char *what, const uint8_t *bytes, size_t length, const pickle_global *known, pickle *out,
                      size_t *used) MW_MUST_USE;
void pickle_free(pickle *p);

/* Returns item `i` of a value; NULL: there is none. Takes `i` steps. */
const pickle_value *pickle_item(const pickle *p, const pickle_value *v, int64_t i);
bool pickle_is_text(const pickle_value *v, const char *text);

#endif
