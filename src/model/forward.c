/* The forward pass, one for all families: mw_architecture holds the differences. */
#include "model/model_private.h"

#include <string.h>

/* One pass over one batch. */
typedef struct pass {
    mw_model *model;
    mw_backend *backend;
    const mw_batch *batch;
    int64_t rows, last_order;
    bool logits_wanted, stopped;
    int32_t *position, *sequence;        /* [rows] */
    int64_t *first_row, *q_len, *kv_len; /* [n_seq] */
    const float **k_of, **v_of;          /* [n_seq] */
    bool h_rounded;                      /* work.h has numbers rounded to bf16 */
} pass;

/* Returns whether no later site than `site`, nor logits, are needed. */
static bool finished(const pass *p, mw_site site) {
    return p->stopped || (!p->logits_wanted && mw_site_order(site) >= p->last_order);
}

static mw_status fire_rows(pass *p, mw_site site, float *x, int64_t width, int64_t row, int64_t rows) {
    if (!mw_hooks_wanted(p->model->hooks, site)) return MW_OK;
    mw_hook_event event = {.site = site,
                           .backend = p->backend,
                           .x = mw_tensor_2d(MW_F32, x, rows, width),
                           .token = p->batch->ids + row,
                           .position = p->position + row,
                           .sequence = p->sequence + row};
    mw_status status = mw_hooks_fire(p->model->hooks, &event);
    if (status == MW_STOP) {
        p->stopped = true;
        return MW_OK;
    }
    return status;
}

static mw_status fire(pass *p, int64_t layer, mw_site_kind kind, float *x) {
    mw_site site = {(int)layer, kind};
    return fire_rows(p, site, x, mw_model_site_width(p->model, site), 0, p->rows);
}

/* Multiplies rows by a weight; the caller gives the rows, C and the epilogue. */
static mw_status multiply_as(pass *p, const mw_weight *w, mw_matmul t) {
    t.n = t.ldc = w->out;
    t.k = t.lda = w->in;
    t.b = w->data;
    t.b_dtype = w->dtype;
    t.ldb = w->ld;
    t.b_transposed = w->transposed;
    t.bias = w->bias;
    t.packed = w->packed;
    return p->backend->ops->matmul(p->backend, &t);
}

static mw_status multiply(pass *p, const mw_weight *w, const float *x, float *y, int64_t rows) {
    return multiply_as(p, w, (mw_matmul){.m = rows, .a = x, .c = y});
}

static const mw_norm none;

/* Returns whether only products read the rows at a site of a layer, and round them to bf16. */
static bool is_read_rounded(const pass *p, int64_t l, mw_site_kind kind) {
    return p->model->work.rounded && !mw_hooks_wanted(p->model->hooks, (mw_site){(int)l, kind});
}

/* Normalizes `rows` vectors of `width` to y or, where it is not NULL, `rounded`. */
static mw_status apply_norm(pass *p, const mw_norm *norm, const float *x, float *y, uint16_t *rounded, int64_t rows,
                            int64_t width) {
    const mw_architecture *a = &p->model->arch;
    float eps = (float)a->eps;
    if (a->family->norm.kind == NORM_RMS)
        return p->backend->ops->rms_norm(p->backend, y, rounded, x, norm->weight, rows, width, eps);
    return p->backend->ops->layer_norm(p->backend, y, rounded, x, norm->weight, norm->bias, rows, width, eps);
}

/* Normalizes `rows` vectors of `width`; copies them where there is no norm. */
static mw_status normalize(pass *p, const mw_norm *norm, const float *x, float *y, int64_t rows, int64_t width) {
    if (norm->weight) return apply_norm(p, norm, x, y, NULL, rows, width);
    return p->backend->ops->copy_2d(p->backend, y, width, x, width, rows, width);
}

