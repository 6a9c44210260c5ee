#include "base/json.h"

#include <math.h>

mw_status mw_json_parse(const char *where, const char *text, size_t length, json_t **out) {
    json_error_t error;
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!value && json_error_code(&error) == json_error_out_of_memory)
        return mw_error(MW_ERR_MEMORY, "%s: out of memory", where);
    if (!value) return mw_error(MW_ERR_FORMAT, "%s:%d: not valid JSON: %s", where, error.line, error.text);
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

const char *mw_json_text(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
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

mw_status mw_json_save(const char *path, const json_t *value, int indent) {
    char *text = json_dumps(value, (size_t)JSON_INDENT(indent) | JSON_REAL_PRECISION(9));
    if (!text) return mw_error(MW_ERR_MEMORY, "%s: JSON cannot be written", path);
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

json_t *mw_json_if_there(const char *folder, const char *name) {
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
