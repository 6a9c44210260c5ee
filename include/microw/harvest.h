/* microw/harvest.h: runs a model over a dataset and stores what its sites hold.
 *
 *     mw_harvest_options options = {.sites = sites, .n_sites = 2, .dtype = MW_BF16, .batch = 64};
 *     MW_TRY(mw_harvest(model, dataset, tokenizer, comm, "store/activations/run", &options));
 *
 * The dataset is cut into blocks of `batch` sequences. A block is one forward pass on one rank, so its bytes do not
 * depend on the number of ranks. A writer thread stores finished blocks while the next ones are computed.
 */
#ifndef MICROW_HARVEST_H
#define MICROW_HARVEST_H

#include "microw/model.h"
#include "microw/store.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mw_skip { MW_SKIP_SPECIAL, MW_SKIP_BOS, MW_SKIP_NONE } mw_skip;

typedef struct mw_harvest_options {
    const mw_site *sites;
    int64_t n_sites;
    mw_dtype dtype;
    int64_t batch;          /* sequences of a block */
    mw_skip skip;           /* rows of these tokens are not stored */
    int64_t skip_positions; /* rows of a sequence's first positions are not stored */
    bool keep_nan;          /* values that are not finite are stored; else they are an error */
    double allowed_bytes;   /* the file may have; 0: what the disk has */
    bool
        replace; /* also where the folder has activations.h5, which stays until the new one is whole; else that one is kept */
    bool anew; /* from the first block, also where an earlier run left some: for detectors that want all rows */
    const mw_lock *lock; /* or NULL: must still be held when the file gets its name */
    const mw_pair *provenance;
    int64_t n_provenance;
} mw_harvest_options;

typedef struct mw_harvest_report {
    int64_t rows, tokens, blocks, resumed_blocks;
    double seconds, waiting; /* waiting: seconds in which this rank's model waited for the writer */
} mw_harvest_report;

/* Collective. `tokenizer` may be NULL: then no token is special and the vocabulary is empty texts. `report` may be
 * NULL. Nothing is done when the finished file is there already. */
mw_status mw_harvest(mw_model *model, const mw_dataset *dataset, const mw_tokenizer *tokenizer, const mw_comm *comm,
                     const char *folder, const mw_harvest_options *options, mw_harvest_report *report) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
