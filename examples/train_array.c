/* Trains an SAE on an array in memory, here sums of three of 200 directions, and measures it.
 *     train_array [FOLDER]          FOLDER: output folder of the SAE */
#include <microw/microw.h>

#include <stdio.h>

enum { ROWS = 20000, D = 32, LATENTS = 256, K = 3, DIRECTIONS = 200 };

static float *make_rows(void) {
    float *x = (float *)mw_calloc((size_t)ROWS * D, sizeof *x);
    for (int64_t r = 0; x && r < ROWS; r++)
        for (uint64_t part = 0; part < 3; part++) {
            uint64_t which = (uint64_t)(mw_rng_uniform(1, part, (uint64_t)r) * (float)DIRECTIONS);
            float length = 0.5f + mw_rng_uniform(2, part, (uint64_t)r);
            for (int64_t i = 0; i < D; i++) x[r * D + i] += length * mw_rng_normal(3, which, (uint64_t)i);
        }
    return x;
}

/* Measures the SAE over all rows, in an order that does not depend on the number of ranks. */
static mw_status measure(const mw_sae *sae, const float *x, const mw_comm *comm, mw_sae_metrics *out) {
    mw_store *store = NULL;
    mw_store_view view;
    mw_status status = mw_store_of_array(x, ROWS, D, "0.resid_post", &store);
    if (status == MW_OK) status = mw_store_view_open(store, "0.resid_post", &view);
    if (status == MW_OK) status = mw_sae_measure(sae, &view, NULL, MW_NAN_STOP, comm, out);
    mw_store_close(&store);
    return status;
}

static mw_status run(const float *x, const char *folder) {
    const mw_sae_shape shape = {.variant = MW_TOPK, .n = LATENTS, .d = D, .k = K};
    mw_train_options options = mw_train_defaults(&shape, 50 * ROWS, 512);
    mw_backend *backend = NULL;
    mw_comm *self = NULL;
    mw_sae *sae = NULL;
    mw_sae_metrics m;
    mw_status status = mw_comm_self(&self); /* mw_comm_world: the ranks of mpirun share each batch */
    if (status == MW_OK) status = mw_backend_open("cpu", &backend);
    if (status == MW_OK) status = mw_sae_new(backend, &shape, &sae);
    if (status == MW_OK) status = mw_sae_train_array(sae, x, ROWS, self, &options, NULL);
    if (status == MW_OK) status = measure(sae, x, self, &m);
    if (status == MW_OK)
        printf("FVU %.4f, L0 %.1f, %lld of %d latents dead\n", m.fvu, m.l0, (long long)m.dead, LATENTS);
    if (status == MW_OK && folder) status = mw_sae_save(sae, folder);
    mw_sae_free(&sae);
    mw_backend_close(&backend);
    mw_comm_free(&self);
    return status;
}

int main(int argc, char **argv) {
    float *x = make_rows();
    mw_status status = x ? run(x, argc > 1 ? argv[1] : NULL) : MW_ERR_MEMORY;
    mw_free(x);
    return status == MW_OK ? 0 : 1;
}
