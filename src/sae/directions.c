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

void decoder_norms(const mw_sae *sae, int64_t first, int64_t count, float *out) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) {
        const float *w = sae->w_dec + (first + i) * sae->d_out;
        double norm = 0;
        for (int64_t p = 0, at = 0; p < sae->n_parts; at = sae->part_end[p++])
            norm += length_of(w + at, sae->part_end[p] - at);
        out[i] = (float)norm;
    }
}
