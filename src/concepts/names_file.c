/* Reader and writer of names: CSV, JSON, and the format of Neuronpedia's explanation exports. */
#include "base/csv.h"
#include "base/json.h"
#include "microw/concepts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Collects the names of a file; the caller's list changes only after the whole file was read without error. */
typedef struct reader {
    const char *path, *by;
    int64_t n;
    struct parsed_name {
        int64_t latent;
        mw_name name;
    } * list;
    int64_t count, capacity;
} reader;

static char *copy_or_null(const char *text) {
    return text && text[0] ? mw_strdup(text) : NULL;
}

/* Appends a name; an empty one removes the latent's name later. `where` begins the message of an error. */
static mw_status add_name(reader *r, const char *where, const char *latent, const mw_name *name) {
    int64_t number;
    if (!latent || !mw_parse_int(latent, &number) || number < 0 || number >= r->n || !name->name)
        return mw_error(MW_ERR_FORMAT, "%s: expected a latent from 0 to %lld with a name, found latent '%s', name '%s'",
                        where, (long long)r->n - 1, latent ? latent : "", name->name ? name->name : "");
    if (!MW_GROW(r->list, r->count, r->capacity)) return MW_ERR_MEMORY;
    const char *by = name->by && name->by[0] ? name->by : r->by;
    r->list[r->count++] = (struct parsed_name){
        number, {copy_or_null(name->name), copy_or_null(name->note), copy_or_null(by), name->score}};
    return r->list[r->count - 1].name.name || !name->name[0] ? MW_OK : MW_ERR_MEMORY;
}

/* ---- CSV ------------------------------------------------------------------------------------------------ */

enum { COLUMN_LATENT, COLUMN_NAME, COLUMN_NOTE, COLUMN_BY, COLUMN_SCORE, COLUMNS };
static const char *const column_names[COLUMNS] = {"latent", "name", "note", "by", "score"};

typedef struct table {
    mw_csv csv;
    int64_t n_fields;        /* most fields of a row */
    int64_t column[COLUMNS]; /* index of each column in the file; -1: absent */
    int64_t *line;           /* [n] line that names the latent; 0: none so far */
} table;

/* Returns whether the current record is a header: it names at least the columns latent and name. Without one these are
 * the first two. */
static bool read_header(table *t) {
    for (int c = 0; c < COLUMNS; c++) {
        t->column[c] = -1;
        for (int64_t i = t->csv.n_fields - 1; i >= 0; i--)
            if (strcmp(mw_csv_field(&t->csv, i, NULL), column_names[c]) == 0) t->column[c] = i;
    }
    bool header = t->column[COLUMN_LATENT] >= 0 && t->column[COLUMN_NAME] >= 0;
    for (int c = 0; !header && c < COLUMNS; c++) t->column[c] = c < 2 ? c : -1;
    return header;
}

static char *field_of(const table *t, int c) {
    return (char *)(uintptr_t)mw_csv_field(&t->csv, t->column[c], NULL);
}

/* Refuses a second row of a latent: one of the two names would be lost. */
static mw_status check_unique(reader *r, table *t, int64_t latent) {
    int64_t *line = &t->line[latent];
    if (*line)
        return mw_error(MW_ERR_FORMAT, "%s:%lld: latent %lld is already named on line %lld", r->path,
                        (long long)t->csv.line, (long long)latent, (long long)*line);
    *line = t->csv.line;
    return MW_OK;
}

static mw_status read_row(reader *r, table *t) {
    mw_name name = {field_of(t, COLUMN_NAME), field_of(t, COLUMN_NOTE), field_of(t, COLUMN_BY), NAN};
    const char *score = field_of(t, COLUMN_SCORE), *latent = field_of(t, COLUMN_LATENT);
    char where[512];
    if (!latent[0] && !name.name[0]) return MW_OK;
    snprintf(where, sizeof where, "%s:%lld", r->path, (long long)t->csv.line);
    if (t->csv.n_fields > t->n_fields)
        return mw_error(MW_ERR_FORMAT, "%s: %lld fields, expected at most %lld: quote texts that contain a comma",
                        where, (long long)t->csv.n_fields, (long long)t->n_fields);
    if (score[0] && !mw_parse_double(score, &name.score))
        return mw_error(MW_ERR_FORMAT, "%s: score '%s' is not a number", where, score);
    MW_TRY(add_name(r, where, latent, &name));
    return check_unique(r, t, r->list[r->count - 1].latent);
}

