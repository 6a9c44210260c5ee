#include "experiment/sweep_run.h"

#include <stdio.h>
#include <string.h>

static const char *const rest[] = {"discover", "evaluate", "steer", NULL};

/* Without the other ranks nothing goes on, and a request to end is for all; anything else is one point's own trouble. */
static bool is_general(mw_status status) {
    return status == MW_ERR_COMM || status == MW_INTERRUPTED;
}

static void close_point(point_run *p) {
    if (p->opened) run_close(&p->r);
    p->opened = false;
}

void points_close(point_run *points, int64_t n) {
    for (int64_t i = 0; i < n && points; i++) {
        close_point(&points[i]);
        mw_experiment_free(&points[i].e);
    }
}

/* Of all that a point's stages do. */
static mw_status whole_mark(const run *r, char out[MW_SHA256_TEXT]) {
    static const char *const sections[] = {"sae", "train", "discover", "evaluate", "steer"};
    return run_fingerprint(r, sections, 5, "", out);
}

static mw_status open_point(point_run *p, const mw_comm *comm, bool overwrite) {
    MW_TRY(run_open(p->e, comm, overwrite, &p->r));
    p->opened = true;
    return training_plan(&p->r, &p->job);
}

static mw_status plan_point(const sweep *s, int64_t i, const mw_comm *comm, bool overwrite, point_run *p) {
    char mark[MW_SHA256_TEXT];
    *p = (point_run){.point = &s->points[i]};
    MW_TRY(mw_comm_agree(comm, sweep_experiment(s, i, &p->e)));
    if (!settings_has(p->e, "train"))
        return mw_error(MW_ERR_CONFIG, "%s:1: section 'train' is missing", p->e->document.file);
    mw_status status = open_point(p, comm, overwrite);
    if (status == MW_OK) status = mw_comm_agree(comm, whole_mark(&p->r, mark));
    if (status == MW_OK) p->finished = p->job.complete && strcmp(run_stage_mark(&p->r, "sweep"), mark) == 0;
    return status;
}

mw_status points_plan(const sweep *s, const mw_comm *comm, bool overwrite, point_run *points) {
    for (int64_t i = 0; i < s->n; i++) {
        points[i].status = plan_point(s, i, comm, overwrite, &points[i]);
        close_point(&points[i]); /* opened again by those who do it */
        if (is_general(points[i].status)) return points[i].status;
        if (points[i].status == MW_ERR_CONFIG) return points[i].status; /* the file is wrong: better told at once */
    }
    return MW_OK;
}

/* ---- training together --------------------------------------------------------------------------------- */

/* Points that read the same rows in the same order can share them. */
static mw_status shares_batches(const point_run *a, const point_run *b, bool *same) {
    char *sites_a = NULL, *sites_b = NULL;
    const train_settings *x = &a->e->train, *y = &b->e->train;
    mw_status status = settings_sites(a->e, &sites_a);
    if (status == MW_OK) status = settings_sites(b->e, &sites_b);
    *same = status == MW_OK && strcmp(sites_a, sites_b) == 0 && strcmp(a->e->sae.target, b->e->sae.target) == 0 &&
            x->batch == y->batch && x->order == y->order && x->shuffle == y->shuffle && x->nan == y->nan &&
            x->shuffle_block == y->shuffle_block && x->shuffle_window == y->shuffle_window;
    mw_free(sites_a);
    mw_free(sites_b);
    return status;
}

static mw_status bytes_of(const point_run *p, int ranks, double *out) {
    mw_sae_shape shape;
    int64_t width[MW_SITES_MAX];
    MW_TRY(training_shape(&p->r, &p->job.v, &shape, width));
    *out = (double)mw_training_bytes(&shape, &p->job.options, ranks);
    return MW_OK;
}

static mw_status can_join(const point_run *p, const point_run *first, double left, double *need, bool *joins) {
    *joins = true;
    MW_TRY(bytes_of(p, mw_comm_size(p->r.comm), need));
    if (!first) return MW_OK; /* one must go, whatever it takes */
    MW_TRY(shares_batches(first, p, joins));
    *joins = *joins && *need <= left;
    return MW_OK;
}

