/* The points that a team of ranks runs. */
#include "experiment/sweep/sweep_run.h"

#include <stdio.h>
#include <string.h>

/* Whether an error concerns all points: other ranks are lost, or an end is requested. */
static bool is_general(mw_status status) {
    return status == MW_ERR_COMM || status == MW_INTERRUPTED;
}

static void close_point(point_run *p) {
    if (p->opened) train_job_free(&p->job);
    if (p->opened) run_close(&p->r);
    p->opened = false;
}

void points_close(point_run *points, int64_t n) {
    for (int64_t i = 0; i < n && points; i++) {
        close_point(&points[i]);
        mw_experiment_free(&points[i].e);
    }
}

mw_status sweep_fingerprint(const mw_experiment *e, char out[MW_SHA256_TEXT]) {
    static const char *const sections[] = {"sae", "train", "discover", "evaluate", "steer"};
    const experiment_run r = {.e = e};
    stage_work w;
    mw_status status = stage_work_open(&r, &w, "sweep", mw_strdup(""), sections, 5, NULL, 0, NULL);
    if (status == MW_OK) memcpy(out, w.fingerprint, MW_SHA256_TEXT);
    stage_work_free(&w);
    return status;
}

static mw_status open_point(point_run *p, const mw_comm *comm, const mw_run_options *options) {
    MW_TRY(run_open(p->e, comm, options, &p->r));
    p->job = (train_job){0};
    p->opened = true;
    return train_job_plan(&p->r, &p->job);
}

/* Broadcasts what rank 0 reads in the manifest: another process may write it meanwhile. */
static mw_status is_finished(point_run *p, bool *out) {
    char fingerprint[MW_SHA256_TEXT];
    MW_TRY(mw_comm_agree(p->r.comm, sweep_fingerprint(p->e, fingerprint)));
    int64_t finished = p->job.complete && strcmp(run_stage_fingerprint(&p->r, "sweep"), fingerprint) == 0;
    MW_TRY(mw_comm_broadcast(p->r.comm, &finished, sizeof finished, 0));
    *out = finished != 0;
    return MW_OK;
}

static mw_status plan_point(const sweep *s, int64_t i, const mw_comm *comm, const mw_run_options *options,
                            point_run *p) {
    *p = (point_run){.point = &s->points[i], .options = options};
    MW_TRY(mw_comm_agree(comm, sweep_experiment(s, i, &p->e)));
    mw_status status = open_point(p, comm, options);
    return status == MW_OK ? is_finished(p, &p->finished) : status;
}

mw_status points_plan(const sweep *s, const mw_comm *comm, const mw_run_options *options, point_run *points) {
    for (int64_t i = 0; i < s->n; i++) {
        points[i].status = plan_point(s, i, comm, options, &points[i]);
        close_point(&points[i]); /* its team opens it again */
        if (is_general(points[i].status)) return points[i].status;
        if (points[i].status == MW_ERR_CONFIG) return points[i].status; /* an error of the file ends the sweep */
    }
    return MW_OK;
}

/* ---- training together --------------------------------------------------------------------------------- */

static bool same_sites(const mw_store_view *a, const mw_store_view *b) {
    bool same = a->n_sites == b->n_sites;
    for (int64_t i = 0; same && i < a->n_sites; i++) same = a->site[i].index == b->site[i].index;
    return same;
}

/* Whether two points can train on the same batches. All read the same harvests; sites and order may differ. */
static bool shares_batches(const train_job *a, const train_job *b) {
    return same_sites(&a->views.in, &b->views.in) && !a->views.out == !b->views.out &&
           same_sites(&a->views.target, &b->views.target) && mw_training_same_batches(&a->options, &b->options);
}

/* `need`: bytes of memory on a rank. */
static mw_status can_join(const point_run *p, const point_run *first, const experiment_run *base, double left,
                          double *need, bool *joins) {
    mw_sae_shape shape;
    int64_t part[MW_SITES_MAX];
    MW_TRY(train_job_shape(&p->job, p->e, part, &shape));
    *need =
        (double)mw_training_bytes(&shape, &p->job.options, mw_comm_size(p->r.comm), !base->backend->ops->host_memory);
    *joins = !first || (shares_batches(&first->job, &p->job) &&
                        *need <= left); /* the first is trained however much memory it needs */
    return MW_OK;
}

/* Decides whether a point joins this round. One that does not waits for the next round, unless it is complete or has
 * failed. */
static mw_status choose_point(point_run *p, const point_run *first, const experiment_run *base, double left,
                              double *need) {
    p->chosen = false;
    if (p->tried) return MW_OK;
    if (!p->opened) p->status = open_point(p, base->comm, p->options);
    if (p->status == MW_OK && !p->job.complete) p->status = can_join(p, first, base, left, need, &p->chosen);
    p->tried = p->status != MW_OK || p->job.complete || p->chosen;
    if (p->status != MW_OK || !p->tried) close_point(p);
    return is_general(p->status) ? p->status : MW_OK;
}

