/* A stage's work: by what it is known, whether it is done, and that nobody else does it.
 *
 *     work w = {0};
 *     status = work_new(r, &w, "evaluate", path, sections, 1, upstream, 2, NULL);
 *     if (status == MW_OK) status = work_look(r, &w);          // done with the same settings: w.complete; with others: refused
 *     if (status == MW_OK && !w.complete) status = work_begin(r, &w);
 *     if (status == MW_OK && !w.complete) status = do it, check w.lock, give it its name;
 *     if (status == MW_OK && !w.complete) status = work_done(r, &w);
 *     work_free(&w);
 *
 * runs/NAME/manifest.json has of each finished stage {"fingerprint", "settings", "upstream"}: the settings as YAML, and hashes of what it
 * builds on. What is there stays until it is replaced by what is finished.
 */
#ifndef MICROW_EXPERIMENT_RUN_STAGE_WORK_H
#define MICROW_EXPERIMENT_RUN_STAGE_WORK_H

#include "experiment/run/run.h"

/* What an output says of itself, as the manifest would: at least "fingerprint". An error, told, where it is damaged. */
typedef mw_status (*work_record)(const char *output, json_t **out);
/* By its member "stage"; by an attribute of this name. */
mw_status work_record_of_json(const char *output, json_t **out) MW_MUST_USE;
mw_status work_record_of_arrays(const char *output, json_t **out) MW_MUST_USE;

/* Local; takes `output` over, NULL of which is out of memory. `upstream`: names and hashes of what the stage builds on. `own`: how to ask the output. */
mw_status work_new(const run *r, work *w, const char *stage, char *output, const char *const *sections, int count,
                   const mw_pair *upstream, int n_upstream, work_record own) MW_MUST_USE;
/* Whether it is done. With other settings: refused with the keys that differ, unless overwriting. Collective. */
mw_status work_look(run *r, work *w) MW_MUST_USE;
/* The same for what is quickly made: overwriting, it is made again although it is complete, for instance by a later version. */
mw_status work_look_or_redo(run *r, work *w) MW_MUST_USE;
/* Takes the lock. Somebody may have done the work meanwhile: then it is
 * complete after all. Collective. */
mw_status work_begin(run *r, work *w) MW_MUST_USE;
/* Says so in the manifest, writes the effective configuration, and gives the lock back. Collective. */
mw_status work_done(run *r, work *w) MW_MUST_USE;
void work_free(work *w);

/* Whether what an output says of itself is what is wanted; else `why` has the differences. `paths`: those count too. Local. */
mw_status work_matches(const work *w, const json_t *record, bool paths, bool *same, mw_text *why) MW_MUST_USE;

/* The manifest of a run that is told anew: what somebody else has written there meanwhile stays. Local. */
mw_status manifest_put(run *r, const char *stage, const char *key, json_t *value) MW_MUST_USE;

#endif
