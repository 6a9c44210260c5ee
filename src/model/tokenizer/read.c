/* Reads tokenizer.json, or vocab.json with merges.txt, and tokenizer_config.json. */
#include "model/tokenizer/tokenizer_private.h"

#include <string.h>
#include <utf8proc.h>

enum { ID_MAX = 1 << 24 };

typedef struct reader {
    const char *path; /* of the file being read */
    mw_tokenizer *t;
} reader;

static mw_status unsupported(const reader *r, const char *what, const char *type) {
    return mw_error(MW_ERR_UNSUPPORTED, "%s: %s '%s' is not supported", r->path, what, type ? type : "(none)");
}

/* Read members of an object of the file and check their types. */
static mw_status get_text(const reader *r, const json_t *part, const char *key, const char *initial, const char **out) {
    return mw_json_get_text((mw_json_source){r->path, part}, key, initial, out);
}

static mw_status get_flag(const reader *r, const json_t *part, const char *key, bool initial, bool *out) {
    return mw_json_get_flag((mw_json_source){r->path, part}, key, initial, out);
}

static mw_status get_list(const reader *r, const json_t *part, const char *key, const json_t **out) {
    return mw_json_get_list((mw_json_source){r->path, part}, key, out);
}

static mw_status get_object(const reader *r, const json_t *part, const char *key, const json_t **out) {
    return mw_json_get_object((mw_json_source){r->path, part}, key, out);
}

/* Copies a text, "" if absent. */
static mw_status copy_text(const reader *r, const json_t *part, const char *key, char **out) {
    const char *text;
    MW_TRY(get_text(r, part, key, "", &text));
    return (*out = mw_strdup(text)) ? MW_OK : MW_ERR_MEMORY;
}

static step *new_step(steps *list, step_kind kind) {
    if (!MW_GROW(list->items, list->count, list->capacity)) return NULL;
    step *s = &list->items[list->count++];
    *s = (step){.kind = kind};
    return s;
}

/* ---- normalizers ------------------------------------------------------------------------------------- */

static mw_status read_normalizer(const reader *r, const json_t *n);

static mw_status read_each(const reader *r, const json_t *part, const char *key,
                           mw_status (*read)(const reader *, const json_t *)) {
    const json_t *array;
    MW_TRY(get_list(r, part, key, &array));
    for (size_t i = 0; i < json_array_size(array); i++) MW_TRY(read(r, json_array_get(array, i)));
    return MW_OK;
}

