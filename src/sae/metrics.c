/* Metrics of an SAE on a store. The blocks of the store form at most 256 groups; one rank sums a group in row order,
 * and the groups are added in order: the numbers do not depend on the number of ranks. */
#include "sae/rows/nonfinite.h"

#include <math.h>
#include <string.h>

enum { GROUPS_MAX = 256, CHUNK_ROWS = 1024, L0_MAX = 1 << 16 };

/* Sums over rows and columns of (x - x_hat)^2, (x - mean)^2, x^2. */
typedef struct variance {
    double error, total, squares;
} variance;
enum { VARIANCE = sizeof(variance) / sizeof(double) };

/* Sums of a group: the variance of all rows, the sums named here, sum of x - x_hat [d_out], sum of x [d_out], then the
 * variance by position [MW_POSITION_BUCKETS] and by site [n_targets]. */
typedef enum sum_index {
    SUM_DIRECTED = VARIANCE,
    SUM_COSINE,
    SUM_ROWS,
    SUM_L0,
    SUM_L0_SQUARE,
    SUM_L1,
    SUM_COUNT
} sum_index;

typedef struct meter {
    const mw_sae *sae;
    const mw_store_view *in, *out; /* out is reconstructed; it may be `in` */
    mw_store_tokens tokens;
    finite_rows finite;
    double *mean;   /* [d_out] of x */
    double *groups; /* [n_groups, width] */
    int64_t width, n_groups;
    int64_t *counts;          /* active rows per latent [n], rows per L0 [l0_bins], rows per position bucket */
    int64_t l0_bins;          /* the last bin also counts rows with more active latents */
    float *input, *x, *x_hat; /* of CHUNK_ROWS rows; x is `input` where `out` is `in` */
    mw_codes codes;
} meter;

static double *sum_of_x(const meter *m, double *sums) {
    return sums + SUM_COUNT + m->sae->d_out;
}

static variance *by_position(const meter *m, double *sums) {
    return (variance *)(sums + SUM_COUNT + 2 * m->sae->d_out);
}

static variance *by_site(const meter *m, double *sums) {
    return by_position(m, sums) + MW_POSITION_BUCKETS;
}

double mw_variance_fraction(double part, double total, double squares) {
    return total > 1e-12 * squares ? part / total : (double)NAN;
}

static double fvu_of(const variance *v) {
    return mw_variance_fraction(v->error, v->total, v->squares);
}

static void add_variance(variance *to, const variance *more) {
    to->error += more->error;
    to->total += more->total;
    to->squares += more->squares;
}

static int bucket_of(uint32_t position) {
    int bucket = 0;
    while (bucket + 1 < MW_POSITION_BUCKETS && position >= (UINT32_C(2) << bucket) - 1) bucket++;
    return bucket;
}

/* Adds the columns of row r to the sums; returns the dot product of x and x_hat, and the square of x_hat. */
static void add_columns(meter *m, int64_t r, double *sums, variance *all, double *dot, double *yy) {
    int64_t d = m->sae->d_out;
    const float *x = m->x + r * d, *y = m->x_hat + r * d;
    double *error = sums + SUM_COUNT, *of_x = sum_of_x(m, sums);
    variance *sites = by_site(m, sums);
    for (int64_t i = 0, site = 0; i < d; i++) {
        double e = (double)x[i] - y[i], deviation = x[i] - m->mean[i];
        const variance one = {e * e, deviation * deviation, (double)x[i] * x[i]};
        site += i == m->sae->target_end[site];
        error[i] += e;
        of_x[i] += x[i];
        add_variance(all, &one);
        add_variance(&sites[site], &one);
        *dot += (double)x[i] * y[i];
        *yy += (double)y[i] * y[i];
    }
}

static void add_row(meter *m, int64_t row, int64_t r, double *sums) {
    int64_t n = m->sae->n, active = m->codes.start[r + 1] - m->codes.start[r];
    variance all = {0};
    double dot = 0, yy = 0;
    add_columns(m, r, sums, &all, &dot, &yy);
    for (int64_t j = m->codes.start[r]; j < m->codes.start[r + 1]; j++) {
        sums[SUM_L1] += m->codes.value[j];
        m->counts[m->codes.index[j]]++;
    }
    int bucket = bucket_of(m->tokens.position[row]);
    sums[SUM_DIRECTED] += all.squares > 0;
    sums[SUM_COSINE] += all.squares > 0 && yy > 0 ? dot / sqrt(all.squares * yy) : 0;
    sums[SUM_ROWS] += 1;
    sums[SUM_L0] += (double)active;
    sums[SUM_L0_SQUARE] += (double)(active * active);
    add_variance((variance *)sums, &all);
    add_variance(&by_position(m, sums)[bucket], &all);
    m->counts[n + (active < m->l0_bins ? active : m->l0_bins - 1)]++;
    m->counts[n + m->l0_bins + bucket]++;
}

