/* Counter-based random numbers and permutations: no state, the same at any number of ranks and threads. */
#include "microw/base.h"

#include <math.h>

/* Philox4x32-10, constants from Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11. */
void mw_philox(uint64_t key, uint64_t counter_hi, uint64_t counter_lo, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)counter_lo, c1 = (uint32_t)(counter_lo >> 32);
    uint32_t c2 = (uint32_t)counter_hi, c3 = (uint32_t)(counter_hi >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static float unit_float(uint32_t bits) {
    return (float)(bits >> 8) * 0x1p-24f;
}

float mw_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t r[4];
    mw_philox(seed, stream, index / 4, r);
    return unit_float(r[index % 4]);
}

float mw_rng_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t r[4];
    mw_philox(seed, stream, index / 2, r);
    float u = 1.0f - unit_float(r[0]), angle = 6.28318530718f * unit_float(r[1]);
    float radius = sqrtf(-2.0f * logf(u));
    return radius * (index % 2 ? sinf(angle) : cosf(angle));
}

uint64_t mw_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t index) {
    if (n <= 1) return 0;
    int half = 1;
    while (half < 32 && (UINT64_C(1) << (2 * half)) < n) half++;
    uint64_t mask = (UINT64_C(1) << half) - 1;
    uint64_t value = index;
    do { /* the domain is at most 4n, so the walk takes under four rounds on average */
        uint64_t left = value >> half, right = value & mask;
        for (uint64_t round = 0; round < 6; round++) {
            uint32_t r[4];
            mw_philox(seed, epoch, right << 3 | round, r);
            uint64_t next = left ^ (r[0] & mask);
            left = right;
            right = next;
        }
        value = left << half | right;
    } while (value >= n);
    return value;
}
