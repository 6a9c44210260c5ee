/* First pass of discovery, over all rows of a store: counts, histograms, the strongest rows and random rows of every
 * latent. Each rank reads a share of the blocks; the merged result does not depend on the shares. */
#include "concepts/discovery.h"

#include <stdlib.h>
#include <string.h>

enum { MERGE_BYTES = 1 << 26, DRAWN = 512 };

/* Properties of a row, the same for all latents that are active on it. */
typedef struct row_facts {
    int64_t row;
    mw_store_span span;
    int32_t category, source;
    int64_t *by_category; /* counts that the row belongs to: of a half, or of the rows after both */
} row_facts;

typedef struct search {
    const mw_sae *sae;
    const mw_store_view *in;
    const mw_store_tokens *tokens;
    const mw_discover_options *options;
    mw_store_data_files sources;
    mw_discovery *out;
    heap_entry *heap; /* [n, per] for each latent a heap of top_texts rows, then one of samples */
    kept_rows kept;
    kept_codes codes; /* of this rank's rows, for the second pass */
    encoded_rows rows;
    row_facts facts[ENCODED_CHUNK];   /* of the present chunk */
    int64_t drawn_from, drawn[DRAWN]; /* the places of the rows from drawn_from on in a random order of all rows */
} search;

/* ---- a row ---------------------------------------------------------------------------------------------- */

static uint64_t random_key(uint64_t seed, int64_t latent, int64_t row) {
    uint32_t bits[4];
    mw_philox(seed, (uint64_t)latent, (uint64_t)row, bits);
    return (uint64_t)bits[0] << 32 | bits[1];
}

/* Returns the bits of a positive float, which are ordered like the floats. */
static uint64_t score_key(float score) {
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits;
}

static void add_activation(void *self, int64_t at, int64_t latent, float z) {
    search *s = self;
    mw_discovery *d = s->out;
    const row_facts *row = &s->facts[at];
    heap_entry *heap = s->heap + latent * d->per;
    d->count[latent]++;
    if (row->category >= 0) row->by_category[latent * d->n_categories + row->category]++;
    if (d->n_sources) d->by_source[latent * d->n_sources + row->source]++;
    histogram_add(&d->bin_exponent[latent], d->bin + latent * MW_BINS, z);
    heap_offer(heap, d->top_texts, (heap_entry){score_key(z), row->row, z}, &row->span);
    if (d->samples)
        heap_offer(heap + d->top_texts, d->samples,
                   (heap_entry){random_key((uint64_t)s->options->seed, latent, row->row), row->row, z}, NULL);
}

/* Whether a row is one of the random rows for counts of coactive latents. Rows come in order. */
static bool is_kept(search *s, int64_t row) {
    int64_t rows = s->out->rows, left = rows - row;
    if (s->options->neighbours == 0 || s->options->coactive_rows >= rows) return s->options->neighbours > 0;
    if (row < s->drawn_from || row >= s->drawn_from + DRAWN) {
        s->drawn_from = row;
        mw_permute_range((uint64_t)s->options->seed, 0, (uint64_t)rows, (uint64_t)row, left < DRAWN ? left : DRAWN,
                         s->drawn);
    }
    return s->drawn[row - s->drawn_from] < s->options->coactive_rows;
}

/* Chooses the counts of a row with a category, and counts the row. */
static void count_category(search *s, row_facts *row) {
    mw_discovery *d = s->out;
    const struct mw_counted_halves *halves = d->halves;
    bool counted = halves && row->row < halves->end;
    int half = half_of_row(s->tokens, row->row, row->span.document);
    row->by_category = counted ? halves->counts.hits + half * d->n * d->n_categories : d->by_category;
    (counted ? halves->counts.rows + half * d->n_categories : d->category_rows)[row->category]++;
}

