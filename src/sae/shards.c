/* Sharded dictionaries: assignment of latents and rows to ranks, selection among all shards, reconstruction. */
#include "comm/exchange.h"
#include "sae/shards.h"

#include <string.h>

/* ---- assignment ---------------------------------------------------------------------------------------- */

mw_status mw_sae_check_shards(const mw_sae_shape *shape, int ranks, int64_t shards) {
    int64_t n = shape->n, blocks = (n + LATENT_BLOCK - 1) / LATENT_BLOCK;
    if (shards < 1 || shards > ranks || ranks % shards != 0)
        return mw_error(MW_ERR_CONFIG, "train.shards = %lld with %d %s: expected a divisor of the number of ranks",
                        (long long)shards, ranks, ranks == 1 ? "rank" : "ranks");
    if (shards > blocks)
        return mw_error(MW_ERR_CONFIG, "train.shards = %lld of %lld latents: expected at most %lld, each of %d or more",
                        (long long)shards, (long long)n, (long long)blocks, LATENT_BLOCK);
    return MW_OK;
}

void shard_assign(mw_sae *sae, int rank, int ranks, int64_t shards) {
    int group = (int)(ranks / shards), first = rank / group * group;
    int64_t begin, end, unused;
    mw_comm_share(first, ranks, sae->n, LATENT_BLOCK, &begin, &unused);
    mw_comm_share(first + group - 1, ranks, sae->n, LATENT_BLOCK, &unused, &end);
    sae->shard = (mw_shard){.first = begin, .total = sae->n, .count = shards};
    sae->n = end - begin;
}

int64_t shards_of(const mw_train_options *options) {
    return options->shards > 1 ? options->shards : 1;
}

void shard_rows(const mw_sae *sae, int rank, int ranks, int64_t batch, int64_t *begin, int64_t *end) {
    int group = (int)(ranks / sae->shard.count);
    mw_comm_share(rank % group, group, batch, MW_ROW_TILE, begin, end);
}

int shard_number(const mw_sae *sae) {
    return sae->shard.peers ? mw_comm_rank(sae->shard.peers) : 0;
}

mw_status shard_agree(const mw_sae *sae, mw_status local) {
    return sae->shard.peers ? mw_comm_agree(sae->shard.peers, local) : local;
}

/* ---- selection ----------------------------------------------------------------------------------------------- */

candidates candidates_of(mw_backend *b, int64_t rows, int64_t width) {
    return (candidates){.backend = b, .rows = rows, .width = width};
}

mw_status candidates_make(mw_backend *b, int64_t rows, int64_t width, candidates *out) {
    *out = candidates_of(b, rows, width);
    MW_TRY(mw_backend_zeros(b, rows * width, sizeof *out->index, &out->index));
    return mw_backend_zeros(b, rows * width, sizeof *out->value, &out->value);
}

void candidates_free(candidates *c) {
    if (c->index) c->backend->ops->free(c->backend, c->index);
    if (c->value) c->backend->ops->free(c->backend, c->value);
    *c = (candidates){0};
}

/* Finds the k largest of each row; columns become latents. */
static mw_status find_top(mw_backend *b, const float *pre, int64_t rows, int64_t n, const int32_t *table, int64_t k,
                          int32_t *index, float *value) {
    MW_TRY(b->ops->top_k(b, pre, rows, n, k, index, value));
    return table ? b->ops->pick(b, index, table, 0, rows, k) : MW_OK;
}

/* For a shard with fewer latents than candidates: `found` has all of them, the rest of each row stays 0. */
static mw_status spread_fewer(candidates *c, const candidates *found, int64_t first) {
    mw_backend *b = c->backend;
    int64_t at = first * c->width;
    MW_TRY(copy_latents(b, c->index + at, c->width, found->index, found->rows, found->width));
    return b->ops->copy_2d(b, c->value + at, c->width, found->value, found->width, found->rows, found->width);
}

