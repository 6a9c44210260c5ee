/* AuxK (Gao et al. 2024, A.2): the k_aux largest pre-activations among dead latents reconstruct a residual r:
 *     alpha sum |r_hat - r|^2 / sum |r - mean r|^2,  r_hat = sum over selected dead latents of z_i W_dec,i.
 * As published r = y - x_hat. With options.aux_weak, x_hat is that of the batch's codes without the weakest: these are
 * what a dead latent must exceed to be selected, so it learns what they reconstruct too. The residual is detached,
 * b_dec is no part of r_hat, live latents are left out rather than set to zero, and a latent is dead if it is dead on
 * all ranks. */
#include "sae/shards.h"

#include <string.h>

typedef struct dead_scratch {
    int64_t chunk;
    float *weights;     /* [n_dead, d] */
    float *bias;        /* [n_dead] */
    float *pre;         /* [chunk, n_dead]; NULL with a screen */
    mw_encoder encoder; /* of a screen */
    double *tiles;      /* [tiles], then their sum */
    float *error;       /* [rows, d_out] -r of this rank's rows; NULL: t->error, as no codes are left out */
    float *left;        /* [reported sets, rows, d_out] what weak codes of all shards reconstruct; or NULL */
    mw_codes weak;
    float *values;  /* of all codes of the shards */
    double spread;  /* sum |r - mean r|^2 over all rows */
    candidates own; /* selected from this rank's shard */
} dead_scratch;

static mw_status open_scratch(const mw_trainer *t, dead_scratch *s) {
    mw_backend *b = t->backend;
    int64_t count = (t->end - t->begin) * t->sae->d_out;
    bool leaves_out = t->options.aux_weak > 0;
    MW_TRY(mw_backend_floats(b, t->n_dead * t->sae->d, &s->weights));
    MW_TRY(mw_backend_floats(b, t->n_dead, &s->bias));
    if (leaves_out) MW_TRY(mw_backend_floats(b, count, &s->error));
    if (leaves_out && t->own_data) MW_TRY(mw_backend_floats(b, reported_sets(t) * count, &s->left));
    return candidates_make(b, s->own.rows, s->own.width, &s->own);
}

static void free_scratch(mw_backend *b, dead_scratch *s) {
    void *all[] = {s->weights, s->bias, s->pre, s->tiles, s->error, s->left, s->values};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) b->ops->free(b, all[i]);
    mw_codes_free(&s->weak);
    candidates_free(&s->own);
    encoder_free(b, &s->encoder);
}

/* ---- the residual without the weakest codes -------------------------------------------------------------------- */

/* The codes of all rows of the reported sets in this shard. */
static void list_values(const mw_trainer *t, value_span spans[SETS_MAX]) {
    for (int s = 0; s < reported_sets(t); s++)
        spans[s] = (value_span){t->set[s].value, t->set[s].start[t->options.batch]};
}

/* Gathers the values of all shards, whose numbers find_dead_latents has summed. */
static mw_status gather_values(mw_trainer *t, dead_scratch *s, value_span *all) {
    mw_backend *b = t->backend;
    const int64_t *start = t->shard_entries, shards = t->sae->shard.count;
    int64_t at = start[shard_number(t->sae)];
    value_span spans[SETS_MAX];
    exchange e = exchange_of(t->sae->shard.peers, b);
    list_values(t, spans);
    LOCALLY(t, mw_backend_floats(b, start[shards], &s->values));
    for (int i = 0; i < reported_sets(t); at += spans[i++].entries)
        if (spans[i].entries)
            LOCALLY(t, b->ops->copy_2d(b, s->values + at, spans[i].entries, spans[i].value, spans[i].entries, 1,
                                       spans[i].entries));
    exchange_add(&e, &(exchanged){.data = s->values,
                                  .item = sizeof *s->values,
                                  .device = true,
                                  .share = {.ranks = (int)shards, .total = shards, .block = 1, .start = start}});
    t->local = exchange_run(&e, t->local);
    *all = (value_span){s->values, start[shards]};
    return lost(t->local);
}

