/* What a rank of a machine does in a second: measured here, or taken from a table of devices. */
#ifndef MICROW_EXPERIMENT_PLAN_RATES_H
#define MICROW_EXPERIMENT_PLAN_RATES_H

#include "microw/backend.h"
#include "microw/comm.h"

typedef struct rates {
    double matmul;     /* floating-point operations of a matrix product */
    double attention;  /* of attention */
    double select;     /* pre-activations that top-k looks at */
    double sparse;     /* floating-point operations of sparse decoding and of its gradients */
    double adam;       /* parameters, updated with everything that goes with them */
    double passes;     /* numbers of a batch, in one pass over it */
    double inside;     /* bytes a rank receives in a gather within a node */
    double between;    /* and between nodes, by its own share of the network */
    double latency;    /* seconds of a collective */
    double disk_write; /* bytes of a node */
    double disk_read;
    double memory; /* bytes a rank may have; 0: not known */
} rates;

/* "h100", "h200", "a100": from data sheets, with the shares of the peaks that are usually reached. */
mw_status rates_of_device(const char *name, rates *out) MW_MUST_USE;

/* Sizes at which they are measured. */
typedef struct rate_sizes {
    int64_t width, d_mlp, heads, head_dim, context; /* of the model */
    int64_t d, n, k;                                /* of the SAE */
} rate_sizes;
/* On this machine with these ranks; `folder` is where the disk is tried. Collective. */
mw_status rates_measure(mw_backend *backend, const mw_comm *comm, const rate_sizes *sizes, const char *folder,
                        rates *out) MW_MUST_USE;
void rates_print(const rates *r);

#endif
