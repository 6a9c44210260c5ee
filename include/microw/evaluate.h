/* microw/evaluate.h: what a model's predictions lose when an SAE's reconstruction takes the place of activations.
 *
 *     mw_evaluation e;
 *     MW_TRY(mw_evaluate(&(mw_evaluation_input){.model = model, .sae = sae, .in = &view, .dataset = &text, .sequences = 100,
 *                                               .untouched = -1}, comm, &e));
 *     printf("%.3f of the cross-entropy recovered\n", mw_recovered(e.ce[MW_ABLATE_NONE], e.ce[MW_ABLATE_SAE], e.ce[MW_ABLATE_ZERO]));
 *
 * How well rows are rebuilt is told by mw_sae_measure (microw/sae.h).
 */
#ifndef MICROW_EVALUATE_H
#define MICROW_EVALUATE_H

#include "microw/dataset.h"
#include "microw/model.h"
#include "microw/sae.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What takes the place of the sites that the SAE rebuilds: nothing; what it makes of the sites it reads in the clean model; zeros; their
 * mean over the rows of the store. */
typedef enum mw_ablation { MW_ABLATE_NONE, MW_ABLATE_SAE, MW_ABLATE_ZERO, MW_ABLATE_MEAN } mw_ablation;
enum { MW_ABLATIONS = MW_ABLATE_MEAN + 1 };

typedef struct mw_evaluation_input {
    mw_model *model;
    const mw_sae *sae;
    const mw_store_view *in, *out; /* sites it reads, and rebuilds (NULL: the same), of a store of this model */
    const mw_dataset *dataset;
    int64_t first, sequences; /* of the dataset: which are predicted */
    int64_t per_pass;         /* sequences at once at most; 0: as many as memory for logits allows */
    int32_t untouched;        /* rows of this token stay as they are (a BOS that was not harvested); -1: none */
} mw_evaluation_input;

/* Means over predicted tokens, in nats; NaN where none was predicted. */
typedef struct mw_evaluation {
    double ce[MW_ABLATIONS]; /* cross-entropy of the next token */
    double kl[MW_ABLATIONS]; /* from the clean prediction, KL(clean || ablated); 0 for MW_ABLATE_NONE */
    int64_t tokens;          /* that were predicted */
} mw_evaluation;

/* Collective; the same at any number of ranks. MW_ERR_STATE names site and weight where the model's numbers are not finite. */
mw_status mw_evaluate(const mw_evaluation_input *input, const mw_comm *comm, mw_evaluation *out) MW_MUST_USE;

/* Share of the gap between a baseline (zero or mean ablation) and the clean model that the SAE keeps. NaN, undefined, where the baseline
 * is worse than the clean model by less than MW_RECOVERED_FROM nats: the ablation does next to nothing, and the ratio would be one of
 * noise. */
#define MW_RECOVERED_FROM 1e-3
double mw_recovered(double clean, double with_sae, double baseline);

#ifdef __cplusplus
}
#endif
#endif
