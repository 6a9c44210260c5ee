/* Gradients of one rank's share of latents, summed over the rows of all ranks in row order. */
#include "sae/variants.h"

#include <string.h>

/* ---- lists of entries by latent --------------------------------------------------------------------------- */

typedef struct entries {
    int64_t *start; /* [share + 1] */
    int32_t *row;   /* rows of what is multiplied */
    float *coefficient;
} entries;

static void free_entries(entries *e) {
    void *all[] = {e->start, e->row, e->coefficient};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
}

static bool is_mine(const mw_trainer *t, int32_t latent) {
    return latent >= t->first_latent && latent < t->first_latent + t->n_latents;
}

/* The parts of a step, AuxK's last: p from 0 to their number. Its uses; NULL past the end. */
static const codes *part_at(const mw_trainer *t, int p, int *uses, int *block) {
    bool aux = p == t->layout.n_parts;
    if (p > t->layout.n_parts || (aux && !t->aux_k)) return NULL;
    *uses = aux ? PART_DECODES | PART_ENCODES | PART_BIASES : t->layout.uses[p];
    *block = aux ? t->layout.n_blocks : t->layout.block[p];
    return aux ? &t->aux.c : &t->part[p].c;
}

static void count_codes(const mw_trainer *t, const codes *c, int64_t *start) {
    for (int64_t j = 0; j < c->start[t->options.batch]; j++)
        if (is_mine(t, c->index[j])) start[c->index[j] - t->first_latent + 1]++;
}

static void place_codes(const mw_trainer *t, const codes *c, const float *coefficient, int64_t row_offset,
                        int64_t *next, entries *e) {
    for (int64_t r = 0; r < t->options.batch; r++)
        for (int64_t j = c->start[r]; j < c->start[r + 1]; j++) {
            if (!is_mine(t, c->index[j])) continue;
            int64_t at = next[c->index[j] - t->first_latent]++;
            e->row[at] = (int32_t)(r + row_offset);
            e->coefficient[at] = coefficient[j];
        }
}

/* A counting sort by latent of the entries of parts with this use: part after part, each in row order. To decode:
 * values and rows of out_grad; else gradients and rows of the input. */
static mw_status list_entries(const mw_trainer *t, part_use use, entries *e) {
    int64_t n = t->n_latents, *next = mw_calloc((size_t)n + 1, sizeof *next);
    const codes *c;
    int uses, block;
    e->start = mw_calloc((size_t)n + 1, sizeof *e->start);
    if (!next || !e->start) {
        mw_free(next);
        return MW_ERR_MEMORY;
    }
    for (int p = 0; (c = part_at(t, p, &uses, &block)); p++)
        if (uses & use) count_codes(t, c, e->start);
    for (int64_t i = 0; i < n; i++) e->start[i + 1] += e->start[i];
    e->row = mw_alloc((size_t)e->start[n] * sizeof *e->row);
    e->coefficient = mw_alloc((size_t)e->start[n] * sizeof *e->coefficient);
    bool good = e->row && e->coefficient;
    memcpy(next, e->start, (size_t)n * sizeof *next);
    for (int p = 0; good && (c = part_at(t, p, &uses, &block)); p++)
        if (uses & use) {
            bool decode = use == PART_DECODES;
            place_codes(t, c, decode ? c->value : c->grad, decode ? block * t->options.batch : 0, next, e);
        }
    mw_free(next);
    return good ? MW_OK : MW_ERR_MEMORY;
}

/* out[i] = sum over latent i's entries, in list order, of coefficient times row */
static mw_status multiply(mw_trainer *t, part_use use, const float *x, int64_t width, float *out) {
    entries e = {0};
    mw_status status = list_entries(t, use, &e);
    mw_latent_lists lists = {t->n_latents, 0, e.start, e.row, e.coefficient};
    if (status == MW_OK) status = t->sae->backend->ops->sparse_outer(t->sae->backend, out, &lists, x, width);
    free_entries(&e);
    return status;
}

/* ---- sums over rows ---------------------------------------------------------------------------------------- */

/* Sums of dL/da of the parts with a use, for each latent of the share. */
static void sum_gradients(const mw_trainer *t, part_use use, double *out) {
    const codes *c;
    int uses, block;
    memset(out, 0, (size_t)t->n_latents * sizeof *out);
    for (int p = 0; (c = part_at(t, p, &uses, &block)); p++) {
        if (!(uses & use)) continue;
        for (int64_t j = 0; j < c->start[t->options.batch]; j++)
            if (is_mine(t, c->index[j])) out[c->index[j] - t->first_latent] += c->grad[j];
    }
}

static void sum_parts(mw_trainer *t) {
    for (int p = 0; p < t->layout.n_parts; p++) {
        const codes *c = &t->part[p].c;
        memset(t->part[p].sums, 0, (size_t)(t->n_latents * PART_SUMS) * sizeof(double));
        for (int64_t j = 0; j < c->start[t->options.batch]; j++) {
            if (!is_mine(t, c->index[j])) continue;
            double *sums = t->part[p].sums + (c->index[j] - t->first_latent) * PART_SUMS;
            sums[SUM_VALUE] += c->value[j];
            sums[SUM_GRAD] += c->grad[j];
            sums[SUM_GRAD_VALUE] += (double)c->grad[j] * c->value[j];
        }
    }
}

