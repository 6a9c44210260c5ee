#!/bin/sh
# docs/reference/yaml.md and cli.md, from the tables in the program:
#     tools/reference_pages.sh PROGRAM            # writes both pages
#     tools/reference_pages.sh PROGRAM --check    # 1 if a page differs from what the program says
set -eu
program=${1:?usage: tools/reference_pages.sh PROGRAM [--check]}
check=${2:-}
top=$(cd "$(dirname "$0")/.." && pwd)
pages=$top/docs/reference
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

# Rows of at most 120 columns. A cell that is too long goes on in the next row, whose other cells are empty.
cat >"$made/table.awk" <<'END'
function escape(text) { gsub(/\|/, "\\|", text); return text }
function wrap(text, width, out,    n, i, count, words) { # 1-based lines of text; their number
    n = split(text, words, " ")
    count = 0
    for (i = 1; i <= n; i++) {
        if (count && length(out[count]) + 1 + length(words[i]) <= width) out[count] = out[count] " " words[i]
        else out[++count] = words[i]
    }
    if (!count) out[++count] = ""
    return count
}
function add_row(a, b, c, d) { rows++; cell[rows, 1] = a; cell[rows, 2] = b; cell[rows, 3] = c; cell[rows, 4] = d }
# The last column takes the width that is left; the second one is wrapped where it is wider than limit2 (0: never).
function print_table(columns, limit2,    r, c, left, width, lines, most, i, text, line) {
    left = 120 - 2 - 3 * columns + 1
    for (c = 1; c < columns; c++) {
        width[c] = 0
        for (r = 1; r <= rows; r++) if (length(cell[r, c]) > width[c]) width[c] = length(cell[r, c])
        if (c == 2 && limit2 && width[c] > limit2) width[c] = limit2
        left -= width[c]
    }
    width[columns] = left
    for (r = 1; r <= rows; r++) {
        most = 1
        for (c = 1; c <= columns; c++) {
            split("", lines)
            if (c == columns || (c == 2 && limit2)) i = wrap(cell[r, c], width[c], lines)
            else { lines[1] = cell[r, c]; i = 1 }
            if (i > most) most = i
            for (line = 1; line <= i; line++) text[line, c] = lines[line]
        }
        for (i = 1; i <= most; i++) {
            line = "|"
            for (c = 1; c <= columns; c++) {
                line = line " " sprintf(c < columns ? "%-" width[c] "s" : "%s", text[i, c]) " |"
                delete text[i, c]
            }
            print line
        }
        if (r == 1) {
            line = "|"
            for (c = 1; c <= columns; c++) line = line "---|"
            print line
        }
    }
    rows = 0
}
END

# ---- the experiment file ----------------------------------------------------------------------------------------------

cat >"$made/yaml.awk" <<'END'
function flush() {
    if (rows > 1) print_table(4, 26)
    rows = 0
}
function heading(name, doc) {
    flush()
    printf "\n## %s\n\n", name
    if (doc != "") printf "%s.\n\n", toupper(substr(doc, 1, 1)) substr(doc, 2)
    add_row("key", "type", "default", "meaning")
}
function words_of(type) { # as a cell: choices with commas between
    if (type !~ /\|/ || type ~ / /) return escape(type)
    gsub(/\|/, ", ", type)
    return type
}
BEGIN { heading("Top level", "") }
/^$/ { next }
/^ *# / {
    text = $0
    sub(/^ *# /, "", text)
    comment[++comments] = text
    next
}
/^[a-z_]+:$/ {
    name = $0
    sub(/:$/, "", name)
    heading("`" name "`", comment[comments])
    comments = 0
    next
}
{
    key = $0
    sub(/^ */, "", key)
    value = key
    sub(/:.*/, "", key)
    sub(/^[a-z_0-9]+: /, "", value)
    type = comment[2]
    fallback = "`" escape(value) "`"
    if (sub(/; must be given$/, "", type)) fallback = "required"
    add_row("`" key "`", words_of(type), fallback, escape(comment[1]))
    for (i = 3; i <= comments; i++) { # a key of the maps in a list: "  name: meaning (type; default value)"
        text = comment[i]
        sub(/^ */, "", text)
        key_of_map = text
        sub(/:.*/, "", key_of_map)
        sub(/^[a-z_]+: /, "", text)
        at = match(text, /\([^()]*(\([^()]*\))?[^()]*\)$/)
        kind = substr(text, at + 1, length(text) - at - 1)
        text = substr(text, 1, at - 2)
        fallback = "required"
        if (match(kind, /; default .*/)) fallback = substr(kind, RSTART + 10)
        if (fallback !~ /^(required|none)$/) fallback = "`" fallback "`"
        sub(/; .*/, "", kind)
        add_row("`" key "[]." key_of_map "`", words_of(kind), fallback, escape(text))
    }
    comments = 0
}
END { flush() }
END

