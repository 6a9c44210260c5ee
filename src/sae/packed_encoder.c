/* Packing of W_enc in the layout that products of many rows read fastest. */
#include "sae/variants/variants.h"

/* Packing reads and writes all of W_enc, which pays from about 400 rows on one thread. The choice depends on the batch
 * of all ranks, not on a rank's rows, as packed products round differently. */
enum { PACK_ROWS = 1024 };

bool training_packs(const mw_train_options *options) {
    return options->batch >= PACK_ROWS;
}

mw_status sae_pack(mw_sae *sae) {
    return sae->backend->ops->pack(sae->backend,
                                   &(mw_matmul){.n = sae->n,
                                                .k = sae->d,
                                                .b = sae->w_enc16 ? (const void *)sae->w_enc16 : sae->w_enc,
                                                .b_dtype = sae->w_enc16 ? MW_BF16 : MW_F32,
                                                .ldb = sae->d,
                                                .b_transposed = true},
                                   &sae->packed);
}

void sae_unpack(mw_sae *sae) {
    if (sae->packed) sae->backend->ops->free_packed(sae->backend, sae->packed);
    sae->packed = NULL;
}
