/* The digest of a block: sums of its rows, from those of its tiles in order, and its checksum. */
#include "store/block_digest.h"
#include "base/dispatch.h"

#include <math.h>
#include <string.h>

enum { TILE = 64 };

/* Sums over a tile of a block's rows. */
struct tile_sums {
    double norm, square;
    int64_t rows;    /* finite rows, which the sums include */
    int64_t refused; /* first non-finite row without keep_nan; -1: none */
};

static int64_t tiles_of(int64_t rows) {
    return (rows + TILE - 1) / TILE;
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

static int64_t rows_of(const mw_store_layout *layout, int64_t block) {
    return (int64_t)(layout->block_row[block + 1] - layout->block_row[block]);
}

int64_t largest_block(const mw_store_layout *layout) {
    int64_t rows = 1;
    for (int64_t b = 0; b < layout->n_blocks; b++)
        if (rows_of(layout, b) > rows) rows = rows_of(layout, b);
    return rows;
}

mw_status digester_open(const mw_store_layout *layout, digester *out) {
    int64_t rows = largest_block(layout), width = 0;
    for (int64_t s = 0; s < layout->n_sites; s++)
        if (layout->widths[s] > width) width = layout->widths[s];
    *out = (digester){.layout = layout,
                      .sums = mw_alloc((size_t)(tiles_of(rows) * width) * sizeof *out->sums),
                      .tiles = mw_alloc((size_t)tiles_of(rows) * sizeof *out->tiles)};
    return out->sums && out->tiles ? MW_OK : MW_ERR_MEMORY;
}

void digester_close(digester *d) {
    mw_free(d->sums);
    mw_free(d->tiles);
    *d = (digester){0};
}

mw_status block_digest_make(const mw_store_layout *layout, block_digest *out) {
    *out = (block_digest){.n_sites = layout->n_sites, .site = mw_calloc((size_t)layout->n_sites, sizeof *out->site)};
    if (!out->site) return MW_ERR_MEMORY;
    for (int64_t s = 0; s < layout->n_sites; s++)
        if (!(out->site[s].sums = mw_alloc((size_t)layout->widths[s] * sizeof(double)))) return MW_ERR_MEMORY;
    return MW_OK;
}

void block_digest_free(block_digest *digest) {
    for (int64_t s = 0; s < digest->n_sites && digest->site; s++) mw_free(digest->site[s].sums);
    mw_free(digest->site);
    *digest = (block_digest){0};
}

/* ---- sums ------------------------------------------------------------------------------------------------ */

static mw_status refuse_value(const mw_store_layout *layout, int64_t s, int64_t row) {
    char site[MW_SITE_TEXT];
    mw_site_format(layout->sites[s], site);
    return mw_error(
        MW_ERR_STATE,
        "site %s is not finite in %s at token %u, position %u of sequence %u; %sharvest.nan: keep stores it as it is",
        site, mw_dtype_name(layout->dtype), layout->ids[row], layout->position[row], layout->sequence[row],
        layout->dtype == MW_F16 ? "another harvest.dtype may hold it, " : "");
}

enum { LANES = 16, GROUP = 4 };

/* Sums of squares of GROUP rows [GROUP, width], each in independent lanes that are added in a fixed order: additions to
 * a single sum would wait for each other, and so would those to the lanes of a single row. */
DISPATCHED static void squares_of(const float *rows, int64_t width, double out[GROUP]) {
    double lane[GROUP][LANES] = {{0}};
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES)
        for (int g = 0; g < GROUP; g++) {
            const float *x = rows + g * width + i;
#pragma omp simd
            for (int l = 0; l < LANES; l++) lane[g][l] += (double)x[l] * x[l];
        }
    for (int g = 0; g < GROUP; g++) {
        out[g] = 0;
        for (int64_t j = i; j < width; j++) out[g] += (double)rows[g * width + j] * rows[g * width + j];
        for (int l = 0; l < LANES; l++) out[g] += lane[g][l];
    }
}

DISPATCHED static void add_row(double *sums, const float *row, int64_t width) {
#pragma omp simd
    for (int64_t i = 0; i < width; i++) sums[i] += row[i];
}

