/* Reads decoders, and the template that puts tokens around a text. */
#include "model/tokenizer/read.h"

#include <string.h>

typedef mw_status read_kind(const reader *r, const json_t *part, decoder *out);

static mw_status read_metaspace(const reader *r, const json_t *part, decoder *out) {
    const char *scheme;
    bool prefix;
    out->apply = decode_metaspace;
    MW_TRY(get_character(r, part, "replacement", &out->code));
    MW_TRY(get_flag(r, part, "add_prefix_space", true, &prefix));
    MW_TRY(get_text(r, part, "prepend_scheme", "always", &scheme));
    out->drops_first = strcmp(scheme, "never") != 0 && prefix;
    return MW_OK;
}

static mw_status read_replace(const reader *r, const json_t *part, decoder *out) {
    out->apply = decode_replace;
    MW_TRY(read_pattern(r, part, &out->pattern));
    return copy_text(r, part, "content", "", &out->text);
}

static mw_status read_strip(const reader *r, const json_t *part, decoder *out) {
    out->apply = decode_strip;
    MW_TRY(get_character(r, part, "content", &out->code));
    MW_TRY(get_whole(r, part, "start", 0, &out->start));
    return get_whole(r, part, "stop", 0, &out->stop);
}

static mw_status read_wordpiece(const reader *r, const json_t *part, decoder *out) {
    out->apply = decode_wordpiece;
    MW_TRY(copy_text(r, part, "prefix", "##", &out->text));
    return get_flag(r, part, "cleanup", true, &out->cleanup);
}

static mw_status read_bpe(const reader *r, const json_t *part, decoder *out) {
    out->apply = decode_bpe;
    return copy_text(r, part, "suffix", "</w>", &out->text);
}

static mw_status read_ctc(const reader *r, const json_t *part, decoder *out) {
    out->apply = decode_ctc;
    MW_TRY(copy_text(r, part, "pad_token", "<pad>", &out->text));
    MW_TRY(copy_text(r, part, "word_delimiter_token", "|", &out->other));
    return get_flag(r, part, "cleanup", true, &out->cleanup);
}

static const struct {
    const char *type;
    decode_call *apply; /* of kinds without options */
    read_kind *read;
} kinds[] = {
    {"ByteLevel", decode_byte_level, NULL},
    {"ByteFallback", decode_byte_fallback, NULL},
    {"Fuse", decode_fuse, NULL},
    {"Metaspace", NULL, read_metaspace},
    {"Replace", NULL, read_replace},
    {"Strip", NULL, read_strip},
    {"WordPiece", NULL, read_wordpiece},
    {"BPEDecoder", NULL, read_bpe},
    {"CTC", NULL, read_ctc},
};

mw_status read_decoder(const reader *r, const json_t *part) {
    decoders *list = &r->t->decoders;
    const char *type;
    MW_TRY(get_text(r, part, "type", "", &type));
    if (!MW_GROW(list->items, list->count, list->capacity)) return MW_ERR_MEMORY;
    decoder *made = &list->items[list->count++];
    *made = (decoder){0};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0) continue;
        made->apply = kinds[i].apply;
        return kinds[i].read ? kinds[i].read(r, part, made) : MW_OK;
    }
    return unsupported(r, "decoder", type);
}

/* ---- the template ------------------------------------------------------------------------------------ */

static mw_status set_bos(const reader *r, const char *name, const json_t *id) {
    mw_tokenizer *t = r->t;
    int32_t known = vocabulary_find(&t->vocabulary, name, strlen(name));
    if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < TOKEN_ID_MAX)
        known = (int32_t)json_integer_value(id);
    t->bos = known < t->vocabulary.size && known >= 0 && t->vocabulary.token[known] ? known : -1;
    t->adds_bos = t->bos >= 0;
    if (t->adds_bos) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: the template's token '%s' is not in the vocabulary", r->path, name);
}

/* The first token of "single", by the id that "special_tokens" has for it. */
static mw_status read_template(const reader *r, const json_t *part) {
    const json_t *single, *first, *table, *ids;
    const char *name;
    MW_TRY(get_list(r, part, "single", &single));
    MW_TRY(get_object(r, json_array_get(single, 0), "SpecialToken", &first));
    MW_TRY(get_text(r, first, "id", NULL, &name));
    if (!name) return MW_OK;
    MW_TRY(get_object(r, part, "special_tokens", &table));
    MW_TRY(get_list(r, json_object_get(table, name), "ids", &ids));
    return set_bos(r, name, json_array_get(ids, 0));
}

/* RobertaProcessing and BertProcessing: "cls": [token, id] comes first. */
static mw_status read_cls(const reader *r, const json_t *part) {
    const json_t *cls;
    MW_TRY(get_list(r, part, "cls", &cls));
    const char *name = json_string_value(json_array_get(cls, 0));
    if (!name) return mw_error(MW_ERR_FORMAT, "%s: 'cls': expected a token and its id", r->path);
    return set_bos(r, name, json_array_get(cls, 1));
}

mw_status read_processor(const reader *r, const json_t *part) {
    const char *type;
    MW_TRY(get_text(r, part, "type", "", &type));
    if (strcmp(type, "ByteLevel") == 0) return MW_OK;
    if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0) return read_cls(r, part);
    return strcmp(type, "TemplateProcessing") == 0 ? read_template(r, part) : unsupported(r, "post-processor", type);
}