static const struct {
    const char *type;
    int options;
} unicode_forms[] = {{"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
                     {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
                     {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
                     {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};

static mw_status read_replace(const reader *r, const json_t *n) {
    const json_t *pattern;
    const char *literal;
    MW_TRY(get_object(r, n, "pattern", &pattern));
    MW_TRY(get_text(r, pattern, "String", NULL, &literal));
    if (!literal) return unsupported(r, "normalizer", "Replace by a pattern");
    step *made = new_step(&r->t->normalizers, STEP_REPLACE);
    if (!made || !(made->text = mw_strdup(literal))) return MW_ERR_MEMORY;
    return copy_text(r, n, "content", &made->replacement);
}

static mw_status read_normalizer(const reader *r, const json_t *n) {
    const char *type;
    if (!n || json_is_null(n)) return MW_OK;
    MW_TRY(get_text(r, n, "type", "", &type));
    if (strcmp(type, "Sequence") == 0) return read_each(r, n, "normalizers", read_normalizer);
    steps *list = &r->t->normalizers;
    for (size_t i = 0; i < sizeof unicode_forms / sizeof *unicode_forms; i++)
        if (strcmp(type, unicode_forms[i].type) == 0) {
            step *made = new_step(list, STEP_UNICODE);
            if (made) made->unicode = unicode_forms[i].options;
            return made ? MW_OK : MW_ERR_MEMORY;
        }
    if (strcmp(type, "Prepend") == 0) {
        step *made = new_step(list, STEP_PREPEND);
        return made ? copy_text(r, n, "prepend", &made->text) : MW_ERR_MEMORY;
    }
    return strcmp(type, "Replace") == 0 ? read_replace(r, n) : unsupported(r, "normalizer", type);
}

/* ---- pre-tokenizers ---------------------------------------------------------------------------------- */

static mw_status quote_regex(const char *literal, mw_text *out) {
    for (const char *p = literal; *p; p++) {
        if (strchr("\\^$.[]|()?*+{}-#", *p)) mw_text_add(out, "\\", 1);
        mw_text_add(out, p, 1);
    }
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

static mw_status read_split(const reader *r, const json_t *p) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext"};
    const json_t *pattern;
    const char *regex, *literal, *behavior;
    MW_TRY(get_object(r, p, "pattern", &pattern));
    MW_TRY(get_text(r, pattern, "Regex", NULL, &regex));
    MW_TRY(get_text(r, pattern, "String", NULL, &literal));
    MW_TRY(get_text(r, p, "behavior", "", &behavior));
    step *made = new_step(&r->t->splitters, STEP_SPLIT);
    if (!made) return MW_ERR_MEMORY;
    MW_TRY(get_flag(r, p, "invert", false, &made->invert));
    int chosen = -1;
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], behavior) == 0) chosen = i;
    if (chosen < 0) return unsupported(r, "split behavior", behavior);
    made->behavior = (split_behavior)chosen;
    if (made->invert && made->behavior != SPLIT_REMOVED && made->behavior != SPLIT_ISOLATED)
        return unsupported(r, "inverted split behavior", behavior);
    if (regex) return regex_compile(r->path, regex, made);
    if (!literal) return unsupported(r, "split pattern", NULL);
    mw_text quoted = {0};
    mw_status status = quote_regex(literal, &quoted);
    if (status == MW_OK) status = regex_compile(r->path, quoted.length ? quoted.data : "(?!)", made);
    mw_text_free(&quoted);
    return status;
}

static mw_status read_metaspace(const reader *r, const json_t *p) {
    step *made = new_step(&r->t->splitters, STEP_METASPACE);
    if (!made) return MW_ERR_MEMORY;
    const char *mark, *scheme;
    bool prefix;
    MW_TRY(get_text(r, p, "replacement", SPACE_MARK, &mark));
    if (strcmp(mark, SPACE_MARK) != 0) return unsupported(r, "metaspace replacement", mark);
    MW_TRY(get_flag(r, p, "add_prefix_space", true, &prefix));
    MW_TRY(get_text(r, p, "prepend_scheme", prefix ? "always" : "never", &scheme));
    made->prefix_space = strcmp(scheme, "never") != 0;
    made->only_first = strcmp(scheme, "first") == 0;
    MW_TRY(get_flag(r, p, "split", true, &made->split));
    made->behavior = SPLIT_WITH_NEXT;
    return made->split ? regex_compile(r->path, SPACE_MARK, made) : MW_OK;
}

static mw_status read_pattern_step(const reader *r, const char *pattern, split_behavior behavior) {
    step *made = new_step(&r->t->splitters, STEP_SPLIT);
    if (!made) return MW_ERR_MEMORY;
    made->behavior = behavior;
    return regex_compile(r->path, pattern, made);
}

static mw_status read_byte_level(const reader *r, const json_t *p) {
    bool regex;
    step *made = new_step(&r->t->splitters, STEP_BYTE_LEVEL);
    if (!made) return MW_ERR_MEMORY;
    MW_TRY(get_flag(r, p, "add_prefix_space", true, &made->prefix_space));
    MW_TRY(get_flag(r, p, "use_regex", true, &regex));
    r->t->model.byte_level = true;
    return regex ? regex_compile(r->path, gpt2_pattern, made) : MW_OK;
}

static mw_status read_splitter(const reader *r, const json_t *p) {
    const char *type;
    bool single;
    if (!p || json_is_null(p)) return MW_OK;
    MW_TRY(get_text(r, p, "type", "", &type));
    if (strcmp(type, "Sequence") == 0) return read_each(r, p, "pretokenizers", read_splitter);
    if (strcmp(type, "Split") == 0) return read_split(r, p);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(r, p);
    if (strcmp(type, "WhitespaceSplit") == 0) return read_pattern_step(r, "\\s+", SPLIT_REMOVED);
    if (strcmp(type, "ByteLevel") == 0) return read_byte_level(r, p);
    if (strcmp(type, "Digits") != 0) return unsupported(r, "pre-tokenizer", type);
    MW_TRY(get_flag(r, p, "individual_digits", false, &single));
    return read_pattern_step(r, single ? "\\p{N}" : "\\p{N}+", SPLIT_ISOLATED);
}

/* ---- decoders ---------------------------------------------------------------------------------------- */

static mw_status read_metaspace_decoder(const reader *r, const json_t *d) {
    const char *scheme;
    bool prefix;
    MW_TRY(get_text(r, d, "prepend_scheme", "always", &scheme));
    MW_TRY(get_flag(r, d, "add_prefix_space", true, &prefix));
    r->t->decoding.mark_to_space = true;
    r->t->decoding.drop_first_space = strcmp(scheme, "never") != 0 && prefix;
    return MW_OK;
}

/* Accepts the replacement of the space mark by a space only. */
static mw_status read_replace_decoder(const reader *r, const json_t *d) {
    const json_t *pattern;
    const char *literal, *content;
    MW_TRY(get_object(r, d, "pattern", &pattern));
    MW_TRY(get_text(r, pattern, "String", "", &literal));
    MW_TRY(get_text(r, d, "content", "", &content));
    if (strcmp(literal, SPACE_MARK) != 0 || strcmp(content, " ") != 0) return unsupported(r, "decoder", "Replace");
    r->t->decoding.mark_to_space = true;
    return MW_OK;
}

/* Accepts the removal of one space at the start only. */
static mw_status read_strip_decoder(const reader *r, const json_t *d) {
    const char *content;
    int64_t start, stop;
    mw_json_source object = {r->path, d};
    MW_TRY(get_text(r, d, "content", "", &content));
    MW_TRY(mw_json_get_whole(object, "start", 0, 0, INT32_MAX, &start));
    MW_TRY(mw_json_get_whole(object, "stop", 0, 0, INT32_MAX, &stop));
    if (strcmp(content, " ") != 0 || start != 1 || stop != 0) return unsupported(r, "decoder", "Strip");
    r->t->decoding.drop_first_space = true;
    return MW_OK;
}

static mw_status read_decoder(const reader *r, const json_t *d) {
    const char *type;
    if (!d || json_is_null(d)) return MW_OK;
    MW_TRY(get_text(r, d, "type", "", &type));
    if (strcmp(type, "Sequence") == 0) return read_each(r, d, "decoders", read_decoder);
    if (strcmp(type, "Fuse") == 0) return MW_OK;
    if (strcmp(type, "Metaspace") == 0) return read_metaspace_decoder(r, d);
    if (strcmp(type, "Replace") == 0) return read_replace_decoder(r, d);
    if (strcmp(type, "Strip") == 0) return read_strip_decoder(r, d);
    if (strcmp(type, "ByteLevel") == 0)
        r->t->decoding.byte_level = true;
    else if (strcmp(type, "ByteFallback") == 0)
        r->t->decoding.byte_fallback = true;
    else
        return unsupported(r, "decoder", type);
    return MW_OK;
}

/* ---- the template ------------------------------------------------------------------------------------ */

static mw_status read_template(const reader *r, const json_t *p) {
    const json_t *single, *first;
    const char *name;
    MW_TRY(get_list(r, p, "single", &single));
    MW_TRY(get_object(r, json_array_get(single, 0), "SpecialToken", &first));
    MW_TRY(get_text(r, first, "id", NULL, &name));
    if (!name) return MW_OK;
    r->t->bos = vocabulary_find(&r->t->vocabulary, name, strlen(name));
    r->t->adds_bos = r->t->bos >= 0;
    return r->t->adds_bos
               ? MW_OK
               : mw_error(MW_ERR_FORMAT, "%s: the template's token '%s' is not in the vocabulary", r->path, name);
}

static mw_status read_processor(const reader *r, const json_t *p) {
    const char *type;
    if (!p || json_is_null(p)) return MW_OK;
    MW_TRY(get_text(r, p, "type", "", &type));
    if (strcmp(type, "Sequence") == 0) return read_each(r, p, "processors", read_processor);
    if (strcmp(type, "ByteLevel") == 0) return MW_OK;
    return strcmp(type, "TemplateProcessing") == 0 ? read_template(r, p) : unsupported(r, "post-processor", type);
}

/* ---- vocabulary and merges --------------------------------------------------------------------------- */

static mw_status check_id(const reader *r, const char *token, const json_t *id, int64_t *size) {
    char found[MW_JSON_FOUND];
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= ID_MAX)
        return mw_error(MW_ERR_FORMAT, "%s: token '%.64s': expected a whole number from 0 to %d as its id, found %s",
                        r->path, token, ID_MAX - 1, mw_json_found(id, found));
    if (json_integer_value(id) >= *size) *size = json_integer_value(id) + 1;
    return MW_OK;
}

