/* The forward pass of a step: codes, reconstructions, squared errors, dead latents. */
#include "sae/shards.h"

#include <math.h>

static const double fired_above = 1e-3; /* a latent with a larger value is active, hence not dead */

/* ---- codes ----------------------------------------------------------------------------------------------- */

static mw_status center_input(mw_trainer *t, const float *x) {
    const mw_sae *sae = t->sae;
    return t->backend->ops->subtract_row(t->backend, t->input + t->begin * sae->d, x,
                                         sae->transcoder ? NULL : sae->b_dec, t->end - t->begin, sae->d);
}

static mw_status select_codes(mw_trainer *t) {
    t->dots = 0;
    const variant_row *variant = variant_of(t->sae);
    const float *input = t->input + t->begin * t->sae->d;
    if (variant->select) return variant->select(t, input);
    return variant->encode(t->sae, input, t->end - t->begin, &t->set[0].mine);
}

mw_status encode_batch(mw_trainer *t, const float *x) {
    MW_TRY(mw_comm_agree(t->comm, center_input(t, x)));
    return select_codes(t);
}

mw_status encode_and_gather_input(mw_trainer *t, const float *x) {
    MW_TRY(mw_comm_agree(t->comm, center_input(t, x)));
    MW_TRY(begin_rows(t, t->input, (size_t)t->sae->d * sizeof(float), REQUEST_INPUT));
    return mw_comm_agree(t->comm, select_codes(t));
}

mw_status gather_sets(mw_trainer *t) {
    for (int s = 0; s < t->layout.n_sets; s++) MW_TRY(gather_codes(t, &t->set[s]));
    if (variant_of(t->sae)->after_selection) variant_of(t->sae)->after_selection(t);
    t->active = t->set[0].start[t->options.batch];
    return MW_OK;
}

/* ---- reconstructions ------------------------------------------------------------------------------------- */

/* The reconstruction that reconstruction g continues if they are nested; else NULL. */
static const float *recon_before(const mw_trainer *t, int g) {
    return g && t->layout.nested ? recon_rows(t, g - 1) : NULL;
}

bool keeps_error(const mw_train_options *o) {
    return o->aux_k > 0 || o->resample_every > 0;
}

/* A nested reconstruction is the one before it plus its own set. */
static mw_status reconstruct(mw_trainer *t, const float *x, const float *y) {
    const mw_sae *sae = t->sae;
    mw_backend *b = t->backend;
    int64_t rows = t->end - t->begin, count = rows * sae->d_out;
    MW_TRY(shard_agree(sae, end_gather(t, P_W_DEC)));
    for (int g = 0; g < t->layout.n_recons; g++) /* collective: before any call that can fail on one rank alone */
        MW_TRY(shards_decode(sae, recon_before(t, g) ? NULL : sae->b_dec, &t->set[g].mine, recon_rows(t, g)));
    for (int g = 0; g < t->layout.n_recons; g++) {
        float *error = recon_rows(t, g);
        const float *before = recon_before(t, g);
        if (!before) MW_TRY(sae_add_skip(sae, x, rows, error));
        MW_TRY(b->ops->combine(b, error, 1, error, before ? 1 : -1, before ? before : y, count));
    }
    t->error = recon_rows(t, t->layout.nested ? t->layout.n_recons - 1 : 0);
    if (!keeps_error(&t->options)) return MW_OK;
    MW_TRY(b->ops->combine(b, t->kept_error, 1, t->error, 0, NULL, count));
    t->error = t->kept_error;
    return MW_OK;
}

mw_status reconstruct_batch(mw_trainer *t, const float *x, const float *y) {
    return mw_comm_agree(t->comm, reconstruct(t, x, y));
}

/* ---- squared errors -------------------------------------------------------------------------------------- */

/* t->tile_sums has three parts: columns and squares of y by tile, the same of the error, squares of each
 * reconstruction's error. */
static double *tile_sums_of(const mw_trainer *t, int part) {
    return t->tile_sums + part * batch_tiles(t) * (t->sae->d_out + 1);
}

