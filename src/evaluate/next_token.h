/* How well the model predicts the next token, untouched and treated. */
#ifndef MICROW_EVALUATE_NEXT_TOKEN_H
#define MICROW_EVALUATE_NEXT_TOKEN_H

#include "microw/comm.h"
#include "microw/dataset.h"
#include "microw/model.h"

/* What is done to a pass. Any of the functions may be NULL; attach and detach may be called once more for the same pass. */
typedef struct treatment {
    const char *name; /* for messages */
    mw_status (*attach)(void *self, mw_hooks *hooks);
    void (*detach)(void *self, mw_hooks *hooks);  /* also where attach failed */
    mw_status (*after)(void *self, int64_t rows); /* of a pass */
    void *self;
} treatment;

/* Means over predicted tokens, in nats; NaN where there are none. */
typedef struct prediction {
    double ce; /* cross-entropy of the next token */
    double kl; /* from the untouched prediction, KL(clean || treated); 0 for treatment 0 */
} prediction;

/* Sequences `first` .. `first + count` of a dataset, in passes of `per_pass` sequences and at most `rows` rows. */
typedef struct prediction_plan {
    mw_model *model;
    const mw_dataset *dataset;
    int64_t first, count, per_pass, rows;
} prediction_plan;
/* `most`: sequences of a pass; 0: as many as memory for logits allows. */
prediction_plan plan_predictions(mw_model *model, const mw_dataset *dataset, int64_t first, int64_t count,
                                 int64_t most);

/* Treatment 0 leaves the model as it is, and comes first on every pass. `out` [n]. `tokens`: predicted ones. Collective; the same
 * at any number of ranks. MW_ERR_STATE names the site and the weights where a model's numbers are not finite. */
mw_status measure_predictions(const prediction_plan *plan, const mw_comm *comm, const treatment *treatments, int64_t n,
                              prediction *out, int64_t *tokens) MW_MUST_USE;

#endif
