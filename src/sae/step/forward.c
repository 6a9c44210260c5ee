/* The forward half of a step: codes, reconstructions, their errors, and the gradients of both. */
#include "sae/shards.h"

#include <math.h>
#include <string.h>

static const double fired_above = 1e-3;

int64_t batch_tiles(const mw_trainer *t) {
    return (t->options.batch + MW_ROW_TILE - 1) / MW_ROW_TILE;
}

/* ---- sums over rows, tile by tile ---------------------------------------------------------------------- */

int64_t sums_width(const mw_trainer *t) {
    return 2 * (t->sae->d_out + 1) + t->layout.n_recons;
}

static float *recon_rows(const mw_trainer *t, int block) {
    return t->out_grad + (block * t->options.batch + t->begin) * t->sae->d_out;
}

typedef struct batch_sums {
    double y2, e2, positive;   /* sums over rows and dimensions */
    double y_spread, e_spread; /* sums of squared distances from the batch mean */
    double weighted;           /* sum of e^2 of all reconstructions by their weights */
} batch_sums;

static batch_sums sums_of(const mw_trainer *t, int64_t positive) {
    int64_t d = t->sae->d_out;
    const double *y = t->totals, *e = y + d + 1, *blocks = e + d + 1;
    batch_sums s = {.y2 = y[d], .e2 = e[d], .positive = (double)positive};
    double mean_y2 = 0, mean_e2 = 0, rows = (double)t->options.batch;
    for (int64_t i = 0; i < d; i++) {
        mean_y2 += y[i] * y[i] / rows;
        mean_e2 += e[i] * e[i] / rows;
    }
    s.y_spread = fmax(s.y2 - mean_y2, 0);
    s.e_spread = fmax(s.e2 - mean_e2, 0);
    for (int b = 0; b < t->layout.n_recons; b++) s.weighted += t->layout.weight[b] * blocks[b];
    return s;
}

/* Sums of this rank's tiles: y, e, and squares of each reconstruction's error. */
static mw_status sum_mine(mw_trainer *t, const float *y) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out, rows = t->end - t->begin, tiles = batch_tiles(t), first = t->begin / MW_ROW_TILE;
    double *of_y = t->tile_sums, *of_e = of_y + tiles * (d + 1), *of_blocks = of_e + tiles * (d + 1);
    MW_TRY(b->ops->tile_sums(b, of_y + first * (d + 1), y, rows, d));
    MW_TRY(b->ops->tile_sums(b, of_e + first * (d + 1), t->error, rows, d));
    for (int i = 0; i < t->layout.n_recons; i++)
        MW_TRY(
            b->ops->square_sums(b, of_blocks + i * tiles + first, recon_rows(t, i), rows * d, MW_ROW_TILE * d, false));
    return MW_OK;
}

/* All tiles, in order. */
static mw_status add_tiles(mw_trainer *t) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out, tiles = batch_tiles(t);
    const double *of_blocks = t->tile_sums + 2 * tiles * (d + 1);
    for (int i = 0; i < 2; i++)
        MW_TRY(b->ops->add_rows(b, t->sums + i * (d + 1), t->tile_sums + i * tiles * (d + 1), tiles, d + 1, false));
    for (int i = 0; i < t->layout.n_recons; i++)
        MW_TRY(b->ops->add_rows(b, t->sums + 2 * (d + 1) + i, of_blocks + i * tiles, tiles, 1, false));
    return b->ops->download(b, t->totals, t->sums, (size_t)sums_width(t) * sizeof *t->totals);
}

static mw_status count_positive(mw_trainer *t, int64_t *out) {
    mw_backend *b = t->backend;
    *out = 0;
    for (int p = 0; p < t->layout.n_sets; p++) {
        const mw_codes *c = &t->set[p].mine;
        int64_t count = c->start[c->rows];
        if (!(t->layout.uses[p] & SET_FIRES)) continue;
        if (t->layout.zeros) MW_TRY(b->ops->count_positive(b, c->value, count, &count));
        *out += count;
    }
    return MW_OK;
}

static mw_status measure(mw_trainer *t, const float *y, batch_sums *out) {
    int64_t width = t->sae->d_out + 1, tiles = batch_tiles(t), positive = 0;
    mw_status status = sum_mine(t, y);
    if (status == MW_OK) status = count_positive(t, &positive);
    MW_TRY(mw_comm_agree(t->comm, status));
    for (int i = 0; i < 2; i++)
        MW_TRY(gather_tiles(t, t->tile_sums + i * tiles * width, (size_t)width * sizeof(double)));
    for (int i = 0; i < t->layout.n_recons; i++)
        MW_TRY(gather_tiles(t, t->tile_sums + 2 * tiles * width + i * tiles, sizeof(double)));
    MW_TRY(mw_comm_allreduce_sum(t->comm, &positive, 1));
    MW_TRY(mw_comm_agree(t->comm, add_tiles(t)));
    *out = sums_of(t, positive);
    return MW_OK;
}

