/* Table of every verb and option of the command line. Parsing, help, suggestions, the manual page and the completions
 * use it. */
#ifndef MICROW_CLI_TABLE_H
#define MICROW_CLI_TABLE_H

#include "cli/commands.h"
#include "microw/experiment.h"

typedef struct verb {
    const char *name;
    const char *operand; /* as help shows it: "exp.yaml", "[exp.yaml]"; "": none */
    int least, most;     /* number of operands */
    const char *meaning; /* one line */
    const char *reads;   /* keys and sections of the experiment file; "": none */
    const char *example;
    /* Exactly one is set. on_file runs on all ranks, with the loaded experiment, or NULL for a verb without operand;
     * alone runs on rank 0. */
    mw_status (*on_file)(const arguments *, mw_experiment *, const mw_comm *);
    mw_status (*alone)(const arguments *);
    bool heeds_signals; /* on a signal it saves and ends with exit code 75 */
} verb;

enum option_rule {
    OPTION_REPEATS = 1, /* may be repeated */
    OPTION_FILLED = 2,  /* its argument must not be empty: paths, names, numbers */
};

typedef struct option {
    const char *name;     /* "--model" */
    const char *letter;   /* "-q"; NULL: none */
    const char *argument; /* as help shows it: "DIR"; NULL: a flag */
    const char *meaning;  /* one line */
    const char *verbs; /* names separated by spaces; "*": all. An option may have several rows, for different verbs */
    int rules;         /* bits of option_rule */
} option;

extern const verb verbs[];     /* ends with a NULL name */
extern const option options[]; /* ends with a NULL name */

/* Returns the verb of this name; NULL: none. */
const verb *verb_of(const char *name);
/* Returns whether a verb has an option. */
bool option_is_of(const option *o, const verb *v);

/* Each prints to standard output. */
void print_usage(void);
void print_help(const verb *v);
/* Manual page and completions, which are installed with the program. */
void print_man(void);
void print_bash(void);
void print_zsh(void);
/* Reports an unknown verb, with the most similar one. Returns MW_ERR_CONFIG. */
mw_status unknown_verb(const char *given);

#endif
