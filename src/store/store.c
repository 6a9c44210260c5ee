/* Reading a store: one file, or several concatenated. */
#include "store/store.h"

#include <stdio.h>
#include <string.h>

/* ---- opening ------------------------------------------------------------------------------------------- */

static bool same_site(const mw_store_site *a, const mw_store_site *b) {
    return a->site.layer == b->site.layer && a->site.kind == b->site.kind && a->width == b->width;
}

/* Returns the index of a site of the same width in a file; -1: none. */
static int64_t find_in_file(const harvest_file *file, const mw_store_site *wanted) {
    for (int64_t i = 0; i < file->n_sites; i++)
        if (same_site(&file->sites[i].about, wanted)) return i;
    return -1;
}

/* Keeps the sites that every file has, in the order of the first file. */
static void keep_common_sites(mw_store *store) {
    int64_t kept = 0;
    for (int64_t i = 0; i < store->files[0].n_sites; i++) {
        const mw_store_site wanted = store->files[0].sites[i].about;
        bool everywhere = true;
        for (int64_t f = 1; f < store->n_files; f++)
            everywhere = everywhere && find_in_file(&store->files[f], &wanted) >= kept;
        for (int64_t f = 0; f < store->n_files && everywhere; f++) {
            file_site *sites = store->files[f].sites, moved = sites[kept];
            int64_t at = find_in_file(&store->files[f], &wanted);
            sites[kept] = sites[at];
            sites[at] = moved;
        }
        kept += everywhere;
    }
    store->n_sites = kept;
}

/* Allocates the weight of each file's means in those of the store: its share of the rows that the means are of; NaN if
 * there are none. A single file is not read for it. */
static mw_status weigh_files(const mw_store *store, int64_t site, double **out) {
    double *weight = mw_alloc((size_t)store->n_files * sizeof *weight), total = 0;
    mw_status status = weight ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && store->n_files == 1) weight[0] = total = 1;
    for (int64_t f = 0; f < store->n_files && store->n_files > 1 && status == MW_OK; f++) {
        status = harvest_file_mean_rows(&store->files[f], site, &weight[f]);
        if (status == MW_OK) total += weight[f];
    }
    if (status != MW_OK) {
        mw_free(weight);
        return status;
    }
    for (int64_t f = 0; f < store->n_files; f++) weight[f] /= total;
    *out = weight;
    return MW_OK;
}

static mw_status list_sites(mw_store *store) {
    if (!(store->sites = mw_calloc((size_t)store->n_sites, sizeof *store->sites))) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < store->n_sites; i++) {
        mw_store_site *s = &store->sites[i];
        *s = store->files[0].sites[i].about;
        s->index = i;
        s->norm_mean = s->square_mean = 0;
        double *weight;
        MW_TRY(weigh_files(store, i, &weight));
        for (int64_t f = 0; f < store->n_files; f++) {
            const mw_store_site *theirs = &store->files[f].sites[i].about;
            if (weight[f] == 0) continue;
            s->norm_mean += weight[f] * theirs->norm_mean;
            s->square_mean += weight[f] * theirs->square_mean;
        }
        mw_free(weight);
    }
    return MW_OK;
}

/* MW_ERR_CONFIG for files of different models: no later check would detect them. */
static mw_status check_same_model(const mw_store *store) {
    char *first = NULL, *other = NULL;
    MW_TRY(h5_get_text(store->files[0].h5, store->files[0].path, "model_sha256", &first));
    mw_status status = MW_OK;
    for (int64_t f = 1; f < store->n_files && status == MW_OK; f++) {
        status = h5_get_text(store->files[f].h5, store->files[f].path, "model_sha256", &other);
        if (status == MW_OK && strcmp(first, other) != 0)
            status = mw_error(MW_ERR_CONFIG, "%s and %s are of different models", store->files[0].path,
                              store->files[f].path);
        mw_free(other);
        other = NULL;
    }
    mw_free(first);
    return status;
}

static mw_status open_files(mw_store *store, const char *const *paths, int64_t n) {
    if (!(store->files = mw_calloc((size_t)n, sizeof *store->files))) return MW_ERR_MEMORY;
    for (int64_t f = 0; f < n; f++) {
        MW_TRY(harvest_file_open(paths[f], false, &store->files[f]));
        store->files[f].first = store->n_rows;
        store->n_rows += store->files[f].n_rows;
        store->n_files = f + 1;
    }
    if (n > 1) MW_TRY(check_same_model(store));
    keep_common_sites(store);
    return list_sites(store);
}

