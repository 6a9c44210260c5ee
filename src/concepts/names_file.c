/* Names in and out as CSV, JSON and in the form of Neuronpedia's explanation exports. */
#include "base/json.h"
#include "microw/concepts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a reader fills: names are only moved to the caller's when the whole file is right. */
typedef struct reader {
    const char *path, *by;
    int64_t n;
    struct found {
        int64_t latent;
        mw_name name;
    } * list;
    int64_t count, capacity;
} reader;

static char *copy_or_null(const char *text) {
    return text && text[0] ? mw_strdup(text) : NULL;
}

/* An empty name takes the name away. */
static mw_status found(reader *r, const char *where, const char *latent, const mw_name *name) {
    int64_t number;
    if (!latent || !mw_parse_int(latent, &number) || number < 0 || number >= r->n || !name->name)
        return mw_error(MW_ERR_FORMAT, "%s: expected a latent from 0 to %lld with a name, found latent '%s', name '%s'",
                        where, (long long)r->n - 1, latent ? latent : "", name->name ? name->name : "");
    if (!MW_GROW(r->list, r->count, r->capacity)) return MW_ERR_MEMORY;
    const char *by = name->by && name->by[0] ? name->by : r->by;
    r->list[r->count++] =
        (struct found){number, {copy_or_null(name->name), copy_or_null(name->note), copy_or_null(by), name->score}};
    return r->list[r->count - 1].name.name || !name->name[0] ? MW_OK : MW_ERR_MEMORY;
}

/* ---- CSV (RFC 4180) ------------------------------------------------------------------------------------- */

/* Reads one field; leaves `*at` behind it, at its comma or line's end. */
static void read_field(const char **at, mw_text *out) {
    const char *p = *at;
    out->length = 0;
    mw_text_add(out, "", 0);
    bool quoted = *p == '"';
    if (quoted) p++;
    while (*p && (quoted || (*p != ',' && *p != '\n' && *p != '\r'))) {
        if (quoted && *p == '"') {
            if (p[1] != '"') {
                quoted = false;
                p++;
                continue;
            }
            p++;
        }
        mw_text_add(out, p++, 1);
    }
    *at = p;
}

enum { COLUMN_LATENT, COLUMN_NAME, COLUMN_NOTE, COLUMN_BY, COLUMN_SCORE, COLUMNS };
static const char *const column_names[COLUMNS] = {"latent", "name", "note", "by", "score"};

typedef struct table {
    mw_text field[COLUMNS]; /* of the line at hand, by meaning */
    int meaning[16];        /* of the file's columns; -1: not ours */
    int64_t line;
} table;

/* Fields behind the sixteenth column are of no meaning to us. */
static void read_line(const char **at, table *t, mw_text *scratch) {
    for (int i = 0; i < COLUMNS; i++) {
        t->field[i].length = 0;
        mw_text_add(&t->field[i], "", 0);
    }
    for (int column = 0;; column++) {
        read_field(at, scratch);
        int meaning = column < 16 ? t->meaning[column] : -1;
        if (meaning >= 0) mw_text_swap(&t->field[meaning], scratch);
        if (**at != ',') break;
        ++*at;
    }
    *at += strspn(*at, "\r");
    if (**at == '\n') ++*at;
    t->line++;
}

/* Takes the first line if it names columns. */
static bool read_header(const char **at, table *t) {
    const char *p = *at;
    mw_text word = {0};
    bool has[COLUMNS] = {false};
    for (int i = 0; i < 16; i++) t->meaning[i] = -1;
    for (int column = 0; column < 16; column++) {
        read_field(&p, &word);
        for (int m = 0; m < COLUMNS; m++)
            if (!word.failed && strcmp(word.data, column_names[m]) == 0) t->meaning[column] = m, has[m] = true;
        if (*p != ',') break;
        p++;
    }
    mw_text_free(&word);
    if (has[COLUMN_LATENT] && has[COLUMN_NAME]) {
        *at = p + strcspn(p, "\n");
        if (**at) ++*at;
        t->line++;
        return true;
    }
    for (int i = 0; i < 16; i++) t->meaning[i] = i < 2 ? i : -1;
    return false;
}

static mw_status read_csv(reader *r, const char *text) {
    table t = {0};
    mw_text scratch = {0};
    mw_status status = MW_OK;
    const char *at = text;
    read_header(&at, &t);
    while (*at && status == MW_OK) {
        read_line(&at, &t, &scratch);
        char where[512];
        snprintf(where, sizeof where, "%s:%lld", r->path, (long long)t.line);
        bool failed = scratch.failed;
        for (int i = 0; i < COLUMNS; i++) failed = failed || t.field[i].failed;
        if (failed) {
            status = MW_ERR_MEMORY;
        } else if (t.field[COLUMN_LATENT].length || t.field[COLUMN_NAME].length) {
            mw_name name = {t.field[COLUMN_NAME].data, t.field[COLUMN_NOTE].data, t.field[COLUMN_BY].data, NAN};
            const char *score = t.field[COLUMN_SCORE].data;
            if (score[0] && !mw_parse_double(score, &name.score))
                status = mw_error(MW_ERR_FORMAT, "%s: score '%s' is not a number", where, score);
            else
                status = found(r, where, t.field[COLUMN_LATENT].data, &name);
        }
    }
    for (int i = 0; i < COLUMNS; i++) mw_text_free(&t.field[i]);
    mw_text_free(&scratch);
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
        mw_name name = {.score = mw_json_number(value, "score", NAN)};
        name.name = (char *)(uintptr_t)(json_is_string(value) ? json_string_value(value) : mw_json_text(value, "name"));
        name.note = (char *)(uintptr_t)mw_json_text(value, "note");
        name.by = (char *)(uintptr_t)mw_json_text(value, "by");
        MW_TRY(found(r, where, key, &name));
    }
    return MW_OK;
}

/* One explanation: "index" as text or number, "description". */
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
    return found(r, where, latent, &name);
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

/* ---- both ------------------------------------------------------------------------------------------------- */

mw_status mw_names_format_parse(const char *text, mw_names_format *out) {
    static const char *const names[] = {"auto", "csv", "json", "neuronpedia"};
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) return *out = (mw_names_format)i, MW_OK;
    return mw_error(MW_ERR_CONFIG, "format '%s' of names: expected csv, json or neuronpedia", text);
}

static mw_names_format format_of(const char *path, mw_names_format format) {
    if (format != MW_NAMES_AUTO) return format;
    return mw_ends_with(path, ".csv")     ? MW_NAMES_CSV
           : mw_ends_with(path, ".jsonl") ? MW_NAMES_NEURONPEDIA
                                          : MW_NAMES_JSON;
}

mw_status mw_names_load(const char *path, mw_names_format format, const char *by, mw_names *into) {
    char *text;
    size_t length;
    reader r = {.path = path, .by = by, .n = into->n};
    format = format_of(path, format);
    MW_TRY(mw_file_read(path, &text, &length));
    mw_status status = format == MW_NAMES_CSV ? read_csv(&r, text) : read_json(&r, text, length, format);
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
