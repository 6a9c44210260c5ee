/* Reads the model of tokenizer.json: BPE, Unigram, WordPiece or WordLevel. */
#include "model/tokenizer/read.h"

#include <string.h>

/* ---- vocabulary ------------------------------------------------------------------------------------------ */

mw_status check_id(const reader *r, const char *token, const json_t *id) {
    char found[MW_JSON_FOUND];
    if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < TOKEN_ID_MAX) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: token '%.64s': expected a whole number from 0 to %d as its id, found %s",
                    r->path, token, TOKEN_ID_MAX - 1, mw_json_found(id, found));
}

mw_status begin_vocabulary(mw_tokenizer *t, int64_t size) {
    t->model.vocabulary_size = size;
    MW_TRY(vocabulary_make(&t->vocabulary, size));
    return vocabulary_make(&t->model.tokens, size);
}

mw_status put_token(mw_tokenizer *t, const char *token, size_t length, int32_t id) {
    size_t n = length;
    MW_TRY(vocabulary_put(&t->vocabulary, token, length, id));
    if (!t->model.bpe.byte_level) return vocabulary_put(&t->model.tokens, token, length, id);
    char *raw = mw_alloc(length + 1);
    if (!raw) return MW_ERR_MEMORY;
    mw_status status = MW_OK;
    if (byte_level_bytes(token, length, raw, &n)) status = vocabulary_put(&t->model.tokens, raw, n, id);
    mw_free(raw);
    return status;
}

/* Adds a key of the vocabulary, which may contain a NUL. */
static mw_status put_key(mw_tokenizer *t, const char *key, int32_t id) {
    if (!strstr(key, "\xc0\x80")) return put_token(t, key, strlen(key), id);
    char *token = mw_alloc(strlen(key) + 1);
    if (!token) return MW_ERR_MEMORY;
    mw_status status = put_token(t, token, mw_json_key_bytes(key, token), id);
    mw_free(token);
    return status;
}

mw_status put_vocabulary(const reader *r, const json_t *vocab) {
    const char *token;
    json_t *id;
    if (json_object_size(vocab) == 0) return mw_error(MW_ERR_FORMAT, "%s: the model has no vocabulary", r->path);
    MW_TRY(begin_vocabulary(r->t, (int64_t)json_object_size(vocab)));
    json_object_foreach((json_t *)(uintptr_t)vocab, token, id) {
        MW_TRY(check_id(r, token, id));
        MW_TRY(put_key(r->t, token, (int32_t)json_integer_value(id)));
    }
    return MW_OK;
}

/* ---- merges ---------------------------------------------------------------------------------------------- */

mw_status put_merge(const reader *r, token_text left, token_text right, int32_t rank) {
    const vocabulary *v = &r->t->vocabulary;
    const char *prefix = r->t->model.bpe.prefix;
    size_t skipped = prefix ? strlen(prefix) : 0;
    mw_text joined = {0};
    mw_text_add(&joined, left.bytes, left.length);
    if (right.length >= skipped) mw_text_add(&joined, right.bytes + skipped, right.length - skipped);
    if (joined.failed) return MW_ERR_MEMORY;
    int32_t a = vocabulary_find(v, left.bytes, left.length), b = vocabulary_find(v, right.bytes, right.length);
    int32_t merged = joined.data && right.length >= skipped ? vocabulary_find(v, joined.data, joined.length) : -1;
    mw_text_free(&joined);
    if (a < 0 || b < 0 || merged < 0)
        return mw_error(MW_ERR_FORMAT, "%s: merge %d ('%.*s' with '%.*s') names a token that is not in the vocabulary",
                        r->path, (int)rank, (int)left.length, left.bytes, (int)right.length, right.bytes);
    merges_put(&r->t->model.bpe.merges, a, b, rank, merged);
    return MW_OK;
}

