/* The table of variants: one row of facts and functions each. */
#ifndef MICROW_SAE_VARIANTS_VARIANTS_H
#define MICROW_SAE_VARIANTS_VARIANTS_H

#include "sae/step/step.h"

/* A parameter [n] that only some variants have. */
typedef struct extra_row {
    const char *name;          /* of its tensor in files */
    bool scales;               /* it is multiplied with the codes when their unit changes */
    bool measures_activations; /* it has the scale of activations: its learning rate is sqrt(d) times that of weights */
} extra_row;

/* A function that is NULL does nothing. x and codes are in the memory of the SAE's backend. */
typedef struct variant_row {
    const char *name;
    bool uses_k, grouped;
    bool auxk;         /* AuxK by default; variants that use k have it too */
    bool free_decoder; /* else decoder rows keep unit length */
    bool dense;        /* so many latents are active that a screen would rule out few */
    mw_init init;      /* the meaning of MW_INIT_AUTO */
    mw_center center;  /* the meaning of MW_CENTER_AUTO */
    extra_row extra[MW_EXTRAS];
    double sparsity, sparsity_of_d; /* default coefficient of the penalty: sparsity + d * sparsity_of_d */

    /* Codes of x [rows, d] outside training. */
    mw_status (*encode)(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out);
    /* Sets the extras of latents first .. first + count, which are 0 before, to their initial values. */
    void (*start)(mw_sae *sae, const mw_train_options *options, int64_t first, int64_t count);

    /* Changes the code sets and reconstructions of a step; *out has one of each before. */
    void (*lay_out)(const mw_trainer *t, layout *out);
    /* Codes of this rank's rows in training, into the `mine` of each code set. x is without b_dec. Collective: `ready`
     * is this rank's status so far, with which it takes part; the result, that of this rank or of others. NULL: code
     * set 0 from `encode`. */
    mw_status (*select)(mw_trainer *t, mw_status ready, const float *x);
    /* Called after a selection, with equal effect on all ranks. */
    void (*after_selection)(mw_trainer *t);
    /* Turns dL/dz of the latents of the share into dL/da. */
    mw_status (*shape)(mw_trainer *t);
    /* Sums over all rows, by latent of the share: the sums that `finish` needs into t->share_sums, the penalty into
     * t->costs. */
    mw_status (*sum)(mw_trainer *t);
    /* The penalty, which the sparsity coefficient multiplies in the loss, from the mean over rows of all latents'
     * costs. */
    double (*penalty)(const mw_trainer *t, double cost);
    /* Gradients of this rank's share of the extras, and the penalty's part of W_dec's gradient. */
    mw_status (*finish)(mw_trainer *t);
    /* Brings this rank's share of the extras back into its range after an update. */
    mw_status (*constrain)(mw_trainer *t);
} variant_row;

const variant_row *variant_of(const mw_sae *sae);
/* Returns whether AuxK is on by default. */
bool variant_has_auxk(mw_variant variant);

/* ---- from activations to pre-activations to codes ---------------------------------------------------------- */

/* Rows first .. first + rows of those that are encoded. */
typedef struct chunk {
    int64_t first, rows;
    const float *x;   /* [rows, d] what W_enc multiplies */
    const float *pre; /* [rows, n] pre-activations */
    bool screened;    /* `pre` are upper bounds of them, see screen_bounds */
} chunk;
typedef mw_status (*pre_visitor)(void *self, const chunk *);
/* Calls `visit` for chunk after chunk of the rows, so that [all rows, n] is never in memory. */
mw_status sae_visit(const mw_sae *sae, const float *x, int64_t rows, pre_visitor visit, void *self) MW_MUST_USE;

/* Appends rows first .. first + rows to `out`: the positive values of a top_k, index and value [rows, k]. */
mw_status append_positive(mw_backend *backend, mw_codes *out, int64_t first, int64_t rows, int64_t k,
                          const int32_t *index, const float *value) MW_MUST_USE;
/* Copies the entries of the first `rows` rows of `from` that pass the filter. `to` is another array, with room for all
 * rows of `from`. */
mw_status keep_codes(mw_backend *backend, const mw_codes *from, int64_t rows, const mw_filter *how,
                     mw_codes *to) MW_MUST_USE;
/* A filter for all latents of a shard with values above `level`. */
mw_filter above(const mw_sae *sae, float level);
/* Selects the k largest of each row, if positive; of a shard, its latents among the k largest of all. Collective over
 * the shards, see candidates_choose. */
mw_status top_k_codes(const mw_sae *sae, mw_status ready, const float *x, int64_t rows, int64_t k,
                      mw_codes *out) MW_MUST_USE;

/* Appends rows first .. first + rows to `out`: the values of x [rows, n] that pass the threshold. */
mw_status append_above(mw_backend *backend, mw_codes *out, int64_t first, int64_t rows, int64_t n,
                       const mw_threshold *how, const float *x) MW_MUST_USE;
