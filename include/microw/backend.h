/* microw/backend.h: the operations models and SAEs are made of, behind one table per device.
 *
 *     mw_backend *cpu = NULL;
 *     MW_TRY(mw_backend_open("cpu", &cpu));
 *     MW_TRY(cpu->ops->matmul(cpu, &(mw_matmul){.m = 2, .n = 3, .k = 4, .a = a, .lda = 4, .b = w,
 *                             .b_dtype = MW_F32, .ldb = 4, .b_transposed = true, .c = c, .ldc = 3}));
 *     mw_backend_close(&cpu);
 *
 * All matrices are row-major; activations are f32, accumulations at least f32. Pointers are device pointers of
 * that backend (on the CPU, plain memory), except those that the host works out itself and hands over small: indices of
 * gather_rows, positions of rotary, the arrays of mw_attention (whose k and v point to device memory), where the codes of a row
 * start, and single numbers.
 *
 * Determinism: work is cut into tiles of fixed size and each output element is computed by one thread in a
 * fixed order, so results do not depend on the number of threads. On the CPU a row's result of `matmul` depends only on
 * the rows of its own MW_ROW_TILE-row tile, so callers who hand out whole tiles to ranks get the same bytes
 * at any number of ranks; cuBLAS chooses its method by the shape, so there that holds for equal shapes only.
 */
#ifndef MICROW_BACKEND_H
#define MICROW_BACKEND_H

#include "microw/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MW_ROW_TILE = 128, MW_COPY_SLOTS = 2 };

/* C[m,n] = A[m,k] * B (+ bias) (+ C). B is [k,n], or [n,k] with b_transposed; f32, bf16 or f16. With a 16-bit
 * B a backend may round A to bf16 first. */
typedef struct mw_matmul {
    int64_t m, n, k;
    const float *a;
    int64_t lda;
    const void *b;
    mw_dtype b_dtype;
    int64_t ldb;
    bool b_transposed;
    const float *bias; /* [n] or NULL */
    float *c;
    int64_t ldc;
    bool accumulate;
    bool tf32;                      /* with f32 B: operands may be rounded to 11 bits where the device is faster so */
    const struct mw_packed *packed; /* what `pack` made of B, which is not read then; or NULL */
} mw_matmul;

/* B of many products, laid out as they read it fastest: memory of its own. */
typedef struct mw_packed mw_packed;

typedef enum mw_activation { MW_ACT_GELU_TANH, MW_ACT_GELU_ERF, MW_ACT_SILU, MW_ACT_RELU } mw_activation;

/* Causal attention over ragged sequences, each with its own keys: online over keys, no T x T matrix. */
typedef struct mw_attention {
    int64_t n_seq;
    const int64_t *q_row;  /* [n_seq] first row of the sequence in q and out */
    const int64_t *q_len;  /* [n_seq] query rows */
    const int64_t *kv_len; /* [n_seq] keys; query i sees keys 0 .. kv_len - q_len + i */
    const float *const *k; /* [n_seq] -> [kv_len, n_kv_heads * head_dim] */
    const float *const *v;
    const float *q; /* [rows, n_heads * head_dim] */
    float *out;     /* like q */
    int64_t n_heads, n_kv_heads, head_dim;
    float scale, softcap; /* softcap 0: none; else scores become softcap * tanh(scores / softcap) */
    int64_t window;       /* 0: all; else a query sees itself and the window - 1 keys before it */
} mw_attention;

/* Sparse codes of some rows: row r has entries start[r] .. start[r + 1] with latents `index` and these coefficients. When listed by
 * latent its rows count from first_row. */
typedef struct mw_code_run {
    int64_t rows, first_row;
    const int64_t *start; /* [rows + 1] host memory */
    const int32_t *index;
    const float *coefficient;
} mw_code_run;

/* Entries of a sparse [n, rows] matrix by latent: latent i has entries start[i] .. start[i + 1]. */
typedef struct mw_latent_lists {
    int64_t n, capacity; /* entries that row and coefficient hold: at least those of all runs listed */
    int64_t *start;      /* [n + 1] */
    int32_t *row;        /* [capacity] */
    float *coefficient;
} mw_latent_lists;

