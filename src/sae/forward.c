/* The forward half of a step. Formulas: shared reference Gao et al. 2024, sections 2.3 and A.2; AuxK here detaches
 * the residual, leaves b_dec out of the auxiliary reconstruction, normalizes by the residual's variance, and picks
 * only among dead latents, dead over all ranks. */
#include "sae/variants.h"

#include <math.h>
#include <string.h>

static const double fired_above = 1e-3;

int64_t trainer_tiles(const mw_trainer *t) {
    return (t->options.batch + MW_ROW_TILE - 1) / MW_ROW_TILE;
}

/* ---- sums over rows, tile by tile ---------------------------------------------------------------------- */

/* Per tile: sum of x [d], sum of e [d], sum of x^2, sum of e^2, number of positive codes. */
static void sum_tile(const mw_trainer *t, int64_t tile, const float *x, const float *e, double *out) {
    int64_t d = t->sae->d, begin = tile * MW_ROW_TILE, end = begin + MW_ROW_TILE;
    if (end > t->options.batch) end = t->options.batch;
    memset(out, 0, (size_t)(2 * d + 3) * sizeof *out);
    for (int64_t r = begin; r < end; r++) {
        const float *xr = x + (r - t->begin) * d, *er = e + (r - t->begin) * d;
        for (int64_t i = 0; i < d; i++) {
            out[i] += xr[i];
            out[d + i] += er[i];
            out[2 * d] += (double)xr[i] * xr[i];
            out[2 * d + 1] += (double)er[i] * er[i];
        }
        out[2 * d + 2] += (double)(t->main.mine.start[r - t->begin + 1] - t->main.mine.start[r - t->begin]);
    }
}

typedef struct batch_sums {
    double x2, e2, positive;   /* sums over rows and dimensions */
    double x_spread, e_spread; /* sums of squared distances from the batch mean */
} batch_sums;

/* Adds the tiles in order. Leaves the sum of e over all rows in tile_sums[d .. 2d) of tile 0. */
static batch_sums add_tiles(mw_trainer *t) {
    int64_t d = t->sae->d, width = 2 * d + 3;
    double *total = t->tile_sums;
    for (int64_t tile = 1; tile < trainer_tiles(t); tile++)
        for (int64_t i = 0; i < width; i++) total[i] += t->tile_sums[tile * width + i];
    batch_sums s = {.x2 = total[2 * d], .e2 = total[2 * d + 1], .positive = total[2 * d + 2]};
    double mean_x2 = 0, mean_e2 = 0, rows = (double)t->options.batch;
    for (int64_t i = 0; i < d; i++) {
        mean_x2 += total[i] * total[i] / rows;
        mean_e2 += total[d + i] * total[d + i] / rows;
    }
    s.x_spread = fmax(s.x2 - mean_x2, 0);
    s.e_spread = fmax(s.e2 - mean_e2, 0);
    return s;
}

static mw_status measure(mw_trainer *t, const float *x, const float *e, batch_sums *out) {
    int64_t width = 2 * t->sae->d + 3, tiles = trainer_tiles(t);
#pragma omp parallel for schedule(static)
    for (int64_t tile = t->begin / MW_ROW_TILE; tile < (t->end + MW_ROW_TILE - 1) / MW_ROW_TILE; tile++)
        sum_tile(t, tile, x, e, t->tile_sums + tile * width);
    MW_TRY(mw_comm_gather_shares(t->comm, t->tile_sums, tiles, 1, (size_t)width * sizeof(double)));
    *out = add_tiles(t);
    return MW_OK;
}

/* ---- dead latents -------------------------------------------------------------------------------------- */

/* Counts before the mask is taken, so a latent that fires in this batch is not dead in it. */
static void count_dead(mw_trainer *t) {
    int64_t n = t->sae->n, entries = t->main.start[t->options.batch];
    for (int64_t i = 0; i < n; i++) t->since_fired[i] += t->options.batch;
    for (int64_t j = 0; j < entries; j++)
        if (t->main.value[j] > fired_above) t->since_fired[t->main.index[j]] = 0;
    t->n_dead = 0;
    for (int64_t i = 0; i < n; i++)
        if (t->since_fired[i] > t->options.dead_after) t->dead[t->n_dead++] = (int32_t)i;
}

/* ---- main path ----------------------------------------------------------------------------------------- */