static mw_status read_rows(reader *r, table *t) {
    bool more;
    MW_TRY(mw_csv_next(&t->csv, &more));
    t->n_fields = t->csv.n_fields; /* of the header, else of the first row */
    if (more && read_header(t)) MW_TRY(mw_csv_next(&t->csv, &more));
    while (more) {
        MW_TRY(read_row(r, t));
        MW_TRY(mw_csv_next(&t->csv, &more));
    }
    return MW_OK;
}

static mw_status read_csv(reader *r, const char *text, size_t length) {
    table t = {.line = mw_calloc((size_t)r->n, sizeof *t.line)};
    const char *zero = memchr(text, 0, length);
    mw_csv_begin(r->path, text, length, ',', &t.csv);
    mw_status status = !t.line ? MW_ERR_MEMORY
                       : zero  ? mw_error(MW_ERR_FORMAT, "%s:%lld: a NUL byte: not a CSV file", r->path,
                                          (long long)mw_line_number(text, (size_t)(zero - text)))
                               : read_rows(r, &t);
    mw_csv_free(&t.csv);
    mw_free(t.line);
    return status;
}

static void write_field(mw_text *out, const char *text) {
    mw_text_add(out, ",\"", 2);
    for (const char *p = text ? text : ""; *p; p++) mw_text_add(out, *p == '"' ? "\"\"" : p, *p == '"' ? 2 : 1);
    mw_text_add(out, "\"", 1);
}

static void write_csv(const mw_names *names, mw_text *out) {
    mw_text_addf(out, "latent,name,note,by,score\n");
    for (int64_t i = 0; i < names->n; i++) {
        const mw_name *name = &names->of[i];
        if (!name->name) continue;
        mw_text_addf(out, "%lld", (long long)i);
        write_field(out, name->name);
        write_field(out, name->note);
        write_field(out, name->by);
        if (isfinite(name->score))
            mw_text_addf(out, ",%.6g\n", name->score);
        else
            mw_text_addf(out, ",\n");
    }
}

/* ---- JSON ----------------------------------------------------------------------------------------------- */

static mw_status read_map(reader *r, json_t *root) {
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        char where[512];
        snprintf(where, sizeof where, "%s: key '%s'", r->path, key);
        if (mw_json_odd(value))
            return mw_error(MW_ERR_FORMAT, "%s: expected a name, found %s", where, mw_json_odd(value));
        mw_name name = {.score = mw_json_number(value, "score", NAN)};
        name.name = (char *)(uintptr_t)(json_is_string(value) ? json_string_value(value) : mw_json_text(value, "name"));
        name.note = (char *)(uintptr_t)mw_json_text(value, "note");
        name.by = (char *)(uintptr_t)mw_json_text(value, "by");
        MW_TRY(add_name(r, where, key, &name));
    }
    return MW_OK;
}

/* Reads one explanation: "index", a string or a number, and "description". */
static mw_status read_explanation(reader *r, const char *where, const json_t *o) {
    const json_t *index = json_object_get(o, "index");
    char number[32] = "";
    if (json_is_integer(index)) snprintf(number, sizeof number, "%lld", (long long)json_integer_value(index));
    const char *latent = json_is_string(index) ? json_string_value(index) : number;
    const char *by = mw_json_text(o, "explanationModelName");
    mw_name name = {.score = mw_json_number(o, "score", NAN)};
    name.name = (char *)(uintptr_t)mw_json_text(o, "description");
    name.note = (char *)(uintptr_t)mw_json_text(o, "notes");
    name.by = (char *)(uintptr_t)(by ? by : mw_json_text(o, "typeName"));
    return add_name(r, where, latent, &name);
}

static mw_status read_list(reader *r, const json_t *root) {
    for (size_t i = 0; i < json_array_size(root); i++) {
        char where[512];
        snprintf(where, sizeof where, "%s: element %zu", r->path, i);
        MW_TRY(read_explanation(r, where, json_array_get(root, i)));
    }
    return MW_OK;
}

static mw_status read_lines(reader *r, char *text) {
    int64_t number = 1;
    for (char *line = text, *next; *line; line = next, number++) {
        char where[512];
        json_t *value = NULL;
        next = line + strcspn(line, "\n");
        if (*next) *next++ = '\0';
        if (line[strspn(line, " \r\t")] == '\0') continue;
        snprintf(where, sizeof where, "%s:%lld", r->path, (long long)number);
        MW_TRY(mw_json_parse(where, line, strlen(line), &value));
        mw_status status = read_explanation(r, where, value);
        json_decref(value);
        MW_TRY(status);
    }
    return MW_OK;
}

