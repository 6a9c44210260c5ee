/* The rates of a rank: from data sheets, or measured. */
#include "experiment/plan/rates.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- devices ------------------------------------------------------------------------------------------- */

typedef struct device {
    const char *name;
    double tf32, memory_rate, link, network, memory; /* peaks, from data sheets */
} device;

/* Dense TF32, HBM, NVLink one way, one 400 (A100: 200) Gbit/s port a GPU. */
static const device devices[] = {{"a100", 156e12, 2.0e12, 300e9, 25e9, 80e9},
                                 {"h100", 494e12, 3.35e12, 450e9, 50e9, 80e9},
                                 {"h200", 494e12, 4.8e12, 450e9, 50e9, 141e9}};
enum { DEVICES = sizeof devices / sizeof *devices };

mw_status rates_of_device(const char *name, rates *out) {
    for (int i = 0; i < DEVICES; i++) {
        const device *d = &devices[i];
        if (strcmp(d->name, name) != 0) continue;
        double memory = 0.8 * d->memory_rate;
        /* All but matrix products are bound by memory: a pre-activation is written and read, sparse decoding reads
         * one number for two operations, an update moves ten numbers. */
        *out = (rates){.matmul = 0.6 * d->tf32,
                       .attention = 0.3 * d->tf32,
                       .select = memory / 8,
                       .sparse = memory / 2,
                       .adam = memory / 40,
                       .passes = memory / 8,
                       .inside = 0.7 * d->link,
                       .between = 0.8 * d->network,
                       .latency = 2e-5,
                       .disk_write = 5e9,
                       .disk_read = 10e9,
                       .memory = d->memory};
        return MW_OK;
    }
    return mw_error(MW_ERR_CONFIG, "device '%s': expected a100, h100, h200, or measured", name);
}

void rates_print(const rates *r) {
    printf("rates      matrix products %.4g GFLOP/s, attention %.4g GFLOP/s, top-k %.4g M/s, sparse %.4g GFLOP/s, "
           "updates %.4g M/s a rank\n",
           r->matmul / 1e9, r->attention / 1e9, r->select / 1e6, r->sparse / 1e9, r->adam / 1e6);
    printf(
        "           gathers %.3g GB/s in a node, %.3g GB/s between, %.3g us each; disk %.3g GB/s out, %.3g GB/s in\n",
        r->inside / 1e9, r->between / 1e9, r->latency * 1e6, r->disk_write / 1e9, r->disk_read / 1e9);
}

/* ---- measuring ----------------------------------------------------------------------------------------- */

typedef struct bench {
    mw_backend *backend;
    const mw_comm *comm;
    const rate_sizes *s;
    const char *folder;
    float *a, *b, *c, *v; /* [room] each */
    int64_t room;
    int32_t *index, *row;
    int64_t *start, *first, lists;
} bench;

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Measures the seconds of a call: the median of five, after one that is not counted. */
static mw_status timed(bench *t, mw_status (*call)(bench *), double *out) {
    double seconds[5];
    MW_TRY(call(t));
    for (int i = 0; i < 5; i++) {
        double start = mw_seconds();
        MW_TRY(call(t));
        seconds[i] = mw_seconds() - start;
    }
    qsort(seconds, 5, sizeof *seconds, by_size);
    *out = fmax(seconds[2], 1e-9);
    return MW_OK;
}

enum { ROWS = MW_ROW_TILE * 4, ADAM_MOST = 1 << 23, SEQUENCES = 4 };

static mw_status multiply(bench *t, int64_t n, int64_t k) {
    return t->backend->ops->matmul(t->backend, &(mw_matmul){.m = ROWS,
                                                            .n = n,
                                                            .k = k,
                                                            .a = t->a,
                                                            .lda = k,
                                                            .b = t->b,
                                                            .b_dtype = MW_F32,
                                                            .ldb = k,
                                                            .b_transposed = true,
                                                            .c = t->c,
                                                            .ldc = n});
}

static mw_status model_product(bench *t) {
    return multiply(t, t->s->d_mlp, t->s->width);
}

static mw_status encoder_product(bench *t) {
    return multiply(t, t->s->n, t->s->d);
}

static mw_status attend(bench *t) {
    int64_t first[SEQUENCES], length[SEQUENCES];
    const float *keys[SEQUENCES], *values[SEQUENCES];
    for (int i = 0; i < SEQUENCES; i++) {
        first[i] = i * t->s->context;
        length[i] = t->s->context;
        keys[i] = t->b + first[i] * t->s->heads * t->s->head_dim;
        values[i] = t->v + first[i] * t->s->heads * t->s->head_dim;
    }
    return t->backend->ops->attention(t->backend, &(mw_attention){.n_seq = SEQUENCES,
                                                                  .q_row = first,
                                                                  .q_len = length,
                                                                  .kv_len = length,
                                                                  .k = keys,
                                                                  .v = values,
                                                                  .q = t->a,
                                                                  .out = t->c,
                                                                  .n_heads = t->s->heads,
                                                                  .n_kv_heads = t->s->heads,
                                                                  .head_dim = t->s->head_dim,
                                                                  .scale = 0.1f});
}

