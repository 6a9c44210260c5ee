/* The harvests of a store: their records, and a search for the one that an experiment can read. */
#ifndef MICROW_EXPERIMENT_RUN_FIND_HARVEST_H
#define MICROW_EXPERIMENT_RUN_FIND_HARVEST_H

#include "experiment/run/stage_work.h"

/* Reads {"fingerprint", "settings", "upstream": {"model", "model_config", "tokenizer", "data"}} from activations.h5;
 * errors of mw_store_open. */
mw_status harvest_record(const char *output, json_t **out) MW_MUST_USE;
/* The same from an unfinished file in `folder`; `blocks`: how many of its blocks are surely on the disk. NULL if
 * there is none, or if it is unreadable. */
json_t *harvest_unfinished(const char *folder, int64_t *blocks);
/* The sections that a harvest depends on. */
enum { HARVEST_SECTIONS = 4 };
extern const char *const harvest_sections[HARVEST_SECTIONS];

typedef struct harvest_search {
    const experiment_run *r;
    const stage_work *wanted; /* NULL: compare the experiment's settings alone */
    bool paths;               /* compare paths of files too */
    char *path;               /* of the first match; the caller frees */
    mw_text names;            /* of all matches */
    int64_t count;
} harvest_search;

/* Compares all harvests of the store; `others` gets the names of those that do not match. Local. */
mw_status harvest_find(harvest_search *search, mw_text *others) MW_MUST_USE;

#endif
