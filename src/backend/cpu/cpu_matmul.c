/* Matrix products cut into tiles of fixed size, one thread a tile: the same bytes at any number of threads. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"

#include <string.h>

typedef struct scratch {
    uint16_t *a16;
    float *b32, *c; /* a tile of B widened; a tile's product, dense */
} scratch;

/* Writes the rows of A as bf16, dense. */
static void round_rows(const mw_matmul *tile, uint16_t *out) {
    for (int64_t i = 0; i < tile->m; i++) mw_round_bf16(tile->a + i * tile->lda, tile->k, out + i * tile->k);
}

/* Writes the tile's columns of a 16-bit B as f32, dense, in the same orientation. */
static mw_status widen(const mw_matmul *tile, float *out) {
    int64_t rows = tile->b_transposed ? tile->n : tile->k, width = tile->b_transposed ? tile->k : tile->n;
    for (int64_t i = 0; i < rows; i++)
        MW_TRY(mw_convert_to_f32(tile->b_dtype, (const uint16_t *)tile->b + i * tile->ldb, width, out + i * width));
    return MW_OK;
}

/* Computes the product into dense scratch memory, then copies or adds it to C: on CPUs with matrix units (AMX) the
 * rounding of sums depends on the stride of C and on accumulation, so a tile's bytes would depend on the number of
 * columns beside it. */
static mw_status multiply_bf16(const mw_cpu_product *product, const mw_matmul *tile, const scratch *s) {
    mw_matmul alone = *tile;
    alone.c = s->c;
    alone.ldc = tile->n;
    alone.accumulate = false;
    if (!tile->a_bf16) round_rows(tile, s->a16);
    MW_TRY(product->bf16(&alone, tile->a_bf16 ? tile->a_bf16 : s->a16));
    for (int64_t i = 0; i < tile->m; i++) {
        if (tile->accumulate)
            mw_add_run(tile->c + i * tile->ldc, s->c + i * tile->n, tile->n);
        else
            memcpy(tile->c + i * tile->ldc, s->c + i * tile->n, (size_t)tile->n * sizeof(float));
    }
    return MW_OK;
}

static mw_status multiply_tile(const mw_cpu_product *product, mw_matmul tile, scratch *s) {
    if (!tile.accumulate && tile.bias)
        for (int64_t i = 0; i < tile.m; i++) memcpy(tile.c + i * tile.ldc, tile.bias, (size_t)tile.n * sizeof(float));
    else if (tile.bias)
        for (int64_t i = 0; i < tile.m; i++) mw_add_run(tile.c + i * tile.ldc, tile.bias, tile.n);
    tile.accumulate = tile.accumulate || tile.bias;
    if (tile.b_dtype == MW_F32) return product->f32(&tile);
    if (tile.b_dtype == MW_BF16 && product->bf16) return multiply_bf16(product, &tile, s);
    MW_TRY(widen(&tile, s->b32));
    tile.b = s->b32;
    tile.b_dtype = MW_F32;
    tile.ldb = tile.b_transposed ? tile.k : tile.n;
    return product->f32(&tile);
}

/* Applies the epilogue to n numbers of C from element `at` on, while they are in the cache. */
static void finish_run(const mw_epilogue *e, float *c, int64_t at, int64_t n) {
    mw_activate_run(e->activation, c, n);
    if (e->times) mw_multiply(c, e->times + at, n);
    if (e->rounded) mw_round_bf16(c, n, e->rounded + at);
}

static mw_matmul tile_at(const mw_matmul *whole, int64_t row, int64_t column) {
    mw_matmul tile = *whole;
    tile.m = whole->m - row < MW_ROW_TILE ? whole->m - row : MW_ROW_TILE;
    tile.n = whole->n - column < MW_COLUMN_TILE ? whole->n - column : MW_COLUMN_TILE;
    if (tile.a) tile.a += row * whole->lda;
    if (tile.a_bf16) tile.a_bf16 += row * whole->k;
    int64_t offset = whole->b_transposed ? column * whole->ldb : column;
    tile.b = (const char *)whole->b + (size_t)offset * mw_dtype_size(whole->b_dtype);
    if (tile.c) tile.c += row * whole->ldc + column;
    if (tile.bias) tile.bias += column;
    return tile;
}

