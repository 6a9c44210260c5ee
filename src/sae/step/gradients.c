/* Gradients of one rank's share of latents, summed over the rows of all ranks in row order. */
#include "sae/variants/variants.h"

/* ---- lists of entries by latent --------------------------------------------------------------------------- */

/* The parts of a step, AuxK's last: p from 0 to their number. Its uses; NULL past the end. */
static const code_set *part_at(const mw_trainer *t, int p, int *uses, int *block) {
    bool aux = p == t->layout.n_sets;
    if (p > t->layout.n_sets || (aux && !t->aux_k)) return NULL;
    *uses = aux ? SET_DECODES | SET_ENCODES | SET_BIASES : t->layout.uses[p];
    *block = aux ? t->layout.n_recons : t->layout.recon[p];
    return aux ? &t->aux : &t->set[p];
}

/* Parts with this use. To decode: values and rows of out_grad; else gradients and rows of the input. */
static int list_runs(const mw_trainer *t, set_use use, mw_code_run out[SETS_MAX]) {
    const code_set *c;
    int uses, block, count = 0;
    for (int p = 0; (c = part_at(t, p, &uses, &block)); p++) {
        if (!(uses & use)) continue;
        bool decode = use == SET_DECODES;
        out[count++] = (mw_code_run){.rows = t->options.batch,
                                     .first_row = decode ? block * t->options.batch : 0,
                                     .start = c->start,
                                     .index = c->index,
                                     .coefficient = decode ? c->value : c->grad};
    }
    return count;
}

static mw_status make_room(mw_trainer *t, int64_t entries) {
    mw_backend *b = t->backend;
    mw_latent_lists *l = &t->lists;
    void *row = NULL;
    if (entries <= l->room && l->row && l->coefficient) return MW_OK;
    int64_t room = entries + entries / 4 + 64;
    if (l->row) b->ops->free(b, l->row);
    if (l->coefficient) b->ops->free(b, l->coefficient);
    l->row = NULL;
    l->coefficient = NULL;
    MW_TRY(b->ops->alloc(b, (size_t)room * sizeof *l->row, &row));
    l->row = row;
    MW_TRY(mw_backend_floats(b, room, &l->coefficient));
    l->room = room;
    return MW_OK;
}

/* Entries of the share by latent, in t->lists: part after part, each in row order. */
static mw_status list_entries(mw_trainer *t, set_use use) {
    mw_code_run runs[SETS_MAX];
    int count = list_runs(t, use, runs);
    int64_t entries = 0;
    for (int i = 0; i < count; i++) entries += runs[i].start[t->options.batch];
    MW_TRY(make_room(t, entries));
    return t->backend->ops->list_latents(t->backend, runs, count, t->first_latent, &t->lists);
}

/* One part alone. */
static mw_status list_part(mw_trainer *t, const code_set *c, const float *coefficient) {
    const mw_code_run run = {
        .rows = t->options.batch, .start = c->start, .index = c->index, .coefficient = coefficient};
    MW_TRY(make_room(t, c->start[t->options.batch]));
    return t->backend->ops->list_latents(t->backend, &run, 1, t->first_latent, &t->lists);
}

mw_status sum_over_rows(mw_trainer *t, const code_set *c, const float *coefficient, double *out) {
    mw_backend *b = t->backend;
    MW_TRY(list_part(t, c, coefficient));
    MW_TRY(b->ops->list_sums(b, t->pre_sum, &t->lists));
    return b->ops->download(b, out, t->pre_sum, (size_t)t->n_latents * sizeof *out);
}

mw_status count_over_rows(mw_trainer *t, const code_set *c, double *out) {
    int64_t *start = NULL;
    MW_TRY(list_part(t, c, c->value));
    MW_TRY(borrow(t->backend, t->lists.start, (size_t)(t->n_latents + 1) * sizeof *start, &start));
    for (int64_t i = 0; i < t->n_latents; i++) out[i] = (double)(start[i + 1] - start[i]);
    give_back(t->backend, start);
    return MW_OK;
}

/* ---- entries of a part -------------------------------------------------------------------------------------- */

mw_status map_gradients(mw_trainer *t, code_set *c, const mw_mapping *how) {
    int64_t at = c->start[t->begin], count = c->start[t->end] - at;
    return t->backend->ops->map_entries(t->backend, how, c->grad + at, c->index + at, c->value + at, count);
}

mw_status sum_mapped(mw_trainer *t, const code_set *c, const mw_mapping *how, const float *from, double *out) {
    mw_backend *b = t->backend;
    int64_t count = c->start[t->options.batch];
    float *terms = NULL;
    MW_TRY(mw_backend_floats(b, count, &terms));
    mw_status status = b->ops->combine(b, terms, 1, from, 0, NULL, count);
    if (status == MW_OK) status = b->ops->map_entries(b, how, terms, c->index, c->value, count);
    if (status == MW_OK) status = sum_over_rows(t, c, terms, out);
    b->ops->free(b, terms);
    return status;
}

