/* The k-th largest value of sparse codes, exactly and over all ranks: a radix select on counts. */
#include "sae/variants/variants.h"

#include <math.h>
#include <string.h>

float just_below(float x) {
    return nextafterf(x, 0);
}

/* Sums counts over the ranks of `comm`; NULL: this rank alone. */
static mw_status sum(const mw_comm *comm, mw_status local, int64_t counts[256]) {
    if (!comm) return local;
    MW_TRY(mw_comm_agree(comm, local));
    return mw_comm_allreduce_sum(comm, counts, 256);
}

/* One byte of the bits of a float: where it is, and what the bytes above it must be. */
typedef struct digit_place {
    uint32_t prefix, mask;
    int shift;
} digit_place;

static mw_status count_digits(mw_backend *b, const value_span *spans, int n, digit_place at, int64_t out[256]) {
    int64_t counts[256];
    memset(out, 0, 256 * sizeof *out);
    for (int s = 0; s < n; s++) {
        MW_TRY(b->ops->count_digits(b, spans[s].value, spans[s].entries, at.prefix, at.mask, at.shift, counts));
        for (int i = 0; i < 256; i++) out[i] += counts[i];
    }
    return MW_OK;
}

/* Positive floats have the order of their bits: the select finds one byte after the other. */
mw_status find_kth_value(const mw_comm *comm, mw_backend *b, const value_span *spans, int n, int64_t total,
                         int64_t wanted, kth_value *out) {
    int64_t counts[256];
    digit_place at = {0};
    *out = (kth_value){0};
    if (total < wanted) return MW_OK;
    for (at.shift = 24; at.shift >= 0; at.shift -= 8) {
        MW_TRY(sum(comm, count_digits(b, spans, n, at, counts), counts));
        int digit = 255;
        while (counts[digit] < wanted) wanted -= counts[digit--];
        out->equals = counts[digit];
        at.prefix |= (uint32_t)digit << at.shift;
        at.mask |= UINT32_C(255) << at.shift;
    }
    out->places = wanted;
    memcpy(&out->value, &at.prefix, sizeof at.prefix);
    return MW_OK;
}
