/* The k largest pre-activations of each row without all of them in memory: each tile of the product is searched while
 * it is in the cache. A row's list has the entries that may be among its k largest. With a screen
 * (docs/design/screening.md) each entry is known within its slack, the list keeps those that may reach the k-th largest
 * lower bound, and at the end their dot products decide. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vector.h"
#include "backend/formulas.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { BLOCK_TILES = 4 }; /* whose rows and lists stay in a core's cache beside a slice of W */

static const float unit_roundoff = 0x1p-24f; /* bf16 and f32 products of CPUs round each addition to nearest */

/* ---- lists ----------------------------------------------------------------------------------------------- */

typedef struct list {
    int64_t count;
    float floor; /* entries that surely stay below are left out */
    bool lost;   /* too many entries: the row's dot products decide, all of them */
} list;

typedef struct search {
    const mw_screen *s;
    int64_t rows, parts, k;
    int64_t room, width;   /* entries a list keeps; places of a list, which has room for a tile's more and a search */
    const mw_slack *slack; /* [rows] */
    list *lists;           /* [rows, parts] */
    int32_t *index;        /* [rows, parts, width], as low and high: bounds of the entries' values */
    float *low, *high;
    float *scratch; /* [threads, 3, parts * width] */
} search;

/* Whether the tiles have the values themselves. */
static bool is_exact(const search *s) {
    return s->s->how != MW_BY_SCREEN;
}

static float *scratch_of_thread(const search *s) {
    return s->scratch + omp_get_thread_num() * 3 * s->parts * s->width;
}

/* A little below x, by more than a screen's bounds are off. */
static float just_under(float x) {
    return x - fabsf(x) * MW_SLACK_RELATIVE;
}

static void raise_to(list *l, float floor) {
    if (just_under(floor) > l->floor) l->floor = just_under(floor);
}

/* Raises the floor to the k-th largest lower bound. */
static void raise_floor(list *l, const float *low, int64_t count, int64_t k, float *scratch) {
    if (count < k) return;
    for (int64_t i = 0; i < count; i++) scratch[i] = low[i] > -INFINITY ? low[i] : -INFINITY;
    raise_to(l, mw_kth_largest(scratch, count, k));
}

/* Raises the floor to a number that k of x or more reach, little below the k-th largest: by halving an interval, which
 * takes a fraction of the time of the exact one. */
static void raise_roughly(list *l, const float *x, int64_t count, int64_t k) {
    enum { HALVINGS = 10 };
    float from = l->floor, to = mw_max(x, count);
    if (count < k || !isfinite(to)) return;
    if (from == -INFINITY) from = to - 2 * (to - mw_sum(x, count) / (float)count);
    if (mw_halve(x, count, k, HALVINGS, &from, &to) >= k) raise_to(l, from);
}

static int64_t keep_reaching(float floor, int32_t *index, float *low, float *high, int64_t count) {
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) { /* without a branch, which nobody can predict */
        bool reaches = !(high[i] < floor);
        index[kept] = index[i];
        low[kept] = low[i];
        high[kept] = high[i];
        kept += reaches;
    }
    return kept;
}

/* Of exact values the k best stay. Later ones must be larger: of equal values the lower latent wins. */
static void prune_exact(const search *s, list *l, int32_t *index, float *value) {
    l->count = mw_keep_best(index, value, l->count, s->k, scratch_of_thread(s), index, value);
    if (l->count == s->k) l->floor = nextafterf(mw_least_at_least(value, l->count, -INFINITY), INFINITY);
}

static void prune(const search *s, list *l, int64_t at) {
    if (is_exact(s)) {
        prune_exact(s, l, s->index + at, s->low + at);
        return;
    }
    raise_roughly(l, s->low + at, l->count, s->k);
    l->count = keep_reaching(l->floor, s->index + at, s->low + at, s->high + at, l->count);
    l->lost = l->count > s->room;
}

/* A list's first floor, from the maxima of groups of the first tile's columns alone, spares it most of that tile's
 * entries. */
static void first_floor(const search *s, list *l, const mw_tile *tile, const float *product, mw_slack slack) {
    float low[MW_COLUMN_TILE];
    const mw_screen *w = s->s;
    if (tile->width < s->k) return;
    for (int64_t i = 0, c = tile->column; i < tile->width; i++) low[i] = product[i] + w->bias[c + i];
    if (!is_exact(s))
        for (int64_t i = 0, c = tile->column; i < tile->width; i++)
            low[i] -= slack.x_part * w->norm[c + i] + slack.w_part * w->error[c + i];
    raise_roughly(l, low, mw_fold_maxima(low, tile->width, s->k), s->k);
}

