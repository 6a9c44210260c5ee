/* Lengths and directions of weight rows. */
#include "sae/step/trainer.h"

#include <math.h>

double length_of(const float *x, int64_t n) {
    double square = 0;
    for (int64_t i = 0; i < n; i++) square += (double)x[i] * x[i];
    return sqrt(square);
}

void set_direction(float *to, const float *from, int64_t n, double length) {
    double current = length_of(from, n);
    for (int64_t i = 0; i < n && current > 0; i++) to[i] = (float)(from[i] * length / current);
}

mw_status lengths_of_rows(mw_backend *b, const float *w, int64_t rows, int64_t d, const mw_column_groups *parts,
                          float *out) {
    float *lengths = NULL;
    if (b->ops->host_memory) return b->ops->row_lengths(b, out, w, rows, d, parts);
    MW_TRY(mw_backend_floats(b, rows, &lengths));
    mw_status status = b->ops->row_lengths(b, lengths, w, rows, d, parts);
    if (status == MW_OK) status = b->ops->download(b, out, lengths, (size_t)rows * sizeof *out);
    b->ops->free(b, lengths);
    return status;
}