mw_status mw_store_open_many(const char *const *paths, int64_t n, mw_store **out) {
    mw_store *store = mw_calloc(1, sizeof *store);
    if (!store) return MW_ERR_MEMORY;
    mw_status status = n > 0 ? open_files(store, paths, n) : mw_error(MW_ERR_ARG, "a store of no file");
    if (status != MW_OK)
        mw_store_close(&store);
    else
        *out = store;
    return status;
}

mw_status mw_store_open(const char *path, mw_store **out) {
    return mw_store_open_many(&path, 1, out);
}

static mw_status set_array(mw_store *store, const float *rows, int64_t n, int64_t width, const char *site) {
    if (!(store->files = mw_calloc(1, sizeof *store->files))) return MW_ERR_MEMORY;
    MW_TRY(harvest_file_of_array(rows, n, width, site, &store->files[0]));
    store->n_files = store->n_sites = 1;
    store->n_rows = n;
    return list_sites(store);
}

mw_status mw_store_of_array(const float *rows, int64_t n, int64_t width, const char *site, mw_store **out) {
    mw_store *store = mw_calloc(1, sizeof *store);
    mw_status status = store ? set_array(store, rows, n, width, site) : MW_ERR_MEMORY;
    if (status != MW_OK)
        mw_store_close(&store);
    else
        *out = store;
    return status;
}

void mw_store_close(mw_store **slot) {
    mw_store *store = *slot;
    if (!store) return;
    for (int64_t f = 0; f < store->n_files; f++) harvest_file_close(&store->files[f]);
    mw_free(store->files);
    mw_free(store->sites);
    mw_free(store);
    *slot = NULL;
}

/* ---- facts --------------------------------------------------------------------------------------------- */

int64_t mw_store_rows(const mw_store *store) {
    return store->n_rows;
}

int64_t mw_store_schema(const mw_store *store) {
    int64_t earliest = store->files[0].schema;
    for (int64_t f = 1; f < store->n_files; f++)
        if (store->files[f].schema < earliest) earliest = store->files[f].schema;
    return earliest;
}

int64_t mw_store_site_count(const mw_store *store) {
    return store->n_sites;
}

const mw_store_site *mw_store_site_at(const mw_store *store, int64_t index) {
    return &store->sites[index];
}

mw_status mw_store_find(const mw_store *store, const char *site, mw_store_site *out) {
    mw_site wanted;
    MW_TRY(mw_site_parse(site, &wanted));
    mw_text known = {0};
    for (int64_t i = 0; i < store->n_sites; i++) {
        const mw_store_site *s = &store->sites[i];
        if (s->site.layer == wanted.layer && s->site.kind == wanted.kind) {
            *out = *s;
            mw_text_free(&known);
            return MW_OK;
        }
        char text[MW_SITE_TEXT];
        mw_site_format(s->site, text);
        mw_text_addf(&known, "%s%s", i ? ", " : "", text);
    }
    mw_status status = mw_error(MW_ERR_CONFIG, "%s%s: site %s was not harvested; it holds: %s", store->files[0].path,
                                store->n_files > 1 ? " and the others" : "", site, known.data ? known.data : "none");
    mw_text_free(&known);
    return status;
}

mw_status mw_store_provenance(const mw_store *store, const char *key, char **out) {
    mw_text text = {0};
    mw_status status = MW_OK;
    for (int64_t f = 0; f < store->n_files && status == MW_OK; f++) {
        char *value = NULL;
        status = harvest_file_text(&store->files[f], key, &value);
        if (status == MW_OK) mw_text_addf(&text, "%s%s", f ? "\n" : "", value);
        mw_free(value);
    }
    if (status == MW_OK && text.failed) status = MW_ERR_MEMORY;
    if (status != MW_OK)
        mw_text_free(&text);
    else
        *out = text.data;
    return status;
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* Returns the file of a row: the last one that begins at or before it. */
static const harvest_file *file_of(const mw_store *store, int64_t row) {
    int64_t low = 0, high = store->n_files - 1;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        if (store->files[middle].first <= row)
            low = middle;
        else
            high = middle - 1;
    }
    return &store->files[low];
}

static mw_status check_row(const mw_store *store, int64_t begin, int64_t count) {
    if (begin >= 0 && count >= 0 && begin <= store->n_rows - count) return MW_OK;
    return mw_error(MW_ERR_ARG, "%s: rows %lld to %lld requested, the store has %lld", store->files[0].path,
                    (long long)begin, (long long)(begin + count), (long long)store->n_rows);
}

