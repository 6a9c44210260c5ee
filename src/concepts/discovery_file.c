/* Reader and writer of discovery.h5: a discovery as named arrays. */
#include "concepts/discovery.h"

#include <string.h>

static const char file_kind[] = "microw discovery "; /* then the version */
enum { VERSION = 3, ENDS = 3 };

/* One array of the file, for writing and for reading. */
typedef struct slot {
    const char *name; /* in the file */
    mw_array_type type;
    void **data;           /* member of the discovery */
    int64_t rows, columns; /* rows -1: not known yet */
} slot;
enum { SLOTS_MAX = 32 };

static void *address_of(const void *member) {
    return (void *)(uintptr_t)member;
}

static int64_t list_slots(const mw_discovery *d, slot out[SLOTS_MAX]) {
    int64_t n = d->n, texts = d->n * d->per, tokens = d->text_start ? d->text_start[texts] : -1;
    const slot slots[] = {
        {"latents/count", MW_ARRAY_I64, address_of(&d->count), n, 0},
        {"latents/histogram", MW_ARRAY_I64, address_of(&d->bin), n, MW_BINS},
        {"latents/histogram_exponent", MW_ARRAY_I32, address_of(&d->bin_exponent), n, 0},
        {"latents/category", MW_ARRAY_I32, address_of(&d->category), n, 0},
        {"latents/precision", MW_ARRAY_F32, address_of(&d->precision), n, 0},
        {"latents/recall", MW_ARRAY_F32, address_of(&d->recall), n, 0},
        {"latents/f1", MW_ARRAY_F32, address_of(&d->f1), n, 0},
        {"texts/row", MW_ARRAY_I64, address_of(&d->text_row), n, d->per},
        {"texts/activation", MW_ARRAY_F32, address_of(&d->text_score), n, d->per},
        {"texts/center", MW_ARRAY_I32, address_of(&d->text_center), n, d->per},
        {"texts/document", MW_ARRAY_I64, address_of(&d->text_document), n, d->per},
        {"texts/position", MW_ARRAY_I32, address_of(&d->text_position), n, d->per},
        {"texts/start", MW_ARRAY_I64, address_of(&d->text_start), texts + 1, 0},
        {"texts/tokens", MW_ARRAY_I32, address_of(&d->text_id), tokens, 0},
        {"texts/activations", MW_ARRAY_F32, address_of(&d->text_value), tokens, 0},
        {"vocabulary/offset", MW_ARRAY_U64, address_of(&d->vocabulary_offset), d->n_vocabulary + 1, 0},
        {"vocabulary/bytes", MW_ARRAY_U8, address_of(&d->vocabulary_bytes),
         d->vocabulary_offset ? (int64_t)d->vocabulary_offset[d->n_vocabulary] : -1, 0},
        {"sources/rows", MW_ARRAY_I64, address_of(&d->source_rows), d->n_sources, 0},
        {"sources/count", MW_ARRAY_I64, address_of(&d->by_source), n, d->n_sources},
        {"categories/rows", MW_ARRAY_I64, address_of(&d->category_rows), d->n_categories, 0},
        {"categories/count", MW_ARRAY_I64, address_of(&d->by_category), n, d->n_categories},
        {"scores/counts", MW_ARRAY_I64, address_of(&d->scored_counts), d->n_scored, 2},
        {"scores/f1", MW_ARRAY_F32, address_of(&d->scored_f1), d->n_scored, d->n_categories},
        {"scores/means", MW_ARRAY_F32, address_of(&d->score), d->n_scored, MW_SCORES * ENDS},
        {"neighbours/cosine_index", MW_ARRAY_I32, address_of(&d->cosine.index), n, d->cosine.m},
        {"neighbours/cosine", MW_ARRAY_F32, address_of(&d->cosine.value), n, d->cosine.m},
        {"neighbours/together_index", MW_ARRAY_I32, address_of(&d->coactive.index), n, d->coactive.m},
        {"neighbours/together", MW_ARRAY_F32, address_of(&d->coactive.value), n, d->coactive.m},
        {"logits/promoted_token", MW_ARRAY_I32, address_of(&d->promoted.index), n, d->promoted.m},
        {"logits/promoted", MW_ARRAY_F32, address_of(&d->promoted.value), n, d->promoted.m},
        {"logits/suppressed_token", MW_ARRAY_I32, address_of(&d->suppressed.index), n, d->suppressed.m},
        {"logits/suppressed", MW_ARRAY_F32, address_of(&d->suppressed.value), n, d->suppressed.m},
    };
    memcpy(out, slots, sizeof slots);
    return sizeof slots / sizeof *slots;
}

