/* Finds driver, GPUs and libraries, and whether a GPU can be used. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/cuda_library.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef MICROW_CUDA_ARCHITECTURES
#define MICROW_CUDA_ARCHITECTURES "native"
#endif

/* ---- libraries ----------------------------------------------------------------------------------------- */

#ifdef MICROW_CUDA_EMULATED

static bool load_blas(mw_cuda_blas *out, mw_gpu_library found[2]) {
    *out = {cublasCreate,
            cublasDestroy,
            cublasSetStream,
            cublasSetWorkspace,
            cublasGemmEx,
            cublasLtCreate,
            cublasLtDestroy,
            cublasLtMatmul,
            cublasLtMatmulAlgoGetHeuristic,
            cublasLtMatmulPreferenceCreate,
            cublasLtMatmulPreferenceSetAttribute,
            cublasLtMatmulPreferenceDestroy,
            cublasLtMatmulDescCreate,
            cublasLtMatmulDescSetAttribute,
            cublasLtMatmulDescDestroy,
            cublasLtMatrixLayoutCreate,
            cublasLtMatrixLayoutDestroy};
    memset(found, 0, 2 * sizeof *found);
    found[0].name = found[1].name = "emulated";
    return true;
}

#else

/* The exported name of a function: cublasCreate is cublasCreate_v2. */
#define TEXT_OF(name) #name
#define EXPORTED(name) TEXT_OF(name)
#define SONAME(name, version) "lib" name ".so." EXPORTED(version)

template <typename F> static void load_function(mw_library *from, const char *name, F *out) {
    void *function = mw_library_function(from, name);
    memcpy(out, &function, sizeof *out);
}
#define LOAD(member, function) load_function(from, EXPORTED(function), &out->member)

static void load_lt_functions(mw_library *from, mw_cuda_blas *out) {
    LOAD(lt_create, cublasLtCreate);
    LOAD(lt_destroy, cublasLtDestroy);
    LOAD(lt_matmul, cublasLtMatmul);
    LOAD(lt_find_algorithm, cublasLtMatmulAlgoGetHeuristic);
    LOAD(lt_create_preference, cublasLtMatmulPreferenceCreate);
    LOAD(lt_set_preference, cublasLtMatmulPreferenceSetAttribute);
    LOAD(lt_destroy_preference, cublasLtMatmulPreferenceDestroy);
    LOAD(lt_create_matmul, cublasLtMatmulDescCreate);
    LOAD(lt_set_matmul, cublasLtMatmulDescSetAttribute);
    LOAD(lt_destroy_matmul, cublasLtMatmulDescDestroy);
    LOAD(lt_create_layout, cublasLtMatrixLayoutCreate);
    LOAD(lt_destroy_layout, cublasLtMatrixLayoutDestroy);
}

static void load_blas_functions(mw_library *from, mw_cuda_blas *out) {
    LOAD(create, cublasCreate);
    LOAD(destroy, cublasDestroy);
    LOAD(set_stream, cublasSetStream);
    LOAD(set_workspace, cublasSetWorkspace);
    LOAD(gemm, cublasGemmEx);
}

static void describe_library(const char *name, const mw_library *from, int found, mw_gpu_library *out) {
    *out = {};
    out->name = name;
    out->made_for = CUBLAS_VERSION;
    out->found = found;
    memcpy(out->path, from->path, sizeof out->path);
    memcpy(out->problem, from->problem, sizeof out->problem);
}

/* Loads cuBLASLt (found[0]), then cuBLAS (found[1]), which needs cuBLASLt and uses the one already loaded. Returns
 * false where one cannot be used. */
static bool load_blas(mw_cuda_blas *out, mw_gpu_library found[2]) {
    mw_library lt = {}, blas = {};
    decltype(&cublasLtGetVersion) version_lt = nullptr;
    decltype(&cublasGetProperty) property = nullptr;
    int parts[3] = {};
    *out = {};
    if (mw_library_load(SONAME("cublasLt", CUBLAS_VER_MAJOR), &lt)) {
        load_lt_functions(&lt, out);
        load_function(&lt, "cublasLtGetVersion", &version_lt);
    }
    if (mw_library_load_beside(&lt, SONAME("cublas", CUBLAS_VER_MAJOR), &blas)) {
        load_blas_functions(&blas, out);
        load_function(&blas, "cublasGetProperty", &property);
    }
    for (int i = 0; property && i < 3; i++) property((libraryPropertyType)i, &parts[i]);
    describe_library("cuBLASLt", &lt, version_lt ? (int)version_lt() : 0, &found[0]);
    describe_library("cuBLAS", &blas, parts[0] * 10000 + parts[1] * 100 + parts[2], &found[1]);
    if (!lt.problem[0] && !blas.problem[0] && found[0].found != found[1].found)
        snprintf(found[1].problem, sizeof found[1].problem,
                 "cuBLAS %d (%.150s) and cuBLASLt %d (%.150s) are of different versions", found[1].found, blas.path,
                 found[0].found, lt.path);
    return !found[0].problem[0] && !found[1].problem[0];
}

#endif

/* ---- GPUs ---------------------------------------------------------------------------------------------- */

