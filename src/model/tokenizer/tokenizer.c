/* Opens tokenizers, encodes texts and decodes ids. */
#include "microw/tokenizer.h"
#include "model/hub.h"
#include "model/tokenizer/tokenizer_private.h"
#include "model/tokenizer/unicode.h"

#include <string.h>

/* ---- opening ----------------------------------------------------------------------------------------- */

/* Fills the tables by id. */
static mw_status list_added(mw_tokenizer *t) {
    size_t size = (size_t)t->vocabulary.size;
    t->added_of = mw_alloc((size + 1) * sizeof *t->added_of);
    t->special = mw_calloc(size + 1, sizeof *t->special);
    if (!t->added_of || !t->special) return MW_ERR_MEMORY;
    for (size_t i = 0; i < size; i++) t->added_of[i] = -1;
    for (int64_t i = 0; i < t->added.count; i++) {
        t->added_of[t->added.items[i].id] = (int32_t)i;
        t->special[t->added.items[i].id] = t->added.items[i].special;
    }
    for (int64_t i = 0; i < t->named.count; i++) {
        int32_t id = t->named.data[i];
        if (!t->special[id]) mw_text_addf(&t->changes, "%d special\n", (int)id);
        t->special[id] = true;
    }
    return MW_OK;
}

/* Tokens of other files are a part of the hash. */
static mw_status hash_changes(mw_tokenizer *t) {
    if (t->changes.length == 0) return MW_OK;
    mw_text both = {0};
    mw_text_addf(&both, "%s\n", t->hash);
    mw_text_add(&both, t->changes.data, t->changes.length);
    mw_status status = both.failed || t->changes.failed ? MW_ERR_MEMORY : mw_sha256(both.data, both.length, t->hash);
    mw_text_free(&both);
    return status;
}

mw_status tokenizer_ready(mw_tokenizer *t) {
    MW_TRY(token_model_ready(&t->model));
    MW_TRY(added_tokens_ready(&t->added, t->path));
    MW_TRY(list_added(t));
    MW_TRY(hash_changes(t));
    t->words.text = &t->working.text;
    t->words.scratch = &t->working.scratch;
    return tokenizer_fill_token_bytes(t);
}

/* The kinds of files, in the order in which they are looked for. */
static const struct {
    const char *name, *beside; /* beside: another file that the kind needs, or NULL */
    read_folder_call *read;
} kinds[] = {
    {"tokenizer.json", NULL, tokenizer_read_json},           {"vocab.json", "merges.txt", tokenizer_read_pair},
    {"tokenizer.model", NULL, tokenizer_read_sentencepiece}, {"tekken.json", NULL, tokenizer_read_tekken},
    {"tiktoken.model", NULL, tokenizer_read_tiktoken},
};

static mw_status read_folder(const char *folder, mw_tokenizer *t) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!mw_file_is_in(folder, kinds[i].name)) continue;
        if (kinds[i].beside && !mw_file_is_in(folder, kinds[i].beside)) continue;
        char *path = mw_path_join(folder, kinds[i].name);
        mw_status status = path ? kinds[i].read(folder, path, t) : MW_ERR_MEMORY;
        mw_free(path);
        MW_TRY(status);
        return tokenizer_read_config(folder, kinds[i].read == tokenizer_read_json, t);
    }
    return mw_error(MW_ERR_IO,
                    "%s: found neither tokenizer.json, nor vocab.json with merges.txt, nor tokenizer.model, nor "
                    "tekken.json, nor tiktoken.model",
                    folder);
}

static mw_status open_into(const char *path, mw_tokenizer *t) {
    unicode_ready();
    if (mw_file_exists(path)) {
        MW_TRY(tokenizer_read_json(NULL, path, t));
    } else {
        char *folder;
        MW_TRY(mw_hub_folder(path, &folder));
        mw_status status = read_folder(folder, t);
        mw_free(folder);
        if (status != MW_OK) return status;
    }
    return tokenizer_ready(t);
}

mw_status mw_tokenizer_open(const char *path, mw_tokenizer **out) {
    mw_tokenizer *t = mw_calloc(1, sizeof *t);
    if (!t) return MW_ERR_MEMORY;
    t->bos = t->eos = -1;
    mw_status status = open_into(path, t);
    if (status != MW_OK)
        mw_tokenizer_free(&t);
    else
        *out = t;
    return status;
}

void mw_tokenizer_free(mw_tokenizer **slot) {
    mw_tokenizer *t = *slot;
    if (!t) return;
    for (int64_t i = 0; t->bytes && i < t->vocabulary.size; i++) mw_free(t->bytes[i]);
    mw_free(t->bytes);
    mw_free(t->bytes_length);
    mw_free(t->added_of);
    mw_free(t->special);
    mw_ids_free(&t->named);
    mw_ids_free(&t->class_added);
    mw_text_free(&t->changes);
    token_model_free(&t->model);
    vocabulary_free(&t->vocabulary);
    added_tokens_free(&t->added);
    normalizers_free(&t->normalizers);
    splitters_free(&t->splitters);
    decoders_free(&t->decoders);
    mw_text_free(&t->repaired);
    mw_text_free(&t->working.text);
    mw_text_free(&t->working.scratch);
    split_text_free(&t->words);
    mw_free(t->raw_spans.items);
    mw_free(t->normalized_spans.items);
    mw_free(t->path);
    mw_free(t);
    *slot = NULL;
}

