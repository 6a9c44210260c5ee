/* Lists the documents of files and reads them as token ids. */
#include "dataset/documents.h"
#include "base/csv.h"

#include <glob.h>
#include <string.h>

void document_files_close(document_files *files) {
    for (int64_t i = 0; i < files->n_files; i++) document_file_close(&files->items[i]);
    mw_free(files->items);
    mw_free(files->documents);
    *files = (document_files){0};
}

static mw_status add_document(document_files *files, int64_t offset, int64_t length) {
    if (!MW_GROW(files->documents, files->n_documents, files->documents_capacity)) return MW_ERR_MEMORY;
    files->documents[files->n_documents++] = (mw_document_span){files->n_files - 1, offset, length};
    return MW_OK;
}

static const char *text_of(const document_file *f) {
    return (const char *)f->data;
}

static long long line_of(const document_file *f, int64_t offset) {
    return (long long)mw_line_number(text_of(f), (size_t)offset);
}

/* ---- listing ----------------------------------------------------------------------------------------- */

static bool is_blank(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (!memchr(" \t\r\n", text[i], 4)) return false;
    return true;
}

/* Lists the pieces between separators, from byte `from` on, as documents; skips blank ones. */
static mw_status list_pieces(document_files *files, const document_file *f, size_t from, const char *separator,
                             size_t n) {
    if (f->length == 0) return MW_OK;
    const char *text = text_of(f), *end = text + f->length;
    for (const char *at = text + from; at < end;) {
        const char *hit = memmem(at, (size_t)(end - at), separator, n);
        size_t length = (size_t)((hit ? hit : end) - at);
        if (!is_blank(at, length)) MW_TRY(add_document(files, at - text, (int64_t)length));
        at = hit ? hit + n : end;
    }
    return MW_OK;
}

/* Refuses binary files (weights, archives) rather than read them as text. */
static mw_status check_is_text(const document_file *f) {
    enum { LOOKED_AT = 1 << 16 };
    size_t length = f->length < LOOKED_AT ? f->length : LOOKED_AT;
    const uint8_t *zero = length ? memchr(f->data, 0, length) : NULL;
    if (!zero) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: not a text file: byte %lld is 0", f->path, (long long)(zero - f->data));
}

static mw_status list_text(document_files *files, const document_file *f, const mw_dataset_options *options) {
    MW_TRY(check_is_text(f));
    if (options->split == MW_SPLIT_LINE) return list_pieces(files, f, 0, "\n", 1);
    if (options->split == MW_SPLIT_FILE)
        return is_blank(text_of(f), f->length) ? MW_OK : add_document(files, 0, (int64_t)f->length);
    if (!options->separator || !options->separator[0])
        return mw_error(MW_ERR_CONFIG,
                        "dataset.separator: expected at least one character to split documents at, found none");
    return list_pieces(files, f, 0, options->separator, strlen(options->separator));
}

