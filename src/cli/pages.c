/* The manual page and the shell completions, generated from the table: `microw help --man`, --bash, --zsh. */
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

/* ---- manual page ------------------------------------------------------------------------------------------- */

/* Prints text for troff: no line is a command, and hyphens can be copied. */
static void put_man(const char *text) {
    if (text[0] == '.' || text[0] == '\'') printf("\\&");
    for (; *text; text++) {
        if (*text == '\\')
            printf("\\e");
        else if (*text == '-')
            printf("\\-");
        else
            putchar(*text);
    }
}

static void put_option(const option *o) {
    printf(".TP\n");
    if (o->letter) {
        printf(".BR ");
        put_man(o->letter);
        printf(" \", \" ");
        put_man(o->name);
        printf("\n");
    } else {
        printf(o->argument ? ".BI " : ".B ");
        put_man(o->name);
        if (o->argument) {
            printf(" \" ");
            put_man(o->argument);
            printf("\"");
        }
        printf("\n");
    }
    put_man(o->meaning);
    printf("%s\n", (o->rules & OPTION_REPEATS) ? " (may be repeated)" : "");
}

static void put_verb(const verb *v) {
    printf(".SS ");
    put_man(v->name);
    printf(" %s\n", v->operand);
    put_man(v->meaning);
    printf(".\n");
    for (const option *o = options; o->name; o++)
        if (option_is_of(o, v) && strcmp(o->verbs, "*") != 0) put_option(o);
    if (v->reads[0]) {
        printf(".PP\nKeys read from the experiment file: ");
        put_man(v->reads);
        printf(".\n");
    }
    printf(".PP\n.RS\n.EX\n");
    put_man(v->example);
    printf("\n.EE\n.RE\n");
}

void print_man(void) {
    printf(
        ".TH MICROW 1 \"\" \"microw %s\" \"User Commands\"\n"
        ".SH NAME\nmicrow \\- harvest activations, train sparse autoencoders, find and steer concepts\n"
        ".SH SYNOPSIS\n.B microw\n.I VERB\n.RI [ exp.yaml ]\n.RI [ options ]\n.br\n"
        ".B mpirun \\-np\n.I N\n.B microw\n.I VERB exp.yaml\n"
        ".SH DESCRIPTION\nmicrow runs a language model over text and stores activations, trains sparse autoencoders on "
        "them, finds what their latents stand for, and steers the model by them. One YAML file describes an "
        "experiment;\n"
        ".B microw config\nexplains each of its keys.\n"
        ".SH OPTIONS\nOptions of every verb:\n",
        mw_version());
    for (const option *o = options; o->name; o++)
        if (strcmp(o->verbs, "*") == 0) put_option(o);
    printf(".SH VERBS\n");
    for (const verb *v = verbs; v->name; v++) put_verb(v);
    printf(".SH EXIT STATUS\n.TP\n.B 0\ndone\n.TP\n.B 1\nfailed\n.TP\n.B 2\nusage or configuration error\n.TP\n.B 75\n"
           "interrupted; progress is saved, and the same command resumes it\n");
}

/* ---- completions ------------------------------------------------------------------------------------------- */

/* Returns whether the option's argument is a path. */
static bool is_path(const option *o) {
    return o->argument && (strcmp(o->argument, "DIR") == 0 || strcmp(o->argument, "FILE") == 0);
}

void print_bash(void) {
    printf("# bash completion of microw %s\n_microw() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} options=\n"
           "    if [ \"$COMP_CWORD\" = 1 ]; then\n        COMPREPLY=($(compgen -W \"help version",
           mw_version());
    for (const verb *v = verbs; v->name; v++) printf(" %s", v->name);
    printf("\" -- \"$cur\"))\n        return\n    fi\n    case $prev in\n    ");
    const char *separator = "";
    for (const option *o = options; o->name; o++)
        if (is_path(o)) {
            printf("%s%s", separator, o->name);
            separator = " | ";
        }
    printf(") COMPREPLY=($(compgen -f -- \"$cur\")) && return ;;\n    esac\n    case $verb in\n");
    for (const verb *v = verbs; v->name; v++) {
        printf("    %s) options=\"", v->name);
        separator = "";
        for (const option *o = options; o->name; o++)
            if (option_is_of(o, v)) {
                printf("%s%s", separator, o->name);
                separator = " ";
            }
        printf("\" ;;\n");
    }
    printf("    esac\n    case $cur in\n    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$cur\")) ;;\n"
           "    *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n    esac\n}\ncomplete -o filenames -F _microw microw\n");
}

/* Prints text within single quotes of an argument of _arguments or _describe, where zsh interprets brackets and colons.
 * */
static void put_zsh(const char *text) {
    for (; *text; text++) {
        if (*text == '\'')
            printf("'\\''");
        else if (strchr("[]:\\", *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void put_zsh_option(const option *o) {
    printf(" \\\n            '%s%s[", (o->rules & OPTION_REPEATS) ? "*" : "", o->name);
    put_zsh(o->meaning);
    printf("]");
    if (o->argument) {
        printf(":");
        put_zsh(o->argument);
        printf(":%s", is_path(o) ? "_files" : " ");
    }
    printf("'");
}

void print_zsh(void) {
    printf("#compdef microw\n# zsh completion of microw %s\n_microw() {\n    local -a verbs\n    verbs=(\n",
           mw_version());
    for (const verb *v = verbs; v->name; v++) {
        printf("        '%s:", v->name);
        put_zsh(v->meaning);
        printf("'\n");
    }
    printf("    )\n    if ((CURRENT == 2)); then\n        _describe verb verbs\n        return\n    fi\n"
           "    local verb=$words[2]\n    shift words\n    ((CURRENT--))\n    case $verb in\n");
    for (const verb *v = verbs; v->name; v++) {
        printf("    %s)\n        _arguments", v->name);
        for (const option *o = options; o->name; o++)
            if (option_is_of(o, v)) put_zsh_option(o);
        printf("%s\n        ;;\n", v->most > 0 ? " \\\n            '*:file:_files'" : "");
    }
    printf("    esac\n}\n_microw \"$@\"\n");
}