/* Returns whether an array is not in the file: an optional one without columns, or scores of no SAE. */
static bool is_absent(const slot *s) {
    if (strncmp(s->name, "scores/", 7) == 0) return s->rows == 0 || s->columns == 0;
    bool optional = strncmp(s->name, "neighbours/", 11) == 0 || strncmp(s->name, "logits/", 7) == 0 ||
                    strcmp(s->name, "sources/count") == 0 || strcmp(s->name, "categories/count") == 0;
    return optional && s->columns == 0;
}

/* ---- lists of names, one a line -------------------------------------------------------------------------- */

static void join_names(char *const *names, int64_t n, mw_text *out) {
    mw_text_add(out, "", 0);
    for (int64_t i = 0; i < n; i++) mw_text_addf(out, "%s\n", names[i]);
}

static mw_status split_names(const char *text, char ***out, int64_t *n) {
    char **names = NULL;
    int64_t count = 0, capacity = 0;
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        if (!MW_GROW(names, count, capacity)) return MW_ERR_MEMORY;
        if (!(names[count] = mw_strndup(line, length))) return MW_ERR_MEMORY;
        count++;
        line += length + (line[length] == '\n');
    }
    *out = names;
    *n = count;
    return MW_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

mw_status mw_discovery_save(const mw_discovery *d, const char *path, const char *fingerprint, const char *stage) {
    slot slots[SLOTS_MAX];
    mw_array arrays[SLOTS_MAX];
    int64_t count = list_slots(d, slots), n = 0;
    mw_text kind = {0}, numbers = {0}, sources = {0}, categories = {0}, scored = {0};
    mw_text_addf(&kind, "%s%d", file_kind, VERSION);
    for (int64_t i = 0; i < count; i++)
        if (!is_absent(&slots[i]))
            arrays[n++] = (mw_array){slots[i].name, slots[i].type, slots[i].rows, slots[i].columns, *slots[i].data};
    mw_text_addf(&numbers, "%lld %lld %lld %lld %lld %lld", (long long)d->n, (long long)d->rows,
                 (long long)d->top_texts, (long long)d->samples, (long long)d->around, (long long)d->coactive_rows);
    join_names(d->source, d->n_sources, &sources);
    join_names(d->category_name, d->n_categories, &categories);
    join_names(d->scored, d->n_scored, &scored);
    bool good = !kind.failed && !numbers.failed && !sources.failed && !categories.failed && !scored.failed;
    const mw_pair pairs[] = {
        {"kind", kind.data},       {"stage", stage},
        {"sae", fingerprint},      {"latents rows top_texts samples around together_rows", numbers.data},
        {"sources", sources.data}, {"categories", categories.data},
        {"scored", scored.data}};
    mw_status status = good ? mw_arrays_save(path, arrays, n, pairs, sizeof pairs / sizeof *pairs) : MW_ERR_MEMORY;
    mw_text *all[] = {&kind, &numbers, &sources, &categories, &scored};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_text_free(all[i]);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

static mw_status read_version(const mw_arrays *file, const char *path, int64_t *version) {
    char *kind = NULL;
    size_t length = strlen(file_kind);
    MW_TRY(mw_arrays_text(file, "kind", &kind));
    bool ours = strncmp(kind, file_kind, length) == 0 && mw_parse_int(kind + length, version) && *version >= 1 &&
                *version <= VERSION;
    mw_free(kind);
    if (!ours) return mw_error(MW_ERR_FORMAT, "%s: not a discovery of this version", path);
    if (*version < VERSION)
        mw_log(MW_LOG_INFO,
               "%s: written by an earlier version: it has no F1 of categories, which are left out%s; run "
               "`microw discover --overwrite` to correct this",
               path,
               *version == 1 ? ", and its texts are attributed to the document that their sequence begins with, and "
                               "may extend into the next"
                             : "");
    return MW_OK;
}

static mw_status read_numbers(const mw_arrays *file, const char *path, mw_discovery *d) {
    char *text = NULL;
    MW_TRY(mw_arrays_text(file, "latents rows top_texts samples around together_rows", &text));
    int64_t *const into[] = {&d->n, &d->rows, &d->top_texts, &d->samples, &d->around, &d->coactive_rows};
    bool good = true;
    char *word = text;
    for (int i = 0; i < 6 && good; i++) {
        size_t length = strcspn(word, " ");
        bool last = word[length] == '\0';
        word[length] = '\0';
        good = mw_parse_int(word, into[i]) && *into[i] >= 0 && *into[i] < MW_DISCOVERY_ROWS && last == (i == 5);
        word += length + 1;
    }
    mw_free(text);
    d->per = d->top_texts + d->samples;
    if (good && d->n < MW_DISCOVERY_LATENTS && d->per < MW_DISCOVERY_TEXTS) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: sizes out of range", path);
}

static mw_status read_names(const mw_arrays *file, const char *key, char ***names, int64_t *n) {
    char *text = NULL;
    MW_TRY(mw_arrays_text(file, key, &text));
    mw_status status = split_names(text, names, n);
    mw_free(text);
    return status;
}

/* Categories of earlier versions have no rows of each category, and so no F1: without names they are left out. */
static mw_status read_groups(const mw_arrays *file, int64_t version, mw_discovery *d) {
    MW_TRY(read_names(file, "sources", &d->source, &d->n_sources));
    if (version < VERSION) return MW_OK;
    MW_TRY(read_names(file, "categories", &d->category_name, &d->n_categories));
    return read_names(file, "scored", &d->scored, &d->n_scored);
}

static mw_status nearest_width(const mw_arrays *file, const char *name, int64_t n, mw_nearest *nearest) {
    int64_t rows = n, columns = -1;
    void *data;
    if (!mw_arrays_have(file, name)) return MW_OK;
    MW_TRY(mw_arrays_read(file, name, MW_ARRAY_I32, &rows, &columns, &data));
    mw_free(data);
    nearest->m = columns;
    return MW_OK;
}

static mw_status read_widths(const mw_arrays *file, const char *path, mw_discovery *d) {
    int64_t rows = -1, columns = 0;
    MW_TRY(nearest_width(file, "neighbours/cosine_index", d->n, &d->cosine));
    MW_TRY(nearest_width(file, "neighbours/together_index", d->n, &d->coactive));
    MW_TRY(nearest_width(file, "logits/promoted_token", d->n, &d->promoted));
    MW_TRY(nearest_width(file, "logits/suppressed_token", d->n, &d->suppressed));
    MW_TRY(mw_arrays_read(file, "vocabulary/offset", MW_ARRAY_U64, &rows, &columns, (void **)&d->vocabulary_offset));
    d->n_vocabulary = rows - 1;
    mw_free(d->vocabulary_offset);
    d->vocabulary_offset = NULL;
    return rows > 0 ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: the vocabulary has no offsets", path);
}

/* Allocates what earlier versions do not have, or is left out of them, as it is without categories. */
static mw_status set_no_categories(mw_discovery *d) {
    d->category = mw_alloc((size_t)d->n * sizeof *d->category);
    d->precision = mw_calloc((size_t)d->n, sizeof *d->precision);
    d->recall = mw_calloc((size_t)d->n, sizeof *d->recall);
    d->f1 = mw_calloc((size_t)d->n, sizeof *d->f1);
    if (!d->category || !d->precision || !d->recall || !d->f1) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < d->n; i++) d->category[i] = -1;
    return MW_OK;
}

