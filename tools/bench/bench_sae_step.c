/* Measures a training step of a TopK SAE and the products that bound it, in turns in one run; medians.
 *     [mpirun -n R] bench_sae_step [--device D] [--precision f32|tf32|bf16] [--shape d,n,k,B]... [--rounds N] [--aux K]
 *                                  [--screen auto|off|f32|bf16] [--shards S] [--side N] [--json]
 * product:  the device's matrix rate in this precision, by a large square product, of --side rows
 * encoder:  x W_enc^T of the batch alone, by chunks as in a step
 * step:     encoder, selection, decoder, gradients, Adam, unit decoder rows, and the communication of ranks
 * Under mpirun the batch is that of all ranks, all ranks work at the same time, and the slowest counts. Memory is the
 * largest of the ranks: its growth since before the SAE was made, and the estimate of mw_training_bytes. The lower
 * bound of a step is its encoder's multiplications at the product's rate. tools/bench/sae_step_torch.py does the same
 * in torch. */
#include "bench.h"
#include "sae/step/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { ROUNDS_MAX = 101, SHAPES_MAX = 16 };

typedef struct shape {
    int64_t d, n, k, batch;
} shape;

typedef struct bench {
    mw_backend *device, *host;
    mw_comm *comm;
    mw_precision precision;
    int64_t side; /* of the square product */
    float *a, *b, *c;
    uint16_t *b16;
    mw_packed *packed, *w_packed; /* the second operand of the square product; W_enc */
    uint16_t *w16;                /* W_enc in bf16, with precision bf16 */
    mw_screening screen;
    mw_sae *sae;
    mw_trainer *trainer;
    float *x; /* this rank's rows [end - begin, d], on the device */
    int64_t shards, begin, end;
    shape s;
    double memory, expected; /* bytes */
    double candidates;
} bench;

/* Returns the peak memory of this process. */
static double peak_bytes(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return 1024.0 * (double)u.ru_maxrss;
}

static float *device_floats(mw_backend *b, int64_t count) {
    float *host = mw_alloc((size_t)count * sizeof *host), *device = NULL;
    if (!host) exit(1);
    for (int64_t i = 0; i < count; i++) host[i] = (float)((i * 2654435761u >> 8) & 0xffff) / 65536 - 0.5f;
    must(mw_backend_floats(b, count, &device));
    must(b->ops->upload(b, device, host, (size_t)count * sizeof *host));
    mw_free(host);
    return device;
}

/* Returns when the device has finished all operations. */
static void finish(mw_backend *b, const float *any) {
    float one;
    must(b->ops->download(b, &one, any, sizeof one));
}

static mw_matmul square(const bench *t) {
    bool narrow = t->precision == MW_PRECISION_BF16;
    return (mw_matmul){.m = t->side,
                       .n = t->side,
                       .k = t->side,
                       .a = t->a,
                       .lda = t->side,
                       .b = narrow ? (const void *)t->b16 : t->b,
                       .b_dtype = narrow ? MW_BF16 : MW_F32,
                       .ldb = t->side,
                       .b_transposed = true,
                       .c = t->c,
                       .ldc = t->side,
                       .tf32 = t->precision == MW_PRECISION_TF32,
                       .packed = t->packed};
}

static void product(bench *t) {
    mw_matmul m = square(t);
    must(t->device->ops->matmul(t->device, &m));
    finish(t->device, t->c);
}

static void encoder(bench *t) {
    mw_trainer *tr = t->trainer;
    const mw_sae *s = tr->sae;
    int64_t chunk = mw_chunk_rows(t->device->ops->host_memory, s->n);
    float *pre = NULL;
    must(mw_backend_floats(t->device, chunk * s->n, &pre));
    for (int64_t r = t->begin; r < t->end; r += chunk)
        must(t->device->ops->matmul(t->device, &(mw_matmul){.m = t->end - r < chunk ? t->end - r : chunk,
                                                            .n = s->n,
                                                            .k = s->d,
                                                            .a = tr->input + r * s->d,
                                                            .lda = s->d,
                                                            .b = t->w16 ? (const void *)t->w16 : s->w_enc,
                                                            .b_dtype = t->w16 ? MW_BF16 : MW_F32,
                                                            .ldb = s->d,
                                                            .b_transposed = true,
                                                            .bias = s->b_enc,
                                                            .c = pre,
                                                            .ldc = s->n,
                                                            .tf32 = t->precision == MW_PRECISION_TF32,
                                                            .packed = t->w_packed}));
    finish(t->device, pre);
    t->device->ops->free(t->device, pre);
}

static void step(bench *t) {
    mw_step_report report;
    must(mw_trainer_step_on_device(t->trainer, t->x, NULL, &report));
    t->candidates = report.candidates;
    finish(t->device, t->trainer->error);
}