/* Normalizes the stream to work.h, the input of attention or of the MLP. */
static mw_status normalize_stream(pass *p, int64_t l, mw_site_kind site, const mw_norm *norm, const float *stream) {
    float *h = p->model->work.h;
    int64_t d = p->model->arch.d_model;
    if (p->model->arch.norms_last) norm = &none;
    p->h_rounded = norm->weight && is_read_rounded(p, l, site);
    if (p->h_rounded) return apply_norm(p, norm, stream, NULL, (uint16_t *)h, p->rows, d);
    MW_TRY(normalize(p, norm, stream, h, p->rows, d));
    return fire(p, l, site, h);
}

/* Multiplies work.h by a weight. */
static mw_status multiply_h(pass *p, const mw_weight *w, float *y, const mw_epilogue *epilogue) {
    mw_matmul t = {.m = p->rows, .c = y, .epilogue = epilogue};
    if (p->h_rounded)
        t.a_bf16 = (const uint16_t *)p->model->work.h;
    else
        t.a = p->model->work.h;
    return multiply_as(p, w, t);
}

/* Multiplies by a matrix of groups and separates q, k and v of each group. */
static mw_status split_groups(pass *p, const mw_weight *qkv) {
    const mw_architecture *a = &p->model->arch;
    mw_workspace *w = &p->model->work;
    int64_t q = a->n_heads * a->head_dim, kv = a->n_kv_heads * a->head_dim, groups = a->qkv_groups;
    struct {
        float *to;
        int64_t stride;
    } parts[] = {{w->q, q}, {w->k, kv}, {w->v, kv}};
    static const int usual[] = {0, 1, 2}, quarters[] = {0, 2, 1};
    const int *order = a->family->attention.qkv == QKV_QUARTERS ? quarters : usual;
    MW_TRY(multiply_h(p, qkv, w->qkv, NULL));
    int64_t from = 0;
    for (int64_t g = 0; g < groups; g++)
        for (int i = 0; i < 3; i++) {
            int64_t stride = parts[order[i]].stride, width = stride / groups;
            MW_TRY(p->backend->ops->copy_2d(p->backend, parts[order[i]].to + g * width, stride, w->qkv + from, qkv->out,
                                            p->rows, width));
            from += width;
        }
    return MW_OK;
}

static mw_status project(pass *p, int64_t l) {
    const mw_layer *layer = &p->model->layers[l];
    mw_workspace *w = &p->model->work;
    if (layer->qkv.data) {
        MW_TRY(split_groups(p, &layer->qkv));
    } else {
        MW_TRY(multiply_h(p, &layer->q, w->q, NULL));
        MW_TRY(multiply_h(p, &layer->k, w->k, NULL));
        MW_TRY(multiply_h(p, &layer->v, w->v, NULL));
    }
    MW_TRY(fire(p, l, MW_ATTN_Q, w->q));
    MW_TRY(fire(p, l, MW_ATTN_K, w->k));
    return fire(p, l, MW_ATTN_V, w->v);
}

/* Normalizes queries or keys x [rows, heads * head_dim], in place. */
static mw_status normalize_heads(pass *p, const mw_norm *norm, float *x, int64_t heads) {
    const mw_architecture *a = &p->model->arch;
    mw_qk_norm kind = a->family->attention.qk_norm;
    int64_t width = heads * a->head_dim;
    if (!norm->weight) return MW_OK;
    if (kind == QK_NORM_WIDTH) return normalize(p, norm, x, x, p->rows, width);
    if (kind == QK_NORM_HEAD) return normalize(p, norm, x, x, p->rows * heads, a->head_dim);
    MW_TRY(normalize(p, &(mw_norm){.weight = p->model->ones}, x, x, p->rows * heads, a->head_dim));
    return p->backend->ops->scale_columns(p->backend, x, x, norm->weight, p->rows, width);
}

static mw_status normalize_queries_and_keys(pass *p, int64_t l) {
    const mw_architecture *a = &p->model->arch;
    const mw_layer *layer = &p->model->layers[l];
    MW_TRY(normalize_heads(p, &layer->q_norm, p->model->work.q, a->n_heads));
    return normalize_heads(p, &layer->k_norm, p->model->work.k, a->n_kv_heads);
}

