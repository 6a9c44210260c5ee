/* Declarations that the files of the CPU backend share. */
#ifndef MICROW_BACKEND_CPU_CPU_H
#define MICROW_BACKEND_CPU_CPU_H

#include "microw/backend.h"

/* Opens the backend. `product`: "onednn", "cblas" or NULL for the faster one of this build. MW_ERR_UNSUPPORTED: the
 * build does not have it. */
mw_status mw_cpu_open(const char *product, mw_backend **out) MW_MUST_USE;
/* Returns the names of this build's products for messages: ", cpu:onednn, cpu:cblas". */
const char *mw_cpu_products(void);

/* A library's product of one tile on one thread: C = A * B (+ C), all in f32, or B in bf16 where `bf16` is not NULL. */
typedef struct mw_cpu_product {
    const char *name;
    mw_status (*f32)(const mw_matmul *tile);
    /* `a16` is A rounded to bf16, [m,k] dense. */
    mw_status (*bf16)(const mw_matmul *tile, const uint16_t *a16);
    void (*prepare)(void); /* called once when a backend is opened; may be NULL */
    /* Returns the product for this CPU: one without `bf16` where bf16 is missing or no faster than f32. May be NULL. */
    const struct mw_cpu_product *(*suited)(void);
    /* As in mw_backend_ops. All NULL: a plain B is as fast. */
    mw_status (*pack)(const mw_matmul *like, mw_packed **slot);
    void (*free_packed)(mw_packed *);
    mw_status (*packed)(const mw_matmul *whole);
} mw_cpu_product;

extern const mw_cpu_product mw_cpu_onednn, mw_cpu_cblas;

#define CPU_PROTOTYPE(type, name, ...) type mw_cpu_##name(__VA_ARGS__);
MW_BACKEND_OPERATIONS(CPU_PROTOTYPE)
#undef CPU_PROTOTYPE

#endif
