/* Norms, rotary embeddings, unit rows and Adam. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"

#include <math.h>

/* Where a norm writes: numbers, or numbers rounded to bf16. */
typedef struct norm_out {
    float *x;
    uint16_t *rounded; /* or NULL */
} norm_out;

/* Writes (x - mean) scale weight + bias to element `at` on. */
static void write_normal(const norm_out *out, int64_t at, const float *x, float mean, float scale, const float *weight,
                         const float *bias, int64_t width) {
    enum { RUN = 512 };
    float run[RUN];
    for (int64_t i = 0; i < width; i += RUN) {
        int64_t n = width - i < RUN ? width - i : RUN;
        mw_normal_run(out->rounded ? run : out->x + at + i, x + i, mean, scale, weight + i, bias ? bias + i : NULL, n);
        if (out->rounded) mw_round_bf16(run, n, out->rounded + at + i);
    }
}

mw_status mw_cpu_layer_norm(mw_backend *backend, float *out, uint16_t *rounded, const float *x, const float *weight,
                            const float *bias, int64_t rows, int64_t width, float eps) {
    (void)backend;
    const norm_out to = {out, rounded};
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *in = x + r * width;
        float mean = mw_sum(in, width) / (float)width;
        float scale = 1.0f / sqrtf(mw_sum_squares(in, mean, width) / (float)width + eps);
        write_normal(&to, r * width, in, mean, scale, weight, bias, width);
    }
    return MW_OK;
}

mw_status mw_cpu_rms_norm(mw_backend *backend, float *out, uint16_t *rounded, const float *x, const float *weight,
                          int64_t rows, int64_t width, float eps) {
    (void)backend;
    const norm_out to = {out, rounded};
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float scale = 1.0f / sqrtf(mw_sum_squares(x + r * width, 0, width) / (float)width + eps);
        write_normal(&to, r * width, x + r * width, 0, scale, weight, NULL, width);
    }
    return MW_OK;
}

mw_status mw_cpu_rotary(mw_backend *backend, float *x, const float *cos_sin, const int32_t *position, int64_t rows,
                        int64_t heads, int64_t head_dim, int64_t pairs, bool interleaved) {
    (void)backend;
    int64_t step = interleaved ? 2 : 1, partner = interleaved ? 1 : pairs;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *rotation = cos_sin + (int64_t)position[r] * pairs * 2;
        for (int64_t h = 0; h < heads; h++) {
            float *head = x + (r * heads + h) * head_dim;
            for (int64_t i = 0; i < pairs; i++) {
                float *x0 = head + i * step, *x1 = x0 + partner;
                float c = rotation[2 * i], s = rotation[2 * i + 1], a = *x0, b = *x1;
                *x0 = a * c - b * s;
                *x1 = b * c + a * s;
            }
        }
    }
    return MW_OK;
}

static void unit_row(float *row, int64_t d) {
    float norm = sqrtf(mw_sum_squares(row, 0, d));
    if (norm > 0) mw_scale(1.0f / norm, row, d);
}

mw_status mw_cpu_unit_rows(mw_backend *backend, float *w, float *g, int64_t rows, int64_t d) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        unit_row(w + r * d, d);
        if (g) mw_axpy(-mw_dot(w + r * d, g + r * d, d), w + r * d, g + r * d, d);
    }
    return MW_OK;
}

mw_status mw_cpu_adam(mw_backend *backend, float *param, const float *grad, float *m, float *v, int64_t rows, int64_t d,
                      const mw_adam *adam) {
    (void)backend;
    enum { RUN = 4096 }; /* elements of a loop iteration where rows do not matter */
    int64_t count = rows * d, width = adam->unit ? d : RUN;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < count; at += width) {
        int64_t n = count - at < width ? count - at : width;
        if (adam->unit) unit_row(param + at, n);
        float along = adam->unit ? mw_dot(param + at, grad + at, n) : 0;
        mw_adam_run(param + at, grad + at, along, m + at, v + at, n, adam);
    }
    return MW_OK;
}
