/* Lengths and directions of rows of weights. */
#include "sae/trainer.h"

#include <math.h>

double length_of(const float *x, int64_t n) {
    double square = 0;
    for (int64_t i = 0; i < n; i++) square += (double)x[i] * x[i];
    return sqrt(square);
}

void set_direction(float *to, const float *from, int64_t n, double length) {
    double now = length_of(from, n);
    for (int64_t i = 0; i < n && now > 0; i++) to[i] = (float)(from[i] * length / now);
}

mw_status decoder_norms(mw_trainer *t) {
    mw_backend *b = t->backend;
    const mw_sae *sae = t->sae;
    const mw_parts parts = parts_of(sae);
    float *there = NULL;
    if (b->ops->host_memory) return b->ops->row_lengths(b, t->norms, sae->w_dec, sae->n, sae->d_out, &parts);
    MW_TRY(mw_backend_floats(b, sae->n, &there));
    mw_status status = b->ops->row_lengths(b, there, sae->w_dec, sae->n, sae->d_out, &parts);
    if (status == MW_OK) status = b->ops->download(b, t->norms, there, (size_t)sae->n * sizeof *t->norms);
    b->ops->free(b, there);
    return status;
}
