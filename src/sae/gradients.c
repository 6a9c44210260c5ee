/* Gradients of one rank's share of latents, summed over the rows of all ranks in row order. */
#include "sae/trainer.h"

#include <string.h>

typedef struct entries {
    int64_t *start;   /* [share + 1] */
    int32_t *row;     /* rows of the inputs */
    int32_t *out_row; /* rows of out_grad: aux entries lie `batch` below */
    float *value, *grad;
    int64_t count;
} entries;

static bool is_mine(const mw_trainer *t, int32_t latent) {
    return latent >= t->first_latent && latent < t->first_latent + t->n_latents;
}

static void count_codes(const mw_trainer *t, const codes *c, int64_t *start) {
    for (int64_t j = 0; j < c->start[t->options.batch]; j++)
        if (is_mine(t, c->index[j])) start[c->index[j] - t->first_latent + 1]++;
}

static void place_codes(const mw_trainer *t, const codes *c, int64_t out_offset, int64_t *next, entries *e) {
    for (int64_t r = 0; r < t->options.batch; r++)
        for (int64_t j = c->start[r]; j < c->start[r + 1]; j++) {
            if (!is_mine(t, c->index[j])) continue;
            int64_t at = next[c->index[j] - t->first_latent]++;
            e->row[at] = (int32_t)r;
            e->out_row[at] = (int32_t)(r + out_offset);
            e->value[at] = c->value[j];
            e->grad[at] = c->grad[j];
        }
}

static void free_entries(entries *e) {
    void *all[] = {e->start, e->row, e->out_row, e->value, e->grad};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
}

/* A counting sort by latent: main entries first, then auxiliary ones, each in row order. */
static mw_status sort_entries(const mw_trainer *t, entries *e) {
    int64_t n = t->n_latents;
    int64_t *next = mw_calloc((size_t)n + 1, sizeof *next);
    e->start = mw_calloc((size_t)n + 1, sizeof *e->start);
    if (!next || !e->start) {
        mw_free(next);
        return MW_ERR_MEMORY;
    }
    count_codes(t, &t->main, e->start);
    if (t->aux_k) count_codes(t, &t->aux, e->start);
    for (int64_t i = 0; i < n; i++) e->start[i + 1] += e->start[i];
    e->count = e->start[n];
    e->row = mw_alloc((size_t)e->count * sizeof *e->row);
    e->out_row = mw_alloc((size_t)e->count * sizeof *e->out_row);
    e->value = mw_alloc((size_t)e->count * sizeof *e->value);
    e->grad = mw_alloc((size_t)e->count * sizeof *e->grad);
    bool good = e->row && e->out_row && e->value && e->grad;
    if (good) {
        memcpy(next, e->start, (size_t)n * sizeof *next);
        place_codes(t, &t->main, 0, next, e);
        if (t->aux_k) place_codes(t, &t->aux, t->options.batch, next, e);
    }
    mw_free(next);
    return good ? MW_OK : MW_ERR_MEMORY;
}

/* The encoder's part of db_dec, -sum_i db_enc,i W_enc,i, by blocks of latents. */
static void encoder_sums(mw_trainer *t) {
    int64_t d = t->sae->d, last = t->first_latent + t->n_latents;
#pragma omp parallel for schedule(static)
    for (int64_t block = t->first_latent / LATENT_BLOCK; block < (last + LATENT_BLOCK - 1) / LATENT_BLOCK; block++) {
        double *sum = t->encoder_sums + block * d;
        memset(sum, 0, (size_t)d * sizeof *sum);
        int64_t end = (block + 1) * LATENT_BLOCK < last ? (block + 1) * LATENT_BLOCK : last;
        for (int64_t i = block * LATENT_BLOCK; i < end; i++) {
            float g = t->g_benc[i - t->first_latent];
            const float *w = t->sae->w_enc + i * d;
            if (g != 0)
                for (int64_t j = 0; j < d; j++) sum[j] -= (double)g * w[j];
        }
    }
}

static mw_status bias_gradient(mw_trainer *t) {
    int64_t d = t->sae->d, blocks = (t->sae->n + LATENT_BLOCK - 1) / LATENT_BLOCK;
    encoder_sums(t);
    MW_TRY(mw_comm_gather_shares(t->comm, t->encoder_sums, blocks, 1, (size_t)d * sizeof(double)));
    double scale = 2 * t->loss_scale / ((double)t->options.batch * (double)d);
    for (int64_t j = 0; j < d; j++) {
        double sum = scale * t->tile_sums[d + j]; /* the decoder's part: the sum of dL/dx_hat over rows */
        for (int64_t b = 0; b < blocks; b++) sum += t->encoder_sums[b * d + j];
        t->g_bdec[j] = (float)sum;
    }
    return MW_OK;
}

mw_status step_gradients(mw_trainer *t) {
    const mw_backend_ops *ops = t->sae->backend->ops;
    entries e = {0};
    mw_status status = sort_entries(t, &e);
    mw_latent_lists by_grad = {t->n_latents, e.start, e.row, e.grad};
    mw_latent_lists by_value = {t->n_latents, e.start, e.out_row, e.value};
    if (status == MW_OK) status = ops->sparse_outer(t->sae->backend, t->g_enc, &by_grad, t->centered, t->sae->d);
    if (status == MW_OK) status = ops->sparse_outer(t->sae->backend, t->g_dec, &by_value, t->out_grad, t->sae->d);
    for (int64_t i = 0; status == MW_OK && i < t->n_latents; i++) {
        double sum = 0;
        for (int64_t j = e.start[i]; j < e.start[i + 1]; j++) sum += e.grad[j];
        t->g_benc[i] = (float)sum;
    }
    free_entries(&e);
    MW_TRY(mw_comm_agree(t->comm, status));
    return bias_gradient(t);
}
