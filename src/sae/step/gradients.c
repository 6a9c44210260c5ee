/* The backward pass of a step: gradients of reconstructions, codes, and this rank's share of the parameters. Sums over
 * the rows of all ranks are made in row order, so gradients do not depend on the number of ranks. */
#include "sae/step/step.h"
#include "sae/variants/variants.h"

/* ---- reconstructions -------------------------------------------------------------------------------------- */

/* A nested reconstruction g gets the sum over all reconstructions that its set is part of. */
mw_status output_gradients(mw_trainer *t) {
    mw_backend *b = t->backend;
    int64_t count = (t->end - t->begin) * t->sae->d_out;
    double unit = 2 * t->loss_scale / ((double)t->options.batch * (double)t->sae->d_out);
    for (int g = t->layout.n_recons - 1; g >= 0; g--) {
        float *error = recon_rows(t, g), scale = (float)(unit * t->layout.weight[g]);
        const float *after = t->layout.nested && g + 1 < t->layout.n_recons ? recon_rows(t, g + 1) : NULL;
        MW_TRY(b->ops->combine(b, error, scale, error, 1, after, count));
    }
    return MW_OK;
}

/* ---- codes ------------------------------------------------------------------------------------------------ */

mw_status dot_with_decoder(mw_trainer *t, code_set *c, int recon) {
    return t->backend->ops->sparse_dot(t->backend, c->grad, recon_of(t, recon), c->share.start, c->share.index,
                                       t->options.batch, t->sae->w_dec, t->sae->d_out, NULL);
}

mw_status code_gradients(mw_trainer *t) {
    for (int s = 0; s < t->layout.n_sets; s++) MW_TRY(dot_with_decoder(t, &t->set[s], t->layout.recon[s]));
    return variant_of(t->sae)->shape ? variant_of(t->sae)->shape(t) : MW_OK;
}

mw_status map_gradients(mw_trainer *t, code_set *c, const mw_entry_map *how) {
    return t->backend->ops->map_entries(t->backend, how, c->grad, c->share.index, c->share.value,
                                        c->share.start[t->options.batch]);
}

/* ---- lists of entries by latent --------------------------------------------------------------------------- */

/* The code sets of a step, s = 0, 1, ...; AuxK's is the last. NULL past the end. */
static const code_set *set_at(const mw_trainer *t, int s, int *uses, int *recon) {
    bool aux = s == t->layout.n_sets;
    if (s > t->layout.n_sets || (aux && !t->aux_k)) return NULL;
    *uses = aux ? SET_DECODES | SET_ENCODES | SET_BIASES : t->layout.uses[s];
    *recon = aux ? t->layout.n_recons : t->layout.recon[s];
    return aux ? &t->aux : &t->set[s];
}

/* The sets with this use. Entries to decode: values, with rows of out_grad. Other entries: gradients, with rows of the
 * input. */
static int runs_with_use(const mw_trainer *t, set_use use, mw_code_run out[SETS_MAX]) {
    const code_set *c;
    int uses, recon, count = 0;
    for (int s = 0; (c = set_at(t, s, &uses, &recon)); s++) {
        if (!(uses & use)) continue;
        bool decode = use == SET_DECODES;
        out[count++] = (mw_code_run){.rows = t->options.batch,
                                     .first_row = decode ? recon * t->options.batch : 0,
                                     .start = c->share.start,
                                     .index = c->share.index,
                                     .coefficient = decode ? c->share.value : c->grad};
    }
    return count;
}

static mw_status reserve_lists(mw_trainer *t, int64_t entries) {
    mw_backend *b = t->backend;
    mw_latent_lists *l = &t->lists;
    void *row = NULL;
    if (entries <= l->capacity && l->row && l->coefficient) return MW_OK;
    int64_t room = entries + entries / 4 + 64;
    if (l->row) b->ops->free(b, l->row);
    if (l->coefficient) b->ops->free(b, l->coefficient);
    l->row = NULL;
    l->coefficient = NULL;
    MW_TRY(b->ops->alloc(b, (size_t)room * sizeof *l->row, &row));
    l->row = row;
    MW_TRY(mw_backend_floats(b, room, &l->coefficient));
    l->capacity = room;
    return MW_OK;
}

/* Lists this rank's share of the entries by latent, in t->lists: set after set, each in row order. */
static mw_status list_entries(mw_trainer *t, set_use use) {
    mw_code_run runs[SETS_MAX];
    int count = runs_with_use(t, use, runs);
    int64_t entries = 0;
    for (int i = 0; i < count; i++) entries += runs[i].start[t->options.batch];
    MW_TRY(reserve_lists(t, entries));
    return t->backend->ops->list_latents(t->backend, runs, count, t->first_latent, &t->lists);
}

