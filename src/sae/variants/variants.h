/* What a variant must say of itself: one row of a table. */
#ifndef MICROW_SAE_VARIANTS_VARIANTS_H
#define MICROW_SAE_VARIANTS_VARIANTS_H

#include "sae/step/step.h"

typedef struct extra_row {
    const char *name;          /* of the tensor */
    bool scales;               /* with the codes, when their unit changes */
    bool measures_activations; /* and not weights: its learning rate is sqrt(d) times theirs */
} extra_row;

/* Functions that are NULL have nothing to add. */
typedef struct variant_row {
    const char *name;
    bool uses_k, grouped;
    bool free_decoder; /* else decoder rows keep unit length */
    mw_init init;      /* what MW_INIT_AUTO means */
    mw_center center;  /* and MW_CENTER_AUTO */
    extra_row extra[MW_EXTRAS];
    double sparsity, sparsity_of_d; /* usual coefficient of the penalty: the sum of one and d times the other */

    /* Codes outside training; x and codes are in the memory of the SAE's backend, as in all that follows. */
    mw_status (*encode)(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out);
    /* Initial values of the extras of latents first .. first + count; they are 0. */
    void (*start)(mw_sae *sae, const mw_train_options *options, int64_t first, int64_t count);

    /* Parts and reconstructions of a step; as given: one of each. */
    void (*lay_out)(const mw_trainer *t, layout *out);
    /* Codes of this rank's rows in training, which come without b_dec, by part; may talk to the other ranks. NULL: part 0 as
     * outside training. */
    mw_status (*select)(mw_trainer *t, const float *x);
    /* After a selection: the same on all ranks. */
    void (*after_selection)(mw_trainer *t);
    /* Makes dL/da of the dL/dz of this rank's rows. */
    mw_status (*shape)(mw_trainer *t);
    /* Of all rows: what `finish` needs into t->share_sums, and for each latent of the share what it costs into t->costs. */
    mw_status (*sum)(mw_trainer *t);
    /* What the sparsity coefficient multiplies in the loss, given the mean over rows of the costs of all latents; NULL: nothing. */
    double (*penalty)(const mw_trainer *t, double cost);
    /* Gradients of this rank's share of extras and whatever W_dec gets beside the usual. */
    mw_status (*finish)(mw_trainer *t);
    /* Keeps this rank's share of the extras where they are allowed to be, after an update. */
    mw_status (*constrain)(mw_trainer *t);
} variant_row;

const variant_row *variant_of(const mw_sae *sae);

/* ---- from activations to pre-activations to codes ---------------------------------------------------------- */

/* Sees the pre-activations of rows first .. first + rows, [rows, n]. */
typedef mw_status (*pre_visitor)(void *self, const float *pre, int64_t first, int64_t rows);
/* Chunk after chunk, so that [all rows, n] is never in memory. */
mw_status sae_visit(const mw_sae *sae, const float *x, int64_t rows, pre_visitor visit, void *self) MW_MUST_USE;

/* Rows first .. first + rows of `out` from what the backend's top_k found, [rows, k]: the positive ones. */
mw_status append_positive(mw_backend *backend, mw_codes *out, int64_t first, int64_t rows, int64_t k,
                          const int32_t *index, const float *value) MW_MUST_USE;
/* What is kept of the first `rows` rows of `from`; `to` is another, and gets room for all of its rows. */
mw_status keep_codes(mw_backend *backend, const mw_codes *from, int64_t rows, const mw_filter *how,
                     mw_codes *to) MW_MUST_USE;
/* All of a shard's entries above a level. */
mw_filter above(const mw_sae *sae, float level);
/* The k largest of each row, where positive; of a shard's latents those that are among the k largest of all. Collective over the shards. */
mw_status top_k_codes(const mw_sae *sae, const float *x, int64_t rows, int64_t k, mw_codes *out) MW_MUST_USE;

/* Rows first .. first + rows of `out`: what opens of a matrix [rows, n]. */
mw_status append_open(mw_backend *backend, mw_codes *out, int64_t first, int64_t rows, int64_t n,
                      const mw_threshold *how, const float *x) MW_MUST_USE;
mw_status open_codes(const mw_sae *sae, const float *x, int64_t rows, mw_threshold how, mw_codes *out) MW_MUST_USE;
/* Two sets of codes from the same pre-activations. */
mw_status open_both(const mw_sae *sae, const float *x, int64_t rows, const mw_threshold how[2],
                    mw_codes *const out[2]) MW_MUST_USE;

/* ---- entries of a part ----------------------------------------------------------------------------------------- */

/* The gradients of this rank's rows. */
mw_status map_gradients(mw_trainer *t, code_set *c, const mw_mapping *how) MW_MUST_USE;
/* As sum_over_rows, of what a map makes of `from`, which stays as it is. */
mw_status sum_mapped(mw_trainer *t, const code_set *c, const mw_mapping *how, const float *from,
                     double *out) MW_MUST_USE;

/* ---- what rows of the table are made of ------------------------------------------------------------------------ */

mw_status top_k_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
mw_status top_k_select(mw_trainer *t, const float *x) MW_MUST_USE;
void multi_top_k_lay_out(const mw_trainer *t, layout *out);
mw_status multi_top_k_select(mw_trainer *t, const float *x) MW_MUST_USE;

mw_status threshold_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
mw_status batch_top_k_select(mw_trainer *t, const float *x) MW_MUST_USE;
void batch_top_k_threshold(mw_trainer *t);
/* The codes of this rank's rows, and the smallest value taken in t->kth. Collective. */
mw_status batch_top_k_codes(mw_trainer *t, const float *x, mw_codes *out) MW_MUST_USE;

void matryoshka_lay_out(const mw_trainer *t, layout *out);
mw_status matryoshka_top_k_select(mw_trainer *t, const float *x) MW_MUST_USE;
mw_status matryoshka_batch_top_k_select(mw_trainer *t, const float *x) MW_MUST_USE;

mw_status relu_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
mw_status relu_shape(mw_trainer *t);
mw_status relu_sum(mw_trainer *t);
/* The cost itself. */
double plain_penalty(const mw_trainer *t, double cost);
mw_status relu_finish(mw_trainer *t);

mw_status jump_relu_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
void jump_relu_start(mw_sae *sae, const mw_train_options *options, int64_t first, int64_t count);
void jump_relu_lay_out(const mw_trainer *t, layout *out);
mw_status jump_relu_select(mw_trainer *t, const float *x) MW_MUST_USE;
mw_status jump_relu_shape(mw_trainer *t);
mw_status jump_relu_sum(mw_trainer *t);
double jump_relu_penalty(const mw_trainer *t, double cost);
mw_status jump_relu_finish(mw_trainer *t);
mw_status jump_relu_constrain(mw_trainer *t);

mw_status gated_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
void gated_lay_out(const mw_trainer *t, layout *out);
mw_status gated_select(mw_trainer *t, const float *x) MW_MUST_USE;
mw_status gated_shape(mw_trainer *t);
mw_status gated_sum(mw_trainer *t);
mw_status gated_finish(mw_trainer *t);

#endif
