/* The work of a stage on its output: its fingerprint, whether it is complete, and a lock against other processes.
 *
 *     stage_work w = {0};
 *     status = stage_work_open(r, &w, "evaluate", path, sections, 1, upstream, 2, stage_record_of_json);
 *     if (status == MW_OK) status = stage_work_check(r, &w);      // sets w.complete; refuses other settings
 *     if (status == MW_OK && !w.complete) status = stage_work_begin(r, &w);
 *     if (status == MW_OK && !w.complete) status = compute, check w.lock, give the output its name;
 *     if (status == MW_OK && !w.complete) status = stage_work_finish(r, &w);
 *     stage_work_free(&w);
 *
 * runs/NAME/manifest.json has {"fingerprint", "settings", "upstream"} of each finished stage: the settings as YAML, and
 * hashes of its inputs. An output stays until a finished one replaces it.
 */
#ifndef MICROW_EXPERIMENT_RUN_STAGE_WORK_H
#define MICROW_EXPERIMENT_RUN_STAGE_WORK_H

#include "experiment/run/run.h"

/* Reads from an output the record that the manifest would have of it: at least "fingerprint". Fails, with a message,
 * if the output is damaged. */
typedef mw_status (*stage_record_reader)(const char *output, json_t **out);
/* The fingerprint is the member "stage" of a JSON file; an attribute of this name of an HDF5 file. */
mw_status stage_record_of_json(const char *output, json_t **out) MW_MUST_USE;
mw_status stage_record_of_arrays(const char *output, json_t **out) MW_MUST_USE;

typedef struct stage_work {
    const char *stage;
    char *output;     /* the file that a complete stage leaves */
    char *settings;   /* effective values of the sections that matter, as YAML */
    json_t *upstream; /* name -> hash of each input */
    char fingerprint[MW_SHA256_TEXT];
    stage_record_reader read_record;
    bool complete;
    bool redo;    /* the output is complete, and is made again */
    mw_lock lock; /* of rank 0, from begin to finish */
} stage_work;

/* Computes the fingerprint of the sections' settings and of `upstream`, names and hashes of the inputs. Takes
 * ownership of `output`, for which NULL means out of memory. Local. */
mw_status stage_work_open(const experiment_run *r, stage_work *w, const char *stage, char *output,
                          const char *const *sections, int count, const mw_pair *upstream, int n_upstream,
                          stage_record_reader read_record) MW_MUST_USE;
/* Sets w->complete. MW_ERR_STATE, with the keys that differ, if the output is of other settings, unless the run
 * overwrites. Collective. */
mw_status stage_work_check(experiment_run *r, stage_work *w) MW_MUST_USE;
/* The same for outputs that are quick to make: a run that overwrites makes them again even if complete, for instance
 * by a later version. */
mw_status stage_work_check_or_redo(experiment_run *r, stage_work *w) MW_MUST_USE;
/* Takes the lock and checks again: another process may have completed the stage since. Collective. */
mw_status stage_work_begin(experiment_run *r, stage_work *w) MW_MUST_USE;
/* Records the stage in the manifest, writes config.yaml, and releases the lock. Collective. */
mw_status stage_work_finish(experiment_run *r, stage_work *w) MW_MUST_USE;
void stage_work_free(stage_work *w);

/* Compares a record with the work; `why` gets the differences. `paths`: paths of files count too. Local. */
mw_status stage_work_matches(const stage_work *w, const json_t *record, bool paths, bool *same,
                             mw_text *why) MW_MUST_USE;

/* Sets a key of a stage's manifest entry, or the whole entry (`key` NULL), in the file as it is now; takes ownership
 * of `value`. Local. */
mw_status manifest_put(experiment_run *r, const char *stage, const char *key, json_t *value) MW_MUST_USE;

#endif
