/* Measures how well the two orders of training rows mix a real store, and how fast each reads it.
 *     bench_shuffle ACTIVATIONS.h5 SITE [BATCH]
 * Mixing: the variance of the mean of a batch over its value for rows drawn independently (1: perfect; more: batches
 * hold neighbours). Reading: rows per second in training order, with the file dropped from the page cache, and
 * again. */
#include "bench.h"
#include "sae/rows/feed.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct order_kind {
    const char *name;
    int64_t block, window;
} order_kind;

static const order_kind kinds[] = {{"rows", 0, 0},
                                   {"blocks 16 x 128 (default)", 16, 128},
                                   {"blocks 64 x 32", 64, 32},
                                   {"blocks 256 x 8", 256, 8},
                                   {"as stored", -1, 0}};
enum { KINDS = sizeof kinds / sizeof *kinds, BATCHES = 100 };

static mw_status read_batch(feed *f, int64_t b, int64_t batch, bool stored, float *x) {
    if (!stored) return feed_read(f, b * batch, batch, x, NULL);
    int64_t last = f->order.rows - batch;
    return mw_store_view_range(f->in, last > 0 ? b * batch % last : 0, batch, x);
}

/* Measures rows per second over BATCHES batches. */
static mw_status speed(feed *f, int64_t batch, bool stored, float *x, double *out) {
    double start = mw_seconds();
    for (int64_t b = 0; b < BATCHES; b++) MW_TRY(read_batch(f, b, batch, stored, x));
    *out = (double)(BATCHES * batch) / (mw_seconds() - start);
    return MW_OK;
}

/* Computes the variance of batch means, summed over columns, times the batch, over the variance of rows. */
static mw_status mixing(feed *f, int64_t batch, bool stored, float *x, double *out) {
    int64_t d = f->in->width;
    double *sum = mw_calloc((size_t)(4 * d), sizeof *sum), *squares = sum + d, *means = sum + 2 * d,
           *means2 = sum + 3 * d;
    mw_status status = sum ? MW_OK : MW_ERR_MEMORY;
    for (int64_t b = 0; b < BATCHES && status == MW_OK; b++) {
        status = read_batch(f, b, batch, stored, x);
        for (int64_t i = 0; i < d && status == MW_OK; i++) {
            double one = 0;
            for (int64_t r = 0; r < batch; r++) {
                one += x[r * d + i];
                squares[i] += (double)x[r * d + i] * x[r * d + i];
            }
            sum[i] += one;
            means[i] += one / (double)batch;
            means2[i] += one / (double)batch * (one / (double)batch);
        }
    }
    double rows = (double)(BATCHES * batch), of_rows = 0, of_means = 0;
    for (int64_t i = 0; i < d && status == MW_OK; i++) {
        of_rows += squares[i] / rows - sum[i] / rows * (sum[i] / rows);
        of_means += (means2[i] - means[i] * means[i] / BATCHES) / (BATCHES - 1);
    }
    *out = of_means * (double)batch / of_rows;
    mw_free(sum);
    return status;
}

static mw_status try_kind(const char *path, const mw_store_view *view, int64_t batch, const order_kind *k, float *x) {
    feed f;
    double cold, warm, ratio;
    const mw_train_options options = {
        .batch = batch, .shuffle_block = k->block > 0 ? k->block : 0, .shuffle_window = k->window};
    MW_TRY(feed_open(view, NULL, &options, &f));
    forget(path);
    mw_status status = speed(&f, batch, k->block < 0, x, &cold);
    if (status == MW_OK) status = speed(&f, batch, k->block < 0, x, &warm);
    if (status == MW_OK) status = mixing(&f, batch, k->block < 0, x, &ratio);
    if (status == MW_OK) printf("%-28s %18.2f %14.0f %14.0f\n", k->name, ratio, cold, warm);
    feed_close(&f);
    return status;
}

int main(int argc, char **argv) {
    mw_store *store = NULL;
    mw_store_view view;
    if (argc < 3) return fprintf(stderr, "bench_shuffle ACTIVATIONS.h5 SITE [BATCH]\n"), 2;
    int64_t batch = argc > 3 ? atoll(argv[3]) : 2048;
    mw_memory_keep();
    mw_status status = mw_store_open(argv[1], &store);
    if (status == MW_OK) status = mw_store_view_open(store, argv[2], &view);
    float *x = status == MW_OK ? mw_alloc((size_t)(batch * view.width) * sizeof *x) : NULL;
    if (x)
        printf("%lld rows of width %lld, batches of %lld\n%-28s %18s %14s %14s\n", (long long)mw_store_rows(store),
               (long long)view.width, (long long)batch, "order", "variance of means", "rows/s cold", "rows/s warm");
    for (int i = 0; x && i < KINDS && status == MW_OK; i++) status = try_kind(argv[1], &view, batch, &kinds[i], x);
    mw_free(x);
    mw_store_close(&store);
    return status == MW_OK ? 0 : 1;
}
