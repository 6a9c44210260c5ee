/* Reader of CSV records. */
#include "base/csv.h"

#include <string.h>

void mw_csv_begin(const char *path, const char *text, size_t length, char delimiter, mw_csv *out) {
    bool marked = length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0;
    *out = (mw_csv){
        .path = path, .text = text, .length = length, .at = marked ? 3 : 0, .delimiter = delimiter, .next_line = 1};
}

void mw_csv_free(mw_csv *csv) {
    mw_free(csv->starts);
    mw_text_free(&csv->bytes);
    *csv = (mw_csv){0};
}

static bool at_line_end(const mw_csv *csv) {
    return csv->at < csv->length && (csv->text[csv->at] == '\n' || csv->text[csv->at] == '\r');
}

static void skip_line_end(mw_csv *csv) {
    bool pair = csv->text[csv->at] == '\r' && csv->at + 1 < csv->length && csv->text[csv->at + 1] == '\n';
    csv->at += pair ? 2 : 1;
    csv->next_line++;
}

static void skip_blank_lines(mw_csv *csv) {
    while (at_line_end(csv)) skip_line_end(csv);
}

/* Reads from an opening quote to the quote that closes it. */
static mw_status read_quoted(mw_csv *csv) {
    int64_t line = csv->next_line;
    csv->at++;
    for (size_t run = csv->at;; csv->at++) {
        if (csv->at >= csv->length)
            return mw_error(MW_ERR_FORMAT, "%s:%lld: the quote that opens here is never closed", csv->path,
                            (long long)line);
        char c = csv->text[csv->at];
        bool after_cr = c == '\n' && csv->text[csv->at - 1] == '\r';
        if ((c == '\n' && !after_cr) || c == '\r') csv->next_line++;
        if (c != '"') continue;
        mw_text_add(&csv->bytes, csv->text + run, csv->at - run);
        if (csv->at + 1 >= csv->length || csv->text[csv->at + 1] != '"') break;
        run = ++csv->at; /* two quotes stand for one */
    }
    csv->at++;
    return MW_OK;
}

/* Appends one field to `bytes`, and its start and end to `starts`. */
static mw_status read_field(mw_csv *csv) {
    if (csv->n_fields + 1 >= csv->capacity && !mw_grow_((void **)&csv->starts, &csv->capacity, sizeof *csv->starts))
        return MW_ERR_MEMORY;
    csv->starts[csv->n_fields++] = csv->bytes.length;
    bool quoted = csv->at < csv->length && csv->text[csv->at] == '"';
    if (quoted) MW_TRY(read_quoted(csv));
    size_t run = csv->at;
    while (csv->at < csv->length && csv->text[csv->at] != csv->delimiter && !at_line_end(csv)) csv->at++;
    if (quoted && csv->at > run)
        return mw_error(MW_ERR_FORMAT,
                        "%s:%lld: text behind the quote that closes a field; a quote inside a field is written twice",
                        csv->path, (long long)csv->next_line);
    mw_text_add(&csv->bytes, csv->text + run, csv->at - run);
    mw_text_add(&csv->bytes, "", 1);
    csv->starts[csv->n_fields] = csv->bytes.length;
    return csv->bytes.failed ? MW_ERR_MEMORY : MW_OK;
}

mw_status mw_csv_next(mw_csv *csv, bool *found) {
    skip_blank_lines(csv);
    *found = csv->at < csv->length;
    if (!*found) return MW_OK;
    csv->n_fields = 0;
    csv->bytes.length = 0;
    csv->line = csv->next_line;
    csv->begin = csv->at;
    for (;;) {
        MW_TRY(read_field(csv));
        if (csv->at >= csv->length || csv->text[csv->at] != csv->delimiter) break;
        csv->at++;
    }
    csv->end = csv->at;
    if (at_line_end(csv)) skip_line_end(csv);
    return MW_OK;
}

const char *mw_csv_field(const mw_csv *csv, int64_t i, size_t *length) {
    bool exists = i >= 0 && i < csv->n_fields;
    if (length) *length = exists ? csv->starts[i + 1] - csv->starts[i] - 1 : 0;
    return exists ? csv->bytes.data + csv->starts[i] : "";
}
