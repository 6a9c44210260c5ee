/* Known categories of words, against which discovered concepts are scored. */
#include "base/json.h"
#include "microw/concepts.h"

#include <string.h>

void mw_categories_free(mw_categories *c) {
    for (int64_t i = 0; i < c->count; i++) mw_free(c->names[i]);
    mw_free(c->names);
    mw_free(c->of_token);
    *c = (mw_categories){0};
}

static mw_status category_number(mw_categories *c, int64_t *capacity, const char *name, int32_t *out) {
    for (int64_t i = 0; i < c->count; i++)
        if (strcmp(c->names[i], name) == 0) return *out = (int32_t)i, MW_OK;
    if (!MW_GROW(c->names, c->count, *capacity)) return MW_ERR_MEMORY;
    if (!(c->names[c->count] = mw_strdup(name))) return MW_ERR_MEMORY;
    *out = (int32_t)c->count++;
    return MW_OK;
}

static mw_status classify_word(mw_categories *c, int64_t *capacity, const json_t *words, const char *other,
                               const char *text, size_t length, int32_t *out) {
    while (length && strchr(" \n\t", text[0])) text++, length--;
    while (length && strchr(" \n\t", text[length - 1])) length--;
    char *word = mw_strndup(text, length);
    if (!word) return MW_ERR_MEMORY;
    const char *name = mw_json_text(words, word);
    mw_free(word);
    return category_number(c, capacity, name ? name : other, out);
}

static mw_status classify_tokens(const json_t *root, const char *path, const mw_store_tokens *tokens,
                                 mw_categories *c) {
    const json_t *words = json_object_get(root, "words");
    const char *other = mw_json_text(root, "other");
    int64_t capacity = 0;
    if (!json_is_object(words)) return mw_error(MW_ERR_FORMAT, "%s: expected an object \"words\"", path);
    c->n_tokens = tokens->n_vocabulary;
    if (!(c->of_token = mw_calloc((size_t)c->n_tokens, sizeof *c->of_token))) return MW_ERR_MEMORY;
    for (int64_t id = 0; id < c->n_tokens; id++) {
        const char *text = tokens->vocabulary_bytes + tokens->vocabulary_offset[id];
        size_t length = (size_t)(tokens->vocabulary_offset[id + 1] - tokens->vocabulary_offset[id]);
        MW_TRY(classify_word(c, &capacity, words, other ? other : "other", text, length, &c->of_token[id]));
    }
    return MW_OK;
}

mw_status mw_categories_load(const char *path, const mw_store_tokens *tokens, mw_categories *out) {
    json_t *root;
    mw_categories c = {0};
    MW_TRY(mw_json_load(path, &root));
    mw_status status = classify_tokens(root, path, tokens, &c);
    json_decref(root);
    if (status != MW_OK)
        mw_categories_free(&c);
    else
        *out = c;
    return status;
}