static mw_status add_row(void *self, int64_t row, int64_t at, int64_t begin, int64_t end) {
    search *s = self;
    row_facts *facts = &s->facts[at];
    *facts = (row_facts){.row = row, .span = mw_store_span_of(s->tokens, row)};
    facts->category = s->out->n_categories ? s->options->categories->of_token[s->tokens->ids[row]] : -1;
    facts->source = s->sources.of_document[facts->span.document];
    if (facts->category >= 0) count_category(s, facts);
    return is_kept(s, row) ? kept_rows_add(&s->kept, s->rows.codes.index + begin, end - begin) : MW_OK;
}

/* ---- rows of this rank ------------------------------------------------------------------------------------- */

static mw_status search_share(search *s, const mw_comm *comm) {
    int64_t begin, end;
    uint64_t *row;
    MW_TRY(share_blocks(s->in->store, comm, &row, &begin, &end));
    mw_progress progress;
    mw_progress_begin(&progress, "discover", "rows", (int64_t)(row[end] - row[begin]), mw_comm_rank(comm) == 0);
    mw_status status = kept_codes_begin(&s->codes, (int64_t)row[begin], (int64_t)(row[end] - row[begin]));
    s->rows.kept = &s->codes;
    const row_use use = {add_row, add_activation, s};
    for (int64_t b = begin; b < end && status == MW_OK; b++) {
        status = each_encoded_row(&s->rows, (int64_t)row[b], (int64_t)row[b + 1], &use);
        mw_progress_update(&progress, (int64_t)(row[b + 1] - row[begin]), NULL);
    }
    if (status == MW_OK) mw_progress_end(&progress, (int64_t)(row[end] - row[begin]), NULL);
    mw_free(row);
    return status;
}

/* ---- rows of all ranks -------------------------------------------------------------------------------------- */

/* Merges one heap of a latent: the k best of all ranks' entries, sorted. `line` [ranks, k] is scratch. Every sequence
 * is on one rank, whose heap has already limited the rows of a span. */
static void merge_heaps(const heap_entry *all, int64_t stride, int ranks, heap_entry *line, int64_t first, int64_t k,
                        heap_entry *out) {
    for (int r = 0; r < ranks; r++) memcpy(line + r * k, all + r * stride + first, (size_t)k * sizeof *line);
    qsort(line, (size_t)(ranks * k), sizeof *line, heap_best_first);
    memcpy(out + first, line, (size_t)k * sizeof *line);
}

static mw_status merge_texts(search *s, const mw_comm *comm) {
    mw_discovery *d = s->out;
    int size = mw_comm_size(comm);
    int64_t per_chunk = MERGE_BYTES / (size * d->per * (int64_t)sizeof(heap_entry)) + 1; /* latents at once */
    if (per_chunk > d->n) per_chunk = d->n;
    heap_entry *all = mw_alloc((size_t)(size * per_chunk * d->per) * sizeof *all);
    heap_entry *line = mw_alloc((size_t)(size * d->per) * sizeof *line);
    mw_status status = mw_comm_agree(comm, all && line ? MW_OK : MW_ERR_MEMORY);
    for (int64_t first = 0; first < d->n && status == MW_OK; first += per_chunk) {
        int64_t n = d->n - first < per_chunk ? d->n - first : per_chunk;
        heap_entry *own = s->heap + first * d->per;
        status = mw_comm_allgather(comm, own, (size_t)(n * d->per) * sizeof *all, all);
        for (int64_t i = 0; i < n && status == MW_OK; i++) {
            merge_heaps(all + i * d->per, n * d->per, size, line, 0, d->top_texts, own + i * d->per);
            merge_heaps(all + i * d->per, n * d->per, size, line, d->top_texts, d->samples, own + i * d->per);
        }
    }
    mw_free(all);
    mw_free(line);
    return status;
}

static mw_status merge_histograms(mw_discovery *d, const mw_comm *comm) {
    double *widest = mw_alloc((size_t)d->n * sizeof *widest);
    MW_TRY(mw_comm_agree(comm, widest ? MW_OK : MW_ERR_MEMORY));
    for (int64_t i = 0; i < d->n; i++) widest[i] = d->bin_exponent[i];
    mw_status status = mw_comm_allreduce_max(comm, widest, d->n);
    for (int64_t i = 0; i < d->n && status == MW_OK; i++)
        histogram_widen(&d->bin_exponent[i], d->bin + i * MW_BINS, (int32_t)widest[i]);
    mw_free(widest);
    return status == MW_OK ? mw_comm_allreduce_sum(comm, d->bin, d->n * MW_BINS) : status;
}

