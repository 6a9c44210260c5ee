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

void histogram_add(int32_t *exponent, int64_t *bin, float z) {
    int e;
    if (!isfinite(z)) return;
    frexpf(z, &e); /* z in [2^(e-1), 2^e) */
    histogram_widen(exponent, bin, e - BIN_BITS);
    bin[(int)ldexpf(z, -*exponent)]++;
}
