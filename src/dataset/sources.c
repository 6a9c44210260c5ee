#include "dataset/sources.h"

#include <glob.h>
#include <string.h>

void sources_close(sources *s) {
    for (int64_t i = 0; i < s->n_files; i++) {
        mw_map_close(&s->files[i].map);
        json_decref(s->files[i].array);
        mw_free(s->files[i].path);
    }
    mw_free(s->files);
    mw_free(s->documents);
    *s = (sources){0};
}

static mw_status add_document(sources *s, int64_t offset, int64_t length) {
    if (!MW_GROW(s->documents, s->n_documents, s->documents_capacity)) return MW_ERR_MEMORY;
    s->documents[s->n_documents++] = (mw_document_place){s->n_files - 1, offset, length};
    return MW_OK;
}

/* ---- listing ----------------------------------------------------------------------------------------- */

static bool is_blank(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r\n", text[i])) return false;
    return true;
}

/* Pieces between separators; blank ones are no documents. */
static mw_status list_pieces(sources *s, const source *f, const char *separator, size_t n) {
    if (f->map.length == 0) return MW_OK;
    const char *text = (const char *)f->map.data, *end = text + f->map.length;
    for (const char *at = text; at < end;) {
        const char *hit = memmem(at, (size_t)(end - at), separator, n);
        size_t length = (size_t)((hit ? hit : end) - at);
        if (!is_blank(at, length)) MW_TRY(add_document(s, at - text, (int64_t)length));
        at = hit ? hit + n : end;
    }
    return MW_OK;
}

/* A file of another kind (weights, an archive) is better refused than read as a very odd text. */
static mw_status check_is_text(const source *f) {
    enum { LOOKED_AT = 1 << 16 };
    size_t length = f->map.length < LOOKED_AT ? f->map.length : LOOKED_AT;
    const uint8_t *zero = length ? memchr(f->map.data, 0, length) : NULL;
    if (!zero) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: byte %lld is 0, so this is no text; expected .txt, .jsonl, .json or .npy",
                    f->path, (long long)(zero - f->map.data));
}

static mw_status list_text(sources *s, const source *f, const mw_dataset_options *options) {
    MW_TRY(check_is_text(f));
    if (options->split == MW_SPLIT_LINE) return list_pieces(s, f, "\n", 1);
    if (options->split == MW_SPLIT_FILE)
        return is_blank((const char *)f->map.data, f->map.length) ? MW_OK : add_document(s, 0, (int64_t)f->map.length);
    if (!options->separator || !options->separator[0])
        return mw_error(MW_ERR_CONFIG, "dataset.separator is empty, but documents are split by it");
    return list_pieces(s, f, options->separator, strlen(options->separator));
}

static mw_status list_json(sources *s, source *f) {
    MW_TRY(mw_json_parse(f->path, (const char *)f->map.data, f->map.length, &f->array));
    if (!json_is_array(f->array)) return mw_error(MW_ERR_FORMAT, "%s: expected one JSON array at the top", f->path);
    for (size_t i = 0; i < json_array_size(f->array); i++) MW_TRY(add_document(s, (int64_t)i, 0));
    return MW_OK;
}

static mw_status list_npy(sources *s, source *f) {
    MW_TRY(npy_open(f));
    for (int64_t i = 0; i < f->rows; i++) MW_TRY(add_document(s, i, 0));
    return MW_OK;
}

static mw_status list_file(sources *s, const char *path, const mw_dataset_options *options) {
    if (!MW_GROW(s->files, s->n_files, s->files_capacity)) return MW_ERR_MEMORY;
    source *f = &s->files[s->n_files++];
    *f = (source){.path = mw_strdup(path)};
    if (!f->path) return MW_ERR_MEMORY;
    MW_TRY(mw_map_open(path, &f->map));
    f->kind = mw_ends_with(path, ".jsonl")  ? SOURCE_JSONL
              : mw_ends_with(path, ".json") ? SOURCE_JSON
              : mw_ends_with(path, ".npy")  ? SOURCE_NPY
                                            : SOURCE_TEXT;
    switch (f->kind) {
    case SOURCE_TEXT:
        return list_text(s, f, options);
    case SOURCE_JSONL:
        return list_pieces(s, f, "\n", 1);
    case SOURCE_JSON:
        return list_json(s, f);
    case SOURCE_NPY:
        return list_npy(s, f);
    }
    return MW_OK;
}

