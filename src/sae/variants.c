#include "sae/variants.h"

#include <string.h>

static const variant_row variants[] = {
    [MW_TOPK] = {.name = "topk", .encode = top_k_encode},
    [MW_BATCH_TOPK] = {.name = "batch_topk",
                       .encode = threshold_encode,
                       .select = batch_top_k_select,
                       .after_selection = batch_top_k_threshold},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

const variant_row *variant_of(const mw_sae *sae) {
    return &variants[sae->variant];
}

const char *mw_variant_name(mw_variant variant) {
    return variants[variant].name;
}

mw_status mw_variant_parse(const char *name, mw_variant *out) {
    for (int i = 0; i < VARIANTS; i++)
        if (strcmp(variants[i].name, name) == 0) {
            *out = (mw_variant)i;
            return MW_OK;
        }
    return mw_error(MW_ERR_UNSUPPORTED, "SAE variant '%s' is not supported; these are: topk, batch_topk", name);
}
