/* Reads pre-tokenizers. */
#include "model/tokenizer/read.h"

#include <string.h>

typedef mw_status read_kind(const reader *r, const json_t *part, splitter *out);

static mw_status read_behavior(const reader *r, const json_t *part, const char *initial, splitter *out) {
    const char *name;
    MW_TRY(get_text(r, part, "behavior", initial, &name));
    for (int i = 0; i < SPLIT_BEHAVIORS; i++)
        if (strcmp(name, split_behavior_names[i]) == 0) return out->behavior = (split_behavior)i, MW_OK;
    return unsupported(r, "split behavior", name);
}

static mw_status read_split(const reader *r, const json_t *part, splitter *out) {
    out->apply = split_by_match;
    MW_TRY(read_behavior(r, part, "", out));
    MW_TRY(get_flag(r, part, "invert", false, &out->invert));
    return read_pattern(r, part, &out->pattern);
}

static mw_status read_punctuation(const reader *r, const json_t *part, splitter *out) {
    out->apply = split_by_match;
    out->is_match = is_punctuation_match;
    return read_behavior(r, part, "Isolated", out);
}

static mw_status read_digits(const reader *r, const json_t *part, splitter *out) {
    bool single;
    out->apply = split_by_match;
    out->is_match = is_numeric_match;
    MW_TRY(get_flag(r, part, "individual_digits", false, &single));
    out->behavior = single ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    return MW_OK;
}

static mw_status read_whitespace_split(const reader *r, const json_t *part, splitter *out) {
    (void)r, (void)part;
    *out = (splitter){.apply = split_by_match, .is_match = is_space_match, .behavior = SPLIT_REMOVED};
    return MW_OK;
}

static mw_status read_delimiter(const reader *r, const json_t *part, splitter *out) {
    *out = (splitter){.apply = split_by_match, .is_match = is_code_match, .behavior = SPLIT_REMOVED};
    return get_character(r, part, "delimiter", &out->code);
}

static mw_status read_metaspace(const reader *r, const json_t *part, splitter *out) {
    const char *scheme;
    bool prefix;
    *out = (splitter){.apply = split_metaspace, .is_match = is_code_match, .behavior = SPLIT_WITH_NEXT};
    MW_TRY(get_character(r, part, "replacement", &out->code));
    MW_TRY(get_flag(r, part, "add_prefix_space", true, &prefix));
    MW_TRY(get_text(r, part, "prepend_scheme", prefix ? "always" : "never", &scheme));
    if (strcmp(scheme, "always") != 0 && strcmp(scheme, "first") != 0 && strcmp(scheme, "never") != 0)
        return unsupported(r, "prepend_scheme", scheme);
    if (!prefix && strcmp(scheme, "never") != 0)
        return mw_error(MW_ERR_FORMAT, "%s: add_prefix_space false and prepend_scheme '%s' contradict", r->path,
                        scheme);
    out->prefix = strcmp(scheme, "always") == 0 ? PREFIX_ALWAYS : *scheme == 'f' ? PREFIX_FIRST : PREFIX_NEVER;
    return get_flag(r, part, "split", true, &out->split);
}

static mw_status read_byte_level(const reader *r, const json_t *part, splitter *out) {
    bool regex, prefix;
    out->apply = split_byte_level;
    out->writes_bytes = true;
    MW_TRY(get_flag(r, part, "add_prefix_space", true, &prefix));
    MW_TRY(get_flag(r, part, "use_regex", true, &regex));
    out->prefix = prefix ? PREFIX_ALWAYS : PREFIX_NEVER;
    return regex ? pattern_compile(r->path, gpt2_pattern, &out->pattern) : MW_OK;
}

static mw_status read_fixed_length(const reader *r, const json_t *part, splitter *out) {
    out->apply = split_fixed_length;
    return mw_json_get_whole((mw_json_source){r->path, part}, "length", 5, 1, INT32_MAX, &out->length);
}

static const struct {
    const char *type;
    split_call *apply; /* of kinds without options */
    read_kind *read;
} kinds[] = {
    {"ByteLevel", NULL, read_byte_level},     {"Split", NULL, read_split},
    {"Metaspace", NULL, read_metaspace},      {"Digits", NULL, read_digits},
    {"Punctuation", NULL, read_punctuation},  {"WhitespaceSplit", NULL, read_whitespace_split},
    {"Whitespace", split_whitespace, NULL},   {"BertPreTokenizer", split_bert, NULL},
    {"UnicodeScripts", split_scripts, NULL},  {"CharDelimiterSplit", NULL, read_delimiter},
    {"FixedLength", NULL, read_fixed_length},
};

mw_status read_splitter(const reader *r, const json_t *part) {
    splitters *list = &r->t->splitters;
    const char *type;
    MW_TRY(get_text(r, part, "type", "", &type));
    if (!MW_GROW(list->items, list->count, list->capacity)) return MW_ERR_MEMORY;
    splitter *made = &list->items[list->count++];
    *made = (splitter){0};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0) continue;
        made->apply = kinds[i].apply;
        return kinds[i].read ? kinds[i].read(r, part, made) : MW_OK;
    }
    return unsupported(r, "pre-tokenizer", type);
}
