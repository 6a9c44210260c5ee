/* Lists of latent edits, made from the experiment file. */
#ifndef MICROW_EXPERIMENT_RUN_LATENT_EDITS_H
#define MICROW_EXPERIMENT_RUN_LATENT_EDITS_H

#include "experiment/run/run.h"

typedef struct edit_list {
    mw_latent_edit *items;
    int64_t count, capacity;
} edit_list;

/* Sets the edit z = scale * z + add, which replaces the latent's earlier edit. */
mw_status edit_list_put(edit_list *list, int64_t latent, double scale, double add) MW_MUST_USE;
/* Set one part of the edit, and keep the other. */
mw_status edit_list_put_scale(edit_list *list, int64_t latent, double scale) MW_MUST_USE;
mw_status edit_list_put_add(edit_list *list, int64_t latent, double add) MW_MUST_USE;
/* Removes a latent's edit; false: it has none. */
bool edit_list_drop(edit_list *list, int64_t latent);
/* Scales all edits: z + strength * (edited z - z); 0: no change, 1: as they are. */
void edit_list_strengthen(edit_list *list, double strength);
/* Appends to `out` the edits of `from`, each of another latent of n, drawn at random by `seed` among those that `from`
 * does not edit. MW_ERR_ARG: fewer latents are left than edits. */
mw_status edit_list_scatter(const edit_list *from, int64_t n, uint64_t seed, edit_list *out) MW_MUST_USE;
void edit_list_free(edit_list *list);

/* Names of an SAE's latents, and what discovery found about them. */
typedef struct latent_index {
    mw_names names;
    mw_discovery discovery; /* if `discovered` */
    bool discovered;
} latent_index;
mw_status latent_index_open(const experiment_run *r, latent_index *out) MW_MUST_USE; /* local; the SAE is open */
void latent_index_close(latent_index *d);
/* Returns the latents whose name or category is `concept`: first those named so, then by their F1 as detectors of the
 * category. The caller frees. MW_ERR_CONFIG if there is none. */
mw_status latent_index_find(const latent_index *d, const char *concept, int64_t **latents, int64_t *count) MW_MUST_USE;

/* Collects the edits of a variant: concept, edits, add, clamp, ablate. MW_ERR_CONFIG if there are none, or for a
 * latent that the SAE does not have; `where` names the variant. */
mw_status edit_list_collect(const experiment_run *r, const latent_index *d, const edit_settings *s, const char *where,
                            edit_list *out) MW_MUST_USE;

#endif