static mw_status largest_id(const reader *r, const json_t *vocab, const json_t *added, int64_t *size) {
    const char *token;
    json_t *id;
    *size = 0;
    json_object_foreach((json_t *)(uintptr_t)vocab, token, id) MW_TRY(check_id(r, token, id, size));
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *item = json_array_get(added, i);
        const char *content = mw_json_text(item, "content");
        MW_TRY(check_id(r, content ? content : "(added)", json_object_get(item, "id"), size));
    }
    return MW_OK;
}

/* Adds a token to both tables: as the file writes it, and as merges use it (raw bytes in byte-level models). */
static mw_status put_token(mw_tokenizer *t, const char *token, size_t length, int32_t id) {
    size_t n = length;
    MW_TRY(vocabulary_put(&t->vocabulary, token, length, id));
    if (!t->model.byte_level) return vocabulary_put(&t->model.tokens, token, length, id);
    char *raw = mw_alloc(length + 1);
    if (!raw) return MW_ERR_MEMORY;
    mw_status status = MW_OK;
    if (byte_level_bytes(token, length, raw, &n)) status = vocabulary_put(&t->model.tokens, raw, n, id);
    mw_free(raw);
    return status;
}

/* Adds a key of the vocabulary, which may contain a NUL. */
static mw_status put_vocabulary_key(mw_tokenizer *t, const char *key, int32_t id) {
    if (!strstr(key, "\xc0\x80")) return put_token(t, key, strlen(key), id);
    char *token = mw_alloc(strlen(key) + 1);
    if (!token) return MW_ERR_MEMORY;
    mw_status status = put_token(t, token, mw_json_key_bytes(key, token), id);
    mw_free(token);
    return status;
}

