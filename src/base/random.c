/* Counter-based random numbers and permutations: no state, the same at any number of ranks and threads. And random bits
 * of the system, for names that no other process has. */
#include "microw/base.h"
#include "base/dispatch.h"

#include <math.h>
#include <stdio.h>
#include <sys/random.h>

/* Philox4x32-10, constants from Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11. The numbers are in
 * 64-bit variables whose upper halves are 0: so the compiler can make vectors of several of them. */
static inline void philox(uint64_t key, uint64_t counter_hi, uint64_t counter_lo, uint64_t out[4]) {
    uint64_t c0 = (uint32_t)counter_lo, c1 = counter_lo >> 32, c2 = (uint32_t)counter_hi, c3 = counter_hi >> 32;
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * (uint32_t)c0, p1 = (uint64_t)0xCD9E8D57u * (uint32_t)c2;
        c0 = (p1 >> 32) ^ c1 ^ k0;
        c2 = (p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void mw_philox(uint64_t key, uint64_t counter_hi, uint64_t counter_lo, uint32_t out[4]) {
    uint64_t wide[4];
    philox(key, counter_hi, counter_lo, wide);
    for (int i = 0; i < 4; i++) out[i] = (uint32_t)wide[i];
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

/* ---- permutations ------------------------------------------------------------------------------------------------ */

/* Bits of half of a Feistel network's number: its domain, 4^bits, is the smallest that has n numbers. */
static int half_bits(uint64_t n) {
    int half = 1;
    while (half < 32 && (UINT64_C(1) << (2 * half)) < n) half++;
    return half;
}

enum { ROUNDS = 6 };

static inline void feistel_round(uint64_t *left, uint64_t *right, uint64_t seed, uint64_t epoch, uint64_t round,
                                 uint64_t mask) {
    uint64_t r[4];
    philox(seed, epoch, *right << 3 | round, r);
    uint64_t next = *left ^ (r[0] & mask);
    *left = *right;
    *right = next;
}

uint64_t mw_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t index) {
    if (n <= 1) return 0;
    int half = half_bits(n);
    uint64_t mask = (UINT64_C(1) << half) - 1;
    do { /* the domain is at most 4n, so the walk takes under four rounds on average */
        uint64_t left = index >> half, right = index & mask;
        for (uint64_t round = 0; round < ROUNDS; round++) feistel_round(&left, &right, seed, epoch, round, mask);
        index = left << half | right;
    } while (index >= n);
    return index;
}

/* Numbers that walk side by side, so that the compiler can use vectors. */
enum { LANES = 64 };

typedef struct walkers {
    uint64_t value[LANES];
    int64_t place[LANES]; /* of the result */
    int count;
} walkers;

/* One pass of all lanes through the network. */
DISPATCHED static void walk(uint64_t *value, uint64_t seed, uint64_t epoch, int half) {
    uint64_t mask = (UINT64_C(1) << half) - 1, left[LANES], right[LANES];
    for (int i = 0; i < LANES; i++) {
        left[i] = value[i] >> half;
        right[i] = value[i] & mask;
    }
    for (uint64_t round = 0; round < ROUNDS; round++) {
#pragma omp simd
        for (int i = 0; i < LANES; i++) feistel_round(&left[i], &right[i], seed, epoch, round, mask);
    }
    for (int i = 0; i < LANES; i++) value[i] = left[i] << half | right[i];
}

/* Writes the results of those that have arrived below n; the others stay. */
static void leave(walkers *w, uint64_t n, int64_t *out) {
    int left = 0;
    for (int i = 0; i < w->count; i++) {
        if (w->value[i] < n) {
            out[w->place[i]] = (int64_t)w->value[i];
            continue;
        }
        w->value[left] = w->value[i];
        w->place[left++] = w->place[i];
    }
    w->count = left;
}

void mw_permute_range(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t first, int64_t count, int64_t *out) {
    walkers w = {0};
    int half = half_bits(n);
    for (int64_t next = 0; next < count || w.count > 0;) {
        for (; w.count < LANES && next < count; w.count++) {
            w.value[w.count] = first + (uint64_t)next;
            w.place[w.count] = next++;
        }
        walk(w.value, seed, epoch, half);
        leave(&w, n, out);
    }
}

mw_status mw_nonce(char out[MW_NONCE_TEXT]) {
    enum { BYTES = (MW_NONCE_TEXT - 1) / 2 };
    unsigned char bytes[BYTES];
    if (getrandom(bytes, BYTES, 0) != BYTES) return mw_error(MW_ERR_IO, "the system has no random bytes");
    for (int i = 0; i < BYTES; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return MW_OK;
}