/* Values of weak codes are below *level; 0: there are none. */
static mw_status find_weak_level(const mw_trainer *t, const value_span *spans, int n, float *level) {
    int64_t total = 0;
    kth_value weakest_kept = {0};
    for (int s = 0; s < n; s++) total += spans[s].entries;
    int64_t weak = (int64_t)(t->options.aux_weak * (double)total);
    if (weak > 0) MW_TRY(find_kth_value(NULL, MW_OK, t->backend, spans, n, total - weak, 0, &weakest_kept));
    *level = weakest_kept.value;
    return MW_OK;
}

/* error -= what the weak codes of a set reconstruct. */
static mw_status leave_out(mw_trainer *t, dead_scratch *s, const float *part) {
    return t->backend->ops->combine(t->backend, s->error, 1, s->error, -1, part, (t->end - t->begin) * t->sae->d_out);
}

/* Reconstructs the weak codes and leaves them out, with shards into s->left instead: this shard's share of them. `out`
 * [rows, d_out] is scratch. Collective over the shards. */
static mw_status reconstruct_weak(mw_trainer *t, dead_scratch *s, float level, float *out) {
    mw_backend *b = t->backend;
    const mw_filter weak = {.last = t->sae->n, .level = level, .below = true};
    int64_t rows = t->end - t->begin, count = rows * t->sae->d_out;
    LOCALLY(t, b->ops->combine(b, s->error, 1, t->error, 0, NULL, count));
    for (int i = 0; i < reported_sets(t); i++) {
        float *part = t->own_data ? s->left + i * count : out;
        LOCALLY(t, keep_codes(b, &t->set[i].mine, rows, &weak, &s->weak));
        t->local = shards_add(t->sae, t->local, NULL, &s->weak, rows, part);
        MW_TRY(lost(t->local));
        if (!t->own_data) LOCALLY(t, leave_out(t, s, part));
    }
    return MW_OK;
}

/* Collective over the shards, which all know of a failure before it and end here: they may have no memory. */
static mw_status find_weak_codes(mw_trainer *t, dead_scratch *s, float *out) {
    value_span spans[SETS_MAX];
    float level = 0;
    int n = t->own_data ? 1 : reported_sets(t);
    if (t->own_data)
        MW_TRY(gather_values(t, s, spans));
    else
        list_values(t, spans);
    if (t->own_data && t->local != MW_OK) return MW_OK;
    LOCALLY(t, find_weak_level(t, spans, n, &level));
    return reconstruct_weak(t, s, level, out);
}

/* ---- codes of dead latents --------------------------------------------------------------------------------------- */

/* The end of the dead latents from `first` on that are in the same block of latents; all that are left if the backend
 * promises nothing about single rows of a product. */
static int64_t end_of_run(const mw_trainer *t, int64_t first) {
    int64_t end = first + 1;
    if (!t->backend->ops->rows_stand_alone) return t->n_dead;
    while (end < t->n_dead && t->dead[end] / LATENT_BLOCK == t->dead[first] / LATENT_BLOCK) end++;
    return end;
}

/* One product for each block of latents: the number of columns and a latent's place among them can change how its sum
 * is rounded. A block is in one shard, so neither depends on the ranks. */
static mw_status multiply_dead(mw_trainer *t, dead_scratch *s, int64_t r, int64_t m) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d;
    for (int64_t i = 0, end; i < t->n_dead; i = end) {
        end = end_of_run(t, i);
        MW_TRY(b->ops->matmul(b, &(mw_matmul){.m = m,
                                              .n = end - i,
                                              .k = d,
                                              .a = t->input + (t->begin + r) * d,
                                              .lda = d,
                                              .b = s->weights + i * d,
                                              .b_dtype = MW_F32,
                                              .ldb = d,
                                              .b_transposed = true,
                                              .bias = s->bias + i,
                                              .c = s->pre + i,
                                              .ldc = t->n_dead}));
    }
    return MW_OK;
}