bool split_pair(const char *line, size_t length, token_text *left, token_text *right) {
    const char *space = memchr(line, ' ', length);
    if (!space) return false;
    *left = (token_text){line, (size_t)(space - line)};
    *right = (token_text){space + 1, length - left->length - 1};
    return memchr(right->bytes, ' ', right->length) == NULL;
}

/* Reads a merge: a list of two texts, or one text with a space. */
static bool read_pair(const json_t *m, token_text *left, token_text *right) {
    if (json_is_string(m)) return split_pair(json_string_value(m), json_string_length(m), left, right);
    const json_t *a = json_array_get(m, 0), *b = json_array_get(m, 1);
    *left = (token_text){json_string_value(a), json_string_length(a)};
    *right = (token_text){json_string_value(b), json_string_length(b)};
    return json_array_size(m) == 2 && left->bytes && right->bytes;
}

static bool is_version_line(const json_t *m) {
    return json_is_string(m) && strncmp(json_string_value(m), "#version", 8) == 0;
}

static mw_status read_merges(const reader *r, const json_t *list) {
    int32_t rank = 0;
    MW_TRY(merges_make(&r->t->model.bpe.merges, (int64_t)json_array_size(list)));
    for (size_t i = 0; i < json_array_size(list); i++) {
        token_text left, right;
        const json_t *item = json_array_get(list, i);
        if (is_version_line(item)) continue;
        if (!read_pair(item, &left, &right))
            return mw_error(MW_ERR_FORMAT, "%s: merge %zu: expected a pair of tokens", r->path, i);
        MW_TRY(put_merge(r, left, right, rank++));
    }
    return MW_OK;
}

/* ---- models ---------------------------------------------------------------------------------------------- */

/* Words stay raw bytes, which is faster, if ByteLevel is the last pre-tokenizer and the model sees bytes alike. */
static void choose_byte_level(mw_tokenizer *t) {
    bpe *b = &t->model.bpe;
    int64_t count = 0;
    bool last = false;
    for (int64_t i = 0; i < t->splitters.count; i++) {
        last = t->splitters.items[i].apply == split_byte_level;
        count += last;
    }
    b->byte_level = count == 1 && last && !b->prefix && !b->suffix && !b->byte_fallback;
    if (b->byte_level) t->splitters.items[t->splitters.count - 1].writes_bytes = false;
}

static mw_status refuse_dropout(const reader *r, const json_t *model) {
    double dropout;
    MW_TRY(mw_json_get_real((mw_json_source){r->path, model}, "dropout", 0, &dropout));
    return dropout > 0 ? unsupported(r, "option of the model", "dropout") : MW_OK;
}

/* An empty prefix or suffix is none. */
static mw_status read_affix(const reader *r, const json_t *model, const char *key, char **out) {
    MW_TRY(copy_text(r, model, key, NULL, out));
    if (*out && !**out) {
        mw_free(*out);
        *out = NULL;
    }
    return MW_OK;
}

static mw_status read_bpe(const reader *r, const json_t *model) {
    token_model *m = &r->t->model;
    const json_t *vocab, *list;
    MW_TRY(refuse_dropout(r, model));
    MW_TRY(read_affix(r, model, "continuing_subword_prefix", &m->bpe.prefix));
    MW_TRY(read_affix(r, model, "end_of_word_suffix", &m->bpe.suffix));
    MW_TRY(get_flag(r, model, "byte_fallback", false, &m->bpe.byte_fallback));
    MW_TRY(get_flag(r, model, "fuse_unk", false, &m->bpe.fuse_unk));
    MW_TRY(get_flag(r, model, "ignore_merges", false, &m->bpe.ignore_merges));
    MW_TRY(copy_text(r, model, "unk_token", NULL, &m->unk_token));
    choose_byte_level(r->t);
    MW_TRY(get_object(r, model, "vocab", &vocab));
    MW_TRY(put_vocabulary(r, vocab));
    MW_TRY(get_list(r, model, "merges", &list));
    return read_merges(r, list);
}

