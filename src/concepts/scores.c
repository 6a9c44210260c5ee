/* Latents as detectors of known categories: precision, recall and F1, and their means for the best latents. */
#include "concepts/discovery.h"
#include "concepts/encoded_rows.h"

#include <math.h>
#include <string.h>

enum { ENDS = 3 };

/* ---- one detector ----------------------------------------------------------------------------------------------- */

mw_category_score mw_category_score_of(int64_t hits, int64_t active, int64_t all) {
    double both = (double)active + (double)all;
    return (mw_category_score){.precision = active ? (double)hits / (double)active : 0,
                               .recall = all ? (double)hits / (double)all : 0,
                               .f1 = both > 0 ? 2 * (double)hits / both : 0};
}

double mw_category_chance(double share) {
    return 2 * share / (1 + share);
}

static double above_chance(double score, double chance) {
    return (score - chance) / (1 - chance);
}

/* ---- over all rows ---------------------------------------------------------------------------------------------- */

static mw_category_score score_of(const mw_discovery *d, int64_t latent, int64_t category) {
    return mw_category_score_of(d->by_category[latent * d->n_categories + category], d->count[latent],
                                d->category_rows[category]);
}

void set_category(mw_discovery *d, int64_t latent) {
    mw_category_score best = {0};
    d->category[latent] = -1;
    for (int64_t c = 0; c < d->n_categories; c++) {
        mw_category_score score = score_of(d, latent, c);
        if (!(score.f1 > best.f1)) continue;
        best = score;
        d->category[latent] = (int32_t)c;
    }
    d->precision[latent] = (float)best.precision;
    d->recall[latent] = (float)best.recall;
    d->f1[latent] = (float)best.f1;
}

int64_t mw_discovery_best(const mw_discovery *d, int64_t category, mw_category_score *score) {
    int64_t latent = -1;
    *score = (mw_category_score){0};
    for (int64_t i = 0; i < d->n; i++) {
        mw_category_score one = score_of(d, i, category);
        if (!(one.f1 > score->f1)) continue;
        *score = one;
        latent = i;
    }
    return latent;
}

/* ---- the best latents, chosen on one half of the documents and measured on the other ---------------------------- */

static const int64_t *hits_of(const category_counts *t, int half, int64_t latent) {
    return t->hits + (half * t->n + latent) * t->categories;
}

/* Every row has one category. */
static int64_t active_rows(const category_counts *t, int half, int64_t latent) {
    int64_t sum = 0;
    for (int64_t c = 0; c < t->categories; c++) sum += hits_of(t, half, latent)[c];
    return sum;
}

static int64_t rows_of_half(const category_counts *t, int half) {
    int64_t sum = 0;
    for (int64_t c = 0; c < t->categories; c++) sum += t->rows[half * t->categories + c];
    return sum;
}

static mw_category_score score_in_half(const category_counts *t, int half, int64_t latent, int64_t category) {
    return mw_category_score_of(hits_of(t, half, latent)[category], active_rows(t, half, latent),
                                t->rows[half * t->categories + category]);
}

static int64_t choose_latent(const category_counts *t, int64_t category) {
    int64_t best = 0;
    double most = 0;
    for (int64_t i = 0; i < t->n; i++) {
        double f1 = score_in_half(t, 0, i, category).f1;
        if (f1 > most) most = f1, best = i;
    }
    return best;
}

static bool is_measured(const category_counts *t, int64_t category) {
    int64_t chosen_on = t->rows[category], measured_on = t->rows[t->categories + category];
    return chosen_on && measured_on && measured_on < rows_of_half(t, 1);
}

void score_counts(const category_counts *t, float *f1) {
    for (int64_t c = 0; c < t->categories; c++)
        f1[c] = is_measured(t, c) ? (float)score_in_half(t, 1, choose_latent(t, c), c).f1 : NAN;
}