static mw_status list_set(mw_trainer *t, const code_set *c, const float *coefficient) {
    const mw_code_run run = {
        .rows = t->options.batch, .start = c->share.start, .index = c->share.index, .coefficient = coefficient};
    MW_TRY(reserve_lists(t, c->share.start[t->options.batch]));
    return t->backend->ops->list_latents(t->backend, &run, 1, t->first_latent, &t->lists);
}

mw_status sum_over_rows(mw_trainer *t, const code_set *c, const float *coefficient, double *out) {
    mw_backend *b = t->backend;
    MW_TRY(list_set(t, c, coefficient));
    MW_TRY(b->ops->list_sums(b, t->pre_sum, &t->lists));
    return b->ops->download(b, out, t->pre_sum, (size_t)t->n_latents * sizeof *out);
}

mw_status count_over_rows(mw_trainer *t, const code_set *c, double *out) {
    int64_t *start = NULL;
    MW_TRY(list_set(t, c, c->share.value));
    MW_TRY(borrow(t->backend, t->lists.start, (size_t)(t->n_latents + 1) * sizeof *start, &start));
    for (int64_t i = 0; i < t->n_latents; i++) out[i] = (double)(start[i + 1] - start[i]);
    give_back(t->backend, start);
    return MW_OK;
}

mw_status sum_mapped(mw_trainer *t, const code_set *c, const mw_entry_map *how, const float *from, double *out) {
    mw_backend *b = t->backend;
    int64_t count = c->share.start[t->options.batch];
    float *terms = NULL;
    MW_TRY(mw_backend_floats(b, count, &terms));
    mw_status status = b->ops->combine(b, terms, 1, from, 0, NULL, count);
    if (status == MW_OK) status = b->ops->map_entries(b, how, terms, c->share.index, c->share.value, count);
    if (status == MW_OK) status = sum_over_rows(t, c, terms, out);
    b->ops->free(b, terms);
    return status;
}

/* ---- penalties -------------------------------------------------------------------------------------------- */

mw_status decoder_norms(mw_trainer *t) {
    const mw_column_groups targets = target_groups(t->sae);
    return t->backend->ops->row_lengths(t->backend, t->norms, t->sae->w_dec, t->sae->n, t->sae->d_out, &targets);
}

/* Sums of t->costs by block of latents of this rank's share. */
static void sum_costs(mw_trainer *t) {
    for (int64_t i = 0; i < t->n_latents; i++) {
        double *block = &t->block_sums[first_latent_block(t) + i / LATENT_BLOCK];
        *block = (i % LATENT_BLOCK ? *block : 0) + t->costs[i];
    }
}

/* The variant's penalty of this rank's share, with the sums over rows that its own gradients need. */
static mw_status penalty_of_share(mw_trainer *t) {
    if (!variant_of(t->sae)->penalty) return MW_OK;
    MW_TRY(variant_of(t->sae)->sum(t));
    sum_costs(t);
    return MW_OK;
}

/* From the sums of all blocks, added in order. */
static void report_penalty(mw_trainer *t) {
    const variant_row *variant = variant_of(t->sae);
    double cost = 0;
    for (int64_t i = 0; variant->penalty && i < latent_blocks(t); i++) cost += t->block_sums[i];
    t->report.penalty = variant->penalty ? variant->penalty(t, cost / (double)t->options.batch) : 0;
}

/* ---- parameters by latent --------------------------------------------------------------------------------- */

/* The sets that b_enc learns from are those that W_enc learns from. */
static bool biases_are_encoded(const mw_trainer *t) {
    for (int s = 0; s < t->layout.n_sets; s++)
        if (!(t->layout.uses[s] & SET_BIASES) != !(t->layout.uses[s] & SET_ENCODES)) return false;
    return true;
}

/* dL/db_enc,i = sum_r dL/da_ri over t->lists; t->pre_sum keeps it in double. */
static mw_status encoder_bias_gradient(mw_trainer *t) {
    mw_backend *b = t->backend;
    MW_TRY(b->ops->list_sums(b, t->pre_sum, &t->lists));
    return b->ops->narrow(b, t->parameter[P_B_ENC].grad, t->pre_sum, t->n_latents);
}

