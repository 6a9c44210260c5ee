/* Matrix products cut into tiles of fixed size, one thread a tile: the same bytes at any number of threads. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"

#include <string.h>

enum { COLUMN_TILE = 512 };

typedef struct scratch {
    uint16_t *a16;
    float *b32, *c; /* a tile of B widened; a tile's product, dense */
} scratch;

/* Writes the rows of A as bf16, dense. */
static mw_status round_rows(const mw_matmul *tile, uint16_t *out) {
    for (int64_t i = 0; i < tile->m; i++)
        MW_TRY(mw_convert_from_f32(MW_BF16, tile->a + i * tile->lda, tile->k, out + i * tile->k));
    return MW_OK;
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
    MW_TRY(round_rows(tile, s->a16));
    MW_TRY(product->bf16(&alone, s->a16));
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

static mw_matmul tile_at(const mw_matmul *whole, int64_t row, int64_t column) {
    mw_matmul tile = *whole;
    tile.m = whole->m - row < MW_ROW_TILE ? whole->m - row : MW_ROW_TILE;
    tile.n = whole->n - column < COLUMN_TILE ? whole->n - column : COLUMN_TILE;
    tile.a += row * whole->lda;
    int64_t offset = whole->b_transposed ? column * whole->ldb : column;
    tile.b = (const char *)whole->b + (size_t)offset * mw_dtype_size(whole->b_dtype);
    tile.c += row * whole->ldc + column;
    if (tile.bias) tile.bias += column;
    return tile;
}

static bool make_scratch(const mw_cpu_product *product, const mw_matmul *whole, scratch *s) {
    if (whole->b_dtype == MW_F32) return true;
    if (whole->b_dtype == MW_BF16 && product->bf16)
        return (s->a16 = mw_alloc((size_t)MW_ROW_TILE * (size_t)whole->k * sizeof *s->a16)) &&
               (s->c = mw_alloc((size_t)MW_ROW_TILE * COLUMN_TILE * sizeof *s->c));
    return (s->b32 = mw_alloc((size_t)COLUMN_TILE * (size_t)whole->k * sizeof *s->b32)) != NULL;
}

mw_status mw_cpu_matmul(mw_backend *backend, const mw_matmul *whole) {
    const mw_cpu_product *product = backend->state;
    if (whole->m <= 0 || whole->n <= 0) return MW_OK;
    if (whole->packed) return product->packed(whole);
    int64_t rows = (whole->m + MW_ROW_TILE - 1) / MW_ROW_TILE, columns = (whole->n + COLUMN_TILE - 1) / COLUMN_TILE;
    mw_status worst = MW_OK;
#pragma omp parallel reduction(max : worst)
    {
        scratch s = {0};
        mw_status status = make_scratch(product, whole, &s) ? MW_OK : MW_ERR_MEMORY;
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t j = 0; j < columns; j++)
            for (int64_t i = 0; i < rows; i++)
                if (status == MW_OK)
                    status = multiply_tile(product, tile_at(whole, i * MW_ROW_TILE, j * COLUMN_TILE), &s);
        mw_free(s.a16);
        mw_free(s.b32);
        mw_free(s.c);
        worst = status;
    }
    return worst;
}

mw_status mw_cpu_pack(mw_backend *backend, const mw_matmul *like, mw_packed **slot) {
    const mw_cpu_product *product = backend->state;
    return product->pack && like->n > 0 && like->k > 0 ? product->pack(like, slot) : MW_OK;
}

void mw_cpu_free_packed(mw_backend *backend, mw_packed *packed) {
    const mw_cpu_product *product = backend->state;
    if (packed) product->free_packed(packed);
}
