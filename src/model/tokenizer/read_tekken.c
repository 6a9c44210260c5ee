/* Reads tekken.json of Mistral and tiktoken.model, as transformers 5 converts them. tekken.json: special tokens have
 * the first ids, then come the tokens by rank; tiktoken.model: the ranks are ids. A token is merged from any two tokens
 * that give its bytes; the ranks of the parts order the ways. */
#include "model/tokenizer/read.h"

#include <stdlib.h>
#include <string.h>

typedef struct tekken {
    reader r;
    const json_t *config, *specials, *vocab;
    int64_t n_specials, n_tokens;
    vocabulary ranks; /* bytes of tokens */
} tekken;

/* A way to cut a token into two. */
typedef struct cut {
    int32_t left, right;
} cut;

static int compare_cuts(const void *a, const void *b) {
    const cut *x = a, *y = b;
    return x->left != y->left ? (x->left < y->left ? -1 : 1) : (x->right > y->right) - (x->right < y->right);
}

static mw_status read_counts(tekken *k) {
    int64_t size;
    MW_TRY(get_object(&k->r, k->config, "config", &k->config));
    MW_TRY(mw_json_get_whole((mw_json_source){k->r.path, k->config}, "default_num_special_tokens",
                             (int64_t)json_array_size(k->specials), (int64_t)json_array_size(k->specials), TOKEN_ID_MAX,
                             &k->n_specials));
    k->n_tokens = (int64_t)json_array_size(k->vocab);
    MW_TRY(mw_json_get_whole((mw_json_source){k->r.path, k->config}, "default_vocab_size", k->n_specials + k->n_tokens,
                             k->n_specials + 1, TOKEN_ID_MAX, &size));
    if (size - k->n_specials < k->n_tokens) k->n_tokens = size - k->n_specials;
    return MW_OK;
}

/* Adds the special token of an id: the listed one, or a filler. */
static mw_status put_special(tekken *k, int32_t id) {
    char filler[32];
    const char *text = NULL;
    bool listed = id < (int64_t)json_array_size(k->specials);
    for (size_t i = 0; listed && !text && i < json_array_size(k->specials); i++) {
        const json_t *item = json_array_get(k->specials, i);
        if (json_is_integer(json_object_get(item, "rank")) && json_integer_value(json_object_get(item, "rank")) == id)
            text = mw_json_text(item, "token_str");
    }
    if (listed && !text) return mw_error(MW_ERR_FORMAT, "%s: no special token has the rank %d", k->r.path, (int)id);
    snprintf(filler, sizeof filler, "<SPECIAL_%d>", (int)id);
    if (!text) text = filler;
    MW_TRY(put_token(k->r.t, text, strlen(text), id));
    declared_token token = {.content = text, .length = strlen(text), .special = true};
    return put_added(&k->r, &token, &id);
}

static mw_status put_ranked(tekken *k, const char *bytes, size_t length, int32_t rank) {
    mw_tokenizer *t = k->r.t;
    mw_text written = {0};
    if (vocabulary_find(&k->ranks, bytes, length) >= 0)
        return mw_error(MW_ERR_UNSUPPORTED, "%s: the token of rank %d occurs twice", k->r.path, (int)rank);
    MW_TRY(vocabulary_put(&k->ranks, bytes, length, rank));
    byte_level_write(&written, bytes, length);
    int32_t id = rank + (int32_t)k->n_specials;
    mw_status status = written.failed
                           ? MW_ERR_MEMORY
                           : vocabulary_put(&t->vocabulary, written.data ? written.data : "", written.length, id);
    mw_text_free(&written);
    return status == MW_OK ? vocabulary_put(&t->model.tokens, bytes, length, id) : status;
}

static mw_status read_ranked(tekken *k) {
    for (int64_t rank = 0; rank < k->n_tokens; rank++) {
        const char *text = mw_json_text(json_array_get(k->vocab, (size_t)rank), "token_bytes");
        size_t length = 0;
        unsigned char *bytes = text ? mw_alloc(strlen(text) + 1) : NULL;
        if (text && !bytes) return MW_ERR_MEMORY;
        mw_status status =
            text && decode_base64(text, strlen(text), bytes, &length)
                ? put_ranked(k, (const char *)bytes, length, (int32_t)rank)
                : mw_error(MW_ERR_FORMAT, "%s: token %d: expected token_bytes in base64", k->r.path, (int)rank);
        mw_free(bytes);
        if (status != MW_OK) return status;
    }
    return MW_OK;
}

