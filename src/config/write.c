/* Structs written as YAML, by a table of fields. */
#include "config/fields.h"

#include <math.h>
#include <string.h>

/* Characters that YAML reads as a line's end, or does not accept as they are: C1 controls, U+2028, U+2029, U+FEFF,
 * U+FFFE, U+FFFF. Returns the code point, or 0. */
static uint32_t code_to_escape(const unsigned char *p, size_t length) {
    uint32_t two = length == 2 ? (uint32_t)(p[0] & 31) << 6 | (p[1] & 63) : 0;
    uint32_t three = length == 3 ? (uint32_t)(p[0] & 15) << 12 | (uint32_t)(p[1] & 63) << 6 | (p[2] & 63) : 0;
    if (two >= 0x80 && two < 0xa0) return two;
    return three == 0x2028 || three == 0x2029 || three == 0xfeff || three >= 0xfffe ? three : 0;
}

static void write_quoted(mw_text *out, const char *value) {
    mw_text_add(out, "\"", 1);
    for (size_t length, left = strlen(value); left; value += length, left -= length) {
        unsigned char c = (unsigned char)*value;
        length = mw_utf8_length(value, left);
        if (length == 0) length = 1;
        uint32_t code = code_to_escape((const unsigned char *)value, length);
        if (code)
            mw_text_addf(out, "\\u%04x", code);
        else if (c == '"' || c == '\\')
            mw_text_addf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            mw_text_addf(out, "\\x%02x", c);
        else
            mw_text_add(out, value, length);
    }
    mw_text_add(out, "\"", 1);
}

static void write_choice(mw_text *out, const mw_choice *choices, int value) {
    while (choices->text && choices->value != value) choices++;
    mw_text_addf(out, "%s", choices->text ? choices->text : "");
}

static void write_bool(mw_text *out, const mw_field *f, bool value) {
    if (f->choices)
        write_choice(out, f->choices, value);
    else
        mw_text_addf(out, value ? "true" : "false");
}

static void write_int(mw_text *out, int64_t value) {
    if (value == MW_AUTO_INT)
        mw_text_addf(out, "auto");
    else
        mw_text_addf(out, "%lld", (long long)value);
}

static void write_real(mw_text *out, double value) {
    if (isnan(value))
        mw_text_addf(out, "auto");
    else
        mw_text_addf(out, "%.10g", value);
}

static void write_strings(mw_text *out, const mw_strings *list) {
    mw_text_addf(out, "[");
    for (int64_t i = 0; i < list->count; i++) {
        if (i) mw_text_addf(out, ", ");
        write_quoted(out, list->items[i]);
    }
    mw_text_addf(out, "]");
}

static void write_ints(mw_text *out, const mw_ints *list) {
    mw_text_addf(out, "[");
    for (int64_t i = 0; i < list->count; i++) mw_text_addf(out, "%s%lld", i ? ", " : "", (long long)list->items[i]);
    mw_text_addf(out, "]");
}

static void write_reals(mw_text *out, const mw_reals *list) {
    mw_text_addf(out, "[");
    for (int64_t i = 0; i < list->count; i++) mw_text_addf(out, "%s%.10g", i ? ", " : "", list->items[i]);
    mw_text_addf(out, "]");
}

static void write_latent_values(mw_text *out, const mw_latent_values *list) {
    mw_text_addf(out, "{");
    for (int64_t i = 0; i < list->count; i++)
        mw_text_addf(out, "%s%lld: %.10g", i ? ", " : "", (long long)list->items[i].index, list->items[i].value);
    mw_text_addf(out, "}");
}

static void write_table(mw_text *out, const mw_field *f, const mw_items *list, int indent) {
    if (!list->count) mw_text_addf(out, "[]");
    for (int64_t i = 0; i < list->count; i++) {
        mw_text_addf(out, "\n%*s-\n", indent + 2, "");
        mw_fields_write(out, f->sub, (const char *)list->items + (size_t)i * f->sub_size, indent + 4, false);
        if (out->length) out->length--; /* the newline: the caller ends the line */
    }
}

static void write_value(mw_text *out, const mw_field *f, const void *slot, int indent) {
    switch (f->type) {
    case MW_FIELD_STRING:
        write_quoted(out, field_string(slot));
        return;
    case MW_FIELD_INT:
        write_int(out, *(const int64_t *)slot);
        return;
    case MW_FIELD_REAL:
        write_real(out, *(const double *)slot);
        return;
    case MW_FIELD_BOOL:
        write_bool(out, f, *(const bool *)slot);
        return;
    case MW_FIELD_CHOICE:
        write_choice(out, f->choices, *(const int *)slot);
        return;
    case MW_FIELD_STRINGS:
        write_strings(out, slot);
        return;
    case MW_FIELD_INTS:
        write_ints(out, slot);
        return;
    case MW_FIELD_REALS:
        write_reals(out, slot);
        return;
    case MW_FIELD_LATENT_VALUES:
        write_latent_values(out, slot);
        return;
    case MW_FIELD_TABLE:
        write_table(out, f, slot, indent);
        return;
    case MW_FIELD_ROWS:
        return; /* mw_fields_next gives none */
    }
}

static void write_comment(mw_text *out, const mw_field *f, int indent) {
    char kind[FIELD_KIND_TEXT];
    mw_text_addf(out, "%*s# %s\n%*s# %s", indent, "", f->doc ? f->doc : "", indent, "", field_kind(f, kind));
    if (f->min != 0 || f->max != 0) mw_text_addf(out, ", %.10g to %.10g", f->min, f->max);
    if (field_has_auto(f)) mw_text_addf(out, ", or auto");
    if (!f->initial) mw_text_addf(out, "; must be given");
    mw_text_addf(out, "\n");
    if (f->type != MW_FIELD_TABLE) return;
    mw_field_walk walk = {.next = f->sub};
    for (const mw_field *s; (s = mw_fields_next(&walk));)
        mw_text_addf(out, "%*s#   %s: %s (%s%s%s)\n", indent, "", s->name, s->doc ? s->doc : "", field_kind(s, kind),
                     s->initial ? "; default " : "; must be given",
                     s->initial ? (s->initial[0] ? s->initial : "none") : "");
}

void mw_fields_write(mw_text *out, const mw_field *fields, const void *target, int indent, bool document) {
    mw_field_walk walk = {.next = fields};
    for (const mw_field *f; (f = mw_fields_next(&walk));) {
        if (f->aside && !document) continue;
        if (document) write_comment(out, f, indent);
        mw_text_addf(out, "%*s%s: ", indent, "", f->name);
        write_value(out, f, (const char *)target + walk.offset, indent);
        mw_text_addf(out, "\n");
    }
}