/* Which values of a matrix become codes: those above a floor; with margin > 0 those nearer to it than that, on either side. What
 * is no number never does. */
typedef struct mw_threshold {
    const float *floor; /* [n]; NULL: the same for all, `level` */
    float level, margin;
    const int32_t *labels; /* [rows, n] the index of each value; NULL: its column */
} mw_threshold;

/* Which entries of sparse codes are kept: of latents first .. last - 1 those above `level`, and of those that equal it the first
 * equals[r] of row r. */
typedef struct mw_filter {
    int64_t first, last;
    float level;
    const int64_t *equals; /* [rows] host memory; NULL: none */
} mw_filter;

/* What becomes of a number of each entry; i is the entry's latent, z its value, and t0, t1, t2 are tables by latent, NULL where a map
 * has none. Worked out in double where it is a gradient's. */
typedef enum mw_entry_function {
    MW_MAP_ADD,       /* out += a t0[i]; t0 NULL: out += a */
    MW_MAP_TIMES,     /* out = z out */
    MW_MAP_GATE,      /* out = exp(t0[i]) out where z > 0, else 0 */
    MW_MAP_MAGNITUDE, /* out = max(exp(t0[i]) (z - t1[i]) + t2[i], 0) */
    MW_MAP_TANH,      /* out = tanh(c z t0[i]) */
    MW_MAP_ADD_SLOPE, /* out += a d tanh(c z t0[i]) / dz */
    MW_MAP_EDGE /* out = t1[i] (out + a d tanh(c y t0[i]) / dy) + b, where y = z if z > t1[i], else 0; t0 NULL: without the tanh */
} mw_entry_function;
typedef struct mw_entry_map {
    mw_entry_function map;
    double a, b, c;
    const float *table[3];
} mw_entry_map;

/* Columns of a row that belong together: 0 .. end[0], end[0] .. end[1], ... `end` is host memory. */
typedef struct mw_column_groups {
    int64_t n;
    const int64_t *end;
} mw_column_groups;

/* Adam (Kingma & Ba 2015, alg. 1), with bias corrections 1 - beta^t and the rests 1 - beta given by the caller: taken from a
 * rounded beta2 of 0.999, the rest would be off by 1e-5, and the steps by half of that. */
typedef struct mw_adam {
    float lr, beta1, beta2, one_minus_beta1, one_minus_beta2, eps, correction1, correction2;
    float grad_scale; /* gradients are multiplied by it first */
    bool
        unit; /* rows are brought to unit length first, and their gradients lose what is along them: as unit_rows would */
} mw_adam;

typedef struct mw_backend mw_backend;

