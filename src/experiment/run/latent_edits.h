/* What is done to latents: lists of edits, from the experiment file. */
#ifndef MICROW_EXPERIMENT_RUN_LATENT_EDITS_H
#define MICROW_EXPERIMENT_RUN_LATENT_EDITS_H

#include "experiment/run/run.h"

typedef struct edits {
    mw_latent_edit *items;
    int64_t count, capacity;
} edits;

/* z becomes scale * z + add, in place of what was to be done to the latent. */
mw_status edits_put(edits *list, int64_t latent, double scale, double add) MW_MUST_USE;
/* The same, with what there is already kept in the other part: for a factor and an amount that come apart. */
mw_status edits_put_scale(edits *list, int64_t latent, double scale) MW_MUST_USE;
mw_status edits_put_add(edits *list, int64_t latent, double add) MW_MUST_USE;
/* False: there was none. */
bool edits_drop(edits *list, int64_t latent);
/* From no change (0) over the edits as they are (1) to more of them: z + strength * (edited z - z). */
void edits_strengthen(edits *list, double strength);
void edits_free(edits *list);

/* What the latents of an SAE are called, and what discovery knows of them; `known` false: there is no discovery. */
typedef struct dictionary {
    mw_names names;
    mw_discovery found;
    bool known;
} dictionary;
mw_status dictionary_open(const run *r, dictionary *out) MW_MUST_USE; /* local; the SAE is open */
void dictionary_close(dictionary *d);
/* The latents that are named `concept` or have it as their category, those that say most of it first: named ones, then by
 * frequency times purity of the top texts times precision. Caller frees. MW_ERR_CONFIG if there is none. */
mw_status dictionary_find(const dictionary *d, const char *concept, int64_t **latents, int64_t *count) MW_MUST_USE;

/* All edits of a variant: concept, edits, add, clamp, ablate. MW_ERR_CONFIG if there is none, or for a latent that the SAE does not
 * have; `where` names the variant. */
mw_status edits_collect(const run *r, const dictionary *d, const edit_settings *s, const char *where,
                        edits *out) MW_MUST_USE;

#endif
