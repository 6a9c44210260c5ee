/* Products of tiles by any CBLAS. */
#include "backend/cpu/cpu.h"

#ifdef MICROW_HAVE_CBLAS
#include <cblas.h>

/* Only OpenBLAS has it. The library must use one thread, because cpu_matmul.c spreads tiles over threads. */
void openblas_set_num_threads(int count) __attribute__((weak));

static void one_thread(void) {
    if (openblas_set_num_threads) openblas_set_num_threads(1);
}

static mw_status cblas_f32(const mw_matmul *t) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, t->b_transposed ? CblasTrans : CblasNoTrans, (int)t->m, (int)t->n,
                (int)t->k, 1.0f, t->a, (int)t->lda, t->b, (int)t->ldb, t->accumulate ? 1.0f : 0.0f, t->c, (int)t->ldc);
    return MW_OK;
}

const mw_cpu_product mw_cpu_cblas = {.name = "cblas", .f32 = cblas_f32, .prepare = one_thread};
#endif