typedef struct mw_backend_ops {
    const char *name;
    bool host_memory;      /* device pointers are plain pointers: no copy needed */
    bool rows_stand_alone; /* matmul: a row depends only on its own tile of MW_ROW_TILE rows, see above */

    mw_status (*alloc)(mw_backend *, size_t bytes, void **out);
    void (*free)(mw_backend *, void *block);
    mw_status (*upload)(mw_backend *, void *to, const void *from, size_t bytes);
    mw_status (*download)(mw_backend *, void *to, const void *from, size_t bytes);

    /* Bytes that `alloc` could still get, as far as is known now; 0: not known. Others may take some. */
    mw_status (*free_memory)(mw_backend *, double *bytes);

    /* Host memory that copies go to while the device works on, and such copies. A copy follows the work asked for so far; later
     * work does not wait for it, so `from` must stay as it is until `fetched` has waited for all copies of the slot. */
    mw_status (*host_alloc)(mw_backend *, size_t bytes, void **out);
    void (*host_free)(mw_backend *, void *block);
    mw_status (*fetch)(mw_backend *, int slot, void *to, const void *from, size_t bytes);
    mw_status (*fetched)(mw_backend *, int slot);

    /* Copies to the device beside the work on it, from a thread of their own if one likes: they follow the work that was asked for
     * before `mark`, and are there when `send` returns. */
    mw_status (*mark)(mw_backend *);
    mw_status (*send)(mw_backend *, void *to, const void *from, size_t bytes);

    /* Rows of `width` floats from one matrix to another with their own strides. */
    mw_status (*copy_2d)(mw_backend *, float *to, int64_t to_stride, const float *from, int64_t from_stride,
                         int64_t rows, int64_t width);
    mw_status (*matmul)(mw_backend *, const mw_matmul *);
    /* Packs B as `like` describes it (n, k, b, b_dtype, ldb, b_transposed). *slot is NULL or what was made of a B of the same
     * shape, whose memory is used again; it stays NULL where a plain B is as good. Sums of a product may round differently by it. */
    mw_status (*pack)(mw_backend *, const mw_matmul *like, mw_packed **slot);
    void (*free_packed)(mw_backend *, mw_packed *); /* NULL is fine */
    /* out[r, :] = scale * table[index[r], :] (+ out) */
    mw_status (*gather_rows)(mw_backend *, float *out, const void *table, mw_dtype dtype, const int32_t *index,
                             int64_t rows, int64_t width, float scale, bool add);
    /* bias may be NULL. Ba et al. 2016. */
    mw_status (*layer_norm)(mw_backend *, float *out, const float *x, const float *weight, const float *bias,
                            int64_t rows, int64_t width, float eps);
    /* out = x / rms(x) * (weight + offset). Zhang & Sennrich 2019; offset 1 for Gemma. */
    mw_status (*rms_norm)(mw_backend *, float *out, const float *x, const float *weight, int64_t rows, int64_t width,
                          float eps, float offset);
    /* Rotates the first 2 * pairs of each head in halves (x_i, x_{i + pairs}). Su et al. 2021. `cos_sin` is
     * [positions, pairs, 2]. x is [rows, heads * head_dim]. */
    mw_status (*rotary)(mw_backend *, float *x, const float *cos_sin, const int32_t *position, int64_t rows,
                        int64_t heads, int64_t head_dim, int64_t pairs);
    mw_status (*attention)(mw_backend *, const mw_attention *);
    mw_status (*activate)(mw_backend *, mw_activation, float *x, int64_t count);
    /* gate = act(gate) * up */
    mw_status (*activate_gated)(mw_backend *, mw_activation, float *gate, const float *up, int64_t count);
    mw_status (*add)(mw_backend *, float *x, const float *y, int64_t count); /* x += y */
    mw_status (*soft_cap)(mw_backend *, float *x, int64_t count, float cap); /* x = cap tanh(x / cap) */

    /* The k largest of each row, ties to the lower index, written in index order. */
    mw_status (*top_k)(mw_backend *, const float *x, int64_t rows, int64_t n, int64_t k, int32_t *index, float *value);
    /* index[r, j] = table[r * stride + index[r, j]], in place. */
    mw_status (*pick)(mw_backend *, int32_t *index, const int32_t *table, int64_t stride, int64_t rows, int64_t k);
    /* The same where index[r, j] is one of first .. first + width, counted from there; else 0, and so is its value. */
    mw_status (*pick_own)(mw_backend *, int32_t *index, float *value, const int32_t *table, int64_t first,
                          int64_t width, int64_t rows, int64_t k);
    /* Codes of a matrix [rows, n] in two passes: entries of each row into `count` (host memory), then, with the place of each
     * row's first, indices ascending by column, and values. */
    mw_status (*count_open)(mw_backend *, const mw_threshold *, const float *x, int64_t rows, int64_t n,
                            int64_t *count);
    mw_status (*write_open)(mw_backend *, const mw_threshold *, const float *x, int64_t rows, int64_t n,
                            const int64_t *start, int32_t *index, float *value);

    /* Some of the entries of codes, likewise in two passes; what is kept keeps its order. */
    mw_status (*count_kept)(mw_backend *, const mw_filter *, const int64_t *from, const int32_t *index,
                            const float *value, int64_t rows, int64_t *count);
    mw_status (*write_kept)(mw_backend *, const mw_filter *, const int64_t *from, const int32_t *index,
                            const float *value, int64_t rows, const int64_t *start, int32_t *to_index, float *to_value);
    /* Of values whose bits are `prefix` where `mask` is set: how many have which 8 bits from `shift` on. `counts` is host memory. */
    mw_status (*count_digits)(mw_backend *, const float *value, int64_t entries, uint32_t prefix, uint32_t mask,
                              int shift, int64_t counts[256]);
    mw_status (*map_entries)(mw_backend *, const mw_entry_map *, float *out, const int32_t *index, const float *value,
                             int64_t entries);

    /* Sparse codes: row r has entries start[r] .. start[r + 1]; `start` [rows + 1] is host memory.
     * out[r] = bias + sum_j value[j] W[index[j]]; bias may be NULL; with `add` out[r] takes its place, and what sums of the latents
     * before have left there is gone on from as if all were one. W is [n, d]. */
    mw_status (*sparse_decode)(mw_backend *, float *out, const float *bias, bool add, const int64_t *start,
                               const int32_t *index, const float *value, int64_t rows, const float *w, int64_t d);
    /* out[j] = <g[r], W[index[j]]> for the entries j of row r */
    mw_status (*sparse_dot)(mw_backend *, float *out, const float *g, const int64_t *start, const int32_t *index,
                            int64_t rows, const float *w, int64_t d);
    /* The entries of runs whose latent is first .. first + out->n, by latent: run after run, each in row order. */
    mw_status (*list_latents)(mw_backend *, const mw_code_run *runs, int n_runs, int64_t first, mw_latent_lists *out);
    /* out[i] = sum of latent i's coefficients, in list order */
    mw_status (*list_sums)(mw_backend *, double *out, const mw_latent_lists *);
    /* out[i] = sum over latent i's entries of coefficient * x[row], in list order; out is [n, d]. */
    mw_status (*sparse_outer)(mw_backend *, float *out, const mw_latent_lists *, const float *x, int64_t d);
    /* since[i] += by for all n; then 0 for those with a value above `above`. */
    mw_status (*mark_fired)(mw_backend *, int64_t *since, int64_t n, int64_t by, const int32_t *index,
                            const float *value, int64_t entries, float above);
    /* The i with since[i] > after, ascending, into out [n]; their number into `count`. */
    mw_status (*list_silent)(mw_backend *, const int64_t *since, int64_t n, int64_t after, int32_t *out,
                             int64_t *count);
    mw_status (*count_positive)(mw_backend *, const float *x, int64_t n, int64_t *count);

    /* One pass over rows of d; without `unit` the rows mean nothing. */
    mw_status (*adam)(mw_backend *, float *param, const float *grad, float *m, float *v, int64_t rows, int64_t d,
                      const mw_adam *);
    /* Each row of w to unit length; removes from the same row of g its component along it. g may be NULL. */
    mw_status (*unit_rows)(mw_backend *, float *w, float *g, int64_t rows, int64_t d);
    /* out[i] = sum over the parts of the length of row i's columns there */
    mw_status (*row_lengths)(mw_backend *, float *out, const float *w, int64_t rows, int64_t d,
                             const mw_column_groups *);
    /* g[i] += weight[i] * w[i] / |w[i]|, part by part; `weight` [rows]. Parts of length 0 are left alone. */
    mw_status (*add_directions)(mw_backend *, float *g, const double *weight, const float *w, int64_t rows, int64_t d,
                                const mw_column_groups *);

    /* out = x - row, for each of the rows; `row` NULL: out = x. */
    mw_status (*subtract_row)(mw_backend *, float *out, const float *x, const float *row, int64_t rows, int64_t d);
    /* out = x, each column times its factor [d]; out may be x. */
    mw_status (*scale_columns)(mw_backend *, float *out, const float *x, const float *factor, int64_t rows, int64_t d);
    /* out = a x + b y; y NULL: out = a x. out may be x or y. */
    mw_status (*combine)(mw_backend *, float *out, float a, const float *x, float b, const float *y, int64_t count);
    mw_status (*transpose)(mw_backend *, float *out, const float *x, int64_t rows, int64_t columns);
    mw_status (*fill_zero)(mw_backend *, void *to, size_t bytes);

    /* Sums in double, in fixed orders. Of each tile of MW_ROW_TILE rows the columns and, behind them, all squares: out is
     * [tiles, d + 1]. */
    mw_status (*tile_sums)(mw_backend *, double *out, const float *x, int64_t rows, int64_t d);
    /* out = sum of the columns (+ out, with `add`) */
    mw_status (*add_rows)(mw_backend *, double *out, const double *x, int64_t rows, int64_t width, bool add);
    mw_status (*column_sums)(mw_backend *, double *out, const float *x, int64_t rows, int64_t d);
    /* out[i] = -sum over the rows of block i of weight * w[row]; out is [blocks, d]. */
    mw_status (*weigh_rows)(mw_backend *, double *out, const double *weight, const float *w, int64_t rows, int64_t d,
                            int64_t block);
    /* out[i] = sum of squares of run i of `block` numbers (+ out[i], with `add`) */
    mw_status (*square_sums)(mw_backend *, double *out, const float *x, int64_t count, int64_t block, bool add);
    mw_status (*narrow)(mw_backend *, float *out, const double *x, int64_t count);
    /* To f32, bf16 or f16: to the nearest, ties to even. */
    mw_status (*convert)(mw_backend *, mw_dtype dtype, void *out, const float *x, int64_t count);

    void (*close)(mw_backend *);
} mw_backend_ops;

