/* JSON through jansson's values, with our reader and our errors. For the sources here only: no public header shows
 * jansson.
 *
 * One rule for all JSON, ours and what comes from outside. It is what Python's `json` reads, and where that would lose
 * or guess something, the value is kept apart so that only who asks for it is refused:
 *
 * - Whole numbers beyond 64 bits are real numbers. NaN, Infinity, -Infinity and numbers too large for a double (1e400)
 *   are read; they are no numbers to json_is_number(), and a field that needs a finite number refuses them by name.
 * - A key given twice in an object with equal values is as given once; with different values it has no value: who asks
 *   for it is told so, who does not ask goes on.
 * - A byte order mark at the start is skipped. Half of a surrogate pair (\ud800 alone) is U+FFFD, and counted.
 * - \u0000 is a character of texts like others; in a key it is the bytes C0 80, see mw_json_key_bytes().
 * - Refused, with the line: broken UTF-8, control characters inside texts, anything behind the value, comments, commas
 *   too many, nesting deeper than 2048.
 */
#ifndef MICROW_BASE_JSON_H
#define MICROW_BASE_JSON_H

#include "microw/base.h"

#include <jansson.h>

/* How reading went: `status`, and unless MW_OK what is wrong and at which byte. */
typedef struct mw_json_report {
    mw_status status;
    size_t at;
    char problem[96];
    int64_t surrogates; /* halves of surrogate pairs, read as U+FFFD */
} mw_json_report;

/* The value of a text; NULL: the report says why, and nothing is logged. Caller: json_decref. */
json_t *mw_json_read(const char *text, size_t length, mw_json_report *report);
/* The same, logged: `where` names the text in messages. */
mw_status mw_json_parse(const char *where, const char *text, size_t length, json_t **out) MW_MUST_USE;
/* A file's value. */
mw_status mw_json_load(const char *path, json_t **out) MW_MUST_USE;
/* What stands for a number that is not finite, as it was written, or for a key given twice; NULL: a plain value. */
const char *mw_json_odd(const json_t *value);
/* The bytes of an object's key into `out`, which has room for strlen(key) + 1; their number. */
size_t mw_json_key_bytes(const char *key, char *out);
/* A value in short, for "found ..." in messages; "nothing" for NULL. */
#define MW_JSON_FOUND 96
const char *mw_json_found(const json_t *value, char out[MW_JSON_FOUND]);

/* Members of an object with the type they must have: a wrong type, or a number outside of its range, is refused with
 * file, key, what was expected and what was found. `keys` is "a|b": the first that is there; null counts as absent.
 * Absent: `initial`. A value that is no object has no members. */
typedef struct mw_json_source {
    const char *path; /* of the file */
    const json_t *object;
} mw_json_source;
#define MW_JSON_NEEDED INT64_MIN /* as `initial`: absent is refused too */
mw_status mw_json_get_whole(mw_json_source of, const char *keys, int64_t initial, int64_t min, int64_t max,
                            int64_t *out) MW_MUST_USE;
mw_status mw_json_get_real(mw_json_source of, const char *keys, double initial, double *out) MW_MUST_USE; /* finite */
mw_status mw_json_get_flag(mw_json_source of, const char *keys, bool initial, bool *out) MW_MUST_USE;
/* Without a NUL inside. Borrowed. */
mw_status mw_json_get_text(mw_json_source of, const char *keys, const char *initial, const char **out) MW_MUST_USE;
/* NULL where absent. Borrowed. */
mw_status mw_json_get_list(mw_json_source of, const char *keys, const json_t **out) MW_MUST_USE;
mw_status mw_json_get_object(mw_json_source of, const char *keys, const json_t **out) MW_MUST_USE;

/* Member `key` of an object as text, or NULL where absent, of another type, or with a NUL inside. */
const char *mw_json_text(const json_t *object, const char *key);
/* Written whole or not at all. `indent` 0: one line. */
mw_status mw_json_save(const char *path, const json_t *value, int indent) MW_MUST_USE;
/* `"text"` with escapes; invalid UTF-8 becomes U+FFFD. */
void mw_json_quote(mw_text *out, const char *bytes, size_t length);

/* Of a file `folder`/`name` that may not be there, or may not be whole; NULL then. */
json_t *mw_json_load_optional(const char *folder, const char *name);
/* Last number of a member that is an array; NaN where there is none, or it is null. */
double mw_json_last(const json_t *columns, const char *key);
/* A member that is a finite number; `initial` where it is absent or something else. */
double mw_json_number(const json_t *object, const char *key, double initial);
/* Bytes as a text, in which each broken piece of UTF-8 is U+FFFD; NULL without memory. */
json_t *mw_json_string(const char *bytes, size_t length);
/* JSON has no numbers that are not finite: one that is undefined (0/0, nothing measured) is null, in every file and answer. Readers
 * take it as NaN: mw_json_number with that as `initial`, mw_json_last. A file never leaves such a value out. */
json_t *mw_json_real(double value);
/* The same as text, by up to `digits` digits. */
void mw_json_add_real(mw_text *out, int digits, double value);
/* A boolean member; `initial` where it is absent or something else. */
bool mw_json_flag(const json_t *object, const char *key, bool initial);

#endif
