/* Next-token prediction of a model under several treatments of its passes. */
#ifndef MICROW_EVALUATE_NEXT_TOKEN_H
#define MICROW_EVALUATE_NEXT_TOKEN_H

#include "microw/comm.h"
#include "microw/dataset.h"
#include "microw/model.h"

/* A treatment of a pass. Each function may be NULL; attach and detach may be called a second time for the same pass. */
typedef struct treatment {
    const char *name; /* in messages */
    mw_status (*attach)(void *self, mw_hooks *hooks);
    void (*detach)(void *self, mw_hooks *hooks);  /* also called after attach failed */
    mw_status (*after)(void *self, int64_t rows); /* called after each pass of `rows` rows */
    void *self;
} treatment;

/* Means over the predicted tokens, in nats; NaN if there are none. */
typedef struct prediction {
    double ce; /* cross-entropy of the next token */
    double kl; /* KL(clean || treated) of the predictions; 0 for treatment 0 */
} prediction;

/* Sequences first .. first + count - 1 of a dataset, in passes of `per_pass` sequences and at most `rows` rows. */
typedef struct prediction_plan {
    mw_model *model;
    const mw_dataset *dataset;
    int64_t first, count, per_pass, rows;
} prediction_plan;
/* Returns a plan with at most `most` sequences per pass; 0: as many as memory for logits allows. */
prediction_plan plan_predictions(mw_model *model, const mw_dataset *dataset, int64_t first, int64_t count,
                                 int64_t most);

/* Measures the predictions of n treatments, and sets out [n] and *tokens, the number of predicted tokens.
 * `by_sequence`, unless NULL, gets the sums of each sequence [count, 2 n + 1]: cross-entropies, divergences, predicted
 * tokens; the caller frees it. Treatment 0 must leave the model unchanged: it gives the clean predictions, and runs
 * first on every pass. The same result at any number of ranks. Errors: MW_ERR_STATE, which names the site and the
 * weights, if the model's numbers are not finite; MW_ERR_MEMORY. Collective. */
mw_status measure_predictions(const prediction_plan *plan, const mw_comm *comm, const treatment *treatments, int64_t n,
                              prediction *out, int64_t *tokens, double **by_sequence) MW_MUST_USE;

#endif