static bool is_of_categories(const slot *s) {
    static const char *const names[] = {"latents/category", "latents/precision", "latents/recall", "latents/f1",
                                        "categories/rows"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(s->name, names[i]) == 0) return true;
    return false;
}

static mw_status read_slots(const mw_arrays *file, const char *path, int64_t version, mw_discovery *d) {
    slot slots[SLOTS_MAX];
    int64_t count = list_slots(d, slots);
    for (int64_t i = 0; i < count; i++) {
        list_slots(d, slots); /* again: some lengths follow from arrays that were read */
        int64_t rows = slots[i].rows, columns = slots[i].columns;
        if (is_absent(&slots[i]) || (version < VERSION && is_of_categories(&slots[i]))) continue;
        if (rows < 0)
            return mw_error(MW_ERR_FORMAT, "%s: '%s': expected a number of rows, found %lld", path, slots[i].name,
                            (long long)rows);
        MW_TRY(mw_arrays_read(file, slots[i].name, slots[i].type, &rows, &columns, slots[i].data));
    }
    return version < VERSION ? set_no_categories(d) : MW_OK;
}

static bool in_order(const int64_t *start, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (start[i] > start[i + 1]) return false;
    return start[0] == 0;
}

static bool nearest_in_range(const mw_nearest *nearest, int64_t n, int64_t limit) {
    for (int64_t i = 0; i < n * nearest->m; i++)
        if (nearest->index[i] < -1 || nearest->index[i] >= limit) return false;
    return true;
}

