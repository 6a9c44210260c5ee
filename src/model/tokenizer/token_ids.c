/* Growing arrays of token ids. */
#include "microw/tokenizer.h"

mw_status mw_ids_add(mw_ids *ids, int32_t id) {
    if (!MW_GROW(ids->data, ids->count, ids->capacity)) return MW_ERR_MEMORY;
    ids->data[ids->count++] = id;
    return MW_OK;
}

void mw_ids_free(mw_ids *ids) {
    mw_free(ids->data);
    *ids = (mw_ids){0};
}
