/* microw/backend.h: the operations that models and SAEs are made of, one table of functions per device.
 *
 *     mw_backend *cpu = NULL;
 *     MW_TRY(mw_backend_open("cpu", &cpu));
 *     MW_TRY(cpu->ops->matmul(cpu, &(mw_matmul){.m = 2, .n = 3, .k = 4, .a = a, .lda = 4, .b = w,
 *                             .b_dtype = MW_F32, .ldb = 4, .b_transposed = true, .c = c, .ldc = 3}));
 *     mw_backend_close(&cpu);
 *
 * Memory: all matrices are row-major. Activations are f32, accumulations at least f32. Pointers are device pointers of
 * the backend (on the CPU, plain memory). Host memory are: the index of gather_rows, the position of rotary, the arrays
 * of mw_attention (whose k and v point to device memory), the starts of rows of codes, and parameters marked so below.
 *
 * Determinism: work is cut into tiles of fixed size, and one thread computes each output element in a fixed order, so
 * results do not depend on the number of threads. On the CPU a row's result of `matmul` depends only on the rows of its
 * own tile of MW_ROW_TILE rows, so callers that give whole tiles to ranks get the same bytes at any number of ranks.
 * cuBLAS chooses its method by the shape, so on a GPU that holds for equal shapes only. */
#ifndef MICROW_BACKEND_H
#define MICROW_BACKEND_H

#include "microw/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MW_ROW_TILE = 128, MW_COPY_SLOTS = 2 };

typedef enum mw_activation {
    MW_ACT_GELU_TANH,
    MW_ACT_GELU_ERF,
    MW_ACT_SILU,
    MW_ACT_RELU,
    MW_ACT_RELU_SQUARED, /* max(x, 0)^2 */
    MW_ACT_COUNT
} mw_activation;

/* What a product does to its numbers before it writes them: c = act(c) (* times). */
typedef struct mw_epilogue {
    mw_activation activation;
    const float *times; /* [m,n] dense, or NULL */
    uint16_t *rounded;  /* [m,n] dense, or NULL: gets the numbers rounded to bf16; those in C have no meaning then */
} mw_epilogue;

/* C[m,n] = A[m,k] * B (+ bias) (+ C). B is [k,n], or [n,k] with b_transposed; f32, bf16 or f16. With a 16-bit B a
 * backend may round A to bf16. lda, ldb and ldc count elements. */
typedef struct mw_matmul {
    int64_t m, n, k;
    const float *a;
    const uint16_t *a_bf16; /* A rounded to bf16 [m,k], dense, `a` is not read; or NULL. B is bf16, has_fast_bf16 */
    int64_t lda;
    const void *b;
    mw_dtype b_dtype;
    int64_t ldb;
    bool b_transposed;
    const float *bias; /* [n] or NULL */
    float *c;
    int64_t ldc;
    bool accumulate;                /* adds to C */
    const mw_epilogue *epilogue;    /* or NULL; with C dense, and without accumulate */
    bool tf32;                      /* with f32 B: operands may be rounded to 11 bits where that is faster */
    const struct mw_packed *packed; /* B as `pack` laid it out: `b` is not read; or NULL */
} mw_matmul;

/* A copy of B in the layout that products read fastest. */
typedef struct mw_packed mw_packed;
/* Memory of the backend that a copy may use as long as it exists. */
typedef struct mw_room {
    void *memory;
    size_t bytes;
} mw_room;

/* The encoder of an SAE, pre-activations a = W x + bias, and how they are computed. By dot products: every value is the
 * f32 dot product of sparse_dot, plus the bias. By a screen: the same values and bytes, but only of the latents that
 * products, which may round W and x, cannot rule out (docs/design/screening.md). By products: their values. */
typedef enum mw_encoding { MW_BY_DOTS, MW_BY_SCREEN, MW_BY_PRODUCTS } mw_encoding;
typedef struct mw_screen {
    mw_encoding how;
    int64_t n, d;
    const float *w, *bias;   /* [n, d], [n] */
    const mw_packed *packed; /* W as products read it, or NULL: `b` [n, d] */
    const void *b;
    mw_dtype b_dtype; /* f32 or bf16; of `packed` too */
    bool tf32;
    const float *norm, *error; /* for a screen: [n] bounds of |w_i| and |w_i - b_i| from round_errors */
} mw_screen;

