/* microw/evaluate.h: how much next-token prediction loses when an SAE's reconstruction replaces activations.
 *
 *     mw_evaluation e;
 *     MW_TRY(mw_evaluate(&(mw_evaluation_input){.model = model, .sae = sae, .in = &view, .dataset = &text,
 *                                               .sequences = 100, .untouched = -1}, comm, &e));
 *     printf("%.3f of the cross-entropy recovered\n",
 *            mw_recovered(e.ce[MW_ABLATE_NONE], e.ce[MW_ABLATE_SAE], e.ce[MW_ABLATE_ZERO]));
 *
 * mw_sae_measure (microw/sae.h) measures the reconstruction of rows itself.
 */
#ifndef MICROW_EVALUATE_H
#define MICROW_EVALUATE_H

#include "microw/dataset.h"
#include "microw/model.h"
#include "microw/sae.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Replacement of the activations at the sites that the SAE rebuilds: none; the SAE's reconstruction from the sites it
 * reads in the clean model; zeros; the mean over the rows of the store. */
typedef enum mw_ablation { MW_ABLATE_NONE, MW_ABLATE_SAE, MW_ABLATE_ZERO, MW_ABLATE_MEAN } mw_ablation;
enum { MW_ABLATIONS = MW_ABLATE_MEAN + 1 };

typedef struct mw_evaluation_input {
    mw_model *model;
    const mw_sae *sae;
    const mw_sae *const *baselines; /* [n_baselines] SAEs for the same sites, to compare with; may be NULL */
    int64_t n_baselines;            /* at most MW_BASELINES */
    const mw_store_view *in, *out;  /* sites that the SAE reads and rebuilds (out NULL: the same); of this model */
    const mw_dataset *dataset;
    int64_t first, sequences; /* predicts sequences first .. first + sequences - 1 of the dataset */
    int64_t per_pass;         /* sequences per pass at most; 0: as many as memory for logits allows */
    int32_t untouched;        /* token id whose rows are not replaced (a BOS that was not harvested); -1: none */
} mw_evaluation_input;

/* The model with an SAE's reconstruction: means, and the shares recovered (mw_recovered), with intervals by a bootstrap
 * over sequences. */
typedef struct mw_spliced {
    double ce, kl;
    mw_estimate from_zero, from_mean;
} mw_spliced;
enum { MW_SPLICED_MAX = 1 + MW_BASELINES };

/* Means over the predicted tokens, in nats; NaN if there are none. */
typedef struct mw_evaluation {
    double ce[MW_ABLATIONS];            /* cross-entropy of the next token */
    double kl[MW_ABLATIONS];            /* KL(clean || ablated) of the predictions; 0 for MW_ABLATE_NONE */
    mw_spliced spliced[MW_SPLICED_MAX]; /* with the SAE, then with each baseline */
    int64_t tokens;                     /* number of predicted tokens */
} mw_evaluation;

/* Runs the model under each ablation and measures its predictions. The same result at any number of ranks. Errors:
 * MW_ERR_STATE, which names site and weight, if the model's numbers are not finite; MW_ERR_ARG for too many baselines;
 * MW_ERR_MEMORY. Collective. */
mw_status mw_evaluate(const mw_evaluation_input *input, const mw_comm *comm, mw_evaluation *out) MW_MUST_USE;

/* Returns the share of the cross-entropy gap between a baseline (zero or mean ablation) and the clean model that the
 * SAE closes, from cross-entropies in nats. NaN if the baseline is worse than the clean model by less than
 * MW_RECOVERED_FROM nats: the ablation then changes next to nothing, and the ratio would be noise. */
#define MW_RECOVERED_FROM 1e-3
double mw_recovered(double clean, double with_sae, double baseline);

#ifdef __cplusplus
}
#endif
#endif
