/* The k-th largest value of sparse codes, exactly and over all ranks: a radix select on counts. */
#include "comm/exchange.h"
#include "sae/variants/variants.h"

#include <math.h>
#include <string.h>

float just_below(float x) {
    return nextafterf(x, 0);
}

/* Values of a byte. */
enum { DIGITS = 256 };

/* One byte of the bits of a float: where it is, and what the bytes above it must be. */
typedef struct digit_place {
    uint32_t prefix, mask;
    int shift;
} digit_place;

static mw_status count_digits(mw_backend *b, const value_span *spans, int n, digit_place at, int64_t *out) {
    int64_t counts[DIGITS];
    memset(out, 0, DIGITS * sizeof *out);
    for (int s = 0; s < n; s++) {
        MW_TRY(b->ops->count_digits(b, spans[s].value, spans[s].entries, at.prefix, at.mask, at.shift, counts));
        for (int i = 0; i < DIGITS; i++) out[i] += counts[i];
    }
    return MW_OK;
}

/* Positive floats have the order of their bits: the select finds one byte after the other. The first counts are of all
 * values. */
mw_status find_kth_value(const mw_comm *comm, mw_status ready, mw_backend *b, const value_span *spans, int n,
                         int64_t wanted, kth_value *out) {
    int64_t counts[DIGITS + EXCHANGE_STATUSES] = {0};
    digit_place at = {0};
    *out = (kth_value){0};
    for (at.shift = 24; at.shift >= 0; at.shift -= 8) {
        if (ready == MW_OK) ready = count_digits(b, spans, n, at, counts);
        if (comm) ready = exchange_sums(comm, ready, counts, DIGITS);
        MW_TRY(ready);
        int digit = DIGITS - 1;
        for (int i = 0; at.mask == 0 && i < DIGITS; i++) out->total += counts[i];
        if (out->total < wanted) return MW_OK;
        while (counts[digit] < wanted) wanted -= counts[digit--];
        out->equals = counts[digit];
        at.prefix |= (uint32_t)digit << at.shift;
        at.mask |= UINT32_C(255) << at.shift;
    }
    out->places = wanted;
    memcpy(&out->value, &at.prefix, sizeof at.prefix);
    return MW_OK;
}
