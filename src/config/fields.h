/* Functions about fields that the files of this folder share. */
#ifndef MICROW_CONFIG_FIELDS_H
#define MICROW_CONFIG_FIELDS_H

#include "microw/config.h"

/* "whole number", "list of texts": a field's type in words; of one with choices "a|b|c". Written to `out`, and
 * returned. */
enum { FIELD_KIND_TEXT = 256 };
const char *field_kind(const mw_field *f, char out[FIELD_KIND_TEXT]);
/* Whether the field takes "auto": a number whose default is computed from other values. */
bool field_has_auto(const mw_field *f);
/* Reads a member of type char * or const char *. */
char *field_string(const void *slot);

#endif
