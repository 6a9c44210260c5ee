/* AuxK (Gao et al. 2024, A.2): the k_aux largest pre-activations among dead latents reconstruct a residual r:
 *     alpha sum |r_hat - r|^2 / sum |r - mean r|^2,  r_hat = sum over selected dead latents of z_i W_dec,i.
 * As published r = y - x_hat. With options.aux_weak, x_hat is that of the batch's codes without the weakest: these are
 * what a dead latent must exceed to be selected, so it learns what they reconstruct too. The residual is detached,
 * b_dec is no part of r_hat, live latents are left out rather than set to zero, and a latent is dead if it is dead on
 * all ranks. */
#include "sae/shards.h"

typedef struct dead_scratch {
    int64_t chunk;
    float *weights;     /* [n_dead, d] */
    float *bias;        /* [n_dead] */
    float *pre;         /* [chunk, n_dead]; NULL with a screen */
    mw_encoder encoder; /* of a screen */
    double *tiles;      /* [tiles], then their sum */
    float *error;       /* [rows, d_out] -r of this rank's rows; NULL: t->error, as no codes are left out */
    mw_codes weak;
    double spread;  /* sum |r - mean r|^2 over all rows */
    candidates own; /* selected from this rank's shard */
} dead_scratch;

static mw_status open_scratch(const mw_trainer *t, dead_scratch *s) {
    mw_backend *b = t->backend;
    void *tiles = NULL;
    *s = (dead_scratch){.chunk = mw_chunk_rows(b->ops->host_memory, t->n_dead ? t->n_dead : 1),
                        .weak = {.memory = t->selection.memory},
                        .spread = t->batch.e_spread};
    MW_TRY(mw_backend_floats(b, t->n_dead * t->sae->d, &s->weights));
    MW_TRY(mw_backend_floats(b, t->n_dead, &s->bias));
    MW_TRY(b->ops->alloc(b, (size_t)(batch_tiles(t) + 1) * sizeof *s->tiles, &tiles));
    s->tiles = tiles;
    return candidates_make(b, t->end - t->begin, t->aux_k, &s->own);
}

static void free_scratch(mw_backend *b, dead_scratch *s) {
    void *all[] = {s->weights, s->bias, s->pre, s->tiles, s->error};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) b->ops->free(b, all[i]);
    mw_codes_free(&s->weak);
    candidates_free(&s->own);
    encoder_free(b, &s->encoder);
}

/* ---- the residual without the weakest codes -------------------------------------------------------------------- */

/* The sets of the reported reconstruction. */
static int reported_sets(const mw_trainer *t) {
    return t->layout.nested ? t->layout.n_sets : 1;
}

/* Values of weak codes are below *level; 0: there are none. */
static mw_status find_weak_level(const mw_trainer *t, float *level) {
    value_span spans[SETS_MAX];
    int64_t total = 0;
    kth_value weakest_kept = {0};
    for (int s = 0; s < reported_sets(t); s++) {
        const mw_codes *c = &t->set[s].mine;
        spans[s] = (value_span){c->value, c->start[c->rows]};
        total += spans[s].entries;
    }
    MW_TRY(mw_comm_allreduce_sum(t->comm, &total, 1));
    int64_t weak = (int64_t)(t->options.aux_weak * (double)total);
    if (weak > 0)
        MW_TRY(find_kth_value(t->comm, t->backend, spans, reported_sets(t), total, total - weak, &weakest_kept));
    *level = weakest_kept.value;
    return MW_OK;
}

/* error -= what the weak codes of a set reconstruct; `out` [rows, d_out] is scratch. Collective over the shards. */
static mw_status leave_out(mw_trainer *t, dead_scratch *s, const mw_codes *codes, float level, float *out) {
    mw_backend *b = t->backend;
    const mw_filter weak = {.last = t->sae->n, .level = level, .below = true};
    MW_TRY(shard_agree(t->sae, keep_codes(b, codes, codes->rows, &weak, &s->weak)));
    MW_TRY(shards_decode(t->sae, NULL, &s->weak, out));
    return b->ops->combine(b, s->error, 1, s->error, -1, out, (t->end - t->begin) * t->sae->d_out);
}

