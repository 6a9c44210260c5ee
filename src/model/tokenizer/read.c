/* Reads members of tokenizer files. */
#include "model/tokenizer/read.h"
#include "model/tokenizer/unicode.h"

#include <string.h>

mw_status unsupported(const reader *r, const char *what, const char *type) {
    return mw_error(MW_ERR_UNSUPPORTED, "%s: %s '%s' is not supported", r->path, what, type ? type : "(none)");
}

mw_status get_text(const reader *r, const json_t *part, const char *key, const char *initial, const char **out) {
    return mw_json_get_text((mw_json_source){r->path, part}, key, initial, out);
}

mw_status get_flag(const reader *r, const json_t *part, const char *key, bool initial, bool *out) {
    return mw_json_get_flag((mw_json_source){r->path, part}, key, initial, out);
}

mw_status get_list(const reader *r, const json_t *part, const char *key, const json_t **out) {
    return mw_json_get_list((mw_json_source){r->path, part}, key, out);
}

mw_status get_object(const reader *r, const json_t *part, const char *key, const json_t **out) {
    return mw_json_get_object((mw_json_source){r->path, part}, key, out);
}

mw_status get_whole(const reader *r, const json_t *part, const char *key, int64_t initial, int64_t *out) {
    return mw_json_get_whole((mw_json_source){r->path, part}, key, initial, 0, INT32_MAX, out);
}

mw_status copy_bytes(const reader *r, const json_t *part, const char *key, char **out, size_t *length) {
    const json_t *value = json_object_get(part, key);
    char found[MW_JSON_FOUND];
    if (!json_is_string(value))
        return mw_error(MW_ERR_FORMAT, "%s: '%s': expected a text, found %s", r->path, key,
                        mw_json_found(value, found));
    *length = json_string_length(value);
    return (*out = mw_strndup(json_string_value(value), *length)) ? MW_OK : MW_ERR_MEMORY;
}

mw_status copy_text(const reader *r, const json_t *part, const char *key, const char *initial, char **out) {
    const char *text;
    MW_TRY(get_text(r, part, key, initial, &text));
    return !text || (*out = mw_strdup(text)) ? MW_OK : MW_ERR_MEMORY;
}

mw_status get_character(const reader *r, const json_t *part, const char *key, uint32_t *out) {
    const char *text;
    size_t length = 0;
    MW_TRY(get_text(r, part, key, "", &text));
    if (*text) *out = unicode_read(text, &length);
    if (length && strlen(text) == length) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: '%s': expected one character, found '%s'", r->path, key, text);
}

mw_status read_pattern(const reader *r, const json_t *part, pattern **out) {
    const json_t *object;
    const char *regex;
    MW_TRY(get_object(r, part, "pattern", &object));
    MW_TRY(get_text(r, object, "Regex", NULL, &regex));
    if (regex) return pattern_compile(r->path, regex, out);
    char *literal = NULL;
    size_t length = 0;
    MW_TRY(copy_bytes(r, object, "String", &literal, &length));
    mw_status status = pattern_compile_literal(literal, length, out);
    mw_free(literal);
    return status;
}

mw_status read_components(const reader *r, const json_t *part, const char *key, read_call *read) {
    const char *type;
    const json_t *list;
    if (!part || json_is_null(part)) return MW_OK;
    MW_TRY(get_text(r, part, "type", "", &type));
    if (strcmp(type, "Sequence") != 0) return read(r, part);
    MW_TRY(get_list(r, part, key, &list));
    for (size_t i = 0; i < json_array_size(list); i++) MW_TRY(read_components(r, json_array_get(list, i), key, read));
    return MW_OK;
}

static int base64_digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

bool decode_base64(const char *text, size_t length, unsigned char *out, size_t *made) {
    uint32_t bits = 0;
    int n = 0;
    *made = 0;
    while (length > 0 && text[length - 1] == '=') length--;
    for (size_t i = 0; i < length; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0) return false;
        bits = bits << 6 | (uint32_t)digit;
        if ((n += 6) >= 8) out[(*made)++] = (unsigned char)(bits >> (n -= 8));
    }
    return true;
}

mw_status read_text_part(const reader *r, const char *text, const char *key, read_call *read) {
    json_t *part = NULL;
    if (strcmp(text, "null") == 0) return MW_OK;
    MW_TRY(mw_json_parse(r->path, text, strlen(text), &part));
    mw_status status = read_components(r, part, key, read);
    json_decref(part);
    return status;
}

class_files class_files_open(const char *folder) {
    class_files f = {.config = mw_json_load_optional(folder, "tokenizer_config.json"),
                     .model = mw_json_load_optional(folder, "config.json")};
    f.name = mw_json_text(f.config, "tokenizer_class");
    f.type = mw_json_text(f.model, "model_type");
    return f;
}

void class_files_close(class_files *files) {
    json_decref(files->config);
    json_decref(files->model);
    *files = (class_files){0};
}

mw_status set_path(mw_tokenizer *t, const char *path) {
    t->origin.tokenizer = t->path = mw_strdup(path);
    return t->path ? MW_OK : MW_ERR_MEMORY;
}
