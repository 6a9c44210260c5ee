/* Resampling of dead latents (Bricken et al. 2023, "Towards Monosemanticity", neuron resampling). A row of the batch is
 * drawn with probability proportional to its squared loss. The latent takes the row's direction: in the decoder at the
 * mean length of live latents, in the encoder at 0.2 of their mean length, or at the whole mean length in variants with
 * k, whose latents would never win a place at 0.2. Bias and Adam's moments become 0. The draw depends on the seed, the
 * step and the latent alone. */
#include "sae/shards.h"

enum { STREAM_RESAMPLE = 3 };

static const double encoder_length = 0.2; /* of the mean length of live latents */

/* Squared errors of this rank's rows. */
static mw_status row_losses(mw_trainer *t, double *losses) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out, rows = t->end - t->begin;
    void *there = NULL;
    MW_TRY(b->ops->alloc(b, (size_t)rows * sizeof *losses, &there));
    mw_status status = b->ops->square_sums(b, there, t->error, rows * d, d, false);
    if (status == MW_OK) status = b->ops->download(b, losses, there, (size_t)rows * sizeof *losses);
    b->ops->free(b, there);
    return status;
}

/* Running sums over rows of the squared loss of a row. Collective. */
static mw_status weigh_rows(mw_trainer *t, double *sums) {
    exchange e = data_exchange(t);
    LOCALLY(t, row_losses(t, sums + t->begin));
    for (int64_t r = t->begin; r < t->end; r++) sums[r] *= sums[r];
    add_row_losses(t, &e, sums);
    MW_TRY(run_exchange(t, &e));
    for (int64_t r = 1; r < t->options.batch; r++) sums[r] += sums[r - 1];
    return MW_OK;
}

