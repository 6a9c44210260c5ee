/* Facts as lines of text, by the table below. */
#include "cli/doctor.h"

#include <math.h>
#include <string.h>

enum { INDENT = 11, WIDTH = 100, RANKS_SHOWN = 16 };

/* In a text, {path} is a value, {path|format} a value in one of the formats below, {path#noun} a number of things, and
 * {path?yes:no} one of two words. A part in [ ] is left out if a value in it is null; elsewhere null is shown as
 * "unknown". With `each`, one line for every member of that list. */
static const struct line {
    const char *heading, *each, *text;
} lines[] = {
    {"microw", NULL,
     "{microw.version} ({microw.git}), {microw.compiler}, {microw.build}, {microw.cuda?with:without} CUDA[, bundle "
     "{microw.bundle}]"},
    {"", NULL, "{libraries|versions}[; without {libraries|absent}]"},
    {"machine", NULL, "{machine.host}, {machine.kernel}, {machine.libc}"},
    {"", NULL,
     "[{machine.cpu}; ]{machine.processors#CPU}[, {machine.cores#core}][, {machine.sockets#socket}][, "
     "{machine.numa_nodes#NUMA node}]"},
    {"", NULL, "CPU features: {machine.features}"},
    {"", NULL,
     "this process may use {machine.cpus_allowed#CPU}[, {machine.cpus}][; its control group is limited to the time of "
     "{machine.cpu_quota}]"},
    {"memory", NULL,
     "{memory.total|bytes}[, {memory.free|bytes} free][; its control group is limited to {memory.group_limit|bytes}]"},
    {"threads", NULL,
     "{threads.openmp#OpenMP thread}[, OMP_NUM_THREADS={threads.OMP_NUM_THREADS}][, "
     "OMP_PROC_BIND={threads.OMP_PROC_BIND}]"},
    {"MPI", NULL,
     "{mpi.ranks#rank} on {mpi.hosts#host}[, started by {mpi.launcher}][, PMIx {mpi.pmix}]"
     "{mpi.started?: (MPI was not started)}"},
    {"", NULL, "[Slurm: {mpi.slurm|pairs}]"},
    {"", "ranks", "rank {rank}: {host}[, CPUs {cpus}], {threads#thread}[, {free_memory|bytes} free], {gpus#GPU}"},
    {"", "hosts", "{host}: {ranks#rank}, {cpus_allowed#CPU}, {threads#thread}[, {free_memory|bytes} free], {gpus#GPU}"},
    {"store", NULL,
     "{store.path}[ ({store.type})][, {store.free|bytes} free], {store.writable?:not }writable[, file locks "
     "{store.locks?:do not }work]"},
    {"TMPDIR", NULL, "{tmpdir.path}[ ({tmpdir.type})][, {tmpdir.free|bytes} free], {tmpdir.writable?:not }writable"},
    {"/dev/shm", NULL, "[{shm.size|bytes}][, {shm.free|bytes} free, ]{shm.writable?:not }writable"},
    {"limits", NULL,
     "{limits.open_files.soft} open files, {limits.processes.soft} processes, locked memory "
     "{limits.locked_memory.soft|bytes}, stack {limits.stack.soft|bytes}, address space "
     "{limits.address_space.soft|bytes}, file size {limits.file_size.soft|bytes}"},
    {"GPUs", NULL, "auto: {gpus.auto|device}[, because {gpus.problem}]"},
    {"", NULL, "[CUDA of this build {gpus.runtime}, code for {gpus.architectures}][, driver for CUDA {gpus.driver}]"},
    {"", NULL, "[CUDA_VISIBLE_DEVICES={gpus.CUDA_VISIBLE_DEVICES}]"},
    {"", "gpus.list",
     "{name}, compute capability {capability}, {memory|bytes}[, {free|bytes} free], {has_code?:no }code for it"},
    {"", "gpus.libraries", "{name} {found}[, this build was made for {made_for}][, {path}][: {problem}]"},
    {"tools", NULL, "{tools.gnuplot?:no }gnuplot, {tools.python3?:no }python3"},
};

/* ---- values ------------------------------------------------------------------------------------------------ */

static void add_text(mw_text *out, const char *text) {
    mw_text_add_visible(out, text, strlen(text));
}

