/* Matrix products by cuBLAS, accumulated in f32; with a bias by cuBLASLt, which adds the bias as it writes: a second
 * pass over the result would take as long as the product of an encoder. Both are column-major: C' = B' A' on the same
 * memory. */
#include "backend/cuda/cuda.h"

#include <cuda_fp16.h>

/* A thread block rounds a row. */
static __global__ void round_rows(const float *x, int64_t ld, __nv_bfloat16 *out, int64_t width) {
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
        out[blockIdx.x * width + i] = __float2bfloat16_rn(x[blockIdx.x * ld + i]);
}

static __global__ void round_bf16(const float *x, __nv_bfloat16 *out, int64_t count) {
    EACH(i, count) out[i] = __float2bfloat16_rn(x[i]);
}

static __global__ void round_f16(const float *x, __half *out, int64_t count) {
    EACH(i, count) out[i] = __float2half_rn(x[i]);
}

static __global__ void widen_f16(const __half *x, int64_t ld, float *out, int64_t rows, int64_t width) {
    EACH(i, rows * width)
    out[i] = __half2float(x[i / width * ld + i % width]);
}

static __global__ void add_bias(float *c, int64_t ld, const float *bias, int64_t width) {
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) c[blockIdx.x * ld + i] += bias[i];
}

/* A product as cuBLAS takes it, column-major. */
typedef struct product {
    const mw_matmul *t;
    const void *a, *b;
    cudaDataType type;
    int64_t lda, ldb;
    float beta;
    cublasComputeType_t compute;
} product;

/* ---- with a bias --------------------------------------------------------------------------------------- */

/* The descriptors of a product for cuBLASLt, destroyed at the end of their scope. */
struct description {
    const mw_cuda_blas *call;
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t left = nullptr, right = nullptr, out = nullptr;

    explicit description(const mw_cuda_blas *blas) : call(blas) {}
    description(const description &) = delete;
    description &operator=(const description &) = delete;
    ~description() {
        if (out) call->lt_destroy_layout(out);
        if (right) call->lt_destroy_layout(right);
        if (left) call->lt_destroy_layout(left);
        if (product) call->lt_destroy_matmul(product);
    }
    bool set(cublasLtMatmulDescAttributes_t what, const void *value, size_t bytes) {
        return call->lt_set_matmul(product, what, value, bytes) == CUBLAS_STATUS_SUCCESS;
    }
};

static bool succeeded(cublasStatus_t code) {
    return code == CUBLAS_STATUS_SUCCESS;
}

static bool describe(const product *p, description *d) {
    const mw_matmul *t = p->t;
    const cublasOperation_t across = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    uint64_t n = (uint64_t)t->n, m = (uint64_t)t->m, k = (uint64_t)t->k;
    return succeeded(d->call->lt_create_matmul(&d->product, p->compute, CUDA_R_32F)) &&
           (!t->b_transposed || d->set(CUBLASLT_MATMUL_DESC_TRANSA, &across, sizeof across)) &&
           d->set(CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
           d->set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &t->bias, sizeof t->bias) &&
           succeeded(d->call->lt_create_layout(&d->left, p->type, t->b_transposed ? k : n, t->b_transposed ? n : k,
                                               p->ldb)) &&
           succeeded(d->call->lt_create_layout(&d->right, p->type, k, m, p->lda)) &&
           succeeded(d->call->lt_create_layout(&d->out, CUDA_R_32F, n, m, t->ldc));
}

/* Returns the alignment of an address in bytes, at most 256, which is all that cuBLASLt uses. */
static uint32_t alignment_of(const void *data) {
    uintptr_t bits = (uintptr_t)data | 256;
    return (uint32_t)(bits & (~bits + 1));
}

/* The preference of the search for a kernel: by default cuBLASLt uses no workspace and expects matrices aligned to 256
 * bytes. */
struct preference {
    const mw_cuda_blas *call;
    cublasLtMatmulPreference_t search = nullptr;

    explicit preference(const mw_cuda_blas *blas) : call(blas) {}
    preference(const preference &) = delete;
    preference &operator=(const preference &) = delete;
    ~preference() {
        if (search) call->lt_destroy_preference(search);
    }
    template <typename T> bool set(cublasLtMatmulPreferenceAttributes_t what, T value) {
        return succeeded(call->lt_set_preference(search, what, &value, sizeof value));
    }
    bool make(const product *p) {
        uint32_t out = alignment_of(p->t->c);
        return succeeded(call->lt_create_preference(&search)) &&
               set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)MW_CUDA_WORKSPACE) &&
               set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p->b)) &&
               set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p->a)) &&
               set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out) &&
               set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out);
    }
};

/* Returns false where cuBLASLt has no kernel for the sizes and alignments. It caches its choice by shape. */
static bool multiply_and_add(mw_cuda_state *s, const product *p) {
    const float one = 1;
    int found = 0;
    cublasLtMatmulHeuristicResult_t best;
    description d(&s->call);
    preference how(&s->call);
    return describe(p, &d) && how.make(p) &&
           succeeded(s->call.lt_find_algorithm(s->blas_lt, d.product, d.left, d.right, d.out, d.out, how.search, 1,
                                               &best, &found)) &&
           found > 0 &&
           succeeded(s->call.lt_matmul(s->blas_lt, d.product, &one, p->b, d.left, p->a, d.right, &p->beta, p->t->c,
                                       d.out, p->t->c, d.out, &best.algo, s->workspace, MW_CUDA_WORKSPACE, s->stream));
}

