/* The messages of a training step: how many there are, and that a rank which fails between them ends the step on all
 * ranks. */
#include "sae/shards.h"
#include "ranks.h"

#include <mpi.h>

enum { N = 1100, D = 24, K = 6, BATCH = 640, STEPS = 14, SETTLED = 6 };

static mw_comm *world;
static mw_backend *cpu;

/* ---- counting ---------------------------------------------------------------------------------------------------- */

static int collectives;

int MPI_Allreduce(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
    collectives++;
    return PMPI_Allreduce(in, out, count, type, op, comm);
}

int MPI_Allgather(const void *in, int count, MPI_Datatype type, void *out, int out_count, MPI_Datatype out_type,
                  MPI_Comm comm) {
    collectives++;
    return PMPI_Allgather(in, count, type, out, out_count, out_type, comm);
}

int MPI_Allgatherv(const void *in, int count, MPI_Datatype type, void *out, const int *counts, const int *offsets,
                   MPI_Datatype out_type, MPI_Comm comm) {
    collectives++;
    return PMPI_Allgatherv(in, count, type, out, counts, offsets, out_type, comm);
}

int MPI_Bcast(void *data, int count, MPI_Datatype type, int root, MPI_Comm comm) {
    collectives++;
    return PMPI_Bcast(data, count, type, root, comm);
}

int MPI_Barrier(MPI_Comm comm) {
    collectives++;
    return PMPI_Barrier(comm);
}

/* ---- a training -------------------------------------------------------------------------------------------------- */

static void make_rows(float *x, int64_t first, int64_t rows) {
    for (int64_t i = 0; i < rows * D; i++) x[i] = (float)mw_rng_normal(1, 1, (uint64_t)(first * D + i));
}

/* With dead latents from the third step on. */
static void begin(mw_variant variant, mw_backend *b, int64_t shards, mw_sae **sae, mw_trainer **t) {
    static const int64_t groups[] = {300, 800};
    const mw_sae_shape shape = {.variant = variant,
                                .n = N,
                                .d = D,
                                .k = mw_variant_uses_k(variant) ? K : 0,
                                .n_groups = mw_variant_uses_groups(variant) ? 2 : 0,
                                .group = groups};
    mw_train_options o = mw_train_defaults(&shape, STEPS * BATCH, BATCH);
    float *x = mw_alloc(BATCH * D * sizeof *x);
    NEED(x);
    make_rows(x, 0, BATCH);
    o.shards = shards;
    o.aux_after = o.dead_after = 2 * BATCH;
    o.seed = 1;
    NEED_OK(mw_sae_new_shard(b, &shape, world, shards, sae));
    NEED_OK(mw_sae_initialize(*sae, x, NULL, BATCH, &o));
    NEED_OK(mw_trainer_new(*sae, world, &o, 1, t));
    mw_free(x);
}

static mw_status step(mw_trainer *t, mw_step_report *report) {
    float x[BATCH * D];
    int64_t first, last;
    mw_trainer_rows(t, &first, &last);
    make_rows(x, mw_trainer_steps_done(t) * BATCH + first, last - first);
    return mw_trainer_step(t, x, NULL, report);
}

static void end(mw_sae **sae, mw_trainer **t) {
    mw_trainer_free(t);
    mw_sae_free(sae);
}

/* ---- how many collectives a step has ----------------------------------------------------------------------------- */

/* Returns the most of a step, with AuxK at work where the variant has it. */
static int most_collectives(mw_variant variant, int64_t shards) {
    mw_sae *sae;
    mw_trainer *t;
    mw_step_report report;
    int most = 0;
    begin(variant, cpu, shards, &sae, &t);
    for (int s = 0; s < STEPS; s++) {
        int before = collectives;
        NEED_OK(step(t, &report));
        if (s >= SETTLED && collectives - before > most) most = collectives - before;
    }
    CHECK(!mw_variant_uses_k(variant) || report.aux_loss > 0);
    end(&sae, &t);
    return most;
}

static void counts(void) {
    enum { PLAIN = 8, SHARDED = 12, SEARCH = 4 };
    static const mw_variant plain[] = {MW_TOPK,  MW_MULTI_TOPK,     MW_MATRYOSHKA_TOPK, MW_RELU,
                                       MW_GATED, MW_RELU_UNIT_NORM, MW_JUMP_RELU};
    int size = mw_comm_size(world);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        int most = most_collectives(plain[i], 1);
        CHECK(size == 1 ? most == 0 : most > 0 && most <= PLAIN);
    }
    /* the k-th value of a batch takes 2 to 4 messages beside the others */
    CHECK(most_collectives(MW_BATCH_TOPK, 1) <= PLAIN - 2 + SEARCH);
    if (size % 2 != 0) return;
    CHECK(most_collectives(MW_TOPK, 2) <= SHARDED);
    CHECK(most_collectives(MW_JUMP_RELU, 2) <= SHARDED);
}