static void add_plain(const json_t *value, mw_text *out) {
    size_t i;
    const json_t *one;
    if (json_is_string(value)) add_text(out, json_string_value(value));
    if (json_is_integer(value)) mw_text_addf(out, "%lld", (long long)json_integer_value(value));
    if (json_is_real(value)) mw_text_addf(out, "%.4g", json_real_value(value));
    json_array_foreach((json_t *)(uintptr_t)value, i, one) {
        if (i > 0) mw_text_addf(out, " ");
        add_plain(one, out);
    }
}

static bool add_value(const json_t *value, mw_text *out) {
    if (!value || json_is_null(value)) return false;
    add_plain(value, out);
    return true;
}

static bool add_bytes(const json_t *value, mw_text *out) {
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB", "PB", "EB"};
    if (!json_is_number(value)) return add_value(value, out);
    double shown = json_number_value(value);
    int unit = 0;
    for (; shown >= 999.5 && unit < 6; unit++) shown /= 1000;
    mw_text_addf(out, "%.3g %s", shown, units[unit]);
    return true;
}

/* "zlib 1.2.13, OpenSSL 3.0.15": some versions contain the name. */
static bool add_versions(const json_t *value, mw_text *out) {
    const char *name, *separator = "";
    json_t *version;
    json_object_foreach((json_t *)(uintptr_t)value, name, version) {
        const char *text = json_string_value(version);
        if (!text) continue;
        mw_text_addf(out, strstr(text, name) ? "%s" : "%s%s ", separator, name);
        add_text(out, text);
        separator = ", ";
    }
    return true;
}

static bool add_absent(const json_t *value, mw_text *out) {
    const char *name, *separator = "";
    json_t *version;
    json_object_foreach((json_t *)(uintptr_t)value, name, version) {
        if (!json_is_null(version)) continue;
        mw_text_addf(out, "%s%s", separator, name);
        separator = ", ";
    }
    return separator[0] != '\0';
}

/* "tasks of step 4, nodes 1" */
static bool add_pairs(const json_t *value, mw_text *out) {
    const char *name, *separator = "";
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)value, name, member) {
        if (json_is_null(member)) continue;
        mw_text_addf(out, "%s", separator);
        for (const char *c = name; *c; c++) mw_text_add(out, *c == '_' ? " " : c, 1);
        mw_text_addf(out, " ");
        add_plain(member, out);
        separator = ", ";
    }
    return separator[0] != '\0';
}

static bool add_device(const json_t *value, mw_text *out) {
    bool cpu = strcmp(json_string_value(value) ? json_string_value(value) : "cpu", "cpu") == 0;
    mw_text_addf(out, "%s", cpu ? "the CPU" : json_string_value(value));
    return true;
}

static const struct format {
    const char *name;
    bool (*add)(const json_t *, mw_text *); /* false: nothing to show */
} formats[] = {{"bytes", add_bytes},
               {"versions", add_versions},
               {"absent", add_absent},
               {"pairs", add_pairs},
               {"device", add_device}};

static bool add_formatted(const json_t *value, const char *name, mw_text *out) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0) return formats[i].add(value, out);
    return false;
}

static bool add_count(const json_t *value, const char *noun, mw_text *out) {
    if (!add_value(value, out)) return false;
    mw_text_addf(out, json_integer_value(value) == 1 ? " %s" : " %ss", noun);
    return true;
}

static bool add_choice(const json_t *value, const char *words, mw_text *out) {
    size_t first = strcspn(words, ":");
    if (!json_is_boolean(value)) return false;
    mw_text_addf(out, "%.*s", json_is_true(value) ? (int)first : 256, json_is_true(value) ? words : words + first + 1);
    return true;
}

/* ---- lines ------------------------------------------------------------------------------------------------- */

/* Adds one {...}; false: its value is unknown. */
static bool add_field(const json_t *facts, const char *field, size_t length, mw_text *out) {
    char path[128];
    if (length >= sizeof path) return false;
    memcpy(path, field, length);
    path[length] = '\0';
    char *rest = path + strcspn(path, "|#?"), kind = *rest;
    if (kind) *rest++ = '\0';
    const json_t *value = doctor_value(facts, path);
    switch (kind) {
    case '|':
        return add_formatted(value, rest, out);
    case '#':
        return add_count(value, rest, out);
    case '?':
        return add_choice(value, rest, out);
    default:
        return add_value(value, out);
    }
}

