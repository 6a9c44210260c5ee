/* What a store keeps beside a block's activations: sums of its rows, and a checksum. */
#ifndef MICROW_STORE_BLOCK_DIGEST_H
#define MICROW_STORE_BLOCK_DIGEST_H

#include "microw/store.h"

typedef struct site_digest {
    double *sums;   /* [width] of the finite rows, as all below */
    double norm[2]; /* sum of their norms, and of the squares */
    uint64_t rows;  /* their number */
    uint64_t checksum;
} site_digest;

typedef struct block_digest {
    int64_t n_sites;
    site_digest *site;
} block_digest;

/* Returns the rows of the largest block; at least 1. */
int64_t largest_block(const mw_store_layout *layout);

/* Makes memory for the digest of any block of a layout; block_digest_free frees, also after an error. */
mw_status block_digest_make(const mw_store_layout *layout, block_digest *out) MW_MUST_USE;
void block_digest_free(block_digest *digest);

/* Makes digests, one at a time, on layout->threads threads, of which the numbers do not depend. */
typedef struct digester {
    const mw_store_layout *layout; /* borrowed */
    double *sums;                  /* [tiles, largest width]: of a block's tiles */
    struct tile_sums *tiles;
} digester;
mw_status digester_open(const mw_store_layout *layout, digester *out) MW_MUST_USE;
void digester_close(digester *d);
/* Digests a block from its stored values, [rows, width] of each site, so that a reader computes the same. MW_ERR_STATE
 * names a value that is not finite, unless layout->keep_nan. Local. */
mw_status digest_block(digester *d, int64_t block, const void *const *values, block_digest *out) MW_MUST_USE;

/* As mw_store_write_blocks, with the digest of the block at hand; NULL where block is -1 or `local` is an error.
 * Collective. */
mw_status store_write_digested(mw_store_writer *writer, int64_t block, const void *const *values,
                               const block_digest *digest, int64_t done, mw_status local) MW_MUST_USE;

#endif
