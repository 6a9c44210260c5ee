/* Reads the tokens that files beside tokenizer.json declare, as AutoTokenizer of transformers 5 reads them. */
#include "model/tokenizer/read.h"

#include <stdlib.h>
#include <string.h>

/* The three files; NULL: absent. */
typedef struct config_files {
    reader r;
    json_t *config, *map, *added;
} config_files;

static const char *const named_keys[NAMED_KEYS] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                   "pad_token", "cls_token", "mask_token"};

/* Tokens to be added, in order. */
typedef struct declared_list {
    declared_token *items;
    int64_t count, capacity;
} declared_list;

static mw_status list_token(declared_list *list, declared_token token) {
    if (!MW_GROW(list->items, list->count, list->capacity)) return MW_ERR_MEMORY;
    list->items[list->count++] = token;
    return MW_OK;
}

static const declared_token *find_declared(const declared_list *list, const char *content) {
    for (int64_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].content, content) == 0) return &list->items[i];
    return NULL;
}

/* Reads a token written as its text, or as an object with "content" and flags; content NULL: absent. */
static mw_status read_token(const reader *r, const json_t *object, const char *key, declared_token *out) {
    const json_t *value = json_object_get(object, key);
    const char *text;
    *out = (declared_token){0};
    if (json_is_object(value) && !mw_json_odd(value)) {
        MW_TRY(read_declared(r, value, out));
        if (!json_object_get(value, "normalized")) out->normalized = false;
        out->special = true;
        return MW_OK;
    }
    MW_TRY(get_text(r, object, key, NULL, &text));
    if (text) *out = (declared_token){.content = text, .length = strlen(text), .special = true};
    return MW_OK;
}

static const added_token *find_known(const mw_tokenizer *t, const char *content) {
    for (int64_t i = 0; i < t->added.count; i++)
        if (strcmp(t->added.items[i].content, content) == 0) return &t->added.items[i];
    return NULL;
}

/* ---- added tokens ------------------------------------------------------------------------------------------ */

static int by_id(const void *a, const void *b) {
    long long x = strtoll(*(const char *const *)a, NULL, 10), y = strtoll(*(const char *const *)b, NULL, 10);
    return x < y ? -1 : x > y;
}

/* Lists the members of added_tokens_decoder in the order of their ids. */
static mw_status list_added_decoder(const config_files *f, const json_t *table, declared_list *out) {
    size_t count = 0;
    const char *key;
    json_t *value;
    const char **keys = mw_alloc((json_object_size(table) + 1) * sizeof *keys);
    mw_status status = keys ? MW_OK : MW_ERR_MEMORY;
    if (keys) json_object_foreach((json_t *)(uintptr_t)table, key, value) keys[count++] = key;
    if (keys) qsort(keys, count, sizeof *keys, by_id);
    for (size_t i = 0; status == MW_OK && i < count; i++) {
        declared_token token;
        status = read_declared(&f->r, json_object_get(table, keys[i]), &token);
        if (status == MW_OK) status = list_token(out, token);
    }
    mw_free(keys);
    return status;
}

static bool same_as_known(const mw_tokenizer *t, const declared_token *d) {
    const added_token *a = find_known(t, d->content);
    return a && a->special == d->special && a->normalized == d->normalized && a->left_strip == d->left_strip &&
           a->right_strip == d->right_strip && a->single_word == d->single_word;
}

/* ---- special tokens ------------------------------------------------------------------------------------------ */

/* Lists a special token; one that is declared with flags elsewhere has these. */
static mw_status list_special(const declared_list *declared, declared_token token, declared_list *out) {
    const declared_token *known = find_declared(declared, token.content);
    return list_token(out, known ? *known : token);
}

/* Lists tokens of a list of texts and objects, or of an object of named tokens. */
static mw_status list_extra(const reader *r, const json_t *parent, const char *key, declared_list *out) {
    const json_t *value = json_object_get(parent, key);
    const char *name;
    json_t *item;
    declared_token token;
    size_t i;
    json_array_foreach(value, i, item) {
        json_t *wrapped = json_pack("{s:O}", "token", item);
        if (!wrapped) return MW_ERR_MEMORY;
        mw_status status = read_token(r, wrapped, "token", &token); /* its text is owned by `item` */
        json_decref(wrapped);
        if (status != MW_OK) return status;
        if (token.content) MW_TRY(list_token(out, token));
    }
    if (json_is_object(value) && !mw_json_odd(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, name, item) {
            MW_TRY(read_token(r, value, name, &token));
            if (token.content) MW_TRY(list_token(out, token));
        }
    }
    return MW_OK;
}