/* Constants of xIELU: of positive and negative numbers, and of all. */
typedef struct mw_xielu {
    float p, n, beta, eps;
} mw_xielu;

/* Causal attention over ragged sequences, each with its own keys. The softmax is online over keys: no T x T matrix. */
typedef struct mw_attention {
    int64_t n_seq;
    const int64_t *q_row;  /* [n_seq] first row of the sequence in q and out */
    const int64_t *q_len;  /* [n_seq] query rows */
    const int64_t *kv_len; /* [n_seq] keys; query i sees keys 0 .. kv_len - q_len + i */
    const float *const *k; /* [n_seq] -> [kv_len, n_kv_heads * head_dim] */
    const float *const *v;
    const float *q;    /* [rows, n_heads * head_dim] */
    float *out;        /* as q */
    uint16_t *rounded; /* as q, or NULL: gets the result rounded to bf16; the numbers in out have no meaning then */
    int64_t n_heads, n_kv_heads, head_dim;
    float scale, softcap; /* softcap 0: none; else a score becomes softcap * tanh(score / softcap) */
    int64_t window;       /* 0: all keys; else a query sees itself and the window - 1 keys before it */
    /* Added to the scores after the soft cap, [n_heads, key_bias_stride]: a number for each head and key. ALiBi (Press
     * et al. 2021) by the position of the key alone, since the softmax ignores what all keys share. NULL: none. */
    const float *key_bias;
    int64_t key_bias_stride; /* at least the largest kv_len */
} mw_attention;

/* Sparse codes of a run of rows: row r has the entries start[r] .. start[r + 1] - 1, each a latent and a coefficient.
 * The run's rows are numbered from first_row in mw_latent_lists. */
typedef struct mw_code_run {
    int64_t rows, first_row;
    const int64_t *start; /* [rows + 1] host memory */
    const int32_t *index;
    const float *coefficient;
} mw_code_run;

/* Entries of a sparse [n, rows] matrix by latent: latent i has the entries start[i] .. start[i + 1] - 1. */
typedef struct mw_latent_lists {
    int64_t n, capacity; /* capacity: entries that row and coefficient hold, at least those of all runs listed */
    int64_t *start;      /* [n + 1] */
    int32_t *row;        /* [capacity] */
    float *coefficient;  /* [capacity] */
} mw_latent_lists;

/* Which values x of a matrix [rows, n] become codes. Selects x > floor, or |x - floor| < margin; NaN never. */
typedef struct mw_threshold {
    const float *floor;    /* [n]; NULL: `level` for all columns */
    float level, margin;   /* margin 0: x > floor */
    const int32_t *labels; /* [rows, n] the index that each value gets; NULL: its column */
    /* x are upper bounds from screen_bounds: selects all whose value may pass, with a margin those above it too. */
    bool upper;
} mw_threshold;

/* Which entries of sparse codes are kept. Selects, among latents first .. last - 1, values above `level`, and of those
 * that equal `level` the first equals[r] of row r; with `below`, values below `level` instead; with `floor`, those that
 * a mw_threshold with this floor and margin selects. */
typedef struct mw_filter {
    int64_t first, last;
    float level;
    bool below;
    const int64_t *equals; /* [rows] host memory; NULL: none, as always with `below` */
    const float *floor;    /* [last], device memory; or NULL */
    float margin;
} mw_filter;

/* Functions of one entry: i is its latent, z its value, t0, t1, t2 tables by latent, NULL where the function has none.
 * Gradients are computed in double. */
typedef enum mw_entry_function {
    MW_MAP_ADD,       /* out += a t0[i]; t0 NULL: out += a */
    MW_MAP_TIMES,     /* out = z out */
    MW_MAP_GATE,      /* out = exp(t0[i]) out where z > 0, else 0 */
    MW_MAP_MAGNITUDE, /* out = max(exp(t0[i]) (z - t1[i]) + t2[i], 0) */
    MW_MAP_TANH,      /* out = tanh(c z t0[i]) */
    MW_MAP_ADD_SLOPE, /* out += a d tanh(c z t0[i]) / dz */
    /* out = t1[i] (out + a d tanh(c y t0[i]) / dy) + b, where y = z if z > t1[i], else 0; t0 NULL: without the tanh */
    MW_MAP_EDGE,
} mw_entry_function;
typedef struct mw_entry_map {
    mw_entry_function map;
    double a, b, c;
    const float *table[3]; /* t0, t1, t2 */
} mw_entry_map;