static mw_status select_codes(bench *t) {
    return t->backend->ops->top_k(t->backend, t->c, ROWS, t->s->n, t->s->k, t->index, t->v);
}

/* Decodes, and sums a gradient by latent, which reads memory in another order. */
static mw_status decode(bench *t) {
    const mw_latent_lists lists = {t->lists, ROWS * t->s->k, t->first, t->row, t->v};
    MW_TRY(
        t->backend->ops->sparse_decode(t->backend, t->a, NULL, false, t->start, t->index, t->v, ROWS, t->b, t->s->d));
    return t->backend->ops->sparse_outer(t->backend, t->b, &lists, t->a, t->s->d);
}

/* Makes a list for each latent, all of the same length. */
static void make_lists(bench *t) {
    int64_t entries = ROWS * t->s->k;
    t->lists = t->s->n < entries ? t->s->n : entries;
    for (int64_t i = 0; i <= t->lists; i++) t->first[i] = entries * i / t->lists;
    for (int64_t i = 0; i < entries; i++) t->row[i] = (int32_t)(i * 131 % ROWS);
}

/* Stands for the copies, scales and sums of a batch: a step makes about ten such passes. */
static mw_status pass_over(bench *t) {
    int64_t count = ROWS * t->s->d;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) t->a[i] = 0.5f * t->a[i] - t->v[i];
    for (int64_t i = 0; i < count; i++) sum += (double)t->a[i] * t->a[i];
    t->v[0] = sum > 0 ? 0.25f : 0.5f; /* keeps the sum from being optimized away */
    return MW_OK;
}

static int64_t adam_count(const bench *t) {
    int64_t all = t->s->n * t->s->d;
    return all < ADAM_MOST ? all : ADAM_MOST;
}

static mw_status update(bench *t) {
    const mw_adam adam = {.lr = 1e-9f,
                          .beta1 = 0.9f,
                          .beta2 = 0.999f,
                          .one_minus_beta1 = 0.1f,
                          .one_minus_beta2 = 0.001f,
                          .eps = 1e-8f,
                          .correction1 = 1,
                          .correction2 = 1,
                          .grad_scale = 1};
    int64_t count = adam_count(t), rows = count / t->s->d;
    double squares = 0;
    memset(t->a, 0, (size_t)count * sizeof *t->a);
    MW_TRY(t->backend->ops->unit_rows(t->backend, t->b, t->a, rows > 0 ? rows : 1, t->s->d));
    for (int64_t i = 0; i < count; i++) squares += (double)t->a[i] * t->a[i]; /* the norm, for clipping */
    if (squares > 1) t->a[0] = 0;
    return t->backend->ops->adam(t->backend, t->b, t->a, t->c, t->v, 1, count, &adam);
}

static mw_status gather_large(bench *t) {
    return mw_comm_allgather_shares(t->comm, t->c, t->room, 1, sizeof(float));
}

static mw_status gather_nothing(bench *t) {
    return mw_comm_agree(t->comm, MW_OK) == MW_OK ? mw_comm_barrier(t->comm) : MW_ERR_COMM;
}

/* ---- the disk ------------------------------------------------------------------------------------------ */

static mw_status write_file(const char *path, const bench *t, double *rate) {
    mw_shared_file file;
    double start = mw_seconds();
    size_t bytes = (size_t)t->room * sizeof(float);
    MW_TRY(mw_shared_open(path, true, &file));
    mw_status status = mw_shared_write(&file, 0, t->c, bytes);
    mw_status closed = mw_shared_close(&file); /* synced */
    *rate = (double)bytes / fmax(mw_seconds() - start, 1e-9);
    return status == MW_OK ? closed : status;
}

/* Reads the file after the page cache has dropped it. */
static mw_status read_file(const char *path, const bench *t, double *rate) {
    size_t bytes = (size_t)t->room * sizeof(float), got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return mw_error(MW_ERR_IO, "%s cannot be read", path);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    double start = mw_seconds();
    for (ssize_t n; got < bytes && (n = read(fd, (char *)t->c + got, bytes - got)) > 0;) got += (size_t)n;
    *rate = (double)got / fmax(mw_seconds() - start, 1e-9);
    close(fd);
    return MW_OK;
}

static mw_status try_disk(const bench *t, rates *out) {
    MW_TRY(mw_make_directories(t->folder));
    char *path = mw_format("%s/rates.%ld.tmp", t->folder, (long)getpid());
    if (!path) return MW_ERR_MEMORY;
    mw_status status = write_file(path, t, &out->disk_write);
    if (status == MW_OK) status = read_file(path, t, &out->disk_read);
    unlink(path);
    mw_free(path);
    return status;
}