/* Rotates the rows of neighbouring sequences that share a table. */
static mw_status rotate_run(pass *p, const float *table, int64_t row, int64_t rows) {
    const mw_architecture *a = &p->model->arch;
    mw_workspace *w = &p->model->work;
    const mw_backend_ops *ops = p->backend->ops;
    int64_t d = a->head_dim, q = a->n_heads * d, kv = a->n_kv_heads * d;
    bool interleaved = a->family->rope.interleaved;
    const float *queries = mw_rope_queries(p->model);
    MW_TRY(ops->rotary(p->backend, w->q + row * q, queries ? queries : table, p->position + row, rows, a->n_heads, d,
                       a->rotary_pairs, interleaved));
    return ops->rotary(p->backend, w->k + row * kv, table, p->position + row, rows, a->n_kv_heads, d, a->rotary_pairs,
                       interleaved);
}

static mw_status rotate(pass *p, int64_t l) {
    const mw_architecture *a = &p->model->arch;
    if (!a->rotary_pairs || a->no_rope[l]) return MW_OK;
    for (int64_t s = 0, end; s < p->batch->n_seq; s = end) {
        const float *table = mw_rope_table(p->model, l, p->kv_len[s]);
        int64_t rows = p->q_len[s];
        for (end = s + 1; end < p->batch->n_seq && mw_rope_table(p->model, l, p->kv_len[end]) == table; end++)
            rows += p->q_len[end];
        if (rows) MW_TRY(rotate_run(p, table, p->first_row[s], rows));
    }
    return MW_OK;
}

static mw_status clip(pass *p) {
    const mw_architecture *a = &p->model->arch;
    mw_workspace *w = &p->model->work;
    int64_t q = p->rows * a->n_heads * a->head_dim, kv = p->rows * a->n_kv_heads * a->head_dim;
    float most = (float)a->clip;
    if (!(most > 0)) return MW_OK;
    MW_TRY(p->backend->ops->clamp(p->backend, w->q, q, -most, most));
    MW_TRY(p->backend->ops->clamp(p->backend, w->k, kv, -most, most));
    return p->backend->ops->clamp(p->backend, w->v, kv, -most, most);
}

/* Clips queries, keys and values, normalizes and rotates queries and keys, in the family's order. */
static mw_status turn_queries_and_keys(pass *p, int64_t l) {
    MW_TRY(clip(p));
    bool after = p->model->arch.family->attention.qk_norm_after_rope;
    if (!after) MW_TRY(normalize_queries_and_keys(p, l));
    MW_TRY(rotate(p, l));
    return after ? normalize_queries_and_keys(p, l) : MW_OK;
}

/* Sets k_of and v_of to each sequence's keys and values; with a cache, appends the new ones to it first. */
static mw_status set_keys_and_values(pass *p, int64_t l) {
    mw_kv_cache *cache = p->batch->cache;
    mw_workspace *w = &p->model->work;
    int64_t width = p->model->arch.n_kv_heads * p->model->arch.head_dim;
    for (int64_t s = 0; s < p->batch->n_seq; s++) {
        const float *k = w->k + p->first_row[s] * width, *v = w->v + p->first_row[s] * width;
        p->k_of[s] = k;
        p->v_of[s] = v;
        if (!cache) continue;
        int64_t base = (l * cache->n_seq + s) * cache->capacity * width, at = base + cache->length[s] * width;
        MW_TRY(p->backend->ops->copy_2d(p->backend, cache->k + at, width, k, width, p->q_len[s], width));
        MW_TRY(p->backend->ops->copy_2d(p->backend, cache->v + at, width, v, width, p->q_len[s], width));
        p->k_of[s] = cache->k + base;
        p->v_of[s] = cache->v + base;
    }
    return MW_OK;
}