/* Groups of neighbouring columns of a row: 0 .. end[0] - 1, end[0] .. end[1] - 1, ... `end` [n] is host memory. */
typedef struct mw_column_groups {
    int64_t n;
    const int64_t *end;
} mw_column_groups;

/* Adam (Kingma & Ba 2015, alg. 1). The caller gives the bias corrections 1 - beta^t, and 1 - beta1 and 1 - beta2:
 * computed from a rounded beta2 of 0.999, 1 - beta2 would be off by 1e-5, and the steps by half of that. */
typedef struct mw_adam {
    float lr, beta1, beta2, one_minus_beta1, one_minus_beta2, eps, correction1, correction2;
    float grad_scale; /* factor of the gradients */
    bool unit; /* first scales rows to unit length and removes the gradient's component along the row, as unit_rows */
} mw_adam;

typedef struct mw_backend mw_backend;

/* The operations: X(type of the result, name, parameters). From this list are made the members of mw_backend_ops, the
 * prototypes of the functions of the CPU and CUDA (mw_cpu_NAME, mw_cuda_NAME), their tables, and a test that none is
 * missing. A new operation needs: an entry here, a function in src/backend/cpu and in src/backend/cuda, and a test in
 * tests/unit/test_backend.c or test_backend_training.c.
 *
 * All are local to the process. Their errors are MW_ERR_MEMORY (out of host memory), MW_ERR_BACKEND (a call
 * of CUDA or of a library failed, out of device memory included), or as stated. Unless stated otherwise a GPU may
 * still be at work when they return, and calls take effect in the order they are made in. */