static bool texts_in_range(const mw_discovery *d) {
    int64_t texts = d->n * d->per;
    for (int64_t t = 0; t < texts; t++) {
        int64_t length = d->text_start[t + 1] - d->text_start[t];
        if (d->text_row[t] >= 0 && (d->text_center[t] < 0 || d->text_center[t] >= length)) return false;
    }
    for (int64_t i = 0; i < d->text_start[texts]; i++)
        if (d->text_id[i] < 0 || d->text_id[i] >= d->n_vocabulary) return false;
    return true;
}

static bool counts_in_range(const mw_discovery *d) {
    for (int64_t i = 0; i < d->n; i++) {
        bool category = d->category[i] >= -1 && d->category[i] < (d->n_categories ? d->n_categories : 1);
        if (d->count[i] < 0 || d->count[i] > d->rows || !category) return false;
    }
    for (int64_t c = 0; c < d->n_categories; c++)
        if (d->category_rows[c] < 0 || d->category_rows[c] > d->rows) return false;
    return true;
}

static mw_status check_all(const mw_discovery *d, const char *path) {
    bool vocabulary = d->n_vocabulary >= 0 && d->vocabulary_offset[0] == 0;
    for (int64_t i = 0; i < d->n_vocabulary && vocabulary; i++)
        vocabulary = d->vocabulary_offset[i] <= d->vocabulary_offset[i + 1];
    if (!vocabulary) return mw_error(MW_ERR_FORMAT, "%s: the vocabulary's offsets are not in order", path);
    bool good = in_order(d->text_start, d->n * d->per) && texts_in_range(d) && counts_in_range(d) &&
                nearest_in_range(&d->cosine, d->n, d->n) && nearest_in_range(&d->coactive, d->n, d->n) &&
                nearest_in_range(&d->promoted, d->n, d->n_vocabulary) &&
                nearest_in_range(&d->suppressed, d->n, d->n_vocabulary);
    return good ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: an index is out of range", path);
}

/* Reads in this order, since sizes of arrays follow from numbers, group names and arrays read before. */
static mw_status read_all(const mw_arrays *file, const char *path, mw_discovery *d, char **fingerprint) {
    int64_t version;
    MW_TRY(read_version(file, path, &version));
    MW_TRY(read_numbers(file, path, d));
    MW_TRY(read_groups(file, version, d));
    MW_TRY(read_widths(file, path, d));
    MW_TRY(read_slots(file, path, version, d));
    MW_TRY(check_all(d, path));
    return fingerprint ? mw_arrays_text(file, "sae", fingerprint) : MW_OK;
}

mw_status mw_discovery_load(const char *path, mw_discovery *out, char **fingerprint) {
    mw_arrays *file = NULL;
    mw_discovery d = {0};
    MW_TRY(mw_arrays_open(path, &file));
    mw_status status = read_all(file, path, &d, fingerprint);
    mw_arrays_close(&file);
    if (status != MW_OK)
        mw_discovery_free(&d);
    else
        *out = d;
    return status;
}
