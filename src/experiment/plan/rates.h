/* The rates of a rank, each per second: measured on this machine, or from the data sheets of devices. */
#ifndef MICROW_EXPERIMENT_PLAN_RATES_H
#define MICROW_EXPERIMENT_PLAN_RATES_H

#include "microw/backend.h"
#include "microw/comm.h"

typedef struct rates {
    double matmul;     /* floating-point operations of a matrix product */
    double attention;  /* of attention */
    double select;     /* pre-activations that top-k reads */
    double sparse;     /* floating-point operations of sparse decoding and of its gradients */
    double adam;       /* parameters updated, with norms and projections */
    double passes;     /* numbers of a batch, in one pass over it */
    double inside;     /* bytes a rank receives in a gather within a node */
    double between;    /* and between nodes, by its own share of the network */
    double latency;    /* seconds of a collective */
    double disk_write; /* bytes of a node */
    double disk_read;
    double memory; /* bytes available to a rank; 0: unknown */
} rates;

/* Returns the rates of "h100", "h200" or "a100": peaks of the data sheet, times the usual efficiency. MW_ERR_CONFIG
 * for other names. */
mw_status rates_of_device(const char *name, rates *out) MW_MUST_USE;

/* The sizes at which rates are measured. */
typedef struct rate_sizes {
    int64_t width, d_mlp, heads, head_dim, context; /* of the model */
    int64_t d, n, k;                                /* of the SAE */
} rate_sizes;
/* Measures the rates of these ranks; those of the disk in `folder`. Collective. */
mw_status rates_measure(mw_backend *backend, const mw_comm *comm, const rate_sizes *sizes, const char *folder,
                        rates *out) MW_MUST_USE;
void rates_print(const rates *r);

#endif