static mw_status read_vocab(const reader *r, const json_t *vocab, const json_t *added) {
    int64_t size;
    if (json_object_size(vocab) == 0) return mw_error(MW_ERR_FORMAT, "%s: the model has no vocabulary", r->path);
    MW_TRY(largest_id(r, vocab, added, &size));
    MW_TRY(vocabulary_make(&r->t->vocabulary, size));
    MW_TRY(vocabulary_make(&r->t->model.tokens, size));
    const char *token;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)vocab, token, id)
        MW_TRY(put_vocabulary_key(r->t, token, (int32_t)json_integer_value(id)));
    return MW_OK;
}

/* A token of a merge; borrowed. */
typedef struct token_text {
    const char *bytes;
    size_t length;
} token_text;

static mw_status put_merge(const reader *r, token_text left, token_text right, int32_t rank) {
    const vocabulary *v = &r->t->vocabulary;
    mw_text joined = {0};
    mw_text_add(&joined, left.bytes, left.length);
    mw_text_add(&joined, right.bytes, right.length);
    if (joined.failed) return MW_ERR_MEMORY;
    int32_t a = vocabulary_find(v, left.bytes, left.length), b = vocabulary_find(v, right.bytes, right.length);
    int32_t merged = vocabulary_find(v, joined.data, joined.length);
    mw_text_free(&joined);
    if (a < 0 || b < 0 || merged < 0)
        return mw_error(MW_ERR_FORMAT, "%s: merge %d ('%.*s' with '%.*s') names a token that is not in the vocabulary",
                        r->path, (int)rank, (int)left.length, left.bytes, (int)right.length, right.bytes);
    merges_put(&r->t->model.merges, a, b, rank, merged);
    return MW_OK;
}

