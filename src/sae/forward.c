/* The forward half of a step: codes, reconstructions, their errors, and the gradients of both. */
#include "sae/variants.h"

#include <math.h>
#include <string.h>

static const double fired_above = 1e-3;

int64_t trainer_tiles(const mw_trainer *t) {
    return (t->options.batch + MW_ROW_TILE - 1) / MW_ROW_TILE;
}

/* ---- sums over rows, tile by tile ---------------------------------------------------------------------- */

/* Per tile: sum of y [d], sum of e [d], sum of y^2, sum of e^2, number of positive codes, sum of e^2 by reconstruction. */
int64_t trainer_sums_width(const mw_trainer *t) {
    return 2 * t->sae->d_out + 3 + t->layout.n_blocks;
}

static float *block_rows(const mw_trainer *t, int block) {
    return t->out_grad + (block * t->options.batch + t->begin) * t->sae->d_out;
}

static int64_t positive_codes(const mw_trainer *t, int64_t row) {
    int64_t count = 0;
    for (int p = 0; p < t->layout.n_parts; p++) {
        const mw_codes *c = &t->part[p].c.mine;
        if (!(t->layout.uses[p] & PART_FIRES)) continue;
        for (int64_t j = c->start[row]; j < c->start[row + 1]; j++) count += c->value[j] > 0;
    }
    return count;
}

static void sum_tile(const mw_trainer *t, int64_t tile, const float *y, double *out) {
    int64_t d = t->sae->d_out, begin = tile * MW_ROW_TILE, end = begin + MW_ROW_TILE;
    if (end > t->options.batch) end = t->options.batch;
    memset(out, 0, (size_t)trainer_sums_width(t) * sizeof *out);
    for (int64_t r = begin - t->begin; r < end - t->begin; r++) {
        const float *yr = y + r * d, *er = t->error + r * d;
        for (int64_t i = 0; i < d; i++) {
            out[i] += yr[i];
            out[d + i] += er[i];
            out[2 * d] += (double)yr[i] * yr[i];
            out[2 * d + 1] += (double)er[i] * er[i];
        }
        out[2 * d + 2] += (double)positive_codes(t, r);
        for (int b = 0; b < t->layout.n_blocks && t->layout.n_blocks > 1; b++)
            for (int64_t i = r * d; i < (r + 1) * d; i++)
                out[2 * d + 3 + b] += (double)block_rows(t, b)[i] * block_rows(t, b)[i];
    }
    if (t->layout.n_blocks == 1) out[2 * d + 3] = out[2 * d + 1];
}

typedef struct batch_sums {
    double y2, e2, positive;   /* sums over rows and dimensions */
    double y_spread, e_spread; /* sums of squared distances from the batch mean */
    double weighted;           /* sum of e^2 of all reconstructions by their weights */
} batch_sums;

/* Adds the tiles in order. */
static batch_sums add_tiles(mw_trainer *t) {
    int64_t d = t->sae->d_out, width = trainer_sums_width(t);
    double *total = t->tile_sums;
    for (int64_t tile = 1; tile < trainer_tiles(t); tile++)
        for (int64_t i = 0; i < width; i++) total[i] += t->tile_sums[tile * width + i];
    batch_sums s = {.y2 = total[2 * d], .e2 = total[2 * d + 1], .positive = total[2 * d + 2]};
    double mean_y2 = 0, mean_e2 = 0, rows = (double)t->options.batch;
    for (int64_t i = 0; i < d; i++) {
        mean_y2 += total[i] * total[i] / rows;
        mean_e2 += total[d + i] * total[d + i] / rows;
    }
    s.y_spread = fmax(s.y2 - mean_y2, 0);
    s.e_spread = fmax(s.e2 - mean_e2, 0);
    for (int b = 0; b < t->layout.n_blocks; b++) s.weighted += t->layout.weight[b] * total[2 * d + 3 + b];
    return s;
}