static mw_status read_row(const mw_store *store, const mw_store_site *s, int64_t row, char *raw, float *out) {
    MW_TRY(check_row(store, row, 1));
    const harvest_file *file = file_of(store, row);
    return harvest_file_read(file, s->index, row - file->first, 1, raw, out);
}

enum { GROUP = 64 };

/* Reads up to GROUP rows: first those in the system's cache, while the disk reads the others. */
static mw_status read_group(const mw_store *store, const mw_store_site *s, const int64_t *rows, int64_t count,
                            char *raw, float *out) {
    int64_t late[GROUP], n = 0;
    for (int64_t i = 0; i < count; i++) {
        MW_TRY(check_row(store, rows[i], 1));
        const harvest_file *file = file_of(store, rows[i]);
        int64_t row = rows[i] - file->first;
        if (harvest_file_read_cached(file, s->index, row, raw, out + i * s->width)) continue;
        harvest_file_expect(file, s->index, row, 1);
        late[n++] = i;
    }
    for (int64_t i = 0; i < n; i++) MW_TRY(read_row(store, s, rows[late[i]], raw, out + late[i] * s->width));
    return MW_OK;
}

mw_status mw_store_read_rows(const mw_store *store, const mw_store_site *s, const int64_t *rows, int64_t count,
                             float *out) {
    mw_status worst = MW_OK;
#pragma omp parallel reduction(max : worst)
    {
        char *raw = mw_alloc((size_t)s->width * sizeof(float));
        mw_status status = raw ? MW_OK : MW_ERR_MEMORY;
#pragma omp for schedule(static)
        for (int64_t at = 0; at < count; at += GROUP) {
            int64_t n = count - at < GROUP ? count - at : GROUP;
            if (status == MW_OK) status = read_group(store, s, rows + at, n, raw, out + at * s->width);
        }
        mw_free(raw);
        worst = status;
    }
    return worst;
}

/* Returns the file of row `begin`, and sets n to the number of the `count` rows from there on that it has. */
static const harvest_file *file_with(const mw_store *store, int64_t begin, int64_t count, int64_t *n) {
    const harvest_file *file = file_of(store, begin);
    int64_t left = file->first + file->n_rows - begin;
    *n = left < count ? left : count;
    return file;
}

mw_status mw_store_read_range(const mw_store *store, const mw_store_site *s, int64_t begin, int64_t count, float *out) {
    MW_TRY(check_row(store, begin, count));
    char *raw = mw_alloc((size_t)(count * s->width) * sizeof(float));
    mw_status status = raw ? MW_OK : MW_ERR_MEMORY;
    while (count > 0 && status == MW_OK) {
        int64_t n;
        const harvest_file *file = file_with(store, begin, count, &n);
        status = harvest_file_read(file, s->index, begin - file->first, n, raw, out);
        begin += n;
        count -= n;
        out += n * s->width;
    }
    mw_free(raw);
    return status;
}

mw_status store_read_as(const mw_store *store, const mw_store_site *s, mw_dtype dtype, int64_t begin, int64_t count,
                        void *out) {
    if (dtype == MW_F32) return mw_store_read_range(store, s, begin, count, out);
    MW_TRY(check_row(store, begin, count));
    char *to = out;
    while (count > 0) {
        int64_t n;
        const harvest_file *file = file_with(store, begin, count, &n);
        MW_TRY(harvest_file_read_stored(file, s->index, begin - file->first, n, to));
        begin += n;
        count -= n;
        to += (size_t)(n * s->width) * mw_dtype_size(dtype);
    }
    return MW_OK;
}

void store_expect(const mw_store *store, const mw_store_site *s, int64_t begin, int64_t count) {
    while (count > 0 && begin < store->n_rows) {
        int64_t n;
        const harvest_file *file = file_with(store, begin, count, &n);
        harvest_file_expect(file, s->index, begin - file->first, n);
        begin += n;
        count -= n;
    }
}

mw_status mw_store_read_mean(const mw_store *store, const mw_store_site *s, double *out) {
    if (store->n_files == 1) return harvest_file_mean(&store->files[0], s->index, out);
    double *one = mw_alloc((size_t)s->width * sizeof *one), *weight = NULL;
    mw_status status = one ? weigh_files(store, s->index, &weight) : MW_ERR_MEMORY;
    memset(out, 0, (size_t)s->width * sizeof *out);
    for (int64_t f = 0; f < store->n_files && status == MW_OK; f++) {
        const harvest_file *file = &store->files[f];
        status = harvest_file_mean(file, s->index, one);
        for (int64_t i = 0; i < s->width && status == MW_OK && weight[f] != 0; i++) out[i] += weight[f] * one[i];
    }
    mw_free(weight);
    mw_free(one);
    return status;
}