/* Splits a line at its first space; false: no space. */
static bool split_pair(const char *line, size_t length, token_text *left, token_text *right) {
    const char *space = memchr(line, ' ', length);
    if (!space) return false;
    *left = (token_text){line, (size_t)(space - line)};
    *right = (token_text){space + 1, length - left->length - 1};
    return true;
}

/* Reads a merge: a list of two texts, or one text with a space. */
static bool read_pair(const json_t *m, token_text *left, token_text *right) {
    if (json_is_string(m)) return split_pair(json_string_value(m), json_string_length(m), left, right);
    const json_t *a = json_array_get(m, 0), *b = json_array_get(m, 1);
    *left = (token_text){json_string_value(a), json_string_length(a)};
    *right = (token_text){json_string_value(b), json_string_length(b)};
    return json_array_size(m) == 2 && left->bytes && right->bytes;
}

static mw_status read_merges(const reader *r, const json_t *list) {
    MW_TRY(merges_make(&r->t->model.merges, (int64_t)json_array_size(list)));
    for (size_t i = 0; i < json_array_size(list); i++) {
        token_text left, right;
        if (!read_pair(json_array_get(list, i), &left, &right))
            return mw_error(MW_ERR_FORMAT, "%s: merge %zu: expected a pair of tokens", r->path, i);
        MW_TRY(put_merge(r, left, right, (int32_t)i));
    }
    return MW_OK;
}

/* ---- added tokens ------------------------------------------------------------------------------------ */

static mw_status read_flags(const reader *r, const json_t *item, added_token *out) {
    MW_TRY(get_flag(r, item, "special", false, &out->special));
    MW_TRY(get_flag(r, item, "normalized", true, &out->normalized));
    MW_TRY(get_flag(r, item, "lstrip", false, &out->left_strip));
    MW_TRY(get_flag(r, item, "rstrip", false, &out->right_strip));
    return get_flag(r, item, "single_word", false, &out->single_word);
}

/* Sets the text that is searched for: normalized if the token is. */
static mw_status set_content(mw_tokenizer *t, const char *content, size_t length, added_token *a) {
    mw_text text = {0}, scratch = {0};
    mw_text_add(&text, content, length);
    mw_status status = a->normalized ? steps_normalize(&t->normalizers, &t->origin, &text, &scratch) : MW_OK;
    if (status == MW_OK && !(a->content = mw_strndup(text.data, text.length))) status = MW_ERR_MEMORY;
    a->length = text.length;
    mw_text_free(&text);
    mw_text_free(&scratch);
    return status;
}