static mw_status measure(mw_trainer *t, const float *y, batch_sums *out) {
    int64_t width = trainer_sums_width(t), tiles = trainer_tiles(t);
#pragma omp parallel for schedule(static)
    for (int64_t tile = t->begin / MW_ROW_TILE; tile < (t->end + MW_ROW_TILE - 1) / MW_ROW_TILE; tile++)
        sum_tile(t, tile, y, t->tile_sums + tile * width);
    MW_TRY(mw_comm_gather_shares(t->comm, t->tile_sums, tiles, 1, (size_t)width * sizeof(double)));
    *out = add_tiles(t);
    return MW_OK;
}

/* ---- dead latents -------------------------------------------------------------------------------------- */

/* Counts before the mask is taken, so a latent that fires in this batch is not dead in it. */
static void count_dead(mw_trainer *t) {
    int64_t n = t->sae->n;
    for (int64_t i = 0; i < n; i++) t->since_fired[i] += t->options.batch;
    for (int p = 0; p < t->layout.n_parts; p++) {
        const codes *c = &t->part[p].c;
        if (!(t->layout.uses[p] & PART_FIRES)) continue;
        for (int64_t j = 0; j < c->start[t->options.batch]; j++)
            if (c->value[j] > fired_above) t->since_fired[c->index[j]] = 0;
    }
    t->n_dead = 0;
    for (int64_t i = 0; i < n; i++)
        if (t->since_fired[i] > t->options.dead_after) t->dead[t->n_dead++] = (int32_t)i;
}

/* ---- reconstructions ----------------------------------------------------------------------------------- */

/* Errors x_hat - y of each reconstruction into its block. A nested one is the one before it and its own part. */
static mw_status reconstruct(mw_trainer *t, const float *x, const float *y) {
    const mw_sae *sae = t->sae;
    mw_backend *backend = sae->backend;
    int64_t rows = t->end - t->begin, count = rows * sae->d_out;
    for (int b = 0; b < t->layout.n_blocks; b++) {
        const mw_codes *c = &t->part[b].c.mine;
        float *e = block_rows(t, b);
        const float *before = b && t->layout.nested ? block_rows(t, b - 1) : NULL;
        MW_TRY(backend->ops->sparse_decode(backend, e, before ? NULL : sae->b_dec, c->start, c->index, c->value, rows,
                                           sae->w_dec, sae->d_out));
        if (!before) MW_TRY(sae_add_skip(sae, x, rows, e));
        for (int64_t i = 0; i < count; i++) e[i] += before ? before[i] : -y[i];
    }
    memcpy(t->error, block_rows(t, t->layout.nested ? t->layout.n_blocks - 1 : 0), (size_t)count * sizeof *t->error);
    return MW_OK;
}

static void read_input(mw_trainer *t, const float *x) {
    const mw_sae *sae = t->sae;
    int64_t d = sae->d;
    float *to = t->input + t->begin * d;
    for (int64_t r = 0; r < t->end - t->begin; r++)
        for (int64_t i = 0; i < d; i++) to[r * d + i] = x[r * d + i] - (sae->transcoder ? 0 : sae->b_dec[i]);
}

/* Errors become dL/dx_hat; of nested reconstructions block g collects all that group g is part of. */
static void scale_blocks(mw_trainer *t) {
    int64_t count = (t->end - t->begin) * t->sae->d_out;
    double unit = 2 * t->loss_scale / ((double)t->options.batch * (double)t->sae->d_out);
    for (int b = t->layout.n_blocks - 1; b >= 0; b--) {
        float *g = block_rows(t, b), scale = (float)(unit * t->layout.weight[b]);
        const float *after = t->layout.nested && b + 1 < t->layout.n_blocks ? block_rows(t, b + 1) : NULL;
        for (int64_t i = 0; i < count; i++) g[i] = scale * g[i] + (after ? after[i] : 0);
    }
}

/* ---- gradients of codes -------------------------------------------------------------------------------- */