/* ---- tokens -------------------------------------------------------------------------------------------- */

void mw_store_tokens_free(mw_store_tokens *t) {
    void *all[] = {t->ids,    t->sequence,  t->position,     t->document,          t->offset,
                   t->length, t->documents, t->document_row, t->vocabulary_offset, t->vocabulary_bytes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *t = (mw_store_tokens){0};
}

/* Grows the array `*to` of `have` items by `count` items of `from`. */
static bool append(void *to, int64_t have, const void *from, int64_t count, size_t item) {
    void *old, *grown;
    memcpy(&old, to, sizeof old);
    if (!(grown = mw_realloc(old, (size_t)have * item, (size_t)(have + count) * item))) return false;
    memcpy((char *)grown + (size_t)have * item, from, (size_t)count * item);
    memcpy(to, &grown, sizeof grown);
    return true;
}

static bool same_vocabulary(const mw_store_tokens *a, const mw_store_tokens *b) {
    size_t offsets = (size_t)(a->n_vocabulary + 1) * sizeof *a->vocabulary_offset;
    return a->n_vocabulary == b->n_vocabulary && memcmp(a->vocabulary_offset, b->vocabulary_offset, offsets) == 0 &&
           memcmp(a->vocabulary_bytes, b->vocabulary_bytes, a->vocabulary_offset[a->n_vocabulary]) == 0;
}

/* Appends the tokens of a file: its numbers of rows, sequences and documents continue those before. */
static bool append_tokens(mw_store_tokens *t, mw_store_tokens *more) {
    for (int64_t i = 0; i < more->n_rows; i++) more->sequence[i] += (uint32_t)t->n_sequences;
    for (int64_t i = 0; i < more->n_sequences; i++) {
        more->document[i] += (uint64_t)t->n_documents;
        more->offset[i] += (uint64_t)t->n_rows;
    }
    for (int64_t i = 0; i <= more->n_documents; i++) more->document_row[i] += (uint64_t)t->n_rows;
    bool good = append(&t->ids, t->n_rows, more->ids, more->n_rows, sizeof *t->ids) &&
                append(&t->sequence, t->n_rows, more->sequence, more->n_rows, sizeof *t->sequence) &&
                append(&t->position, t->n_rows, more->position, more->n_rows, sizeof *t->position) &&
                append(&t->document, t->n_sequences, more->document, more->n_sequences, sizeof *t->document) &&
                append(&t->offset, t->n_sequences, more->offset, more->n_sequences, sizeof *t->offset) &&
                append(&t->length, t->n_sequences, more->length, more->n_sequences, sizeof *t->length) &&
                append(&t->documents, t->n_documents, more->documents, more->n_documents, sizeof *t->documents) &&
                append(&t->document_row, t->n_documents, more->document_row, more->n_documents + 1,
                       sizeof *t->document_row); /* the last entry of one file is the first of the next */
    t->n_rows += more->n_rows;
    t->n_sequences += more->n_sequences;
    t->n_documents += more->n_documents;
    return good;
}

static mw_status add_tokens(const mw_store *store, int64_t f, mw_store_tokens *t) {
    mw_store_tokens more = {0};
    mw_status status = harvest_file_read_tokens(&store->files[f], &more);
    if (status == MW_OK && !same_vocabulary(t, &more))
        status = mw_error(MW_ERR_CONFIG, "%s and %s have different vocabularies", store->files[0].path,
                          store->files[f].path);
    if (status == MW_OK && t->n_sequences + more.n_sequences > UINT32_MAX)
        status = mw_error(MW_ERR_UNSUPPORTED, "%s: more than 2^32 sequences in all", store->files[f].path);
    if (status == MW_OK && !append_tokens(t, &more)) status = MW_ERR_MEMORY;
    mw_store_tokens_free(&more);
    return status;
}

mw_status mw_store_read_tokens(const mw_store *store, mw_store_tokens *out) {
    mw_store_tokens t = {0};
    mw_status status = harvest_file_read_tokens(&store->files[0], &t);
    for (int64_t f = 1; f < store->n_files && status == MW_OK; f++) status = add_tokens(store, f, &t);
    if (status != MW_OK)
        mw_store_tokens_free(&t);
    else
        *out = t;
    return status;
}

/* Returns the last document that begins at or before a row: earlier ones with the same start are empty. */
static int64_t document_of(const mw_store_tokens *t, int64_t row) {
    int64_t low = 0, high = t->n_documents - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (t->document_row[middle] <= (uint64_t)row)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

mw_store_span mw_store_span_of(const mw_store_tokens *t, int64_t row) {
    uint32_t sequence = t->sequence[row];
    int64_t document = document_of(t, row), first = (int64_t)t->document_row[document],
            last = (int64_t)t->document_row[document + 1], begin = (int64_t)t->offset[sequence],
            end = begin + (int64_t)t->length[sequence];
    return (mw_store_span){begin > first ? begin : first, end < last ? end : last, document};
}

mw_status mw_store_blocks(const mw_store *store, int64_t *n_blocks, uint64_t **out) {
    uint64_t *all = NULL;
    int64_t count = 0;
    mw_status status = MW_OK;
    for (int64_t f = 0; f < store->n_files && status == MW_OK; f++) {
        uint64_t *row = NULL;
        int64_t n = 0;
        status = harvest_file_blocks(&store->files[f], &n, &row);
        for (int64_t i = 0; i <= n && status == MW_OK; i++) row[i] += (uint64_t)store->files[f].first;
        /* the last boundary of one file is the first of the next */
        if (status == MW_OK && !append(&all, count, row, n + 1, sizeof *row)) status = MW_ERR_MEMORY;
        if (status == MW_OK) count += n;
        mw_free(row);
    }
    if (status != MW_OK) {
        mw_free(all);
        return status;
    }
    *n_blocks = count;
    *out = all;
    return MW_OK;
}

/* ---- verification -------------------------------------------------------------------------------------- */

/* Verifies blocks begin .. end of a site of one file. */
static mw_status verify_blocks(const harvest_file *file, int64_t site, const uint64_t *row, int64_t n_blocks,
                               int64_t begin, int64_t end) {
    int64_t good = begin;
    MW_TRY(harvest_file_matching_blocks(file, site, row, n_blocks, begin, end, &good));
    if (good == end) return MW_OK;
    char text[MW_SITE_TEXT];
    mw_site_format(file->sites[site].about.site, text);
    return mw_error(
        MW_ERR_FORMAT,
        "%s: site %s, block %lld (rows %llu to %llu): the checksum does not match; harvest again with --overwrite",
        file->path, text, (long long)good, (unsigned long long)row[good], (unsigned long long)row[good + 1]);
}

static mw_status verify_site(const mw_store *store, int64_t site, const mw_comm *comm) {
    mw_status status = MW_OK;
    for (int64_t f = 0; f < store->n_files && status == MW_OK; f++) {
        int64_t n_blocks = 0, begin = 0, end;
        uint64_t *row = NULL;
        status = harvest_file_blocks(&store->files[f], &n_blocks, &row);
        end = n_blocks;
        if (comm) mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), n_blocks, 1, &begin, &end);
        if (status == MW_OK) status = verify_blocks(&store->files[f], site, row, n_blocks, begin, end);
        mw_free(row);
    }
    return status;
}

