/* tokenizer.json, or vocab.json with merges.txt, into the parts. */
#include "model/tokenizer/parts.h"

#include <string.h>
#include <utf8proc.h>

enum { ID_MAX = 1 << 24 };

typedef struct source {
    const char *path;
    mw_tokenizer *t;
} source;

static mw_status unsupported(const source *s, const char *what, const char *type) {
    return mw_error(MW_ERR_UNSUPPORTED, "%s: %s '%s' is not supported", s->path, what, type ? type : "(none)");
}

static const char *text_or(const json_t *object, const char *key, const char *initial) {
    const char *value = mw_json_text(object, key);
    return value ? value : initial;
}

static step *new_step(steps *list, step_kind kind) {
    if (!MW_GROW(list->items, list->count, list->capacity)) return NULL;
    step *s = &list->items[list->count++];
    *s = (step){.kind = kind};
    return s;
}

/* ---- normalizers ------------------------------------------------------------------------------------- */

static mw_status read_normalizer(const source *s, const json_t *n);

static mw_status read_each(const source *s, const json_t *array, mw_status (*read)(const source *, const json_t *)) {
    for (size_t i = 0; i < json_array_size(array); i++) MW_TRY(read(s, json_array_get(array, i)));
    return MW_OK;
}

static const struct {
    const char *type;
    int options;
} unicode_forms[] = {{"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
                     {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
                     {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
                     {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};

static mw_status read_normalizer(const source *s, const json_t *n) {
    if (!n || json_is_null(n)) return MW_OK;
    const char *type = text_or(n, "type", "");
    if (strcmp(type, "Sequence") == 0) return read_each(s, json_object_get(n, "normalizers"), read_normalizer);
    steps *list = &s->t->normalizers;
    for (size_t i = 0; i < sizeof unicode_forms / sizeof *unicode_forms; i++)
        if (strcmp(type, unicode_forms[i].type) == 0) {
            step *made = new_step(list, STEP_UNICODE);
            if (made) made->unicode = unicode_forms[i].options;
            return made ? MW_OK : MW_ERR_MEMORY;
        }
    if (strcmp(type, "Prepend") == 0) {
        step *made = new_step(list, STEP_PREPEND);
        return made && (made->text = mw_strdup(text_or(n, "prepend", ""))) ? MW_OK : MW_ERR_MEMORY;
    }
    const char *pattern = mw_json_text(json_object_get(n, "pattern"), "String");
    if (strcmp(type, "Replace") == 0 && pattern) {
        step *made = new_step(list, STEP_REPLACE);
        if (!made || !(made->text = mw_strdup(pattern))) return MW_ERR_MEMORY;
        return (made->with = mw_strdup(text_or(n, "content", ""))) ? MW_OK : MW_ERR_MEMORY;
    }
    return unsupported(s, "normalizer", type);
}

/* ---- pre-tokenizers ---------------------------------------------------------------------------------- */

static mw_status quote_regex(const char *literal, mw_text *out) {
    for (const char *p = literal; *p; p++) {
        if (strchr("\\^$.[]|()?*+{}-#", *p)) mw_text_add(out, "\\", 1);
        mw_text_add(out, p, 1);
    }
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

static mw_status read_split(const source *s, const json_t *p) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext"};
    const json_t *pattern = json_object_get(p, "pattern");
    const char *regex = mw_json_text(pattern, "Regex"), *literal = mw_json_text(pattern, "String");
    const char *behavior = text_or(p, "behavior", "");
    step *made = new_step(&s->t->splitters, STEP_SPLIT);
    if (!made) return MW_ERR_MEMORY;
    made->invert = mw_json_flag(p, "invert", false);
    int chosen = -1;
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], behavior) == 0) chosen = i;
    if (chosen < 0) return unsupported(s, "split behavior", behavior);
    made->behavior = (split_behavior)chosen;
    if (made->invert && made->behavior != SPLIT_REMOVED && made->behavior != SPLIT_ISOLATED)
        return unsupported(s, "inverted split behavior", behavior);
    if (regex) return regex_compile(s->path, regex, made);
    if (!literal) return unsupported(s, "split pattern", NULL);
    mw_text quoted = {0};
    mw_status status = quote_regex(literal, &quoted);
    if (status == MW_OK) status = regex_compile(s->path, quoted.length ? quoted.data : "(?!)", made);
    mw_text_free(&quoted);
    return status;
}

static mw_status read_metaspace(const source *s, const json_t *p) {
    step *made = new_step(&s->t->splitters, STEP_METASPACE);
    if (!made) return MW_ERR_MEMORY;
    if (strcmp(text_or(p, "replacement", SPACE_MARK), SPACE_MARK) != 0)
        return unsupported(s, "metaspace replacement", mw_json_text(p, "replacement"));
    const char *scheme = text_or(p, "prepend_scheme", mw_json_flag(p, "add_prefix_space", true) ? "always" : "never");
    made->prefix_space = strcmp(scheme, "never") != 0;
    made->only_first = strcmp(scheme, "first") == 0;
    made->split = mw_json_flag(p, "split", true);
    made->behavior = SPLIT_WITH_NEXT;
    return made->split ? regex_compile(s->path, SPACE_MARK, made) : MW_OK;
}

static mw_status read_pattern_step(const source *s, const char *pattern, split_behavior behavior) {
    step *made = new_step(&s->t->splitters, STEP_SPLIT);
    if (!made) return MW_ERR_MEMORY;
    made->behavior = behavior;
    return regex_compile(s->path, pattern, made);
}

static mw_status read_splitter(const source *s, const json_t *p) {
    if (!p || json_is_null(p)) return MW_OK;
    const char *type = text_or(p, "type", "");
    if (strcmp(type, "Sequence") == 0) return read_each(s, json_object_get(p, "pretokenizers"), read_splitter);
    if (strcmp(type, "Split") == 0) return read_split(s, p);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(s, p);
    if (strcmp(type, "Digits") == 0)
        return read_pattern_step(s, mw_json_flag(p, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", SPLIT_ISOLATED);
    if (strcmp(type, "WhitespaceSplit") == 0) return read_pattern_step(s, "\\s+", SPLIT_REMOVED);
    if (strcmp(type, "ByteLevel") != 0) return unsupported(s, "pre-tokenizer", type);
    step *made = new_step(&s->t->splitters, STEP_BYTE_LEVEL);
    if (!made) return MW_ERR_MEMORY;
    made->prefix_space = mw_json_flag(p, "add_prefix_space", true);
    s->t->model.byte_level = true;
    return mw_json_flag(p, "use_regex", true) ? regex_compile(s->path, gpt2_pattern, made) : MW_OK;
}

/* ---- decoders ---------------------------------------------------------------------------------------- */

static mw_status read_decoder(const source *s, const json_t *d) {
    if (!d || json_is_null(d)) return MW_OK;
    const char *type = text_or(d, "type", "");
    decoding *how = &s->t->decoding;
    if (strcmp(type, "Sequence") == 0) return read_each(s, json_object_get(d, "decoders"), read_decoder);
    if (strcmp(type, "Fuse") == 0) return MW_OK;
    if (strcmp(type, "ByteLevel") == 0) {
        how->byte_level = true;
    } else if (strcmp(type, "ByteFallback") == 0) {
        how->byte_fallback = true;
    } else if (strcmp(type, "Metaspace") == 0) {
        how->mark_to_space = true;
        how->drop_first_space =
            strcmp(text_or(d, "prepend_scheme", "always"), "never") != 0 && mw_json_flag(d, "add_prefix_space", true);
    } else if (strcmp(type, "Replace") == 0 &&
               strcmp(text_or(json_object_get(d, "pattern"), "String", ""), SPACE_MARK) == 0 &&
               strcmp(text_or(d, "content", ""), " ") == 0) {
        how->mark_to_space = true;
    } else if (strcmp(type, "Strip") == 0 && strcmp(text_or(d, "content", ""), " ") == 0 &&
               json_integer_value(json_object_get(d, "start")) == 1 &&
               json_integer_value(json_object_get(d, "stop")) == 0) {
        how->drop_first_space = true;
    } else {
        return unsupported(s, "decoder", type);
    }
    return MW_OK;
}

/* ---- the template ------------------------------------------------------------------------------------ */

static mw_status read_processor(const source *s, const json_t *p) {
    if (!p || json_is_null(p)) return MW_OK;
    const char *type = text_or(p, "type", "");
    if (strcmp(type, "Sequence") == 0) return read_each(s, json_object_get(p, "processors"), read_processor);
    if (strcmp(type, "ByteLevel") == 0) return MW_OK;
    if (strcmp(type, "TemplateProcessing") != 0) return unsupported(s, "post-processor", type);
    const json_t *first = json_object_get(json_array_get(json_object_get(p, "single"), 0), "SpecialToken");
    const char *name = mw_json_text(first, "id");
    if (!name) return MW_OK;
    s->t->bos = vocabulary_find(&s->t->shown, name, strlen(name));
    s->t->adds_bos = s->t->bos >= 0;
    return s->t->adds_bos
               ? MW_OK
               : mw_error(MW_ERR_FORMAT, "%s: the template's token '%s' is not in the vocabulary", s->path, name);
}

/* ---- vocabulary and merges --------------------------------------------------------------------------- */

static mw_status check_id(const source *s, const json_t *id) {
    if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < ID_MAX) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: a token id is not a whole number from 0 to %d", s->path, ID_MAX - 1);
}

static mw_status largest_id(const source *s, const json_t *vocab, const json_t *added, int64_t *size) {
    const char *token;
    json_t *id;
    *size = 0;
    json_object_foreach((json_t *)(uintptr_t)vocab, token, id) {
        MW_TRY(check_id(s, id));
        if (json_integer_value(id) >= *size) *size = json_integer_value(id) + 1;
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        id = json_object_get(json_array_get(added, i), "id");
        MW_TRY(check_id(s, id));
        if (json_integer_value(id) >= *size) *size = json_integer_value(id) + 1;
    }
    return MW_OK;
}

/* Two tables: tokens as written (`shown`), and as the merges see them, raw bytes for byte-level models. */
static mw_status put_token(mw_tokenizer *t, const char *token, int32_t id) {
    size_t length = strlen(token), n = length;
    MW_TRY(vocabulary_put(&t->shown, token, length, id));
    if (!t->model.byte_level) return vocabulary_put(&t->model.words, token, length, id);
    char *raw = mw_alloc(length + 1);
    if (!raw) return MW_ERR_MEMORY;
    mw_status status = MW_OK;
    if (byte_level_bytes(token, length, raw, &n)) status = vocabulary_put(&t->model.words, raw, n, id);
    mw_free(raw);
    return status;
}

static mw_status read_vocab(const source *s, const json_t *vocab, const json_t *added) {
    int64_t size;
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return mw_error(MW_ERR_FORMAT, "%s: the model has no vocabulary", s->path);
    MW_TRY(largest_id(s, vocab, added, &size));
    MW_TRY(vocabulary_make(&s->t->shown, size));
    MW_TRY(vocabulary_make(&s->t->model.words, size));
    const char *token;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)vocab, token, id)
        MW_TRY(put_token(s->t, token, (int32_t)json_integer_value(id)));
    return MW_OK;
}