/* Lists the cuts of a token in their order; returns their number. */
static int64_t list_cuts(const tekken *k, int32_t rank, cut *out) {
    const char *bytes = k->ranks.token[rank];
    size_t length = k->ranks.length[rank];
    int64_t count = 0;
    for (size_t i = 1; i < length; i++) {
        int32_t left = vocabulary_find(&k->ranks, bytes, i), right = vocabulary_find(&k->ranks, bytes + i, length - i);
        if (left >= 0 && right >= 0) out[count++] = (cut){left, right};
    }
    qsort(out, (size_t)count, sizeof *out, compare_cuts);
    return count;
}

static mw_status make_merges(tekken *k) {
    mw_tokenizer *t = k->r.t;
    const vocabulary *v = &k->ranks;
    size_t longest = 1;
    int64_t total = 0, next = 0;
    for (int64_t i = 0; i < k->n_tokens; i++) {
        if (v->length[i] > longest) longest = v->length[i];
        total += v->length[i];
    }
    cut *cuts = mw_alloc(longest * sizeof *cuts);
    mw_status status = cuts ? merges_make(&t->model.bpe.merges, total) : MW_ERR_MEMORY;
    for (int64_t rank = 0; status == MW_OK && rank < k->n_tokens; rank++) {
        int64_t count = list_cuts(k, (int32_t)rank, cuts);
        int32_t first = (int32_t)k->n_specials,
                merged = vocabulary_find(&t->model.tokens, v->token[rank], v->length[rank]);
        for (int64_t i = 0; i < count; i++)
            merges_put(&t->model.bpe.merges, cuts[i].left + first, cuts[i].right + first, (int32_t)next++, merged);
    }
    mw_free(cuts);
    return status;
}

/* The pre-tokenizer splits by a pattern; words are raw bytes. */
static mw_status apply_pattern(const tekken *k, const char *regex) {
    mw_tokenizer *t = k->r.t;
    MW_TRY(read_text_part(&k->r, "{\"type\": \"ByteLevel\"}", "decoders", read_decoder));
    if (!MW_GROW(t->splitters.items, t->splitters.count, t->splitters.capacity)) return MW_ERR_MEMORY;
    splitter *split = &t->splitters.items[t->splitters.count++];
    *split = (splitter){.apply = split_by_match, .behavior = SPLIT_ISOLATED};
    t->model.encode = bpe_encode;
    t->model.unk = -1;
    t->model.bpe.byte_level = t->model.bpe.ignore_merges = true;
    return pattern_compile(k->r.path, regex, &split->pattern);
}

static mw_status read_tekken(tekken *k, const json_t *root) {
    const char *regex;
    k->config = root;
    MW_TRY(get_list(&k->r, root, "vocab", &k->vocab));
    MW_TRY(get_list(&k->r, root, "special_tokens", &k->specials));
    if (!k->specials) return unsupported(&k->r, "tekken.json", "without special_tokens");
    MW_TRY(read_counts(k));
    MW_TRY(get_text(&k->r, k->config, "pattern", "", &regex));
    MW_TRY(apply_pattern(k, regex));
    MW_TRY(begin_vocabulary(k->r.t, k->n_specials + k->n_tokens));
    MW_TRY(vocabulary_make(&k->ranks, k->n_tokens));
    for (int32_t id = 0; id < k->n_specials; id++) MW_TRY(put_special(k, id));
    MW_TRY(read_ranked(k));
    return make_merges(k);
}

mw_status tokenizer_read_tekken(const char *folder, const char *path, mw_tokenizer *t) {
    (void)folder;
    tekken k = {.r = {path, t}};
    json_t *root;
    MW_TRY(set_path(t, path));
    MW_TRY(mw_json_load(path, &root));
    mw_status status = json_is_object(root) ? read_tekken(&k, root)
                                            : mw_error(MW_ERR_FORMAT, "%s: not a tokenizer: expected an object", path);
    vocabulary_free(&k.ranks);
    json_decref(root);
    return status == MW_OK ? mw_sha256_file(path, t->hash) : status;
}

/* ---- tiktoken.model ------------------------------------------------------------------------------------ */

/* Classes of other names, or of the model type, have patterns of their own, some in Python. */
static mw_status check_tiktoken_class(const reader *r, const class_files *files) {
    const char *name = files->name, *type = files->type;
    bool plain = !name || strcmp(name, "PreTrainedTokenizerFast") == 0 || strcmp(name, "TokenizersBackend") == 0;
    bool own_code = json_object_get(json_object_get(files->config, "auto_map"), "AutoTokenizer") != NULL;
    if (plain && !own_code && type && strcmp(type, "llama") == 0) return MW_OK;
    return mw_error(
        MW_ERR_UNSUPPORTED,
        "%s: tiktoken.model of tokenizer_class '%s' and model_type '%s'%s is not supported (without a class, "
        "or PreTrainedTokenizerFast or TokenizersBackend, and llama are)",
        r->path, name ? name : "(none)", type ? type : "(none)", own_code ? ", with code of its own," : "");
}