/* ---- products ------------------------------------------------------------------------------------------ */

static mw_status multiply_alone(mw_cuda_state *s, const product *p) {
    const mw_matmul *t = p->t;
    const float one = 1;
    cublasStatus_t code =
        s->call.gemm(s->blas, t->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_OP_N, (int)t->n, (int)t->m, (int)t->k,
                     &one, p->b, p->type, (int)p->ldb, p->a, p->type, (int)p->lda, &p->beta, t->c, CUDA_R_32F,
                     (int)t->ldc, p->compute, CUBLAS_GEMM_DEFAULT);
    return code == CUBLAS_STATUS_SUCCESS
               ? MW_OK
               : mw_error(MW_ERR_BACKEND, "cuBLAS: product %lld x %lld x %lld failed with code %d", (long long)t->m,
                          (long long)t->n, (long long)t->k, (int)code);
}

static mw_status multiply(mw_cuda_state *s, const mw_matmul *t, const void *a, cudaDataType type, int64_t lda,
                          const void *b, int64_t ldb) {
    product p = {t, a, b, type, lda, ldb, t->accumulate ? 1.0f : 0.0f, CUBLAS_COMPUTE_32F};
    if (t->tf32 && type == CUDA_R_32F) p.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    if (t->bias && multiply_and_add(s, &p)) return MW_OK;
    MW_TRY(multiply_alone(s, &p));
    if (!t->bias) return MW_OK;
    MW_LAUNCH(add_bias, (unsigned)t->m, cuda_threads(t->n), 0, s->stream, t->c, t->ldc, t->bias, t->n);
    return cuda_launched("add_bias");
}

static mw_status with_bf16(mw_cuda_state *s, const mw_matmul *t) {
    if (t->a_bf16) return multiply(s, t, t->a_bf16, CUDA_R_16BF, t->k, t->b, t->ldb);
    cuda_scratch<__nv_bfloat16> a(s);
    MW_TRY(a.make(t->m * t->k));
    MW_LAUNCH(round_rows, (unsigned)t->m, cuda_threads(t->k), 0, s->stream, t->a, t->lda, a.data, t->k);
    MW_TRY(cuda_launched("round_rows"));
    return multiply(s, t, a.data, CUDA_R_16BF, t->k, t->b, t->ldb);
}

/* Widens weights in f16, because activations may be too large for f16. */
static mw_status with_f16(mw_cuda_state *s, const mw_matmul *t) {
    int64_t rows = t->b_transposed ? t->n : t->k, width = t->b_transposed ? t->k : t->n;
    cuda_scratch<float> b(s);
    MW_TRY(b.make(rows * width));
    MW_LAUNCH(widen_f16, cuda_blocks(rows * width), CUDA_THREADS, 0, s->stream, (const __half *)t->b, t->ldb, b.data,
              rows, width);
    MW_TRY(cuda_launched("widen_f16"));
    return multiply(s, t, t->a, CUDA_R_32F, t->lda, b.data, width);
}

static mw_status multiply_by_type(mw_cuda_state *s, const mw_matmul *t) {
    return t->b_dtype == MW_BF16  ? with_bf16(s, t)
           : t->b_dtype == MW_F16 ? with_f16(s, t)
                                  : multiply(s, t, t->a, CUDA_R_32F, t->lda, t->b, t->ldb);
}

mw_status mw_cuda_matmul(mw_backend *backend, const mw_matmul *t) {
    mw_cuda_state *s = cuda_of(backend);
    if (t->m <= 0 || t->n <= 0) return MW_OK;
    MW_TRY(multiply_by_type(s, t));
    return t->epilogue ? mw_cuda_finish(s, t->epilogue, t->c, t->m * t->n) : MW_OK;
}

mw_status mw_cuda_convert(mw_backend *backend, mw_dtype dtype, void *out, const float *x, int64_t count) {
    cudaStream_t stream = cuda_of(backend)->stream;
    if (dtype != MW_F32 && dtype != MW_BF16 && dtype != MW_F16)
        return mw_error(MW_ERR_UNSUPPORTED, "a GPU converts f32 to f32, bf16 and f16");
    if (count == 0) return MW_OK;
    if (dtype == MW_F32)
        MW_TRY(cuda_checked(cudaMemcpyAsync(out, x, (size_t)count * sizeof *x, cudaMemcpyDeviceToDevice, stream),
                            "cudaMemcpyAsync"));
    else if (dtype == MW_BF16)
        MW_LAUNCH(round_bf16, cuda_blocks(count), CUDA_THREADS, 0, stream, x, (__nv_bfloat16 *)out, count);
    else
        MW_LAUNCH(round_f16, cuda_blocks(count), CUDA_THREADS, 0, stream, x, (__half *)out, count);
    return cuda_launched("convert");
}

/* On tensor cores, which all GPUs of the build's architectures have. */
bool mw_cuda_has_fast_bf16(mw_backend *backend) {
    (void)backend;
    return true;
}

/* cuBLAS reads a plain B. */
mw_status mw_cuda_pack(mw_backend *backend, const mw_matmul *like, mw_dtype as, const mw_room *room, mw_packed **slot) {
    (void)backend;
    (void)like;
    (void)as;
    (void)room;
    (void)slot;
    return MW_OK;
}

void mw_cuda_free_packed(mw_backend *backend, mw_packed *packed) {
    (void)backend;
    (void)packed;
}