static mw_status put_merge(const source *s, const char *left, size_t left_length, const char *right, int32_t rank) {
    const vocabulary *v = &s->t->shown;
    size_t right_length = strlen(right);
    char *joined = mw_format("%.*s%s", (int)left_length, left, right);
    if (!joined) return MW_ERR_MEMORY;
    int32_t a = vocabulary_find(v, left, left_length), b = vocabulary_find(v, right, right_length);
    int32_t made = vocabulary_find(v, joined, left_length + right_length);
    mw_free(joined);
    if (a < 0 || b < 0 || made < 0)
        return mw_error(MW_ERR_FORMAT, "%s: merge %d ('%.*s' with '%s') names a token that is not in the vocabulary",
                        s->path, (int)rank, (int)left_length, left, right);
    merges_put(&s->t->model.merges, a, b, rank, made);
    return MW_OK;
}

static mw_status read_merges(const source *s, const json_t *list) {
    MW_TRY(merges_make(&s->t->model.merges, (int64_t)json_array_size(list)));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        const char *line = json_string_value(m), *space = line ? strchr(line, ' ') : NULL;
        const char *left = line ? line : json_string_value(json_array_get(m, 0));
        const char *right = line ? (space ? space + 1 : NULL) : json_string_value(json_array_get(m, 1));
        if (!left || !right) return mw_error(MW_ERR_FORMAT, "%s: merge %zu is not a pair", s->path, i);
        MW_TRY(put_merge(s, left, line ? (size_t)(space - line) : strlen(left), right, (int32_t)i));
    }
    return MW_OK;
}

