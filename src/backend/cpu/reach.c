/* Entries that reach a floor: the search of a product's run for them, and a floor that k of them reach. AVX-512
 * compares sixteen at once and writes or counts those that reach it; a branch for each sixteen, of which some in three
 * have an entry, would take most of the time. */
#include "backend/cpu/vector.h"
#include "base/dispatch.h"

/* What a search reads and writes. */
typedef struct run {
    const float *product, *bias, *norm, *error; /* norm, error NULL: no slack */
    float x_part, w_part, floor;
    int32_t first, *index;
    float *low, *high;
} run;

/* Entries from .. n - 1, written from place `count` on. Returns the number of all. */
static inline __attribute__((always_inline)) int64_t search_one_by_one(run s, bool screened, int64_t from, int64_t n,
                                                                       int64_t count) {
    for (int64_t i = from; i < n; i++) {
        float value = s.product[i] + s.bias[i];
        float slack = screened ? s.x_part * s.norm[i] + s.w_part * s.error[i] : 0;
        if (value + slack < s.floor) continue;
        s.index[count] = s.first + (int32_t)i;
        s.low[count] = value - slack;
        s.high[count++] = value + slack;
    }
    return count;
}

/* Sixteen at a time, where any may reach the floor. */
static inline __attribute__((always_inline)) int64_t search_blocks(run s, bool screened, int64_t n) {
    enum { BLOCK = 16 };
    int64_t count = 0, i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        const float *product = s.product + i, *bias = s.bias + i;
        const float *norm = screened ? s.norm + i : NULL, *error = screened ? s.error + i : NULL;
        int below = 0;
#pragma omp simd reduction(+ : below)
        for (int l = 0; l < BLOCK; l++) {
            float high = product[l] + bias[l];
            if (screened) high += s.x_part * norm[l] + s.w_part * error[l];
            below += high < s.floor;
        }
        if (below < BLOCK) count = search_one_by_one(s, screened, i, i + BLOCK, count);
    }
    return search_one_by_one(s, screened, i, n, count);
}

typedef int64_t count_function(const float *x, int64_t n, float floor);

static inline __attribute__((always_inline)) int64_t halve(count_function *count_reaching, const float *x, int64_t n,
                                                           int64_t k, int times, float *from, float *to) {
    float low = *from, high = *to;
    int64_t reach = count_reaching(x, n, low);
    for (int i = 0; i < times && reach > k; i++) {
        float middle = low + (high - low) / 2;
        int64_t count = count_reaching(x, n, middle);
        bool enough = count >= k; /* selected, not branched on: nobody can predict it */
        reach = enough ? count : reach;
        low = enough ? middle : low;
        high = enough ? high : middle;
    }
    *from = low;
    *to = high;
    return reach;
}

static inline __attribute__((always_inline)) int64_t count_plain(const float *x, int64_t n, float floor) {
    int32_t count = 0;
#pragma omp simd reduction(+ : count)
    for (int64_t i = 0; i < n; i++) count += x[i] >= floor;
    return count;
}

static DISPATCHED int64_t halve_plain(const float *x, int64_t n, int64_t k, int times, float *from, float *to) {
    return halve(count_plain, x, n, k, times, from, to);
}

