/* Detection test of a latent's name, on texts that the name was not made from: whether the name alone predicts in which
 * texts the latent is active. */
#ifndef MICROW_EVALUATE_NAME_DETECTION_H
#define MICROW_EVALUATE_NAME_DETECTION_H

#include "base/json.h"
#include "microw/concepts.h"

typedef struct name_detection_pool name_detection_pool;

/* Draws `windows` random rows of the store (at most all of them), and keeps the text of the tokens around each and the
 * latents that are active in it. The caller frees *out. Errors: those of reading the store, MW_ERR_MEMORY. Local. */
mw_status name_detection_pool_new(const mw_sae *sae, const mw_store_view *in, const mw_discovery *d, int64_t windows,
                                  name_detection_pool **out) MW_MUST_USE;
/* Sets *pool to NULL; NULL is allowed. */
void name_detection_pool_free(name_detection_pool **pool);

typedef struct name_detection_test {
    json_t *texts; /* array of `count` strings, in random order */
    bool *active;  /* [count] whether the latent is active in the text */
    int64_t count;
} name_detection_test;

/* Collects up to `each` of the latent's sample texts whose rows are not in its first `shown` top texts, and as many
 * texts of the pool on which the latent is silent. The caller frees *out. Errors: MW_ERR_MEMORY. Local. */
mw_status name_detection_test_new(const name_detection_pool *pool, const mw_discovery *d, int64_t latent, int64_t shown,
                                  int64_t each, name_detection_test *out) MW_MUST_USE;
void name_detection_test_free(name_detection_test *test);

/* Returns the balanced accuracy of `answer`, a JSON array of `count` booleans: the mean of the shares of active and of
 * silent texts that are answered right. NaN if the test has one kind only, or the array has another length or type. */
double name_detection_score(const name_detection_test *test, const json_t *answer);

#endif
