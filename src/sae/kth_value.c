/* The k-th largest value of sparse codes, exactly and over all ranks: a radix select on counts. Those of the bytes
 * that a value near a guess has are summed over the ranks in one message. */
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

static bool same_place(digit_place a, digit_place b) {
    return a.prefix == b.prefix && a.mask == b.mask && a.shift == b.shift;
}

static mw_status count_digits(mw_backend *b, const value_span *spans, int n, digit_place at, int64_t *out) {
    int64_t counts[DIGITS];
    memset(out, 0, DIGITS * sizeof *out);
    for (int s = 0; s < n; s++) {
        MW_TRY(b->ops->count_digits(b, spans[s].value, spans[s].entries, at.prefix, at.mask, at.shift, counts));
        for (int i = 0; i < DIGITS; i++) out[i] += counts[i];
    }
    return MW_OK;
}

/* Counts that are summed in one message. */
enum { NEAR = 2, PLACES_MAX = 2 + 2 * NEAR + 1 };
typedef struct digit_counts {
    int n;
    digit_place at[PLACES_MAX];
    int64_t counts[PLACES_MAX * DIGITS + EXCHANGE_STATUSES];
} digit_counts;

/* The place, and in the first round those that follow if the value is near `guess`; no more where there is no message
 * to save, or no guess (0). */
static void list_places(digit_place at, const mw_comm *comm, float guess, digit_counts *out) {
    uint32_t bits;
    memcpy(&bits, &guess, sizeof bits);
    out->n = 0;
    out->at[out->n++] = at;
    if (at.mask || !comm || mw_comm_size(comm) == 1 || !(guess > 0)) return;
    out->at[out->n++] = (digit_place){bits & 0xff000000, 0xff000000, 16};
    for (int i = -NEAR; i <= NEAR; i++)
        out->at[out->n++] = (digit_place){((bits >> 16) + (uint32_t)i) << 16, 0xffff0000, 8};
}

static mw_status sum_digits(const mw_comm *comm, mw_status ready, mw_backend *b, const value_span *spans, int n,
                            digit_counts *c) {
    for (int i = 0; i < c->n && ready == MW_OK; i++)
        ready = count_digits(b, spans, n, c->at[i], c->counts + i * DIGITS);
    return comm ? exchange_sums(comm, ready, c->counts, c->n * DIGITS) : ready;
}

static const int64_t *find_counts(const digit_counts *c, digit_place at) {
    for (int i = 0; i < c->n; i++)
        if (same_place(c->at[i], at)) return c->counts + i * DIGITS;
    return NULL;
}

/* Positive floats have the order of their bits: the select finds one byte after the other. The first counts are of all
 * values. */
mw_status find_kth_value(const mw_comm *comm, mw_status ready, mw_backend *b, const value_span *spans, int n,
                         int64_t wanted, float guess, kth_value *out) {
    digit_counts known = {0};
    digit_place at = {0};
    *out = (kth_value){0};
    for (at.shift = 24; at.shift >= 0; at.shift -= 8) {
        if (!find_counts(&known, at)) {
            list_places(at, comm, guess, &known);
            MW_TRY(sum_digits(comm, ready, b, spans, n, &known));
        }
        const int64_t *counts = find_counts(&known, at);
        int digit = DIGITS - 1;
        for (int i = 0; at.mask == 0 && i < DIGITS; i++) out->total += counts[i];
        if (out->total < wanted) return MW_OK; /* never after the first byte: `wanted` falls */
        while (counts[digit] < wanted) wanted -= counts[digit--];
        out->equals = counts[digit];
        at.prefix |= (uint32_t)digit << at.shift;
        at.mask |= UINT32_C(255) << at.shift;
    }
    out->places = wanted;
    memcpy(&out->value, &at.prefix, sizeof at.prefix);
    return MW_OK;
}
