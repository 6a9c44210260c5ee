/* microw/harvest.h: runs a model over a dataset and stores the activations of its sites.
 *
 *     mw_harvest_options options = {.sites = sites, .n_sites = 2, .dtype = MW_BF16, .batch = 64};
 *     MW_TRY(mw_harvest(model, dataset, tokenizer, comm, "store/activations/run", &options));
 *
 * The dataset is split into blocks of `batch` sequences. A block is one forward pass on one rank, so its bytes do not
 * depend on the number of ranks. A writer thread stores computed blocks while the next ones are computed.
 */
#ifndef MICROW_HARVEST_H
#define MICROW_HARVEST_H

#include "microw/model.h"
#include "microw/store.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Tokens whose rows are not stored. */
typedef enum mw_skip { MW_SKIP_SPECIAL, MW_SKIP_BOS, MW_SKIP_NONE } mw_skip;

/* All pointers are borrowed until mw_harvest returns. */
typedef struct mw_harvest_options {
    const mw_site *sites; /* [n_sites] */
    int64_t n_sites;
    mw_dtype dtype;
    int64_t batch;          /* sequences per block */
    mw_skip skip;           /* rows of these tokens are not stored */
    int64_t skip_positions; /* rows of so many first positions of a sequence are not stored */
    bool keep_nan;          /* stores non-finite values; else they are an error */
    double allowed_bytes;   /* for the file; 0: the free space of the disk */
    bool replace; /* replaces an existing activations.h5 once the new one is complete; else the existing one is kept */
    bool restart; /* ignores the blocks of an earlier run: for detectors that need all rows */
    const mw_lock *lock;       /* or NULL: must still be held when the file gets its final name */
    const mw_pair *provenance; /* [n_provenance] */
    int64_t n_provenance;
} mw_harvest_options;

typedef struct mw_harvest_report {
    int64_t rows, tokens, blocks, resumed_blocks;
    double seconds, waiting; /* waiting: seconds that this rank's model waited for the writer */
} mw_harvest_report;

/* Stores the activations in `folder`/activations.h5, or resumes an earlier run. If the complete file exists, only
 * `report` is filled. `tokenizer` NULL: no token is special and the vocabulary consists of empty texts. `report` may
 * be NULL. MW_ERR_CONFIG for options that do not fit the model, MW_ERR_STATE for non-finite values or a site that
 * was not reached, MW_ERR_IO; MW_INTERRUPTED after a signal, with the computed blocks saved. Collective. */
mw_status mw_harvest(mw_model *model, const mw_dataset *dataset, const mw_tokenizer *tokenizer, const mw_comm *comm,
                     const char *folder, const mw_harvest_options *options, mw_harvest_report *report) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
