/* Declarations that the files of the CPU backend share. */
#ifndef MICROW_BACKEND_CPU_CPU_H
#define MICROW_BACKEND_CPU_CPU_H

#include "microw/backend.h"

/* Opens the backend. `product`: "onednn", "cblas" or NULL for the faster one of this build. MW_ERR_UNSUPPORTED: the
 * build does not have it. */
mw_status mw_cpu_open(const char *product, mw_backend **out) MW_MUST_USE;
/* Returns the names of this build's products for messages: ", cpu:onednn, cpu:cblas". */
const char *mw_cpu_products(void);

enum { MW_COLUMN_TILE = 512 };

/* A tile of a product: rows first .. first + rows - 1, columns column .. column + width - 1. */
typedef struct mw_tile {
    int64_t first, rows, column, width;
    int64_t part;         /* of the columns, see mw_tile_visit */
    const float *product; /* [rows, width] dense, without bias */
} mw_tile;

/* What is done with the tiles of a product, of MW_ROW_TILE rows and MW_COLUMN_TILE columns or less. A thread takes the
 * tiles of `block` rows and of one of `parts` parts of the columns: by ascending columns, and of equal columns by
 * ascending rows. */
typedef struct mw_tile_visit {
    int64_t block, parts;
    void (*take)(void *self, const mw_tile *);
    void *self;
} mw_tile_visit;

/* Computes tiles, each on one thread, which opens a worker. */
typedef struct mw_tile_source {
    void *self;
    mw_status (*open)(void *self, void **worker);
    /* tile->product is the worker's until the next call. */
    mw_status (*multiply)(void *self, void *worker, mw_tile *tile);
    void (*close)(void *worker); /* NULL is allowed */
    void (*free)(void *self);
} mw_tile_source;

/* A library's product of one tile on one thread: C = A * B (+ C), all in f32, or B in bf16 where `bf16` is not NULL. */
typedef struct mw_cpu_product {
    const char *name;
    mw_status (*f32)(const mw_matmul *tile);
    /* `a16` is A rounded to bf16, [m,k] dense. */
    mw_status (*bf16)(const mw_matmul *tile, const uint16_t *a16);
    void (*prepare)(void); /* called once when a backend is opened; may be NULL */
    /* Returns the product for this CPU: one without `bf16` where bf16 is missing or no faster than f32. May be NULL. */
    const struct mw_cpu_product *(*suited)(void);
    /* As in mw_backend_ops. All NULL: a plain B is as fast. `packed` makes the tiles of a product with a packed B. */
    mw_status (*pack)(const mw_matmul *like, mw_dtype as, const mw_room *room, mw_packed **slot);
    void (*free_packed)(mw_packed *);
    mw_status (*packed)(const mw_matmul *whole, mw_tile_source *out);
} mw_cpu_product;

/* mw_cpu_ordered: products by mw_dot_tile, of f32 B [n, k] only. */
extern const mw_cpu_product mw_cpu_onednn, mw_cpu_cblas, mw_cpu_ordered;

/* Visits the tiles of a product; its c, bias and accumulate have no meaning. */
mw_status mw_cpu_visit_tiles(const mw_cpu_product *product, const mw_matmul *whole,
                             const mw_tile_visit *visit) MW_MUST_USE;

/* x = act(x) */
void mw_activate_run(mw_activation kind, float *x, int64_t n);
/* Returns the k-th largest of x, which is reordered. */
float mw_kth_largest(float *x, int64_t n, int64_t k);
/* Halves the number of maxima, each then of twice as many numbers, while many more than k remain: fewer give as good a
 * floor. Returns their number. */
int64_t mw_fold_maxima(float *x, int64_t columns, int64_t k);
/* Copies the k largest of `count` entries, or all if there are fewer, in their order; of equal values the first are
 * kept. NaN is left out. `to` may be the entries themselves; scratch [count]. Returns the number copied. */
int64_t mw_keep_best(const int32_t *index, const float *value, int64_t count, int64_t k, float *scratch,
                     int32_t *to_index, float *to_value);
/* out[j] = <x, w[index[j]]>, for `count` entries. */
void mw_dot_entries(float *out, const float *x, const int32_t *index, int64_t count, const float *w, int64_t d);
/* Prefetches the next row while the current one is used, where the order of rows is unpredictable. */
void mw_prefetch_row(const float *row, int64_t d);

#define CPU_PROTOTYPE(type, name, ...) type mw_cpu_##name(__VA_ARGS__);
MW_BACKEND_OPERATIONS(CPU_PROTOTYPE)
#undef CPU_PROTOTYPE

#endif