/* Scores of the categories that are measured, [n, MW_SCORES]. */
typedef struct category_table {
    double *score;
    int64_t n;
} category_table;

static void mean_scores(const void *self, int64_t draw, double *out) {
    const category_table *table = self;
    memset(out, 0, MW_SCORES * sizeof *out);
    for (int64_t i = 0; i < table->n; i++) {
        const double *one = table->score + mw_resampled(draw, i, table->n) * MW_SCORES;
        for (int s = 0; s < MW_SCORES; s++) out[s] += one[s] / (double)table->n;
    }
    for (int s = 0; s < MW_SCORES && table->n == 0; s++) out[s] = NAN;
}

mw_status score_means(const category_counts *t, const float *f1, const float *first, mw_estimate out[MW_SCORES],
                      int64_t *categories) {
    category_table table = {.score = mw_alloc((size_t)(t->categories * MW_SCORES) * sizeof *table.score)};
    if (!table.score) return MW_ERR_MEMORY;
    for (int64_t c = 0; c < t->categories; c++) {
        if (isnan(f1[c])) continue;
        double *to = table.score + table.n++ * MW_SCORES;
        double share = (double)t->rows[t->categories + c] / (double)rows_of_half(t, 1);
        to[MW_SCORE_F1] = f1[c];
        to[MW_SCORE_F1_LIFT] = above_chance(f1[c], mw_category_chance(share));
        to[MW_SCORE_F1_LEAD] = (double)first[c] - f1[c];
    }
    mw_bootstrap(mean_scores, &table, table.n, MW_SCORES, out);
    *categories = table.n;
    mw_free(table.score);
    return MW_OK;
}

/* ---- counting --------------------------------------------------------------------------------------------------- */

typedef struct counting {
    const mw_store_view *in;
    const mw_discover_options *options;
    mw_store_tokens tokens;
    int64_t n_rows; /* first rows that are counted */
    category_counts table;
    int64_t *hits[ENCODED_CHUNK]; /* in `table`: counts of the half and category of each row of the chunk */
    encoded_rows rows;
} counting;

int64_t rows_to_count(const mw_store_tokens *t, int64_t most) {
    int64_t n = 2;
    if (t->n_documents < 2) return t->n_rows < most ? t->n_rows : most;
    while (n < t->n_documents && (int64_t)t->document_row[n + 1] <= most) n++;
    return (int64_t)t->document_row[n];
}

int half_of_row(const mw_store_tokens *t, int64_t row, int64_t document) {
    return t->n_documents < 2 ? (int)(t->sequence[row] & 1) : (int)(document & 1);
}

static mw_status count_row(void *self, int64_t row, int64_t at, int64_t begin, int64_t end) {
    counting *s = self;
    category_counts *t = &s->table;
    int half = half_of_row(&s->tokens, row, mw_store_span_of(&s->tokens, row).document);
    int32_t category = s->options->categories->of_token[s->tokens.ids[row]];
    (void)begin, (void)end;
    t->rows[half * t->categories + category]++;
    s->hits[at] = t->hits + half * t->n * t->categories + category;
    return MW_OK;
}

static void count_entry(void *self, int64_t at, int64_t latent, float z) {
    counting *s = self;
    (void)z;
    s->hits[at][latent * s->table.categories]++;
}

static mw_status count_share(counting *s, const mw_comm *comm) {
    int64_t begin, end;
    mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), s->n_rows, ENCODED_CHUNK, &begin, &end);
    return each_encoded_row(&s->rows, begin, end, &(row_use){count_row, count_entry, s});
}

static mw_status prepare(counting *s, const mw_sae *sae) {
    category_counts *t = &s->table;
    MW_TRY(encoded_rows_open(sae, s->in, s->options->nan_rule, &s->rows));
    *t = (category_counts){.n = sae->n, .categories = s->options->categories->count};
    t->hits = mw_calloc((size_t)(2 * t->n * t->categories), sizeof *t->hits);
    t->rows = mw_calloc((size_t)(2 * t->categories), sizeof *t->rows);
    return t->hits && t->rows ? MW_OK : MW_ERR_MEMORY;
}

