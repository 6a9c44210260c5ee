/* BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): of a batch of B rows the k B largest positive pre-activations are
 * kept, exactly and over all ranks. Each rank keeps its own k B largest at most; the value of the k B-th over all is
 * found by a radix select on counts, 4 small sums of 256 numbers; entries equal to it are taken in row order, and in the order of
 * latents within a row.
 * Outside training there is no batch: a latent is active above a threshold, the running mean of that k B-th value. */
#include "sae/shards.h"

#include <stdlib.h>
#include <string.h>

static const double threshold_decay = 0.99;

/* Positive floats have the order of their bits. */
typedef struct candidate {
    uint32_t bits;
    int32_t latent;
    int64_t row;
} candidate;

typedef struct collector {
    mw_backend *backend;
    int64_t n, limit; /* latents; candidates that may matter */
    mw_codes found;   /* of one chunk of rows, where the device found them */
    candidate *items;
    int64_t count, capacity;
    uint32_t floor; /* bits that a candidate must exceed */
    bool pruned;    /* and so no longer in row order */
} collector;

static int by_bits_falling(const void *a, const void *b) {
    uint32_t x = ((const candidate *)a)->bits, y = ((const candidate *)b)->bits;
    return x < y ? 1 : x > y ? -1 : 0;
}

static int by_place(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->row != y->row) return x->row < y->row ? -1 : 1;
    return x->latent < y->latent ? -1 : x->latent > y->latent;
}

/* Drops what `limit` others beat; equals of the last are kept, since any of them may be chosen. */
static void prune(collector *c) {
    qsort(c->items, (size_t)c->count, sizeof *c->items, by_bits_falling);
    uint32_t last = c->items[c->limit - 1].bits;
    int64_t kept = c->limit;
    while (kept < c->count && c->items[kept].bits == last) kept++;
    c->count = kept;
    c->floor = last - 1; /* bits of a positive float are at least 1 */
    c->pruned = true;
}

/* Makes room for `more` candidates. */
static mw_status reserve(collector *c, int64_t more) {
    if (c->count + more <= c->capacity) return MW_OK;
    int64_t capacity = c->count + more + more / 2;
    candidate *moved = mw_realloc(c->items, (size_t)c->count * sizeof *moved, (size_t)capacity * sizeof *moved);
    if (!moved) return MW_ERR_MEMORY;
    c->items = moved;
    c->capacity = capacity;
    return MW_OK;
}

static void add_codes(collector *c, const mw_codes *codes, int64_t first) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < codes->rows; r++)
        for (int64_t j = codes->start[r]; j < codes->start[r + 1]; j++) {
            candidate *to = &c->items[c->count + j];
            *to = (candidate){.latent = codes->index[j], .row = first + r};
            memcpy(&to->bits, &codes->value[j], sizeof to->bits);
        }
    c->count += codes->start[codes->rows];
    if (c->count > 4 * c->limit) prune(c);
}

/* The device finds what is above the floor; candidates are the host's. */
static mw_status collect(void *self, const float *pre, int64_t first, int64_t rows) {
    collector *c = self;
    mw_codes host = {0};
    mw_opening how = {0};
    memcpy(&how.level, &c->floor, sizeof how.level);
    MW_TRY(mw_codes_begin(&c->found, rows));
    MW_TRY(append_open(c->backend, &c->found, 0, rows, c->n, &how, pre));
    mw_status status = c->found.memory ? codes_to_host(&c->found, &host) : MW_OK;
    if (status == MW_OK) status = reserve(c, c->found.start[rows]);
    if (status == MW_OK) add_codes(c, c->found.memory ? &host : &c->found, first);
    mw_codes_free(&host);
    return status;
}

/* The same on all ranks. */
typedef struct border {
    uint32_t
        bits; /* of the wanted-th largest of all ranks' candidates; 0: there are fewer, and all belong to the wanted */
    int64_t equals; /* candidates equal to it */
    int64_t places; /* that are left for these */
} border;

static mw_status kth_of_all(const mw_comm *comm, const collector *c, int64_t wanted, border *out) {
    int64_t total = c->count, equals = 0;
    uint32_t prefix = 0, mask = 0;
    MW_TRY(mw_comm_sum_i64(comm, &total, 1));
    *out = (border){0};
    if (total < wanted) return MW_OK;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t counts[256] = {0};
        for (int64_t i = 0; i < c->count; i++)
            if ((c->items[i].bits & mask) == prefix) counts[c->items[i].bits >> shift & 255]++;
        MW_TRY(mw_comm_sum_i64(comm, counts, 256));
        int digit = 255;
        while (counts[digit] < wanted) wanted -= counts[digit--];
        equals = counts[digit];
        prefix |= (uint32_t)digit << shift;
        mask |= UINT32_C(255) << shift;
    }
    *out = (border){prefix, equals, wanted};
    return MW_OK;
}

