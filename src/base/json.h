/* JSON as jansson's values, with a reader and error messages of this project. Internal: no public header includes
 * jansson.
 *
 * One rule for all JSON, own and foreign files. The reader accepts what Python's `json` accepts; a value that Python
 * would lose or guess is kept as an odd value (mw_json_odd), so that only a caller who requests it fails:
 *
 * - Whole numbers beyond 64 bits are real numbers. NaN, Infinity, -Infinity and numbers too large for a double (1e400)
 *   are odd values: json_is_number() is false, and a field that needs a finite number refuses them by name.
 * - A key given twice in an object with equal values counts once; with different values it has an odd value, so that
 *   only
 *   a caller who requests the key fails.
 * - A byte order mark at the start is skipped. Half of a surrogate pair (\ud800 alone) is U+FFFD, and counted.
 * - \u0000 is an ordinary character of texts; in a key it is the bytes C0 80, see mw_json_key_bytes().
 * - Refused, with the line: invalid UTF-8, control characters inside texts, anything after the value, comments, surplus
 *   commas, nesting deeper than 2048. */
#ifndef MICROW_BASE_JSON_H
#define MICROW_BASE_JSON_H

#include "microw/base.h"

#include <jansson.h>

/* Result of reading: `status`, and unless MW_OK the problem and its byte. */
typedef struct mw_json_report {
    mw_status status;
    size_t at;
    char problem[96];
    int64_t surrogates; /* halves of surrogate pairs, read as U+FFFD */
} mw_json_report;

/* Returns the value of a text; NULL: the report says why, nothing is logged. Caller frees with json_decref. */
json_t *mw_json_read(const char *text, size_t length, mw_json_report *report);
/* As mw_json_read, but logs errors (MW_ERR_FORMAT, MW_ERR_MEMORY); `where` names the text in messages. */
mw_status mw_json_parse(const char *where, const char *text, size_t length, json_t **out) MW_MUST_USE;
/* Reads a file's value. MW_ERR_IO, MW_ERR_FORMAT. Caller frees with json_decref. */
mw_status mw_json_load(const char *path, json_t **out) MW_MUST_USE;
/* Returns the text of an odd value: a non-finite number as written, or a note for a key given twice; NULL: a plain
 * value. */
const char *mw_json_odd(const json_t *value);
/* Writes the bytes of an object's key to `out` [strlen(key) + 1]; returns their number. */
size_t mw_json_key_bytes(const char *key, char *out);
/* Describes a value for "found ..." in messages; "nothing" for NULL. Returns `out`. */
#define MW_JSON_FOUND 96
const char *mw_json_found(const json_t *value, char out[MW_JSON_FOUND]);

/* Read members of an object with a required type. MW_ERR_FORMAT for another type or a number out of range; the message
 * names file, key, expected and found value. `keys` is "a|b": the first present one is read; null counts as absent.
 * Absent members give `initial`. A value that is no object has no members. */
typedef struct mw_json_source {
    const char *path; /* of the file */
    const json_t *object;
} mw_json_source;
#define MW_JSON_NEEDED INT64_MIN /* as `initial`: an absent member is MW_ERR_FORMAT */
mw_status mw_json_get_whole(mw_json_source of, const char *keys, int64_t initial, int64_t min, int64_t max,
                            int64_t *out) MW_MUST_USE;
mw_status mw_json_get_real(mw_json_source of, const char *keys, double initial, double *out) MW_MUST_USE; /* finite */
mw_status mw_json_get_flag(mw_json_source of, const char *keys, bool initial, bool *out) MW_MUST_USE;
/* Texts with a NUL inside are refused. Borrowed. */
mw_status mw_json_get_text(mw_json_source of, const char *keys, const char *initial, const char **out) MW_MUST_USE;
/* NULL if absent. Borrowed. */
mw_status mw_json_get_list(mw_json_source of, const char *keys, const json_t **out) MW_MUST_USE;
mw_status mw_json_get_object(mw_json_source of, const char *keys, const json_t **out) MW_MUST_USE;

/* Returns member `key` as text, borrowed; NULL if absent, of another type, or with a NUL inside. */
const char *mw_json_text(const json_t *object, const char *key);
/* Writes a file atomically. `indent` 0: one line. MW_ERR_IO; MW_ERR_FORMAT for odd values inside. */
mw_status mw_json_save(const char *path, const json_t *value, int indent) MW_MUST_USE;
/* Appends `"text"` with escapes; invalid UTF-8 becomes U+FFFD. */
void mw_json_quote(mw_text *out, const char *bytes, size_t length);

/* Returns the value of `folder`/`name`; NULL, without a message, if the file is missing or malformed. */
json_t *mw_json_load_optional(const char *folder, const char *name);
/* Returns the last number of an array member; NaN if there is none or it is null. */
double mw_json_last(const json_t *columns, const char *key);
/* Returns a finite number member; `initial` if absent or of another type. */
double mw_json_number(const json_t *object, const char *key, double initial);
/* Returns bytes as a text, each invalid UTF-8 sequence as U+FFFD; NULL: no memory. */
json_t *mw_json_string(const char *bytes, size_t length);
/* Returns a number, or null for a non-finite one: JSON has none, so every file and answer writes an undefined number
 * (0/0, nothing measured) as null and never omits it. Readers take null as NaN: mw_json_number with NaN as `initial`,
 * mw_json_last. */
json_t *mw_json_real(double value);
/* Appends the same as text, with up to `digits` digits. */
void mw_json_add_real(mw_text *out, int digits, double value);
/* Returns a boolean member; `initial` if absent or of another type. */
bool mw_json_flag(const json_t *object, const char *key, bool initial);

#endif