/* ---- dead latents -------------------------------------------------------------------------------------- */

/* Counts before the list is made, so a latent that fires in this batch is not dead in it. */
static mw_status count_dead(mw_trainer *t) {
    mw_backend *b = t->backend;
    int64_t n = t->sae->n, by = t->options.batch;
    for (int p = 0; p < t->layout.n_sets; p++) {
        const code_set *c = &t->set[p];
        if (!(t->layout.uses[p] & SET_FIRES)) continue;
        MW_TRY(
            b->ops->mark_fired(b, t->since_fired, n, by, c->index, c->value, c->start[t->options.batch], fired_above));
        by = 0;
    }
    MW_TRY(b->ops->list_silent(b, t->since_fired, n, t->options.dead_after, t->silent, &t->n_dead));
    t->all_dead = t->n_dead;
    return t->n_dead ? b->ops->download(b, t->dead, t->silent, (size_t)t->n_dead * sizeof *t->dead) : MW_OK;
}

/* ---- reconstructions ----------------------------------------------------------------------------------- */

/* What block i goes on from: the reconstruction before it, or NULL. */
static const float *recon_before(const mw_trainer *t, int i) {
    return i && t->layout.nested ? recon_rows(t, i - 1) : NULL;
}

/* Errors x_hat - y of each reconstruction into its block. A nested one is the one before it and its own part. */
static mw_status reconstruct(mw_trainer *t, const float *x, const float *y) {
    const mw_sae *sae = t->sae;
    mw_backend *b = t->backend;
    int64_t rows = t->end - t->begin, count = rows * sae->d_out;
    MW_TRY(shard_agree(sae, end_gather(t, P_W_DEC)));
    for (int i = 0; i < t->layout.n_recons; i++) /* all ranks are through with these before one can fail alone */
        MW_TRY(shards_decode(sae, recon_before(t, i) ? NULL : sae->b_dec, &t->set[i].mine, recon_rows(t, i)));
    for (int i = 0; i < t->layout.n_recons; i++) {
        float *e = recon_rows(t, i);
        const float *before = recon_before(t, i);
        if (!before) MW_TRY(sae_add_skip(sae, x, rows, e));
        MW_TRY(b->ops->combine(b, e, 1, e, before ? 1 : -1, before ? before : y, count));
    }
    const float *reported = recon_rows(t, t->layout.nested ? t->layout.n_recons - 1 : 0);
    return b->ops->combine(b, t->error, 1, reported, 0, NULL, count);
}

static mw_status read_input(mw_trainer *t, const float *x) {
    const mw_sae *sae = t->sae;
    return t->backend->ops->subtract_row(t->backend, t->input + t->begin * sae->d, x,
                                         sae->transcoder ? NULL : sae->b_dec, t->end - t->begin, sae->d);
}

/* Errors become dL/dx_hat; of nested reconstructions block g collects all that group g is part of. */
static mw_status scale_recons(mw_trainer *t) {
    mw_backend *backend = t->backend;
    int64_t count = (t->end - t->begin) * t->sae->d_out;
    double unit = 2 * t->loss_scale / ((double)t->options.batch * (double)t->sae->d_out);
    for (int b = t->layout.n_recons - 1; b >= 0; b--) {
        float *g = recon_rows(t, b), scale = (float)(unit * t->layout.weight[b]);
        const float *after = t->layout.nested && b + 1 < t->layout.n_recons ? recon_rows(t, b + 1) : NULL;
        MW_TRY(backend->ops->combine(backend, g, scale, g, 1, after, count));
    }
    return MW_OK;
}

/* ---- gradients of codes -------------------------------------------------------------------------------- */

mw_status code_gradients(mw_trainer *t, code_set *c, int block) {
    return t->backend->ops->sparse_dot(t->backend, c->grad + c->start[t->begin], recon_rows(t, block), c->mine.start,
                                       c->mine.index, t->end - t->begin, t->sae->w_dec, t->sae->d_out);
}

static mw_status gradients_of_parts(mw_trainer *t) {
    mw_status status = MW_OK;
    for (int p = 0; p < t->layout.n_sets && status == MW_OK; p++)
        status = code_gradients(t, &t->set[p], t->layout.recon[p]);
    if (status == MW_OK && variant_of(t->sae)->shape) status = variant_of(t->sae)->shape(t);
    MW_TRY(mw_comm_agree(t->comm, status));
    for (int p = 0; p < t->layout.n_sets; p++) MW_TRY(gather_code_grads(t, &t->set[p]));
    return MW_OK;
}

