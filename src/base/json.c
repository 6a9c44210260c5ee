/* JSON: typed members of objects, files, and values for output. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

mw_status mw_json_parse(const char *where, const char *text, size_t length, json_t **out) {
    mw_json_report report;
    json_t *value = mw_json_read(text, length, &report);
    if (!value)
        return mw_error(report.status, "%s:%lld: not valid JSON: %s", where, (long long)mw_line_number(text, report.at),
                        report.problem);
    if (report.surrogates)
        mw_log(MW_LOG_WARNING, "%s: surrogates without their other half, each read as U+FFFD: %lld", where,
               (long long)report.surrogates);
    *out = value;
    return MW_OK;
}

mw_status mw_json_load(const char *path, json_t **out) {
    char *text;
    size_t length;
    MW_TRY(mw_file_read(path, &text, &length));
    mw_status status = mw_json_parse(path, text, length, out);
    mw_free(text);
    return status;
}

const char *mw_json_found(const json_t *value, char out[MW_JSON_FOUND]) {
    const char *odd = mw_json_odd(value), *text = json_string_value(value);
    mw_text shown = {0};
    mw_text_add(&shown, "", 0);
    if (!value)
        mw_text_addf(&shown, "nothing");
    else if (odd)
        mw_text_addf(&shown, "%s", odd);
    else if (text) {
        mw_text whole = {0};
        mw_utf8_show_cut(&whole, text, json_string_length(value), 24);
        mw_text_addf(&shown, "the text '");
        mw_text_add_visible(&shown, whole.data ? whole.data : "", whole.length);
        mw_text_addf(&shown, "'");
        mw_text_free(&whole);
    } else if (json_is_integer(value))
        mw_text_addf(&shown, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        mw_text_addf(&shown, "%.17g", json_real_value(value));
    else if (json_is_boolean(value))
        mw_text_addf(&shown, json_is_true(value) ? "true" : "false");
    else
        mw_text_addf(&shown, json_is_array(value) ? "a list" : json_is_object(value) ? "an object" : "null");
    snprintf(out, MW_JSON_FOUND, "%s", shown.failed ? "something else" : shown.data);
    mw_text_free(&shown);
    return out;
}

/* ---- members by type --------------------------------------------------------------------------------- */

/* The first member present among `keys`, and its name. */
static const json_t *first_of(mw_json_source of, const char *keys, char name[64]) {
    for (const char *p = keys; *p;) {
        size_t n = strcspn(p, "|");
        snprintf(name, 64, "%.*s", (int)n, p);
        const json_t *value = json_object_get(of.object, name);
        if (value && !json_is_null(value)) return value;
        p += n + (p[n] == '|');
    }
    snprintf(name, 64, "%s", keys);
    return NULL;
}

static mw_status wrong(mw_json_source of, const char *name, const char *expected, const json_t *value) {
    char found[MW_JSON_FOUND];
    return mw_error(MW_ERR_FORMAT, "%s: '%s': expected %s, found %s", of.path, name, expected,
                    mw_json_found(value, found));
}

mw_status mw_json_get_whole(mw_json_source of, const char *keys, int64_t initial, int64_t min, int64_t max,
                            int64_t *out) {
    char name[64], range[96];
    const json_t *value = first_of(of, keys, name);
    int64_t number = value ? json_integer_value(value) : initial;
    bool given = value || initial == MW_JSON_NEEDED;
    if (given && (!json_is_integer(value) || number < min || number > max)) {
        snprintf(range, sizeof range, "a whole number from %lld to %lld", (long long)min, (long long)max);
        return wrong(of, name, range, value);
    }
    *out = number;
    return MW_OK;
}

mw_status mw_json_get_real(mw_json_source of, const char *keys, double initial, double *out) {
    char name[64];
    const json_t *value = first_of(of, keys, name);
    if (value && !json_is_number(value)) return wrong(of, name, "a finite number", value);
    *out = value ? json_number_value(value) : initial;
    return MW_OK;
}

mw_status mw_json_get_flag(mw_json_source of, const char *keys, bool initial, bool *out) {
    char name[64];
    const json_t *value = first_of(of, keys, name);
    if (value && !json_is_boolean(value)) return wrong(of, name, "true or false", value);
    *out = value ? json_is_true(value) : initial;
    return MW_OK;
}

