/* Opens tokenizers and encodes texts. */
#include "microw/tokenizer.h"
#include "model/hub.h"
#include "model/tokenizer/tokenizer_private.h"

#include <string.h>

/* ---- opening ----------------------------------------------------------------------------------------- */

static mw_status mark_special(mw_tokenizer *t) {
    if (!(t->special = mw_calloc((size_t)t->vocabulary.size, sizeof *t->special))) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < t->n_added; i++)
        if (t->added[i].special) t->special[t->added[i].id] = true;
    if (t->bos < 0) t->bos = t->eos;
    return MW_OK;
}

static mw_status read_folder(const char *folder, mw_tokenizer *t) {
    char *json = mw_path_join(folder, "tokenizer.json"), *vocab = mw_path_join(folder, "vocab.json");
    char *merges_path = mw_path_join(folder, "merges.txt"), *config = mw_path_join(folder, "tokenizer_config.json");
    mw_status status = json && vocab && merges_path && config ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) {
        if (mw_file_exists(json))
            status = tokenizer_read_json(json, t);
        else if (mw_file_exists(vocab) && mw_file_exists(merges_path))
            status = tokenizer_read_pair(vocab, merges_path, t);
        else
            status = mw_error(MW_ERR_IO, "%s: found neither tokenizer.json nor vocab.json with merges.txt", folder);
    }
    if (status == MW_OK) status = tokenizer_read_config(config, t);
    mw_free(json);
    mw_free(vocab);
    mw_free(merges_path);
    mw_free(config);
    return status;
}

static mw_status open_into(const char *path, mw_tokenizer *t) {
    if (mw_file_exists(path)) {
        MW_TRY(tokenizer_read_json(path, t));
    } else {
        char *folder;
        MW_TRY(mw_hub_folder(path, &folder));
        mw_status status = read_folder(folder, t);
        mw_free(folder);
        if (status != MW_OK) return status;
    }
    MW_TRY(bpe_ready(&t->model));
    MW_TRY(tokenizer_fill_token_bytes(t));
    return mark_special(t);
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
    for (int64_t i = 0; i < t->n_added; i++) mw_free(t->added[i].content);
    mw_free(t->bytes);
    mw_free(t->bytes_length);
    mw_free(t->special);
    mw_free(t->added);
    bpe_free(&t->model);
    vocabulary_free(&t->vocabulary);
    trie_free(&t->raw);
    trie_free(&t->normalized);
    steps_free(&t->normalizers);
    steps_free(&t->splitters);
    mw_text_free(&t->repaired);
    mw_text_free(&t->working);
    mw_text_free(&t->spare);
    mw_free(t->raw_spans.items);
    mw_free(t->normalized_spans.items);
    mw_free(t->pieces.items);
    mw_free(t->spare_pieces.items);
    mw_free(t->path);
    mw_free(t);
    *slot = NULL;
}

/* ---- encoding ---------------------------------------------------------------------------------------- */

static mw_status encode_words(mw_tokenizer *t, const char *text, size_t length, bool first, mw_ids *out) {
    if (text != t->working.data) { /* else `text` is t->working already */
        t->working.length = 0;
        mw_text_add(&t->working, text, length);
    }
    MW_TRY(steps_split(&t->splitters, &t->origin, first, &t->working, &t->spare, &t->pieces, &t->spare_pieces));
    for (int64_t i = 0; i < t->pieces.count; i++) {
        piece p = t->pieces.items[i];
        MW_TRY(bpe_encode(&t->model, t->working.data + p.begin, p.end - p.begin, out));
    }
    return MW_OK;
}

/* Encodes a span without raw added tokens: normalizes it, finds normalized added tokens, splits the rest into words. */
static mw_status encode_span(mw_tokenizer *t, const char *text, size_t length, bool first, mw_ids *out) {
    t->working.length = 0;
    mw_text_add(&t->working, text, length);
    MW_TRY(steps_normalize(&t->normalizers, &t->origin, &t->working, &t->spare));
    MW_TRY(trie_split(&t->normalized, t->added, t->working.data, t->working.length, &t->normalized_spans));
    if (t->normalized_spans.count == 1 && t->normalized_spans.items[0].id < 0)
        return encode_words(t, t->working.data, t->working.length, first, out);
    mw_text normalized = t->working; /* encode_words uses t->working */
    t->working = (mw_text){0};
    mw_status status = MW_OK;
    for (int64_t i = 0; status == MW_OK && i < t->normalized_spans.count; i++) {
        span s = t->normalized_spans.items[i];
        status = s.id >= 0 ? mw_ids_add(out, s.id)
                           : encode_words(t, normalized.data + s.begin, s.end - s.begin, first && s.begin == 0, out);
    }
    mw_text_free(&t->working);
    t->working = normalized;
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
    MW_TRY(trie_split(&t->raw, t->added, text, length, &t->raw_spans));
    for (int64_t i = 0; i < t->raw_spans.count; i++) {
        span s = t->raw_spans.items[i];
        t->origin.byte = s.begin;
        MW_TRY(s.id >= 0 ? mw_ids_add(out, s.id) : encode_span(t, text + s.begin, s.end - s.begin, s.begin == 0, out));
    }
    return MW_OK;
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
