/* What the command line is: every verb and option, in one place. Parsing, help, suggestions, and what is generated from them
 * (manual page, completions) read these rows. */
#ifndef MICROW_CLI_TABLE_H
#define MICROW_CLI_TABLE_H

#include "cli/commands.h"
#include "microw/experiment.h"

typedef struct verb {
    const char *name;
    const char *operand; /* as help shows it: "exp.yaml", "[exp.yaml]"; "": none */
    int least, most;     /* operands */
    const char *meaning; /* one line */
    const char *reads;   /* keys and sections of the experiment file; "": none */
    const char *example;
    /* One of both: by all ranks, on a loaded experiment file (NULL: the verb takes none); without, by rank 0 alone. */
    mw_status (*on_file)(const arguments *, mw_experiment *, const mw_comm *);
    mw_status (*alone)(const arguments *);
    bool heeds_signals; /* asked to end, it saves and ends with exit code 75 */
} verb;

enum option_rule {
    OPTION_REPEATS = 1, /* may be given several times */
    OPTION_FILLED = 2,  /* its argument may not be empty: paths, names, numbers */
};

typedef struct option {
    const char *name;     /* "--model" */
    const char *letter;   /* "-q"; NULL: none */
    const char *argument; /* as help shows it: "DIR"; NULL: a flag */
    const char *meaning;  /* one line */
    const char *verbs;    /* names with spaces between; "*": all. A name may have several rows, of different verbs */
    int rules;            /* of option_rule */
} option;

extern const verb verbs[];     /* ends with a NULL name */
extern const option options[]; /* ends with a NULL name */

/* NULL: there is none. */
const verb *verb_of(const char *name);
bool option_is_of(const option *o, const verb *v);

/* To standard output. */
void print_usage(void);
void print_help(const verb *v);
/* What is installed beside the program: manual page, completions. */
void print_man(void);
void print_bash(void);
void print_zsh(void);
mw_status unknown_verb(const char *given);

#endif