static void take_row(const search *s, const mw_tile *tile, int64_t r) {
    const mw_screen *w = s->s;
    int64_t row = tile->first + r, number = row * s->parts + tile->part, at = number * s->width;
    list *l = &s->lists[number];
    const float *product = tile->product + r * tile->width;
    bool exact = is_exact(s);
    const mw_slack slack = exact ? (mw_slack){0} : s->slack[row];
    if (l->lost) return;
    if (l->floor == -INFINITY) first_floor(s, l, tile, product, slack);
    int64_t column = tile->column, end = at + l->count;
    l->count += mw_may_reach(product, w->bias + column, exact ? NULL : w->norm + column,
                             exact ? NULL : w->error + column, slack.x_part, slack.w_part, tile->width, l->floor,
                             (int32_t)column, s->index + end, s->low + end, s->high + end);
    if (l->count > s->room) prune(s, l, at);
}

static void take_tile(void *self, const mw_tile *tile) {
    for (int64_t r = 0; r < tile->rows; r++) take_row(self, tile, r);
}

static void clear_lists(search *s) {
    for (int64_t i = 0; i < s->rows * s->parts; i++)
        s->lists[i] = (list){.floor = -INFINITY, .lost = s->slack && !isfinite(s->slack[i / s->parts].w_part)};
}

static mw_status search_open(const mw_screen *screen, int64_t rows, int64_t parts, int64_t k, search *out) {
    int64_t room = 3 * k + 64 < screen->n ? 3 * k + 64 : screen->n, width = room + MW_COLUMN_TILE + MW_REACH_ROOM;
    *out = (search){.s = screen, .rows = rows, .parts = parts, .k = k, .room = room, .width = width};
    size_t entries = (size_t)(rows * parts * width);
    out->lists = mw_alloc((size_t)(rows * parts) * sizeof *out->lists);
    out->index = mw_alloc(entries * sizeof *out->index);
    out->low = mw_alloc(entries * sizeof *out->low);
    out->high = mw_alloc(entries * sizeof *out->high);
    out->scratch = mw_alloc((size_t)(omp_get_max_threads() * 3 * parts * width) * sizeof *out->scratch);
    return out->lists && out->index && out->low && out->high && out->scratch ? MW_OK : MW_ERR_MEMORY;
}

static void search_close(search *s) {
    mw_free(s->lists);
    mw_free(s->index);
    mw_free(s->low);
    mw_free(s->high);
    mw_free(s->scratch);
}

/* ---- the end of a search --------------------------------------------------------------------------------- */

/* Joins the lists of a row's parts, which are in the order of the latents, in the first one's places. Returns whether
 * any is lost. */
static bool join_parts(const search *s, int64_t row, list *out) {
    int64_t first = row * s->parts, to = first * s->width;
    *out = (list){.floor = -INFINITY};
    for (int64_t p = 0; p < s->parts; p++) {
        const list *l = &s->lists[first + p];
        int64_t from = to + p * s->width, end = to + out->count;
        memmove(s->index + end, s->index + from, (size_t)l->count * sizeof *s->index);
        memmove(s->low + end, s->low + from, (size_t)l->count * sizeof *s->low);
        memmove(s->high + end, s->high + from, (size_t)l->count * sizeof *s->high);
        out->count += l->count;
        out->lost = out->lost || l->lost;
    }
    return out->lost;
}

/* Moves the entries with high >= floor to the front, in their order, and the others behind them. Returns the number of
 * the former. */
static int64_t part_entries(int32_t *index, float *high, int64_t count, float floor, int32_t *spare_index,
                            float *spare) {
    int64_t front = 0, behind = 0;
    for (int64_t i = 0; i < count; i++) {
        bool is_below = high[i] < floor;
        spare_index[behind] = index[i];
        spare[behind] = high[i];
        index[front] = index[i];
        high[front] = high[i];
        behind += is_below;
        front += !is_below;
    }
    memcpy(index + front, spare_index, (size_t)behind * sizeof *index);
    memcpy(high + front, spare, (size_t)behind * sizeof *high);
    return front;
}