static mw_status take_fewer(candidates *c, const float *pre, int64_t first, int64_t rows, int64_t n,
                            const int32_t *table) {
    candidates found = {0};
    mw_status status = candidates_make(c->backend, rows, n, &found);
    if (status == MW_OK) status = find_top(c->backend, pre, rows, n, table, n, found.index, found.value);
    if (status == MW_OK) status = spread_fewer(c, &found, first);
    candidates_free(&found);
    return status;
}

mw_status candidates_take(candidates *c, const float *pre, int64_t first, int64_t rows, int64_t n,
                          const int32_t *table) {
    int64_t at = first * c->width;
    if (n < c->width) return take_fewer(c, pre, first, rows, n, table);
    return find_top(c->backend, pre, rows, n, table, c->width, c->index + at, c->value + at);
}

/* The k largest of each row; latents are those of the table. */
static mw_status find_by_screen(const mw_screen *screen, const float *x, const int32_t *table, candidates *out,
                                int64_t *dots) {
    mw_backend *b = out->backend;
    MW_TRY(b->ops->screen_top_k(b, screen, x, out->rows, out->width, out->index, out->value, dots));
    return table ? b->ops->pick(b, out->index, table, 0, out->rows, out->width) : MW_OK;
}

mw_status candidates_find(candidates *c, const mw_screen *screen, const float *x, const int32_t *table, int64_t *dots) {
    candidates found = {0};
    if (screen->n >= c->width) return find_by_screen(screen, x, table, c, dots);
    mw_status status = candidates_make(c->backend, c->rows, screen->n, &found);
    if (status == MW_OK) status = find_by_screen(screen, x, table, &found, dots);
    if (status == MW_OK) status = spread_fewer(c, &found, 0);
    candidates_free(&found);
    return status;
}

/* Scratch of a selection among all shards, for a chunk of `rows` rows. */
typedef struct choice {
    int64_t rows;
    float *gathered; /* [shards, rows, width] */
    float *side;     /* [rows, shards * width] the candidates of all shards, row by row */
    candidates best; /* [rows, k] */
} choice;

/* The peers have the same rows and width, hence the same chunks. Each is a message: few are better than small ones. */
static int64_t choice_rows(const mw_sae *sae, const candidates *c) {
    enum { VALUES = 1 << 20 };
    int64_t wide = sae->shard.count * c->width, rows = mw_chunk_rows(c->backend->ops->host_memory, wide);
    if (rows < VALUES / wide) rows = VALUES / wide;
    return rows < c->rows ? rows : c->rows;
}

static mw_status choice_open(const mw_sae *sae, const candidates *c, int64_t k, choice *out) {
    int64_t wide = sae->shard.count * c->width;
    MW_TRY(mw_backend_floats(c->backend, out->rows * wide, &out->gathered));
    MW_TRY(mw_backend_floats(c->backend, out->rows * wide, &out->side));
    return candidates_make(c->backend, out->rows, k, &out->best);
}

static void choice_close(mw_backend *b, choice *s) {
    if (s->gathered) b->ops->free(b, s->gathered);
    if (s->side) b->ops->free(b, s->side);
    candidates_free(&s->best);
}

/* Selects in rows first .. first + rows, whose values are gathered. Columns are in the order of the shards and so of
 * the latents: of equal values the lower latent wins, as on one rank. */
static mw_status choose(const mw_sae *sae, const candidates *c, choice *s, int64_t first, int64_t rows, mw_codes *out) {
    mw_backend *b = c->backend;
    int64_t wide = sae->shard.count * c->width, k = s->best.width;
    for (int64_t i = 0; i < sae->shard.count; i++)
        MW_TRY(b->ops->copy_2d(b, s->side + i * c->width, wide, s->gathered + i * rows * c->width, c->width, rows,
                               c->width));
    MW_TRY(b->ops->top_k(b, s->side, rows, wide, k, s->best.index, s->best.value));
    MW_TRY(b->ops->pick_own(b, s->best.index, s->best.value, c->index + first * c->width, shard_number(sae) * c->width,
                            c->width, rows, k));
    return append_positive(b, out, first, rows, k, s->best.index, s->best.value);
}