static int64_t draw_row(const mw_trainer *t, const double *sums, int32_t latent) {
    int64_t low = 0, high = t->options.batch - 1;
    const mw_shard *shard = &t->sae->shard;
    uint64_t place = (uint64_t)t->step * (uint64_t)shard->total + (uint64_t)(shard->first + latent);
    double at = mw_rng_uniform((uint64_t)t->options.seed, STREAM_RESAMPLE, place) * sums[high];
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (sums[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Lengths of the rows w [n, width] of this rank's shard; -1 for dead latents. */
static mw_status live_lengths(const mw_trainer *t, const float *w, int64_t width, float *out) {
    const mw_column_groups whole = {1, &width};
    MW_TRY(lengths_of_rows(t->backend, w, t->sae->n, width, &whole, out));
    for (int64_t i = 0; i < t->n_dead; i++) out[t->dead[i]] = -1;
    return MW_OK;
}

/* Mean length over all live latents, summed in the order of latents. */
static mw_status live_length(const mw_trainer *t, const float *w, int64_t width, double *out) {
    const mw_shard *shard = &t->sae->shard;
    float *length = mw_calloc((size_t)shard->total, sizeof *length);
    double sum = 0;
    int64_t live = 0;
    mw_status status = length ? live_lengths(t, w, width, length + shard->first) : MW_ERR_MEMORY;
    status = shard_agree(t->sae, status);
    if (status == MW_OK && shard->peers)
        status = mw_comm_allreduce_or(shard->peers, length, (size_t)shard->total * sizeof *length);
    for (int64_t i = 0; status == MW_OK && i < shard->total; i++) {
        live += length[i] >= 0;
        sum += length[i] >= 0 ? length[i] : 0;
    }
    *out = live ? sum / (double)live : 1;
    mw_free(length);
    return status;
}

/* Writes the direction of device row `from` at this length to device row `to`; `scratch` [width]. */
static mw_status redirect(mw_backend *b, float *to, const float *from, int64_t width, double length, float *scratch) {
    size_t bytes = (size_t)width * sizeof *scratch;
    MW_TRY(b->ops->download(b, scratch, from, bytes));
    double from_length = length_of(scratch, width);
    if (!(from_length > 0)) return MW_OK;
    set_direction(scratch, scratch, width, length);
    return b->ops->upload(b, to, scratch, bytes);
}

/* Resets a latent: parameters on each rank that has its shard, moments on the rank whose share it is in. */
static mw_status reset_latent(mw_trainer *t, int32_t latent) {
    mw_backend *b = t->backend;
    mw_sae *host = t->host;
    int64_t mine = latent - t->first_latent;
    MW_TRY(b->ops->fill_zero(b, t->sae->b_enc + latent, sizeof(float)));
    for (int i = 0; i < MW_EXTRAS && host->extra[i]; i++) host->extra[i][latent] = 0;
    if (variant_of(host)->start) variant_of(host)->start(host, &t->options, latent, 1);
    for (int i = 0; i < MW_EXTRAS && host->extra[i]; i++)
        MW_TRY(b->ops->upload(b, t->sae->extra[i] + latent, host->extra[i] + latent, sizeof(float)));
    for (int i = 0; i < P_COUNT && mine >= 0 && mine < t->n_latents; i++) {
        parameter *p = &t->parameter[i];
        if (!p->value || !p->shared) continue;
        MW_TRY(b->ops->fill_zero(b, p->m + mine * p->columns, (size_t)p->columns * sizeof *p->m));
        MW_TRY(b->ops->fill_zero(b, p->v + mine * p->columns, (size_t)p->columns * sizeof *p->v));
    }
    return b->ops->fill_zero(b, t->since_fired + latent, sizeof *t->since_fired);
}

static mw_status restart_latent(mw_trainer *t, int32_t latent, int64_t row, double decoder, double encoder,
                                float *scratch) {
    const mw_sae *sae = t->sae;
    mw_backend *b = t->backend;
    int64_t d = sae->d, d_out = sae->d_out;
    const float *input = t->input + row * d,
                *residual = t->out_grad + row * d_out; /* dL/dx_hat points away from the target */
    MW_TRY(redirect(b, sae->w_enc + latent * d, input, d, encoder, scratch));
    MW_TRY(redirect(b, sae->w_dec + latent * d_out, sae->transcoder ? residual : input, d_out,
                    sae->transcoder ? -decoder : decoder, scratch));
    return reset_latent(t, latent);
}

static mw_status restart_dead(mw_trainer *t, const double *sums) {
    const mw_sae *sae = t->sae;
    double decoder = 0, encoder = 0;
    MW_TRY(live_length(t, sae->w_dec, sae->d_out, &decoder));
    MW_TRY(live_length(t, sae->w_enc, sae->d, &encoder));
    if (!variant_of(sae)->uses_k) encoder *= encoder_length;
    float *scratch = mw_alloc((size_t)(sae->d > sae->d_out ? sae->d : sae->d_out) * sizeof *scratch);
    mw_status status = scratch ? MW_OK : MW_ERR_MEMORY;
    for (int64_t i = 0; i < t->n_dead && status == MW_OK; i++)
        status = restart_latent(t, t->dead[i], draw_row(t, sums, t->dead[i]), decoder, encoder, scratch);
    mw_free(scratch);
    return status;
}

static mw_status resample(mw_trainer *t) {
    double *sums = mw_calloc((size_t)t->options.batch, sizeof *sums);
    LOCALLY(t, sums ? end_gathers(t) : MW_ERR_MEMORY);
    mw_status status = mw_comm_agree(t->comm, t->local);
    if (status == MW_OK) status = weigh_rows(t, sums);
    if (status == MW_OK) status = mw_comm_agree(t->comm, t->local);
    if (status == MW_OK && t->all_dead < t->sae->shard.total && sums[t->options.batch - 1] > 0)
        status = mw_comm_agree(t->comm, restart_dead(t, sums));
    mw_free(sums);
    return status;
}

mw_status resample_dead_latents(mw_trainer *t) {
    int64_t every = t->options.resample_every;
    if (every == 0 || (t->step + 1) % every != 0) return MW_OK;
    MW_TRY(list_dead_latents(t)); /* AuxK has listed others */
    return resample(t);
}
