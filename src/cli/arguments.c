#include "cli/commands.h"
#include "microw/config.h"

#include <string.h>

static mw_status unknown_option(const char *given, const option_spec *specs) {
    const char *names[32];
    int count = 0;
    for (; specs[count].name && count < 32; count++) names[count] = specs[count].name;
    const char *near = mw_nearest_name(given, names, count);
    return mw_error(MW_ERR_CONFIG, "unknown option '%s'%s%s%s", given, near ? "; did you mean '" : "", near ? near : "",
                    near ? "'?" : "");
}

static mw_status add_option(int argc, char **argv, int *at, const option_spec *specs, arguments *out) {
    const char *name = argv[*at];
    const option_spec *spec = specs;
    while (spec->name && strcmp(spec->name, name) != 0) spec++;
    if (!spec->name) return unknown_option(name, specs);
    const char *value = "";
    if (spec->has_value) {
        if (*at + 1 >= argc) return mw_error(MW_ERR_CONFIG, "option '%s' needs a value", name);
        value = argv[++*at];
    }
    if (strcmp(name, "--set") == 0) {
        if (out->n_sets == 64) return mw_error(MW_ERR_CONFIG, "more than 64 --set options");
        out->sets[out->n_sets++] = value;
        return MW_OK;
    }
    if (out->n_options == 32) return mw_error(MW_ERR_CONFIG, "too many options");
    out->names[out->n_options] = name;
    out->values[out->n_options++] = value;
    return MW_OK;
}

mw_status arguments_parse(int argc, char **argv, const option_spec *specs, arguments *out) {
    for (int i = 2; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0) {
            MW_TRY(add_option(argc, argv, &i, specs, out));
        } else if (out->n_positional == 8) {
            return mw_error(MW_ERR_CONFIG, "too many arguments from '%s' on", argv[i]);
        } else {
            out->positional[out->n_positional++] = argv[i];
        }
    }
    return MW_OK;
}

const char *argument(const arguments *a, const char *name) {
    for (int i = a->n_options - 1; i >= 0; i--)
        if (strcmp(a->names[i], name) == 0) return a->values[i];
    return NULL;
}

mw_status argument_int(const arguments *a, const char *name, int64_t initial, int64_t *out) {
    const char *text = argument(a, name);
    *out = initial;
    if (!text || mw_parse_int(text, out)) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%s: expected a whole number, found '%s'", name, text);
}

mw_status argument_real(const arguments *a, const char *name, double initial, double *out) {
    const char *text = argument(a, name);
    *out = initial;
    if (!text || mw_parse_double(text, out)) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%s: expected a number, found '%s'", name, text);
}