struct mw_backend {
    const mw_backend_ops *ops;
    void *state;
};

/* "auto" (a GPU where there is one, else cpu), "cpu", "cpu:onednn", "cpu:cblas", "cuda", "cuda:1". A backend that this
 * machine or this build lacks is MW_ERR_UNSUPPORTED. */
mw_status mw_backend_open(const char *name, mw_backend **out) MW_MUST_USE;
/* The same for one of several processes of a node: where the name leaves open which GPU, process `place` takes the GPU of that
 * number, and with more processes than GPUs they share. Of the GPUs that Slurm or CUDA_VISIBLE_DEVICES let it see, that is. */
mw_status mw_backend_open_at(const char *name, int place, mw_backend **out) MW_MUST_USE;
void mw_backend_close(mw_backend **backend);
/* Those of the CPU; what a GPU needs is in mw_gpus_find. */
void mw_backend_libraries(mw_library_callback *told, void *self);

/* What there is of GPUs, for people to read: nothing is logged, and finding none is no error. */
typedef struct mw_gpu {
    char name[128], bus[32];
    int major, minor;    /* compute capability */
    double memory, free; /* bytes */
    bool has_code;       /* this build has kernels for it */
} mw_gpu;
/* A library that a CUDA build loads when it opens a GPU. Versions as the library counts them; 0: not known. */
typedef struct mw_gpu_library {
    const char *name;  /* "cuBLASLt", "cuBLAS", "NCCL" */
    int made_for;      /* the version of the headers of this build */
    int found;         /* the version that is here */
    char path[512];    /* of the file; "": none was found */
    char problem[512]; /* why it cannot be used; "" */
} mw_gpu_library;
typedef struct mw_gpus {
    bool in_build;          /* the build has CUDA */
    int driver, runtime;    /* CUDA versions, 13000 is 13.0: the driver's (0: no driver) and this build's */
    char architectures[64]; /* that the build has kernels for: "80 90 100" */
    char problem[512];      /* why `auto` takes the CPU; "" where it takes a GPU */
    int n_libraries;
    mw_gpu_library libraries[3];
    int64_t n;
    mw_gpu *list;
} mw_gpus;
mw_status mw_gpus_find(mw_gpus *out) MW_MUST_USE;
void mw_gpus_free(mw_gpus *gpus);

/* A device block of `count` floats. */
mw_status mw_backend_floats(mw_backend *backend, int64_t count, float **out) MW_MUST_USE;
/* A device block of `count` items, all bytes 0. `out` points to a pointer. */
mw_status mw_backend_zeros(mw_backend *backend, int64_t count, size_t item, void *out) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