mw_status code_gradients(mw_trainer *t, codes *c, int block) {
    return t->sae->backend->ops->sparse_dot(t->sae->backend, c->grad + c->start[t->begin], block_rows(t, block),
                                            c->mine.start, c->mine.index, t->end - t->begin, t->sae->w_dec,
                                            t->sae->d_out);
}

static mw_status gradients_of_parts(mw_trainer *t) {
    mw_status status = MW_OK;
    for (int p = 0; p < t->layout.n_parts && status == MW_OK; p++)
        status = code_gradients(t, &t->part[p].c, t->layout.block[p]);
    MW_TRY(mw_comm_agree(t->comm, status));
    if (variant_of(t->sae)->shape) variant_of(t->sae)->shape(t);
    for (int p = 0; p < t->layout.n_parts; p++) MW_TRY(gather_code_grads(t, &t->part[p].c));
    return MW_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static void fill_report(mw_trainer *t, const batch_sums *s) {
    double rows = (double)t->options.batch, d = (double)t->sae->d_out;
    const variant_row *variant = variant_of(t->sae);
    t->report.penalty = variant->penalty ? variant->penalty(t) : 0;
    t->report.mse = s->e2 / (rows * d);
    t->report.loss = t->loss_scale * s->weighted / (rows * d) + t->options.aux_coefficient * t->report.aux_loss +
                     t->penalty_unit * rows * t->report.penalty;
    t->report.fvu = s->y_spread > 0 ? s->e2 / s->y_spread : 0;
    t->report.explained_variance = s->y_spread > 0 ? 1 - s->e_spread / s->y_spread : 0;
    t->report.l0 = s->positive / rows;
    t->report.dead = t->n_dead;
}

static mw_status choose_codes(mw_trainer *t, const float *x) {
    const variant_row *variant = variant_of(t->sae);
    if (variant->select) return variant->select(t, x);
    return mw_sae_encode(t->sae, x, t->end - t->begin, &t->part[0].c.mine);
}

static void begin_step(mw_trainer *t) {
    t->report = (mw_step_report){0};
    t->k = k_of_step(&t->options, t->sae, t->step);
    t->penalty_unit = sparsity_of_step(&t->options, t->sae, t->step) * t->loss_scale /
                      ((double)t->options.batch * (double)t->sae->d_out);
}

/* The same on all ranks, as the sums are. */
static mw_status check_loss(const mw_trainer *t, double loss) {
    if (isfinite(loss)) return MW_OK;
    return mw_error(MW_ERR_STATE,
                    "step %lld: the loss is not finite; lower train.lr or look for NaN in the activations",
                    (long long)t->step);
}

mw_status step_forward(mw_trainer *t, const float *x, const float *y) {
    const variant_row *variant = variant_of(t->sae);
    batch_sums sums;
    begin_step(t);
    MW_TRY(mw_comm_agree(t->comm, choose_codes(t, x)));
    MW_TRY(mw_comm_agree(t->comm, reconstruct(t, x, y)));
    MW_TRY(measure(t, y, &sums));
    for (int p = 0; p < t->layout.n_parts; p++) MW_TRY(gather_codes(t, &t->part[p].c));
    if (variant->after_selection) variant->after_selection(t);
    count_dead(t);
    MW_TRY(check_loss(t, sums.weighted));
    read_input(t, x);
    scale_blocks(t);
    MW_TRY(gradients_of_parts(t));
    MW_TRY(gather_rows_of(t, t->input, (size_t)t->sae->d * sizeof(float)));
    for (int b = 0; b < t->layout.n_blocks; b++)
        MW_TRY(gather_rows_of(t, t->out_grad + b * t->options.batch * t->sae->d_out,
                              (size_t)t->sae->d_out * sizeof(float)));
    t->aux_k = t->options.aux_k < t->n_dead ? t->options.aux_k : t->n_dead;
    if (!(sums.e_spread > 0)) t->aux_k = 0;
    if (t->aux_k > 0) MW_TRY(auxiliary(t, sums.e_spread));
    fill_report(t, &sums);
    return check_loss(t, t->report.loss); /* the penalty is in it too */
}
