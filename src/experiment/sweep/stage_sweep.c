/* microw sweep: one harvest, then all points on teams of ranks, then the table of the finished ones. */
#include "experiment/sweep/sweep_run.h"
#include "experiment/sweep/sweep_table.h"

#include <stdio.h>
#include <string.h>

/* ---- teams ----------------------------------------------------------------------------------------------- */

/* Returns the least ranks of a team: the shards of an SAE. A team has a multiple of it. */
static int64_t team_unit(const sweep *s) {
    return s->base->train.options.shards > 1 ? s->base->train.options.shards : 1;
}

/* Returns the number of teams for `left` points. */
static int team_count(const sweep *s, int64_t left, int ranks) {
    int64_t wanted = s->teams == MW_AUTO_INT ? left : s->teams, most = ranks / team_unit(s);
    if (wanted > left) wanted = left;
    if (wanted > most) wanted = most;
    return wanted < 1 ? 1 : (int)wanted;
}

/* Returns the team of a rank. */
static int team_of(const sweep *s, int rank, int ranks, int teams) {
    int64_t units = ranks / team_unit(s), unit = rank / team_unit(s);
    return unit < units ? (int)(unit * teams / units) : teams - 1;
}

/* Half of the free memory: activations in the page cache need some too. */
static mw_status memory_of_rank(const sweep *s, const mw_comm *comm, double *out) {
    MW_TRY(mw_comm_free_memory(comm, out));
    if (s->memory_gb > 0)
        *out = s->memory_gb * 1e9;
    else
        *out = *out > 0 ? *out / 2 : 1e18; /* unknown: no limit */
    return MW_OK;
}

/* Without memory_gb, half of the free memory of a device that has its own: codes and lists of entries grow with the
 * data. */
static mw_status memory_of_device(const sweep *s, const experiment_run *base, double *out) {
    mw_backend *b = base->backend;
    double least = 0;
    if (b->ops->host_memory || s->memory_gb > 0) return MW_OK;
    MW_TRY(mw_comm_agree(base->comm, b->ops->free_memory(b, &least)));
    least = -least;
    MW_TRY(mw_comm_allreduce_max(base->comm, &least, 1));
    *out = -least / 2;
    return MW_OK;
}

static mw_status run_team(const sweep *s, point_run *const *points, int64_t n, double bytes, const mw_experiment *e,
                          const mw_comm *team) {
    experiment_run base;
    MW_TRY(run_open(e, team, NULL, &base));
    mw_status status = run_backend(&base);
    if (status == MW_OK) status = memory_of_device(s, &base, &bytes);
    if (status == MW_OK) status = points_run(points, n, bytes, &base);
    run_close(&base);
    return status;
}

/* Runs the points on teams: of T teams, team t takes the points t, t + T, ... The status of a point goes to all
 * ranks. */