/* value[i] = <x, w of entry i> + bias */
static void decide(const mw_screen *s, const float *x, const int32_t *index, int64_t count, float *value) {
    mw_dot_entries(value, x, index, count, s->w, s->d);
    for (int64_t i = 0; i < count; i++) value[i] += s->bias[index[i]];
}

/* Inserts the entries from `first` on into those before them, which are in the order of the latents as they are. */
static void insert_entries(int32_t *index, float *value, int64_t first, int64_t count) {
    for (int64_t i = first; i < count; i++) {
        int32_t latent = index[i];
        float v = value[i];
        int64_t to = i;
        for (; to > 0 && index[to - 1] > latent; to--) {
            index[to] = index[to - 1];
            value[to] = value[to - 1];
        }
        index[to] = latent;
        value[to] = v;
    }
}

enum { FEW_PRODUCTS = 512 }; /* multiplications that cost less than to choose between entries */

/* Computes the dot products of all entries that may be among the k largest; returns how many those are, in the order
 * of the latents. The k entries of the highest bounds come first, unless that costs more than it saves: the least of
 * their dot products is a floor for the others. */
static int64_t decide_entries(const search *s, list *l, const float *x, int32_t *index, float *low, float *high,
                              float *scratch) {
    float *spare = scratch + s->parts * s->width;
    int32_t *spare_index = (int32_t *)(void *)(spare + s->parts * s->width);
    raise_floor(l, low, l->count, s->k, scratch);
    l->count = keep_reaching(l->floor, index, low, high, l->count);
    int64_t first = l->count;
    if ((l->count - s->k) * s->s->d > FEW_PRODUCTS) {
        for (int64_t i = 0; i < l->count; i++) scratch[i] = high[i] < INFINITY ? high[i] : INFINITY;
        first = part_entries(index, high, l->count, mw_kth_largest(scratch, l->count, s->k), spare_index, spare);
    }
    decide(s->s, x, index, first, low);
    float least = INFINITY;
    for (int64_t i = 0; i < first; i++) least = isnan(low[i]) ? -INFINITY : low[i] < least ? low[i] : least;
    int64_t more = 0;
    for (int64_t i = first; i < l->count; i++)
        if (!(high[i] < just_under(least))) index[first + more++] = index[i];
    decide(s->s, x, index + first, more, low + first);
    insert_entries(index, low, first, first + more);
    return first + more;
}

/* Writes the k largest of a row. Returns the number of dot products. */
static int64_t finish_row(const search *s, list *l, int64_t row, const float *x, int32_t *index, float *value) {
    int64_t at = row * s->parts * s->width, dots = 0;
    float *scratch = scratch_of_thread(s);
    if (!is_exact(s)) l->count = dots = decide_entries(s, l, x, s->index + at, s->low + at, s->high + at, scratch);
    int64_t kept = mw_keep_best(s->index + at, s->low + at, l->count, s->k, scratch, index, value);
    for (; kept < s->k; kept++) index[kept] = 0, value[kept] = 0; /* the rest of the row is NaN */
    return dots;
}

/* What a call selects from and writes to. */
typedef struct rows_of_call {
    const float *x; /* [rows, d] */
    int64_t rows;
    int32_t *index; /* [rows, k], as value */
    float *value;
} rows_of_call;

/* Finishes all rows but the lost ones, whose numbers it writes to `lost`; returns their number. */
static int64_t finish_rows(const search *s, const rows_of_call *c, int64_t *lost, int64_t *all_dots) {
    int64_t dots = 0, count = 0;
#pragma omp parallel for schedule(dynamic, 16) reduction(+ : dots)
    for (int64_t r = 0; r < c->rows; r++) {
        list l;
        lost[r] = join_parts(s, r, &l);
        if (!lost[r]) dots += finish_row(s, &l, r, c->x + r * s->s->d, c->index + r * s->k, c->value + r * s->k);
    }
    for (int64_t r = 0; r < c->rows; r++)
        if (lost[r]) lost[count++] = r;
    *all_dots += dots;
    return count;
}

static mw_matmul product_of(const mw_screen *s, const float *x, int64_t rows) {
    bool dots = s->how == MW_BY_DOTS;
    return (mw_matmul){.m = rows,
                       .n = s->n,
                       .k = s->d,
                       .a = x,
                       .lda = s->d,
                       .b = dots ? s->w : s->b,
                       .b_dtype = dots ? MW_F32 : s->b_dtype,
                       .ldb = s->d,
                       .b_transposed = true,
                       .packed = dots ? NULL : s->packed};
}