static mw_status count_all(counting *s, const mw_sae *sae, const mw_comm *comm) {
    mw_status status = prepare(s, sae);
    if (status == MW_OK) status = count_share(s, comm);
    MW_TRY(mw_comm_agree(comm, status));
    MW_TRY(finite_rows_end(&s->rows.finite, s->in, NULL, comm));
    MW_TRY(mw_comm_allreduce_sum(comm, s->table.hits, 2 * s->table.n * s->table.categories));
    return mw_comm_allreduce_sum(comm, s->table.rows, 2 * s->table.categories);
}

/* ---- the list of scores ----------------------------------------------------------------------------------------- */

static mw_status prepare_list(mw_discovery *d, const char *const *names, int64_t n) {
    d->scored = mw_calloc((size_t)n, sizeof *d->scored);
    d->scored_counts = mw_calloc((size_t)n, 2 * sizeof *d->scored_counts);
    d->scored_f1 = mw_calloc((size_t)(n * d->n_categories), sizeof *d->scored_f1);
    d->score = mw_calloc((size_t)n, MW_SCORES * ENDS * sizeof *d->score);
    if (!d->scored || !d->scored_counts || !d->scored_f1 || !d->score) return MW_ERR_MEMORY;
    d->n_scored = n;
    for (int64_t i = 0; i < n; i++)
        if (!(d->scored[i] = mw_strdup(names[i]))) return MW_ERR_MEMORY;
    return MW_OK;
}

static mw_status set_scores(const category_counts *t, int64_t i, mw_discovery *d) {
    mw_estimate mean[MW_SCORES];
    float *f1 = d->scored_f1 + i * d->n_categories;
    score_counts(t, f1);
    MW_TRY(score_means(t, f1, d->scored_f1, mean, &d->scored_counts[i * 2]));
    d->scored_counts[i * 2 + 1] = rows_of_half(t, 1);
    for (int s = 0; s < MW_SCORES; s++) {
        float *to = d->score + (i * MW_SCORES + s) * ENDS;
        to[0] = (float)mean[s].value;
        to[1] = (float)mean[s].low;
        to[2] = (float)mean[s].high;
    }
    return MW_OK;
}

static mw_status score_one(counting *s, const mw_sae *sae, const mw_comm *comm, int64_t i, mw_discovery *d) {
    if (d->halves && d->halves->sae == sae && d->halves->end == s->n_rows) /* the discovery has counted the same rows */
        return mw_comm_agree(comm, set_scores(&d->halves->counts, i, d));
    mw_status status = count_all(s, sae, comm);
    if (status == MW_OK) status = mw_comm_agree(comm, set_scores(&s->table, i, d));
    mw_free(s->table.hits);
    mw_free(s->table.rows);
    s->table = (category_counts){0};
    encoded_rows_close(&s->rows);
    return status;
}

mw_status mw_discover_scores(const mw_sae *const *saes, const char *const *names, int64_t n, const mw_store_view *in,
                             const mw_comm *comm, const mw_discover_options *options, mw_discovery *d) {
    counting s = {.in = in, .options = options};
    if (!options->categories) return mw_error(MW_ERR_ARG, "scores of latents: expected categories");
    mw_status status = mw_store_read_tokens(in->store, &s.tokens);
    if (status == MW_OK) status = prepare_list(d, names, n);
    status = mw_comm_agree(comm, status);
    s.n_rows = status == MW_OK ? rows_to_count(&s.tokens, options->baseline_rows) : 0;
    for (int64_t i = 0; i < n && status == MW_OK; i++) status = score_one(&s, saes[i], comm, i, d);
    mw_store_tokens_free(&s.tokens);
    return status;
}
