/* exp, tanh and erf in f32 without branches or calls, so that loops vectorize around them. */
#ifndef MICROW_BACKEND_CPU_VECTOR_MATH_H
#define MICROW_BACKEND_CPU_VECTOR_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* exp within 2 ulp: x = n ln 2 + r, a polynomial of degree 6 for exp(r), and n added to the exponent bits. */
static inline __attribute__((always_inline)) float exp_f32(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = x * 1.44269504089f + 12582912.0f; /* the sum rounds to a whole number */
    int32_t bits;
    memcpy(&bits, &n, sizeof bits);
    n -= 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t power = (int32_t)((uint32_t)(bits - 0x4B400000 + 127) << 23);
    float scale;
    memcpy(&scale, &power, sizeof scale);
    return p * scale;
}

static inline __attribute__((always_inline)) float tanh_f32(float x) {
    float small = x * (1.0f - x * x * (1.0f / 3.0f)); /* no cancellation near zero */
    float large = 1.0f - 2.0f / (exp_f32(2.0f * x) + 1.0f);
    return fabsf(x) < 0.02f ? small : large;
}

/* Abramowitz & Stegun 7.1.26, |error| < 1.5e-7. */
static inline __attribute__((always_inline)) float erf_f32(float x) {
    float a = fabsf(x), t = 1.0f / (1.0f + 0.3275911f * a);
    float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    float y = 1.0f - p * exp_f32(-a * a);
    return x < 0 ? -y : y;
}

#endif