static mw_status list_class_added(const mw_tokenizer *t, declared_list *out) {
    const vocabulary *v = &t->vocabulary;
    for (int64_t i = 0; i < t->class_added.count; i++) {
        int32_t id = t->class_added.data[i];
        MW_TRY(list_token(out, (declared_token){.content = v->token[id], .length = v->length[id], .special = true}));
    }
    return MW_OK;
}

static bool is_empty(const json_t *value) {
    return !value || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static bool is_named_key(const char *key) {
    for (int i = 0; i < NAMED_KEYS; i++)
        if (strcmp(key, named_keys[i]) == 0) return true;
    return false;
}

/* Reads a named token: from the map, the config, or the class. */
static mw_status read_named(const config_files *f, const json_t *map, int i, declared_token *out) {
    const char *key = named_keys[i], *initial = f->r.t->class_named ? f->r.t->class_named[i] : NULL;
    bool given = json_object_get(map, key) || json_object_get(f->config, key);
    if (given || !initial) return read_token(&f->r, json_object_get(map, key) ? map : f->config, key, out);
    *out = (declared_token){.content = initial, .length = strlen(initial), .special = true};
    return MW_OK;
}

/* Lists the seven named tokens, other members NAME_token with a text, and the extra special tokens. The object `map`
 * (special_tokens_map.json) replaces members of the config. */
static mw_status list_specials(const config_files *f, const json_t *map, const declared_list *declared,
                               declared_list *out) {
    declared_list extra = {0};
    mw_status status = MW_OK;
    const char *key;
    json_t *value;
    declared_token token;
    for (int i = 0; status == MW_OK && i < NAMED_KEYS; i++) {
        status = read_named(f, map, i, &token);
        if (status == MW_OK && token.content) status = list_special(declared, token, out);
    }
    json_object_foreach(f->config, key, value) {
        if (status != MW_OK || is_named_key(key) || !mw_ends_with(key, "_token") || !json_is_string(value)) continue;
        token =
            (declared_token){.content = json_string_value(value), .length = json_string_length(value), .special = true};
        status = list_special(declared, token, out);
    }
    const char *extra_key = is_empty(json_object_get(f->config, "extra_special_tokens")) ? "additional_special_tokens"
                                                                                         : "extra_special_tokens";
    if (status == MW_OK) status = list_extra(&f->r, f->config, extra_key, &extra);
    if (status == MW_OK && map) status = list_extra(&f->r, map, "extra_special_tokens", &extra);
    if (status == MW_OK && map) status = list_extra(&f->r, map, "additional_special_tokens", &extra);
    if (status == MW_OK && !json_object_get(f->config, "extra_special_tokens") &&
        !json_object_get(f->config, "additional_special_tokens"))
        status = list_class_added(f->r.t, &extra);
    for (int64_t i = 0; status == MW_OK && i < extra.count; i++) status = list_token(out, extra.items[i]);
    mw_free(extra.items);
    return status;
}

/* added_tokens.json: tokens and ids, special if they are named. */
static mw_status list_added_file(const json_t *table, const declared_list *specials, declared_list *out) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)table, key, value) {
        bool special = find_declared(specials, key) != NULL;
        MW_TRY(list_token(out, (declared_token){key, strlen(key), .special = special, .normalized = !special}));
    }
    return MW_OK;
}

/* ---- all together -------------------------------------------------------------------------------------------- */

static mw_status add_declared(const config_files *f, const declared_token *token, int32_t *next) {
    mw_tokenizer *t = f->r.t;
    MW_TRY(put_added(&f->r, token, next));
    mw_text_addf(&t->changes, "%d %s\n", (int)vocabulary_find(&t->vocabulary, token->content, token->length),
                 token->content);
    return MW_OK;
}

/* Marks the special tokens that no file has added before this one: of several with the same text, the last counts. */
static void mark_new(const mw_tokenizer *t, const declared_list *declared, const declared_list *specials, bool *out) {
    for (int64_t i = 0; i < specials->count; i++)
        out[i] = !find_known(t, specials->items[i].content) && !find_declared(declared, specials->items[i].content);
}