static const mw_cpu_product *method_of(const mw_backend *backend, const mw_screen *s) {
    return s->how == MW_BY_DOTS ? &mw_cpu_ordered : backend->state;
}

static mw_status visit(const mw_backend *backend, const float *x, int64_t block, search *s) {
    const mw_matmul product = product_of(s->s, x, s->rows);
    clear_lists(s);
    return mw_cpu_visit_tiles(method_of(backend, s->s), &product,
                              &(mw_tile_visit){.block = block, .parts = s->parts, .take = take_tile, .self = s});
}

/* Selects in the lost rows, by all their dot products. */
static mw_status select_lost(const mw_backend *backend, const mw_screen *screen, const rows_of_call *c, int64_t k,
                             const int64_t *lost, int64_t count, int64_t parts) {
    mw_screen all = *screen;
    search s = {0};
    all.how = MW_BY_DOTS;
    size_t d = (size_t)all.d;
    float *x = mw_alloc((size_t)count * d * sizeof *x);
    mw_status status = x ? search_open(&all, count, parts, k, &s) : MW_ERR_MEMORY;
    for (int64_t i = 0; i < count && status == MW_OK; i++)
        memcpy(x + (size_t)i * d, c->x + (size_t)lost[i] * d, d * sizeof *x);
    if (status == MW_OK) status = visit(backend, x, MW_ROW_TILE, &s);
    for (int64_t i = 0; i < count && status == MW_OK; i++) {
        list l;
        (void)join_parts(&s, i, &l);
        (void)finish_row(&s, &l, i, NULL, c->index + lost[i] * k, c->value + lost[i] * k);
    }
    search_close(&s);
    mw_free(x);
    return status;
}

/* ---- the operations -------------------------------------------------------------------------------------- */

mw_status mw_cpu_round_errors(mw_backend *backend, float *norm, float *error, mw_dtype dtype, const float *x,
                              int64_t rows, int64_t d) {
    (void)backend;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        mw_lengths_bf16(x + r * d, d, &norm[r], &error[r]);
        norm[r] = mw_length_bound(norm[r]);
        error[r] = mw_length_bound(dtype == MW_F32 ? 0 : error[r]);
    }
    return MW_OK;
}

static mw_status make_slacks(mw_backend *backend, const mw_screen *s, const float *x, int64_t rows, mw_slack *out) {
    float *norm = mw_alloc((size_t)rows * 2 * sizeof *norm);
    if (!norm) return MW_ERR_MEMORY;
    mw_status status = mw_cpu_round_errors(backend, norm, norm + rows, s->b_dtype, x, rows, s->d);
    for (int64_t r = 0; r < rows; r++) out[r] = mw_slack_of(norm[r], norm[rows + r], s->d, unit_roundoff);
    mw_free(norm);
    return status;
}

/* How a group of rows is cut: tasks of one block of rows and one part of the columns each. */
typedef struct cut {
    int64_t rows, block, parts;
} cut;

static cut cut_for(int64_t rows, int64_t n) {
    int64_t threads = omp_get_max_threads(), tiles = (rows + MW_ROW_TILE - 1) / MW_ROW_TILE;
    int64_t slices = (n + MW_COLUMN_TILE - 1) / MW_COLUMN_TILE, each = tiles / threads;
    cut c = {.block = (each < 1 ? 1 : each > BLOCK_TILES ? BLOCK_TILES : each) * MW_ROW_TILE};
    c.rows = threads * c.block < rows ? threads * c.block : rows;
    int64_t blocks = (c.rows + c.block - 1) / c.block;
    c.parts = (threads + blocks - 1) / blocks;
    if (c.parts > slices) c.parts = slices;
    return c;
}

static mw_status select_group(mw_backend *backend, search *s, const rows_of_call *c, const cut *how, mw_slack *slack,
                              int64_t *lost, int64_t *dots) {
    s->rows = c->rows;
    s->slack = is_exact(s) ? NULL : slack;
    if (s->slack) MW_TRY(make_slacks(backend, s->s, c->x, c->rows, slack));
    MW_TRY(visit(backend, c->x, how->block, s));
    int64_t count = finish_rows(s, c, lost, dots);
    *dots += count * s->s->n;
    return count ? select_lost(backend, s->s, c, s->k, lost, count, how->parts) : MW_OK;
}