static mw_status read_json(reader *r, char *text, size_t length, mw_names_format format) {
    if (strncmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        length -= 3;
    }
    if (format == MW_NAMES_NEURONPEDIA && text[strspn(text, " \r\n\t")] == '{') return read_lines(r, text);
    json_t *root;
    MW_TRY(mw_json_parse(r->path, text, length, &root));
    mw_status status;
    if (json_is_array(root))
        status = read_list(r, root);
    else if (json_is_object(root))
        status = read_map(r, root);
    else
        status = mw_error(MW_ERR_FORMAT, "%s: expected {\"latent\": \"name\"} or a list of explanations", r->path);
    json_decref(root);
    return status;
}

static void write_json(const mw_names *names, mw_text *out) {
    bool first = true;
    mw_text_addf(out, "{");
    for (int64_t i = 0; i < names->n; i++) {
        const mw_name *name = &names->of[i];
        if (!name->name) continue;
        mw_text_addf(out, "%s\n \"%lld\": {\"name\": ", first ? "" : ",", (long long)i);
        mw_json_quote(out, name->name, strlen(name->name));
        if (name->note) mw_text_addf(out, ", \"note\": ");
        if (name->note) mw_json_quote(out, name->note, strlen(name->note));
        if (name->by) mw_text_addf(out, ", \"by\": ");
        if (name->by) mw_json_quote(out, name->by, strlen(name->by));
        if (isfinite(name->score)) mw_text_addf(out, ", \"score\": %.6g", name->score);
        mw_text_addf(out, "}");
        first = false;
    }
    mw_text_addf(out, "\n}\n");
}

static void write_neuronpedia(const mw_names *names, const char *model, const char *site, mw_text *out) {
    bool first = true;
    mw_text_addf(out, "[");
    for (int64_t i = 0; i < names->n; i++) {
        const mw_name *name = &names->of[i];
        if (!name->name) continue;
        mw_text_addf(out, "%s\n {\"modelId\": ", first ? "" : ",");
        mw_json_quote(out, model, strlen(model));
        mw_text_addf(out, ", \"layer\": ");
        mw_json_quote(out, site, strlen(site));
        mw_text_addf(out, ", \"index\": \"%lld\", \"description\": ", (long long)i);
        mw_json_quote(out, name->name, strlen(name->name));
        mw_text_addf(out, ", \"typeName\": ");
        mw_json_quote(out, name->by ? name->by : "microw", strlen(name->by ? name->by : "microw"));
        if (name->note) mw_text_addf(out, ", \"notes\": ");
        if (name->note) mw_json_quote(out, name->note, strlen(name->note));
        if (isfinite(name->score)) mw_text_addf(out, ", \"score\": %.6g", name->score);
        mw_text_addf(out, "}");
        first = false;
    }
    mw_text_addf(out, "\n]\n");
}

/* ---- all formats ------------------------------------------------------------------------------------------------ */

mw_status mw_names_format_parse(const char *text, mw_names_format *out) {
    static const char *const names[] = {"auto", "csv", "json", "neuronpedia"};
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) return *out = (mw_names_format)i, MW_OK;
    return mw_error(MW_ERR_CONFIG, "format '%s' of names: expected csv, json or neuronpedia", text);
}

static mw_names_format format_of(const char *path, mw_names_format format) {
    if (format != MW_NAMES_AUTO) return format;
    return mw_ends_with_any_case(path, ".csv")     ? MW_NAMES_CSV
           : mw_ends_with_any_case(path, ".jsonl") ? MW_NAMES_NEURONPEDIA
                                                   : MW_NAMES_JSON;
}

mw_status mw_names_load(const char *path, mw_names_format format, const char *by, mw_names *into) {
    char *text;
    size_t length;
    reader r = {.path = path, .by = by, .n = into->n};
    format = format_of(path, format);
    MW_TRY(mw_file_read(path, &text, &length));
    mw_status status = format == MW_NAMES_CSV ? read_csv(&r, text, length) : read_json(&r, text, length, format);
    for (int64_t i = 0; i < r.count; i++) {
        mw_name *name = &r.list[i].name;
        if (status == MW_OK) status = mw_names_set(into, r.list[i].latent, name);
        mw_free(name->name);
        mw_free(name->note);
        mw_free(name->by);
    }
    mw_free(r.list);
    mw_free(text);
    return status;
}

mw_status mw_names_save(const char *path, mw_names_format format, const mw_names *names, const char *model,
                        const char *site) {
    mw_text text = {0};
    format = format_of(path, format);
    if (format == MW_NAMES_CSV)
        write_csv(names, &text);
    else if (format == MW_NAMES_JSON)
        write_json(names, &text);
    else
        write_neuronpedia(names, model, site, &text);
    mw_status status = text.failed ? MW_ERR_MEMORY : mw_file_write_atomic(path, text.data, text.length);
    mw_text_free(&text);
    return status;
}