/* ---- encoding ---------------------------------------------------------------------------------------- */

/* Encodes t->working, which has no added tokens. */
static mw_status encode_words(mw_tokenizer *t, mw_ids *out) {
    t->words.lead = t->working.lead;
    MW_TRY(splitters_apply(&t->splitters, &t->origin, &t->words));
    for (int64_t i = 0; i < t->words.items.count; i++) {
        piece p = t->words.items.items[i];
        const char *word = t->working.text.data + p.begin;
        MW_TRY(token_model_encode(&t->model, &t->origin, word, p.end - p.begin, out));
    }
    return MW_OK;
}

static void set_working(mw_tokenizer *t, const char *text, size_t length, size_t lead) {
    t->working.text.length = 0;
    t->working.lead = lead;
    mw_text_add(&t->working.text, text, length);
}

/* Encodes a span without raw added tokens: normalizes it, finds normalized added tokens, splits the rest into words. */
static mw_status encode_span(mw_tokenizer *t, const char *text, size_t length, bool at_start, mw_ids *out) {
    set_working(t, text, length, at_start ? bytes_of_characters(text, length, 1) : 0);
    MW_TRY(normalizers_apply(&t->normalizers, &t->origin, &t->working));
    MW_TRY(added_tokens_split(&t->added, &t->added.normalized, t->working.text.data, t->working.text.length,
                              &t->normalized_spans));
    if (t->normalized_spans.count == 0) return MW_OK;
    if (t->normalized_spans.count == 1 && t->normalized_spans.items[0].id < 0) return encode_words(t, out);
    mw_text normalized = t->working.text; /* encode_words uses t->working */
    size_t lead = t->working.lead;
    t->working.text = (mw_text){0};
    mw_status status = MW_OK;
    for (int64_t i = 0; status == MW_OK && i < t->normalized_spans.count; i++) {
        span s = t->normalized_spans.items[i];
        if (s.id >= 0) {
            status = mw_ids_add(out, s.id);
            continue;
        }
        set_working(t, normalized.data + s.begin, s.end - s.begin, lead > s.begin ? lead - s.begin : 0);
        status = encode_words(t, out);
    }
    mw_text_free(&normalized);
    return status;
}

mw_status mw_tokenizer_encode(mw_tokenizer *t, const char *text, size_t length, mw_ids *out) {
    if (!mw_utf8_valid(text, length)) {
        t->repaired.length = 0;
        mw_utf8_repair(&t->repaired, text, length);
        if (t->repaired.failed) return MW_ERR_MEMORY;
        text = t->repaired.data;
        length = t->repaired.length;
    }
    MW_TRY(added_tokens_split(&t->added, &t->added.raw, text, length, &t->raw_spans));
    for (int64_t i = 0; i < t->raw_spans.count; i++) {
        span s = t->raw_spans.items[i];
        t->origin.byte = s.begin;
        MW_TRY(s.id >= 0 ? mw_ids_add(out, s.id) : encode_span(t, text + s.begin, s.end - s.begin, s.begin == 0, out));
    }
    return MW_OK;
}

/* ---- decoding ---------------------------------------------------------------------------------------- */

static mw_status list_tokens(const mw_tokenizer *t, const int32_t *ids, int64_t count, text_list *out) {
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocabulary.size || !t->vocabulary.token[ids[i]]) continue;
        int32_t added = t->added_of[ids[i]];
        if (added >= 0)
            mw_text_add(&out->bytes, t->added.items[added].search, t->added.items[added].search_length);
        else
            mw_text_add(&out->bytes, t->vocabulary.token[ids[i]], t->vocabulary.length[ids[i]]);
        MW_TRY(text_list_end(out));
    }
    return MW_OK;
}

mw_status mw_tokenizer_decode(const mw_tokenizer *t, const int32_t *ids, int64_t count, mw_text *out) {
    text_list tokens = {0};
    mw_status status = list_tokens(t, ids, count, &tokens);
    if (status == MW_OK) status = decoders_apply(&t->decoders, &tokens, out);
    text_list_free(&tokens);
    return status;
}

void mw_tokenizer_set_source(mw_tokenizer *t, const char *path, const char *what, int64_t number) {
    t->origin.path = path;
    t->origin.what = what;
    t->origin.number = number;
}

/* ---- facts ------------------------------------------------------------------------------------------- */

int64_t mw_tokenizer_size(const mw_tokenizer *t) {
    return t->vocabulary.size;
}

int32_t mw_tokenizer_bos(const mw_tokenizer *t) {
    return t->bos;
}

int32_t mw_tokenizer_eos(const mw_tokenizer *t) {
    return t->eos;
}

bool mw_tokenizer_adds_bos(const mw_tokenizer *t) {
    return t->adds_bos;
}

bool mw_tokenizer_is_special(const mw_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocabulary.size && t->special[id];
}

int32_t mw_tokenizer_find(const mw_tokenizer *t, const char *token) {
    return vocabulary_find(&t->vocabulary, token, strlen(token));
}

const char *mw_tokenizer_hash(const mw_tokenizer *t) {
    return t->hash;
}