/* Adds a text up to `end`; false: a value outside of [ ] is unknown. */
static bool add_part(const json_t *facts, const char *text, const char *end, mw_text *out) {
    bool known = true;
    while (text < end) {
        size_t length = strcspn(text, "{[");
        if (text + length > end) length = (size_t)(end - text);
        mw_text_add(out, text, length);
        text += length;
        if (text == end) break;
        const char *close = strchr(text, *text == '{' ? '}' : ']');
        mw_text part = {0};
        bool all = *text == '{' ? add_field(facts, text + 1, (size_t)(close - text - 1), &part)
                                : add_part(facts, text + 1, close, &part);
        if (all)
            mw_text_add(out, part.data ? part.data : "", part.length);
        else if (*text == '{')
            mw_text_addf(out, "unknown");
        known &= all || *text == '[';
        out->failed |= part.failed;
        mw_text_free(&part);
        text = close + 1;
    }
    return known;
}

/* Returns how much of a text fits on a line: up to a comma or semicolon in its second half, else to a space, else one
 * word. */
static size_t fitting(const char *text, size_t room) {
    size_t length = strlen(text), space = 0, pause = 0;
    if (length <= room) return length;
    for (size_t i = 1; i <= room; i++) {
        if (text[i] != ' ') continue;
        space = i;
        if (strchr(",;", text[i - 1])) pause = i;
    }
    return pause > room / 2 ? pause : space ? space : strcspn(text, " ");
}

static void add_wrapped(const char *heading, const char *text, mw_text *out) {
    while (*text) {
        size_t length = fitting(text, WIDTH - INDENT);
        mw_text_addf(out, "%-*s%.*s\n", INDENT, heading, (int)length, text);
        heading = "";
        text += length;
        text += strspn(text, " ");
    }
}

/* Adds a line of the table; nothing if its text is empty. */
static void add_line(const struct line *line, const char *heading, const json_t *facts, mw_text *out) {
    mw_text text = {0};
    add_part(facts, line->text, line->text + strlen(line->text), &text);
    const char *shown = text.data ? text.data : "";
    add_wrapped(heading, shown + strspn(shown, ", "), out);
    out->failed |= text.failed;
    mw_text_free(&text);
}

/* Returns whether a line is shown: ranks one by one if they are few, hosts if they are many; neither for one rank,
 * which the other lines describe. */
static bool is_shown(const struct line *line, const json_t *facts) {
    double ranks = doctor_number(facts, "mpi.ranks");
    if (!line->each) return true;
    if (strcmp(line->each, "ranks") == 0) return ranks > 1 && ranks <= RANKS_SHOWN;
    if (strcmp(line->each, "hosts") == 0) return ranks > RANKS_SHOWN;
    return true;
}

static void add_ranks(const json_t *finding, double all, mw_text *out) {
    const json_t *ranks = doctor_value(finding, "ranks");
    size_t n = json_array_size(ranks);
    if (n == 0 || (double)n == all) return;
    mw_text_addf(out, n == 1 ? " (rank " : " (ranks ");
    for (size_t i = 0; i < n && i < RANKS_SHOWN; i++)
        mw_text_addf(out, "%s%lld", i ? ", " : "", (long long)json_integer_value(json_array_get(ranks, i)));
    mw_text_addf(out, n > RANKS_SHOWN ? ", and %zu more)" : ")", n - RANKS_SHOWN);
}

static void add_finding(const json_t *finding, double all, mw_text *out) {
    mw_text text = {0};
    add_text(&text, doctor_text(finding, "about"));
    mw_text_addf(&text, ": ");
    add_text(&text, doctor_text(finding, "text"));
    add_ranks(finding, all, &text);
    add_wrapped(doctor_is_problem(finding) ? "  problem" : "  note", text.data ? text.data : "", out);
    out->failed |= text.failed;
    mw_text_free(&text);
}

void doctor_show(const json_t *facts, mw_text *out) {
    const json_t *findings = doctor_value(facts, "findings"), *one;
    size_t i;
    for (size_t l = 0; l < sizeof lines / sizeof *lines; l++) {
        if (!is_shown(&lines[l], facts)) continue;
        if (!lines[l].each) add_line(&lines[l], lines[l].heading, facts, out);
        const json_t *list = lines[l].each ? doctor_value(facts, lines[l].each) : NULL;
        json_array_foreach((json_t *)(uintptr_t)list, i, one) add_line(&lines[l], lines[l].heading, one, out);
    }
    mw_text_addf(out, json_array_size(findings) ? "missing or doubtful:\n" : "nothing is missing\n");
    json_array_foreach((json_t *)(uintptr_t)findings, i, one) add_finding(one, doctor_number(facts, "mpi.ranks"), out);
}