static mw_status list_pattern(sources *s, const char *pattern, const mw_dataset_options *options) {
    glob_t found = {0};
    int code = glob(pattern, GLOB_MARK, NULL, &found);
    mw_status status = MW_OK;
    if (code != 0) status = mw_error(MW_ERR_IO, "dataset.path '%s': no such file", pattern);
    for (size_t i = 0; status == MW_OK && i < found.gl_pathc; i++)
        if (!mw_ends_with(found.gl_pathv[i], "/")) status = list_file(s, found.gl_pathv[i], options);
    globfree(&found);
    return status;
}

mw_status sources_open(const mw_dataset_options *options, sources *out) {
    sources s = {0};
    mw_status status = MW_OK;
    for (int64_t i = 0; status == MW_OK && i < options->n_paths; i++)
        status = list_pattern(&s, options->paths[i], options);
    if (status == MW_OK && s.n_documents == 0)
        status =
            mw_error(MW_ERR_FORMAT, "dataset: no document in %s%s", options->n_paths ? options->paths[0] : "(no path)",
                     options->n_paths > 1 ? " and the other paths" : "");
    if (status == MW_OK && options->limit_documents > 0 && s.n_documents > options->limit_documents)
        s.n_documents = options->limit_documents;
    if (status != MW_OK)
        sources_close(&s);
    else
        *out = s;
    return status;
}

/* ---- reading ----------------------------------------------------------------------------------------- */

static int64_t line_number(const source *f, int64_t offset) {
    int64_t line = 1;
    for (int64_t i = 0; i < offset; i++) line += f->map.data[i] == '\n';
    return line;
}

static mw_status encode_value(const source *f, int64_t place, const json_t *value, const mw_dataset_options *options,
                              mw_tokenizer *tokenizer, mw_ids *out) {
    const json_t *text = json_is_object(value) ? json_object_get(value, options->text_field) : value;
    if (!json_is_string(text))
        return mw_error(MW_ERR_FORMAT, "%s: %s %lld: expected a text in field '%s'", f->path,
                        f->kind == SOURCE_JSONL ? "line" : "element", (long long)place, options->text_field);
    return mw_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), out);
}

static mw_status read_jsonl(const source *f, const mw_document_place *d, const mw_dataset_options *options,
                            mw_tokenizer *tokenizer, mw_ids *out) {
    json_error_t error;
    json_t *value =
        json_loadb((const char *)f->map.data + d->offset, (size_t)d->length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!value)
        return mw_error(MW_ERR_FORMAT, "%s:%lld: not valid JSON: %s", f->path, (long long)line_number(f, d->offset),
                        error.text);
    bool good = json_is_string(json_is_object(value) ? json_object_get(value, options->text_field) : value);
    mw_status status = encode_value(f, good ? 0 : line_number(f, d->offset), value, options, tokenizer, out);
    json_decref(value);
    return status;
}

mw_status sources_read(const sources *s, int64_t document, const mw_dataset_options *options, mw_tokenizer *tokenizer,
                       mw_ids *out) {
    const mw_document_place *d = &s->documents[document];
    const source *f = &s->files[d->file];
    if (f->kind == SOURCE_NPY) return npy_read(f, d->offset, out);
    if (!tokenizer) return mw_error(MW_ERR_ARG, "%s: texts need a tokenizer", f->path);
    if (f->kind == SOURCE_JSONL) return read_jsonl(f, d, options, tokenizer, out);
    if (f->kind == SOURCE_JSON)
        return encode_value(f, d->offset, json_array_get(f->array, (size_t)d->offset), options, tokenizer, out);
    const char *text = (const char *)f->map.data + d->offset;
    size_t length = (size_t)d->length;
    if (options->split != MW_SPLIT_FILE) /* line ends around a document are not part of it */
        for (; length && strchr("\r\n", *text); length--) text++;
    while (options->split != MW_SPLIT_FILE && length && strchr("\r\n", text[length - 1])) length--;
    return mw_tokenizer_encode(tokenizer, text, length, out);
}