static mw_status add_specials(const config_files *f, const declared_list *specials, const bool *is_new, int32_t *next) {
    mw_tokenizer *t = f->r.t;
    for (int64_t i = 0; i < specials->count; i++) {
        declared_token special = specials->items[i];
        special.special = true;
        if (is_new[i]) MW_TRY(add_declared(f, &special, next));
        int32_t id = vocabulary_find(&t->vocabulary, special.content, special.length);
        if (id >= 0) MW_TRY(mw_ids_add(&t->named, id));
    }
    return MW_OK;
}

static mw_status add_all(const config_files *f, const declared_list *declared, const declared_list *specials) {
    mw_tokenizer *t = f->r.t;
    int32_t next = next_added_id(t);
    bool *is_new = mw_alloc((size_t)specials->count + 1);
    if (!is_new) return MW_ERR_MEMORY;
    mark_new(t, declared, specials, is_new);
    mw_status status = MW_OK;
    for (int64_t i = 0; status == MW_OK && i < declared->count; i++)
        if (!same_as_known(t, &declared->items[i])) status = add_declared(f, &declared->items[i], &next);
    if (status == MW_OK) status = add_specials(f, specials, is_new, &next);
    mw_free(is_new);
    return status;
}

static mw_status read_tokens(const config_files *f) {
    declared_list declared = {0}, specials = {0};
    const json_t *table;
    mw_status status = get_object(&f->r, f->config, "added_tokens_decoder", &table);
    const json_t *map = table ? NULL : f->map;
    if (status == MW_OK && table) status = list_added_decoder(f, table, &declared);
    if (status == MW_OK) status = list_specials(f, map, &declared, &specials);
    if (status == MW_OK && !table && f->added) status = list_added_file(f->added, &specials, &declared);
    if (status == MW_OK) status = add_all(f, &declared, &specials);
    mw_free(declared.items);
    mw_free(specials.items);
    return status;
}

/* Finds a named token; -1: absent. */
static mw_status find_named(const config_files *f, int i, int32_t *out) {
    declared_token token;
    MW_TRY(read_named(f, json_object_get(f->config, "added_tokens_decoder") ? NULL : f->map, i, &token));
    *out = token.content ? vocabulary_find(&f->r.t->vocabulary, token.content, token.length) : -1;
    return MW_OK;
}

static mw_status apply_files(const config_files *f, bool of_json) {
    mw_tokenizer *t = f->r.t;
    int32_t bos, eos;
    bool adds;
    MW_TRY(get_flag(&f->r, f->config, "split_special_tokens", false, &t->added.skips_special));
    MW_TRY(read_tokens(f));
    MW_TRY(find_named(f, 0, &bos));
    MW_TRY(find_named(f, 1, &eos));
    MW_TRY(get_flag(&f->r, f->config, "add_bos_token", false, &adds));
    if (eos >= 0) t->eos = eos;
    if (!t->adds_bos && bos >= 0) {
        t->bos = bos;
        t->adds_bos = adds && !of_json; /* transformers ignores add_bos_token beside tokenizer.json */
    }
    return MW_OK;
}

static mw_status load(const char *folder, const char *name, char **path, json_t **out) {
    if (!(*path = mw_path_join(folder, name))) return MW_ERR_MEMORY;
    if (!mw_path_exists(*path)) return MW_OK;
    MW_TRY(mw_json_load(*path, out));
    return json_is_object(*out) ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: expected an object", *path);
}

mw_status tokenizer_read_config(const char *folder, bool of_json, mw_tokenizer *t) {
    char *paths[3] = {0};
    config_files f = {.r = {.t = t}};
    mw_status status = load(folder, "tokenizer_config.json", &paths[0], &f.config);
    if (status == MW_OK) status = load(folder, "special_tokens_map.json", &paths[1], &f.map);
    if (status == MW_OK) status = load(folder, "added_tokens.json", &paths[2], &f.added);
    f.r.path = paths[0];
    if (status == MW_OK && (f.config || f.map || f.added || t->class_named)) status = apply_files(&f, of_json);
    json_decref(f.config);
    json_decref(f.map);
    json_decref(f.added);
    for (int i = 0; i < 3; i++) mw_free(paths[i]);
    return status;
}