/* Sums a count over the ranks, and adds both of its halves to that of all rows. */
static mw_status merge_halves(const mw_comm *comm, int64_t *halves, int64_t n, int64_t *all) {
    for (int64_t i = 0; i < n && halves; i++) all[i] += halves[i] + halves[n + i];
    MW_TRY(mw_comm_allreduce_sum(comm, all, n));
    return halves ? mw_comm_allreduce_sum(comm, halves, 2 * n) : MW_OK;
}

static mw_status merge(search *s, const mw_comm *comm) {
    mw_discovery *d = s->out;
    MW_TRY(merge_texts(s, comm));
    MW_TRY(merge_histograms(d, comm));
    MW_TRY(mw_comm_allreduce_sum(comm, d->count, d->n));
    MW_TRY(mw_comm_allreduce_sum(comm, d->by_source, d->n * d->n_sources));
    category_counts none = {0}, *halves = d->halves ? &d->halves->counts : &none;
    MW_TRY(merge_halves(comm, halves->rows, d->n_categories, d->category_rows));
    return merge_halves(comm, halves->hits, d->n * d->n_categories, d->by_category);
}

/* ---- texts ------------------------------------------------------------------------------------------------ */

static int best_score_first(const void *a, const void *b) {
    const heap_entry *x = a, *y = b;
    heap_entry by_score[2] = {{score_key(x->score), x->row, 0}, {score_key(y->score), y->row, 0}};
    return heap_best_first(&by_score[0], &by_score[1]);
}

static mw_status set_text_rows(search *s) {
    mw_discovery *d = s->out;
    d->text_row = mw_alloc((size_t)(d->n * d->per) * sizeof *d->text_row);
    d->text_score = mw_alloc((size_t)(d->n * d->per) * sizeof *d->text_score);
    if (!d->text_row || !d->text_score) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < d->n; i++)
        qsort(s->heap + i * d->per + d->top_texts, (size_t)d->samples, sizeof *s->heap, best_score_first);
    for (int64_t t = 0; t < d->n * d->per; t++) {
        d->text_row[t] = s->heap[t].row;
        d->text_score[t] = s->heap[t].score;
    }
    return MW_OK;
}

/* ---- all of it -------------------------------------------------------------------------------------------- */

static mw_status copy_names(char *const *from, int64_t n, char ***out) {
    if (!(*out = mw_calloc((size_t)n, sizeof **out))) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        if (!((*out)[i] = mw_strdup(from[i]))) return MW_ERR_MEMORY;
    return MW_OK;
}

/* Makes the counts of both halves, if mw_discover_scores is to need them. */
static mw_status prepare_halves(search *s) {
    mw_discovery *d = s->out;
    if (!d->n_categories || !s->options->baseline_rows) return MW_OK;
    struct mw_counted_halves *halves = d->halves = mw_calloc(1, sizeof *halves);
    if (!halves) return MW_ERR_MEMORY;
    halves->sae = s->sae;
    halves->end = rows_to_count(s->tokens, s->options->baseline_rows);
    halves->counts.n = d->n;
    halves->counts.categories = d->n_categories;
    halves->counts.hits = mw_calloc((size_t)(2 * d->n * d->n_categories), sizeof *halves->counts.hits);
    halves->counts.rows = mw_calloc((size_t)(2 * d->n_categories), sizeof *halves->counts.rows);
    return halves->counts.hits && halves->counts.rows ? MW_OK : MW_ERR_MEMORY;
}

