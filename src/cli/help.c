/* Help texts, generated from the table. */
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

static const char exit_codes[] =
    "Exit codes: 0 done; 1 failed; 2 usage or configuration error; 75 interrupted by SIGTERM, SIGINT, SIGHUP or\n"
    "SIGUSR1: progress is saved, and the same command resumes it. A reader that closes the output early (`| head`)\n"
    "is no failure; output that cannot be written is one.\n"
    "On SIGTERM, SIGINT or SIGHUP mpirun sends SIGTERM to its ranks and kills them a second later, saved or not. Use\n"
    "jobs/mpirun.sh in its place, with the same arguments: it gives the ranks time to save. srun and jobs/*.sbatch\n"
    "do so by themselves.\n";

static void print_option(const option *o) {
    char left[64];
    snprintf(left, sizeof left, "%s%s%s%s%s", o->letter ? o->letter : "", o->letter ? ", " : "", o->name,
             o->argument ? " " : "", o->argument ? o->argument : "");
    printf("  %-24s %s%s\n", left, o->meaning, (o->rules & OPTION_REPEATS) ? " (may be repeated)" : "");
}

void print_usage(void) {
    printf("microw - harvest activations, train sparse autoencoders, find and steer concepts\n\n"
           "usage: microw VERB [exp.yaml] [options]\n\n");
    for (const verb *v = verbs; v->name; v++) printf("  %-9s %-12s %s\n", v->name, v->operand, v->meaning);
    printf("\n  microw VERB --help      options, keys read, and an example; also: microw help VERB\n"
           "  microw --version        also: -V, microw version\n"
           "  microw help --man       the manual page; --bash, --zsh: completions\n\n"
           "For every verb:\n");
    for (const option *o = options; o->name; o++)
        if (strcmp(o->verbs, "*") == 0) print_option(o);
    printf(
        "\nOptions may be anywhere after the verb, as --name value or --name=value; -- ends them. All verbs run alone\n"
        "or under mpirun or srun.\n%s",
        exit_codes);
}

void print_help(const verb *v) {
    printf("microw %s: %s\n\nusage: microw %s%s%s [options]\n\n", v->name, v->meaning, v->name,
           v->operand[0] ? " " : "", v->operand);
    for (const option *o = options; o->name; o++)
        if (option_is_of(o, v)) print_option(o);
    if (v->reads[0])
        printf("\nKeys read from the experiment file: %s.\n`microw config` explains every key.\n", v->reads);
    printf("\nExample:\n  %s\n", v->example);
    if (v->heeds_signals) printf("\n%s", exit_codes);
}

mw_status unknown_verb(const char *given) {
    enum { NAMES_MAX = 64 };
    const char *names[NAMES_MAX] = {"help", "version"};
    int count = 2;
    for (const verb *v = verbs; v->name && count < NAMES_MAX; v++) names[count++] = v->name;
    const char *nearest = mw_nearest_name(given, names, count);
    if (given[0] == '-')
        return mw_error(MW_ERR_CONFIG, "expected a verb, found '%s': microw VERB [exp.yaml] [options]", given);
    return mw_error(MW_ERR_CONFIG, "unknown verb '%s'%s%s%s; `microw --help` lists them", given,
                    nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}