int mw_cuda_count(void) {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

/* Code runs on GPUs of its generation that are as new or newer; intermediate code (PTX, architectures without "-real")
 * on all newer GPUs. A build for "native" is assumed to have code. */
static bool has_code(int major, int minor) {
    int device = 10 * major + minor;
    for (const char *at = MICROW_CUDA_ARCHITECTURES; *at; at += strcspn(at, " "), at += *at == ' ') {
        char *end = nullptr;
        int built = (int)strtol(at, &end, 10);
        if (end == at) return true;
        bool real = strncmp(end, "-virtual", 8) != 0, intermediate = strncmp(end, "-real", 5) != 0;
        if ((real && built / 10 == major && built <= device) || (intermediate && built <= device)) return true;
    }
    return false;
}

static void print_version(int version, char *out, size_t size) {
    snprintf(out, size, "%d.%d", version / 1000, version % 1000 / 10);
}

/* Says why no GPU is visible. */
static void explain(cudaError_t code, char problem[MW_CUDA_PROBLEM]) {
    int driver = 0, runtime = 0;
    char has[16], needs[16];
    const char *visible = mw_environment("CUDA_VISIBLE_DEVICES");
    if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
    print_version(driver, has, sizeof has);
    print_version(runtime, needs, sizeof needs);
    if (driver == 0)
        snprintf(problem, MW_CUDA_PROBLEM, "there is no NVIDIA driver (libcuda.so.1)");
    else if (code == cudaErrorInsufficientDriver)
        snprintf(problem, MW_CUDA_PROBLEM, "the driver is for CUDA %s, this build needs %s", has, needs);
    else if (code == cudaSuccess || code == cudaErrorNoDevice)
        snprintf(problem, MW_CUDA_PROBLEM, "no GPU is visible%s%.200s", visible ? ", CUDA_VISIBLE_DEVICES is " : "",
                 visible ? visible : "");
    else
        snprintf(problem, MW_CUDA_PROBLEM, "CUDA: %.400s", cudaGetErrorString(code));
}

bool mw_cuda_prepare(int device, mw_cuda_blas *out, char problem[MW_CUDA_PROBLEM]) {
    int count = 0, major = 0, minor = 0;
    mw_gpu_library found[2];
    problem[0] = '\0';
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || count < 1)
        explain(code, problem);
    else if (device < 0 || device >= count)
        snprintf(problem, MW_CUDA_PROBLEM, "this machine has %d GPU%s", count, count == 1 ? "" : "s");
    else if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
             cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess)
        snprintf(problem, MW_CUDA_PROBLEM, "GPU %d does not answer", device);
    else if (!has_code(major, minor))
        snprintf(problem, MW_CUDA_PROBLEM, "GPU %d has compute capability %d.%d, this build has code for %s", device,
                 major, minor, MICROW_CUDA_ARCHITECTURES);
    else if (!load_blas(out, found))
        snprintf(problem, MW_CUDA_PROBLEM, "%.500s", found[found[0].problem[0] ? 0 : 1].problem);
    return !problem[0];
}

bool mw_cuda_usable(int device, char problem[MW_CUDA_PROBLEM]) {
    mw_cuda_blas blas;
    return mw_cuda_prepare(device, &blas, problem);
}

static void describe(int device, mw_gpu *out) {
    cudaDeviceProp has;
    size_t free_bytes = 0, all = 0;
    *out = {};
    if (cudaGetDeviceProperties(&has, device) != cudaSuccess) return;
    snprintf(out->name, sizeof out->name, "%.127s", has.name);
    if (cudaDeviceGetPCIBusId(out->bus, sizeof out->bus, device) != cudaSuccess) out->bus[0] = '\0';
    out->major = has.major;
    out->minor = has.minor;
    out->memory = (double)has.totalGlobalMem;
    out->has_code = has_code(has.major, has.minor);
    if (cudaSetDevice(device) == cudaSuccess && cudaMemGetInfo(&free_bytes, &all) == cudaSuccess)
        out->free = (double)free_bytes;
}

mw_status mw_cuda_find(mw_gpus *out) {
    mw_cuda_blas blas;
    int former = 0, count = mw_cuda_count();
    out->in_build = true;
    if (cudaDriverGetVersion(&out->driver) != cudaSuccess) out->driver = 0;
    if (cudaRuntimeGetVersion(&out->runtime) != cudaSuccess) out->runtime = 0;
    snprintf(out->architectures, sizeof out->architectures, "%.63s", MICROW_CUDA_ARCHITECTURES);
    (void)mw_cuda_usable(0, out->problem);
    (void)load_blas(&blas, out->libraries);
    out->n_libraries = 2;
    if (count > 0) out->list = (mw_gpu *)mw_calloc((size_t)count, sizeof *out->list);
    if (count > 0 && !out->list) return MW_ERR_MEMORY;
    bool chosen = cudaGetDevice(&former) == cudaSuccess;
    for (out->n = 0; out->n < count; out->n++) describe((int)out->n, &out->list[out->n]);
    if (chosen && count > 0) cudaSetDevice(former);
    return MW_OK;
}