static mw_status measure_rows(meter *m, int64_t begin, int64_t end, double *sums) {
    bool has_target = m->out != m->in;
    for (int64_t at = begin; at < end && m->finite.first < 0; at += CHUNK_ROWS) {
        int64_t n = end - at < CHUNK_ROWS ? end - at : CHUNK_ROWS;
        MW_TRY(mw_store_view_range(m->in, at, n, m->input));
        if (has_target) MW_TRY(mw_store_view_range(m->out, at, n, m->x));
        MW_TRY(mw_sae_encode(m->sae, m->input, n, &m->codes));
        MW_TRY(mw_sae_decode(m->sae, &m->codes, m->input, m->x_hat));
        for (int64_t r = 0; r < n; r++)
            if (finite_row(&m->finite, m->in, has_target ? m->out : NULL, at + r, m->input + r * m->in->width,
                           m->x + r * m->out->width))
                add_row(m, at + r, r, sums);
    }
    return MW_OK;
}

static int64_t count_width(const meter *m) {
    return m->sae->n + m->l0_bins + MW_POSITION_BUCKETS;
}

static mw_status prepare(meter *m, int64_t n_blocks) {
    int64_t d = m->sae->d_out;
    m->l0_bins = m->sae->n < L0_MAX ? m->sae->n + 1 : L0_MAX;
    m->n_groups = n_blocks < GROUPS_MAX ? n_blocks : GROUPS_MAX;
    m->width = SUM_COUNT + 2 * d + VARIANCE * (MW_POSITION_BUCKETS + m->sae->n_targets);
    m->mean = mw_alloc((size_t)d * sizeof *m->mean);
    m->groups = mw_alloc((size_t)(m->n_groups * m->width) * sizeof *m->groups);
    m->counts = mw_alloc((size_t)count_width(m) * sizeof *m->counts);
    m->input = mw_alloc((size_t)(CHUNK_ROWS * m->sae->d) * sizeof *m->input);
    m->x = m->out == m->in ? m->input : mw_alloc((size_t)(CHUNK_ROWS * d) * sizeof *m->x);
    m->x_hat = mw_alloc((size_t)(CHUNK_ROWS * d) * sizeof *m->x_hat);
    if (!m->mean || !m->groups || !m->counts || !m->input || !m->x || !m->x_hat) return MW_ERR_MEMORY;
    MW_TRY(mw_store_view_mean(m->out, m->mean));
    return mw_store_read_tokens(m->in->store, &m->tokens);
}

static mw_status measure_own_groups(meter *m, const mw_comm *comm, const uint64_t *row, int64_t n_blocks) {
    int64_t begin, end;
    mw_status status = MW_OK;
    mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), m->n_groups, 1, &begin, &end);
    mw_progress progress;
    mw_progress_begin(&progress, "evaluate", "groups", end - begin, mw_comm_rank(comm) == 0);
    for (int64_t g = begin; g < end && status == MW_OK; g++) {
        int64_t first = n_blocks * g / m->n_groups, last = n_blocks * (g + 1) / m->n_groups;
        status = measure_rows(m, (int64_t)row[first], (int64_t)row[last], m->groups + g * m->width);
        mw_progress_update(&progress, g + 1 - begin, NULL);
    }
    return status;
}

static double mean_of(double sum, double count) {
    return count > 0 ? sum / count : (double)NAN;
}

/* FVU, cosine and L0 of a resample of groups. */
static void statistics_of_groups(const void *self, int64_t draw, double *out) {
    const meter *m = self;
    double sums[SUM_COUNT] = {0};
    for (int64_t g = 0; g < m->n_groups; g++) {
        const double *group = m->groups + mw_resampled(draw, g, m->n_groups) * m->width;
        for (int i = 0; i < SUM_COUNT; i++) sums[i] += group[i];
    }
    out[0] = fvu_of((const variance *)sums);
    out[1] = mean_of(sums[SUM_COSINE], sums[SUM_DIRECTED]);
    out[2] = mean_of(sums[SUM_L0], sums[SUM_ROWS]);
}

static mw_status gather_groups(meter *m, const mw_comm *comm) {
    MW_TRY(mw_comm_allgather_shares(comm, m->groups, m->n_groups, 1, (size_t)m->width * sizeof *m->groups));
    return mw_comm_allreduce_sum(comm, m->counts, count_width(m));
}

/* Adds the sums of all groups into the first. */
static void add_groups(meter *m) {
    for (int64_t g = 1; g < m->n_groups; g++)
        for (int64_t i = 0; i < m->width; i++) m->groups[i] += m->groups[g * m->width + i];
}

static mw_status measure_all(meter *m, const mw_comm *comm, const uint64_t *row, int64_t n_blocks) {
    m->finite = finite_rows_begin(m->finite.rule);
    memset(m->groups, 0, (size_t)(m->n_groups * m->width) * sizeof *m->groups);
    memset(m->counts, 0, (size_t)count_width(m) * sizeof *m->counts);
    MW_TRY(mw_comm_agree(comm, measure_own_groups(m, comm, row, n_blocks)));
    MW_TRY(finite_rows_end(&m->finite, m->in, m->out == m->in ? NULL : m->out, comm));
    return gather_groups(m, comm);
}

static int64_t rows_measured(const meter *m) {
    return mw_store_rows(m->in->store) - m->finite.left_out;
}