#define MW_BACKEND_OPERATIONS(X)                                                                                       \
    /* Allocates `bytes` bytes, which `free` frees. */                                                                 \
    X(mw_status, alloc, mw_backend *, size_t bytes, void **out)                                                        \
    /* NULL is allowed. */                                                                                             \
    X(void, free, mw_backend *, void *memory)                                                                          \
    /* Copy from host to device memory, and back. Return when the copy is done. */                                     \
    X(mw_status, upload, mw_backend *, void *to, const void *from, size_t bytes)                                       \
    X(mw_status, download, mw_backend *, void *to, const void *from, size_t bytes)                                     \
    /* Returns the bytes that `alloc` could still get, as far as known; 0: unknown. Others may take some. */           \
    X(mw_status, free_memory, mw_backend *, double *bytes)                                                             \
    /* Allocates host memory for copies that run while the device works; host_free frees it (NULL is allowed). */      \
    X(mw_status, host_alloc, mw_backend *, size_t bytes, void **out)                                                   \
    X(void, host_free, mw_backend *, void *memory)                                                                     \
    /* Begins a copy to host memory in slot 0 .. MW_COPY_SLOTS - 1, after all operations called so far. Later */       \
    /* operations do not wait for it: `from` must stay unchanged until `fetched` has waited for the slot. */           \
    X(mw_status, fetch, mw_backend *, int slot, void *to, const void *from, size_t bytes)                              \
    X(mw_status, fetched, mw_backend *, int slot)                                                                      \
    /* Copies to the device while it works; any thread may call `send`. The copy follows the operations called */      \
    /* before `mark`, and is done when `send` returns. */                                                              \
    X(mw_status, mark, mw_backend *)                                                                                   \
    X(mw_status, send, mw_backend *, void *to, const void *from, size_t bytes)                                         \
                                                                                                                       \
    /* Copies rows of `width` floats between matrices; strides count floats. */                                        \
    X(mw_status, copy_2d, mw_backend *, float *to, int64_t to_stride, const float *from, int64_t from_stride,          \
      int64_t rows, int64_t width)                                                                                     \
    X(mw_status, matmul, mw_backend *, const mw_matmul *)                                                              \
    /* Whether products with a B in bf16 are faster than in f32. */                                                    \
    X(bool, has_fast_bf16, mw_backend *)                                                                               \
    /* Packs B as `like` describes it (n, k, b, b_dtype, ldb, b_transposed), rounded to `as`: b_dtype, or */           \
    /* bf16 for f32. *slot is NULL or the pack of a B of the same shape and type, reused; free_packed frees it. The */ \
    /* copy is in `room`, if it fits there. *slot stays NULL where a plain B is as fast. Sums of a product may */      \
    /* round differently with a packed B. */                                                                           \
    X(mw_status, pack, mw_backend *, const mw_matmul *like, mw_dtype as, const mw_room *room, mw_packed **slot)        \
    X(void, free_packed, mw_backend *, mw_packed *packed) /* NULL is allowed */                                        \
    /* out[r, :] = scale * table[index[r], :] (+ out[r, :], with `add`); out is [rows, width], table f32, bf16, */     \
    /* f16. */                                                                                                         \
    X(mw_status, gather_rows, mw_backend *, float *out, const void *table, mw_dtype dtype, const int32_t *index,       \
      int64_t rows, int64_t width, float scale, bool add)                                                              \
    /* Norms over rows of x [rows, width]. Each writes to out, which may be x, or, where `rounded` is not NULL, the */ \
    /* numbers rounded to bf16 to it. Ba et al. 2016; bias may be NULL. */                                             \
    X(mw_status, layer_norm, mw_backend *, float *out, uint16_t *rounded, const float *x, const float *weight,         \
      const float *bias, int64_t rows, int64_t width, float eps)                                                       \
    /* x / rms(x) * weight. Zhang & Sennrich 2019. */                                                                  \
    X(mw_status, rms_norm, mw_backend *, float *out, uint16_t *rounded, const float *x, const float *weight,           \
      int64_t rows, int64_t width, float eps)                                                                          \
    /* Rotates the first 2 * pairs columns of each head, in place: in halves (x_i, x_{i + pairs}), or interleaved */   \
    /* (x_2i, x_{2i + 1}) as Su et al. 2021. cos_sin is [positions, pairs, 2], x is [rows, heads * head_dim]. */       \
    X(mw_status, rotary, mw_backend *, float *x, const float *cos_sin, const int32_t *position, int64_t rows,          \
      int64_t heads, int64_t head_dim, int64_t pairs, bool interleaved)                                                \
    X(mw_status, attention, mw_backend *, const mw_attention *)                                                        \
    X(mw_status, add, mw_backend *, float *x, const float *y, int64_t count) /* x += y */                              \
    X(mw_status, soft_cap, mw_backend *, float *x, int64_t count, float cap) /* x = cap tanh(x / cap) */               \
    /* x = x > least ? x : least, then x = x < most ? x : most; either may be infinite. */                             \
    X(mw_status, clamp, mw_backend *, float *x, int64_t count, float least, float most)                                \
    /* xIELU (arXiv 2411.13010): p x^2 + beta x for x > 0, else n (expm1(min(x, eps)) - x) + beta x. */                \
    X(mw_status, xielu, mw_backend *, const mw_xielu *, float *x, int64_t count)                                       \
                                                                                                                       \
    /* Writes the k largest of each row, [rows, k], in index order; ties go to the lower index. MW_ERR_ARG: k > n. */  \
    X(mw_status, top_k, mw_backend *, const float *x, int64_t rows, int64_t n, int64_t k, int32_t *index,              \
      float *value)                                                                                                    \
    /* norm[r] >= |x_r| and error[r] >= |x_r - x'_r|, little above; x' is x [rows, d] rounded to `dtype`, f32 or */    \
    /* bf16. Infinite where x' is. */                                                                                  \
    X(mw_status, round_errors, mw_backend *, float *norm, float *error, mw_dtype dtype, const float *x, int64_t rows,  \
      int64_t d)                                                                                                       \
    /* Pre-activations of x [rows, d], out [rows, n]; by a screen upper bounds of them, less a part in 2^20. */        \
    X(mw_status, screen_bounds, mw_backend *, const mw_screen *, const float *x, int64_t rows, float *out)             \
    /* top_k of the pre-activations of x [rows, d], which are not kept. Adds the dot products computed to *dots. */    \
    X(mw_status, screen_top_k, mw_backend *, const mw_screen *, const float *x, int64_t rows, int64_t k,               \
      int32_t *index, float *value, int64_t *dots)                                                                     \
    /* index[r, j] = table[r * stride + index[r, j]], in place; index is [rows, k]. */                                 \
    X(mw_status, pick, mw_backend *, int32_t *index, const int32_t *table, int64_t stride, int64_t rows, int64_t k)    \
    /* index[r, j] = table[r * width + index[r, j] - first] where that index is in first .. first + width - 1; else */ \
    /* index and value become 0. table is [rows, width]. */                                                            \
    X(mw_status, pick_own, mw_backend *, int32_t *index, float *value, const int32_t *table, int64_t first,            \
      int64_t width, int64_t rows, int64_t k)                                                                          \
    /* Make codes of x [rows, n] in two passes: count_open counts the entries of each row (`count` [rows] is host */   \
    /* memory; returns when it is filled); write_open writes row r's entries from start[r] on (host memory), by */     \
    /* ascending column. */                                                                                            \
    X(mw_status, count_open, mw_backend *, const mw_threshold *, const float *x, int64_t rows, int64_t n,              \
      int64_t *count)                                                                                                  \
    X(mw_status, write_open, mw_backend *, const mw_threshold *, const float *x, int64_t rows, int64_t n,              \
      const int64_t *start, int32_t *index, float *value)                                                              \
                                                                                                                       \
    /* Select entries of codes (row r: from[r] .. from[r + 1] - 1) likewise, in two passes; their order is kept. */    \
    X(mw_status, count_kept, mw_backend *, const mw_filter *, const int64_t *from, const int32_t *index,               \
      const float *value, int64_t rows, int64_t *count)                                                                \
    X(mw_status, write_kept, mw_backend *, const mw_filter *, const int64_t *from, const int32_t *index,               \
      const float *value, int64_t rows, const int64_t *start, int32_t *to_index, float *to_value)                      \
    /* A histogram of the 8 bits from bit `shift` on, over values whose bits equal `prefix` where `mask` is set. */    \
    /* `counts` is host memory; returns when it is filled. */                                                          \
    X(mw_status, count_digits, mw_backend *, const float *value, int64_t entries, uint32_t prefix, uint32_t mask,      \
      int shift, int64_t counts[256])                                                                                  \
    X(mw_status, map_entries, mw_backend *, const mw_entry_map *, float *out, const int32_t *index,                    \
      const float *value, int64_t entries)                                                                             \
                                                                                                                       \
    /* Products with sparse codes: row r has the entries start[r] .. start[r + 1] - 1; start [rows + 1] is host */     \
    /* memory, W is [n, d]. out[r] = bias + sum_j value[j] W[index[j]], [rows, d]; bias may be NULL. With `add` */     \
    /* out[r] takes the place of bias: latents added in several calls, in order, give the same sums as in one. */      \
    X(mw_status, sparse_decode, mw_backend *, float *out, const float *bias, bool add, const int64_t *start,           \
      const int32_t *index, const float *value, int64_t rows, const float *w, int64_t d)                               \
    /* out[j] = <g[r], W[index[j]]> (+ bias[index[j]]) for the entries j of row r; g [rows, d], bias may be NULL. */   \
    /* A dot product has the same bytes in every call. */                                                              \
    X(mw_status, sparse_dot, mw_backend *, float *out, const float *g, const int64_t *start, const int32_t *index,     \
      int64_t rows, const float *w, int64_t d, const float *bias)                                                      \
    /* Lists the entries of latents first .. first + out->n - 1 by latent: run after run, each in row order. */        \
    X(mw_status, list_latents, mw_backend *, const mw_code_run *runs, int n_runs, int64_t first, mw_latent_lists *out) \
    /* out[i] = sum of latent i's coefficients, in a fixed order; out is [n]. */                                       \
    X(mw_status, list_sums, mw_backend *, double *out, const mw_latent_lists *)                                        \
    /* out[i] = sum over latent i's entries of coefficient * x[row], in list order; out is [n, d]. */                  \
    X(mw_status, sparse_outer, mw_backend *, float *out, const mw_latent_lists *, const float *x, int64_t d)           \
    /* since[i] += by for i < n; then 0 for latents with a value above `above`. */                                     \
    X(mw_status, mark_fired, mw_backend *, int64_t *since, int64_t n, int64_t by, const int32_t *index,                \
      const float *value, int64_t entries, float above)                                                                \
    /* Writes the i with since[i] > after, ascending, into out [n]; their number into `count` (host memory). */        \
    X(mw_status, list_silent, mw_backend *, const int64_t *since, int64_t n, int64_t after, int32_t *out,              \
      int64_t *count)                                                                                                  \
    /* x[i] += by for the i < n with since[i] > after. */                                                              \
    X(mw_status, raise_silent, mw_backend *, float *x, const int64_t *since, int64_t n, int64_t after, float by)       \
    /* `count` is host memory. */                                                                                      \
    X(mw_status, count_positive, mw_backend *, const float *x, int64_t n, int64_t *count)                              \
                                                                                                                       \
    /* One Adam step in one pass over param, grad, m and v, [rows, d] each; d matters with `unit` only. */             \
    X(mw_status, adam, mw_backend *, float *param, const float *grad, float *m, float *v, int64_t rows, int64_t d,     \
      const mw_adam *)                                                                                                 \
    /* Scales the rows of w [rows, d] to unit length; removes from the same row of g its component along it. g may */  \
    /* be NULL. */                                                                                                     \
    X(mw_status, unit_rows, mw_backend *, float *w, float *g, int64_t rows, int64_t d)                                 \
    /* out[i] = sum over the groups of the length of row i's columns in the group; at most 16 groups on a GPU */       \
    /* (MW_ERR_ARG). */                                                                                                \
    X(mw_status, row_lengths, mw_backend *, float *out, const float *w, int64_t rows, int64_t d,                       \
      const mw_column_groups *)                                                                                        \
    /* g[i] += weight[i] * w[i] / |w[i]|, group by group; weight is [rows]. Groups of length 0 are left unchanged. */  \
    /* At most 16 groups on a GPU. */                                                                                  \
    X(mw_status, add_directions, mw_backend *, float *g, const double *weight, const float *w, int64_t rows,           \
      int64_t d, const mw_column_groups *)                                                                             \
                                                                                                                       \
    /* out = x - row, for each row of x [rows, d]; `row` NULL: out = x. */                                             \
    X(mw_status, subtract_row, mw_backend *, float *out, const float *x, const float *row, int64_t rows, int64_t d)    \
    /* out[r, j] = x[r, j] * factor[j]; out may be x. */                                                               \
    X(mw_status, scale_columns, mw_backend *, float *out, const float *x, const float *factor, int64_t rows,           \
      int64_t d)                                                                                                       \
    /* out = a x + b y; y NULL: out = a x. out may be x or y. */                                                       \
    X(mw_status, combine, mw_backend *, float *out, float a, const float *x, float b, const float *y, int64_t count)   \
    /* x is [rows, columns], out [columns, rows]. */                                                                   \
    X(mw_status, transpose, mw_backend *, float *out, const float *x, int64_t rows, int64_t columns)                   \
    X(mw_status, fill_zero, mw_backend *, void *to, size_t bytes)                                                      \
                                                                                                                       \
    /* Sums in double, in fixed orders. tile_sums: for each tile of MW_ROW_TILE rows of x [rows, d] the sums of its */ \
    /* columns, then the sum of all squares; out is [tiles, d + 1]. */                                                 \
    X(mw_status, tile_sums, mw_backend *, double *out, const float *x, int64_t rows, int64_t d)                        \
    /* out[j] = sum of column j of x [rows, width] (+ out[j], with `add`) */                                           \
    X(mw_status, add_rows, mw_backend *, double *out, const double *x, int64_t rows, int64_t width, bool add)          \
    X(mw_status, column_sums, mw_backend *, double *out, const float *x, int64_t rows, int64_t d)                      \
    /* out[i] = -sum over the `span` rows from i * span on of weight * w[row]; out is [ceil(rows / span), d]. */       \
    X(mw_status, weigh_rows, mw_backend *, double *out, const double *weight, const float *w, int64_t rows, int64_t d, \
      int64_t span)                                                                                                    \
    /* out[i] = sum of squares of the `span` numbers from i * span on (+ out[i], with `add`) */                        \
    X(mw_status, square_sums, mw_backend *, double *out, const float *x, int64_t count, int64_t span, bool add)        \
    X(mw_status, narrow, mw_backend *, float *out, const double *x, int64_t count)                                     \
    /* To f32, bf16 or f16, rounded to nearest, ties to even. MW_ERR_UNSUPPORTED: another dtype. */                    \
    X(mw_status, convert, mw_backend *, mw_dtype dtype, void *out, const float *x, int64_t count)                      \
                                                                                                                       \
    X(void, close, mw_backend *) /* called by mw_backend_close */