/* ---- parameters by latent ----------------------------------------------------------------------------------- */

static bool biases_are_encoded(const mw_trainer *t) {
    for (int p = 0; p < t->layout.n_sets; p++)
        if (!(t->layout.uses[p] & SET_BIASES) != !(t->layout.uses[p] & SET_ENCODES)) return false;
    return true;
}

/* Sums of dL/da over the lists, as the gradient of b_enc. */
static mw_status bias_of_latents(mw_trainer *t) {
    mw_backend *b = t->backend;
    MW_TRY(b->ops->list_sums(b, t->pre_sum, &t->lists));
    return b->ops->narrow(b, t->parameter[P_B_ENC].grad, t->pre_sum, t->n_latents);
}

static mw_status latent_gradients(mw_trainer *t) {
    mw_backend *b = t->backend;
    const mw_sae *sae = t->sae;
    MW_TRY(list_entries(t, SET_DECODES));
    MW_TRY(b->ops->sparse_outer(b, t->parameter[P_W_DEC].grad, &t->lists, t->out_grad, sae->d_out));
    if (!biases_are_encoded(t)) {
        MW_TRY(list_entries(t, SET_BIASES));
        MW_TRY(bias_of_latents(t));
    }
    MW_TRY(list_entries(t, SET_ENCODES));
    MW_TRY(b->ops->sparse_outer(b, t->parameter[P_W_ENC].grad, &t->lists, t->input, sae->d));
    if (biases_are_encoded(t)) return bias_of_latents(t);
    return b->ops->list_sums(b, t->pre_sum, &t->lists);
}

/* ---- parameters that are not by latent ---------------------------------------------------------------------- */

/* The encoder's part of db_dec, -sum_i (sum of dL/da_i) W_enc,i, by blocks of latents. */
static mw_status encoder_sums(mw_trainer *t) {
    int64_t d = t->sae->d;
    double *mine = t->encoder_sums + first_latent_block(t) * d;
    return t->backend->ops->weigh_rows(t->backend, mine, t->pre_sum, t->sae->w_enc + t->first_latent * d, t->n_latents,
                                       d, LATENT_BLOCK);
}

static mw_status bias_gradient(mw_trainer *t) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out;
    double *sum = t->sums; /* free by now, and wide enough */
    mw_status status = b->ops->column_sums(b, sum, t->out_grad, t->layout.bias_recons * t->options.batch, d);
    if (status == MW_OK && !t->sae->transcoder) status = encoder_sums(t);
    MW_TRY(mw_comm_agree(t->comm, status));
    if (!t->sae->transcoder) {
        MW_TRY(gather_blocks(t, t->encoder_sums, (size_t)d * sizeof(double)));
        MW_TRY(mw_comm_agree(t->comm, b->ops->add_rows(b, sum, t->encoder_sums, latent_blocks(t), d, true)));
    }
    return mw_comm_agree(t->comm, b->ops->narrow(b, t->parameter[P_B_DEC].grad, sum, d));
}

/* dW_skip = sum over rows of dL/dx_hat x^T. Ranks take tiles of its rows. */
static mw_status skip_share(mw_trainer *t, int64_t begin, int64_t end, float *across) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d, d_out = t->sae->d_out, batch = t->options.batch;
    for (int i = 0; i < t->layout.bias_recons; i++) {
        MW_TRY(b->ops->transpose(b, across, t->out_grad + i * batch * d_out, batch, d_out));
        MW_TRY(b->ops->matmul(b, &(mw_matmul){.m = end - begin,
                                              .n = d,
                                              .k = batch,
                                              .a = across + begin * batch,
                                              .lda = batch,
                                              .b = t->input,
                                              .b_dtype = MW_F32,
                                              .ldb = d,
                                              .c = t->parameter[P_W_SKIP].grad + begin * d,
                                              .ldc = d,
                                              .accumulate = i > 0}));
    }
    return MW_OK;
}

static mw_status skip_gradient(mw_trainer *t) {
    int64_t d_out = t->sae->d_out, begin, end;
    float *across = NULL;
    mw_status status = mw_backend_floats(t->backend, d_out * t->options.batch, &across);
    mw_comm_share(mw_comm_rank(t->comm), mw_comm_size(t->comm), d_out, MW_ROW_TILE, &begin, &end);
    if (status == MW_OK && end > begin) status = skip_share(t, begin, end, across);
    if (across) t->backend->ops->free(t->backend, across);
    MW_TRY(mw_comm_agree(t->comm, status));
    return gather_shares(t, t->comm, t->parameter[P_W_SKIP].grad, d_out, MW_ROW_TILE,
                         (size_t)t->sae->d * sizeof(float));
}

mw_status step_gradients(mw_trainer *t) {
    const variant_row *variant = variant_of(t->sae);
    mw_status status = latent_gradients(t);
    if (status == MW_OK && variant->finish) status = variant->finish(t);
    MW_TRY(mw_comm_agree(t->comm, status));
    if (t->sae->w_skip) MW_TRY(skip_gradient(t));
    return bias_gradient(t);
}