/* Whether a point takes part in this round; one that does not, and is not settled, waits for the next. */
static mw_status consider(point_run *p, const point_run *first, double left, double *need, const mw_comm *comm) {
    p->chosen = false;
    if (p->tried) return MW_OK;
    if (!p->opened) p->status = open_point(p, comm, false);
    if (p->status == MW_OK && !p->job.complete) p->status = can_join(p, first, left, need, &p->chosen);
    p->tried = p->status != MW_OK || p->job.complete || p->chosen;
    if (p->status != MW_OK || !p->tried) close_point(p);
    return is_general(p->status) ? p->status : MW_OK;
}

/* The first point that is left, and all that can be trained with it. */
static mw_status choose_round(point_run *const *points, int64_t n, double bytes, const mw_comm *comm, int64_t *count) {
    const point_run *first = NULL;
    *count = 0;
    for (int64_t i = 0; i < n; i++) {
        double need = 0;
        MW_TRY(consider(points[i], first, bytes, &need, comm));
        if (!points[i]->chosen) continue;
        bytes -= need;
        if (!first) first = points[i];
        ++*count;
    }
    return MW_OK;
}

/* The jobs of a round lie together; results go back to their points. */
static mw_status train_round(point_run *const *points, int64_t n, int64_t count, const mw_comm *comm) {
    const point_run *first = NULL;
    mw_training *jobs = mw_calloc((size_t)count, sizeof *jobs);
    int64_t have = 0;
    MW_TRY(mw_comm_agree(comm, jobs ? MW_OK : MW_ERR_MEMORY));
    mw_status status = MW_OK;
    for (int64_t i = 0; i < n && status == MW_OK; i++) {
        point_run *p = points[i];
        if (!p->chosen) continue;
        if (!first) status = training_verify(&p->r, &p->job);
        if (status == MW_OK) p->status = training_open(&p->r, &p->job, &jobs[have]);
        p->chosen = p->status == MW_OK && status == MW_OK;
        have += p->chosen;
        if (!first) first = p;
    }
    if (status == MW_OK && have > 0) status = mw_sae_train_many(jobs, have, &first->job.v.in, first->job.v.out, comm);
    for (int64_t i = 0, at = 0; i < n && status == MW_OK; i++)
        if (points[i]->chosen) points[i]->training = jobs[at++];
    mw_free(jobs);
    return status;
}

/* ---- and the rest by itself ------------------------------------------------------------------------------ */

/* What is open once serves all points in turn. */
static void lend(run *from, run *to) {
    to->backend = from->backend;
    to->model = from->model;
    to->tokenizer = from->tokenizer;
    to->dataset = from->dataset;
    from->backend = NULL;
    from->model = NULL;
    from->tokenizer = NULL;
    from->dataset = NULL;
}

static mw_status other_stages(point_run *p, run *base) {
    char mark[MW_SHA256_TEXT];
    lend(base, &p->r);
    mw_status status = run_stages(&p->r, rest);
    lend(&p->r, base);
    if (status == MW_OK) status = mw_comm_agree(p->r.comm, whole_mark(&p->r, mark));
    return status == MW_OK ? run_stage_done(&p->r, "sweep", mark) : status;
}

static mw_status finish_point(point_run *p, run *base) {
    if (p->status != MW_OK) return p->status;
    if (run_is_root(&p->r)) printf("-- point %s\n", p->point->name);
    if (p->chosen) MW_TRY(training_close(&p->r, &p->job, &p->training));
    return other_stages(p, base);
}

static mw_status finish_round(point_run *const *points, int64_t n, run *base) {
    for (int64_t i = 0; i < n; i++) {
        point_run *p = points[i];
        if (!p->opened) continue;
        p->status = finish_point(p, base);
        if (is_general(p->status)) return p->status;
        close_point(p);
    }
    return MW_OK;
}

/* A failure of all that were trained together, such as a damaged block, is one of each. */
static void blame(point_run *const *points, int64_t n, mw_status status) {
    for (int64_t i = 0; i < n; i++)
        if (points[i]->chosen) points[i]->status = status;
}

mw_status points_go(point_run *const *points, int64_t n, double bytes, run *base) {
    for (int64_t count = 0;;) {
        bool left = false;
        for (int64_t i = 0; i < n; i++) left = left || !points[i]->tried;
        if (!left) return MW_OK;
        MW_TRY(choose_round(points, n, bytes, base->comm, &count));
        mw_status status = count ? train_round(points, n, count, base->comm) : MW_OK;
        if (is_general(status)) return status;
        if (status != MW_OK) blame(points, n, status);
        MW_TRY(finish_round(points, n, base));
    }
}
