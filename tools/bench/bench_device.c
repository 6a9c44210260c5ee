/* Measures the ceilings of a device that programs reach, with which other figures are compared.
 *     bench_device [--device D] [--megabytes N] [--side N] [--rounds N]
 * Prints one line of JSON for each, medians: bytes per second to the device and back, from pinned and from plain
 * memory; bytes per second read and written by a sum of two arrays on the device; operations per second of a square
 * product in f32, TF32 and bf16. */
#include "bench.h"
#include "microw/backend.h"

#include <stdio.h>
#include <string.h>

enum { ROUNDS_MAX = 101 };

typedef struct bench {
    mw_backend *b;
    int rounds;
    size_t bytes;
    int64_t side;
    void *pinned, *plain;
    float *x, *y; /* on the device, `bytes` each */
} bench;

/* Returns when the device has finished all operations. */
static void finish(const bench *t) {
    float one;
    must(t->b->ops->download(t->b, &one, t->x, sizeof one));
}

static void to_pinned(bench *t) {
    must(t->b->ops->mark(t->b));
    must(t->b->ops->send(t->b, t->x, t->pinned, t->bytes));
}

static void from_pinned(bench *t) {
    must(t->b->ops->fetch(t->b, 0, t->pinned, t->x, t->bytes));
    must(t->b->ops->fetched(t->b, 0));
}

static void to_plain(bench *t) {
    must(t->b->ops->upload(t->b, t->x, t->plain, t->bytes));
}

static void from_plain(bench *t) {
    must(t->b->ops->download(t->b, t->plain, t->x, t->bytes));
}

static void add(bench *t) {
    must(t->b->ops->add(t->b, t->x, t->y, (int64_t)(t->bytes / sizeof(float))));
    finish(t);
}

static double seconds_of(bench *t, void (*call)(bench *)) {
    double seconds[ROUNDS_MAX];
    for (int r = -1; r < t->rounds; r++) {
        double start = mw_seconds();
        call(t);
        if (r >= 0) seconds[r] = mw_seconds() - start;
    }
    return median(seconds, t->rounds);
}

static void print_rate(const char *what, double rate, const char *unit, double seconds) {
    printf("{\"what\":\"%s\",\"rate\":%.6g,\"unit\":\"%s\",\"seconds\":%.6g}\n", what, rate, unit, seconds);
    fflush(stdout);
}

static void copies(bench *t) {
    static const struct {
        const char *what;
        void (*call)(bench *);
        double moved; /* bytes moved, in units of t->bytes */
    } all[] = {{"pinned to device", to_pinned, 1},
               {"device to pinned", from_pinned, 1},
               {"plain to device", to_plain, 1},
               {"device to plain", from_plain, 1},
               {"device memory, two reads and a write", add, 3}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        double seconds = seconds_of(t, all[i].call);
        print_rate(all[i].what, all[i].moved * (double)t->bytes / seconds, "B/s", seconds);
    }
}

/* Times x x^T of the first side * side numbers; enough in a row that the wait for the last one does not count. */
static void products(bench *t, const char *what, mw_dtype dtype, bool tf32) {
    enum { IN_A_ROW = 8 };
    int64_t n = t->side;
    float *c = NULL;
    void *narrow = NULL;
    double seconds[ROUNDS_MAX];
    must(mw_backend_floats(t->b, n * n, &c));
    must(t->b->ops->alloc(t->b, (size_t)(n * n) * 2, &narrow));
    if (dtype == MW_BF16) must(t->b->ops->convert(t->b, MW_BF16, narrow, t->x, n * n));
    mw_matmul m = {.m = n,
                   .n = n,
                   .k = n,
                   .a = t->x,
                   .lda = n,
                   .b = dtype == MW_BF16 ? narrow : t->x,
                   .b_dtype = dtype,
                   .ldb = n,
                   .b_transposed = true,
                   .c = c,
                   .ldc = n,
                   .tf32 = tf32};
    for (int r = -1; r < t->rounds; r++) {
        finish(t);
        double start = mw_seconds();
        for (int i = 0; i < IN_A_ROW; i++) must(t->b->ops->matmul(t->b, &m));
        finish(t);
        if (r >= 0) seconds[r] = (mw_seconds() - start) / IN_A_ROW;
    }
    double middle = median(seconds, t->rounds);
    print_rate(what, 2.0 * (double)n * (double)n * (double)n / middle, "operations/s", middle);
    t->b->ops->free(t->b, narrow);
    t->b->ops->free(t->b, c);
}

static const char *option(int argc, char **argv, const char *name, const char *fallback) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0) return argv[i + 1];
    return fallback;
}

int main(int argc, char **argv) {
    bench t = {.rounds = atoi(option(argc, argv, "--rounds", "9"))};
    void *block[2] = {NULL, NULL};
    if (t.rounds < 1 || t.rounds > ROUNDS_MAX) return 2;
    must(mw_backend_open(option(argc, argv, "--device", "auto"), &t.b));
    t.side = atoll(option(argc, argv, "--side", t.b->ops->host_memory ? "1024" : "8192"));
    t.bytes = (size_t)atoll(option(argc, argv, "--megabytes", "512")) << 20;
    if (t.side < 1 || t.bytes < (size_t)(t.side * t.side) * sizeof(float)) return 2;
    must(t.b->ops->host_alloc(t.b, t.bytes, &t.pinned));
    t.plain = some(t.bytes, 1);
    float *numbers = t.plain;
    for (size_t i = 0; i < t.bytes / sizeof *numbers; i++)
        numbers[i] = (float)((i * 2654435761u >> 8) & 0xffff) / 65536 - 0.5f;
    for (int i = 0; i < 2; i++) must(t.b->ops->alloc(t.b, t.bytes, &block[i]));
    t.x = block[0];
    t.y = block[1];
    memcpy(t.pinned, t.plain, t.bytes);
    must(t.b->ops->fill_zero(t.b, t.y, t.bytes));
    copies(&t);
    products(&t, "product in f32", MW_F32, false);
    products(&t, "product in TF32", MW_F32, true);
    products(&t, "product in bf16", MW_BF16, false);
    for (int i = 0; i < 2; i++) t.b->ops->free(t.b, block[i]);
    t.b->ops->host_free(t.b, t.pinned);
    mw_free(t.plain);
    mw_backend_close(&t.b);
    return 0;
}