static mw_status read_scored_token(const reader *r, const json_t *item, int32_t id) {
    vocabulary *all = &r->t->vocabulary, *tokens = &r->t->model.tokens;
    const json_t *token = json_array_get(item, 0), *score = json_array_get(item, 1);
    if (!json_is_string(token) || !json_is_number(score) || json_array_size(item) != 2)
        return mw_error(MW_ERR_FORMAT, "%s: token %d: expected a text and its score", r->path, (int)id);
    MW_TRY(put_token(r->t, json_string_value(token), json_string_length(token), id));
    vocabulary_prefer(all, id); /* the last of equal tokens counts */
    vocabulary_prefer(tokens, id);
    r->t->model.unigram.scores[id] = json_number_value(score);
    return MW_OK;
}

static mw_status read_unigram(const reader *r, const json_t *model) {
    token_model *m = &r->t->model;
    const json_t *list;
    int64_t unk;
    MW_TRY(get_list(r, model, "vocab", &list));
    size_t size = json_array_size(list);
    if (size == 0 || size > TOKEN_ID_MAX) return mw_error(MW_ERR_FORMAT, "%s: the model has %zu tokens", r->path, size);
    MW_TRY(get_flag(r, model, "byte_fallback", false, &m->unigram.byte_fallback));
    MW_TRY(mw_json_get_whole((mw_json_source){r->path, model}, "unk_id", -1, 0, (int64_t)size - 1, &unk));
    m->unk = (int32_t)unk;
    if (!(m->unigram.scores = mw_calloc(size, sizeof *m->unigram.scores))) return MW_ERR_MEMORY;
    MW_TRY(begin_vocabulary(r->t, (int64_t)size));
    for (size_t i = 0; i < size; i++) MW_TRY(read_scored_token(r, json_array_get(list, i), (int32_t)i));
    return MW_OK;
}

static mw_status read_wordpiece(const reader *r, const json_t *model) {
    token_model *m = &r->t->model;
    const json_t *vocab;
    MW_TRY(copy_text(r, model, "unk_token", "[UNK]", &m->unk_token));
    MW_TRY(copy_text(r, model, "continuing_subword_prefix", "##", &m->wordpiece.prefix));
    MW_TRY(get_whole(r, model, "max_input_chars_per_word", 100, &m->wordpiece.most_characters));
    MW_TRY(get_object(r, model, "vocab", &vocab));
    return put_vocabulary(r, vocab);
}

static mw_status read_wordlevel(const reader *r, const json_t *model) {
    const json_t *vocab;
    MW_TRY(copy_text(r, model, "unk_token", "<unk>", &r->t->model.unk_token));
    MW_TRY(get_object(r, model, "vocab", &vocab));
    return put_vocabulary(r, vocab);
}

static const struct {
    const char *type;
    encode_call *encode;
    mw_status (*read)(const reader *r, const json_t *model);
} kinds[] = {
    {"BPE", bpe_encode, read_bpe},
    {"Unigram", unigram_encode, read_unigram},
    {"WordPiece", wordpiece_encode, read_wordpiece},
    {"WordLevel", wordlevel_encode, read_wordlevel},
};

/* Old files do not name the type. */
static const char *guess_type(const json_t *model) {
    if (json_object_get(model, "merges")) return "BPE";
    if (json_is_array(json_object_get(model, "vocab"))) return "Unigram";
    return json_object_get(model, "max_input_chars_per_word") ? "WordPiece" : "WordLevel";
}

mw_status read_model(const reader *r, const json_t *model) {
    const char *type;
    MW_TRY(get_text(r, model, "type", guess_type(model), &type));
    r->t->model.unk = -1;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0) continue;
        r->t->model.encode = kinds[i].encode;
        return kinds[i].read(r, model);
    }
    return unsupported(r, "tokenizer model", type);
}