/* If rows are left out, a second pass is made: the mean of the other rows is known after the first. */
static mw_status measure(meter *m, const mw_comm *comm) {
    int64_t n_blocks;
    uint64_t *row = NULL;
    mw_status status = mw_store_blocks(m->in->store, &n_blocks, &row);
    status = mw_comm_agree(comm, status == MW_OK ? prepare(m, n_blocks) : status);
    if (status == MW_OK) status = measure_all(m, comm, row, n_blocks);
    if (status == MW_OK && rows_measured(m) == 0) status = mw_error(MW_ERR_STATE, "activations: no row is finite");
    if (status == MW_OK && m->finite.left_out) {
        add_groups(m);
        for (int64_t i = 0; i < m->sae->d_out; i++) m->mean[i] = sum_of_x(m, m->groups)[i] / (double)rows_measured(m);
        mw_log_quiet(true); /* the first pass logged the rows */
        status = measure_all(m, comm, row, n_blocks);
        mw_log_quiet(false);
    }
    mw_free(row);
    return status;
}

/* ---- results ------------------------------------------------------------------------------------------- */

static void fill_latents(const meter *m, mw_sae_metrics *out) {
    for (int64_t i = 0; i < m->sae->n; i++) {
        double frequency = (double)m->counts[i] / (double)out->rows;
        out->dead += m->counts[i] == 0;
        out->dense += frequency > 0.1;
        if (m->counts[i] == 0) continue;
        int bin = 0;
        for (double floor = 0.1; bin + 1 < MW_FREQUENCY_BINS && frequency <= floor; floor /= 10) bin++;
        out->frequency_bin[bin]++;
    }
}

static void fill_quantiles(const meter *m, mw_sae_metrics *out) {
    const int64_t *by_l0 = m->counts + m->sae->n;
    for (int q = 0; q < 5; q++) {
        int64_t wanted = (out->rows - 1) * q / 4, seen = 0, l0 = 0;
        while (l0 + 1 < m->l0_bins && seen + by_l0[l0] <= wanted) seen += by_l0[l0++];
        out->l0_quantile[q] = l0;
    }
}

static void fill_positions(const meter *m, mw_sae_metrics *out) {
    for (int b = 0; b < MW_POSITION_BUCKETS; b++) {
        out->position_fvu[b] = fvu_of(&by_position(m, m->groups)[b]);
        out->position_rows[b] = m->counts[m->sae->n + m->l0_bins + b];
    }
    for (int64_t r = 0; r < m->tokens.n_rows; r++)
        if (m->tokens.position[r] > out->last_position) out->last_position = m->tokens.position[r];
}

static mw_sae_metrics metrics_of(meter *m) {
    mw_estimate made[3];
    mw_bootstrap(statistics_of_groups, m, m->n_groups, 3, made);
    add_groups(m);
    double *s = m->groups;
    const variance *all = (const variance *)s;
    int64_t d = m->sae->d_out;
    mw_sae_metrics out = {.fvu_95 = made[0],
                          .cosine_95 = made[1],
                          .l0_95 = made[2],
                          .rows = rows_measured(m),
                          .left_out = m->finite.left_out};
    double rows = (double)out.rows, constant = 0;
    for (int64_t i = 0; i < d; i++) constant += s[SUM_COUNT + i] * s[SUM_COUNT + i] / rows;
    out.mse = all->error / (rows * (double)d);
    out.fvu = out.fvu_95.value;
    out.explained_variance = 1 - mw_variance_fraction(all->error - constant, all->total, all->squares);
    out.cosine = out.cosine_95.value;
    out.l0 = out.l0_95.value;
    out.l0_deviation = sqrt(fmax(s[SUM_L0_SQUARE] / rows - out.l0 * out.l0, 0));
    out.l1 = s[SUM_L1] / rows;
    for (int64_t p = 0; p < m->sae->n_targets; p++) out.target_fvu[p] = fvu_of(&by_site(m, s)[p]);
    fill_positions(m, &out);
    fill_latents(m, &out);
    fill_quantiles(m, &out);
    return out;
}

mw_status mw_sae_measure(const mw_sae *sae, const mw_store_view *in, const mw_store_view *out, mw_nan_rule rule,
                         const mw_comm *comm, mw_sae_metrics *metrics) {
    int64_t width = out ? out->width : in->width;
    if (in->width != sae->d || width != sae->d_out)
        return mw_error(MW_ERR_CONFIG, "SAE of width %lld to %lld: expected sites of these widths, found %lld to %lld",
                        (long long)sae->d, (long long)sae->d_out, (long long)in->width, (long long)width);
    meter m = {.sae = sae, .in = in, .out = out ? out : in, .finite = finite_rows_begin(rule)};
    mw_status status = measure(&m, comm);
    if (status == MW_OK) *metrics = metrics_of(&m);
    mw_store_tokens_free(&m.tokens);
    mw_codes_free(&m.codes);
    if (m.x != m.input) mw_free(m.x);
    void *all[] = {m.mean, m.groups, m.counts, m.input, m.x_hat};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}
