/* How well an SAE rebuilds a site. Blocks of the store are put together into at most 256 groups, a group's sums are made
 * by one rank in row order, and groups are added in order: the same numbers at any number of ranks. */
#include "microw/sae.h"

#include <math.h>
#include <string.h>

enum { GROUPS_MAX = 256, CHUNK_ROWS = 1024, L0_MAX = 1 << 16 };

/* Sums of a group, followed by sum of e [d], then by position e^2 [buckets] and spread [buckets], then the same by site
 * [parts]. */
typedef enum sum_index { SUM_E2, SUM_SPREAD, SUM_COSINE, SUM_L0, SUM_L0_SQUARE, SUM_L1, SUM_COUNT } sum_index;

typedef struct meter {
    const mw_sae *sae;
    const mw_store_view *in, *out; /* out is what is rebuilt; it may be `in` */
    mw_store_tokens tokens;
    double *mean;   /* [d] */
    double *groups; /* [n_groups, width] */
    int64_t width, n_groups;
    int64_t *counts;         /* active rows a latent [n], rows by l0 [l0_bins], rows by position bucket */
    int64_t l0_bins;         /* rows with more active latents count in the last */
    float *read, *x, *x_hat; /* x is `read` where `out` is `in` */
    mw_codes codes;
} meter;

static int bucket_of(uint32_t position) {
    int bucket = 0;
    while (bucket + 1 < MW_POSITION_BUCKETS && position >= (UINT32_C(2) << bucket) - 1) bucket++;
    return bucket;
}

static void add_row(meter *m, int64_t row, int64_t r, double *sums) {
    int64_t d = m->sae->d_out, n = m->sae->n, active = m->codes.start[r + 1] - m->codes.start[r];
    const float *x = m->x + r * d, *y = m->x_hat + r * d;
    double dot = 0, xx = 0, yy = 0, e2 = 0, spread = 0;
    double *by_part = sums + SUM_COUNT + d + 2 * MW_POSITION_BUCKETS;
    for (int64_t i = 0, part = 0; i < d; i++) {
        double e = (double)x[i] - y[i], far = x[i] - m->mean[i];
        part += i == m->sae->part_end[part];
        sums[SUM_COUNT + i] += e;
        e2 += e * e;
        spread += far * far;
        by_part[part] += e * e;
        by_part[m->sae->n_parts + part] += far * far;
        dot += (double)x[i] * y[i];
        xx += (double)x[i] * x[i];
        yy += (double)y[i] * y[i];
    }
    for (int64_t j = m->codes.start[r]; j < m->codes.start[r + 1]; j++) {
        sums[SUM_L1] += m->codes.value[j];
        m->counts[m->codes.index[j]]++;
    }
    int bucket = bucket_of(m->tokens.position[row]);
    sums[SUM_E2] += e2;
    sums[SUM_SPREAD] += spread;
    sums[SUM_COSINE] += xx > 0 && yy > 0 ? dot / sqrt(xx * yy) : 0;
    sums[SUM_L0] += (double)active;
    sums[SUM_L0_SQUARE] += (double)(active * active);
    sums[SUM_COUNT + d + bucket] += e2;
    sums[SUM_COUNT + d + MW_POSITION_BUCKETS + bucket] += spread;
    m->counts[n + (active < m->l0_bins ? active : m->l0_bins - 1)]++;
    m->counts[n + m->l0_bins + bucket]++;
}

static mw_status add_rows(meter *m, int64_t begin, int64_t end, double *sums) {
    for (int64_t at = begin; at < end; at += CHUNK_ROWS) {
        int64_t n = end - at < CHUNK_ROWS ? end - at : CHUNK_ROWS;
        MW_TRY(mw_store_view_range(m->in, at, n, m->read));
        if (m->out != m->in) MW_TRY(mw_store_view_range(m->out, at, n, m->x));
        MW_TRY(mw_sae_encode(m->sae, m->read, n, &m->codes));
        MW_TRY(mw_sae_decode(m->sae, &m->codes, m->read, m->x_hat));
        for (int64_t r = 0; r < n; r++) add_row(m, at + r, r, sums);
    }
    return MW_OK;
}

static mw_status prepare(meter *m, int64_t n_blocks) {
    int64_t d = m->sae->d_out;
    m->l0_bins = m->sae->n < L0_MAX ? m->sae->n + 1 : L0_MAX;
    m->n_groups = n_blocks < GROUPS_MAX ? n_blocks : GROUPS_MAX;
    m->width = SUM_COUNT + d + 2 * MW_POSITION_BUCKETS + 2 * m->sae->n_parts;
    m->mean = mw_alloc((size_t)d * sizeof *m->mean);
    m->groups = mw_calloc((size_t)(m->n_groups * m->width), sizeof *m->groups);
    m->counts = mw_calloc((size_t)(m->sae->n + m->l0_bins + MW_POSITION_BUCKETS), sizeof *m->counts);
    m->read = mw_alloc((size_t)(CHUNK_ROWS * m->sae->d) * sizeof *m->read);
    m->x = m->out == m->in ? m->read : mw_alloc((size_t)(CHUNK_ROWS * d) * sizeof *m->x);
    m->x_hat = mw_alloc((size_t)(CHUNK_ROWS * d) * sizeof *m->x_hat);
    if (!m->mean || !m->groups || !m->counts || !m->read || !m->x || !m->x_hat) return MW_ERR_MEMORY;
    MW_TRY(mw_store_view_mean(m->out, m->mean));
    return mw_store_read_tokens(m->in->store, &m->tokens);
}

