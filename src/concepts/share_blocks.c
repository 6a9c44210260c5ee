/* Division of a store's blocks among the ranks. */
#include "concepts/discovery.h"

mw_status share_blocks(const mw_store *store, const mw_comm *comm, uint64_t **row, int64_t *begin, int64_t *end) {
    int64_t n_blocks;
    MW_TRY(mw_store_blocks(store, &n_blocks, row));
    mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), n_blocks, 1, begin, end);
    return MW_OK;
}