/* Makes of work.out what is added to the residual stream. */
static mw_status finish_output(pass *p, int64_t l, const mw_norm *norm, mw_site_kind site) {
    const mw_architecture *a = &p->model->arch;
    float *out = p->model->work.out, scale = (float)a->residual_scale;
    int64_t count = p->rows * a->d_model;
    if (norm->weight) MW_TRY(normalize(p, norm, out, out, p->rows, a->d_model));
    if (scale != 1) MW_TRY(p->backend->ops->combine(p->backend, out, scale, out, 0, NULL, count));
    return fire(p, l, site, out);
}

/* Writes to work.out what attention adds to the residual stream. */
static mw_status attend(pass *p, int64_t l) {
    const mw_architecture *a = &p->model->arch;
    const mw_layer *layer = &p->model->layers[l];
    mw_workspace *w = &p->model->work;
    MW_TRY(normalize_stream(p, l, MW_ATTN_IN, &layer->norm1, w->x));
    if (finished(p, (mw_site){(int)l, MW_ATTN_IN})) return MW_OK;
    MW_TRY(project(p, l));
    if (finished(p, (mw_site){(int)l, MW_ATTN_V})) return MW_OK;
    MW_TRY(turn_queries_and_keys(p, l));
    MW_TRY(set_keys_and_values(p, l));
    uint16_t *rounded = is_read_rounded(p, l, MW_ATTN_Z) ? w->rounded : NULL;
    mw_attention attention = {.n_seq = p->batch->n_seq,
                              .q_row = p->first_row,
                              .q_len = p->q_len,
                              .kv_len = p->kv_len,
                              .k = p->k_of,
                              .v = p->v_of,
                              .q = w->q,
                              .out = w->z,
                              .rounded = rounded,
                              .n_heads = a->n_heads,
                              .n_kv_heads = a->n_kv_heads,
                              .head_dim = a->head_dim,
                              .scale = (float)(a->attention_scale / (a->scale_by_layer ? (double)l + 1 : 1)),
                              .softcap = (float)a->attention_softcap,
                              .window = a->window[l],
                              .key_bias = p->model->key_bias,
                              .key_bias_stride = p->model->key_bias_positions};
    MW_TRY(p->backend->ops->attention(p->backend, &attention));
    MW_TRY(fire(p, l, MW_ATTN_Z, w->z));
    MW_TRY(multiply_as(p, &layer->o, (mw_matmul){.m = p->rows, .a = w->z, .a_bf16 = rounded, .c = w->out}));
    return finish_output(p, l, &layer->post_attn, MW_ATTN_OUT);
}

/* Writes to work.out what the MLP adds to the residual stream. */
static mw_status feed_forward(pass *p, int64_t l, const float *stream) {
    const mw_architecture *a = &p->model->arch;
    const mw_layer *layer = &p->model->layers[l];
    mw_workspace *w = &p->model->work;
    MW_TRY(normalize_stream(p, l, MW_MLP_IN, &layer->norm2, stream));
    if (finished(p, (mw_site){(int)l, MW_MLP_IN})) return MW_OK;
    const mw_weight *last = layer->gate.data ? &layer->gate : &layer->up; /* whose numbers are activated */
    float *active = layer->gate.data ? w->gate : w->up;
    const mw_epilogue activate = {.activation = a->activation,
                                  .times = layer->gate.data ? w->up : NULL,
                                  .rounded = is_read_rounded(p, l, MW_MLP_ACT) && !a->xielu ? w->rounded : NULL};
    if (layer->gate.data) MW_TRY(multiply_h(p, &layer->up, w->up, NULL));
    MW_TRY(multiply_h(p, last, active, a->xielu ? NULL : &activate));
    if (a->xielu) MW_TRY(p->backend->ops->xielu(p->backend, &layer->xielu, active, p->rows * a->d_mlp));
    MW_TRY(fire(p, l, MW_MLP_ACT, active));
    MW_TRY(
        multiply_as(p, &layer->down, (mw_matmul){.m = p->rows, .a = active, .a_bf16 = activate.rounded, .c = w->out}));
    return finish_output(p, l, &layer->post_mlp, MW_MLP_OUT);
}

