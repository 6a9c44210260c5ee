/* AuxK (Gao et al. 2024, A.2): the k_aux largest pre-activations among dead latents reconstruct the residual r = y -
 * x_hat:
 *     alpha sum |r_hat - r|^2 / sum |r - mean r|^2,  r_hat = sum over selected dead latents of z_i W_dec,i.
 * The residual is detached, b_dec is no part of r_hat, live latents are left out rather than set to zero, and a latent
 * is dead if it is dead on all ranks. */
#include "sae/shards.h"

typedef struct dead_scratch {
    int64_t chunk;
    float *weights; /* [n_dead, d] */
    float *bias;    /* [n_dead] */
    float *pre;     /* [chunk, n_dead] */
    double *tiles;  /* [tiles], then their sum */
    candidates own; /* selected from this rank's shard */
} dead_scratch;

static mw_status open_scratch(const mw_trainer *t, dead_scratch *s) {
    mw_backend *b = t->backend;
    void *tiles = NULL;
    *s = (dead_scratch){.chunk = chunk_rows(b->ops->host_memory, t->n_dead ? t->n_dead : 1)};
    MW_TRY(mw_backend_floats(b, t->n_dead * t->sae->d, &s->weights));
    MW_TRY(mw_backend_floats(b, t->n_dead, &s->bias));
    MW_TRY(mw_backend_floats(b, s->chunk * t->n_dead, &s->pre));
    MW_TRY(b->ops->alloc(b, (size_t)(batch_tiles(t) + 1) * sizeof *s->tiles, &tiles));
    s->tiles = tiles;
    return candidates_make(b, t->end - t->begin, t->aux_k, &s->own);
}

static void free_scratch(mw_backend *b, dead_scratch *s) {
    void *all[] = {s->weights, s->bias, s->pre, s->tiles};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) b->ops->free(b, all[i]);
    candidates_free(&s->own);
}

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

/* A shard may have no dead latents. */
static mw_status encode_dead(mw_trainer *t, dead_scratch *s) {
    mw_backend *b = t->backend;
    int64_t rows = t->end - t->begin;
    if (t->n_dead == 0) return MW_OK;
    MW_TRY(b->ops->gather_rows(b, s->weights, t->sae->w_enc, MW_F32, t->dead, t->n_dead, t->sae->d, 1, false));
    MW_TRY(b->ops->gather_rows(b, s->bias, t->sae->b_enc, MW_F32, t->dead, t->n_dead, 1, 1, false));
    for (int64_t r = 0; r < rows; r += s->chunk)
        MW_TRY(encode_chunk(t, s, r, rows - r < s->chunk ? rows - r : s->chunk));
    return MW_OK;
}

static mw_status reconstruct_dead(mw_trainer *t, dead_scratch *s, float *recon) {
    MW_TRY(candidates_choose(t->sae, &s->own, t->aux_k, encode_dead(t, s), &t->aux.mine));
    return shards_decode(t->sae, NULL, &t->aux.mine, recon);
}

/* Turns the reconstruction r_hat into dL/dr_hat, and sums the squared error of this rank's rows by tile. */
static mw_status aux_error(mw_trainer *t, float *recon, double spread, double *tiles) {
    mw_backend *b = t->backend;
    int64_t d = t->sae->d_out, count = (t->end - t->begin) * d;
    float scale = (float)(2 * t->options.aux_coefficient / spread);
    MW_TRY(b->ops->combine(b, recon, 1, recon, 1, t->error, count)); /* r_hat - r = r_hat + (x_hat - y) */
    MW_TRY(b->ops->square_sums(b, tiles + t->begin / MW_ROW_TILE, recon, count, MW_ROW_TILE * d, false));
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

static mw_status with_scratch(mw_trainer *t, dead_scratch *s, double spread, float *all) {
    float *recon = all + t->begin * t->sae->d_out;
    double total = 0;
    MW_TRY(mw_comm_agree(t->comm, reconstruct_dead(t, s, recon)));
    MW_TRY(gather_codes(t, &t->aux));
    MW_TRY(mw_comm_agree(t->comm, aux_error(t, recon, spread, s->tiles)));
    MW_TRY(sum_errors(t, s->tiles, &total));
    MW_TRY(mw_comm_agree(t->comm, dot_with_decoder(t, &t->aux, t->layout.n_recons)));
    MW_TRY(gather_code_grads(t, &t->aux));
    t->report.aux_loss = total / spread;
    return gather_rows_of(t, all, (size_t)t->sae->d_out * sizeof(float));
}

static mw_status reconstruct_residual(mw_trainer *t, double spread) {
    dead_scratch s;
    mw_status status = mw_comm_agree(t->comm, open_scratch(t, &s));
    if (status == MW_OK) status = with_scratch(t, &s, spread, recon_of(t, t->layout.n_recons));
    free_scratch(t->backend, &s);
    return status;
}

mw_status auxk(mw_trainer *t) {
    double spread = t->batch.e_spread;
    t->aux_k = t->options.aux_k < t->all_dead ? t->options.aux_k : t->all_dead;
    if (!(spread > 0)) t->aux_k = 0;
    return t->aux_k > 0 ? reconstruct_residual(t, spread) : MW_OK;
}