typedef struct mw_backend_ops {
    const char *name;      /* "cpu", "cuda" */
    bool host_memory;      /* device pointers are plain pointers: no copy is needed */
    bool rows_stand_alone; /* matmul: a row depends only on its own tile of MW_ROW_TILE rows, see above */
#define MW_BACKEND_MEMBER(type, name, ...) type (*name)(__VA_ARGS__);
    MW_BACKEND_OPERATIONS(MW_BACKEND_MEMBER)
#undef MW_BACKEND_MEMBER
} mw_backend_ops;

struct mw_backend {
    const mw_backend_ops *ops;
    void *state;
};

/* Opens a backend: "auto" (a GPU where one is usable, else the CPU), "cpu", "cpu:onednn", "cpu:cblas", "cuda",
 * "cuda:1". mw_backend_close frees it. MW_ERR_UNSUPPORTED: this machine or this build has no such backend. */
mw_status mw_backend_open(const char *name, mw_backend **out) MW_MUST_USE;
/* Opens a backend for one of several processes of a node. If the name does not say which GPU, process `local_rank`
 * takes GPU local_rank modulo the number of GPUs that it sees (Slurm and CUDA_VISIBLE_DEVICES may hide some): with more
 * processes than GPUs they share. Local. */
mw_status mw_backend_open_at(const char *name, int local_rank, mw_backend **out) MW_MUST_USE;
void mw_backend_close(mw_backend **backend);
/* Reports the libraries of the CPU backend; mw_gpus_find reports those of a GPU. */
void mw_backend_libraries(mw_library_callback *report, void *self);