static mw_status add(pass *p, float *x, const float *y) {
    return p->backend->ops->add(p->backend, x, y, p->rows * p->model->arch.d_model);
}

/* Parallel residual: the MLP reads the same stream as attention, so attention's output is added after it. */
static mw_status parallel_block(pass *p, int64_t l) {
    mw_workspace *w = &p->model->work;
    const mw_architecture *a = &p->model->arch;
    MW_TRY(attend(p, l));
    if (finished(p, (mw_site){(int)l, MW_ATTN_OUT})) return MW_OK;
    /* z is unused now, and at least d_model wide */
    float *attention = w->z;
    MW_TRY(p->backend->ops->copy_2d(p->backend, attention, a->d_model, w->out, a->d_model, p->rows, a->d_model));
    MW_TRY(feed_forward(p, l, w->x));
    MW_TRY(add(p, w->x, attention));
    return add(p, w->x, w->out);
}

/* Adds an output to the residual stream; normalizes the sum where the norms come last. */
static mw_status add_output(pass *p, const mw_norm *norm) {
    const mw_architecture *a = &p->model->arch;
    mw_workspace *w = &p->model->work;
    MW_TRY(add(p, w->x, w->out));
    return a->norms_last ? normalize(p, norm, w->x, w->x, p->rows, a->d_model) : MW_OK;
}

static mw_status serial_block(pass *p, int64_t l) {
    const mw_layer *layer = &p->model->layers[l];
    mw_workspace *w = &p->model->work;
    MW_TRY(attend(p, l));
    if (finished(p, (mw_site){(int)l, MW_ATTN_OUT})) return MW_OK;
    MW_TRY(add_output(p, &layer->norm1));
    MW_TRY(fire(p, l, MW_RESID_MID, w->x));
    if (finished(p, (mw_site){(int)l, MW_RESID_MID})) return MW_OK;
    MW_TRY(feed_forward(p, l, w->x));
    return add_output(p, &layer->norm2);
}

static mw_status run_layers(pass *p) {
    mw_workspace *w = &p->model->work;
    for (int64_t l = 0; l < p->model->arch.n_layers; l++) {
        MW_TRY(fire(p, l, MW_RESID_PRE, w->x));
        if (finished(p, (mw_site){(int)l, MW_RESID_PRE})) return MW_OK;
        MW_TRY(mw_layer_pack_once(p->model, l));
        MW_TRY(p->model->arch.parallel ? parallel_block(p, l) : serial_block(p, l));
        if (finished(p, (mw_site){(int)l, MW_MLP_OUT})) return MW_OK;
        MW_TRY(fire(p, l, MW_RESID_POST, w->x));
        if (finished(p, (mw_site){(int)l, MW_RESID_POST})) return MW_OK;
    }
    return MW_OK;
}

static mw_status embed(pass *p) {
    const mw_model *m = p->model;
    mw_workspace *w = &p->model->work;
    int64_t d = m->arch.d_model;
    bool projected = m->project_in.data != NULL;
    MW_TRY(p->backend->ops->gather_rows(p->backend, projected ? w->h : w->x, m->embed.data, m->embed.dtype,
                                        p->batch->ids, p->rows, m->arch.d_embed, (float)m->arch.embedding_scale,
                                        false));
    if (projected) MW_TRY(multiply(p, &m->project_in, w->h, w->x, p->rows));
    MW_TRY(fire(p, 0, MW_EMBED, w->x));
    if (finished(p, (mw_site){0, MW_EMBED})) return MW_OK;
    if (m->embed_norm.weight) MW_TRY(normalize(p, &m->embed_norm, w->x, w->x, p->rows, d));
    if (!m->position.data) return MW_OK;
    return p->backend->ops->gather_rows(p->backend, w->x, m->position.data, m->position.dtype, p->position, p->rows, d,
                                        1.0f, true);
}