static mw_status put_added(const reader *r, const json_t *item) {
    mw_tokenizer *t = r->t;
    const json_t *value = json_object_get(item, "content");
    const char *content = json_string_value(value);
    size_t length = json_string_length(value);
    if (!content) return mw_error(MW_ERR_FORMAT, "%s: an added token has no content", r->path);
    int32_t id = (int32_t)json_integer_value(json_object_get(item, "id"));
    int32_t known = vocabulary_find(&t->vocabulary, content, length);
    if (known < 0) MW_TRY(vocabulary_put(&t->vocabulary, content, length, id));
    if (!MW_GROW(t->added, t->n_added, t->added_capacity)) return MW_ERR_MEMORY;
    added_token *a = &t->added[t->n_added];
    *a = (added_token){.id = known >= 0 ? known : id};
    MW_TRY(read_flags(r, item, a));
    MW_TRY(set_content(t, content, length, a));
    return trie_put(a->normalized ? &t->normalized : &t->raw, a->content, a->length, (int32_t)t->n_added++);
}

static mw_status read_model(const reader *r, const json_t *root, const json_t *added) {
    bpe *b = &r->t->model;
    const json_t *model, *vocab, *merges_list;
    const char *type, *prefix, *suffix, *unk;
    MW_TRY(get_object(r, root, "model", &model));
    MW_TRY(get_text(r, model, "type", "BPE", &type));
    if (strcmp(type, "BPE") != 0) return unsupported(r, "tokenizer model", type);
    MW_TRY(get_text(r, model, "continuing_subword_prefix", "", &prefix));
    MW_TRY(get_text(r, model, "end_of_word_suffix", "", &suffix));
    if (prefix[0] || suffix[0]) return unsupported(r, "subword prefix or suffix", prefix[0] ? prefix : suffix);
    MW_TRY(get_flag(r, model, "byte_fallback", false, &b->byte_fallback));
    MW_TRY(get_flag(r, model, "fuse_unk", false, &b->fuse_unk));
    MW_TRY(get_flag(r, model, "ignore_merges", false, &b->ignore_merges));
    MW_TRY(get_object(r, model, "vocab", &vocab));
    MW_TRY(read_vocab(r, vocab, added));
    MW_TRY(get_list(r, model, "merges", &merges_list));
    MW_TRY(read_merges(r, merges_list));
    MW_TRY(get_text(r, model, "unk_token", NULL, &unk));
    b->unk = unk ? vocabulary_find(&r->t->vocabulary, unk, strlen(unk)) : -1;
    return MW_OK;
}

static mw_status read_root(const reader *r, const json_t *root) {
    const json_t *normalizer, *splitter, *decoder, *processor, *added;
    MW_TRY(get_object(r, root, "normalizer", &normalizer));
    MW_TRY(get_object(r, root, "pre_tokenizer", &splitter));
    MW_TRY(get_object(r, root, "decoder", &decoder));
    MW_TRY(get_object(r, root, "post_processor", &processor));
    MW_TRY(get_list(r, root, "added_tokens", &added));
    MW_TRY(read_normalizer(r, normalizer));
    MW_TRY(read_splitter(r, splitter));
    MW_TRY(read_model(r, root, added));
    for (size_t i = 0; i < json_array_size(added); i++) MW_TRY(put_added(r, json_array_get(added, i)));
    MW_TRY(read_decoder(r, decoder));
    return read_processor(r, processor);
}

/* Messages about texts name the tokenizer's file. */
static mw_status set_path(mw_tokenizer *t, const char *path) {
    t->origin.tokenizer = t->path = mw_strdup(path);
    return t->path ? MW_OK : MW_ERR_MEMORY;
}

mw_status tokenizer_read_json(const char *path, mw_tokenizer *t) {
    json_t *root;
    MW_TRY(set_path(t, path));
    MW_TRY(mw_json_load(path, &root));
    reader r = {path, t};
    mw_status status = json_is_object(root) ? read_root(&r, root)
                                            : mw_error(MW_ERR_FORMAT, "%s: not a tokenizer: expected an object", path);
    json_decref(root);
    return status == MW_OK ? mw_sha256_file(path, t->hash) : status;
}

/* ---- vocab.json and merges.txt ----------------------------------------------------------------------- */