/* Sum over all latents, by blocks of them. */
static mw_status sum_costs(mw_trainer *t, double *out) {
    for (int64_t i = 0; i < t->n_latents; i++) {
        double *block = &t->block_sums[first_latent_block(t) + i / LATENT_BLOCK];
        *block = (i % LATENT_BLOCK ? *block : 0) + t->costs[i];
    }
    MW_TRY(mw_comm_allgather_shares(t->comm, t->block_sums, latent_blocks(t), 1, sizeof *t->block_sums));
    *out = 0;
    for (int64_t i = 0; i < latent_blocks(t); i++) *out += t->block_sums[i];
    return MW_OK;
}

/* What a variant's penalty and its own gradients need of all entries. */
static mw_status find_penalty(mw_trainer *t) {
    const variant_row *variant = variant_of(t->sae);
    double cost = 0;
    t->report.penalty = 0;
    if (!variant->penalty) return MW_OK;
    MW_TRY(mw_comm_agree(t->comm, variant->sum(t)));
    MW_TRY(sum_costs(t, &cost));
    t->report.penalty = variant->penalty(t, cost / (double)t->options.batch);
    return MW_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static void fill_report(mw_trainer *t, const batch_sums *s) {
    double rows = (double)t->options.batch, d = (double)t->sae->d_out;
    t->report.mse = s->e2 / (rows * d);
    t->report.loss = t->loss_scale * s->weighted / (rows * d) + t->options.aux_coefficient * t->report.aux_loss +
                     t->penalty_unit * rows * t->report.penalty;
    t->report.fvu = mw_share_of_variance(s->e2, s->y_spread, s->y2);
    t->report.explained_variance = 1 - mw_share_of_variance(s->e_spread, s->y_spread, s->y2);
    t->report.l0 = s->positive / rows;
    t->report.dead = t->all_dead;
}

/* From what read_input has left. */
static mw_status choose_codes(mw_trainer *t) {
    const variant_row *variant = variant_of(t->sae);
    const float *x = t->input + t->begin * t->sae->d;
    if (variant->select) return variant->select(t, x);
    return variant->encode(t->sae, x, t->end - t->begin, &t->set[0].mine);
}

mw_status trainer_select(mw_trainer *t, const float *x) {
    MW_TRY(mw_comm_agree(t->comm, read_input(t, x)));
    return choose_codes(t);
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
                    "step %lld: the loss is not finite (%g); lower train.lr or look for NaN in the activations",
                    (long long)t->step + 1, loss);
}

static mw_status gather_dense(mw_trainer *t) {
    for (int b = 0; b < t->layout.n_recons; b++)
        MW_TRY(gather_rows_of(t, t->out_grad + b * t->options.batch * t->sae->d_out,
                              (size_t)t->sae->d_out * sizeof(float)));
    return MW_OK;
}

/* Codes, reconstructions and their errors, gathered. */
static mw_status choose_and_rebuild(mw_trainer *t, const float *x, const float *y, batch_sums *sums) {
    MW_TRY(mw_comm_agree(t->comm, choose_codes(t)));
    MW_TRY(mw_comm_agree(t->comm, reconstruct(t, x, y)));
    MW_TRY(measure(t, y, sums));
    for (int p = 0; p < t->layout.n_sets; p++) MW_TRY(gather_codes(t, &t->set[p]));
    if (variant_of(t->sae)->after_selection) variant_of(t->sae)->after_selection(t);
    t->active = t->set[0].start[t->options.batch];
    MW_TRY(mw_comm_agree(t->comm, count_dead(t)));
    MW_TRY(shard_sum(t->sae, &t->active, 1));
    return shard_sum(t->sae, &t->all_dead, 1);
}

mw_status step_forward(mw_trainer *t, const float *x, const float *y) {
    batch_sums sums;
    begin_step(t);
    MW_TRY(mw_comm_agree(t->comm, read_input(t, x)));
    MW_TRY(begin_rows(t, t->input, (size_t)t->sae->d * sizeof(float), REQUEST_INPUT));
    MW_TRY(choose_and_rebuild(t, x, y, &sums));
    MW_TRY(check_loss(t, sums.weighted));
    mw_status status = scale_recons(t);
    if (status == MW_OK) status = end_gather(t, REQUEST_INPUT);
    MW_TRY(mw_comm_agree(t->comm, status));
    MW_TRY(gradients_of_parts(t));
    MW_TRY(gather_dense(t));
    t->aux_k = t->options.aux_k < t->all_dead ? t->options.aux_k : t->all_dead;
    if (!(sums.e_spread > 0)) t->aux_k = 0;
    if (t->aux_k > 0) MW_TRY(auxiliary(t, sums.e_spread));
    MW_TRY(find_penalty(t));
    fill_report(t, &sums);
    return check_loss(t, t->report.loss); /* the penalty is in it too */
}