static mw_status run_on_teams(const sweep *s, point_run *points, const mw_comm *comm) {
    point_run **own = mw_alloc((size_t)s->n * sizeof *own);
    mw_comm *team = NULL;
    int64_t left = 0, n = 0;
    double bytes;
    for (int64_t i = 0; i < s->n; i++) left += !points[i].finished && points[i].status == MW_OK;
    int teams = team_count(s, left, mw_comm_size(comm));
    int color = team_of(s, mw_comm_rank(comm), mw_comm_size(comm), teams);
    mw_status status = mw_comm_agree(comm, own ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = memory_of_rank(s, comm, &bytes);
    if (status == MW_OK) status = mw_comm_split(comm, color, &team);
    for (int64_t i = 0, at = 0; i < s->n && status == MW_OK; i++)
        if (!points[i].finished && points[i].status == MW_OK && at++ % teams == color) own[n++] = &points[i];
    if (status == MW_OK && n) status = run_team(s, own, n, bytes, s->base, team);
    mw_free(own);
    mw_comm_free(&team);
    status = mw_comm_agree(comm, status);
    for (int64_t i = 0; i < s->n && status == MW_OK; i++) points[i].status = mw_comm_agree(comm, points[i].status);
    return status;
}

/* ---- the command --------------------------------------------------------------------------------------- */

static mw_status report(const sweep *s, const point_run *points, const mw_comm *comm) {
    int64_t failed = 0;
    bool root = mw_comm_rank(comm) == 0;
    for (int64_t i = 0; i < s->n; i++) {
        if (points[i].status == MW_OK) continue;
        failed++;
        if (root) printf("point %s: %s\n", s->points[i].name, mw_status_text(points[i].status));
    }
    MW_TRY(mw_comm_agree(comm, root ? sweep_table(s) : MW_OK));
    if (!failed) return MW_OK;
    return mw_error(MW_ERR_STATE, "sweep: %lld of %lld points failed; run the same command to try them again",
                    (long long)failed, (long long)s->n);
}

static mw_status harvest_first(mw_experiment *e, const mw_comm *comm, const mw_run_options *options) {
    experiment_run base;
    if (!settings_has(e, "harvest")) return MW_OK;
    MW_TRY(settings_check_harvested(e));
    MW_TRY(run_open(e, comm, options, &base));
    mw_status status = stage_harvest(&base);
    run_close(&base);
    return status;
}

static mw_status run_all(mw_experiment *e, const sweep *s, const mw_comm *comm, const mw_run_options *options) {
    MW_TRY(harvest_first(e, comm, options));
    point_run *points = mw_calloc((size_t)s->n, sizeof *points);
    MW_TRY(mw_comm_agree(comm, points ? MW_OK : MW_ERR_MEMORY));
    mw_status status = points_plan(s, comm, options, points);
    if (status == MW_OK) status = run_on_teams(s, points, comm);
    if (status == MW_OK) status = report(s, points, comm);
    points_close(points, s->n);
    mw_free(points);
    return status;
}

static mw_status run_one(const sweep *s, int64_t index, const mw_comm *comm, const mw_run_options *options) {
    sweep only = *s;
    only.points = &s->points[index];
    only.n = 1;
    point_run point = {0}, *points[] = {&point};
    mw_status status = points_plan(&only, comm, options, &point);
    if (status == MW_OK) status = point.status;
    if (status == MW_OK && point.finished && mw_comm_rank(comm) == 0)
        printf("point %s: complete\n", s->points[index].name);
    if (status == MW_OK && !point.finished) status = run_team(&only, points, 1, 1e18, s->base, comm);
    if (status == MW_OK) status = point.status;
    points_close(&point, 1);
    return status;
}

/* Checks the keys of all points before the long harvest, so that their errors come first. */
static mw_status check_points(const sweep *s) {
    for (int64_t i = 0; i < s->n; i++) {
        mw_experiment *e = NULL;
        MW_TRY(sweep_experiment(s, i, &e));
        mw_status status = s->base->sae.activations.count ? MW_OK : settings_check_sites(e);
        if (status == MW_OK && !settings_has(e, "train"))
            status = mw_error(MW_ERR_CONFIG, "%s:1: section 'train' is missing", e->document.file);
        mw_experiment_free(&e);
        if (status != MW_OK) return status;
    }
    return MW_OK;
}

mw_status mw_sweep_run(mw_experiment *experiment, const mw_comm *comm, const mw_run_options *options,
                       const char *point) {
    sweep s = {0};
    int64_t index = 0;
    MW_TRY(settings_same(experiment, comm));
    mw_status status = sweep_read(experiment, &s);
    if (status == MW_OK && point) status = sweep_find(&s, point, &index);
    if (status == MW_OK) status = check_points(&s);
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = point ? run_one(&s, index, comm, options) : run_all(experiment, &s, comm, options);
    sweep_free(&s);
    return status;
}

mw_status mw_sweep_list(const mw_experiment *experiment) {
    sweep s = {0};
    mw_text line = {0};
    MW_TRY(sweep_read(experiment, &s));
    for (int64_t i = 0; i < s.n; i++) {
        const sweep_point *p = &s.points[i];
        line.length = 0;
        mw_text_addf(&line, "%lld %s", (long long)i, p->name);
        for (int64_t v = 0; v < p->n_values; v++) {
            mw_text_addf(&line, "  %s=", p->values[v].key);
            mw_node_text(p->values[v].node, &line);
        }
        if (!line.failed) printf("%s\n", line.data);
    }
    mw_status status = line.failed ? MW_ERR_MEMORY : MW_OK;
    mw_text_free(&line);
    sweep_free(&s);
    return status;
}

mw_status mw_sweep_table(const mw_experiment *experiment) {
    sweep s = {0};
    MW_TRY(sweep_read(experiment, &s));
    mw_status status = sweep_table(&s);
    sweep_free(&s);
    return status;
}
