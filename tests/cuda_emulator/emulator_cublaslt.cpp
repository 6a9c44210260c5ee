/* A product with a bias, by the plain one and a loop. Sizes and places that its kernels are said not to take are refused, so that what
 * is done then is tested too. */
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
template <typename T> static cublasStatus_t take(T &to, const void *value, size_t bytes) {
    if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes) {
    return what == CUBLASLT_MATMUL_DESC_TRANSA     ? take(product->op_a, value, bytes)
           : what == CUBLASLT_MATMUL_DESC_EPILOGUE ? take(product->epilogue, value, bytes)
                                                   : take(product->bias, value, bytes);
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

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    int m = d_layout->rows, n = d_layout->columns, k = b_layout->rows, ld = d_layout->ld;
    bool across = product->op_a == CUBLAS_OP_T;
    if (c != d || c_layout->rows != m || b_layout->columns != n || a_layout->rows != (across ? k : m) ||
        a_layout->columns != (across ? m : k) || (workspace_bytes && !emulator::is_device(workspace)))
        return CUBLAS_STATUS_INVALID_VALUE;
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
        emulator::opened here;
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) ((float *)d)[j * ld + i] += bias[i];
    });
    return code;
}
