/* The harvests of a store: what they say of themselves, and which one an experiment could read. */
#ifndef MICROW_EXPERIMENT_RUN_FIND_HARVEST_H
#define MICROW_EXPERIMENT_RUN_FIND_HARVEST_H

#include "experiment/run/stage_work.h"

/* {"fingerprint", "settings", "upstream": {"model", "model_config", "tokenizer", "data"}} as activations.h5 has them; errors as
 * mw_store_open has. */
mw_status harvest_record(const char *output, json_t **out) MW_MUST_USE;
/* The same of a file that its writer has not finished; `blocks`: how many of its blocks are surely on the disk. NULL: there is none, or
 * nobody can read it. */
json_t *harvest_unfinished(const char *folder, int64_t *blocks);
/* The sections that a harvest depends on. */
enum { HARVEST_SECTIONS = 4 };
extern const char *const harvest_sections[HARVEST_SECTIONS];

typedef struct harvest_search {
    const run *r;
    const work *wanted; /* or NULL: compared by settings alone, those of the experiment */
    bool paths;         /* what files are called counts */
    char *path;         /* of the first that was found; the caller frees it */
    mw_text names;      /* of those found */
    int64_t count;
} harvest_search;

/* Goes through the store's harvests; `others` gets the names of those that do not fit. Local. */
mw_status harvest_find(harvest_search *search, mw_text *others) MW_MUST_USE;

#endif
