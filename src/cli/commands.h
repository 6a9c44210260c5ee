/* Commands that need no experiment file. */
#ifndef MICROW_COMMANDS_H
#define MICROW_COMMANDS_H

#include "microw/comm.h"

/* Options by name: "--model" -> value; flags have the value "". */
typedef struct arguments {
    const char *command;
    const char *positional[8];
    int n_positional;
    const char *sets[64]; /* --set */
    int n_sets;
    const char *names[32], *values[32];
    int n_options;
} arguments;

typedef struct option_spec {
    const char *name;
    bool has_value;
} option_spec;

/* Refuses options that are not in `specs` (ended by a NULL name), with the nearest known one. */
mw_status arguments_parse(int argc, char **argv, const option_spec *specs, arguments *out) MW_MUST_USE;
/* NULL: not given. */
const char *argument(const arguments *a, const char *name);
mw_status argument_int(const arguments *a, const char *name, int64_t initial, int64_t *out) MW_MUST_USE;
mw_status argument_real(const arguments *a, const char *name, double initial, double *out) MW_MUST_USE;

mw_status command_generate(const arguments *a) MW_MUST_USE;
mw_status command_layers(const arguments *a) MW_MUST_USE;
mw_status command_inspect(const arguments *a) MW_MUST_USE;
mw_status command_export(const arguments *a) MW_MUST_USE;
mw_status command_import(const arguments *a) MW_MUST_USE;
mw_status command_config(const arguments *a) MW_MUST_USE;

#endif
