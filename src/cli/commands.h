/* The verbs of the command line, and their arguments. */
#ifndef MICROW_CLI_COMMANDS_H
#define MICROW_CLI_COMMANDS_H

#include "microw/comm.h"
#include "microw/experiment.h"

struct verb;

/* Parsed command line. Options by name: "--model" -> value; the value of a flag is "". */
typedef struct arguments {
    const struct verb *verb;
    const char *positional[8];
    int n_positional;
    const char *sets[64]; /* values of --set */
    int n_sets;
    const char *names[32], *values[32];
    int n_options;
} arguments;

/* Parses the words after the verb. Errors: MW_ERR_CONFIG for an option that the verb does not have (the message names
 * the most similar one), a repeated option that must not be, and a wrong number of operands; with --help none is
 * required. */
mw_status arguments_parse(int argc, char **argv, const struct verb *v, arguments *out) MW_MUST_USE;
/* Returns the value of an option; NULL: not given. */
const char *argument(const arguments *a, const char *name);
/* Parses the value of an option; `initial` if it is not given. Errors: MW_ERR_CONFIG. */
mw_status argument_int(const arguments *a, const char *name, int64_t initial, int64_t *out) MW_MUST_USE;
mw_status argument_real(const arguments *a, const char *name, double initial, double *out) MW_MUST_USE;

/* Functions of verbs with an experiment file: collective. Functions of the others run on rank 0 alone. */
mw_status verb_stage(const arguments *a, mw_experiment *experiment, const mw_comm *world) MW_MUST_USE;
mw_status verb_sweep(const arguments *a, mw_experiment *experiment, const mw_comm *world) MW_MUST_USE;
mw_status verb_names(const arguments *a, mw_experiment *experiment, const mw_comm *world) MW_MUST_USE;
mw_status verb_plot(const arguments *a, mw_experiment *experiment, const mw_comm *world) MW_MUST_USE;
mw_status verb_lab(const arguments *a, mw_experiment *experiment, const mw_comm *world) MW_MUST_USE;
mw_status verb_serve(const arguments *a, mw_experiment *experiment, const mw_comm *world) MW_MUST_USE;
mw_status verb_plan(const arguments *a, mw_experiment *experiment, const mw_comm *world) MW_MUST_USE;
mw_status verb_generate(const arguments *a) MW_MUST_USE;
mw_status verb_layers(const arguments *a) MW_MUST_USE;
mw_status verb_inspect(const arguments *a) MW_MUST_USE;
mw_status verb_export(const arguments *a) MW_MUST_USE;
mw_status verb_import(const arguments *a) MW_MUST_USE;
mw_status verb_config(const arguments *a) MW_MUST_USE;
mw_status verb_doctor(const arguments *a, mw_experiment *none, const mw_comm *world) MW_MUST_USE;

#endif
