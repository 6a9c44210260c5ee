/* Histograms whose range grows with the largest value. Widths are powers of two, so that merging bins is exact and the
 * result depends on the values alone, not on their order. */
#include "concepts/discovery.h"

#include <math.h>
#include <string.h>

enum { BIN_BITS = 6 };
_Static_assert(1 << BIN_BITS == MW_BINS, "a bin's number has BIN_BITS bits");

void histogram_widen(int32_t *exponent, int64_t *bin, int32_t wanted) {
    if (*exponent == BIN_NONE) *exponent = wanted;
    int shift = wanted - *exponent;
    if (shift <= 0) return;
    int64_t merged[MW_BINS] = {0};
    for (int b = 0; b < MW_BINS; b++) merged[shift < BIN_BITS ? b >> shift : 0] += bin[b];
    memcpy(bin, merged, sizeof merged);
    *exponent = wanted;
}

/* Returns e with z in [2^(e-1), 2^e). */
static int exponent_of(float z) {
    uint32_t bits;
    int e;
    memcpy(&bits, &z, sizeof bits);
    if (bits >> 23) return (int)(bits >> 23) - 126;
    frexpf(z, &e); /* not normal */
    return e;
}

/* Returns 2^e. */
static double power_of_two(int e) {
    uint64_t bits = (uint64_t)(e + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

void histogram_add(int32_t *exponent, int64_t *bin, float z) {
    if (!isfinite(z)) return;
    histogram_widen(exponent, bin, exponent_of(z) - BIN_BITS);
    bin[(int)((double)z * power_of_two(-*exponent))]++;
}