/* Chooses the first point that is left, and all that can be trained with it. */
static mw_status choose_round(point_run *const *points, int64_t n, double bytes, const experiment_run *base,
                              int64_t *count) {
    const point_run *first = NULL;
    *count = 0;
    for (int64_t i = 0; i < n; i++) {
        double need = 0;
        MW_TRY(choose_point(points[i], first, base, bytes, &need));
        if (!points[i]->chosen) continue;
        bytes -= need;
        if (!first) first = points[i];
        ++*count;
    }
    return MW_OK;
}

/* The jobs of a round lie together, on one device; results go back to their points. */
static mw_status train_round(point_run *const *points, int64_t n, int64_t count, const experiment_run *base) {
    const mw_comm *comm = base->comm;
    const point_run *first = NULL;
    mw_training *jobs = mw_calloc((size_t)count, sizeof *jobs);
    int64_t have = 0;
    MW_TRY(mw_comm_agree(comm, jobs ? MW_OK : MW_ERR_MEMORY));
    mw_status status = MW_OK;
    for (int64_t i = 0; i < n && status == MW_OK; i++) {
        point_run *p = points[i];
        if (!p->chosen) continue;
        p->r.backend = base->backend;
        p->r.borrowed = true;
        if (!first) status = train_job_verify(&p->r, &p->job);
        if (status == MW_OK) p->status = train_job_open(&p->r, &p->job, &jobs[have]);
        p->chosen = p->status == MW_OK && status == MW_OK && !p->job.complete;
        have += p->chosen;
        if (!first) first = p;
    }
    if (status == MW_OK && have > 0)
        status = mw_sae_train_many(jobs, have, &first->job.views.in, first->job.views.out, comm);
    for (int64_t i = 0, at = 0; i < n && status == MW_OK; i++)
        if (points[i]->chosen) points[i]->training = jobs[at++];
    mw_free(jobs);
    return status;
}

/* ---- the other stages ------------------------------------------------------------------------------------ */

/* Passes the open backend, model and texts from one run to the next. */
static void lend(experiment_run *from, experiment_run *to) {
    to->backend = from->backend; /* `to` has none, or has borrowed this one */
    to->borrowed = false;
    from->backend = NULL;
    to->model = from->model;
    to->tokenizer = from->tokenizer;
    to->dataset = from->dataset;
    from->model = NULL;
    from->tokenizer = NULL;
    from->dataset = NULL;
}

static mw_status run_other_stages(point_run *p, experiment_run *base) {
    char fingerprint[MW_SHA256_TEXT];
    lend(base, &p->r);
    int done = 0;
    mw_status status = run_stages(&p->r, "discover", &done);
    lend(&p->r, base);
    if (status == MW_OK) status = mw_comm_agree(p->r.comm, sweep_fingerprint(p->e, fingerprint));
    if (status == MW_OK && run_is_root(&p->r))
        status = manifest_put(&p->r, "sweep", "fingerprint", json_string(fingerprint));
    return mw_comm_agree(p->r.comm, status);
}

static mw_status finish_point(point_run *p, experiment_run *base) {
    if (p->status != MW_OK) return p->status;
    if (run_is_root(&p->r)) printf("-- point %s\n", p->point->name);
    if (p->chosen) MW_TRY(train_job_finish(&p->r, &p->job, &p->training));
    return run_other_stages(p, base);
}

static mw_status finish_round(point_run *const *points, int64_t n, experiment_run *base) {
    for (int64_t i = 0; i < n; i++) {
        point_run *p = points[i];
        if (!p->opened) continue;
        p->status = finish_point(p, base);
        if (is_general(p->status)) return p->status;
        close_point(p);
    }
    return MW_OK;
}

/* Sets the status of all points that were trained together: a damaged block, for instance, concerns each. */
static void set_status(point_run *const *points, int64_t n, mw_status status) {
    for (int64_t i = 0; i < n; i++)
        if (points[i]->chosen) points[i]->status = status;
}

mw_status points_run(point_run *const *points, int64_t n, double bytes, experiment_run *base) {
    for (int64_t count = 0;;) {
        bool left = false;
        for (int64_t i = 0; i < n; i++) left = left || !points[i]->tried;
        if (!left) return MW_OK;
        MW_TRY(choose_round(points, n, bytes, base, &count));
        mw_status status = count ? train_round(points, n, count, base) : MW_OK;
        if (is_general(status)) return status;
        if (status != MW_OK) set_status(points, n, status);
        MW_TRY(finish_round(points, n, base));
    }
}