/* ---- added tokens ------------------------------------------------------------------------------------ */

static mw_status put_added(const source *s, const json_t *item) {
    mw_tokenizer *t = s->t;
    const char *content = mw_json_text(item, "content");
    if (!content) return mw_error(MW_ERR_FORMAT, "%s: an added token has no content", s->path);
    int32_t id = (int32_t)json_integer_value(json_object_get(item, "id"));
    int32_t known = vocabulary_find(&t->shown, content, strlen(content));
    if (known < 0) MW_TRY(vocabulary_put(&t->shown, content, strlen(content), id));
    if (!MW_GROW(t->added, t->n_added, t->added_capacity)) return MW_ERR_MEMORY;
    added_token *a = &t->added[t->n_added];
    *a = (added_token){.id = known >= 0 ? known : id,
                       .special = mw_json_flag(item, "special", false),
                       .normalized = mw_json_flag(item, "normalized", true),
                       .left_strip = mw_json_flag(item, "lstrip", false),
                       .right_strip = mw_json_flag(item, "rstrip", false),
                       .single_word = mw_json_flag(item, "single_word", false)};
    mw_text text = {0}, scratch = {0};
    mw_text_add(&text, content, strlen(content));
    mw_status status = a->normalized ? steps_normalize(&t->normalizers, &text, &scratch) : MW_OK;
    if (status == MW_OK && !(a->content = mw_strndup(text.data, text.length))) status = MW_ERR_MEMORY;
    a->length = text.length;
    mw_text_free(&text);
    mw_text_free(&scratch);
    if (status != MW_OK) return status;
    return trie_put(a->normalized ? &t->normalized : &t->raw, a->content, a->length, (int32_t)t->n_added++);
}