/* Appends a chunk to each of `count` sets of codes: the pre-activations that pass how[i]. All have the same floor or
 * level, and one has the largest margin. */
mw_status append_chunk(const mw_sae *sae, const chunk *c, int count, const mw_threshold *how,
                       mw_codes *const *out) MW_MUST_USE;
mw_status codes_above(const mw_sae *sae, const float *x, int64_t rows, mw_threshold how, mw_codes *out) MW_MUST_USE;
/* Two sets of codes, by two thresholds, from the same pre-activations. */
mw_status codes_above_both(const mw_sae *sae, const float *x, int64_t rows, const mw_threshold how[2],
                           mw_codes *const out[2]) MW_MUST_USE;

/* ---- the k-th value ---------------------------------------------------------------------------------------- */

/* Values of one set of codes, none of them negative; device memory. */
typedef struct value_span {
    const float *value;
    int64_t entries;
} value_span;

/* Equal on all ranks. */
typedef struct kth_value {
    int64_t total;  /* values of all ranks */
    float value;    /* the wanted-th largest of all ranks; 0: there are fewer */
    int64_t equals; /* values equal to it; 0: there are fewer than wanted */
    int64_t places; /* how many of them are among the `wanted` largest */
} kth_value;

/* Finds the wanted-th largest (1 or more) of the values of `n` spans, over the ranks of `comm`; comm NULL: of this rank
 * alone. Near `guess`, equal on all ranks, it is found with fewer messages; 0: no guess. `ready`: this rank's status so
 * far. Collective: all ranks return the largest status. */
mw_status find_kth_value(const mw_comm *comm, mw_status ready, mw_backend *backend, const value_span *spans, int n,
                         int64_t wanted, float guess, kth_value *out) MW_MUST_USE;
/* Returns the next smaller float of a positive x: values above it are at least x. */
float just_below(float x);

/* ---- entries of a code set --------------------------------------------------------------------------------------- */

/* Applies a map to the gradients. */
mw_status map_gradients(mw_trainer *t, code_set *c, const mw_entry_map *how) MW_MUST_USE;
/* sum_over_rows of map(from); `from` is not changed. */
mw_status sum_mapped(mw_trainer *t, const code_set *c, const mw_entry_map *how, const float *from,
                     double *out) MW_MUST_USE;

/* ---- functions of the variants ------------------------------------------------------------------------ */

mw_status top_k_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
mw_status top_k_select(mw_trainer *t, mw_status ready, const float *x) MW_MUST_USE;
void multi_top_k_lay_out(const mw_trainer *t, layout *out);
mw_status multi_top_k_select(mw_trainer *t, mw_status ready, const float *x) MW_MUST_USE;

mw_status threshold_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
mw_status batch_top_k_select(mw_trainer *t, mw_status ready, const float *x) MW_MUST_USE;
void batch_top_k_threshold(mw_trainer *t);
/* Codes of this rank's rows, and the smallest selected value in t->kth. Collective, as `select`. */
mw_status batch_top_k_codes(mw_trainer *t, mw_status ready, const float *x, mw_codes *out) MW_MUST_USE;

void matryoshka_lay_out(const mw_trainer *t, layout *out);
mw_status matryoshka_top_k_select(mw_trainer *t, mw_status ready, const float *x) MW_MUST_USE;
mw_status matryoshka_batch_top_k_select(mw_trainer *t, mw_status ready, const float *x) MW_MUST_USE;

mw_status relu_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
mw_status relu_unit_norm_shape(mw_trainer *t) MW_MUST_USE;
mw_status relu_unit_norm_sum(mw_trainer *t) MW_MUST_USE;
mw_status relu_shape(mw_trainer *t);
mw_status relu_sum(mw_trainer *t);
/* Returns `cost`. */
double plain_penalty(const mw_trainer *t, double cost);
mw_status relu_finish(mw_trainer *t);

mw_status jump_relu_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
void jump_relu_start(mw_sae *sae, const mw_train_options *options, int64_t first, int64_t count);
void jump_relu_lay_out(const mw_trainer *t, layout *out);
mw_status jump_relu_select(mw_trainer *t, mw_status ready, const float *x) MW_MUST_USE;
mw_status jump_relu_shape(mw_trainer *t);
mw_status jump_relu_sum(mw_trainer *t);
double jump_relu_penalty(const mw_trainer *t, double cost);
mw_status jump_relu_finish(mw_trainer *t);
mw_status jump_relu_constrain(mw_trainer *t);

mw_status gated_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) MW_MUST_USE;
void gated_lay_out(const mw_trainer *t, layout *out);
mw_status gated_select(mw_trainer *t, mw_status ready, const float *x) MW_MUST_USE;
mw_status gated_shape(mw_trainer *t);
mw_status gated_sum(mw_trainer *t);
mw_status gated_finish(mw_trainer *t);

#endif