static DISPATCHED int64_t search_plain(const run *s, int64_t n) {
    return s->norm ? search_blocks(*s, true, n) : search_blocks(*s, false, n);
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define WITH_512 __attribute__((target("avx512f")))
enum { LANES = MW_REACH_ROOM, BLOCKS = 4 };

/* Bounds of sixteen entries, and which of them may reach the floor. */
typedef struct bounds {
    __m512 low, high;
    __mmask16 may;
} bounds;

WITH_512 static inline __attribute__((always_inline)) bounds bounds_of(const run *s, bool screened, int64_t at,
                                                                       __mmask16 here) {
    const __m512 value =
        _mm512_add_ps(_mm512_maskz_loadu_ps(here, s->product + at), _mm512_maskz_loadu_ps(here, s->bias + at));
    __m512 slack = _mm512_setzero_ps();
    if (screened)
        slack = _mm512_add_ps(_mm512_mul_ps(_mm512_set1_ps(s->x_part), _mm512_maskz_loadu_ps(here, s->norm + at)),
                              _mm512_mul_ps(_mm512_set1_ps(s->w_part), _mm512_maskz_loadu_ps(here, s->error + at)));
    const __m512 high = _mm512_add_ps(value, slack);
    return (bounds){_mm512_sub_ps(value, slack), high,
                    _mm512_mask_cmp_ps_mask(here, high, _mm512_set1_ps(s->floor), _CMP_NLT_UQ)};
}

/* Writes whole vectors, whose entries that may reach the floor come first: the next ones overwrite the rest. */
WITH_512 static inline __attribute__((always_inline)) int64_t write_512(const run *s, bounds b, int64_t at,
                                                                        int64_t count) {
    const __m512i index = _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                           _mm512_set1_epi32(s->first + (int32_t)at));
    _mm512_storeu_si512(s->index + count, _mm512_maskz_compress_epi32(b.may, index));
    _mm512_storeu_ps(s->low + count, _mm512_maskz_compress_ps(b.may, b.low));
    _mm512_storeu_ps(s->high + count, _mm512_maskz_compress_ps(b.may, b.high));
    return count + __builtin_popcount(b.may);
}

/* Whether any of 64 entries may reach the floor is predicted better than that of 16, and writing none costs little. */
WITH_512 static inline __attribute__((always_inline)) int64_t search_groups(run s, bool screened, int64_t n) {
    const __mmask16 all = 0xffff;
    int64_t count = 0, i = 0;
    for (; i + BLOCKS * LANES <= n; i += BLOCKS * LANES) {
        bounds b[BLOCKS];
        unsigned any = 0;
        for (int l = 0; l < BLOCKS; l++) {
            b[l] = bounds_of(&s, screened, i + l * LANES, all);
            any |= b[l].may;
        }
        for (int l = 0; l < BLOCKS && any; l++) count = write_512(&s, b[l], i + l * LANES, count);
    }
    for (; i < n; i += LANES) {
        const __mmask16 here = n - i >= LANES ? all : (__mmask16)((1u << (n - i)) - 1);
        count = write_512(&s, bounds_of(&s, screened, i, here), i, count);
    }
    return count;
}

WITH_512 static int64_t search_512(const run *s, int64_t n) {
    return s->norm ? search_groups(*s, true, n) : search_groups(*s, false, n);
}

WITH_512 static inline __attribute__((always_inline)) int64_t count_512(const float *x, int64_t n, float floor) {
    const __m512 least = _mm512_set1_ps(floor);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 here = n - i >= LANES ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        count +=
            __builtin_popcount(_mm512_mask_cmp_ps_mask(here, _mm512_maskz_loadu_ps(here, x + i), least, _CMP_GE_OQ));
    }
    return count;
}

WITH_512 static int64_t halve_512(const float *x, int64_t n, int64_t k, int times, float *from, float *to) {
    return halve(count_512, x, n, k, times, from, to);
}

static bool has_512(void) {
    return __builtin_cpu_supports("avx512f");
}
#else
static bool has_512(void) {
    return false;
}
static int64_t search_512(const run *s, int64_t n) {
    return search_plain(s, n);
}
static int64_t halve_512(const float *x, int64_t n, int64_t k, int times, float *from, float *to) {
    return halve_plain(x, n, k, times, from, to);
}
#endif

int64_t mw_halve(const float *x, int64_t n, int64_t k, int times, float *from, float *to) {
    return has_512() ? halve_512(x, n, k, times, from, to) : halve_plain(x, n, k, times, from, to);
}

int64_t mw_may_reach(const float *product, const float *bias, const float *norm, const float *error, float x_part,
                     float w_part, int64_t n, float floor, int32_t first, int32_t *index, float *low, float *high) {
    const run all = {product, bias, norm, error, x_part, w_part, floor, first, index, low, high};
    return has_512() ? search_512(&all, n) : search_plain(&all, n);
}
