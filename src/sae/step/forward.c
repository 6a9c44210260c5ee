/* The forward pass of a step: codes, reconstructions, squared errors, dead latents. */
#include "sae/shards.h"

#include <math.h>
#include <string.h>

static const double fired_above = 1e-3; /* a latent with a larger value is active, hence not dead */

/* ---- codes ----------------------------------------------------------------------------------------------- */

static mw_status center_input(mw_trainer *t, const float *x) {
    const mw_sae *sae = t->sae;
    return t->backend->ops->subtract_row(t->backend, t->input + t->begin * sae->d, x,
                                         sae->transcoder ? NULL : sae->b_dec, t->end - t->begin, sae->d);
}

/* Selects also if this rank has failed: others may wait for it. */
static mw_status select_codes(mw_trainer *t) {
    t->dots = 0;
    const variant_row *variant = variant_of(t->sae);
    const float *input = t->input + t->begin * t->sae->d;
    if (variant->select)
        t->local = variant->select(t, t->local, input);
    else
        LOCALLY(t, variant->encode(t->sae, input, t->end - t->begin, &t->set[0].mine));
    return lost(t->local);
}

mw_status encode_batch(mw_trainer *t, const float *x) {
    LOCALLY(t, center_input(t, x));
    MW_TRY(select_codes(t));
    return mw_comm_agree(t->comm, t->local);
}

mw_status encode_and_gather_input(mw_trainer *t, const float *x) {
    LOCALLY(t, center_input(t, x));
    if (gathers_input_early(t)) MW_TRY(begin_input(t));
    return select_codes(t);
}

/* ---- reconstructions ------------------------------------------------------------------------------------- */

/* The reconstruction that reconstruction g continues if they are nested; else NULL. */
static const float *recon_before(const mw_trainer *t, int g) {
    return g && t->layout.nested ? recon_rows(t, g - 1) : NULL;
}

bool keeps_error(const mw_train_options *o) {
    return o->aux_k > 0 || o->resample_every > 0;
}

