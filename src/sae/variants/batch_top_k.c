/* BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): selects the k B largest positive pre-activations of a batch of B
 * rows, exactly and over all ranks. Each rank keeps at most its own k B largest. A radix select on counts (2 allreduces
 * where the value is near that of the last batch, else up to 4) finds the k B-th value of all ranks. Entries equal to
 * it are selected in row order, and by latent within a row. Outside training there is no batch: a latent is active
 * above a threshold, the running mean of the k B-th value. */
#include "sae/shards.h"

static const double threshold_decay = 0.99;

typedef struct collector {
    const mw_sae *sae;
    int64_t rows, wanted;    /* rows of this rank; values to select from all ranks' rows */
    mw_codes *found, *spare; /* candidates by row; scratch for pruning */
    float floor;             /* a candidate is larger */
} collector;

/* ---- candidates -------------------------------------------------------------------------------------------------- */

/* Drops the candidates of the rows so far that at least `wanted` others exceed. Ties with the last are kept: each may
 * be selected. */
static mw_status prune(collector *c, int64_t rows) {
    mw_backend *b = c->sae->backend;
    kth_value last;
    const value_span found = {c->found->value, c->found->start[rows]};
    MW_TRY(find_kth_value(NULL, MW_OK, b, &found, 1, c->wanted, 0, &last));
    c->floor = just_below(last.value);
    mw_filter how = above(c->sae, c->floor);
    MW_TRY(keep_codes(b, c->found, rows, &how, c->spare));
    mw_codes kept = *c->spare;
    *c->spare = *c->found;
    *c->found = kept;
    return MW_OK;
}

static mw_status collect(void *self, const chunk *rows) {
    collector *c = self;
    int64_t last = rows->first + rows->rows;
    MW_TRY(append_chunk(c->sae, rows, 1, &(mw_threshold){.level = c->floor}, &c->found));
    return c->found->start[last] > 4 * c->wanted ? prune(c, last) : MW_OK;
}

/* A floor near the last batch's k-th value keeps few candidates. If all ranks together then have too few, the batch is
 * encoded again without a floor: the selection is exact either way. */
static mw_status find_kth(mw_trainer *t, mw_status ready, const float *x, collector *c, kth_value *kth) {
    float floor = 0.9f * t->kth;
    for (;; floor = 0) {
        value_span found = {0};
        c->floor = floor;
        if (ready == MW_OK) ready = mw_codes_begin(c->found, c->rows);
        if (ready == MW_OK) ready = sae_visit(t->sae, x, c->rows, collect, c);
        if (ready == MW_OK) found = (value_span){c->found->value, c->found->start[c->rows]};
        MW_TRY(find_kth_value(t->comm, ready, t->backend, &found, 1, c->wanted, t->kth, kth));
        if (kth->total >= c->wanted || floor <= 0) return MW_OK;
    }
}

/* ---- selection -------------------------------------------------------------------------------------------------- */

/* out[r]: candidates of row r with the k-th value; `scratch` [rows]. */
static mw_status count_equals(const collector *c, float kth, int64_t *out, int64_t *scratch) {
    mw_backend *b = c->sae->backend;
    const mw_codes *f = c->found;
    const mw_filter more = above(c->sae, kth), all = above(c->sae, just_below(kth));
    MW_TRY(b->ops->count_kept(b, &all, f->start, f->index, f->value, c->rows, out));
    MW_TRY(b->ops->count_kept(b, &more, f->start, f->index, f->value, c->rows, scratch));
    for (int64_t r = 0; r < c->rows; r++) out[r] -= scratch[r];
    return MW_OK;
}

/* Divides the `left` places for ties among rows, and among shards within a row. mine [rows]: in, this rank's ties by
 * row; out, how many of them are selected. `all` [batch, shards] is scratch, all 0. */
static mw_status divide_places(const mw_trainer *t, int64_t left, int64_t *mine, int64_t *all) {
    int64_t batch = t->options.batch, shards = t->sae->shard.count, own = shard_number(t->sae);
    for (int64_t r = t->begin; r < t->end; r++) all[r * shards + own] = mine[r - t->begin];
    MW_TRY(mw_comm_allreduce_sum(t->comm, all, batch * shards));
    for (int64_t i = 0; i < batch * shards; i++) {
        int64_t selected = all[i] < left ? all[i] : left, row = i / shards;
        left -= selected;
        if (i % shards == own && row >= t->begin && row < t->end) mine[row - t->begin] = selected;
    }
    return MW_OK;
}

static mw_status select_with_ties(mw_trainer *t, const collector *c, const kth_value *kth, mw_codes *out) {
    int64_t *mine = mw_calloc((size_t)(2 * c->rows + 1), sizeof *mine);
    int64_t *all = mw_calloc((size_t)(t->options.batch * t->sae->shard.count), sizeof *all);
    mw_status status = mine && all ? count_equals(c, kth->value, mine, mine + c->rows) : MW_ERR_MEMORY;
    status = mw_comm_agree(t->comm, status);
    if (status == MW_OK) status = divide_places(t, kth->places, mine, all);
    mw_filter how = above(t->sae, kth->value);
    how.equals = mine;
    if (status == MW_OK) status = keep_codes(t->backend, c->found, c->rows, &how, out);
    mw_free(all);
    mw_free(mine);
    return status;
}

static mw_status select_codes(mw_trainer *t, const collector *c, const kth_value *kth, mw_codes *out) {
    t->kth = kth->value;
    if (kth->equals > kth->places) return select_with_ties(t, c, kth, out);
    mw_filter how = above(t->sae, kth->value > 0 ? just_below(kth->value) : 0);
    return keep_codes(t->backend, c->found, c->rows, &how, out);
}

mw_status batch_top_k_codes(mw_trainer *t, mw_status ready, const float *x, mw_codes *out) {
    mw_codes found = {.memory = out->memory}, spare = found;
    collector c = {
        .sae = t->sae, .rows = t->end - t->begin, .wanted = t->k * t->options.batch, .found = &found, .spare = &spare};
    kth_value kth;
    mw_status status = find_kth(t, ready, x, &c, &kth);
    if (status == MW_OK) status = select_codes(t, &c, &kth, out);
    mw_codes_free(&found);
    mw_codes_free(&spare);
    return status;
}

mw_status batch_top_k_select(mw_trainer *t, mw_status ready, const float *x) {
    return batch_top_k_codes(t, ready, x, &t->set[0].mine);
}

mw_status threshold_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return codes_above(sae, x, rows, (mw_threshold){.level = sae->threshold > 0 ? sae->threshold : 0}, out);
}

/* Moves the threshold towards the batch's k-th value. A batch with fewer positive values than wanted has none. */
void batch_top_k_threshold(mw_trainer *t) {
    double old = t->sae->threshold;
    if (t->kth > 0)
        t->sae->threshold = (float)(old < 0 ? t->kth : threshold_decay * old + (1 - threshold_decay) * t->kth);
}