/* Values of all latents, then top_k: where k is so large that lists would not be short. */
static mw_status select_many(mw_backend *backend, const mw_screen *screen, const rows_of_call *c, int64_t k) {
    mw_screen s = *screen;
    if (s.how == MW_BY_SCREEN) s.how = MW_BY_DOTS;
    float *pre = mw_alloc((size_t)(MW_ROW_TILE * s.n) * sizeof *pre);
    mw_status status = pre ? MW_OK : MW_ERR_MEMORY;
    for (int64_t r = 0, m; r < c->rows && status == MW_OK; r += m) {
        m = c->rows - r < MW_ROW_TILE ? c->rows - r : MW_ROW_TILE;
        status = mw_cpu_screen_bounds(backend, &s, c->x + r * s.d, m, pre);
        if (status == MW_OK) status = mw_cpu_top_k(backend, pre, m, s.n, k, c->index + r * k, c->value + r * k);
    }
    mw_free(pre);
    return status;
}

typedef struct bounds {
    const mw_screen *s;
    const mw_slack *slack; /* [rows]; NULL: the values themselves */
    float *out;            /* [rows, n] */
} bounds;

static void write_bounds(void *self, const mw_tile *tile) {
    const bounds *b = self;
    for (int64_t r = 0; r < tile->rows; r++) {
        float *out = b->out + (tile->first + r) * b->s->n + tile->column;
        mw_add_two(out, tile->product + r * tile->width, b->s->bias + tile->column, tile->width);
        if (!b->slack) continue;
        mw_axpy(b->slack[tile->first + r].x_part, b->s->norm + tile->column, out, tile->width);
        mw_axpy(b->slack[tile->first + r].w_part, b->s->error + tile->column, out, tile->width);
    }
}

mw_status mw_cpu_screen_bounds(mw_backend *backend, const mw_screen *s, const float *x, int64_t rows, float *out) {
    bounds b = {.s = s, .out = out};
    mw_slack *slack = NULL;
    if (rows == 0) return MW_OK;
    if (s->how == MW_BY_SCREEN && !(b.slack = slack = mw_alloc((size_t)rows * sizeof *slack))) return MW_ERR_MEMORY;
    const mw_matmul product = product_of(s, x, rows);
    mw_status status = slack ? make_slacks(backend, s, x, rows, slack) : MW_OK;
    if (status == MW_OK)
        status = mw_cpu_visit_tiles(method_of(backend, s), &product,
                                    &(mw_tile_visit){.block = MW_ROW_TILE,
                                                     .parts = (s->n + MW_COLUMN_TILE - 1) / MW_COLUMN_TILE,
                                                     .take = write_bounds,
                                                     .self = &b});
    mw_free(slack);
    return status;
}

mw_status mw_cpu_screen_top_k(mw_backend *backend, const mw_screen *screen, const float *x, int64_t rows, int64_t k,
                              int32_t *index, float *value, int64_t *dots) {
    if (k > screen->n)
        return mw_error(MW_ERR_ARG, "top-k: k = %lld is larger than n = %lld", (long long)k, (long long)screen->n);
    if (rows == 0) return MW_OK; /* a rank may have no rows of a batch */
    if (k < 1 || 8 * k > screen->n) {
        if (screen->how == MW_BY_SCREEN) *dots += rows * screen->n;
        return select_many(backend, screen, &(rows_of_call){x, rows, index, value}, k);
    }
    const cut how = cut_for(rows, screen->n);
    search s = {0};
    mw_slack *slack = mw_alloc((size_t)(how.rows + 1) * sizeof *slack);
    int64_t *lost = mw_alloc((size_t)(how.rows + 1) * sizeof *lost);
    mw_status status = slack && lost ? search_open(screen, how.rows, how.parts, k, &s) : MW_ERR_MEMORY;
    for (int64_t r = 0; r < rows && status == MW_OK; r += how.rows) {
        const rows_of_call group = {x + r * screen->d, rows - r < how.rows ? rows - r : how.rows, index + r * k,
                                    value + r * k};
        status = select_group(backend, &s, &group, &how, slack, lost, dots);
    }
    search_close(&s);
    mw_free(slack);
    mw_free(lost);
    return status;
}
