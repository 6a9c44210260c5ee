/* The verb doctor: gathers the facts of all ranks and prints one report. */
#include "cli/doctor.h"
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- exchange ---------------------------------------------------------------------------------------------- */

/* Returns the facts of a rank that all ranks need, with its findings. */
static json_t *summary_of(const json_t *facts, int rank) {
    static const char *const from[][2] = {{"host", "machine.host"},
                                          {"cpus", "machine.cpus"},
                                          {"cpus_allowed", "machine.cpus_allowed"},
                                          {"processors", "machine.processors"},
                                          {"cpu_quota", "machine.cpu_quota"},
                                          {"threads", "threads.openmp"},
                                          {"free_memory", "memory.free"}};
    json_t *o = json_object(), *findings = json_array();
    const char *device = doctor_text(facts, "gpus.auto");
    doctor_put(o, "rank", json_integer(rank));
    for (size_t i = 0; i < sizeof from / sizeof *from; i++)
        doctor_put(o, from[i][0], json_incref((json_t *)(uintptr_t)doctor_value(facts, from[i][1])));
    doctor_put(o, "gpus", json_integer((json_int_t)json_array_size(doctor_value(facts, "gpus.list"))));
    doctor_put(o, "uses_gpu", json_boolean(device && strcmp(device, "cpu") != 0));
    doctor_judge(facts, findings);
    doctor_put(o, "findings", findings);
    return o;
}

static mw_status parse_all(const char *all, const size_t *lengths, int size, json_t *ranks) {
    for (int r = 0; r < size; all += lengths[r++]) {
        json_t *one;
        MW_TRY(mw_json_parse("facts of a rank", all, lengths[r], &one));
        if (json_array_append_new(ranks, one) != 0) return MW_ERR_MEMORY;
    }
    return MW_OK;
}

static mw_status gather_texts(const mw_comm *world, const char *text, size_t *lengths, json_t *ranks) {
    size_t total = 0, length = strlen(text);
    MW_TRY(mw_comm_allgather(world, &length, sizeof length, lengths));
    for (int r = 0; r < mw_comm_size(world); r++) total += lengths[r];
    char *all = mw_alloc(total);
    mw_status status = mw_comm_agree(world, all ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = mw_comm_allgatherv(world, text, lengths, all);
    if (status == MW_OK) status = parse_all(all, lengths, mw_comm_size(world), ranks);
    mw_free(all);
    return status;
}

/* Gathers every rank's summary on all ranks. Collective. */
static mw_status gather(const mw_comm *world, const json_t *summary, json_t *ranks) {
    char *text = json_dumps(summary, JSON_COMPACT);
    size_t *lengths = mw_calloc((size_t)mw_comm_size(world), sizeof *lengths);
    mw_status status = lengths ? MW_OK : MW_ERR_MEMORY;
    if (!text) status = mw_error(MW_ERR_MEMORY, "out of memory for the facts");
    status = mw_comm_agree(world, status);
    if (status == MW_OK) status = gather_texts(world, text, lengths, ranks);
    mw_free(lengths);
    free(text);
    return status;
}

/* ---- one report -------------------------------------------------------------------------------------------- */

static json_t *find_equal(const json_t *all, const json_t *finding) {
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *one = json_array_get(all, i);
        if (strcmp(doctor_text(one, "about"), doctor_text(finding, "about")) == 0 &&
            strcmp(doctor_text(one, "text"), doctor_text(finding, "text")) == 0)
            return one;
    }
    return NULL;
}

/* Moves the findings of a rank to the common list: equal ones become one, with the numbers of its ranks. */
static void merge_findings(json_t *findings, json_t *rank) {
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(rank, "findings"), i, one) {
        json_t *equal = find_equal(findings, one);
        if (!equal) {
            doctor_add(findings, json_incref(one));
            doctor_put(equal = one, "ranks", json_array());
        }
        json_array_append(json_object_get(equal, "ranks"), json_object_get(rank, "rank"));
    }
    json_object_del(rank, "findings");
}

static void put_ranks(json_t *facts, const mw_comm *world, json_t *ranks) {
    json_t *hosts = json_array(), *findings = json_array(), *mpi = json_object_get(facts, "mpi");
    size_t i;
    json_t *rank;
    doctor_put(mpi, "started", json_boolean(mw_comm_mpi_handle(world) != NULL));
    doctor_put(mpi, "ranks", json_integer(mw_comm_size(world)));
    json_array_foreach(ranks, i, rank) merge_findings(findings, rank);
    doctor_judge_ranks(facts, ranks, hosts, findings);
    doctor_put(mpi, "hosts", json_integer((json_int_t)json_array_size(hosts)));
    doctor_put(facts, "ranks", json_incref(ranks));
    doctor_put(facts, "hosts", hosts);
    doctor_put(facts, "findings", findings);
}

static mw_status print_json(const json_t *facts) {
    char *text = json_dumps(facts, JSON_INDENT(2));
    if (text) puts(text);
    free(text);
    return text ? MW_OK : mw_error(MW_ERR_MEMORY, "out of memory for the facts");
}

static mw_status print_text(const json_t *facts) {
    mw_text text = {0};
    doctor_show(facts, &text);
    mw_status status = text.failed ? MW_ERR_MEMORY : MW_OK;
    if (status == MW_OK) fputs(text.data, stdout);
    mw_text_free(&text);
    return status;
}

/* Fails with the first problem, if there is one; the same on all ranks. */
static mw_status verdict(const json_t *facts) {
    const json_t *findings = doctor_value(facts, "findings"), *first = json_array_get(findings, 0);
    size_t n = doctor_problems(findings);
    if (n == 0) return MW_OK;
    return mw_error(MW_ERR_STATE, "%s: %s%s", doctor_text(first, "about"), doctor_text(first, "text"),
                    n > 1 ? " (and more, see above)" : "");
}

/* Returns whether another task prints the same report: tasks of srun that do not know of each other all would. */
static bool is_reported_by_another(const mw_comm *world) {
    const char *task = mw_environment(mw_environment("PMI_RANK") ? "PMI_RANK" : "SLURM_PROCID");
    return mw_comm_size(world) == 1 && task && strcmp(task, "0") != 0;
}

static mw_status report(const arguments *a, const mw_comm *world, json_t *facts, json_t *ranks) {
    bool silent = is_reported_by_another(world);
    put_ranks(facts, world, ranks);
    if (mw_comm_rank(world) == 0 && !silent) MW_TRY(argument(a, "--json") ? print_json(facts) : print_text(facts));
    mw_log_quiet(silent);
    mw_status status = verdict(facts);
    mw_log_quiet(false);
    return status;
}

mw_status verb_doctor(const arguments *a, mw_experiment *none, const mw_comm *world) {
    (void)none;
    const char *store = argument(a, "--store");
    json_t *facts = doctor_facts(store ? store : "."), *ranks = json_array();
    json_t *summary = summary_of(facts, mw_comm_rank(world));
    mw_status status = gather(world, summary, ranks);
    if (status == MW_OK) status = report(a, world, facts, ranks);
    json_decref(summary);
    json_decref(ranks);
    json_decref(facts);
    return mw_comm_agree(world, status);
}