/* ---- parameters that are not by latent ---------------------------------------------------------------------- */

/* The encoder's part of db_dec, -sum_i (sum of dL/da_i) W_enc,i, by blocks of latents. */
static void encoder_sums(mw_trainer *t) {
    int64_t d = t->sae->d, last = t->first_latent + t->n_latents;
#pragma omp parallel for schedule(static)
    for (int64_t block = t->first_latent / LATENT_BLOCK; block < (last + LATENT_BLOCK - 1) / LATENT_BLOCK; block++) {
        double *sum = t->encoder_sums + block * d;
        memset(sum, 0, (size_t)d * sizeof *sum);
        int64_t end = (block + 1) * LATENT_BLOCK < last ? (block + 1) * LATENT_BLOCK : last;
        for (int64_t i = block * LATENT_BLOCK; i < end; i++) {
            double g = t->pre_sum[i - t->first_latent];
            const float *w = t->sae->w_enc + i * d;
            if (g != 0)
                for (int64_t j = 0; j < d; j++) sum[j] -= g * w[j];
        }
    }
}

/* Sums of the blocks that b_dec learns from over all rows, in order; each column by one thread. */
static void decoder_sums(const mw_trainer *t, double *out) {
    enum { COLUMNS = 64 };
    int64_t d = t->sae->d_out, rows = t->layout.bias_blocks * t->options.batch;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < d; at += COLUMNS) {
        int64_t end = at + COLUMNS < d ? at + COLUMNS : d;
        for (int64_t j = at; j < end; j++) out[j] = 0;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = at; j < end; j++) out[j] += t->out_grad[r * d + j];
    }
}

static mw_status bias_gradient(mw_trainer *t) {
    int64_t d = t->sae->d, blocks = (t->sae->n + LATENT_BLOCK - 1) / LATENT_BLOCK;
    double *sum = t->tile_sums; /* free by now, and wide enough */
    decoder_sums(t, sum);
    if (!t->sae->transcoder) {
        encoder_sums(t);
        MW_TRY(mw_comm_gather_shares(t->comm, t->encoder_sums, blocks, 1, (size_t)d * sizeof(double)));
        for (int64_t j = 0; j < d; j++)
            for (int64_t b = 0; b < blocks; b++) sum[j] += t->encoder_sums[b * d + j];
    }
    for (int64_t j = 0; j < t->sae->d_out; j++) t->parameter[P_B_DEC].grad[j] = (float)sum[j];
    return MW_OK;
}

/* dW_skip = sum over rows of dL/dx_hat x^T. Ranks take tiles of its rows. */
static mw_status skip_gradient(mw_trainer *t) {
    mw_backend *backend = t->sae->backend;
    int64_t d = t->sae->d, d_out = t->sae->d_out, batch = t->options.batch, begin, end;
    float *across = mw_alloc((size_t)(d_out * batch) * sizeof *across), *grad = t->parameter[P_W_SKIP].grad;
    mw_status status = across ? MW_OK : MW_ERR_MEMORY;
    mw_comm_share(mw_comm_rank(t->comm), mw_comm_size(t->comm), d_out, MW_ROW_TILE, &begin, &end);
    for (int b = 0; b < t->layout.bias_blocks && status == MW_OK && end > begin; b++) {
        const float *g = t->out_grad + b * batch * d_out;
#pragma omp parallel for schedule(static)
        for (int64_t i = begin; i < end; i++)
            for (int64_t r = 0; r < batch; r++) across[i * batch + r] = g[r * d_out + i];
        status = backend->ops->matmul(backend, &(mw_matmul){.m = end - begin,
                                                            .n = d,
                                                            .k = batch,
                                                            .a = across + begin * batch,
                                                            .lda = batch,
                                                            .b = t->input,
                                                            .b_dtype = MW_F32,
                                                            .ldb = d,
                                                            .c = grad + begin * d,
                                                            .ldc = d,
                                                            .accumulate = b > 0});
    }
    mw_free(across);
    MW_TRY(mw_comm_agree(t->comm, status));
    return mw_comm_gather_shares(t->comm, grad, d_out, MW_ROW_TILE, (size_t)d * sizeof *grad);
}

mw_status step_gradients(mw_trainer *t) {
    const mw_sae *sae = t->sae;
    const variant_row *variant = variant_of(sae);
    mw_status status = multiply(t, PART_ENCODES, t->input, sae->d, t->parameter[P_W_ENC].grad);
    if (status == MW_OK) status = multiply(t, PART_DECODES, t->out_grad, sae->d_out, t->parameter[P_W_DEC].grad);
    MW_TRY(mw_comm_agree(t->comm, status));
    sum_gradients(t, PART_BIASES, t->pre_sum);
    for (int64_t i = 0; i < t->n_latents; i++) t->parameter[P_B_ENC].grad[i] = (float)t->pre_sum[i];
    sum_gradients(t, PART_ENCODES, t->pre_sum);
    if (variant->finish) {
        sum_parts(t);
        variant->finish(t);
    }
    if (sae->w_skip) MW_TRY(skip_gradient(t));
    return bias_gradient(t);
}