/* Subtracts y, and adds to a nested reconstruction the one before it. */
static mw_status finish_reconstructions(mw_trainer *t, const float *x, const float *y) {
    const mw_sae *sae = t->sae;
    mw_backend *b = t->backend;
    int64_t rows = t->end - t->begin, count = rows * sae->d_out;
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
    const mw_sae *sae = t->sae;
    float *recons[SETS_MAX];
    int n = t->layout.n_recons;
    LOCALLY(t, end_gather(t, P_W_DEC));
    for (int g = 0; g < n; g++) {
        const float *bias = recon_before(t, g) ? NULL : sae->b_dec;
        recons[g] = recon_rows(t, g);
        t->local = shards_add(sae, t->local, bias, &t->set[g].mine, t->end - t->begin, recons[g]);
        MW_TRY(lost(t->local));
    }
    t->local = shards_spread(sae, t->local, recons, n, t->end - t->begin);
    LOCALLY(t, finish_reconstructions(t, x, y));
    return lost(t->local);
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
static mw_status add_tiles_of_all(mw_trainer *t) {
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

static batch_sums sums_of_totals(const mw_trainer *t) {
    int64_t d = t->sae->d_out;
    const double *y = t->totals, *e = y + d + 1, *squares = e + d + 1;
    batch_sums s = {.y2 = y[d], .e2 = e[d]};
    s.y_spread = spread_of_sums(t, y);
    s.e_spread = spread_of_sums(t, e);
    for (int g = 0; g < t->layout.n_recons; g++) s.weighted += t->layout.weight[g] * squares[g];
    return s;
}

/* All ranks have the same sums, hence the same verdict, unless one has failed before. */
static mw_status check_loss(const mw_trainer *t, double loss) {
    if (isfinite(loss)) return MW_OK;
    return mw_error(MW_ERR_STATE,
                    "step %lld: the loss is not finite (%g); lower train.lr or look for NaN in the activations",
                    (long long)t->step + 1, loss);
}

/* What this rank counts, for all ranks with its shard. */
static mw_status count_rank(mw_trainer *t, const float *y) {
    int64_t *own = t->tallies + mw_comm_rank(t->data) * TALLIES;
    own[TALLY_DOTS] = t->dots;
    MW_TRY(sum_tiles_of_rank(t, y));
    return count_active(t, &own[TALLY_POSITIVE]);
}

static int64_t tally(const mw_trainer *t, int which) {
    int64_t sum = 0;
    for (int r = 0; r < mw_comm_size(t->data); r++) sum += t->tallies[r * TALLIES + which];
    return sum;
}

static mw_status sum_batch(mw_trainer *t) {
    MW_TRY(add_tiles_of_all(t));
    t->batch = sums_of_totals(t);
    return check_loss(t, t->batch.weighted);
}

mw_status measure_errors(mw_trainer *t, const float *y) {
    int64_t width = t->sae->d_out + 1, tiles = batch_tiles(t);
    exchange e = data_exchange(t);
    LOCALLY(t, count_rank(t, y));
    add_tallies(t, &e);
    for (int s = 0; s < t->layout.n_sets; s++) add_counts(t, &e, &t->set[s]);
    for (int i = 0; i < 2; i++) add_tiles(t, &e, tile_sums_of(t, i), (size_t)width * sizeof(double));
    for (int g = 0; g < t->layout.n_recons; g++) add_tiles(t, &e, tile_sums_of(t, 2) + g * tiles, sizeof(double));
    return run_exchange(t, &e);
}

/* Uses the place of the error's tiles, which measure_errors has summed. */
mw_status sum_spread_tiles(mw_trainer *t, const float *rows) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out, first = t->begin / MW_ROW_TILE;
    return b->ops->tile_sums(b, tile_sums_of(t, 1) + first * (d + 1), rows, t->end - t->begin, d);
}

void add_spread_tiles(const mw_trainer *t, exchange *e) {
    add_tiles(t, e, tile_sums_of(t, 1), (size_t)(t->sae->d_out + 1) * sizeof(double));
}

mw_status spread_over_rows(mw_trainer *t, double *out) {
    mw_backend *b = t->backend;
    int64_t width = t->sae->d_out + 1;
    MW_TRY(b->ops->add_rows(b, t->sums, tile_sums_of(t, 1), batch_tiles(t), width, false));
    MW_TRY(b->ops->download(b, t->totals, t->sums, (size_t)width * sizeof *t->totals));
    *out = spread_of_sums(t, t->totals);
    return MW_OK;
}

/* ---- the batch of all ranks -------------------------------------------------------------------------------------- */

static mw_status take_shares(mw_trainer *t) {
    for (int s = 0; s < t->layout.n_sets; s++) MW_TRY(take_share(t, &t->set[s]));
    if (variant_of(t->sae)->after_selection) variant_of(t->sae)->after_selection(t);
    return end_gather(t, REQUEST_INPUT);
}

/* In a grid a failure may be known to the ranks with this shard alone; they all leave the codes out. */
mw_status gather_batch(mw_trainer *t) {
    exchange e = data_exchange(t);
    if (t->local != MW_OK) return MW_OK;
    LOCALLY(t, sum_batch(t));
    LOCALLY(t, output_gradients(t));
    for (int s = 0; s < t->layout.n_sets; s++) add_codes(t, &e, &t->set[s]);
    if (!gathers_input_early(t)) add_rows(t, &e, t->input, (size_t)t->sae->d * sizeof(float));
    for (int g = 0; g < t->layout.n_recons; g++) add_rows(t, &e, recon_of(t, g), (size_t)t->sae->d_out * sizeof(float));
    MW_TRY(run_exchange(t, &e));
    LOCALLY(t, take_shares(t));
    return MW_OK;
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

/* Sums over the shards, each from one rank; all ranks agree on them. */
static mw_status sum_over_shards(mw_trainer *t, int64_t *sums, int64_t count) {
    if (!t->own_data) return MW_OK;
    if (mw_comm_rank(t->data) > 0) memset(sums, 0, (size_t)count * sizeof *sums);
    return exchange_sums(t->comm, t->local, sums, count);
}

/* What find_dead_latents sums over the shards; the last of them are the codes of the reported sets in each shard. */
enum { SUM_ACTIVE, SUM_DEAD, SUM_LISTED, SUM_POSITIVE, SUM_DOTS, SUM_ENTRIES };

static void list_sums(const mw_trainer *t, int64_t dead, int64_t *sums) {
    int64_t *entries = sums + SUM_ENTRIES;
    memset(sums, 0, (size_t)shard_sums(t) * sizeof *sums);
    if (t->local != MW_OK) return;
    sums[SUM_ACTIVE] = t->set[0].start[t->options.batch];
    sums[SUM_DEAD] = dead;
    sums[SUM_LISTED] = t->n_dead;
    sums[SUM_POSITIVE] = tally(t, TALLY_POSITIVE);
    sums[SUM_DOTS] = tally(t, TALLY_DOTS);
    for (int s = 0; s < reported_sets(t); s++) entries[shard_number(t->sae)] += t->set[s].start[t->options.batch];
}

static void take_sums(mw_trainer *t, const int64_t *sums) {
    t->active = sums[SUM_ACTIVE];
    t->report.dead = sums[SUM_DEAD];
    t->all_dead = sums[SUM_LISTED];
    t->batch.positive = (double)sums[SUM_POSITIVE];
    t->report.candidates = (double)sums[SUM_DOTS] / (double)t->options.batch;
    for (int64_t i = 0; i < t->sae->shard.count; i++)
        t->shard_entries[i + 1] = t->shard_entries[i] + sums[SUM_ENTRIES + i];
}

int64_t shard_sums(const mw_trainer *t) {
    return SUM_ENTRIES + t->sae->shard.count + EXCHANGE_STATUSES;
}

mw_status find_dead_latents(mw_trainer *t) {
    int64_t dead = 0;
    LOCALLY(t, list_both(t, &dead));
    list_sums(t, dead, t->shard_sums);
    MW_TRY(sum_over_shards(t, t->shard_sums, SUM_ENTRIES + t->sae->shard.count));
    take_sums(t, t->shard_sums);
    return MW_OK;
}

mw_status list_dead_latents(mw_trainer *t) {
    LOCALLY(t, list_silent(t, t->options.dead_after));
    int64_t dead[1 + EXCHANGE_STATUSES] = {t->n_dead};
    MW_TRY(sum_over_shards(t, dead, 1));
    t->all_dead = dead[0];
    return MW_OK;
}
