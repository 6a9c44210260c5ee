/* Intervals of statistics by the bootstrap. */
#include "microw/base.h"

#include <math.h>
#include <stdlib.h>

enum { RESAMPLES = 2000, SEED = 95 };

int64_t mw_resampled(int64_t draw, int64_t i, int64_t n) {
    int64_t at = draw < 0 ? i : (int64_t)(mw_rng_uniform(SEED, (uint64_t)draw, (uint64_t)i) * (float)n);
    return at < n ? at : n - 1;
}

static int ascending(const void *a, const void *b) {
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Sets the interval from one value of the statistic per draw; NaN are left out. */
static void set_interval(double *drawn, mw_estimate *out) {
    int64_t count = 0;
    for (int64_t i = 0; i < RESAMPLES; i++)
        if (!isnan(drawn[i])) drawn[count++] = drawn[i];
    if (count == 0) return;
    qsort(drawn, (size_t)count, sizeof *drawn, ascending);
    out->low = drawn[count / 40];
    out->high = drawn[count - 1 - count / 40];
}

void mw_bootstrap(mw_bootstrap_function *statistics, const void *self, int64_t n, int m, mw_estimate *out) {
    double drawn[MW_ESTIMATES_MAX][RESAMPLES], one[MW_ESTIMATES_MAX];
    statistics(self, -1, one);
    for (int j = 0; j < m; j++) out[j] = (mw_estimate){one[j], NAN, NAN};
    for (int64_t i = 0; i < RESAMPLES && n > 1; i++) {
        statistics(self, i, one);
        for (int j = 0; j < m; j++) drawn[j][i] = one[j];
    }
    for (int j = 0; j < m && n > 1; j++) set_interval(drawn[j], &out[j]);
}