static mw_status sum_tiles_of_rank(mw_trainer *t, const float *y) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out, rows = t->end - t->begin, tiles = batch_tiles(t), first = t->begin / MW_ROW_TILE;
    MW_TRY(b->ops->tile_sums(b, tile_sums_of(t, 0) + first * (d + 1), y, rows, d));
    MW_TRY(b->ops->tile_sums(b, tile_sums_of(t, 1) + first * (d + 1), t->error, rows, d));
    for (int g = 0; g < t->layout.n_recons; g++) {
        double *squares = tile_sums_of(t, 2) + g * tiles + first;
        MW_TRY(b->ops->square_sums(b, squares, recon_rows(t, g), rows * d, MW_ROW_TILE * d, false));
    }
    return MW_OK;
}

/* Adds all tiles in order: totals do not depend on the ranks. */
static mw_status add_tiles(mw_trainer *t) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out, tiles = batch_tiles(t);
    for (int i = 0; i < 2; i++)
        MW_TRY(b->ops->add_rows(b, t->sums + i * (d + 1), tile_sums_of(t, i), tiles, d + 1, false));
    for (int g = 0; g < t->layout.n_recons; g++)
        MW_TRY(b->ops->add_rows(b, t->sums + 2 * (d + 1) + g, tile_sums_of(t, 2) + g * tiles, tiles, 1, false));
    return b->ops->download(b, t->totals, t->sums, (size_t)sums_width(t) * sizeof *t->totals);
}

static mw_status count_active(mw_trainer *t, int64_t *out) {
    mw_backend *b = t->backend;
    *out = 0;
    for (int s = 0; s < t->layout.n_sets; s++) {
        const mw_codes *c = &t->set[s].mine;
        int64_t count = c->start[c->rows];
        if (!(t->layout.uses[s] & SET_FIRES)) continue;
        if (t->layout.zeros) MW_TRY(b->ops->count_positive(b, c->value, count, &count));
        *out += count;
    }
    return MW_OK;
}

/* Returns the sum of squared distances from the mean, from sums over all rows: of d columns, then of all squares. */
static double spread_of_sums(const mw_trainer *t, const double *sums) {
    double mean = 0, rows = (double)t->options.batch;
    for (int64_t i = 0; i < t->sae->d_out; i++) mean += sums[i] * sums[i] / rows;
    return fmax(sums[t->sae->d_out] - mean, 0);
}

static batch_sums sums_of_totals(const mw_trainer *t, int64_t active) {
    int64_t d = t->sae->d_out;
    const double *y = t->totals, *e = y + d + 1, *squares = e + d + 1;
    batch_sums s = {.y2 = y[d], .e2 = e[d], .positive = (double)active};
    s.y_spread = spread_of_sums(t, y);
    s.e_spread = spread_of_sums(t, e);
    for (int g = 0; g < t->layout.n_recons; g++) s.weighted += t->layout.weight[g] * squares[g];
    return s;
}

/* All ranks have the same sums, hence the same verdict. */
static mw_status check_loss(const mw_trainer *t, double loss) {
    if (isfinite(loss)) return MW_OK;
    return mw_error(MW_ERR_STATE,
                    "step %lld: the loss is not finite (%g); lower train.lr or look for NaN in the activations",
                    (long long)t->step + 1, loss);
}

mw_status measure_errors(mw_trainer *t, const float *y) {
    int64_t width = t->sae->d_out + 1, tiles = batch_tiles(t), counts[2] = {0, t->dots};
    mw_status status = sum_tiles_of_rank(t, y);
    if (status == MW_OK) status = count_active(t, &counts[0]);
    MW_TRY(mw_comm_agree(t->comm, status));
    for (int i = 0; i < 2; i++) MW_TRY(gather_tiles(t, tile_sums_of(t, i), (size_t)width * sizeof(double)));
    for (int g = 0; g < t->layout.n_recons; g++)
        MW_TRY(gather_tiles(t, tile_sums_of(t, 2) + g * tiles, sizeof(double)));
    MW_TRY(mw_comm_allreduce_sum(t->comm, counts, 2));
    MW_TRY(mw_comm_agree(t->comm, add_tiles(t)));
    t->batch = sums_of_totals(t, counts[0]);
    t->report.candidates = (double)counts[1] / (double)t->options.batch;
    return check_loss(t, t->batch.weighted);
}

