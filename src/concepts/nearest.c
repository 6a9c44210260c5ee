/* For each latent a sorted list of the m latents, or tokens, of largest value. */
#include "concepts/discovery.h"

mw_status nearest_new(mw_nearest *nearest, int64_t n, int64_t m) {
    *nearest = (mw_nearest){.m = m};
    nearest->index = mw_alloc((size_t)(n * m) * sizeof *nearest->index);
    nearest->value = mw_calloc((size_t)(n * m), sizeof *nearest->value);
    if (!nearest->index || !nearest->value) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < n * m; i++) nearest->index[i] = -1;
    return MW_OK;
}

void nearest_offer(mw_nearest *nearest, int64_t latent, int32_t index, float value) {
    int32_t *list = nearest->index + latent * nearest->m;
    float *values = nearest->value + latent * nearest->m;
    int64_t i = nearest->m;
    while (i > 0 && (list[i - 1] < 0 || value > values[i - 1] || (value == values[i - 1] && index < list[i - 1]))) {
        if (i < nearest->m) {
            list[i] = list[i - 1];
            values[i] = values[i - 1];
        }
        i--;
    }
    if (i == nearest->m) return;
    list[i] = index;
    values[i] = value;
}

mw_status nearest_gather(const mw_nearest *nearest, const mw_comm *comm, int64_t n, int64_t block) {
    MW_TRY(mw_comm_allgather_shares(comm, nearest->index, n, block, (size_t)nearest->m * sizeof *nearest->index));
    return mw_comm_allgather_shares(comm, nearest->value, n, block, (size_t)nearest->m * sizeof *nearest->value);
}