mw_status mw_store_verify(const mw_store *store) {
    for (int64_t i = 0; i < store->n_sites; i++) MW_TRY(verify_site(store, i, NULL));
    return MW_OK;
}

mw_status mw_store_view_verify(const mw_store_view *view, const mw_comm *comm) {
    mw_status status = MW_OK;
    for (int64_t i = 0; i < view->n_sites && status == MW_OK; i++)
        status = verify_site(view->store, view->site[i].index, comm);
    return mw_comm_agree(comm, status);
}

mw_status mw_store_progress(const char *path, int64_t from, int64_t *done, int64_t *all) {
    harvest_file file;
    int64_t n_blocks;
    uint64_t *row = NULL;
    MW_TRY(harvest_file_open(path, true, &file));
    mw_status status = harvest_file_blocks(&file, &n_blocks, &row);
    int64_t least = n_blocks;
    for (int64_t i = 0; status == MW_OK && i < file.n_sites; i++) {
        int64_t good = from;
        status = harvest_file_matching_blocks(&file, i, row, n_blocks, from, n_blocks, &good);
        if (good < least) least = good;
    }
    mw_free(row);
    harvest_file_close(&file);
    if (status != MW_OK) return status;
    *done = least;
    *all = n_blocks;
    return MW_OK;
}
