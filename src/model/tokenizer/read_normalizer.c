/* Reads normalizers. */
#include "model/tokenizer/read.h"

#include <string.h>

typedef mw_status read_kind(const reader *r, const json_t *part, normalizer *out);

static mw_status read_prepend(const reader *r, const json_t *part, normalizer *out) {
    out->apply = normalize_prepend;
    return copy_bytes(r, part, "prepend", &out->content, &out->content_length);
}

static mw_status read_replace(const reader *r, const json_t *part, normalizer *out) {
    out->apply = normalize_replace;
    MW_TRY(read_pattern(r, part, &out->pattern));
    return copy_bytes(r, part, "content", &out->content, &out->content_length);
}

static mw_status read_strip(const reader *r, const json_t *part, normalizer *out) {
    out->apply = normalize_strip;
    MW_TRY(get_flag(r, part, "strip_left", true, &out->strip_left));
    return get_flag(r, part, "strip_right", true, &out->strip_right);
}

static mw_status read_bert(const reader *r, const json_t *part, normalizer *out) {
    out->apply = normalize_bert;
    MW_TRY(get_flag(r, part, "clean_text", true, &out->clean));
    MW_TRY(get_flag(r, part, "handle_chinese_chars", true, &out->ideographs));
    MW_TRY(get_flag(r, part, "lowercase", true, &out->lower_case));
    return get_flag(r, part, "strip_accents", out->lower_case, &out->strip_accents);
}

static mw_status read_charsmap(const reader *r, const json_t *part, normalizer *out) {
    const char *text;
    size_t length = 0;
    MW_TRY(get_text(r, part, "precompiled_charsmap", "", &text));
    unsigned char *bytes = mw_alloc(strlen(text) + 1);
    if (!bytes) return MW_ERR_MEMORY;
    mw_status status = decode_base64(text, strlen(text), bytes, &length)
                           ? normalizer_set_charsmap(r->path, out, bytes, length)
                           : mw_error(MW_ERR_FORMAT, "%s: precompiled_charsmap: expected base64", r->path);
    mw_free(bytes);
    return status;
}

static const struct {
    const char *type;
    normalize_call *apply; /* of kinds without options */
    read_kind *read;
} kinds[] = {
    {"Lowercase", normalize_lower, NULL}, {"StripAccents", normalize_strip_accents, NULL},
    {"Nmt", normalize_nmt, NULL},         {"ByteLevel", normalize_byte_level, NULL},
    {"Prepend", NULL, read_prepend},      {"Replace", NULL, read_replace},
    {"Strip", NULL, read_strip},          {"BertNormalizer", NULL, read_bert},
    {"Precompiled", NULL, read_charsmap},
};

mw_status read_normalizer(const reader *r, const json_t *part) {
    normalizers *list = &r->t->normalizers;
    const char *type;
    MW_TRY(get_text(r, part, "type", "", &type));
    if (!MW_GROW(list->items, list->count, list->capacity)) return MW_ERR_MEMORY;
    normalizer *made = &list->items[list->count++];
    *made = (normalizer){0};
    if (normalizer_set_form(made, type)) return MW_OK;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0) continue;
        made->apply = kinds[i].apply;
        return kinds[i].read ? kinds[i].read(r, part, made) : MW_OK;
    }
    return unsupported(r, "normalizer", type);
}