static mw_status prepare_groups(search *s) {
    mw_discovery *d = s->out;
    const mw_categories *c = s->options->categories;
    int64_t sources = s->sources.n <= MW_SOURCES_MAX ? s->sources.n : 0, categories = c ? c->count : 0;
    MW_TRY(copy_names(s->sources.name, sources, &d->source));
    d->n_sources = sources;
    if (c) MW_TRY(copy_names(c->names, categories, &d->category_name));
    d->n_categories = categories;
    d->source_rows = mw_calloc((size_t)sources, sizeof *d->source_rows);
    d->by_source = mw_calloc((size_t)(d->n * sources), sizeof *d->by_source);
    d->by_category = mw_calloc((size_t)(d->n * categories), sizeof *d->by_category);
    d->category = mw_calloc((size_t)d->n, sizeof *d->category);
    d->category_rows = mw_calloc((size_t)categories, sizeof *d->category_rows);
    d->recall = mw_calloc((size_t)d->n, sizeof *d->recall);
    d->f1 = mw_calloc((size_t)d->n, sizeof *d->f1);
    d->precision = mw_calloc((size_t)d->n, sizeof *d->precision);
    if (!d->source_rows || !d->by_source || !d->by_category || !d->category_rows || !d->category || !d->precision ||
        !d->recall || !d->f1)
        return MW_ERR_MEMORY;
    for (int64_t i = 0; i < s->tokens->n_documents && sources; i++)
        d->source_rows[s->sources.of_document[i]] +=
            (int64_t)(s->tokens->document_row[i + 1] - s->tokens->document_row[i]);
    return prepare_halves(s);
}

static mw_status prepare_vocabulary(mw_discovery *d, const mw_store_tokens *t) {
    size_t bytes = (size_t)t->vocabulary_offset[t->n_vocabulary],
           offsets = (size_t)(t->n_vocabulary + 1) * sizeof *d->vocabulary_offset;
    d->n_vocabulary = t->n_vocabulary;
    d->vocabulary_offset = mw_alloc(offsets);
    d->vocabulary_bytes = mw_alloc(bytes);
    if (!d->vocabulary_offset || !d->vocabulary_bytes) return MW_ERR_MEMORY;
    memcpy(d->vocabulary_offset, t->vocabulary_offset, offsets);
    memcpy(d->vocabulary_bytes, t->vocabulary_bytes, bytes);
    return MW_OK;
}

static mw_status prepare(search *s) {
    const mw_discover_options *o = s->options;
    mw_discovery *d = s->out;
    *d = (mw_discovery){.n = s->sae->n,
                        .rows = mw_store_rows(s->in->store),
                        .top_texts = o->top_texts,
                        .samples = o->samples,
                        .per = o->top_texts + o->samples,
                        .around = o->around};
    d->count = mw_calloc((size_t)d->n, sizeof *d->count);
    d->bin_exponent = mw_alloc((size_t)d->n * sizeof *d->bin_exponent);
    d->bin = mw_calloc((size_t)(d->n * MW_BINS), sizeof *d->bin);
    s->heap = mw_alloc((size_t)(d->n * d->per) * sizeof *s->heap);
    if (!d->count || !d->bin_exponent || !d->bin || !s->heap) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < d->n; i++) d->bin_exponent[i] = BIN_NONE;
    for (int64_t i = 0; i < d->n * d->per; i++) s->heap[i] = (heap_entry){0, -1, 0};
    MW_TRY(prepare_vocabulary(d, s->tokens));
    return prepare_groups(s);
}

static mw_status check(const search *s) {
    const mw_discover_options *o = s->options;
    if (o->top_texts < 1)
        return mw_error(MW_ERR_CONFIG, "discover.top_texts is %lld: expected at least 1", (long long)o->top_texts);
    if (s->sae->n >= MW_DISCOVERY_LATENTS || o->top_texts + o->samples >= MW_DISCOVERY_TEXTS)
        return mw_error(
            MW_ERR_UNSUPPORTED, "discovery of %lld latents with %lld texts each: expected fewer than %d and %d",
            (long long)s->sae->n, (long long)(o->top_texts + o->samples), MW_DISCOVERY_LATENTS, MW_DISCOVERY_TEXTS);
    if (o->around > INT32_MAX / 2 || o->coactive_rows > INT32_MAX)
        return mw_error(MW_ERR_UNSUPPORTED,
                        "discovery with %lld tokens on each side, %lld coactive rows: expected less than 2^30 and 2^31",
                        (long long)o->around, (long long)o->coactive_rows);
    if (mw_store_rows(s->in->store) >= MW_DISCOVERY_ROWS)
        return mw_error(MW_ERR_UNSUPPORTED, "discovery on %lld rows: expected fewer than 2^40",
                        (long long)mw_store_rows(s->in->store));
    return MW_OK;
}