/* dL/dz = <dL/dx_hat, W_dec,i>; silent latents are not among the codes, as the relu wants it. */
static mw_status code_gradients(mw_trainer *t, codes *c, const float *out_grad) {
    return t->sae->backend->ops->sparse_dot(t->sae->backend, c->grad + c->start[t->begin], out_grad, c->mine.start,
                                            c->mine.index, t->end - t->begin, t->sae->w_dec, t->sae->d);
}

/* ---- auxiliary path ------------------------------------------------------------------------------------ */

typedef struct dead_scratch {
    float *weights; /* [n_dead, d], then biases [n_dead] */
    float *pre;     /* [MW_ROW_TILE, n_dead] */
    float *value;   /* [MW_ROW_TILE, aux_k] */
    int32_t *index;
} dead_scratch;

static mw_status append_dead(mw_trainer *t, const dead_scratch *s, int64_t first, int64_t rows) {
    mw_codes *out = &t->aux.mine;
    int64_t k = t->aux_k, count = out->start[first];
    MW_TRY(mw_codes_reserve(out, count, count + rows * k));
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t j = r * k; j < (r + 1) * k; j++) {
            if (!(s->value[j] > 0)) continue;
            out->index[count] = t->dead[s->index[j]];
            out->value[count++] = s->value[j];
        }
        out->start[first + r + 1] = count;
    }
    return MW_OK;
}