static mw_status read_merge_lines(const reader *r, char *text) {
    int64_t lines = 1;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    MW_TRY(merges_make(&r->t->model.merges, lines));
    int32_t rank = 0;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        if (line[0] == '\0' || (rank == 0 && strncmp(line, "#version", 8) == 0)) continue;
        token_text left, right;
        if (!split_pair(line, strlen(line), &left, &right))
            return mw_error(MW_ERR_FORMAT, "%s: line '%s': expected a pair of tokens", r->path, line);
        MW_TRY(put_merge(r, left, right, rank++));
    }
    return MW_OK;
}

static mw_status hash_both(const char *vocab, const char *merges_path, char out[MW_SHA256_TEXT]) {
    char both[2 * MW_SHA256_TEXT];
    MW_TRY(mw_sha256_file(vocab, both));
    MW_TRY(mw_sha256_file(merges_path, both + MW_SHA256_TEXT - 1));
    return mw_sha256(both, strlen(both), out);
}

mw_status tokenizer_read_pair(const char *vocab, const char *merges_path, mw_tokenizer *t) {
    json_t *root = NULL;
    char *text = NULL;
    reader r = {vocab, t};
    t->model.byte_level = t->decoding.byte_level = true;
    t->model.unk = -1;
    step *splitter = new_step(&t->splitters, STEP_BYTE_LEVEL);
    mw_status status = splitter ? set_path(t, vocab) : MW_ERR_MEMORY;
    if (status == MW_OK) status = regex_compile(vocab, gpt2_pattern, splitter);
    if (status == MW_OK) status = mw_json_load(vocab, &root);
    if (status == MW_OK) status = read_vocab(&r, root, NULL);
    if (status == MW_OK) status = mw_file_read(merges_path, &text, NULL);
    r.path = merges_path;
    if (status == MW_OK) status = read_merge_lines(&r, text);
    static const char end[] = "<|endoftext|>"; /* the one special token of vocabularies in this form */
    int32_t id = status == MW_OK ? vocabulary_find(&t->vocabulary, end, sizeof end - 1) : -1;
    if (id >= 0) {
        json_t *item = json_pack("{s:s, s:i, s:b, s:b}", "content", end, "id", id, "special", 1, "normalized", 0);
        status = item ? put_added(&r, item) : MW_ERR_MEMORY;
        json_decref(item);
        t->eos = id;
    }
    json_decref(root);
    mw_free(text);
    return status == MW_OK ? hash_both(vocab, merges_path, t->hash) : status;
}

/* ---- tokenizer_config.json --------------------------------------------------------------------------- */

/* Reads a token written as its text or as an object with "content"; -1: absent, or not in the vocabulary. */
static mw_status read_special_token(const reader *r, const json_t *config, const char *key, int32_t *out) {
    const json_t *object = json_object_get(config, key);
    const char *text;
    if (json_is_object(object) && !mw_json_odd(object))
        MW_TRY(get_text(r, object, "content", NULL, &text));
    else
        MW_TRY(get_text(r, config, key, NULL, &text));
    *out = text ? vocabulary_find(&r->t->vocabulary, text, strlen(text)) : -1;
    return MW_OK;
}

static mw_status apply_config(const reader *r, const json_t *config) {
    mw_tokenizer *t = r->t;
    int32_t bos, eos;
    bool adds;
    MW_TRY(read_special_token(r, config, "bos_token", &bos));
    MW_TRY(read_special_token(r, config, "eos_token", &eos));
    MW_TRY(get_flag(r, config, "add_bos_token", false, &adds));
    if (eos >= 0) t->eos = eos;
    if (!t->adds_bos && bos >= 0) {
        t->bos = bos;
        t->adds_bos = adds;
    }
    return MW_OK;
}

mw_status tokenizer_read_config(const char *path, mw_tokenizer *t) {
    if (!mw_path_exists(path)) return MW_OK;
    json_t *config;
    MW_TRY(mw_json_load(path, &config));
    mw_status status = json_is_object(config) ? apply_config(&(reader){path, t}, config)
                                              : mw_error(MW_ERR_FORMAT, "%s: expected an object", path);
    json_decref(config);
    return status;
}