/* Of the places for entries equal to the k-th, those of this rank, by row; NULL: there are enough for all. Rows come first, then
 * latents, which shards hold in order. */
static mw_status places_of_equals(const mw_trainer *t, const collector *c, const border *at, int64_t **out) {
    int64_t batch = t->options.batch, shards = t->sae->shard.count, own = shard_number(t->sae), left = at->places;
    *out = NULL;
    if (at->equals == at->places) return MW_OK;
    int64_t *all = mw_calloc((size_t)(batch * shards), sizeof *all);
    MW_TRY(mw_comm_agree(t->comm, all ? MW_OK : MW_ERR_MEMORY));
    for (int64_t i = 0; i < c->count; i++)
        if (c->items[i].bits == at->bits) all[(t->begin + c->items[i].row) * shards + own]++;
    mw_status status = mw_comm_sum_i64(t->comm, all, batch * shards);
    for (int64_t i = 0; i < batch * shards;
         i++) { /* the first rows' are not looked at again, so each row's may lie there */
        int64_t taken = all[i] < left ? all[i] : left, row = i / shards - t->begin;
        left -= taken;
        if (i % shards == own && row >= 0 && row < t->end - t->begin) all[row] = taken;
    }
    *out = all;
    return status;
}

/* `items` are in row order. */
static mw_status write_codes(const collector *c, const border *at, int64_t *places, int64_t rows, mw_codes *out) {
    int64_t count = 0, row = 0;
    MW_TRY(mw_codes_begin(out, rows));
    MW_TRY(mw_codes_reserve(out, 0, c->count));
    for (int64_t i = 0; i < c->count; i++) {
        const candidate *e = &c->items[i];
        bool tie = places && e->bits == at->bits;
        if (e->bits < at->bits || (tie && places[e->row] == 0)) continue;
        if (tie) places[e->row]--;
        while (row < e->row) out->start[++row] = count;
        out->index[count] = e->latent;
        memcpy(&out->value[count++], &e->bits, sizeof(float));
    }
    while (row < rows) out->start[++row] = count;
    return MW_OK;
}

/* With a floor near the last batch's k-th value few candidates need be kept. If it was too high for all ranks together,
 * the batch is gone through again without one, so the selection is exact either way. */
static mw_status collect_enough(mw_trainer *t, const float *x, collector *c, int64_t wanted) {
    float floor = 0.9f * t->kth;
    memcpy(&c->floor, &floor, sizeof floor);
    for (;;) {
        MW_TRY(mw_comm_agree(t->comm, sae_visit(t->sae, x, t->end - t->begin, collect, c)));
        int64_t total = c->count;
        MW_TRY(mw_comm_sum_i64(t->comm, &total, 1));
        if (total >= wanted || floor <= 0) return MW_OK;
        floor = 0;
        c->floor = 0;
        c->count = 0;
    }
}

/* Sorted out on the host, then to where the codes are wanted. */
static mw_status deliver(collector *c, const border *at, int64_t *places, int64_t rows, mw_codes *out) {
    mw_codes host = {0};
    if (c->pruned) qsort(c->items, (size_t)c->count, sizeof *c->items, by_place);
    if (!out->memory) return write_codes(c, at, places, rows, out);
    mw_status status = write_codes(c, at, places, rows, &host);
    if (status == MW_OK) status = codes_from_host(&host, out);
    mw_codes_free(&host);
    return status;
}

mw_status batch_top_k_codes(mw_trainer *t, const float *x, mw_codes *out) {
    int64_t wanted = t->k * t->options.batch, *places = NULL;
    collector c = {.backend = t->backend, .n = t->sae->n, .limit = wanted, .found = {.memory = out->memory}};
    border at = {0};
    mw_status status = collect_enough(t, x, &c, wanted);
    if (status == MW_OK) status = kth_of_all(t->comm, &c, wanted, &at);
    if (status == MW_OK) status = places_of_equals(t, &c, &at, &places);
    if (status == MW_OK) status = deliver(&c, &at, places, t->end - t->begin, out);
    if (status == MW_OK) memcpy(&t->kth, &at.bits, sizeof at.bits);
    mw_free(places);
    mw_codes_free(&c.found);
    mw_free(c.items);
    return status;
}

mw_status batch_top_k_select(mw_trainer *t, const float *x) {
    return batch_top_k_codes(t, x, &t->part[0].c.mine);
}

mw_status threshold_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return open_codes(sae, x, rows, (mw_opening){.level = sae->threshold > 0 ? sae->threshold : 0}, out);
}

/* The k-th value of the batch moves the threshold; a batch with fewer positive values than wanted says nothing. */
void batch_top_k_threshold(mw_trainer *t) {
    double old = t->sae->threshold;
    if (t->kth > 0)
        t->sae->threshold = (float)(old < 0 ? t->kth : threshold_decay * old + (1 - threshold_decay) * t->kth);
}
