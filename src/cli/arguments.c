/* Parser of the command line, by the table. */
#include "cli/commands.h"
#include "cli/table.h"

#include <string.h>

static mw_status unknown_option(const char *given, size_t length, const verb *v) {
    enum { NAMES_MAX = 64 };
    const char *names[NAMES_MAX];
    int count = 0;
    for (const option *o = options; o->name && count < NAMES_MAX; o++)
        if (option_is_of(o, v)) names[count++] = o->name;
    char *name = mw_strndup(given, length);
    if (!name) return MW_ERR_MEMORY;
    const char *nearest = mw_nearest_name(name, names, count);
    mw_error(MW_ERR_CONFIG, "microw %s has no option '%s'%s%s%s; `microw %s --help` lists them", v->name, name,
             nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "", v->name);
    mw_free(name);
    return MW_ERR_CONFIG;
}

static const option *find_option(const char *word, size_t length, const verb *v) {
    for (const option *o = options; o->name; o++) {
        bool named = strlen(o->name) == length && memcmp(o->name, word, length) == 0;
        if ((named || (o->letter && strcmp(o->letter, word) == 0)) && option_is_of(o, v)) return o;
    }
    return NULL;
}

/* Reads the value of an option: after '=', or the next word, unless that is an option of this verb. */
static mw_status read_value(int argc, char **argv, int *i, const option *o, const verb *v, const char **value) {
    const char *equals = strchr(argv[*i], '=');
    if (!o->argument)
        return equals ? mw_error(MW_ERR_CONFIG, "option '%s' takes no value, found '%s'", o->name, equals + 1) : MW_OK;
    if (equals) {
        *value = equals + 1;
    } else if (*i + 1 >= argc) {
        return mw_error(MW_ERR_CONFIG, "option '%s' needs a value: %s %s", o->name, o->name, o->argument);
    } else {
        const char *next = argv[*i + 1];
        if (find_option(next, strcspn(next, "="), v))
            return mw_error(MW_ERR_CONFIG,
                            "option '%s' needs a value: %s %s; found the option '%s' (as a value: %s=%s)", o->name,
                            o->name, o->argument, next, o->name, next);
        *value = argv[++*i];
    }
    return (o->rules & OPTION_FILLED) && !(*value)[0]
               ? mw_error(MW_ERR_CONFIG, "option '%s' has an empty value: expected %s", o->name, o->argument)
               : MW_OK;
}

static mw_status store_option(const option *o, const char *value, arguments *out) {
    enum { SETS = sizeof out->sets / sizeof *out->sets, OPTIONS = sizeof out->names / sizeof *out->names };
    if (o->rules & OPTION_REPEATS) {
        if (out->n_sets == SETS) return mw_error(MW_ERR_CONFIG, "more than %d %s options", SETS, o->name);
        out->sets[out->n_sets++] = value;
        return MW_OK;
    }
    const char *before = argument(out, o->name);
    if (before && !o->argument) return MW_OK; /* a repeated flag */
    if (before) return mw_error(MW_ERR_CONFIG, "option '%s' is given twice: '%s' and '%s'", o->name, before, value);
    if (out->n_options == OPTIONS) return mw_error(MW_ERR_CONFIG, "more than %d options", OPTIONS);
    out->names[out->n_options] = o->name;
    out->values[out->n_options++] = value;
    return MW_OK;
}

static mw_status add_option(int argc, char **argv, int *i, const verb *v, arguments *out) {
    size_t length = strcspn(argv[*i], "=");
    const option *o = find_option(argv[*i], length, v);
    const char *value = "";
    if (!o) return unknown_option(argv[*i], length, v);
    MW_TRY(read_value(argc, argv, i, o, v, &value));
    return store_option(o, value, out);
}

static const char *operand_name(const verb *v) {
    return strstr(v->operand, "exp.yaml") ? "experiment file" : "file or folder";
}

static mw_status add_operand(const char *word, const verb *v, arguments *out) {
    enum { MOST = sizeof out->positional / sizeof *out->positional };
    if (v->most == 0) return mw_error(MW_ERR_CONFIG, "microw %s takes options only, found '%s'", v->name, word);
    if (out->n_positional == v->most || out->n_positional == MOST)
        return mw_error(MW_ERR_CONFIG, "microw %s takes one %s, found '%s' too", v->name, operand_name(v), word);
    if (!word[0]) return mw_error(MW_ERR_CONFIG, "microw %s: the name of the %s is empty", v->name, operand_name(v));
    out->positional[out->n_positional++] = word;
    return MW_OK;
}

mw_status arguments_parse(int argc, char **argv, const verb *v, arguments *out) {
    bool options_end = false;
    *out = (arguments){.verb = v};
    for (int i = 2; i < argc; i++) {
        bool is_option = !options_end && argv[i][0] == '-' && argv[i][1];
        if (is_option && strcmp(argv[i], "--") == 0)
            options_end = true;
        else
            MW_TRY(is_option ? add_option(argc, argv, &i, v, out) : add_operand(argv[i], v, out));
    }
    if (out->n_positional >= v->least || argument(out, "--help")) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "microw %s needs one %s, for instance: %s", v->name, operand_name(v), v->example);
}

const char *argument(const arguments *a, const char *name) {
    for (int i = 0; i < a->n_options; i++)
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