static bool make_scratch(const mw_cpu_product *product, const mw_matmul *whole, scratch *s) {
    if (whole->b_dtype == MW_F32) return true;
    if (whole->b_dtype == MW_BF16 && product->bf16)
        return (s->a16 = mw_alloc((size_t)MW_ROW_TILE * (size_t)whole->k * sizeof *s->a16)) &&
               (s->c = mw_alloc((size_t)MW_ROW_TILE * MW_COLUMN_TILE * sizeof *s->c));
    return (s->b32 = mw_alloc((size_t)MW_COLUMN_TILE * (size_t)whole->k * sizeof *s->b32)) != NULL;
}

static void free_scratch(scratch *s) {
    mw_free(s->a16);
    mw_free(s->b32);
    mw_free(s->c);
}

static mw_status multiply_and_finish(const mw_cpu_product *product, const mw_matmul *whole, int64_t row, int64_t column,
                                     scratch *s) {
    mw_matmul tile = tile_at(whole, row, column);
    MW_TRY(multiply_tile(product, tile, s));
    for (int64_t r = 0; r < tile.m && whole->epilogue; r++)
        finish_run(whole->epilogue, tile.c + r * tile.ldc, (row + r) * whole->ldc + column, tile.n);
    return MW_OK;
}

static mw_status multiply_plain(const mw_cpu_product *product, const mw_matmul *whole) {
    int64_t rows = (whole->m + MW_ROW_TILE - 1) / MW_ROW_TILE,
            columns = (whole->n + MW_COLUMN_TILE - 1) / MW_COLUMN_TILE;
    mw_status worst = MW_OK;
#pragma omp parallel reduction(max : worst)
    {
        scratch s = {0};
        mw_status status = make_scratch(product, whole, &s) ? MW_OK : MW_ERR_MEMORY;
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t j = 0; j < columns; j++)
            for (int64_t i = 0; i < rows; i++)
                if (status == MW_OK)
                    status = multiply_and_finish(product, whole, i * MW_ROW_TILE, j * MW_COLUMN_TILE, &s);
        free_scratch(&s);
        worst = status;
    }
    return worst;
}

/* ---- tile by tile ---------------------------------------------------------------------------------------- */

/* The tiles of a product with a plain B. */
typedef struct plain {
    const mw_cpu_product *product;
    const mw_matmul *whole;
} plain;

typedef struct plain_worker {
    scratch s;
    float *c;
} plain_worker;

static mw_status plain_open(void *self, void **out) {
    const plain *p = self;
    plain_worker *w = mw_calloc(1, sizeof *w);
    if (!(*out = w)) return MW_ERR_MEMORY;
    w->c = mw_alloc((size_t)MW_ROW_TILE * MW_COLUMN_TILE * sizeof *w->c);
    return w->c && make_scratch(p->product, p->whole, &w->s) ? MW_OK : MW_ERR_MEMORY;
}

static void plain_close(void *opened) {
    plain_worker *w = opened;
    if (!w) return;
    free_scratch(&w->s);
    mw_free(w->c);
    mw_free(w);
}

static mw_status plain_multiply(void *self, void *opened, mw_tile *tile) {
    const plain *p = self;
    plain_worker *w = opened;
    mw_matmul one = tile_at(p->whole, tile->first, tile->column);
    one.bias = NULL;
    one.accumulate = false;
    one.c = w->c;
    one.ldc = tile->width;
    tile->product = w->c;
    return multiply_tile(p->product, one, &w->s);
}

static int64_t at_most(int64_t count, int64_t most) {
    return count < most ? count : most;
}

/* Visits the tiles of one block of rows and one part of the columns. */
static mw_status visit_block(const mw_tile_source *s, void *worker, const mw_matmul *whole, const mw_tile_visit *visit,
                             int64_t block, int64_t part) {
    int64_t slices = (whole->n + MW_COLUMN_TILE - 1) / MW_COLUMN_TILE, first = block * visit->block;
    int64_t last = at_most(whole->m, first + visit->block);
    mw_tile tile = {.part = part};
    for (int64_t j = slices * part / visit->parts; j < slices * (part + 1) / visit->parts; j++) {
        tile.column = j * MW_COLUMN_TILE;
        tile.width = at_most(whole->n - tile.column, MW_COLUMN_TILE);
        for (tile.first = first; tile.first < last; tile.first += MW_ROW_TILE) {
            tile.rows = at_most(last - tile.first, MW_ROW_TILE);
            MW_TRY(s->multiply(s->self, worker, &tile));
            visit->take(visit->self, &tile);
        }
    }
    return MW_OK;
}

