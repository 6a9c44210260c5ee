/* Pre-activations by dot products, by a screen, by products (docs/design/screening.md). A screen's product runs on
 * tensor cores; then a thread block takes a row: it lists the latents that may be among the k largest, a warp computes
 * the dot product of each, and these decide. */
#include "backend/cuda/cuda_select.h"
#include "backend/formulas.h"

/* What an addition of a product rounds at most: tensor cores add the terms of a product's step with fewer bits than f32
 * (Fasi et al. 2021, PeerJ CS 7:e330), for which two bits are allowed. */
static constexpr float unit_roundoff = 0x1p-22f;

/* ---- bounds of rounding ---------------------------------------------------------------------------------- */

static __global__ void measure_rows(float *norm, float *error, bool rounds, const float *x, int64_t d) {
    const float *row = x + blockIdx.x * d;
    float all = 0, lost = 0;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
        float off = rounds ? row[i] - __bfloat162float(__float2bfloat16_rn(row[i])) : 0;
        all += row[i] * row[i];
        lost += off * off;
    }
    all = block_sum(all);
    lost = block_sum(lost);
    if (threadIdx.x > 0) return;
    norm[blockIdx.x] = mw_length_bound(sqrtf(all));
    error[blockIdx.x] = mw_length_bound(sqrtf(lost));
}

mw_status mw_cuda_round_errors(mw_backend *backend, float *norm, float *error, mw_dtype dtype, const float *x,
                               int64_t rows, int64_t d) {
    if (rows == 0) return MW_OK;
    MW_LAUNCH(measure_rows, (unsigned)rows, cuda_threads(d), 0, cuda_of(backend)->stream, norm, error, dtype == MW_BF16,
              x, d);
    return cuda_launched("round_errors");
}

/* ---- by dot products ------------------------------------------------------------------------------------- */

static constexpr int DOT_ROWS = 4, DOT_LATENTS = 32 / DOT_ROWS;

/* A warp takes DOT_ROWS rows and DOT_LATENTS latents. */
template <typename V>
static __global__ void all_dots(float *out, const V *x, const V *w, const float *bias, int64_t rows, int64_t n,
                                int64_t d) {
    int64_t row = (int64_t)blockIdx.x * DOT_ROWS, step = blockDim.x / 32 * DOT_LATENTS;
    int64_t most = rows - row < DOT_ROWS ? rows - row : DOT_ROWS;
    for (int64_t first = threadIdx.x / 32 * DOT_LATENTS; first < n; first += step) {
        const V *xs[DOT_ROWS], *ws[DOT_LATENTS];
        for (int i = 0; i < DOT_ROWS; i++) xs[i] = x + (row + (i < most ? i : 0)) * d;
        for (int i = 0; i < DOT_LATENTS; i++) ws[i] = w + (first + i < n ? first + i : first) * d;
        float sum = warp_dots<DOT_ROWS, DOT_LATENTS>(xs, ws, d);
        int64_t r = threadIdx.x % 32 / DOT_LATENTS, i = first + threadIdx.x % DOT_LATENTS;
        if (r < most && i < n) out[(row + r) * n + i] = sum + bias[i];
    }
}

static mw_status by_dots(mw_backend *backend, const mw_screen *s, const float *x, int64_t rows, float *out) {
    cudaStream_t stream = cuda_of(backend)->stream;
    unsigned blocks = (unsigned)((rows + DOT_ROWS - 1) / DOT_ROWS);
    if (fits_float4(s->d, x) && fits_float4(s->d, s->w))
        MW_LAUNCH(all_dots<float4>, blocks, CUDA_THREADS, 0, stream, out, (const float4 *)x, (const float4 *)s->w,
                  s->bias, rows, s->n, s->d / 4);
    else
        MW_LAUNCH(all_dots<float>, blocks, CUDA_THREADS, 0, stream, out, x, s->w, s->bias, rows, s->n, s->d);
    return cuda_launched("all_dots");
}

/* ---- by products ----------------------------------------------------------------------------------------- */

static mw_status by_products(mw_backend *backend, const mw_screen *s, const float *x, int64_t rows, float *out) {
    mw_matmul t = {};
    t.m = rows;
    t.n = s->n;
    t.k = t.lda = t.ldb = s->d;
    t.a = x;
    t.b = s->b;
    t.b_dtype = s->b_dtype;
    t.b_transposed = true;
    t.bias = s->bias;
    t.c = out;
    t.ldc = s->n;
    t.tf32 = s->tf32;
    return mw_cuda_matmul(backend, &t);
}