static mw_status logits_of_rows(pass *p, const float *x, int64_t row, int64_t rows, bool hooked) {
    mw_model *m = p->model;
    int64_t vocab = m->arch.vocab;
    float *logits = m->work.logits;
    MW_TRY(multiply(p, &m->head, x, logits, rows));
    if (m->arch.logit_scale != 1)
        MW_TRY(p->backend->ops->combine(p->backend, logits, (float)m->arch.logit_scale, logits, 0, NULL, rows * vocab));
    if (m->arch.final_softcap > 0)
        MW_TRY(p->backend->ops->soft_cap(p->backend, logits, rows * vocab, (float)m->arch.final_softcap));
    return hooked ? fire_rows(p, (mw_site){0, MW_LOGITS}, logits, vocab, row, rows) : MW_OK;
}

/* Downloads the logits of rows in [row, row + rows) that end a sequence. */
static mw_status download_last_logits(pass *p, int64_t row, int64_t rows, float *out) {
    int64_t vocab = p->model->arch.vocab;
    for (int64_t s = 0; s < p->batch->n_seq; s++) {
        int64_t last = p->first_row[s] + p->q_len[s] - 1;
        if (p->q_len[s] == 0 || last < row || last >= row + rows) continue;
        MW_TRY(p->backend->ops->download(p->backend, out + s * vocab, p->model->work.logits + (last - row) * vocab,
                                         (size_t)vocab * sizeof(float)));
    }
    return MW_OK;
}

/* Multiplies all rows for hooks on logits, otherwise only the last row of each sequence. */
static mw_status unembed(pass *p, float *last_logits) {
    mw_model *m = p->model;
    mw_workspace *w = &m->work;
    int64_t d = m->arch.d_embed, vocab = m->arch.vocab;
    float *states = w->h; /* [rows, d] */
    bool hooked = mw_hooks_wanted(m->hooks, (mw_site){0, MW_LOGITS});
    if (!w->logits) MW_TRY(mw_backend_floats(m->backend, MW_LOGIT_ROWS * vocab, &w->logits));
    MW_TRY(mw_head_pack_once(m));
    MW_TRY(normalize(p, &m->final_norm, w->x, w->h, p->rows, m->arch.d_model));
    if (m->project_out.data) MW_TRY(multiply(p, &m->project_out, w->h, states = w->out, p->rows));
    if (hooked) {
        for (int64_t row = 0; row < p->rows && !p->stopped; row += MW_LOGIT_ROWS) {
            int64_t rows = p->rows - row < MW_LOGIT_ROWS ? p->rows - row : MW_LOGIT_ROWS;
            MW_TRY(logits_of_rows(p, states + row * d, row, rows, true));
            if (last_logits && !p->stopped) MW_TRY(download_last_logits(p, row, rows, last_logits));
        }
        return MW_OK;
    }
    for (int64_t s = 0; s < p->batch->n_seq; s++) {
        int64_t last = p->first_row[s] + p->q_len[s] - 1;
        if (p->q_len[s] == 0) continue;
        MW_TRY(logits_of_rows(p, states + last * d, last, 1, false));
        MW_TRY(download_last_logits(p, last, 1, last_logits));
    }
    return MW_OK;
}