/* Gathers the values of m rows from `first` on. */
static mw_status gather_values(const mw_sae *sae, mw_status local, const candidates *c, choice *s, int64_t first,
                               int64_t m) {
    mw_backend *b = c->backend;
    exchange e = exchange_of(sae->shard.peers, b);
    exchange_add(&e, &(exchanged){.data = s->gathered,
                                  .item = (size_t)(m * c->width) * sizeof *s->gathered,
                                  .device = true,
                                  .share = {.ranks = (int)sae->shard.count, .total = sae->shard.count, .block = 1}});
    if (local == MW_OK)
        local = b->ops->copy_2d(b, s->gathered + shard_number(sae) * m * c->width, c->width,
                                c->value + first * c->width, c->width, m, c->width);
    return exchange_run(&e, local);
}

static mw_status choose_chunks(const mw_sae *sae, const candidates *c, choice *s, mw_status local, mw_codes *out) {
    if (local == MW_OK) local = mw_codes_begin(out, c->rows);
    for (int64_t r = 0, m; r < c->rows; r += m) {
        m = c->rows - r < s->rows ? c->rows - r : s->rows;
        MW_TRY(gather_values(sae, local, c, s, r, m));
        local = choose(sae, c, s, r, m, out);
    }
    return local;
}

/* Selection without shards; `best` is scratch. */
static mw_status choose_local(const candidates *c, int64_t k, candidates *best, mw_codes *out) {
    mw_backend *b = c->backend;
    MW_TRY(mw_codes_begin(out, c->rows));
    if (k == c->width) return append_positive(b, out, 0, c->rows, k, c->index, c->value);
    MW_TRY(candidates_make(b, c->rows, k, best));
    MW_TRY(b->ops->top_k(b, c->value, c->rows, c->width, k, best->index, best->value));
    MW_TRY(b->ops->pick(b, best->index, c->index, c->width, c->rows, k));
    return append_positive(b, out, 0, c->rows, k, best->index, best->value);
}

static mw_status choose_unsharded(const candidates *c, int64_t k, mw_codes *out) {
    candidates best = {0};
    mw_status status = choose_local(c, k, &best, out);
    candidates_free(&best);
    return status;
}

mw_status candidates_choose(const mw_sae *sae, const candidates *c, int64_t k, mw_status ready, mw_codes *out) {
    if (!sae->shard.peers) return ready == MW_OK ? choose_unsharded(c, k, out) : ready;
    choice s = {.rows = choice_rows(sae, c)};
    if (ready == MW_OK) ready = choice_open(sae, c, k, &s);
    ready = choose_chunks(sae, c, &s, ready, out);
    choice_close(sae->backend, &s);
    return ready;
}

/* ---- reconstruction -------------------------------------------------------------------------------------------- */

/* Rows of a piece of the chain: while one shard adds to a piece, the next adds to the piece before. */
enum { PIECES = 8 };
static int64_t piece_rows(int64_t rows) {
    return (rows / PIECES + MW_ROW_TILE) / MW_ROW_TILE * MW_ROW_TILE;
}

/* A chain in host memory receives all pieces from its start on and sends beside its work; on devices, whose transfers
 * are in the order of their other work anyway, piece by piece. */
typedef struct chain {
    const mw_sae *sae;
    int at, last; /* this shard; the last */
    bool beside;
    int64_t rows;
    float *out; /* [rows, d_out] */
} chain;

static chain chain_of(const mw_sae *sae, int64_t rows, float *out) {
    return (chain){.sae = sae,
                   .at = shard_number(sae),
                   .last = (int)sae->shard.count - 1,
                   .beside = sae->backend->ops->host_memory,
                   .rows = rows,
                   .out = out};
}

static int64_t rows_of_piece(const chain *c, int64_t first) {
    int64_t rows = piece_rows(c->rows);
    return c->rows - first < rows ? c->rows - first : rows;
}

static float *piece_at(const chain *c, int64_t first, size_t *bytes) {
    *bytes = (size_t)(rows_of_piece(c, first) * c->sae->d_out) * sizeof *c->out;
    return c->out + first * c->sae->d_out;
}