static mw_status measure_share(meter *m, const mw_comm *comm) {
    int64_t n_blocks, begin, end;
    uint64_t *row = NULL;
    MW_TRY(mw_store_blocks(m->in->store, &n_blocks, &row));
    mw_status status = prepare(m, n_blocks);
    mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), m->n_groups, 1, &begin, &end);
    mw_progress progress;
    mw_progress_begin(&progress, "evaluate", "groups", end - begin, mw_comm_rank(comm) == 0);
    for (int64_t g = begin; g < end && status == MW_OK; g++) {
        int64_t first = n_blocks * g / m->n_groups, last = n_blocks * (g + 1) / m->n_groups;
        status = add_rows(m, (int64_t)row[first], (int64_t)row[last], m->groups + g * m->width);
        mw_progress_update(&progress, g + 1 - begin, NULL);
    }
    mw_free(row);
    return status;
}

/* Leaves the sums of all groups in the first. */
static mw_status gather_groups(meter *m, const mw_comm *comm) {
    MW_TRY(mw_comm_gather_shares(comm, m->groups, m->n_groups, 1, (size_t)m->width * sizeof *m->groups));
    for (int64_t g = 1; g < m->n_groups; g++)
        for (int64_t i = 0; i < m->width; i++) m->groups[i] += m->groups[g * m->width + i];
    return mw_comm_sum_i64(comm, m->counts, m->sae->n + m->l0_bins + MW_POSITION_BUCKETS);
}

/* ---- results ------------------------------------------------------------------------------------------- */

static void count_latents(const meter *m, mw_sae_metrics *out) {
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

static void find_quantiles(const meter *m, mw_sae_metrics *out) {
    const int64_t *by_l0 = m->counts + m->sae->n;
    for (int q = 0; q < 5; q++) {
        int64_t wanted = (out->rows - 1) * q / 4, seen = 0, l0 = 0;
        while (l0 + 1 < m->l0_bins && seen + by_l0[l0] <= wanted) seen += by_l0[l0++];
        out->l0_quantile[q] = l0;
    }
}

static mw_sae_metrics results(const meter *m) {
    const double *s = m->groups;
    int64_t d = m->sae->d_out, parts = m->sae->n_parts;
    mw_sae_metrics out = {.rows = mw_store_rows(m->in->store)};
    double rows = (double)out.rows, constant = 0;
    for (int64_t i = 0; i < d; i++) constant += s[SUM_COUNT + i] * s[SUM_COUNT + i] / rows;
    out.mse = s[SUM_E2] / (rows * (double)d);
    out.fvu = s[SUM_SPREAD] > 0 ? s[SUM_E2] / s[SUM_SPREAD] : 0;
    out.explained_variance = s[SUM_SPREAD] > 0 ? 1 - (s[SUM_E2] - constant) / s[SUM_SPREAD] : 0;
    out.cosine = s[SUM_COSINE] / rows;
    out.l0 = s[SUM_L0] / rows;
    out.l0_deviation = sqrt(fmax(s[SUM_L0_SQUARE] / rows - out.l0 * out.l0, 0));
    out.l1 = s[SUM_L1] / rows;
    for (int b = 0; b < MW_POSITION_BUCKETS; b++) {
        double spread = s[SUM_COUNT + d + MW_POSITION_BUCKETS + b];
        out.position_fvu[b] = spread > 0 ? s[SUM_COUNT + d + b] / spread : 0;
        out.position_rows[b] = m->counts[m->sae->n + m->l0_bins + b];
    }
    const double *by_part = s + SUM_COUNT + d + 2 * MW_POSITION_BUCKETS;
    for (int64_t p = 0; p < parts; p++) out.part_fvu[p] = by_part[parts + p] > 0 ? by_part[p] / by_part[parts + p] : 0;
    count_latents(m, &out);
    find_quantiles(m, &out);
    return out;
}

mw_status mw_sae_measure(const mw_sae *sae, const mw_store_view *in, const mw_store_view *out, const mw_comm *comm,
                         mw_sae_metrics *metrics) {
    int64_t width = out ? out->width : in->width;
    if (in->width != sae->d || width != sae->d_out)
        return mw_error(MW_ERR_CONFIG, "an SAE of width %lld to %lld cannot be measured on sites of width %lld to %lld",
                        (long long)sae->d, (long long)sae->d_out, (long long)in->width, (long long)width);
    meter m = {.sae = sae, .in = in, .out = out ? out : in};
    mw_status status = mw_comm_agree(comm, measure_share(&m, comm));
    if (status == MW_OK) status = gather_groups(&m, comm);
    if (status == MW_OK) *metrics = results(&m);
    mw_store_tokens_free(&m.tokens);
    mw_codes_free(&m.codes);
    if (m.x != m.read) mw_free(m.x);
    void *all[] = {m.mean, m.groups, m.counts, m.read, m.x_hat};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}
