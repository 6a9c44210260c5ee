/* Lists of the m nearest. */
#include "concepts/discovery.h"

mw_status nearest_new(mw_nearest *near, int64_t n, int64_t m) {
    *near = (mw_nearest){.m = m};
    near->index = mw_alloc((size_t)(n * m) * sizeof *near->index);
    near->value = mw_calloc((size_t)(n * m), sizeof *near->value);
    if (!near->index || !near->value) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < n * m; i++) near->index[i] = -1;
    return MW_OK;
}

void nearest_offer(mw_nearest *near, int64_t latent, int32_t index, float value) {
    int32_t *of = near->index + latent * near->m;
    float *values = near->value + latent * near->m;
    int64_t at = near->m;
    while (at > 0 && (of[at - 1] < 0 || value > values[at - 1] || (value == values[at - 1] && index < of[at - 1]))) {
        if (at < near->m) {
            of[at] = of[at - 1];
            values[at] = values[at - 1];
        }
        at--;
    }
    if (at == near->m) return;
    of[at] = index;
    values[at] = value;
}

mw_status nearest_gather(const mw_nearest *near, const mw_comm *comm, int64_t n, int64_t block) {
    MW_TRY(mw_comm_allgather_shares(comm, near->index, n, block, (size_t)near->m * sizeof *near->index));
    return mw_comm_allgather_shares(comm, near->value, n, block, (size_t)near->m * sizeof *near->value);
}
