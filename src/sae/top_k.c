/* TopK and Multi-TopK (Gao et al. 2024, 2.3 and 5.3). */
#include "sae/variants.h"

#include <string.h>

mw_status top_k_encode(const mw_sae *sae, const float *x, int64_t rows, mw_codes *out) {
    return top_k_codes(sae, x, rows, sae->k, out);
}

mw_status top_k_select(mw_trainer *t, const float *x) {
    return top_k_codes(t->sae, x, t->end - t->begin, t->k, &t->part[0].c.mine);
}

/* L(k) + L(4k) / 8: part 0 holds the k largest, part 1 the 4 k largest. */
void multi_top_k_lay_out(const mw_trainer *t, layout *out) {
    (void)t;
    *out = (layout){.n_parts = 2,
                    .n_blocks = 2,
                    .bias_blocks = 2,
                    .uses = {PART_WHOLE, PART_WHOLE & ~PART_FIRES},
                    .block = {0, 1},
                    .weight = {1, 0.125}};
}

/* The k largest of each row's codes, found among their values with the places past a row's end left low. */
static mw_status keep_largest(const mw_trainer *t, const mw_codes *all, int64_t width, float *padded, int32_t *index,
                              float *value, mw_codes *out) {
    int64_t k = t->k;
    for (int64_t r = 0; r < all->rows; r++)
        for (int64_t i = 0; i < width; i++) {
            int64_t j = all->start[r] + i;
            padded[r * width + i] = j < all->start[r + 1] ? all->value[j] : 0;
        }
    MW_TRY(t->sae->backend->ops->top_k(t->sae->backend, padded, all->rows, width, k, index, value));
    for (int64_t r = 0; r < all->rows; r++)
        for (int64_t j = r * k; j < (r + 1) * k; j++)
            if (value[j] > 0) index[j] = all->index[all->start[r] + index[j]];
    return append_positive(out, 0, all->rows, k, index, value);
}

mw_status multi_top_k_select(mw_trainer *t, const float *x) {
    int64_t rows = t->end - t->begin, many = 4 * t->k < t->sae->n ? 4 * t->k : t->sae->n;
    mw_codes *few = &t->part[0].c.mine, *all = &t->part[1].c.mine;
    MW_TRY(top_k_codes(t->sae, x, rows, many, all));
    MW_TRY(mw_codes_begin(few, rows));
    float *padded = mw_alloc((size_t)(rows * many) * sizeof *padded);
    float *value = mw_alloc((size_t)(rows * t->k) * sizeof *value);
    int32_t *index = mw_alloc((size_t)(rows * t->k) * sizeof *index);
    mw_status status = padded && value && index ? keep_largest(t, all, many, padded, index, value, few) : MW_ERR_MEMORY;
    mw_free(padded);
    mw_free(value);
    mw_free(index);
    return status;
}