static mw_status search_all(search *s, const mw_comm *comm, mw_store_tokens *tokens) {
    mw_status status = check(s);
    if (status == MW_OK) status = encoded_rows_open(s->sae, s->in, s->options->nan_rule, &s->rows);
    if (status == MW_OK) status = mw_store_read_tokens(s->in->store, tokens);
    if (status == MW_OK) status = mw_store_read_data_files(s->in->store, tokens, &s->sources);
    if (status == MW_OK) status = prepare(s);
    if (status == MW_OK) status = search_share(s, comm);
    MW_TRY(mw_comm_agree(comm, status));
    MW_TRY(finite_rows_end(&s->rows.finite, s->in, NULL, comm));
    MW_TRY(merge(s, comm));
    MW_TRY(mw_comm_agree(comm, set_text_rows(s)));
    for (int64_t i = 0; i < s->out->n; i++) set_category(s->out, i);
    MW_TRY(find_texts(s->sae, s->in, tokens, &s->codes, comm, s->out));
    if (s->options->neighbours == 0) return MW_OK;
    MW_TRY(find_coactive(&s->kept, comm, s->options->neighbours, s->out));
    return find_cosines(s->sae, comm, s->options->neighbours, s->out);
}

mw_status mw_discover(const mw_sae *sae, const mw_store_view *in, const mw_comm *comm,
                      const mw_discover_options *options, mw_discovery *out) {
    mw_store_tokens tokens = {0};
    mw_discovery found = {0};
    search s = {.sae = sae, .in = in, .tokens = &tokens, .options = options, .out = &found, .drawn_from = -DRAWN};
    mw_status status = search_all(&s, comm, &tokens);
    mw_free(s.heap);
    encoded_rows_close(&s.rows);
    kept_codes_free(&s.codes);
    kept_rows_free(&s.kept);
    mw_store_data_files_free(&s.sources);
    mw_store_tokens_free(&tokens);
    if (status != MW_OK)
        mw_discovery_free(&found);
    else
        *out = found;
    return status;
}

static void free_names(char **names, int64_t n) {
    for (int64_t i = 0; i < n && names; i++) mw_free(names[i]);
    mw_free(names);
}

void mw_discovery_free(mw_discovery *d) {
    free_names(d->source, d->n_sources);
    free_names(d->category_name, d->n_categories);
    free_names(d->scored, d->n_scored);
    void *all[] = {d->count,
                   d->bin_exponent,
                   d->bin,
                   d->text_row,
                   d->text_score,
                   d->text_start,
                   d->text_center,
                   d->text_document,
                   d->text_position,
                   d->text_id,
                   d->text_value,
                   d->source_rows,
                   d->by_source,
                   d->by_category,
                   d->category,
                   d->category_rows,
                   d->halves ? d->halves->counts.hits : NULL,
                   d->halves ? d->halves->counts.rows : NULL,
                   d->halves,
                   d->recall,
                   d->f1,
                   d->scored_counts,
                   d->scored_f1,
                   d->score,
                   d->precision,
                   d->cosine.index,
                   d->cosine.value,
                   d->coactive.index,
                   d->coactive.value,
                   d->promoted.index,
                   d->promoted.value,
                   d->suppressed.index,
                   d->suppressed.value,
                   d->vocabulary_offset,
                   d->vocabulary_bytes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *d = (mw_discovery){0};
}
