/* Emulates cuBLASLt: a product with a bias, by cublasGemmEx and a loop. It refuses sizes and alignments that real
 * kernels refuse, so that tests cover the fallback. */
#include "cublasLt.h"
#include "emulator.h"

struct emulated_lt {
    int device;
};
struct emulated_lt_product {
    cublasComputeType_t compute;
    cublasOperation_t op_a;
    cublasLtEpilogue_t epilogue;
    const float *bias;
};
struct emulated_lt_layout {
    cudaDataType type;
    int rows, columns, ld;
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    *out = new emulated_lt();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType) {
    *out = new emulated_lt_product{compute, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
    return CUBLAS_STATUS_SUCCESS;
}
template <typename T> static cublasStatus_t set_attribute(T &to, const void *value, size_t bytes) {
    if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes) {
    return what == CUBLASLT_MATMUL_DESC_TRANSA     ? set_attribute(product->op_a, value, bytes)
           : what == CUBLASLT_MATMUL_DESC_EPILOGUE ? set_attribute(product->epilogue, value, bytes)
                                                   : set_attribute(product->bias, value, bytes);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) {
    delete product;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
    if (ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new emulated_lt_layout{type, (int)rows, (int)columns, (int)ld};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

/* Preferences of the search for a kernel. */
struct emulated_lt_preference {
    uint64_t workspace;
    uint32_t alignment[4]; /* of a, b, c, d */
};

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = new emulated_lt_preference{0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t search,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void *value,
                                                    size_t bytes) {
    return what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
               ? set_attribute(search->workspace, value, bytes)
               : set_attribute(search->alignment[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t search) {
    delete search;
    return CUBLAS_STATUS_SUCCESS;
}

/* An algorithm holds the alignments that it was promised. */
static const uint64_t chosen_mark = 0x6c74;
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t a_layout,
                                              cublasLtMatrixLayout_t b_layout, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatmulPreference_t search, int capacity,
                                              cublasLtMatmulHeuristicResult_t *out, int *found) {
    if (capacity < 1 || !search->workspace) give_up("cuBLASLt: no space for a result, or no workspace");
    *found = 0;
    if (a_layout->type != CUDA_R_32F && (a_layout->ld % 8 || b_layout->ld % 8)) return CUBLAS_STATUS_NOT_SUPPORTED;
    uint64_t promised = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t bytes = search->alignment[i];
        if (bytes < 1 || bytes > 256 || (bytes & (bytes - 1))) give_up("cuBLASLt: no such alignment");
        promised = promised << 12 | bytes;
    }
    out->algo.chosen = chosen_mark << 48 | promised;
    out->workspaceSize = 0;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static bool keeps_promise(uint64_t chosen, const void *a, const void *b, const void *c, const void *d) {
    const void *const matrices[] = {d, c, b, a};
    for (const void *matrix : matrices) {
        if ((uintptr_t)matrix % (chosen & 0xfff)) return false;
        chosen >>= 12;
    }
    return chosen == chosen_mark;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    int m = d_layout->rows, n = d_layout->columns, k = b_layout->rows, ld = d_layout->ld;
    bool transposed = product->op_a == CUBLAS_OP_T;
    if (c != d || c_layout->rows != m || b_layout->columns != n || a_layout->rows != (transposed ? k : m) ||
        a_layout->columns != (transposed ? m : k) || (workspace_bytes && !emulator::is_device(workspace)))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!algo || !keeps_promise(algo->chosen, a, b, c, d))
        give_up("cuBLASLt: another algorithm than the chosen one, or other alignments");
    if (product->epilogue != CUBLASLT_EPILOGUE_BIAS || !emulator::is_device(product->bias))
        give_up("cuBLASLt: no bias on the device");
    if (a_layout->type != CUDA_R_32F && (a_layout->ld % 8 || b_layout->ld % 8)) return CUBLAS_STATUS_NOT_SUPPORTED;
    cublasHandle_t plain;
    cublasCreate(&plain);
    cublasSetStream(plain, stream);
    cublasStatus_t code =
        cublasGemmEx(plain, product->op_a, CUBLAS_OP_N, m, n, k, alpha, a, a_layout->type, a_layout->ld, b,
                     b_layout->type, b_layout->ld, beta, d, d_layout->type, ld, product->compute, CUBLAS_GEMM_DEFAULT);
    cublasDestroy(plain);
    const float *bias = product->bias;
    emulator::later(stream, [=] {
        emulator::device_access here;
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) ((float *)d)[j * ld + i] += bias[i];
    });
    return code;
}
