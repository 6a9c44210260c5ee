#include "microw/tokenizer.h"
#include "model/hub.h"
#include "model/tokenizer/parts.h"

#include <string.h>

/* ---- opening ----------------------------------------------------------------------------------------- */

static mw_status mark_special(mw_tokenizer *t) {
    if (!(t->special = mw_calloc((size_t)t->shown.size, sizeof *t->special))) return MW_ERR_MEMORY;
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
            status = mw_error(MW_ERR_IO, "%s: neither tokenizer.json nor vocab.json with merges.txt is there", folder);
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
    MW_TRY(tokenizer_spell(t));
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
    for (int64_t i = 0; t->bytes && i < t->shown.size; i++) mw_free(t->bytes[i]);
    for (int64_t i = 0; i < t->n_added; i++) mw_free(t->added[i].content);
    mw_free(t->bytes);
    mw_free(t->bytes_length);
    mw_free(t->special);
    mw_free(t->added);
    bpe_free(&t->model);
    vocabulary_free(&t->shown);
    trie_free(&t->raw);
    trie_free(&t->normalized);
    steps_free(&t->normalizers);
    steps_free(&t->splitters);
    mw_text_free(&t->repaired);
    mw_text_free(&t->part);
    mw_text_free(&t->other);
    mw_free(t->outer.items);
    mw_free(t->inner.items);
    mw_free(t->pieces.items);
    mw_free(t->more.items);
    mw_free(t->path);
    mw_free(t);
    *slot = NULL;
}

/* ---- encoding ---------------------------------------------------------------------------------------- */

static mw_status encode_words(mw_tokenizer *t, const char *text, size_t length, bool first, mw_ids *out) {
    if (text != t->part.data) { /* else it is there already */
        t->part.length = 0;
        mw_text_add(&t->part, text, length);
    }
    MW_TRY(steps_split(&t->splitters, &t->place, first, &t->part, &t->other, &t->pieces, &t->more));
    for (int64_t i = 0; i < t->pieces.count; i++) {
        piece p = t->pieces.items[i];
        MW_TRY(bpe_encode(&t->model, t->part.data + p.begin, p.end - p.begin, out));
    }
    return MW_OK;
}

/* A stretch without raw added tokens: normalize, find the normalized added tokens, cut the rest into words. */
static mw_status encode_stretch(mw_tokenizer *t, const char *text, size_t length, bool first, mw_ids *out) {
    t->part.length = 0;
    mw_text_add(&t->part, text, length);
    MW_TRY(steps_normalize(&t->normalizers, &t->place, &t->part, &t->other));
    MW_TRY(trie_cut(&t->normalized, t->added, t->part.data, t->part.length, &t->inner));
    if (t->inner.count == 1 && t->inner.items[0].id < 0)
        return encode_words(t, t->part.data, t->part.length, first, out);
    mw_text normal = t->part; /* encode_words uses t->part */
    t->part = (mw_text){0};
    mw_status status = MW_OK;
    for (int64_t i = 0; status == MW_OK && i < t->inner.count; i++) {
        stretch s = t->inner.items[i];
        status = s.id >= 0 ? mw_ids_add(out, s.id)
                           : encode_words(t, normal.data + s.begin, s.end - s.begin, first && s.begin == 0, out);
    }
    mw_text_free(&t->part);
    t->part = normal;
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
    MW_TRY(trie_cut(&t->raw, t->added, text, length, &t->outer));
    for (int64_t i = 0; i < t->outer.count; i++) {
        stretch s = t->outer.items[i];
        t->place.at = s.begin;
        MW_TRY(s.id >= 0 ? mw_ids_add(out, s.id)
                         : encode_stretch(t, text + s.begin, s.end - s.begin, s.begin == 0, out));
    }
    return MW_OK;
}

void mw_tokenizer_reads(mw_tokenizer *t, const char *path, const char *what, int64_t number) {
    t->place.path = path;
    t->place.what = what;
    t->place.number = number;
}

/* ---- facts ------------------------------------------------------------------------------------------- */

int64_t mw_tokenizer_size(const mw_tokenizer *t) {
    return t->shown.size;
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
    return id >= 0 && id < t->shown.size && t->special[id];
}

int32_t mw_tokenizer_find(const mw_tokenizer *t, const char *token) {
    return vocabulary_find(&t->shown, token, strlen(token));
}

const char *mw_tokenizer_hash(const mw_tokenizer *t) {
    return t->hash;
}