static mw_status visit_source(const mw_tile_source *s, const mw_matmul *whole, const mw_tile_visit *visit) {
    int64_t blocks = (whole->m + visit->block - 1) / visit->block;
    mw_status worst = MW_OK;
#pragma omp parallel reduction(max : worst)
    {
        void *worker = NULL;
        mw_status status = s->open(s->self, &worker);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t part = 0; part < visit->parts; part++)
            for (int64_t block = 0; block < blocks; block++)
                if (status == MW_OK) status = visit_block(s, worker, whole, visit, block, part);
        s->close(worker);
        worst = status;
    }
    return worst;
}

static mw_status visit_packed(const mw_cpu_product *product, const mw_matmul *whole, const mw_tile_visit *visit) {
    mw_tile_source source = {0};
    mw_status status = product->packed(whole, &source);
    if (status == MW_OK) status = visit_source(&source, whole, visit);
    source.free(source.self);
    return status;
}

mw_status mw_cpu_visit_tiles(const mw_cpu_product *product, const mw_matmul *whole, const mw_tile_visit *visit) {
    plain p = {product, whole};
    if (whole->m <= 0 || whole->n <= 0) return MW_OK;
    if (whole->packed) return visit_packed(product, whole, visit);
    return visit_source(&(mw_tile_source){&p, plain_open, plain_multiply, plain_close, NULL}, whole, visit);
}

/* ---- products -------------------------------------------------------------------------------------------- */

static void write_run(const mw_matmul *t, const float *product, int64_t n, const float *bias, float *c) {
    if (t->accumulate) {
        mw_add_run(c, product, n);
        if (bias) mw_add_run(c, bias, n);
    } else if (bias) {
        mw_add_two(c, product, bias, n);
    } else {
        memcpy(c, product, (size_t)n * sizeof *c);
    }
}

static void write_tile(void *self, const mw_tile *tile) {
    const mw_matmul *t = self;
    const float *bias = t->bias ? t->bias + tile->column : NULL;
    float run[MW_COLUMN_TILE];
    for (int64_t r = 0; r < tile->rows; r++) {
        int64_t at = (tile->first + r) * t->ldc + tile->column;
        float *c = t->epilogue && t->epilogue->rounded ? run : t->c + at;
        write_run(t, tile->product + r * tile->width, tile->width, bias, c);
        if (t->epilogue) finish_run(t->epilogue, c, at, tile->width);
    }
}

mw_status mw_cpu_matmul(mw_backend *backend, const mw_matmul *whole) {
    const mw_cpu_product *product = backend->state;
    mw_matmul copy = *whole;
    if (whole->m <= 0 || whole->n <= 0) return MW_OK;
    if (!whole->packed) return multiply_plain(product, whole);
    const mw_tile_visit visit = {.block = MW_ROW_TILE,
                                 .parts = (whole->n + MW_COLUMN_TILE - 1) / MW_COLUMN_TILE,
                                 .take = write_tile,
                                 .self = &copy};
    return visit_packed(product, whole, &visit);
}

bool mw_cpu_has_fast_bf16(mw_backend *backend) {
    const mw_cpu_product *product = backend->state;
    return product->bf16 != NULL;
}

mw_status mw_cpu_pack(mw_backend *backend, const mw_matmul *like, mw_dtype as, const mw_room *room, mw_packed **slot) {
    const mw_cpu_product *product = backend->state;
    return product->pack && like->n > 0 && like->k > 0 ? product->pack(like, as, room, slot) : MW_OK;
}

void mw_cpu_free_packed(mw_backend *backend, mw_packed *packed) {
    const mw_cpu_product *product = backend->state;
    if (packed) product->free_packed(packed);
}