static mw_status read_model(const source *s, const json_t *root) {
    const json_t *model = json_object_get(root, "model");
    const char *type = text_or(model, "type", "BPE");
    bpe *b = &s->t->model;
    if (strcmp(type, "BPE") != 0) return unsupported(s, "tokenizer model", type);
    if (text_or(model, "continuing_subword_prefix", "")[0] || text_or(model, "end_of_word_suffix", "")[0])
        return unsupported(s, "subword prefix or suffix", "of this model");
    b->byte_fallback = mw_json_flag(model, "byte_fallback", false);
    b->fuse_unk = mw_json_flag(model, "fuse_unk", false);
    b->ignore_merges = mw_json_flag(model, "ignore_merges", false);
    MW_TRY(read_vocab(s, json_object_get(model, "vocab"), json_object_get(root, "added_tokens")));
    MW_TRY(read_merges(s, json_object_get(model, "merges")));
    const char *unk = mw_json_text(model, "unk_token");
    b->unk = unk ? vocabulary_find(&s->t->shown, unk, strlen(unk)) : -1;
    return MW_OK;
}

static mw_status read_root(const source *s, const json_t *root) {
    MW_TRY(read_normalizer(s, json_object_get(root, "normalizer")));
    MW_TRY(read_splitter(s, json_object_get(root, "pre_tokenizer")));
    MW_TRY(read_model(s, root));
    const json_t *added = json_object_get(root, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++) MW_TRY(put_added(s, json_array_get(added, i)));
    MW_TRY(read_decoder(s, json_object_get(root, "decoder")));
    return read_processor(s, json_object_get(root, "post_processor"));
}

