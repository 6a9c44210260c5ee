/* JSON files through jansson, with our errors. For the sources here only: no public header shows jansson. */
#ifndef MICROW_JSON_H
#define MICROW_JSON_H

#include "microw/base.h"

#include <jansson.h>

/* The file's value; duplicate keys are an error. Caller: json_decref. */
mw_status mw_json_load(const char *path, json_t **out) MW_MUST_USE;
/* The same from text; `where` names it in messages. */
mw_status mw_json_parse(const char *where, const char *text, size_t length, json_t **out) MW_MUST_USE;
/* Member `key` of an object as text, or NULL where absent or of another type. */
const char *mw_json_text(const json_t *object, const char *key);
/* Written whole or not at all. `indent` 0: one line. */
mw_status mw_json_save(const char *path, const json_t *value, int indent) MW_MUST_USE;
/* `"text"` with escapes; invalid UTF-8 becomes U+FFFD. */
void mw_json_quote(mw_text *out, const char *bytes, size_t length);

/* Of a file `folder`/`name` that may not be there, or may not be whole; NULL then. */
json_t *mw_json_if_there(const char *folder, const char *name);
/* Last number of a member that is an array; NaN where there is none, or it is null. */
double mw_json_last(const json_t *columns, const char *key);
/* A member that is a number; `initial` where it is absent or something else. */
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
