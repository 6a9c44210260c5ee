/* Adds tokens as the reference library does: known texts keep their ids, new ones get the next. */
#include "model/tokenizer/read.h"

#include <string.h>

mw_status read_declared(const reader *r, const json_t *item, declared_token *out) {
    const json_t *content = json_object_get(item, "content");
    if (!json_is_string(content)) return mw_error(MW_ERR_FORMAT, "%s: an added token has no content", r->path);
    *out = (declared_token){.content = json_string_value(content), .length = json_string_length(content)};
    MW_TRY(get_flag(r, item, "special", false, &out->special));
    MW_TRY(get_flag(r, item, "normalized", !out->special, &out->normalized));
    MW_TRY(get_flag(r, item, "lstrip", false, &out->left_strip));
    MW_TRY(get_flag(r, item, "rstrip", false, &out->right_strip));
    return get_flag(r, item, "single_word", false, &out->single_word);
}

int32_t next_added_id(const mw_tokenizer *t) {
    int64_t next = t->model.vocabulary_size;
    for (int64_t i = 0; i < t->added.count; i++)
        if (t->added.items[i].id >= next) next = t->added.items[i].id + 1;
    return (int32_t)next;
}

/* Sets the text that is searched for: normalized if the token is. */
static mw_status set_search(mw_tokenizer *t, added_token *a) {
    changing_text text = {0};
    mw_text_add(&text.text, a->content, a->length);
    mw_status status = a->normalized ? normalizers_apply(&t->normalizers, &t->origin, &text) : MW_OK;
    mw_free(a->search);
    a->search = status == MW_OK ? mw_strndup(text.text.data ? text.text.data : "", text.text.length) : NULL;
    if (status == MW_OK && !a->search) status = MW_ERR_MEMORY;
    a->search_length = text.text.length;
    mw_text_free(&text.text);
    mw_text_free(&text.scratch);
    return status;
}

static added_token *find_added(mw_tokenizer *t, int32_t id) {
    for (int64_t i = 0; i < t->added.count; i++)
        if (t->added.items[i].id == id) return &t->added.items[i];
    return NULL;
}

mw_status put_added(const reader *r, const declared_token *token, int32_t *next) {
    mw_tokenizer *t = r->t;
    if (token->length == 0) return MW_OK;
    int32_t id = vocabulary_find(&t->vocabulary, token->content, token->length);
    if (id < 0) {
        if (*next < t->vocabulary.size && t->vocabulary.token[*next])
            return mw_error(MW_ERR_UNSUPPORTED, "%s: the added token '%s' would get the id %d, which '%s' has", r->path,
                            token->content, (int)*next, t->vocabulary.token[*next]);
        MW_TRY(vocabulary_put(&t->vocabulary, token->content, token->length, id = (*next)++));
    }
    added_token *a = find_added(t, id);
    if (!a) {
        if (!MW_GROW(t->added.items, t->added.count, t->added.capacity)) return MW_ERR_MEMORY;
        a = &t->added.items[t->added.count++];
        *a = (added_token){.id = id, .length = token->length};
        if (!(a->content = mw_strndup(token->content, token->length))) return MW_ERR_MEMORY;
    }
    a->special = a->special || token->special;
    a->normalized = token->normalized;
    a->left_strip = token->left_strip;
    a->right_strip = token->right_strip;
    a->single_word = token->single_word;
    return set_search(t, a);
}
