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

static mw_status multiply(pass *p, const mw_weight *w, const float *x, float *y, int64_t rows) {
    return p->backend->ops->matmul(p->backend, &(mw_matmul){.m = rows,
                                                            .n = w->out,
                                                            .k = w->in,
                                                            .a = x,
                                                            .lda = w->in,
                                                            .b = w->data,
                                                            .b_dtype = w->dtype,
                                                            .ldb = w->ld,
                                                            .b_transposed = w->transposed,
                                                            .bias = w->bias,
                                                            .c = y,
                                                            .ldc = w->out,
                                                            .packed = w->packed});
}

/* Normalizes `rows` vectors of `width`. */
static mw_status normalize(pass *p, const mw_norm *norm, const float *x, float *y, int64_t rows, int64_t width) {
    const mw_architecture *a = &p->model->arch;
    if (a->family->norm != NORM_LAYER)
        return p->backend->ops->rms_norm(p->backend, y, x, norm->weight, rows, width, (float)a->eps,
                                         a->family->norm == NORM_RMS_PLUS_ONE ? 1.0f : 0.0f);
    return p->backend->ops->layer_norm(p->backend, y, x, norm->weight, norm->bias, rows, width, (float)a->eps);
}

/* Multiplies by a QKV_PER_HEAD matrix and separates q, k and v of each head. */
static mw_status split_heads(pass *p, const mw_weight *qkv) {
    const mw_architecture *a = &p->model->arch;
    mw_workspace *w = &p->model->work;
    MW_TRY(multiply(p, qkv, w->h, w->qkv, p->rows));
    float *to[] = {w->q, w->k, w->v};
    int64_t d = a->head_dim, stride = 3 * a->n_heads * d;
    for (int64_t h = 0; h < a->n_heads; h++)
        for (int64_t part = 0; part < 3; part++)
            MW_TRY(p->backend->ops->copy_2d(p->backend, to[part] + h * d, a->n_heads * d, w->qkv + (h * 3 + part) * d,
                                            stride, p->rows, d));
    return MW_OK;
}

static mw_status project(pass *p, int64_t l) {
    const mw_layer *layer = &p->model->layers[l];
    mw_workspace *w = &p->model->work;
    if (layer->qkv.data) {
        MW_TRY(split_heads(p, &layer->qkv));
    } else {
        MW_TRY(multiply(p, &layer->q, w->h, w->q, p->rows));
        MW_TRY(multiply(p, &layer->k, w->h, w->k, p->rows));
        MW_TRY(multiply(p, &layer->v, w->h, w->v, p->rows));
    }
    MW_TRY(fire(p, l, MW_ATTN_Q, w->q));
    MW_TRY(fire(p, l, MW_ATTN_K, w->k));
    return fire(p, l, MW_ATTN_V, w->v);
}