/* Reads a line: base64, a space, the rank. */
static mw_status put_line(tekken *k, const char *line, size_t length, int32_t rank) {
    const char *space = memchr(line, ' ', length);
    int64_t number = -1;
    char digits[24];
    if (space)
        snprintf(digits, sizeof digits, "%.*s", (int)(line + length - space - 1 < 20 ? line + length - space - 1 : 20),
                 space + 1);
    if (!space || !mw_parse_int(digits, &number) || number != rank)
        return mw_error(MW_ERR_FORMAT, "%s: line %d: expected a token in base64, a space and the rank %d", k->r.path,
                        (int)rank + 1, (int)rank);
    unsigned char *bytes = mw_alloc((size_t)(space - line) + 1);
    size_t made = 0;
    if (!bytes) return MW_ERR_MEMORY;
    mw_status status = decode_base64(line, (size_t)(space - line), bytes, &made) && made
                           ? put_ranked(k, (const char *)bytes, made, rank)
                           : mw_error(MW_ERR_FORMAT, "%s: line %d: not base64", k->r.path, (int)rank + 1);
    mw_free(bytes);
    return status;
}

static mw_status put_lines(tekken *k, const char *text, size_t length) {
    int64_t rank = 0;
    for (size_t at = 0; at < length && k->n_tokens < TOKEN_ID_MAX; at++) k->n_tokens += text[at] == '\n';
    k->n_tokens += length && text[length - 1] != '\n';
    if (!k->n_tokens) return mw_error(MW_ERR_FORMAT, "%s: holds no tokens", k->r.path);
    MW_TRY(begin_vocabulary(k->r.t, k->n_tokens));
    MW_TRY(vocabulary_make(&k->ranks, k->n_tokens));
    for (size_t at = 0; at < length && rank < k->n_tokens; rank++) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t n = end ? (size_t)(end - text) - at : length - at;
        MW_TRY(put_line(k, text + at, n && text[at + n - 1] == '\r' ? n - 1 : n, (int32_t)rank));
        at += n + 1;
    }
    return MW_OK;
}

/* Adds the tokens of added_tokens_decoder whose ids follow the ranks; gaps between them get fillers. */
static mw_status put_followers(tekken *k, const json_t *declared) {
    int64_t last = -1;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)declared, key, value) {
        int64_t id;
        if (!mw_parse_int(key, &id) || id < 0 || id >= TOKEN_ID_MAX)
            return mw_error(MW_ERR_FORMAT, "%s: added_tokens_decoder: expected an id from 0 to %d, found '%s'",
                            k->r.path, TOKEN_ID_MAX - 1, key);
        if (id > last) last = id;
    }
    for (int32_t id = (int32_t)k->n_tokens; id <= last; id++) {
        char number[16], filler[40];
        snprintf(number, sizeof number, "%d", (int)id);
        snprintf(filler, sizeof filler, "<|reserved_token_%d|>", (int)id);
        const json_t *item = json_object_get(declared, number);
        const char *text = item ? mw_json_text(item, "content") : filler;
        if (!text)
            return mw_error(MW_ERR_FORMAT, "%s: added_tokens_decoder: token %d has no content", k->r.path, (int)id);
        declared_token token = {.content = text, .length = strlen(text), .special = true};
        int32_t next = id;
        MW_TRY(put_added(&k->r, &token, &next));
    }
    return MW_OK;
}

static mw_status read_tiktoken(tekken *k, const char *folder, const char *text, size_t length) {
    class_files files = class_files_open(folder);
    mw_status status = check_tiktoken_class(&k->r, &files);
    if (status == MW_OK) status = apply_pattern(k, cl100k_pattern); /* transformers 5.24 takes it for every file */
    if (status == MW_OK) status = put_lines(k, text, length);
    if (status == MW_OK) status = make_merges(k);
    if (status == MW_OK) status = put_followers(k, json_object_get(files.config, "added_tokens_decoder"));
    class_files_close(&files);
    return status;
}

mw_status tokenizer_read_tiktoken(const char *folder, const char *path, mw_tokenizer *t) {
    tekken k = {.r = {path, t}};
    char *text = NULL;
    size_t length;
    MW_TRY(set_path(t, path));
    MW_TRY(mw_file_read(path, &text, &length));
    mw_status status = read_tiktoken(&k, folder, text, length);
    mw_free(text);
    vocabulary_free(&k.ranks);
    return status == MW_OK ? mw_sha256_file(path, t->hash) : status;
}