/* ---- failures on one rank ---------------------------------------------------------------------------------------- */

static int calls, failing_call; /* operations of the step so far; the one that fails; 0: none */

static bool fails(void) {
    return failing_call && ++calls == failing_call;
}

#define FAILING(name, parameters, arguments)                                                                           \
    static mw_status failing_##name parameters {                                                                       \
        return fails() ? MW_ERR_BACKEND : cpu->ops->name arguments;                                                    \
    }

FAILING(alloc, (mw_backend * b, size_t bytes, void **out), (b, bytes, out))
FAILING(subtract_row, (mw_backend * b, float *out, const float *x, const float *row, int64_t rows, int64_t d),
        (b, out, x, row, rows, d))
FAILING(combine, (mw_backend * b, float *out, float a, const float *x, float c, const float *y, int64_t count),
        (b, out, a, x, c, y, count))
FAILING(sparse_decode,
        (mw_backend * b, float *out, const float *bias, bool add, const int64_t *start, const int32_t *index,
         const float *value, int64_t rows, const float *w, int64_t d),
        (b, out, bias, add, start, index, value, rows, w, d))
FAILING(tile_sums, (mw_backend * b, double *out, const float *x, int64_t rows, int64_t d), (b, out, x, rows, d))
FAILING(copy_2d,
        (mw_backend * b, float *to, int64_t to_stride, const float *from, int64_t from_stride, int64_t rows,
         int64_t width),
        (b, to, to_stride, from, from_stride, rows, width))
FAILING(list_silent, (mw_backend * b, const int64_t *since, int64_t n, int64_t after, int32_t *out, int64_t *count),
        (b, since, n, after, out, count))
FAILING(sparse_outer, (mw_backend * b, float *out, const mw_latent_lists *lists, const float *x, int64_t d),
        (b, out, lists, x, d))
FAILING(add_rows, (mw_backend * b, double *out, const double *x, int64_t rows, int64_t width, bool add),
        (b, out, x, rows, width, add))
FAILING(adam,
        (mw_backend * b, float *param, const float *grad, float *m, float *v, int64_t rows, int64_t d,
         const mw_adam *how),
        (b, param, grad, m, v, rows, d, how))

/* Lets operation `call` of a step fail on one rank. All ranks must return its status, at the latest from the next step.
 * Returns whether there is such an operation. */
static bool fail_at(mw_variant variant, int64_t shards, mw_backend *b, int rank, int call) {
    mw_sae *sae;
    mw_trainer *t;
    mw_status status = MW_OK;
    begin(variant, b, shards, &sae, &t);
    for (int s = 0; s < 3; s++) NEED_OK(step(t, NULL));
    calls = 0;
    failing_call = mw_comm_rank(world) == rank ? call : 0;
    int64_t reached = 0;
    for (int s = 0; s < 2 && status == MW_OK && !reached; s++) {
        status = step(t, NULL);
        reached = calls >= call && failing_call;
        NEED_OK(mw_comm_allreduce_sum(world, &reached, 1));
    }
    failing_call = 0;
    if (reached && status == MW_OK) status = step(t, NULL);
    CHECK(!reached || status == MW_ERR_BACKEND);
    end(&sae, &t);
    return reached;
}

static void failures(void) {
    static const mw_variant variants[] = {MW_TOPK, MW_BATCH_TOPK, MW_JUMP_RELU};
    int size = mw_comm_size(world), stride = size > 2 ? 17 : 7; /* the operations that are tried take turns by rank */
    if (mw_environment("MICROW_QUICK")) stride *= 6;            /* where each step is slow */
    mw_backend_ops ops = *cpu->ops;
    mw_backend broken = *cpu;
    ops.alloc = failing_alloc;
    ops.subtract_row = failing_subtract_row;
    ops.combine = failing_combine;
    ops.sparse_decode = failing_sparse_decode;
    ops.tile_sums = failing_tile_sums;
    ops.copy_2d = failing_copy_2d;
    ops.list_silent = failing_list_silent;
    ops.sparse_outer = failing_sparse_outer;
    ops.add_rows = failing_add_rows;
    ops.adam = failing_adam;
    broken.ops = &ops;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        for (int64_t shards = 1; shards <= 2 && size % shards == 0; shards++)
            for (int rank = 0; rank < size; rank++)
                for (int call = 1 + rank; fail_at(variants[i], shards, &broken, rank, call);) call += stride;
}

int main(int argc, char **argv) {
    NEED_OK(mw_comm_world(&argc, &argv, &world));
    NEED_OK(mw_backend_open("cpu", &cpu));
    RUN(counts);
    RUN(failures);
    mw_backend_close(&cpu);
    return test_end_of_ranks(&world);
}