/* ---- by a screen ----------------------------------------------------------------------------------------- */

/* Bounds of the rounding of x's rows and of W's. */
typedef struct rounding {
    const float *x_norm, *x_error, *norm, *error;
    int64_t d;
} rounding;

static __device__ __forceinline__ float slack_of(mw_slack row, const rounding &r, int64_t i) {
    return row.x_part * r.norm[i] + row.w_part * r.error[i];
}

static __device__ __forceinline__ mw_slack slack_of_row(const rounding &r, int64_t row) {
    return mw_slack_of(r.x_norm[row], r.x_error[row], r.d, unit_roundoff);
}

static __global__ void raise(float *pre, rounding r, int64_t n) {
    const mw_slack row = slack_of_row(r, blockIdx.x);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) pre[blockIdx.x * n + i] += slack_of(row, r, i);
}

static mw_status measure(mw_backend *backend, const mw_screen *s, const float *x, int64_t rows, float *scratch,
                         rounding *out) {
    *out = {scratch, scratch + rows, s->norm, s->error, s->d};
    return mw_cuda_round_errors(backend, scratch, scratch + rows, s->b_dtype, x, rows, s->d);
}

mw_status mw_cuda_screen_bounds(mw_backend *backend, const mw_screen *s, const float *x, int64_t rows, float *out) {
    if (rows == 0 || s->n == 0) return MW_OK;
    if (s->how == MW_BY_DOTS) return by_dots(backend, s, x, rows, out);
    MW_TRY(by_products(backend, s, x, rows, out));
    if (s->how == MW_BY_PRODUCTS) return MW_OK;
    cuda_scratch<float> of_rows(cuda_of(backend));
    rounding r;
    MW_TRY(of_rows.make(2 * rows));
    MW_TRY(measure(backend, s, x, rows, of_rows.data, &r));
    MW_LAUNCH(raise, (unsigned)rows, cuda_threads(s->n), 0, cuda_of(backend)->stream, out, r, s->n);
    return cuda_launched("raise");
}

/* Candidates of a row, by ascending index. A row with more than `room` has all its dot products in its pre-activations'
 * place. */
typedef struct lists {
    int64_t room;
    int32_t *index; /* [rows, room], as value */
    float *value;
} lists;

/* Lists the latents of a row whose upper bound reaches the floor; returns their number, which may exceed the room. */
static __device__ unsigned list_row(const float *row, int64_t n, float floor, mw_slack slack, const rounding &r,
                                    int64_t room, int32_t *index) {
    unsigned count = 0;
    for (int64_t start = 0; start < n; start += blockDim.x) {
        int64_t i = start + threadIdx.x;
        bool may = i < n && !(row[i] + slack_of(slack, r, i) < floor);
        unsigned all, at = count + block_scan(may ? 1u : 0u, &all);
        if (may && at < room) index[at] = (int32_t)i;
        count += all;
    }
    return count;
}

/* A floor that the lower bounds of at least k latents reach. */
static __device__ float floor_of_row(const float *row, int64_t n, int64_t k, mw_slack slack, const rounding &r) {
    unsigned key, equals;
    if (k <= FEW && n >= CUDA_THREADS)
        key = floor_of(row, n, (unsigned)k,
                       [slack, &r](int64_t i, float x) { return key_of(x - slack_of(slack, r, i)); });
    else
        find_kth_key(
            n, k, [row, slack, &r](int64_t i) { return key_of(row[i] - slack_of(slack, r, i)); }, &key, &equals);
    float floor = __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
    return floor - fabsf(floor) * MW_SLACK_RELATIVE;
}

template <typename V>
static __global__ void select_screened(float *pre, const V *x, const V *w, const float *bias, int64_t n, int64_t d,
                                       int64_t k, rounding r, lists l, int32_t *index, float *value,
                                       unsigned long long *dots) {
    int64_t row = blockIdx.x, room = l.room;
    float *own = pre + row * n;
    int32_t *listed = l.index + row * room, *to_index = index + row * k;
    float *decided = l.value + row * room, *to_value = value + row * k;
    const mw_slack slack = slack_of_row(r, row);
    bool bounded = isfinite(slack.w_part);
    float floor = bounded ? floor_of_row(own, n, k, slack, r) : -INFINITY;
    unsigned count = bounded ? list_row(own, n, floor, slack, r, room, listed) : 0;
    bool few = bounded && count <= room;
    if (threadIdx.x == 0) atomicAdd(dots, (unsigned long long)(few ? count : n));
    __syncthreads();
    for (int64_t c = threadIdx.x / 32; c < (few ? count : n); c += blockDim.x / 32) {
        int64_t i = few ? listed[c] : c;
        float sum = warp_dot(x + row * d, w + i * d, d);
        if (threadIdx.x % 32 == 0) (few ? decided : own)[c] = sum + bias[i];
    }
    __syncthreads();
    if (!few) {
        top_of_row(own, n, k, to_index, to_value);
        return;
    }
    each_of_top(
        count, k, [decided](int64_t c) { return key_of(decided[c]); },
        [listed, decided, to_index, to_value](int64_t c, unsigned slot) {
            to_index[slot] = listed[c];
            to_value[slot] = decided[c];
        });
}