/* ---- all rates ----------------------------------------------------------------------------------------- */

static double products(const rate_sizes *s) {
    return 2.0 * ROWS * (double)(s->d_mlp * s->width) + 2.0 * ROWS * (double)(s->n * s->d);
}

static mw_status measure_compute(bench *t, rates *out) {
    const rate_sizes *s = t->s;
    double first, second, seconds;
    MW_TRY(timed(t, model_product, &first));
    MW_TRY(timed(t, encoder_product, &second));
    out->matmul = products(s) / (first + second);
    MW_TRY(timed(t, select_codes, &seconds)); /* on the result of the encoder's product */
    out->select = (double)(ROWS * s->n) / seconds;
    for (int64_t r = 0; r <= ROWS; r++) t->start[r] = r * s->k;
    make_lists(t);
    MW_TRY(timed(t, decode, &seconds));
    out->sparse = 4.0 * (double)(ROWS * s->k * s->d) / seconds;
    MW_TRY(timed(t, pass_over, &seconds));
    out->passes = 2.0 * (double)(ROWS * s->d) / seconds;
    MW_TRY(timed(t, attend, &seconds));
    out->attention = 2.0 * SEQUENCES * (double)(s->context * s->context * s->heads * s->head_dim) / seconds;
    MW_TRY(timed(t, update, &seconds));
    out->adam = (double)adam_count(t) / seconds;
    return MW_OK;
}

static mw_status measure_gathers(bench *t, rates *out) {
    double seconds, ranks = mw_comm_size(t->comm);
    MW_TRY(timed(t, gather_nothing, &seconds));
    out->latency = ranks > 1 ? seconds / 2 : 0;
    MW_TRY(timed(t, gather_large, &seconds));
    out->inside = ranks > 1 ? (double)t->room * sizeof(float) * (ranks - 1) / ranks / seconds : 1e12;
    out->between = out->inside; /* measured within a node only */
    return MW_OK;
}

static int64_t largest(const int64_t *list, int count) {
    int64_t most = 0;
    for (int i = 0; i < count; i++)
        if (list[i] > most) most = list[i];
    return most;
}

static mw_status allocate(bench *t) {
    const rate_sizes *s = t->s;
    const int64_t wanted[] = {ROWS * s->width, ROWS * s->d_mlp, s->width * s->d_mlp,
                              ROWS * s->n,     s->n * s->d,     SEQUENCES * s->context * s->heads * s->head_dim,
                              ROWS * s->k,     ROWS * s->d,     1 << 24};
    t->room = largest(wanted, sizeof wanted / sizeof *wanted);
    enum { NOISE = 1 << 16 }; /* like activations: top-k is faster on regular data */
    float noise[NOISE];
    for (int i = 0; i < NOISE; i++) noise[i] = mw_rng_normal(1, 0, (uint64_t)i);
    float **const all[] = {&t->a, &t->b, &t->c, &t->v};
    for (int i = 0; i < 4; i++) {
        if (!(*all[i] = mw_alloc((size_t)t->room * sizeof(float)))) return MW_ERR_MEMORY;
        for (int64_t j = 0; j < t->room; j++) (*all[i])[j] = noise[(j * 7919 + i) % NOISE];
    }
    t->index = mw_calloc((size_t)(ROWS * s->k), sizeof *t->index);
    t->row = mw_calloc((size_t)(ROWS * s->k), sizeof *t->row);
    t->start = mw_calloc(ROWS + 1, sizeof *t->start);
    t->first = mw_calloc((size_t)(ROWS * s->k) + 1, sizeof *t->first);
    return t->index && t->row && t->start && t->first ? MW_OK : MW_ERR_MEMORY;
}

mw_status rates_measure(mw_backend *backend, const mw_comm *comm, const rate_sizes *sizes, const char *folder,
                        rates *out) {
    bench t = {.backend = backend, .comm = comm, .s = sizes, .folder = folder};
    rates made = {0};
    mw_status status = mw_comm_free_memory(comm, &made.memory); /* before the buffers are allocated */
    if (status == MW_OK) status = mw_comm_agree(comm, allocate(&t));
    if (status == MW_OK) status = mw_comm_agree(comm, measure_compute(&t, &made));
    if (status == MW_OK) status = measure_gathers(&t, &made);
    if (status == MW_OK) status = mw_comm_agree(comm, mw_comm_rank(comm) == 0 ? try_disk(&t, &made) : MW_OK);
    void *all[] = {t.a, t.b, t.c, t.v, t.index, t.row, t.start, t.first};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    if (status == MW_OK) *out = made;
    return status;
}
