/* Texts that a latent's name was not made from: does the name tell those on which it is active from those on which it is not? */
#ifndef MICROW_EVALUATE_NAME_DETECTION_H
#define MICROW_EVALUATE_NAME_DETECTION_H

#include "base/json.h"
#include "microw/concepts.h"

typedef struct detection_pool detection_pool;

/* Windows of tokens around random rows of the store, with the latents that are active in each. Local. */
mw_status detection_pool_new(const mw_sae *sae, const mw_store_view *in, const mw_discovery *d, int64_t windows,
                             detection_pool **out) MW_MUST_USE;
void detection_pool_free(detection_pool **pool);

/* Texts of a latent's samples that are not near one of its first `shown` top texts, and texts of the pool on which it is silent:
 * `each` of both, or as many as there are. In an order that gives nothing away. */
typedef struct detection_test {
    json_t *texts; /* array */
    bool *active;  /* [texts] */
    int64_t count;
} detection_test;
mw_status detection_test_new(const detection_pool *pool, const mw_discovery *d, int64_t latent, int64_t shown,
                             int64_t each, detection_test *out) MW_MUST_USE;
void detection_test_free(detection_test *test);
/* Balanced accuracy, the mean of the shares that are right of both kinds, of an array of booleans; NaN if one kind is missing or
 * the array does not fit. */
double detection_score(const detection_test *test, const json_t *answer);

#endif