{
    cat <<'END'
# The experiment file

An experiment is one YAML file. Each stage of `microw run` has a section; a stage runs if its section is in the file.
Keys that are left out have the default of the tables below; a required key must be given in its section.
`--set SECTION.KEY=VALUE` replaces a value on the command line. An unknown key, a value of a wrong type and a value out
of range are errors that name file, line and expected type. `configs/reference.yaml` holds the same keys as one file.

`tools/reference_pages.sh` makes this page from `microw config`; the test `lint.reference` compares them.

The types: `text`; `whole number` and `number`, with their range; `true or false`; a choice is one of the words listed;
lists are in brackets, `[1, 2]`, and a single value stands for a list of one; `map of latent: number` is
`{42: 3, 7: 0}`. The value `auto` lets the program compute a default from other settings. Underscores may separate
digits, `1_000_000`.

Relative paths begin at the folder of the experiment file; paths in `--set` begin at the working directory.
END
    "$program" config | awk -f "$made/table.awk" -f "$made/yaml.awk"
    cat <<'END'

## `sweep`

The section lists the settings of a sweep's points; `microw sweep` reads it ([guide](../guide/sweeps.md)). It has one of
two forms, or both:

| form | meaning |
|---|---|
| `SECTION.KEY: [VALUE, VALUE]` | a grid: every combination of the values; the section is `sae`, `train`, `discover`, |
| | `evaluate` or `steer` |
| `points: [{name: NAME, SECTION.KEY: VALUE}]` | named points; with a grid beside them, each point runs over the grid |

Two more keys of the section say how the points run:

| key | type | default | meaning |
|---|---|---|---|
| `memory_gb` | number, 0 to 1000000000 | `0` | memory of a rank for SAEs that train at once, in units of 10^9 bytes; |
| | | | 0: half of the free memory |
| `teams` | whole number, 1 to 16777216, or auto | `auto` | teams of ranks that train different points; auto: as many |
| | | | as there are points for |
END
} >"$made/yaml.md"

# ---- the command line -------------------------------------------------------------------------------------------------

cat >"$made/cli.awk" <<'END'
# The help of one verb: "microw VERB: meaning", "usage: ...", options, what it reads, an example.
function flush() {
    if (rows > 1) { print_table(2, 0); print "" }
    rows = 0
}
/^microw [a-z]+: / {
    name = $2
    sub(/:$/, "", name)
    meaning = $0
    sub(/^microw [a-z]+: /, "", meaning)
    printf "\n## %s\n\n%s.\n\n", name, toupper(substr(meaning, 1, 1)) substr(meaning, 2)
    next
}
/^usage: / { printf "Usage: `%s`\n\n", substr($0, 8); add_row("option", "meaning"); next }
/^  -/ && !example {
    text = substr($0, 3)
    at = match(text, /  +/)
    if (!at) { at = 25; RLENGTH = 1 }
    left = substr(text, 1, at - 1)
    if (left != "-q, --quiet" && left != "-h, --help") add_row("`" left "`", escape(substr(text, at + RLENGTH)))
    next
}
/^Reads of the experiment file: / { flush(); printf "Sections it reads: %s\n\n", substr($0, 31); next }
/^Example:$/ { flush(); example = 1; next }
example == 1 { printf "```sh\n%s\n```\n", substr($0, 3); example = 2 }
END

{
    cat <<'END'
# The command line

`tools/reference_pages.sh` makes this page from `microw help`; the test `lint.reference` compares them.
`microw help --man` prints a manual page, and `--bash` and `--zsh` print completions.

Options may stand anywhere after the verb, as `--name value` or `--name=value`; `--` ends them. Every verb runs alone or
under `mpirun` and `srun`, and has two more options: `-q`, `--quiet` (no progress and no notes; errors, warnings and
results stay) and `-h`, `--help`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed, also when the output cannot be written; a reader that closes the pipe early is no failure |
| 2 | wrong usage or configuration |
| 75 | interrupted by SIGTERM, SIGINT, SIGHUP or SIGUSR1; the work is saved, and the same command continues it |

| verb | argument | what it does |
|---|---|---|
END
    "$program" --help | awk '/^  [a-z]+ / && !/^  microw/ {
        verb = $1; rest = substr($0, 26); argument = substr($0, 13, 12); sub(/ +$/, "", argument)
        if (argument != "") argument = "`" argument "`"
        gsub(/\|/, "\\|", argument)
        printf "| [%s](#%s) | %s | %s |\n", verb, verb, argument, rest }'
    for verb in $("$program" --help | awk '/^  [a-z]+ / && !/^  microw/ { print $1 }'); do
        "$program" help "$verb" | awk -f "$made/table.awk" -f "$made/cli.awk"
    done
} >"$made/cli.md"

# -----------------------------------------------------------------------------------------------------------------------

failed=0
for page in yaml cli; do
    if [ "$check" != --check ]; then
        cp "$made/$page.md" "$pages/$page.md"
    elif ! diff "$pages/$page.md" "$made/$page.md"; then
        echo "docs/reference/$page.md differs from the program: tools/reference_pages.sh PROGRAM writes it"
        failed=1
    fi
done
exit $failed