/* A text that C can hold. */
static const char *text_without_nul(const json_t *value) {
    const char *text = json_string_value(value);
    return text && strlen(text) == json_string_length(value) ? text : NULL;
}

mw_status mw_json_get_text(mw_json_source of, const char *keys, const char *initial, const char **out) {
    char name[64];
    const json_t *value = first_of(of, keys, name);
    const char *text = value ? text_without_nul(value) : initial;
    if (value && !text) return wrong(of, name, json_is_string(value) ? "a text without \\u0000" : "a text", value);
    *out = text;
    return MW_OK;
}

mw_status mw_json_get_list(mw_json_source of, const char *keys, const json_t **out) {
    char name[64];
    const json_t *value = first_of(of, keys, name);
    if (value && !json_is_array(value)) return wrong(of, name, "a list", value);
    *out = value;
    return MW_OK;
}

mw_status mw_json_get_object(mw_json_source of, const char *keys, const json_t **out) {
    char name[64];
    const json_t *value = first_of(of, keys, name);
    if (value && (!json_is_object(value) || mw_json_odd(value))) return wrong(of, name, "an object", value);
    *out = value;
    return MW_OK;
}

/* ---- members without errors ----------------------------------------------------------------------- */

const char *mw_json_text(const json_t *object, const char *key) {
    return text_without_nul(json_object_get(object, key));
}

double mw_json_number(const json_t *object, const char *key, double initial) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : initial;
}

json_t *mw_json_string(const char *bytes, size_t length) {
    mw_text good = {0};
    mw_text_add(&good, "", 0);
    mw_utf8_repair(&good, bytes, length);
    json_t *made = good.failed ? NULL : json_stringn(good.data, good.length);
    mw_text_free(&good);
    return made;
}

bool mw_json_flag(const json_t *object, const char *key, bool initial) {
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : initial;
}

/* Whether JSON can express a value: jansson writes the invalid UTF-8 keys of odd values as truncated text, without an
 * error. */
static bool has_form(const json_t *value) {
    const char *key;
    json_t *member;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)value, i, member) if (!has_form(member)) return false;
    json_object_foreach((json_t *)(uintptr_t)value, key,
                        member) if (!mw_utf8_valid(key, strlen(key)) || !has_form(member)) return false;
    return true;
}

mw_status mw_json_save(const char *path, const json_t *value, int indent) {
    if (!has_form(value))
        return mw_error(MW_ERR_FORMAT, "%s: cannot write a non-finite number or a key that was given twice", path);
    char *text = json_dumps(value, (size_t)JSON_INDENT(indent) | JSON_REAL_PRECISION(9));
    if (!text) return mw_error(MW_ERR_MEMORY, "%s: cannot encode JSON", path);
    mw_text whole = {0};
    mw_text_addf(&whole, "%s\n", text);
    free(text);
    mw_status status = whole.failed ? MW_ERR_MEMORY : mw_file_write_atomic(path, whole.data, whole.length);
    mw_text_free(&whole);
    return status;
}

void mw_json_quote(mw_text *out, const char *bytes, size_t length) {
    mw_text_add(out, "\"", 1);
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)bytes[i];
        size_t n = mw_utf8_length(bytes + i, length - i);
        if (n == 0)
            mw_text_addf(out, "\\ufffd");
        else if (c == '"' || c == '\\')
            mw_text_addf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            mw_text_addf(out, "\\u%04x", c);
        else
            mw_text_add(out, bytes + i, n);
        i += n ? n : 1;
    }
    mw_text_add(out, "\"", 1);
}

json_t *mw_json_load_optional(const char *folder, const char *name) {
    char *path = mw_path_join(folder, name);
    json_t *root = NULL;
    mw_log_quiet(true);
    if (path && mw_file_exists(path) && mw_json_load(path, &root) != MW_OK) root = NULL;
    mw_log_quiet(false);
    mw_free(path);
    return root;
}

double mw_json_last(const json_t *columns, const char *key) {
    const json_t *column = json_object_get(columns, key);
    size_t n = json_array_size(column);
    const json_t *last = n ? json_array_get(column, n - 1) : NULL;
    return json_is_number(last) ? json_number_value(last) : (double)NAN;
}

json_t *mw_json_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

void mw_json_add_real(mw_text *out, int digits, double value) {
    if (isfinite(value))
        mw_text_addf(out, "%.*g", digits, value);
    else
        mw_text_add(out, "null", 4);
}