/* As add_row for one row after another, with one access to each sum. */
DISPATCHED static void add_group(double *sums, const float *rows, int64_t width) {
    const float *a = rows, *b = a + width, *c = b + width, *d = c + width;
    _Static_assert(GROUP == 4, "four rows are added");
#pragma omp simd
    for (int64_t i = 0; i < width; i++) sums[i] = (((sums[i] + a[i]) + b[i]) + c[i]) + d[i];
}

/* Adds the finite ones of n <= GROUP rows, whose first is row `first` of the block, to the sums. */
static void sum_group(const mw_store_layout *layout, int64_t width, int64_t first, int64_t n, const float *rows,
                      double *sums, struct tile_sums *out) {
    double squares[GROUP];
    int64_t added = 0;
    squares_of(rows, width, squares);
    for (int64_t g = 0; g < n; g++) {
        if (!isfinite(squares[g])) {
            if (!layout->keep_nan && out->refused < 0) out->refused = first + g;
            continue;
        }
        out->norm += sqrt(squares[g]);
        out->square += squares[g];
        added++;
    }
    out->rows += added;
    if (added == GROUP) add_group(sums, rows, width);
    for (int64_t g = 0; g < n && added < GROUP; g++)
        if (isfinite(squares[g])) add_row(sums, rows + g * width, width);
}

/* Sums rows first .. first + rows of a block, from the stored values, so that a reader computes the same sums.
 * Non-finite rows are left out. `group`: scratch [GROUP, width], of zeros or earlier rows. */
static mw_status sum_tile(const mw_store_layout *layout, int64_t width, int64_t first, int64_t rows, const char *values,
                          float *group, double *sums, struct tile_sums *out) {
    mw_dtype dtype = layout->dtype;
    size_t bytes = (size_t)width * mw_dtype_size(dtype);
    *out = (struct tile_sums){.refused = -1};
    memset(sums, 0, (size_t)width * sizeof *sums);
    for (int64_t r = 0; r < rows; r += GROUP) {
        int64_t n = rows - r < GROUP ? rows - r : GROUP;
        MW_TRY(mw_convert_to_f32(dtype, values + (size_t)(first + r) * bytes, n * width, group));
        sum_group(layout, width, first + r, n, group, sums, out);
    }
    return MW_OK;
}

/* Sums all tiles of a block; the tiles do not depend on the number of threads. */
static mw_status sum_tiles(digester *d, int64_t width, int64_t rows, const void *values) {
    mw_status worst = MW_OK;
#pragma omp parallel num_threads(d->layout->threads > 1 ? d->layout->threads : 1) reduction(max : worst)
    {
        float *group = mw_calloc((size_t)(GROUP * width), sizeof *group);
        mw_status status = group ? MW_OK : MW_ERR_MEMORY;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tiles_of(rows); t++) {
            int64_t first = t * TILE, left = rows - first, n = left < TILE ? left : TILE;
            if (status == MW_OK)
                status = sum_tile(d->layout, width, first, n, values, group, d->sums + t * width, &d->tiles[t]);
        }
        mw_free(group);
        worst = status;
    }
    return worst;
}

static mw_status digest_site(digester *d, int64_t block, int64_t s, const void *values, site_digest *out) {
    int64_t width = d->layout->widths[s], rows = rows_of(d->layout, block);
    MW_TRY(sum_tiles(d, width, rows, values));
    memset(out->sums, 0, (size_t)width * sizeof *out->sums);
    out->norm[0] = out->norm[1] = 0;
    out->rows = 0;
    for (int64_t t = 0; t < tiles_of(rows); t++) {
        const struct tile_sums *tile = &d->tiles[t];
        if (tile->refused >= 0) return refuse_value(d->layout, s, (int64_t)d->layout->block_row[block] + tile->refused);
        for (int64_t i = 0; i < width; i++) out->sums[i] += d->sums[t * width + i];
        out->norm[0] += tile->norm;
        out->norm[1] += tile->square;
        out->rows += (uint64_t)tile->rows;
    }
    out->checksum = mw_xxh64(values, (size_t)(rows * width) * mw_dtype_size(d->layout->dtype));
    return MW_OK;
}

mw_status digest_block(digester *d, int64_t block, const void *const *values, block_digest *out) {
    for (int64_t s = 0; s < out->n_sites; s++) MW_TRY(digest_site(d, block, s, values[s], &out->site[s]));
    return MW_OK;
}
