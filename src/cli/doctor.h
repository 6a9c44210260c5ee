/* Parts of `microw doctor`. Facts are gathered once, as one JSON value, then judged and shown. Unknown values
 * are null. */
#ifndef MICROW_CLI_DOCTOR_H
#define MICROW_CLI_DOCTOR_H

#include "base/json.h"
#include "microw/comm.h"

/* Returns the facts that one process finds; `store` is a folder. The caller frees. Local. */
json_t *doctor_facts(const char *store);
/* Returns whether doctor must not start MPI, which ends the process if it cannot create its files. */
bool doctor_without_mpi(void);

/* Returns a value inside an object by its path, "memory.free"; NULL: none. */
const json_t *doctor_value(const json_t *facts, const char *path);
/* Return a value as a text, NULL if it is none; as a number, NaN if it is none. */
const char *doctor_text(const json_t *facts, const char *path);
double doctor_number(const json_t *facts, const char *path);
/* Sets a member of an object, which takes the reference; NULL becomes null. */
void doctor_put(json_t *object, const char *key, json_t *value);

/* Adds the findings about one rank. A finding is {"kind", "about", "text"}; kind "problem": microw cannot run here;
 * "note": something is missing or doubtful. */
void doctor_judge(const json_t *facts, json_t *findings);
bool doctor_is_problem(const json_t *finding);
/* Adds a finding, whose reference it takes. Problems come first, `doctor_problems` of them. */
void doctor_add(json_t *findings, json_t *finding);
size_t doctor_problems(const json_t *findings);
/* Fills `hosts` from `ranks`, the summaries of all ranks, and adds findings about hosts and about the start of MPI. */
void doctor_judge_ranks(const json_t *facts, const json_t *ranks, json_t *hosts, json_t *findings);

/* Writes the facts as text for people, in lines of at most 100 columns where words allow. */
void doctor_show(const json_t *facts, mw_text *out);

#endif
