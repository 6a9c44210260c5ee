/* Which rows of a dataset a harvest stores, in which order. */
#ifndef MICROW_HARVEST_ROW_PLAN_H
#define MICROW_HARVEST_ROW_PLAN_H

#include "microw/harvest.h"

typedef struct row_plan {
    mw_store_layout layout; /* points to the arrays below */
    uint32_t *ids, *sequence, *position;
    uint64_t *document, *offset, *length, *document_row, *block_row, *vocabulary_offset;
    mw_text vocabulary;
    int64_t *widths;
    bool *keep; /* [dataset->n_ids]: the rows that are stored */
} row_plan;

/* Makes a plan. `dataset` and `options` must outlive it; row_plan_free frees. MW_ERR_CONFIG, MW_ERR_UNSUPPORTED,
 * MW_ERR_MEMORY. Local. */
mw_status row_plan_make(const mw_model *model, const mw_dataset *dataset, const mw_tokenizer *tokenizer,
                        const mw_harvest_options *options, row_plan *out) MW_MUST_USE;
void row_plan_free(row_plan *plan);

#endif