mw_status tokenizer_read_json(const char *path, mw_tokenizer *t) {
    json_t *root;
    MW_TRY(mw_json_load(path, &root));
    source s = {path, t};
    mw_status status =
        json_is_object(root) ? read_root(&s, root) : mw_error(MW_ERR_FORMAT, "%s: not a tokenizer", path);
    json_decref(root);
    return status == MW_OK ? mw_sha256_file(path, t->hash) : status;
}

/* ---- vocab.json and merges.txt ----------------------------------------------------------------------- */

static mw_status read_merge_lines(const source *s, char *text) {
    int64_t lines = 1;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    MW_TRY(merges_make(&s->t->model.merges, lines));
    int32_t rank = 0;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        if (line[0] == '\0' || (rank == 0 && strncmp(line, "#version", 8) == 0)) continue;
        char *space = strchr(line, ' ');
        if (!space) return mw_error(MW_ERR_FORMAT, "%s: line '%s' is not a pair", s->path, line);
        MW_TRY(put_merge(s, line, (size_t)(space - line), space + 1, rank++));
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
    source s = {vocab, t};
    t->model.byte_level = t->decoding.byte_level = true;
    t->model.unk = -1;
    step *splitter = new_step(&t->splitters, STEP_BYTE_LEVEL);
    mw_status status = splitter ? regex_compile(vocab, gpt2_pattern, splitter) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_json_load(vocab, &root);
    if (status == MW_OK) status = read_vocab(&s, root, NULL);
    if (status == MW_OK) status = mw_file_read(merges_path, &text, NULL);
    s.path = merges_path;
    if (status == MW_OK) status = read_merge_lines(&s, text);
    static const char end[] = "<|endoftext|>"; /* what every vocabulary of this form has as its one special token */
    int32_t id = status == MW_OK ? vocabulary_find(&t->shown, end, sizeof end - 1) : -1;
    if (id >= 0) {
        json_t *item = json_pack("{s:s, s:i, s:b, s:b}", "content", end, "id", id, "special", 1, "normalized", 0);
        status = item ? put_added(&s, item) : MW_ERR_MEMORY;
        json_decref(item);
        t->eos = id;
    }
    json_decref(root);
    mw_free(text);
    return status == MW_OK ? hash_both(vocab, merges_path, t->hash) : status;
}

/* ---- tokenizer_config.json --------------------------------------------------------------------------- */

/* A token is written as its text or as an object with "content". */
static int32_t configured_token(const mw_tokenizer *t, const json_t *config, const char *key) {
    const json_t *value = json_object_get(config, key);
    const char *text = json_is_object(value) ? mw_json_text(value, "content") : json_string_value(value);
    return text ? vocabulary_find(&t->shown, text, strlen(text)) : -1;
}

mw_status tokenizer_read_config(const char *path, mw_tokenizer *t) {
    if (!mw_file_exists(path)) return MW_OK;
    json_t *config;
    MW_TRY(mw_json_load(path, &config));
    int32_t bos = configured_token(t, config, "bos_token"), eos = configured_token(t, config, "eos_token");
    if (eos >= 0) t->eos = eos;
    if (!t->adds_bos && bos >= 0) {
        t->bos = bos;
        t->adds_bos = mw_json_flag(config, "add_bos_token", false);
    }
    json_decref(config);
    return MW_OK;
}