static mw_status rotate(pass *p, int64_t l) {
    const mw_architecture *a = &p->model->arch;
    const mw_layer *layer = &p->model->layers[l];
    mw_workspace *w = &p->model->work;
    if (layer->q_norm.weight) {
        MW_TRY(normalize(p, &layer->q_norm, w->q, w->q, p->rows * a->n_heads, a->head_dim));
        MW_TRY(normalize(p, &layer->k_norm, w->k, w->k, p->rows * a->n_kv_heads, a->head_dim));
    }
    if (!a->rotary_pairs) return MW_OK;
    const float *table = p->model->local_rope && a->window[l] ? p->model->local_rope : p->model->rope;
    MW_TRY(p->backend->ops->rotary(p->backend, w->q, table, p->position, p->rows, a->n_heads, a->head_dim,
                                   a->rotary_pairs, false));
    return p->backend->ops->rotary(p->backend, w->k, table, p->position, p->rows, a->n_kv_heads, a->head_dim,
                                   a->rotary_pairs, false);
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

/* Writes to work.out what attention adds to the residual stream. */
static mw_status attend(pass *p, int64_t l) {
    const mw_architecture *a = &p->model->arch;
    const mw_layer *layer = &p->model->layers[l];
    mw_workspace *w = &p->model->work;
    MW_TRY(normalize(p, &layer->norm1, w->x, w->h, p->rows, a->d_model));
    MW_TRY(project(p, l));
    if (finished(p, (mw_site){(int)l, MW_ATTN_V})) return MW_OK;
    MW_TRY(rotate(p, l));
    MW_TRY(set_keys_and_values(p, l));
    mw_attention attention = {.n_seq = p->batch->n_seq,
                              .q_row = p->first_row,
                              .q_len = p->q_len,
                              .kv_len = p->kv_len,
                              .k = p->k_of,
                              .v = p->v_of,
                              .q = w->q,
                              .out = w->z,
                              .n_heads = a->n_heads,
                              .n_kv_heads = a->n_kv_heads,
                              .head_dim = a->head_dim,
                              .scale = (float)(a->attention_scale / (a->scale_by_layer ? (double)l + 1 : 1)),
                              .softcap = (float)a->attention_softcap,
                              .window = a->window[l]};
    MW_TRY(p->backend->ops->attention(p->backend, &attention));
    MW_TRY(fire(p, l, MW_ATTN_Z, w->z));
    MW_TRY(multiply(p, &layer->o, w->z, w->out, p->rows));
    if (layer->post_attn.weight) MW_TRY(normalize(p, &layer->post_attn, w->out, w->out, p->rows, a->d_model));
    return fire(p, l, MW_ATTN_OUT, w->out);
}

/* Writes to work.out what the MLP adds to the residual stream. */
static mw_status feed_forward(pass *p, int64_t l, const float *stream) {
    const mw_architecture *a = &p->model->arch;
    const mw_layer *layer = &p->model->layers[l];
    mw_workspace *w = &p->model->work;
    MW_TRY(normalize(p, &layer->norm2, stream, w->h, p->rows, a->d_model));
    MW_TRY(multiply(p, &layer->up, w->h, w->up, p->rows));
    float *active = w->up;
    if (layer->gate.data) {
        active = w->gate;
        MW_TRY(multiply(p, &layer->gate, w->h, w->gate, p->rows));
        MW_TRY(p->backend->ops->activate_gated(p->backend, a->activation, w->gate, w->up, p->rows * a->d_mlp));
    } else {
        MW_TRY(p->backend->ops->activate(p->backend, a->activation, w->up, p->rows * a->d_mlp));
    }
    MW_TRY(fire(p, l, MW_MLP_ACT, active));
    MW_TRY(multiply(p, &layer->down, active, w->out, p->rows));
    if (layer->post_mlp.weight) MW_TRY(normalize(p, &layer->post_mlp, w->out, w->out, p->rows, a->d_model));
    return fire(p, l, MW_MLP_OUT, w->out);
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
    /* z is unused now, and d_model wide in every family with a parallel residual */
    float *attention = w->z;
    MW_TRY(p->backend->ops->copy_2d(p->backend, attention, a->d_model, w->out, a->d_model, p->rows, a->d_model));
    MW_TRY(feed_forward(p, l, w->x));
    MW_TRY(add(p, w->x, attention));
    return add(p, w->x, w->out);
}

static mw_status serial_block(pass *p, int64_t l) {
    mw_workspace *w = &p->model->work;
    MW_TRY(attend(p, l));
    if (finished(p, (mw_site){(int)l, MW_ATTN_OUT})) return MW_OK;
    MW_TRY(add(p, w->x, w->out));
    MW_TRY(fire(p, l, MW_RESID_MID, w->x));
    if (finished(p, (mw_site){(int)l, MW_RESID_MID})) return MW_OK;
    MW_TRY(feed_forward(p, l, w->x));
    return add(p, w->x, w->out);
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
    MW_TRY(p->backend->ops->gather_rows(p->backend, w->x, m->embed.data, m->embed.dtype, p->batch->ids, p->rows, d,
                                        (float)m->arch.embedding_scale, false));
    MW_TRY(fire(p, 0, MW_EMBED, w->x));
    if (!m->position.data || finished(p, (mw_site){0, MW_EMBED})) return MW_OK;
    return p->backend->ops->gather_rows(p->backend, w->x, m->position.data, m->position.dtype, p->position, p->rows, d,
                                        1.0f, true);
}

static mw_status logits_of_rows(pass *p, const float *x, int64_t row, int64_t rows, bool hooked) {
    mw_model *m = p->model;
    int64_t vocab = m->arch.vocab;
    float *logits = m->work.logits;
    MW_TRY(multiply(p, &m->head, x, logits, rows));
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
    int64_t d = m->arch.d_model, vocab = m->arch.vocab;
    bool hooked = mw_hooks_wanted(m->hooks, (mw_site){0, MW_LOGITS});
    if (!w->logits) MW_TRY(mw_backend_floats(m->backend, MW_LOGIT_ROWS * vocab, &w->logits));
    MW_TRY(mw_head_pack_once(m));
    MW_TRY(normalize(p, &m->final_norm, w->x, w->h, p->rows, d));
    if (hooked) {
        for (int64_t row = 0; row < p->rows && !p->stopped; row += MW_LOGIT_ROWS) {
            int64_t rows = p->rows - row < MW_LOGIT_ROWS ? p->rows - row : MW_LOGIT_ROWS;
            MW_TRY(logits_of_rows(p, w->h + row * d, row, rows, true));
            if (last_logits && !p->stopped) MW_TRY(download_last_logits(p, row, rows, last_logits));
        }
        return MW_OK;
    }
    for (int64_t s = 0; s < p->batch->n_seq; s++) {
        int64_t last = p->first_row[s] + p->q_len[s] - 1;
        if (p->q_len[s] == 0) continue;
        MW_TRY(logits_of_rows(p, w->h + last * d, last, 1, false));
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