static int number_of_piece(const chain *c, int64_t first) {
    return (int)(first / piece_rows(c->rows));
}

static mw_status begin_chain(const chain *c) {
    for (int64_t r = 0; c->beside && c->at > 0 && r < c->rows; r += piece_rows(c->rows)) {
        size_t bytes;
        float *piece = piece_at(c, r, &bytes);
        MW_TRY(mw_comm_begin_receive(c->sae->shard.peers, piece, bytes, c->at - 1, number_of_piece(c, r)));
    }
    return MW_OK;
}

static mw_status take_piece(const chain *c, int64_t first) {
    const mw_comm *peers = c->sae->shard.peers;
    size_t bytes;
    float *piece = piece_at(c, first, &bytes);
    if (c->at == 0) return MW_OK;
    return c->beside ? mw_comm_end_transfer(peers, number_of_piece(c, first))
                     : mw_comm_receive_device(peers, c->sae->backend, piece, bytes, c->at - 1);
}

static mw_status pass_piece(const chain *c, int64_t first) {
    const mw_comm *peers = c->sae->shard.peers;
    size_t bytes;
    float *piece = piece_at(c, first, &bytes);
    if (c->at == c->last) return MW_OK;
    return c->beside ? mw_comm_begin_send(peers, piece, bytes, c->at + 1, number_of_piece(c, first))
                     : mw_comm_send_device(peers, c->sae->backend, piece, bytes, c->at + 1);
}

static mw_status end_chain(const chain *c) {
    for (int64_t r = 0; c->beside && r < c->rows; r += piece_rows(c->rows))
        MW_TRY(mw_comm_end_transfer(c->sae->shard.peers, number_of_piece(c, r)));
    return MW_OK;
}

/* Returns the loss of another rank at once; records any other error in `local` and continues to serve the chain. */
static mw_status keep_first_error(mw_status status, mw_status *local) {
    if (status == MW_ERR_COMM) return status;
    if (*local == MW_OK) *local = status;
    return MW_OK;
}

static mw_status add_in_chain(const mw_sae *sae, mw_status local, const float *bias, const mw_codes *codes,
                              int64_t rows, float *out) {
    const chain c = chain_of(sae, rows, out);
    MW_TRY(begin_chain(&c));
    for (int64_t r = 0, m; r < rows; r += m) {
        m = rows_of_piece(&c, r);
        MW_TRY(keep_first_error(take_piece(&c, r), &local));
        if (local == MW_OK)
            local =
                sae->backend->ops->sparse_decode(sae->backend, out + r * sae->d_out, bias, c.at > 0, codes->start + r,
                                                 codes->index, codes->value, m, sae->w_dec, sae->d_out);
        MW_TRY(keep_first_error(pass_piece(&c, r), &local));
    }
    MW_TRY(end_chain(&c));
    return local;
}

mw_status shards_add(const mw_sae *sae, mw_status ready, const float *bias, const mw_codes *codes, int64_t rows,
                     float *out) {
    mw_backend *b = sae->backend;
    if (sae->shard.peers) return add_in_chain(sae, ready, bias, codes, rows, out);
    MW_TRY(ready);
    return b->ops->sparse_decode(b, out, bias, false, codes->start, codes->index, codes->value, rows, sae->w_dec,
                                 sae->d_out);
}

mw_status shards_spread(const mw_sae *sae, mw_status ready, float *const *out, int n, int64_t rows) {
    if (!sae->shard.peers) return ready;
    exchange e = exchange_of(sae->shard.peers, sae->backend);
    for (int i = 0; i < n; i++)
        exchange_add(&e, &(exchanged){.data = out[i],
                                      .item = (size_t)sae->d_out * sizeof **out,
                                      .device = true,
                                      .share = {.one = true, .first = (int)sae->shard.count - 1, .total = rows}});
    return exchange_run(&e, ready);
}

mw_status shards_decode(const mw_sae *sae, const float *bias, const mw_codes *codes, float *out) {
    mw_status status = shards_add(sae, MW_OK, bias, codes, codes->rows, out);
    return shards_spread(sae, status, &out, 1, codes->rows);
}
