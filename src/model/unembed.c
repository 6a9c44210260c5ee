/* Multiplies directions of the residual stream by the final norm's weights and the unembedding. */
#include "model/model_private.h"

/* Applies the final norm to directions, which have no norm to divide by: its weight and, for LayerNorm, the subtraction
 * of the mean; and the factor of the logits. */
static void through_norm(const mw_model *m, const float *weight, const float *x, int64_t rows, float *out) {
    int64_t d = m->arch.d_model;
    float scale = (float)m->arch.logit_scale;
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0;
        for (int64_t i = 0; i < d && weight && m->arch.family->norm.kind == NORM_LAYER; i++) mean += x[r * d + i];
        mean /= (double)d;
        for (int64_t i = 0; i < d; i++)
            out[r * d + i] = (x[r * d + i] - (float)mean) * (weight ? weight[i] : 1.0f) * scale;
    }
}

/* y = x W, without a bias. */
static mw_status multiply(mw_backend *b, const mw_weight *w, const float *x, int64_t rows, float *y) {
    return b->ops->matmul(b, &(mw_matmul){.m = rows,
                                          .n = w->out,
                                          .k = w->in,
                                          .a = x,
                                          .lda = w->in,
                                          .b = w->data,
                                          .b_dtype = w->dtype,
                                          .ldb = w->ld,
                                          .b_transposed = w->transposed,
                                          .c = y,
                                          .ldc = w->out});
}

/* Multiplies up to MW_LOGIT_ROWS normalized directions by the unembedding. */
static mw_status unembed_rows(mw_model *m, const float *x, int64_t rows, float *logits) {
    mw_backend *b = m->backend;
    mw_workspace *work = &m->work;
    int64_t vocab = m->arch.vocab;
    MW_TRY(mw_workspace_reserve(m, rows));
    if (!work->logits) MW_TRY(mw_backend_floats(b, MW_LOGIT_ROWS * vocab, &work->logits));
    MW_TRY(b->ops->upload(b, work->h, x, (size_t)(rows * m->arch.d_model) * sizeof *x));
    const float *states = work->h;
    if (m->project_out.data) MW_TRY(multiply(b, &m->project_out, work->h, rows, work->out));
    if (m->project_out.data) states = work->out;
    MW_TRY(multiply(b, &m->head, states, rows, work->logits));
    return b->ops->download(b, logits, work->logits, (size_t)(rows * vocab) * sizeof *logits);
}

mw_status mw_model_unembed(mw_model *m, const float *x, int64_t rows, float *logits) {
    int64_t d = m->arch.d_model;
    MW_TRY(mw_model_need_head(m));
    float *weight = mw_alloc((size_t)d * sizeof *weight), *scaled = mw_alloc((size_t)(rows * d) * sizeof *scaled);
    mw_status status = weight && scaled ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && m->final_norm.weight)
        status = m->backend->ops->download(m->backend, weight, m->final_norm.weight, (size_t)d * sizeof *weight);
    if (status == MW_OK) through_norm(m, m->final_norm.weight ? weight : NULL, x, rows, scaled);
    for (int64_t r = 0; r < rows && status == MW_OK; r += MW_LOGIT_ROWS) {
        int64_t n = rows - r < MW_LOGIT_ROWS ? rows - r : MW_LOGIT_ROWS;
        status = unembed_rows(m, scaled + r * d, n, logits + r * m->arch.vocab);
    }
    mw_free(weight);
    mw_free(scaled);
    return status;
}