/* Uses the place of the error's tiles, which measure_errors has summed. */
mw_status spread_over_rows(mw_trainer *t, const float *rows, double *out) {
    mw_backend *b = t->backend;
    int64_t width = t->sae->d_out + 1;
    double *tiles = tile_sums_of(t, 1), *own = tiles + t->begin / MW_ROW_TILE * width;
    MW_TRY(mw_comm_agree(t->comm, b->ops->tile_sums(b, own, rows, t->end - t->begin, width - 1)));
    MW_TRY(gather_tiles(t, tiles, (size_t)width * sizeof *tiles));
    mw_status status = b->ops->add_rows(b, t->sums, tiles, batch_tiles(t), width, false);
    if (status == MW_OK) status = b->ops->download(b, t->totals, t->sums, (size_t)width * sizeof *t->totals);
    *out = spread_of_sums(t, t->totals);
    return mw_comm_agree(t->comm, status);
}

/* The loss is a mean over rows and dimensions. */
mw_status report_loss(mw_trainer *t) {
    const batch_sums *s = &t->batch;
    double rows = (double)t->options.batch, d = (double)t->sae->d_out;
    t->report.mse = s->e2 / (rows * d);
    t->report.loss = t->loss_scale * s->weighted / (rows * d) + t->options.aux_coefficient * t->report.aux_loss +
                     t->penalty_unit * rows * t->report.penalty;
    t->report.fvu = mw_variance_fraction(s->e2, s->y_spread, s->y2);
    t->report.explained_variance = 1 - mw_variance_fraction(s->e_spread, s->y_spread, s->y2);
    t->report.l0 = s->positive / rows;
    return check_loss(t, t->report.loss);
}

/* ---- dead latents ---------------------------------------------------------------------------------------- */

/* A latent that fires in this batch is not dead in it: since_fired is updated before the list is made. */
static mw_status note_fired(mw_trainer *t) {
    mw_backend *b = t->backend;
    int64_t n = t->sae->n, passed = t->options.batch;
    for (int s = 0; s < t->layout.n_sets; s++) {
        const code_set *c = &t->set[s];
        if (!(t->layout.uses[s] & SET_FIRES)) continue;
        MW_TRY(b->ops->mark_fired(b, t->since_fired, n, passed, c->index, c->value, c->start[t->options.batch],
                                  fired_above));
        passed = 0; /* the rows of a batch count once */
    }
    return MW_OK;
}

/* Lists the latents of this shard that are silent for so many rows, on the device. */
static mw_status list_there(mw_trainer *t, int64_t after) {
    return t->backend->ops->list_silent(t->backend, t->since_fired, t->sae->n, after, t->silent, &t->n_dead);
}

static mw_status list_silent(mw_trainer *t, int64_t after) {
    mw_backend *b = t->backend;
    MW_TRY(list_there(t, after));
    return t->n_dead ? b->ops->download(b, t->dead, t->silent, (size_t)t->n_dead * sizeof *t->dead) : MW_OK;
}

int64_t silent_after(const mw_train_options *o) {
    return o->aux_k > 0 && o->aux_after > 0 ? o->aux_after : o->dead_after;
}

/* The list that stays, and that the host gets, is AuxK's. */
static mw_status list_both(mw_trainer *t, int64_t *dead) {
    const mw_train_options *o = &t->options;
    MW_TRY(note_fired(t));
    bool own_list = silent_after(o) != o->dead_after;
    MW_TRY(own_list ? list_there(t, o->dead_after) : list_silent(t, o->dead_after));
    *dead = t->n_dead;
    return own_list ? list_silent(t, silent_after(o)) : MW_OK;
}

mw_status find_dead_latents(mw_trainer *t) {
    int64_t dead = 0;
    MW_TRY(mw_comm_agree(t->comm, list_both(t, &dead)));
    int64_t sums[] = {t->active, dead, t->n_dead};
    MW_TRY(shard_sum(t->sae, sums, sizeof sums / sizeof *sums));
    t->active = sums[0];
    t->report.dead = sums[1];
    t->all_dead = sums[2];
    return MW_OK;
}

mw_status list_dead_latents(mw_trainer *t) {
    MW_TRY(mw_comm_agree(t->comm, list_silent(t, t->options.dead_after)));
    t->all_dead = t->n_dead;
    return shard_sum(t->sae, &t->all_dead, 1);
}