static mw_status check_batch(const mw_model *m, const mw_batch *batch, int64_t *rows) {
    *rows = 0;
    if (batch->cache && batch->cache->n_seq != batch->n_seq)
        return mw_error(MW_ERR_ARG, "the key-value cache holds %lld sequences, the batch has %lld",
                        (long long)batch->cache->n_seq, (long long)batch->n_seq);
    for (int64_t s = 0; s < batch->n_seq; s++) {
        int64_t past = batch->cache ? batch->cache->length[s] : 0, end = past + batch->length[s];
        if (batch->length[s] < 0 || end > m->arch.context || (batch->cache && end > batch->cache->capacity))
            return mw_error(
                MW_ERR_ARG, "sequence %lld would be %lld tokens long; the limit is %lld", (long long)s, (long long)end,
                (long long)(batch->cache && batch->cache->capacity < m->arch.context ? batch->cache->capacity
                                                                                     : m->arch.context));
        if (mw_rope_changes(m, past, end))
            return mw_error(MW_ERR_ARG, "sequence %lld: the cached keys are those of a shorter text, up to %g tokens",
                            (long long)s, m->arch.rope.original_context);
        *rows += batch->length[s];
    }
    for (int64_t r = 0; r < *rows; r++)
        if (batch->ids[r] < 0 || batch->ids[r] >= m->arch.vocab)
            return mw_error(MW_ERR_ARG, "token id %d is not in the model's vocabulary of %lld", (int)batch->ids[r],
                            (long long)m->arch.vocab);
    return MW_OK;
}

static mw_status prepare(pass *p) {
    int64_t n = p->batch->n_seq, longest = 0;
    p->position = mw_alloc((size_t)p->rows * sizeof *p->position);
    p->sequence = mw_alloc((size_t)p->rows * sizeof *p->sequence);
    p->first_row = mw_alloc((size_t)n * sizeof *p->first_row);
    p->q_len = mw_alloc((size_t)n * sizeof *p->q_len);
    p->kv_len = mw_alloc((size_t)n * sizeof *p->kv_len);
    p->k_of = mw_alloc((size_t)n * sizeof *p->k_of);
    p->v_of = mw_alloc((size_t)n * sizeof *p->v_of);
    if (!p->position || !p->sequence || !p->first_row || !p->q_len || !p->kv_len || !p->k_of || !p->v_of)
        return MW_ERR_MEMORY;
    for (int64_t s = 0, row = 0; s < n; s++) {
        int64_t past = p->batch->cache ? p->batch->cache->length[s] : 0;
        p->first_row[s] = row;
        p->q_len[s] = p->batch->length[s];
        p->kv_len[s] = past + p->batch->length[s];
        if (p->kv_len[s] > longest) longest = p->kv_len[s];
        for (int64_t i = 0; i < p->batch->length[s]; i++, row++) {
            p->position[row] = (int32_t)(past + i);
            p->sequence[row] = (int32_t)s;
        }
    }
    MW_TRY(mw_rope_reserve(p->model, longest));
    MW_TRY(mw_key_bias_reserve(p->model, longest));
    return mw_workspace_reserve(p->model, p->rows);
}

static mw_status run(pass *p, float *last_logits) {
    MW_TRY(prepare(p));
    MW_TRY(embed(p));
    if (finished(p, (mw_site){0, MW_EMBED})) return MW_OK;
    MW_TRY(run_layers(p));
    bool logits = p->logits_wanted || p->last_order == mw_site_order((mw_site){0, MW_LOGITS});
    if (logits && !p->stopped) MW_TRY(unembed(p, last_logits));
    if (p->batch->cache)
        for (int64_t s = 0; s < p->batch->n_seq; s++) p->batch->cache->length[s] = p->kv_len[s];
    return MW_OK;
}

mw_status mw_model_forward(mw_model *model, const mw_batch *batch, float *last_logits) {
    pass p = {.model = model,
              .backend = model->backend,
              .batch = batch,
              .last_order = mw_hooks_last(model->hooks),
              .logits_wanted = last_logits != NULL};
    MW_TRY(check_batch(model, batch, &p.rows));
    if (last_logits) MW_TRY(mw_model_need_head(model));
    if (p.rows == 0 || (!last_logits && p.last_order < 0)) return MW_OK;
    mw_status status = run(&p, last_logits);
    void *all[] = {p.position, p.sequence, p.first_row, p.q_len, p.kv_len, (void *)p.k_of, (void *)p.v_of};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}
