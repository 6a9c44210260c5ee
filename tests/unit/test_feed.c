/* A feed gives the rows of the order, whatever the types of the stores and the sizes are: by windows, held in memory,
 * or read one by one. */
#include "sae/rows/feed.h"
#include "store.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 1037, POSITIONS = 3000 };
static char folder[] = "/tmp/mw_feed_XXXXXX";
static const mw_site sites[] = {{.layer = 1, .kind = MW_RESID_POST}, {.layer = 2, .kind = MW_RESID_POST}};
static const int64_t widths[] = {24, 40};

/* Writes ROWS rows of both sites as `dtype`; those of the number `bad` are not finite (-1: none). */
static void write_part(const char *name, mw_dtype dtype, uint64_t seed, int64_t bad, const mw_comm *self) {
    static const mw_pair model = {"model_sha256", "of a test"};
    test_store s = test_store_make(&(test_store_shape){sites, widths, 2, ROWS, 50, 128, NULL});
    void *values[2];
    s.layout.dtype = dtype;
    s.layout.keep_nan = true;
    s.layout.provenance = &model;
    s.layout.n_provenance = 1;
    for (int i = 0; i < 2; i++) {
        int64_t n = ROWS * widths[i];
        float *x = mw_alloc((size_t)n * sizeof *x);
        NEED(x && (values[i] = mw_alloc((size_t)n * sizeof *x)));
        for (int64_t j = 0; j < n; j++) x[j] = mw_rng_normal(seed, (uint64_t)i, (uint64_t)j);
        if (bad >= 0) x[bad * widths[i]] = NAN;
        NEED_OK(mw_convert_from_f32(dtype, x, n, values[i]));
        mw_free(x);
    }
    char *path = mw_path_join(folder, name);
    test_store_save(&s.layout, path, (const void *const *)values, self);
    mw_free(path);
    for (int i = 0; i < 2; i++) mw_free(values[i]);
    test_store_free(&s);
}

/* Compares positions begin .. begin + count with rows that are read one by one. */
static void check_range(feed *f, int64_t begin, int64_t count) {
    int64_t width = f->in->width, other = f->out->width;
    float *x = mw_alloc((size_t)(count * width) * sizeof *x), *y = mw_alloc((size_t)(count * other) * sizeof *y);
    float *row = mw_alloc((size_t)(width + other) * sizeof *row);
    NEED(x && y && row);
    NEED_OK(feed_read(f, begin, count, x, y));
    for (int64_t i = 0; i < count; i++) {
        int64_t at = order_row(&f->order, begin + i);
        NEED_OK(mw_store_view_range(f->in, at, 1, row));
        if (isnan(row[0])) NEED_OK(mw_store_view_range(f->in, ++at % f->order.rows, 1, row));
        NEED_OK(mw_store_view_range(f->out, at % f->order.rows, 1, row + width));
        CHECK(memcmp(x + i * width, row, (size_t)width * sizeof *row) == 0);
        CHECK(memcmp(y + i * other, row + width, (size_t)other * sizeof *row) == 0);
    }
    mw_free(x);
    mw_free(y);
    mw_free(row);
}

/* block 0: row by row; with `steps` for all rows of the store they are held in memory. */
static void check_sizes(const mw_store *store, int64_t batch, int64_t block, int64_t window, int64_t steps) {
    mw_store_view in, out;
    feed f;
    const mw_train_options o = {
        .batch = batch, .steps = steps, .shuffle_block = block, .shuffle_window = window, .nan_rule = MW_NAN_SKIP};
    NEED_OK(mw_store_view_open(store, "2.resid_post,1.resid_post", &in));
    NEED_OK(mw_store_view_open(store, "1.resid_post", &out));
    NEED_OK(feed_open(&in, &out, &o, &f));
    check_range(&f, 0, batch);
    check_range(&f, batch, POSITIONS);
    check_range(&f, batch + 17, 100); /* behind the last */
    CHECK(f.holds == (block == 0 && steps * batch >= f.order.rows));
    feed_close(&f);
}

static void feeds_give_the_order(void) {
    mw_comm *self;
    mw_store *store;
    NEED_OK(mw_comm_self(&self));
    write_part("bf16", MW_BF16, 1, -1, self);
    write_part("f16", MW_F16, 2, -1, self);
    write_part("f32", MW_F32, 3, 70, self);
    char *paths[3] = {mw_path_join(folder, "bf16/activations.h5"), mw_path_join(folder, "f16/activations.h5"),
                      mw_path_join(folder, "f32/activations.h5")};
    static const int parts[][2] = {{0, 1}, {1, 1}, {2, 1}, {0, 3}}; /* first file, number of files */
    for (int i = 0; i < 4; i++) {
        NEED_OK(mw_store_open_many((const char *const *)paths + parts[i][0], parts[i][1], &store));
        check_sizes(store, 300, 16, 8, 9);
        check_sizes(store, 500, 7, 5, 9);
        check_sizes(store, 130, 3, 1, 9);
        check_sizes(store, 300, 0, 0, 1);
        check_sizes(store, 300, 0, 0, 30);
        mw_store_close(&store);
    }
    for (int i = 0; i < 3; i++) {
        unlink(paths[i]);
        *strrchr(paths[i], '/') = '\0';
        rmdir(paths[i]);
        mw_free(paths[i]);
    }
    mw_comm_free(&self);
}

int main(void) {
    NEED(mkdtemp(folder) != NULL);
    RUN(feeds_give_the_order);
    rmdir(folder);
    return test_end();
}
