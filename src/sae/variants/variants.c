/* The table of all variants, and lookups by name. */
#include "sae/variants/variants.h"

#include <string.h>

static const variant_row variants[MW_VARIANTS] = {
    [MW_TOPK] = {.name = "topk",
                 .uses_k = true,
                 .init = MW_INIT_SCALED,
                 .center = MW_CENTER_MEDIAN,
                 .encode = top_k_encode,
                 .select = top_k_select},
    [MW_BATCH_TOPK] = {.name = "batch_topk",
                       .uses_k = true,
                       .init = MW_INIT_SCALED,
                       .center = MW_CENTER_MEDIAN,
                       .encode = threshold_encode,
                       .select = batch_top_k_select,
                       .after_selection = batch_top_k_threshold},
    [MW_MULTI_TOPK] = {.name = "multi_topk",
                       .uses_k = true,
                       .init = MW_INIT_SCALED,
                       .center = MW_CENTER_MEDIAN,
                       .encode = top_k_encode,
                       .lay_out = multi_top_k_lay_out,
                       .select = multi_top_k_select},
    [MW_MATRYOSHKA_TOPK] = {.name = "matryoshka_topk",
                            .uses_k = true,
                            .grouped = true,
                            .init = MW_INIT_SCALED,
                            .center = MW_CENTER_MEDIAN,
                            .encode = top_k_encode,
                            .lay_out = matryoshka_lay_out,
                            .select = matryoshka_top_k_select},
    [MW_MATRYOSHKA_BATCH_TOPK] = {.name = "matryoshka_batch_topk",
                                  .uses_k = true,
                                  .grouped = true,
                                  .init = MW_INIT_SCALED,
                                  .center = MW_CENTER_MEDIAN,
                                  .encode = threshold_encode,
                                  .lay_out = matryoshka_lay_out,
                                  .select = matryoshka_batch_top_k_select,
                                  .after_selection = batch_top_k_threshold},
    [MW_RELU] = {.name = "relu",
                 .free_decoder = true,
                 .dense = true,
                 .init = MW_INIT_TIED,
                 .center = MW_CENTER_ZERO,
                 .sparsity = 5,
                 .encode = relu_encode,
                 .shape = relu_shape,
                 .sum = relu_sum,
                 .penalty = plain_penalty,
                 .finish = relu_finish},
    [MW_JUMP_RELU] = {.name = "jump_relu",
                      .auxk = true,
                      .init = MW_INIT_TIED,
                      .center = MW_CENTER_ZERO,
                      .extra = {{"threshold", true, true}},
                      .sparsity_of_d = 6e-4,
                      .encode = jump_relu_encode,
                      .start = jump_relu_start,
                      .lay_out = jump_relu_lay_out,
                      .select = jump_relu_select,
                      .shape = jump_relu_shape,
                      .sum = jump_relu_sum,
                      .penalty = jump_relu_penalty,
                      .finish = jump_relu_finish,
                      .constrain = jump_relu_constrain},
    [MW_GATED] = {.name = "gated",
                  .init = MW_INIT_TIED,
                  .center = MW_CENTER_ZERO,
                  .extra = {{"r_mag", false, false}, {"b_mag", true, false}},
                  .sparsity = 2,
                  .encode = gated_encode,
                  .lay_out = gated_lay_out,
                  .select = gated_select,
                  .shape = gated_shape,
                  .sum = gated_sum,
                  .penalty = plain_penalty,
                  .finish = gated_finish},
    [MW_RELU_UNIT_NORM] = {.name = "relu_unit_norm",
                           .dense = true,
                           .init = MW_INIT_TIED,
                           .center = MW_CENTER_ZERO,
                           .sparsity = 5,
                           .encode = relu_encode,
                           .shape = relu_unit_norm_shape,
                           .sum = relu_unit_norm_sum,
                           .penalty = plain_penalty},
};

const variant_row *variant_of(const mw_sae *sae) {
    return &variants[sae->variant];
}

const char *mw_variant_name(mw_variant variant) {
    return variants[variant].name;
}

bool mw_variant_uses_k(mw_variant variant) {
    return variants[variant].uses_k;
}

bool mw_variant_uses_groups(mw_variant variant) {
    return variants[variant].grouped;
}

bool variant_has_auxk(mw_variant variant) {
    return variants[variant].uses_k || variants[variant].auxk;
}

bool mw_variant_uses_penalty(mw_variant variant) {
    return variants[variant].penalty != NULL;
}

mw_status mw_variant_parse(const char *name, mw_variant *out) {
    mw_text known = {0};
    for (int i = 0; i < MW_VARIANTS; i++) {
        if (strcmp(variants[i].name, name) == 0) {
            *out = (mw_variant)i;
            mw_text_free(&known);
            return MW_OK;
        }
        mw_text_addf(&known, "%s%s", i ? ", " : "", variants[i].name);
    }
    mw_status status =
        mw_error(MW_ERR_UNSUPPORTED, "sae.variant '%s': expected one of %s", name, known.failed ? "" : known.data);
    mw_text_free(&known);
    return status;
}