static mw_status copy_error(const mw_trainer *t, dead_scratch *s) {
    int64_t count = (t->end - t->begin) * t->sae->d_out;
    MW_TRY(mw_backend_floats(t->backend, count, &s->error));
    return t->backend->ops->combine(t->backend, s->error, 1, t->error, 0, NULL, count);
}

/* Collective. */
static mw_status leave_weak_codes_out(mw_trainer *t, dead_scratch *s, float *out) {
    float level = 0;
    if (t->options.aux_weak > 0) MW_TRY(find_weak_level(t, &level));
    if (!(level > 0)) return MW_OK;
    mw_status status = mw_comm_agree(t->comm, copy_error(t, s));
    for (int i = 0; i < reported_sets(t) && status == MW_OK; i++)
        status = shard_agree(t->sae, leave_out(t, s, &t->set[i].mine, level, out));
    MW_TRY(mw_comm_agree(t->comm, status));
    double spread = 0;
    MW_TRY(spread_over_rows(t, s->error, &spread));
    if (spread > 0) s->spread = spread;
    return MW_OK;
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

static mw_status reconstruct_dead(mw_trainer *t, dead_scratch *s, float *recon) {
    MW_TRY(candidates_choose(t->sae, &s->own, t->aux_k, encode_dead(t, s), &t->aux.mine));
    return shards_decode(t->sae, NULL, &t->aux.mine, recon);
}

/* ---- error and gradients ----------------------------------------------------------------------------------------- */

/* Turns the reconstruction r_hat into dL/dr_hat, and sums the squared error of this rank's rows by tile. */
static mw_status aux_error(mw_trainer *t, const dead_scratch *s, float *recon) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out, count = (t->end - t->begin) * d;
    float scale = (float)(2 * t->options.aux_coefficient / s->spread);
    const float *error = s->error ? s->error : t->error;
    MW_TRY(b->ops->combine(b, recon, 1, recon, 1, error, count)); /* r_hat - r */
    MW_TRY(b->ops->square_sums(b, s->tiles + t->begin / MW_ROW_TILE, recon, count, MW_ROW_TILE * d, false));
    return b->ops->combine(b, recon, scale, recon, 0, NULL, count);
}

static mw_status sum_errors(mw_trainer *t, double *tiles, double *sum) {
    mw_backend *b = t->backend;
    int64_t count = batch_tiles(t);
    MW_TRY(gather_tiles(t, tiles, sizeof *tiles));
    mw_status status = b->ops->add_rows(b, tiles + count, tiles, count, 1, false);
    if (status == MW_OK) status = b->ops->download(b, sum, tiles + count, sizeof *sum);
    return mw_comm_agree(t->comm, status);
}

static mw_status with_scratch(mw_trainer *t, dead_scratch *s, float *all) {
    float *recon = all + t->begin * t->sae->d_out;
    double total = 0;
    MW_TRY(leave_weak_codes_out(t, s, recon));
    MW_TRY(mw_comm_agree(t->comm, reconstruct_dead(t, s, recon)));
    MW_TRY(gather_codes(t, &t->aux));
    MW_TRY(mw_comm_agree(t->comm, aux_error(t, s, recon)));
    MW_TRY(sum_errors(t, s->tiles, &total));
    MW_TRY(mw_comm_agree(t->comm, dot_with_decoder(t, &t->aux, t->layout.n_recons)));
    MW_TRY(gather_code_grads(t, &t->aux));
    t->report.aux_loss = total / s->spread;
    return gather_rows_of(t, all, (size_t)t->sae->d_out * sizeof(float));
}

static mw_status reconstruct_residual(mw_trainer *t) {
    dead_scratch s;
    mw_status status = mw_comm_agree(t->comm, open_scratch(t, &s));
    if (status == MW_OK) status = with_scratch(t, &s, recon_of(t, t->layout.n_recons));
    free_scratch(t->backend, &s);
    return status;
}

mw_status auxk(mw_trainer *t) {
    t->aux_k = t->options.aux_k < t->all_dead ? t->options.aux_k : t->all_dead;
    if (!(t->batch.e_spread > 0)) t->aux_k = 0;
    return t->aux_k > 0 ? reconstruct_residual(t) : MW_OK;
}