/* Writes this rank's rows to device memory, where a training's reader leaves them for the steps. */
static void make_rows(bench *t) {
    int64_t count = (t->end - t->begin) * t->s.d;
    float *host = mw_alloc((size_t)(count + 1) * sizeof *host);
    if (!host) exit(1);
#pragma omp parallel for
    for (int64_t i = 0; i < count; i++) host[i] = mw_rng_normal(1, 0, (uint64_t)(t->begin * t->s.d + i));
    must(mw_backend_floats(t->device, count, &t->x));
    must(t->device->ops->upload(t->device, t->x, host, (size_t)count * sizeof *host));
    mw_free(host);
}

static void open_shape(bench *t, int64_t aux) {
    const shape *s = &t->s;
    mw_sae_shape shape = {.variant = MW_TOPK, .n = s->n, .d = s->d, .k = s->k};
    mw_train_options o = {.batch = s->batch,
                          .steps = 1000,
                          .lr = 1e-4,
                          .lr_w_dec = 1,
                          .lr_b_enc = 1,
                          .lr_b_dec = 1,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .aux_k = aux,
                          .aux_coefficient = 1.0 / 32,
                          .dead_after = INT64_MAX / 2,
                          .precision = t->precision,
                          .screen = t->screen,
                          .shards = t->shards,
                          .device = t->device,
                          .decay = MW_DECAY_NONE};
    t->memory = -peak_bytes();
    must(mw_sae_new_shard(t->host, &shape, t->comm, t->shards, &t->sae));
    int64_t first = t->sae->shard.first * s->d;
#pragma omp parallel for
    for (int64_t i = 0; i < t->sae->n * s->d; i++)
        t->sae->w_enc[i] = t->sae->w_dec[i] = mw_rng_normal(2, 0, (uint64_t)(first + i)) / sqrtf((float)s->d);
    must(mw_trainer_new(t->sae, t->comm, &o, 1, &t->trainer));
    mw_trainer_rows(t->trainer, &t->begin, &t->end);
    make_rows(t);
    t->expected = (double)mw_training_bytes(&shape, &o, mw_comm_size(t->comm), !t->device->ops->host_memory);
}

/* Copies W_enc for the encoder's product alone, which reads it as a step without a screen would. */
static void copy_encoder(bench *t) {
    const mw_sae *s = t->trainer->sae;
    mw_backend *b = t->device;
    const mw_matmul like = {.n = s->n, .k = s->d, .b = s->w_enc, .b_dtype = MW_F32, .ldb = s->d, .b_transposed = true};
    bool narrow = t->precision == MW_PRECISION_BF16;
    if (narrow) must(mw_backend_zeros(b, s->n * s->d, sizeof *t->w16, &t->w16));
    if (narrow) must(b->ops->convert(b, MW_BF16, t->w16, s->w_enc, s->n * s->d));
    must(b->ops->pack(b, &like, narrow ? MW_BF16 : MW_F32, NULL, &t->w_packed));
}

static void close_shape(bench *t) {
    t->device->ops->free_packed(t->device, t->w_packed);
    t->device->ops->free(t->device, t->w16);
    t->w_packed = NULL;
    t->w16 = NULL;
    mw_trainer_free(&t->trainer);
    mw_sae_free(&t->sae);
    t->device->ops->free(t->device, t->x);
}

/* Times `what` on all ranks together; the slowest counts. */
static double timed(bench *t, void (*what)(bench *)) {
    must(mw_comm_barrier(t->comm));
    double seconds = mw_seconds();
    what(t);
    seconds = mw_seconds() - seconds;
    must(mw_comm_allreduce_max(t->comm, &seconds, 1));
    return seconds;
}

typedef struct result {
    double rate;         /* operations per second of all ranks' products */
    double alone, whole; /* seconds of the encoder alone, and of a step */
    double of_peak;      /* of a step: the encoder's operations at `rate` over its time */
    double candidates;   /* per row, of the last step */
} result;

static result measure(bench *t, int rounds, int64_t aux) {
    static void (*const what[3])(bench *) = {product, encoder, step};
    double seconds[3][ROUNDS_MAX], flops = 2.0 * (double)t->s.batch * (double)t->s.n * (double)t->s.d;
    open_shape(t, aux);
    step(t);
    t->memory += peak_bytes();
    must(mw_comm_allreduce_max(t->comm, &t->memory, 1));
    copy_encoder(t);
    for (int r = -2; r < rounds; r++) /* two to warm up */
        for (int w = 0; w < 3; w++) {
            double took = timed(t, what[w]);
            if (r >= 0) seconds[w][r] = took;
        }
    double candidates = t->candidates;
    close_shape(t);
    double side = (double)t->side, all = mw_comm_size(t->comm);
    result r = {.rate = all * 2 * side * side * side / median(seconds[0], rounds),
                .alone = median(seconds[1], rounds),
                .whole = median(seconds[2], rounds),
                .candidates = candidates};
    r.of_peak = flops / r.rate / r.whole;
    return r;
}

