/* mw_may_reach: the search of a product's run for entries that may reach a floor. Some runs in three have such an
 * entry, so finding none and writing one both count: AVX-512 compares and compresses sixteen at once. */
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

static DISPATCHED int64_t search_plain(const run *s, int64_t n) {
    return s->norm ? search_blocks(*s, true, n) : search_blocks(*s, false, n);
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

__attribute__((target("avx512f"))) static int64_t search_512(const run *given, int64_t n) {
    const run s = *given;
    const __m512 x_part = _mm512_set1_ps(s.x_part), w_part = _mm512_set1_ps(s.w_part);
    const __m512 floor = _mm512_set1_ps(s.floor);
    __m512i index = _mm512_add_epi32(_mm512_set1_epi32(s.first),
                                     _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += 16, index = _mm512_add_epi32(index, _mm512_set1_epi32(16))) {
        const __mmask16 here = n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        __m512 value =
            _mm512_add_ps(_mm512_maskz_loadu_ps(here, s.product + i), _mm512_maskz_loadu_ps(here, s.bias + i));
        __m512 slack = _mm512_setzero_ps();
        if (s.norm)
            slack = _mm512_add_ps(_mm512_mul_ps(x_part, _mm512_maskz_loadu_ps(here, s.norm + i)),
                                  _mm512_mul_ps(w_part, _mm512_maskz_loadu_ps(here, s.error + i)));
        __m512 high = _mm512_add_ps(value, slack);
        __mmask16 may = _mm512_mask_cmp_ps_mask(here, high, floor, _CMP_NLT_UQ);
        if (!may) continue;
        int found = __builtin_popcount(may);
        const __mmask16 front = (__mmask16)((1u << found) - 1);
        _mm512_mask_storeu_epi32(s.index + count, front, _mm512_maskz_compress_epi32(may, index));
        _mm512_mask_storeu_ps(s.low + count, front, _mm512_maskz_compress_ps(may, _mm512_sub_ps(value, slack)));
        _mm512_mask_storeu_ps(s.high + count, front, _mm512_maskz_compress_ps(may, high));
        count += found;
    }
    return count;
}

static int64_t search(const run *s, int64_t n) {
    return __builtin_cpu_supports("avx512f") ? search_512(s, n) : search_plain(s, n);
}
#else
static int64_t search(const run *s, int64_t n) {
    return search_plain(s, n);
}
#endif

int64_t mw_may_reach(const float *product, const float *bias, const float *norm, const float *error, float x_part,
                     float w_part, int64_t n, float floor, int32_t first, int32_t *index, float *low, float *high) {
    return search(&(run){product, bias, norm, error, x_part, w_part, floor, first, index, low, high}, n);
}