/* Scratch memory for a chunk of rows. */
struct screen_scratch {
    cuda_scratch<float> pre, of_rows, value;
    cuda_scratch<int32_t> index;
    cuda_scratch<unsigned long long> dots;
    lists list;

    explicit screen_scratch(mw_cuda_state *s) : pre(s), of_rows(s), value(s), index(s), dots(s), list{} {}
    mw_status make(mw_backend *backend, bool screened, int64_t rows, int64_t n, int64_t k) {
        list.room = 3 * k + 256 < n ? 3 * k + 256 : n;
        MW_TRY(pre.make(rows * n));
        if (!screened) return MW_OK;
        MW_TRY(of_rows.make(2 * rows));
        MW_TRY(value.make(rows * list.room));
        MW_TRY(index.make(rows * list.room));
        MW_TRY(dots.make(1));
        list.value = value.data;
        list.index = index.data;
        return mw_cuda_fill_zero(backend, dots.data, sizeof *dots.data);
    }
};

static mw_status select_chunk(mw_backend *backend, const mw_screen *s, const float *x, int64_t rows, int64_t k,
                              screen_scratch *scratch, int32_t *index, float *value) {
    cudaStream_t stream = cuda_of(backend)->stream;
    rounding r;
    MW_TRY(by_products(backend, s, x, rows, scratch->pre.data));
    MW_TRY(measure(backend, s, x, rows, scratch->of_rows.data, &r));
    if (fits_float4(s->d, x) && fits_float4(s->d, s->w))
        MW_LAUNCH(select_screened<float4>, (unsigned)rows, CUDA_THREADS, 0, stream, scratch->pre.data,
                  (const float4 *)x, (const float4 *)s->w, s->bias, s->n, s->d / 4, k, r, scratch->list, index, value,
                  scratch->dots.data);
    else
        MW_LAUNCH(select_screened<float>, (unsigned)rows, CUDA_THREADS, 0, stream, scratch->pre.data, x, s->w, s->bias,
                  s->n, s->d, k, r, scratch->list, index, value, scratch->dots.data);
    return cuda_launched("select_screened");
}

static mw_status select_all(mw_backend *backend, const mw_screen *s, const float *x, int64_t rows, int64_t k,
                            int32_t *index, float *value, int64_t *dots) {
    int64_t most = mw_chunk_rows(false, s->n), chunk = rows < most ? rows : most;
    screen_scratch scratch(cuda_of(backend));
    MW_TRY(scratch.make(backend, s->how == MW_BY_SCREEN, chunk, s->n, k));
    for (int64_t r = 0, m; r < rows; r += m) {
        m = rows - r < chunk ? rows - r : chunk;
        if (s->how == MW_BY_SCREEN) {
            MW_TRY(select_chunk(backend, s, x + r * s->d, m, k, &scratch, index + r * k, value + r * k));
            continue;
        }
        MW_TRY(mw_cuda_screen_bounds(backend, s, x + r * s->d, m, scratch.pre.data));
        MW_TRY(mw_cuda_top_k(backend, scratch.pre.data, m, s->n, k, index + r * k, value + r * k));
    }
    unsigned long long found = 0;
    if (s->how != MW_BY_SCREEN) return MW_OK;
    MW_TRY(backend->ops->download(backend, &found, scratch.dots.data, sizeof found));
    *dots += (int64_t)found;
    return MW_OK;
}

mw_status mw_cuda_screen_top_k(mw_backend *backend, const mw_screen *s, const float *x, int64_t rows, int64_t k,
                               int32_t *index, float *value, int64_t *dots) {
    if (k > s->n) return mw_error(MW_ERR_ARG, "top-k: k = %lld is larger than n = %lld", (long long)k, (long long)s->n);
    return rows > 0 && k > 0 ? select_all(backend, s, x, rows, k, index, value, dots) : MW_OK;
}