static size_t byte_order_mark_length(const document_file *f) {
    return f->length >= 3 && memcmp(f->data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

static mw_status list_array(document_files *files, document_file *f) {
    mw_json_report report;
    if (!(f->array = mw_json_read(text_of(f), f->length, &report)))
        return mw_error(report.status, "%s:%lld: not valid JSON: %s", f->path, line_of(f, (int64_t)report.at),
                        report.problem);
    files->surrogates += report.surrogates;
    for (size_t i = 0; i < json_array_size(f->array); i++) MW_TRY(add_document(files, (int64_t)i, 0));
    return MW_OK;
}

/* Lists one array, or one value per line: without a leading bracket, if the first line is a whole value. */
static mw_status list_json(document_files *files, document_file *f) {
    size_t from = byte_order_mark_length(f);
    while (from < f->length && is_blank(text_of(f) + from, 1)) from++;
    if (from < f->length && f->data[from] == '[') return list_array(files, f);
    const char *end = from < f->length ? memchr(f->data + from, '\n', f->length - from) : NULL;
    size_t first = (end ? (size_t)(end - text_of(f)) : f->length) - from;
    mw_json_report report;
    json_t *value = first ? mw_json_read(text_of(f) + from, first, &report) : NULL;
    if (!value && first && report.status == MW_ERR_MEMORY)
        return mw_error(MW_ERR_MEMORY, "%s: %s", f->path, report.problem);
    if (!value)
        return mw_error(MW_ERR_FORMAT, "%s:%lld: expected one JSON array, or one JSON value a line%s%s", f->path,
                        line_of(f, (int64_t)from), first ? ": " : "", first ? report.problem : "");
    json_decref(value);
    f->kind = MW_FORMAT_JSONL;
    return list_pieces(files, f, from, "\n", 1);
}

static mw_status list_npy(document_files *files, document_file *f) {
    MW_TRY(npy_open(f));
    for (int64_t i = 0; i < f->rows; i++) MW_TRY(add_document(files, i, 0));
    return MW_OK;
}

/* Finds the column of the text in the header, the current record of `csv`. */
static mw_status find_column(const mw_csv *csv, document_file *f, const char *name) {
    f->column = -1;
    f->columns = csv->n_fields;
    mw_text names = {0};
    for (int64_t i = 0; i < csv->n_fields; i++) {
        const char *field = mw_csv_field(csv, i, NULL);
        mw_text_addf(&names, "%s%s", i ? ", " : "", field);
        if (strcmp(field, name) != 0) continue;
        if (f->column >= 0) {
            mw_text_free(&names);
            return mw_error(MW_ERR_FORMAT, "%s:%lld: column '%s' occurs twice", f->path, (long long)csv->line, name);
        }
        f->column = i;
    }
    mw_status status = names.failed ? MW_ERR_MEMORY : MW_OK;
    if (status == MW_OK && f->column < 0)
        status = mw_error(MW_ERR_CONFIG, "%s:%lld: no column '%s' (dataset.text_field); columns: %.400s", f->path,
                          (long long)csv->line, name, csv->n_fields ? names.data : "none");
    mw_text_free(&names);
    return status;
}

static mw_status list_records(document_files *files, document_file *f, mw_csv *csv, const mw_dataset_options *options) {
    bool found;
    MW_TRY(mw_csv_next(csv, &found));
    if (!found) return MW_OK;
    MW_TRY(find_column(csv, f, options->text_field));
    for (;;) {
        MW_TRY(mw_csv_next(csv, &found));
        if (!found) return MW_OK;
        if (csv->n_fields > f->columns)
            return mw_error(MW_ERR_FORMAT, "%s:%lld: %lld fields, but the header has %lld", f->path,
                            (long long)csv->line, (long long)csv->n_fields, (long long)f->columns);
        MW_TRY(add_document(files, (int64_t)csv->begin, (int64_t)(csv->end - csv->begin)));
    }
}

static char delimiter_of(const document_file *f) {
    return f->kind == MW_FORMAT_TSV ? '\t' : ',';
}

static mw_status list_csv(document_files *files, document_file *f, const mw_dataset_options *options) {
    mw_csv csv;
    MW_TRY(check_is_text(f));
    mw_csv_begin(f->path, text_of(f), f->length, delimiter_of(f), &csv);
    mw_status status = list_records(files, f, &csv, options);
    mw_csv_free(&csv);
    return status;
}

static mw_status list_file(document_files *files, const char *path, const mw_dataset_options *options) {
    if (!MW_GROW(files->items, files->n_files, files->files_capacity)) return MW_ERR_MEMORY;
    document_file *f = &files->items[files->n_files++];
    MW_TRY(document_file_open(path, options->format, f));
    switch (f->kind) {
    case MW_FORMAT_AUTO:
    case MW_FORMAT_TEXT:
        return list_text(files, f, options);
    case MW_FORMAT_JSONL:
        return list_pieces(files, f, byte_order_mark_length(f), "\n", 1);
    case MW_FORMAT_JSON:
        return list_json(files, f);
    case MW_FORMAT_CSV:
    case MW_FORMAT_TSV:
        return list_csv(files, f, options);
    case MW_FORMAT_NPY:
        return list_npy(files, f);
    }
    return MW_OK;
}

/* A file with this exact name takes precedence, even if the name is also a pattern (text[1].txt). */
static mw_status list_pattern(document_files *files, const char *pattern, const mw_dataset_options *options) {
    if (mw_is_directory(pattern))
        return mw_error(MW_ERR_IO, "dataset.path '%s': a folder; expected files, for instance '%s/*.jsonl'", pattern,
                        pattern);
    if (mw_path_exists(pattern)) return list_file(files, pattern, options);
    glob_t found = {0};
    int code = glob(pattern, GLOB_MARK, NULL, &found);
    mw_status status = MW_OK;
    if (code != 0) status = mw_error(MW_ERR_IO, "dataset.path '%s': no such file", pattern);
    for (size_t i = 0; status == MW_OK && i < found.gl_pathc; i++)
        if (!mw_ends_with(found.gl_pathv[i], "/")) status = list_file(files, found.gl_pathv[i], options);
    globfree(&found);
    return status;
}

mw_status document_files_open(const mw_dataset_options *options, document_files *out) {
    document_files files = {0};
    mw_status status = MW_OK;
    for (int64_t i = 0; status == MW_OK && i < options->n_paths; i++)
        status = list_pattern(&files, options->paths[i], options);
    if (status == MW_OK && files.n_documents == 0)
        status =
            mw_error(MW_ERR_FORMAT, "dataset: no document in %s%s", options->n_paths ? options->paths[0] : "(no path)",
                     options->n_paths > 1 ? " and the other paths" : "");
    if (status == MW_OK && options->limit_documents > 0 && files.n_documents > options->limit_documents)
        files.n_documents = options->limit_documents;
    if (status != MW_OK)
        document_files_close(&files);
    else
        *out = files;
    return status;
}

/* ---- reading ----------------------------------------------------------------------------------------- */

/* Appends the names of an object's members, for a message. */
static void add_names(mw_text *out, const json_t *object) {
    const char *key;
    json_t *value;
    mw_text_addf(out, "; fields: ");
    size_t before = out->length;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        if (out->length > before) mw_text_addf(out, ", ");
        mw_text_add_visible(out, key, strlen(key));
        if (out->length - before > 300) {
            mw_text_addf(out, ", ...");
            break;
        }
    }
    if (out->length == before) mw_text_addf(out, "none");
}

/* Handles a record without text by options->on_missing. `record`: its JSON object, or NULL. */
static mw_status missing_text(const document_file *f, const mw_document_span *d, const char *found,
                              const json_t *record, read_context *r) {
    if (r->options->on_missing == MW_MISSING_SKIP) return r->skipped++, MW_OK;
    bool element = f->array != NULL;
    mw_text names = {0};
    mw_text_add(&names, "", 0);
    if (record) add_names(&names, record);
    mw_status status =
        names.failed
            ? MW_ERR_MEMORY
            : mw_error(MW_ERR_FORMAT,
                       "%s%s%lld: expected a text in field '%s', found %s%s; dataset.on_missing: skip "
                       "drops such records",
                       f->path, element ? ": element " : ":", element ? (long long)d->offset : line_of(f, d->offset),
                       r->options->text_field, found, names.data);
    mw_text_free(&names);
    return status;
}

static mw_status encode_text(const document_file *f, const mw_document_span *d, const char *text, size_t length,
                             read_context *r, mw_ids *out) {
    r->invalid_utf8 += !mw_utf8_valid(text, length);
    mw_tokenizer_set_source(r->tokenizer, f->path, f->array ? "element" : "the document at byte", d->offset);
    mw_status status = mw_tokenizer_encode(r->tokenizer, text, length, out);
    mw_tokenizer_set_source(r->tokenizer, NULL, NULL, 0);
    return status;
}

static mw_status encode_value(const document_file *f, const mw_document_span *d, const json_t *value, read_context *r,
                              mw_ids *out) {
    bool record = json_is_object(value) && !mw_json_odd(value);
    const json_t *text = record ? json_object_get(value, r->options->text_field) : value;
    if (json_string_length(text) > 0)
        return encode_text(f, d, json_string_value(text), json_string_length(text), r, out);
    char found[MW_JSON_FOUND];
    return missing_text(f, d, json_is_string(text) ? "an empty text" : mw_json_found(text, found),
                        record ? value : NULL, r);
}

static mw_status read_line(const document_file *f, const mw_document_span *d, read_context *r, mw_ids *out) {
    mw_json_report report;
    json_t *value = mw_json_read(text_of(f) + d->offset, (size_t)d->length, &report);
    if (!value)
        return mw_error(report.status, "%s:%lld: not valid JSON: %s", f->path, line_of(f, d->offset), report.problem);
    r->surrogates += report.surrogates;
    mw_status status = encode_value(f, d, value, r, out);
    json_decref(value);
    return status;
}

static mw_status read_record(const document_file *f, const mw_document_span *d, read_context *r, mw_ids *out) {
    mw_csv csv;
    bool found;
    mw_csv_begin(f->path, text_of(f) + d->offset, (size_t)d->length, delimiter_of(f), &csv);
    mw_status status = mw_csv_next(&csv, &found);
    size_t length = 0;
    const char *text = status == MW_OK ? mw_csv_field(&csv, f->column, &length) : "";
    if (status == MW_OK)
        status = length ? encode_text(f, d, text, length, r, out)
                        : missing_text(f, d, f->column < csv.n_fields ? "an empty text" : "fewer fields", NULL, r);
    mw_csv_free(&csv);
    return status;
}

static bool is_line_end(char c) {
    return c == '\r' || c == '\n';
}

static mw_status read_text(const document_file *f, const mw_document_span *d, read_context *r, mw_ids *out) {
    const char *text = text_of(f) + d->offset;
    size_t length = (size_t)d->length;
    if (r->options->split != MW_SPLIT_FILE) { /* line ends around a document are not part of it */
        for (; length && is_line_end(*text); length--) text++;
        while (length && is_line_end(text[length - 1])) length--;
    }
    return encode_text(f, d, text, length, r, out);
}

/* Appends the ids of a row. A row that begins with bos keeps that one where each document is given one. */
static mw_status read_row(const document_file *f, const mw_document_span *d, const read_context *r, mw_ids *out) {
    int64_t first = out->count;
    MW_TRY(npy_read(f, d->offset, out));
    bool given = r->tokenizer && (r->options->bos == MW_BOS_AUTO || r->options->bos == MW_BOS_DOCUMENT);
    if (!given || out->count - first < 2 || out->data[first] != mw_tokenizer_bos(r->tokenizer)) return MW_OK;
    out->count--;
    memmove(out->data + first, out->data + first + 1, (size_t)(out->count - first) * sizeof *out->data);
    return MW_OK;
}

mw_status document_read(const document_files *files, int64_t document, read_context *r, mw_ids *out) {
    const mw_document_span *d = &files->documents[document];
    const document_file *f = &files->items[d->file];
    if (f->kind == MW_FORMAT_NPY) return read_row(f, d, r, out);
    if (!r->tokenizer) return mw_error(MW_ERR_ARG, "%s: texts need a tokenizer", f->path);
    if (f->array) return encode_value(f, d, json_array_get(f->array, (size_t)d->offset), r, out);
    if (f->kind == MW_FORMAT_JSONL) return read_line(f, d, r, out);
    return f->kind == MW_FORMAT_TEXT ? read_text(f, d, r, out) : read_record(f, d, r, out);
}