/* The largest pre-activations among the dead latents. */
static mw_status encode_dead(mw_trainer *t, const float *centered, int64_t rows, dead_scratch *s) {
    const mw_sae *sae = t->sae;
    mw_backend *backend = sae->backend;
    int64_t d = sae->d, n = t->n_dead;
    MW_TRY(backend->ops->gather_rows(backend, s->weights, sae->w_enc, MW_F32, t->dead, n, d, 1, false));
    float *bias = s->weights + n * d;
    for (int64_t i = 0; i < n; i++) bias[i] = sae->b_enc[t->dead[i]];
    MW_TRY(mw_codes_begin(&t->aux.mine, rows));
    for (int64_t r = 0; r < rows; r += MW_ROW_TILE) {
        int64_t m = rows - r < MW_ROW_TILE ? rows - r : MW_ROW_TILE;
        mw_matmul product = {.m = m,
                             .n = n,
                             .k = d,
                             .a = centered + r * d,
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
        MW_TRY(append_dead(t, s, r, m));
    }
    return MW_OK;
}

/* Turns the auxiliary reconstruction into its gradient; returns this rank's squared error by tile. */
static void aux_error(mw_trainer *t, const float *e, float *recon, const batch_sums *sums, double *tile_error) {
    int64_t d = t->sae->d;
    float scale = (float)(2 * t->options.aux_coefficient / sums->e_spread);
#pragma omp parallel for schedule(static)
    for (int64_t tile = t->begin / MW_ROW_TILE; tile < (t->end + MW_ROW_TILE - 1) / MW_ROW_TILE; tile++) {
        int64_t begin = tile * MW_ROW_TILE - t->begin, end = begin + MW_ROW_TILE;
        if (end > t->end - t->begin) end = t->end - t->begin;
        double total = 0;
        for (int64_t i = begin * d; i < end * d; i++) {
            float miss = recon[i] + e[i]; /* recon - (x - x_hat), and e = x_hat - x */
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

static mw_status reconstruct_dead(mw_trainer *t, float *recon) {
    const mw_sae *sae = t->sae;
    int64_t d = sae->d, rows = t->end - t->begin;
    dead_scratch s = {0};
    s.weights = mw_alloc((size_t)(t->n_dead * (d + 1)) * sizeof *s.weights);
    s.pre = mw_alloc((size_t)(MW_ROW_TILE * t->n_dead) * sizeof *s.pre);
    s.value = mw_alloc((size_t)(MW_ROW_TILE * t->aux_k) * sizeof *s.value);
    s.index = mw_alloc((size_t)(MW_ROW_TILE * t->aux_k) * sizeof *s.index);
    mw_status status = s.weights && s.pre && s.value && s.index ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) status = encode_dead(t, t->centered + t->begin * d, rows, &s);
    if (status == MW_OK)
        status = sae->backend->ops->sparse_decode(sae->backend, recon, NULL, t->aux.mine.start, t->aux.mine.index,
                                                  t->aux.mine.value, rows, sae->w_dec, d);
    void *all[] = {s.weights, s.pre, s.value, s.index};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}

static mw_status auxiliary(mw_trainer *t, const float *e, const batch_sums *sums) {
    int64_t d = t->sae->d;
    float *recon = t->out_grad + (t->options.batch + t->begin) * d;
    double total = 0, *tile_error = mw_calloc((size_t)trainer_tiles(t), sizeof *tile_error);
    mw_status status = mw_comm_agree(t->comm, tile_error ? reconstruct_dead(t, recon) : MW_ERR_MEMORY);
    if (status == MW_OK) status = gather_codes(t, &t->aux);
    if (status == MW_OK) {
        aux_error(t, e, recon, sums, tile_error);
        status = mw_comm_agree(t->comm, code_gradients(t, &t->aux, recon));
    }
    if (status == MW_OK) status = gather_tile_errors(t, tile_error, &total);
    if (status == MW_OK) status = gather_code_grads(t, &t->aux);
    if (status == MW_OK) status = gather_rows_of(t, t->out_grad + t->options.batch * d, (size_t)d * sizeof(float));
    t->report.aux_loss = total / sums->e_spread;
    mw_free(tile_error);
    return status;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static mw_status select_codes(mw_trainer *t, const float *x) {
    const variant_row *variant = variant_of(t->sae);
    if (variant->select) return variant->select(t, x, &t->main.mine);
    return mw_sae_encode(t->sae, x, t->end - t->begin, &t->main.mine);
}

static mw_status reconstruct(mw_trainer *t, const float *x) {
    const mw_sae *sae = t->sae;
    int64_t d = sae->d, rows = t->end - t->begin;
    float *centered = t->centered + t->begin * d;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < d; i++) centered[r * d + i] = x[r * d + i] - sae->b_dec[i];
    MW_TRY(mw_sae_decode(sae, &t->main.mine, t->x_hat));
    for (int64_t i = 0; i < rows * d; i++) t->x_hat[i] -= x[i]; /* from here on the error e */
    return MW_OK;
}

static void fill_report(mw_trainer *t, const batch_sums *s) {
    double rows = (double)t->options.batch, d = (double)t->sae->d;
    t->report.mse = s->e2 / (rows * d);
    t->report.loss = t->loss_scale * t->report.mse + t->options.aux_coefficient * t->report.aux_loss;
    t->report.fvu = s->x_spread > 0 ? s->e2 / s->x_spread : 0;
    t->report.explained_variance = s->x_spread > 0 ? 1 - s->e_spread / s->x_spread : 0;
    t->report.l0 = s->positive / rows;
    t->report.dead = t->n_dead;
}

mw_status step_forward(mw_trainer *t, const float *x) {
    int64_t d = t->sae->d, rows = t->end - t->begin;
    batch_sums sums;
    t->report = (mw_step_report){0};
    MW_TRY(mw_comm_agree(t->comm, select_codes(t, x)));
    MW_TRY(mw_comm_agree(t->comm, reconstruct(t, x)));
    MW_TRY(measure(t, x, t->x_hat, &sums));
    MW_TRY(gather_codes(t, &t->main));
    if (variant_of(t->sae)->after_selection) variant_of(t->sae)->after_selection(t);
    count_dead(t);
    if (!isfinite(sums.e2))
        return mw_error(MW_ERR_STATE,
                        "step %lld: the loss is not finite; lower train.lr or look for NaN in the activations",
                        (long long)t->step);
    float *out_grad = t->out_grad + t->begin * d,
          scale = (float)(2 * t->loss_scale / ((double)t->options.batch * (double)d));
    for (int64_t i = 0; i < rows * d; i++) out_grad[i] = scale * t->x_hat[i];
    MW_TRY(mw_comm_agree(t->comm, code_gradients(t, &t->main, out_grad)));
    MW_TRY(gather_code_grads(t, &t->main));
    MW_TRY(gather_rows_of(t, t->centered, (size_t)d * sizeof(float)));
    MW_TRY(gather_rows_of(t, t->out_grad, (size_t)d * sizeof(float)));
    t->aux_k = t->options.aux_k < t->n_dead ? t->options.aux_k : t->n_dead;
    if (!(sums.e_spread > 0)) t->aux_k = 0;
    if (t->aux_k > 0) MW_TRY(auxiliary(t, t->x_hat, &sums));
    fill_report(t, &sums);
    return MW_OK;
}
