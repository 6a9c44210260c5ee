/* Test programs: counted checks, a summary, and the balance of allocations.
 *
 *     int main(void) {
 *         RUN(adds_two_numbers);
 *         return test_end();
 *     }
 *
 * MICROW_CASE=adds_two_numbers in the environment runs this case alone.
 */
#ifndef MICROW_TEST_H
#define MICROW_TEST_H

#include "microw/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEST_SKIPPED = 77 };

static int test_failures, test_checks, test_cases;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        test_checks++;                                                                                                 \
        if (!(condition)) {                                                                                            \
            test_failures++;                                                                                           \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                                    \
        }                                                                                                              \
    } while (0)
#define CHECK_OK(call) CHECK((call) == MW_OK)
/* The call must return this status; its message is printed. */
#define CHECK_FAILS(status, call) CHECK((call) == (status))
/* The call must return this status with a message that contains `part`; for more than one rank the log holds
 * messages. */
#define CHECK_SAYS(status, part, call)                                                                                 \
    do {                                                                                                               \
        mw_log_setup(0, 2, MW_LOG_INFO);                                                                               \
        mw_status got_ = (call);                                                                                       \
        char *said_ = mw_log_take_held();                                                                              \
        mw_log_setup(0, 1, MW_LOG_INFO);                                                                               \
        bool right_ = said_ && got_ == (status) && strstr(said_, part);                                                \
        if (!right_) fprintf(stderr, "expected '%s', got status %d: %s\n", part, (int)got_, said_ ? said_ : "");       \
        mw_free(said_);                                                                                                \
        CHECK(right_);                                                                                                 \
    } while (0)
/* A check that ends the program when it fails. */
#define NEED(condition)                                                                                                \
    do {                                                                                                               \
        test_checks++;                                                                                                 \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: cannot continue: %s\n", __FILE__, __LINE__, #condition);                           \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)
#define NEED_OK(call) NEED((call) == MW_OK)
#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        if (!test_is_wanted(#test)) break;                                                                             \
        int before_ = test_failures;                                                                                   \
        test();                                                                                                        \
        printf("%s %s\n", test_failures == before_ ? "ok  " : "FAIL", #test);                                          \
    } while (0)

static inline bool test_is_wanted(const char *name) {
    const char *only = getenv("MICROW_CASE");
    bool wanted = !only || !only[0] || strcmp(only, name) == 0;
    test_cases += wanted;
    return wanted;
}

/* Returns the largest |a - b| divided by the largest |b|: an error relative to the scale of the whole array. */
static inline double relative_error(const float *a, const float *b, int64_t n) {
    double worst = 0, scale = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        double e = fabs((double)a[i] - b[i]);
        if (!(e <= worst)) worst = e; /* NaN counts as worst */
        if (fabs(b[i]) > scale) scale = fabs(b[i]);
    }
    return worst / scale;
}

/* Standard normal numbers. */
static inline void fill_random(float *x, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) x[i] = mw_rng_normal(seed, 0, (uint64_t)i);
}

/* Prints the summary and returns the exit code. */
static inline int test_end(void) {
    const char *only = getenv("MICROW_CASE");
    if (only && only[0] && !test_cases) {
        fprintf(stderr, "no case is called '%s' here\n", only);
        return 1;
    }
    CHECK(mw_alloc_balance() == 0);
    printf("%d checks, %d failed\n", test_checks, test_failures);
    return test_failures ? 1 : 0;
}

#endif
