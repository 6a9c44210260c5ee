/* AuxK (Gao et al. 2024, A.2): the largest pre-activations among dead latents rebuild what the live ones miss. Here the
 * residual is detached, b_dec stays out of the auxiliary reconstruction, the loss is normalized by the residual's variance,
 * live latents are left out rather than set to zero, and dead means dead over all ranks. */
#include "sae/variants.h"

typedef struct dead_scratch {
    float *weights; /* [n_dead, d], then biases [n_dead] */
    float *pre;     /* [MW_ROW_TILE, n_dead] */
    float *value;   /* [MW_ROW_TILE, aux_k] */
    int32_t *index;
} dead_scratch;

static mw_status encode_dead(mw_trainer *t, dead_scratch *s) {
    const mw_sae *sae = t->sae;
    mw_backend *backend = sae->backend;
    int64_t d = sae->d, n = t->n_dead, rows = t->end - t->begin;
    MW_TRY(backend->ops->gather_rows(backend, s->weights, sae->w_enc, MW_F32, t->dead, n, d, 1, false));
    float *bias = s->weights + n * d;
    for (int64_t i = 0; i < n; i++) bias[i] = sae->b_enc[t->dead[i]];
    MW_TRY(mw_codes_begin(&t->aux.c.mine, rows));
    for (int64_t r = 0; r < rows; r += MW_ROW_TILE) {
        int64_t m = rows - r < MW_ROW_TILE ? rows - r : MW_ROW_TILE;
        mw_matmul product = {.m = m,
                             .n = n,
                             .k = d,
                             .a = t->input + (t->begin + r) * d,
                             .lda = d,
                             .b = s->weights,
                             .b_dtype = MW_F32,
                             .ldb = d,
                             .b_transposed = true,
                             .bias = bias,
                             .c = s->pre,
                             .ldc = n};
        MW_TRY(backend->ops->matmul(backend, &product));
        MW_TRY(backend->ops->top_k(backend, s->pre, m, n, t->aux_k, s->index, s->value));
        for (int64_t j = 0; j < m * t->aux_k; j++) s->index[j] = t->dead[s->index[j]];
        MW_TRY(append_positive(&t->aux.c.mine, r, m, t->aux_k, s->index, s->value));
    }
    return MW_OK;
}

static mw_status reconstruct_dead(mw_trainer *t, float *recon) {
    const mw_sae *sae = t->sae;
    dead_scratch s = {0};
    s.weights = mw_alloc((size_t)(t->n_dead * (sae->d + 1)) * sizeof *s.weights);
    s.pre = mw_alloc((size_t)(MW_ROW_TILE * t->n_dead) * sizeof *s.pre);
    s.value = mw_alloc((size_t)(MW_ROW_TILE * t->aux_k) * sizeof *s.value);
    s.index = mw_alloc((size_t)(MW_ROW_TILE * t->aux_k) * sizeof *s.index);
    mw_status status = s.weights && s.pre && s.value && s.index ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) status = encode_dead(t, &s);
    const mw_codes *c = &t->aux.c.mine;
    if (status == MW_OK)
        status = sae->backend->ops->sparse_decode(sae->backend, recon, NULL, c->start, c->index, c->value, c->rows,
                                                  sae->w_dec, sae->d_out);
    void *all[] = {s.weights, s.pre, s.value, s.index};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}

/* Turns the auxiliary reconstruction into its gradient; leaves this rank's squared error by tile. */
static void aux_error(mw_trainer *t, float *recon, double spread, double *tile_error) {
    int64_t d = t->sae->d_out;
    float scale = (float)(2 * t->options.aux_coefficient / spread);
#pragma omp parallel for schedule(static)
    for (int64_t tile = t->begin / MW_ROW_TILE; tile < (t->end + MW_ROW_TILE - 1) / MW_ROW_TILE; tile++) {
        int64_t begin = tile * MW_ROW_TILE - t->begin, end = begin + MW_ROW_TILE;
        if (end > t->end - t->begin) end = t->end - t->begin;
        double total = 0;
        for (int64_t i = begin * d; i < end * d; i++) {
            float miss = recon[i] + t->error[i]; /* recon - (y - x_hat), and the error is x_hat - y */
            total += (double)miss * miss;
            recon[i] = scale * miss;
        }
        tile_error[tile] = total;
    }
}

static mw_status gather_tile_errors(mw_trainer *t, double *tile_error, double *sum) {
    int64_t tiles = trainer_tiles(t);
    MW_TRY(mw_comm_gather_shares(t->comm, tile_error, tiles, 1, sizeof *tile_error));
    *sum = 0;
    for (int64_t i = 0; i < tiles; i++) *sum += tile_error[i];
    return MW_OK;
}

mw_status auxiliary(mw_trainer *t, double spread) {
    int64_t d = t->sae->d_out;
    int block = t->layout.n_blocks;
    float *all = t->out_grad + block * t->options.batch * d, *recon = all + t->begin * d;
    double total = 0, *tile_error = mw_calloc((size_t)trainer_tiles(t), sizeof *tile_error);
    mw_status status = mw_comm_agree(t->comm, tile_error ? reconstruct_dead(t, recon) : MW_ERR_MEMORY);
    if (status == MW_OK) status = gather_codes(t, &t->aux.c);
    if (status == MW_OK) {
        aux_error(t, recon, spread, tile_error);
        status = gather_tile_errors(t, tile_error, &total);
    }
    if (status == MW_OK) status = mw_comm_agree(t->comm, code_gradients(t, &t->aux.c, block));
    if (status == MW_OK) status = gather_code_grads(t, &t->aux.c);
    if (status == MW_OK) status = gather_rows_of(t, all, (size_t)d * sizeof(float));
    t->report.aux_loss = total / spread;
    mw_free(tile_error);
    return status;
}
