/* What the files of the CPU backend share. */
#ifndef MICROW_BACKEND_CPU_CPU_H
#define MICROW_BACKEND_CPU_CPU_H

#include "microw/backend.h"

/* `product`: "onednn", "cblas" or NULL for the better one of this build. */
mw_status mw_cpu_open(const char *product, mw_backend **out) MW_MUST_USE;
const char *mw_cpu_products(void);

/* One tile's product on one thread: C = A * B (+ C), all f32 or B in bf16 where `bf16` is not NULL. */
typedef struct mw_cpu_product {
    const char *name;
    mw_status (*f32)(const mw_matmul *tile);
    /* `a16` is A rounded to bf16, [m,k] dense. */
    mw_status (*bf16)(const mw_matmul *tile, const uint16_t *a16);
    void (*prepare)(void);
    /* Where products in bf16 are no faster than in f32 on this CPU, or there are none: the same without them. */
    const struct mw_cpu_product *(*suited)(void);
    /* As mw_backend_ops. All NULL: plain B is as good. */
    mw_status (*pack)(const mw_matmul *like, mw_packed **slot);
    void (*free_packed)(mw_packed *);
    mw_status (*packed)(const mw_matmul *whole);
} mw_cpu_product;

extern const mw_cpu_product mw_cpu_onednn, mw_cpu_cblas;

#define CPU_PROTOTYPE(type, name, ...) type mw_cpu_##name(__VA_ARGS__);
MW_BACKEND_OPERATIONS(CPU_PROTOTYPE)
#undef CPU_PROTOTYPE

#endif