/* Selects candidates of rows r .. r + m. */
static mw_status encode_chunk(mw_trainer *t, dead_scratch *s, int64_t r, int64_t m) {
    MW_TRY(multiply_dead(t, s, r, m));
    return candidates_take(&s->own, s->pre, r, m, t->n_dead, t->silent);
}

/* With so many dead latents for each that is selected, dot products of a screen's candidates cost less than products,
 * whose values serve otherwise. All ranks decide alike, as the values round differently. */
static bool dead_are_screened(const mw_trainer *t) {
    enum { MANY = 8 };
    return t->all_dead > MANY * t->aux_k;
}

static mw_status screen_dead(mw_trainer *t, dead_scratch *s) {
    const encoder_choice choice = {.screen = t->options.screen, .rows = t->options.batch};
    int64_t n = t->n_dead, d = t->sae->d, dots = 0;
    encoder_choose(t->backend, &choice, false, &s->encoder);
    MW_TRY(encoder_copy(t->backend, s->weights, n, d, &s->encoder));
    const mw_screen screen = encoder_screen(&s->encoder, s->weights, s->bias, n, d);
    return candidates_find(&s->own, &screen, t->input + t->begin * d, t->silent, &dots);
}

static mw_status multiply_all_dead(mw_trainer *t, dead_scratch *s) {
    int64_t rows = t->end - t->begin;
    MW_TRY(mw_backend_floats(t->backend, s->chunk * t->n_dead, &s->pre));
    for (int64_t r = 0; r < rows; r += s->chunk)
        MW_TRY(encode_chunk(t, s, r, rows - r < s->chunk ? rows - r : s->chunk));
    return MW_OK;
}

/* A shard may have no dead latents. */
static mw_status encode_dead(mw_trainer *t, dead_scratch *s) {
    mw_backend *b = t->backend;
    if (t->n_dead == 0) return MW_OK;
    MW_TRY(b->ops->gather_rows(b, s->weights, t->sae->w_enc, MW_F32, t->dead, t->n_dead, t->sae->d, 1, false));
    MW_TRY(b->ops->gather_rows(b, s->bias, t->sae->b_enc, MW_F32, t->dead, t->n_dead, 1, 1, false));
    return dead_are_screened(t) ? screen_dead(t, s) : multiply_all_dead(t, s);
}

/* r_hat of this rank's rows, and the residual: what all shards reconstruct is exchanged at once. */
static mw_status reconstruct_residual(mw_trainer *t, dead_scratch *s, float *recon) {
    int64_t rows = t->end - t->begin;
    int n = t->own_data && t->options.aux_weak > 0 ? reported_sets(t) : 0;
    float *parts[SETS_MAX];
    LOCALLY(t, encode_dead(t, s));
    t->local = candidates_choose(t->sae, &s->own, t->aux_k, t->local, &t->aux.mine);
    MW_TRY(lost(t->local));
    t->local = shards_add(t->sae, t->local, NULL, &t->aux.mine, rows, recon);
    MW_TRY(lost(t->local));
    for (int i = 0; i < n; i++) parts[i] = s->left + i * rows * t->sae->d_out;
    parts[n] = recon;
    t->local = shards_spread(t->sae, t->local, parts, n + 1, rows);
    for (int i = 0; i < n; i++) LOCALLY(t, leave_out(t, s, parts[i]));
    return lost(t->local);
}

/* ---- error and gradients ----------------------------------------------------------------------------------------- */

/* Turns the reconstruction r_hat into r_hat - r, and sums its squares and those of the residual by tile. */
static mw_status aux_error(mw_trainer *t, const dead_scratch *s, float *recon) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out, count = (t->end - t->begin) * d;
    const float *error = s->error ? s->error : t->error;
    MW_TRY(b->ops->combine(b, recon, 1, recon, 1, error, count));
    MW_TRY(b->ops->square_sums(b, s->tiles + t->begin / MW_ROW_TILE, recon, count, MW_ROW_TILE * d, false));
    return s->error ? sum_spread_tiles(t, s->error) : MW_OK;
}