static void print_json(const bench *t, const result *r) {
    static const char *const names[] = {"f32", "tf32", "bf16"};
    printf("{\"device\":\"%s\",\"precision\":\"%s\",\"ranks\":%d,\"shards\":%lld,", t->device->ops->name,
           names[t->precision], mw_comm_size(t->comm), (long long)t->shards);
    printf("\"d\":%lld,\"n\":%lld,\"k\":%lld,\"batch\":%lld,", (long long)t->s.d, (long long)t->s.n, (long long)t->s.k,
           (long long)t->s.batch);
    printf("\"product_tflops\":%.4g,\"encoder_s\":%.6g,\"step_s\":%.6g,\"of_peak\":%.4f,\"candidates\":%.2f,",
           r->rate / 1e12, r->alone, r->whole, r->of_peak, r->candidates);
    printf("\"memory_bytes\":%.0f,\"expected_bytes\":%.0f}\n", t->memory, t->expected);
}

static void print_line(const bench *t, const result *r) {
    printf("%6lld %8lld %4lld %6lld  %8.3f TFLOP/s %10.2f ms %10.2f ms %7.2f x encoder %6.1f %% of peak %6.1f dots\n",
           (long long)t->s.d, (long long)t->s.n, (long long)t->s.k, (long long)t->s.batch, r->rate / 1e12,
           1e3 * r->alone, 1e3 * r->whole, r->whole / r->alone, 100 * r->of_peak, r->candidates);
}

static mw_screening screen_named(const char *name) {
    return strcmp(name, "off") == 0    ? MW_SCREEN_OFF
           : strcmp(name, "f32") == 0  ? MW_SCREEN_F32
           : strcmp(name, "bf16") == 0 ? MW_SCREEN_BF16
                                       : MW_SCREEN_AUTO;
}

static mw_precision precision_of(const char *name) {
    return strcmp(name, "bf16") == 0   ? MW_PRECISION_BF16
           : strcmp(name, "tf32") == 0 ? MW_PRECISION_TF32
                                       : MW_PRECISION_F32;
}

static void open_product(bench *t) {
    int64_t count = t->side * t->side;
    void *narrow = NULL;
    t->a = device_floats(t->device, count);
    t->b = device_floats(t->device, count);
    t->c = device_floats(t->device, count);
    must(t->device->ops->alloc(t->device, (size_t)count * 2, &narrow));
    t->b16 = narrow;
    must(t->device->ops->convert(t->device, MW_BF16, t->b16, t->b, count));
    mw_matmul m = square(t);
    must(t->device->ops->pack(t->device, &m, m.b_dtype, NULL, &t->packed));
}

int main(int argc, char **argv) {
    bench t = {.shards = 1};
    must(mw_comm_world(&argc, &argv, &t.comm));
    const char *device = "auto";
    shape shapes[SHAPES_MAX] = {{768, 24576, 32, 4096}};
    int n_shapes = 0, rounds = 9;
    int64_t aux = 0;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--device") == 0)
            device = argv[++i];
        else if (strcmp(argv[i], "--precision") == 0)
            t.precision = precision_of(argv[++i]);
        else if (strcmp(argv[i], "--screen") == 0)
            t.screen = screen_named(argv[++i]);
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = atoi(argv[++i]);
        else if (strcmp(argv[i], "--shards") == 0)
            t.shards = atoi(argv[++i]);
        else if (strcmp(argv[i], "--side") == 0)
            t.side = atoi(argv[++i]);
        else if (strcmp(argv[i], "--aux") == 0)
            aux = atoi(argv[++i]);
        else if (strcmp(argv[i], "--shape") == 0 && n_shapes < SHAPES_MAX) {
            long long d, n, k, batch;
            if (sscanf(next, "%lld,%lld,%lld,%lld", &d, &n, &k, &batch) != 4) return 2;
            shapes[n_shapes++] = (shape){d, n, k, batch};
            i++;
        } else {
            fprintf(stderr, "bench_sae_step: '%s' is no option\n", argv[i]);
            return 2;
        }
    }
    if (rounds < 1 || rounds > ROUNDS_MAX) return 2;
    bool root = mw_comm_rank(t.comm) == 0;
    must(mw_backend_open("cpu", &t.host));
    must(mw_backend_open_at(device, mw_comm_local_rank(t.comm), &t.device));
    if (t.side < 1) t.side = t.device->ops->host_memory ? 2048 : 8192;
    open_product(&t);
    if (!json && root) printf("     d        n    k  batch   product             encoder          step\n");
    for (int i = 0; i < (n_shapes ? n_shapes : 1); i++) {
        t.s = shapes[i];
        result r = measure(&t, rounds, aux);
        if (root) json ? print_json(&t, &r) : print_line(&t, &r);
        fflush(stdout);
    }
    t.device->ops->free_packed(t.device, t.packed);
    void *all[] = {t.a, t.b, t.c, t.b16};
    for (int i = 0; i < 4; i++) t.device->ops->free(t.device, all[i]);
    mw_backend_close(&t.device);
    mw_backend_close(&t.host);
    mw_comm_free(&t.comm);
    return 0;
}
