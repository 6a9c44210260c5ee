/* What `microw doctor` consists of. Facts are gathered once, as one JSON value, then judged and shown. What is not known is null. */
#ifndef MICROW_CLI_DOCTOR_H
#define MICROW_CLI_DOCTOR_H

#include "base/json.h"
#include "microw/comm.h"

/* What one process finds, alone; `store` is a folder. */
json_t *doctor_facts(const char *store);
/* MPI ends a process that starts it where its files cannot be: then doctor does without. */
bool doctor_without_mpi(void);

/* A value inside of an object: "memory.free"; NULL where there is none. */
const json_t *doctor_at(const json_t *facts, const char *path);
/* NULL unless it is a text; NaN unless it is a number. */
const char *doctor_text(const json_t *facts, const char *path);
double doctor_number(const json_t *facts, const char *path);
/* A NULL value is null. */
void doctor_put(json_t *object, const char *key, json_t *value);

/* A finding is {"kind", "about", "text"}: a problem makes it impossible to run here, a note is what is missing or doubtful. */
void doctor_judge(const json_t *facts, json_t *findings);
bool doctor_is_problem(const json_t *finding);
/* Problems come first, `doctor_problems` of them. The finding is consumed. */
void doctor_add(json_t *findings, json_t *finding);
size_t doctor_problems(const json_t *findings);
/* Of all ranks, which `ranks` lists: the hosts, and findings about what ranks share. */
void doctor_judge_ranks(const json_t *facts, const json_t *ranks, json_t *hosts, json_t *findings);

/* For people; at most 100 columns where words allow. */
void doctor_show(const json_t *facts, mw_text *out);

#endif