static mw_status gradients_of_share(mw_trainer *t) {
    mw_backend *b = t->backend;
    const mw_sae *sae = t->sae;
    MW_TRY(list_entries(t, SET_DECODES));
    /* dL/dW_dec,i = sum_r z_ri dL/dx_hat_r */
    MW_TRY(b->ops->sparse_outer(b, t->parameter[P_W_DEC].grad, &t->lists, t->out_grad, sae->d_out));
    if (!biases_are_encoded(t)) {
        MW_TRY(list_entries(t, SET_BIASES));
        MW_TRY(encoder_bias_gradient(t));
    }
    MW_TRY(list_entries(t, SET_ENCODES));
    /* dL/dW_enc,i = sum_r dL/da_ri (x_r - b_dec) */
    MW_TRY(b->ops->sparse_outer(b, t->parameter[P_W_ENC].grad, &t->lists, t->input, sae->d));
    if (biases_are_encoded(t)) return encoder_bias_gradient(t);
    return b->ops->list_sums(b, t->pre_sum, &t->lists);
}

mw_status latent_gradients(mw_trainer *t) {
    MW_TRY(penalty_of_share(t));
    MW_TRY(gradients_of_share(t));
    return variant_of(t->sae)->finish ? variant_of(t->sae)->finish(t) : MW_OK;
}

/* ---- parameters that are whole on every rank --------------------------------------------------------------- */

/* The encoder's part of dL/db_dec, -sum_i W_enc,i sum_r dL/da_ri, by blocks of latents. */
static mw_status sum_encoder_blocks(mw_trainer *t) {
    int64_t d = t->sae->d;
    double *mine = t->encoder_sums + first_latent_block(t) * d;
    return t->backend->ops->weigh_rows(t->backend, mine, t->pre_sum, t->sae->w_enc + t->first_latent * d, t->n_latents,
                                       d, LATENT_BLOCK);
}

/* dL/db_dec, when the encoder's part is there from all blocks. */
static mw_status decoder_bias_gradient(mw_trainer *t) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out;
    double *sum = t->sums; /* not in use any more in this step, and wide enough */
    MW_TRY(b->ops->column_sums(b, sum, t->out_grad, t->layout.bias_recons * t->options.batch, d));
    if (!t->sae->transcoder) MW_TRY(b->ops->add_rows(b, sum, t->encoder_sums, latent_blocks(t), d, true));
    return b->ops->narrow(b, t->parameter[P_B_DEC].grad, sum, d);
}

/* Rows begin .. end of dL/dW_skip; `transposed` is scratch [d_out, batch]. */
static mw_status skip_rows(mw_trainer *t, int64_t begin, int64_t end, float *transposed) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d, d_out = t->sae->d_out, batch = t->options.batch;
    for (int g = 0; g < t->layout.bias_recons; g++) {
        MW_TRY(b->ops->transpose(b, transposed, recon_of(t, g), batch, d_out));
        MW_TRY(b->ops->matmul(b, &(mw_matmul){.m = end - begin,
                                              .n = d,
                                              .k = batch,
                                              .a = transposed + begin * batch,
                                              .lda = batch,
                                              .b = t->input,
                                              .b_dtype = MW_F32,
                                              .ldb = d,
                                              .c = t->parameter[P_W_SKIP].grad + begin * d,
                                              .ldc = d,
                                              .accumulate = g > 0}));
    }
    return MW_OK;
}

/* Ranks divide the tiles of rows of W_skip. */
static mw_status skip_gradient(mw_trainer *t) {
    int64_t d_out = t->sae->d_out, begin, end;
    float *transposed = NULL;
    mw_comm_share(mw_comm_rank(t->comm), mw_comm_size(t->comm), d_out, MW_ROW_TILE, &begin, &end);
    if (!t->sae->w_skip || begin == end) return MW_OK;
    MW_TRY(mw_backend_floats(t->backend, d_out * t->options.batch, &transposed));
    mw_status status = skip_rows(t, begin, end, transposed);
    t->backend->ops->free(t->backend, transposed);
    return status;
}

mw_status gather_latent_sums(mw_trainer *t) {
    bool centered = !t->sae->transcoder;
    exchange e = whole_exchange(t);
    if (centered) LOCALLY(t, sum_encoder_blocks(t));
    LOCALLY(t, skip_gradient(t));
    if (variant_of(t->sae)->penalty) add_blocks(t, &e, t->block_sums, sizeof *t->block_sums, true);
    if (centered) add_blocks(t, &e, t->encoder_sums, (size_t)t->sae->d * sizeof *t->encoder_sums, false);
    if (t->options.clip_norm > 0) add_blocks(t, &e, t->square_sums, sizeof *t->square_sums, false);
    if (t->sae->w_skip) add_skip_rows(t, &e);
    MW_TRY(exchange_run(&e, t->local));
    report_penalty(t);
    LOCALLY(t, decoder_bias_gradient(t));
    return MW_OK;
}