/* From the tiles of all ranks: the loss, and dL/dr_hat of this rank's rows. */
static mw_status aux_gradient(mw_trainer *t, dead_scratch *s, float *recon) {
    mw_backend *b = t->backend;
    int64_t tiles = batch_tiles(t);
    double total = 0, spread = 0;
    MW_TRY(b->ops->add_rows(b, s->tiles + tiles, s->tiles, tiles, 1, false));
    MW_TRY(b->ops->download(b, &total, s->tiles + tiles, sizeof total));
    if (s->error) MW_TRY(spread_over_rows(t, &spread));
    if (spread > 0) s->spread = spread;
    t->report.aux_loss = total / s->spread;
    float scale = (float)(2 * t->options.aux_coefficient / s->spread);
    return b->ops->combine(b, recon, scale, recon, 0, NULL, (t->end - t->begin) * t->sae->d_out);
}

static mw_status gather_residual(mw_trainer *t, dead_scratch *s, float *all) {
    exchange e = data_exchange(t);
    LOCALLY(t, aux_gradient(t, s, all + t->begin * t->sae->d_out));
    add_codes(t, &e, &t->aux);
    add_rows(t, &e, all, (size_t)t->sae->d_out * sizeof *all);
    MW_TRY(run_exchange(t, &e));
    LOCALLY(t, take_share(t, &t->aux));
    LOCALLY(t, dot_with_decoder(t, &t->aux, t->layout.n_recons));
    return MW_OK;
}

/* A set without codes, and sums of nothing. */
static mw_status select_none(mw_trainer *t) {
    MW_TRY(mw_codes_begin(&t->aux.mine, t->end - t->begin));
    memset(t->aux.mine.start, 0, (size_t)(t->end - t->begin + 1) * sizeof *t->aux.mine.start);
    return MW_OK;
}

static mw_status select_dead(mw_trainer *t, dead_scratch *s, float *recon) {
    LOCALLY(t, open_scratch(t, s));
    if (t->options.aux_weak > 0) MW_TRY(find_weak_codes(t, s, recon));
    MW_TRY(reconstruct_residual(t, s, recon));
    LOCALLY(t, aux_error(t, s, recon));
    return MW_OK;
}

static mw_status with_scratch(mw_trainer *t, dead_scratch *s, float *all) {
    exchange e = data_exchange(t);
    LOCALLY(t, mw_backend_zeros(t->backend, batch_tiles(t) + 1, sizeof *s->tiles, &s->tiles));
    if (t->aux_k > 0)
        MW_TRY(select_dead(t, s, all + t->begin * t->sae->d_out));
    else
        LOCALLY(t, select_none(t));
    add_counts(t, &e, &t->aux);
    add_tiles(t, &e, s->tiles, sizeof *s->tiles);
    if (t->options.aux_weak > 0) add_spread_tiles(t, &e);
    MW_TRY(run_exchange(t, &e));
    return t->local == MW_OK && t->aux_k > 0 ? gather_residual(t, s, all) : MW_OK;
}

static mw_status train_dead(mw_trainer *t) {
    dead_scratch s = {.chunk = mw_chunk_rows(t->backend->ops->host_memory, t->n_dead ? t->n_dead : 1),
                      .weak = {.memory = t->selection.memory},
                      .spread = t->batch.e_spread,
                      .own = candidates_of(t->backend, t->end - t->begin, t->aux_k)};
    mw_status status = with_scratch(t, &s, recon_of(t, t->layout.n_recons));
    free_scratch(t->backend, &s);
    return status;
}

/* Without shards a rank that has failed does not know whether there are dead latents: all exchange the number of codes
 * in any case, unless this rank is alone. */
mw_status auxk(mw_trainer *t) {
    if (t->options.aux_k == 0) return MW_OK;
    t->aux_k = t->options.aux_k < t->all_dead ? t->options.aux_k : t->all_dead;
    if (!(t->batch.e_spread > 0) || t->local != MW_OK) t->aux_k = 0;
    bool known = t->own_data || mw_comm_size(t->comm) == 1;
    return known && t->aux_k == 0 ? MW_OK : train_dead(t);
}