typedef struct mw_gpu {
    char name[128], bus[32];
    int major, minor;    /* compute capability */
    double memory, free; /* bytes */
    bool has_code;       /* this build has kernels for it */
} mw_gpu;
/* A library that a CUDA build loads when it opens a GPU. Versions as the library counts them; 0: unknown. */
typedef struct mw_gpu_library {
    const char *name;  /* "cuBLASLt", "cuBLAS", "NCCL" */
    int made_for;      /* version of the headers of this build */
    int found;         /* version of the library found */
    char path[512];    /* of the file; "": none was found */
    char problem[512]; /* why it cannot be used; "" */
} mw_gpu_library;
typedef struct mw_gpus {
    bool in_build;          /* the build has CUDA */
    int driver, runtime;    /* CUDA versions, 13000 is 13.0: of the driver (0: no driver) and of this build */
    char architectures[64]; /* for which the build has kernels: "80 90 100" */
    char problem[512];      /* why `auto` takes the CPU; "" where it takes a GPU */
    int n_libraries;
    mw_gpu_library libraries[3];
    int64_t n;
    mw_gpu *list; /* [n] */
} mw_gpus;
/* Finds the GPUs and their libraries, for people to read: logs nothing, and finding none is no error. mw_gpus_free
 * frees. */
mw_status mw_gpus_find(mw_gpus *out) MW_MUST_USE;
void mw_gpus_free(mw_gpus *gpus);

/* Returns the rows of a product with n columns that are in memory at once, between the product and what uses it. */
int64_t mw_chunk_rows(bool host_memory, int64_t n);

/* Allocates `count` floats of device memory, not initialized; ops->free frees them. */
mw_status mw_backend_floats(mw_backend *backend, int64_t count, float **out) MW_MUST_USE;
/* Allocates `count` items of `item` bytes of device memory, all bytes 0. `out` points to a pointer; ops->free frees. */
mw_status mw_backend_zeros(mw_backend *backend, int64_t count, size_t item, void *out) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
