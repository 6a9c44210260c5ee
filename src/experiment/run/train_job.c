/* Stage train: plans a training, makes its SAE, and finishes the stage. */
#include "experiment/run/train_job.h"

#include <stdio.h>
#include <string.h>

/* Records in the SAE what it is trained on. */
static mw_status set_labels(mw_sae *sae, const mw_experiment *e) {
    char *sites = NULL;
    MW_TRY(settings_sites(e, &sites));
    mw_status status = mw_put_text(&sae->site, sites);
    mw_free(sites);
    if (status == MW_OK) status = mw_put_text(&sae->target, e->sae.target);
    return status == MW_OK ? mw_put_text(&sae->model, e->given->model.path) : status;
}

mw_status train_job_shape(const train_job *job, const mw_experiment *e, int64_t part[MW_SITES_MAX], mw_sae_shape *out) {
    const mw_store_view *target = site_views_target(&job->views);
    for (int64_t i = 0; i < target->n_sites; i++) part[i] = target->site[i].width;
    return settings_sae_shape(e, job->views.in.width, job->views.out != NULL, part, target->n_sites, out);
}

static mw_status new_sae(experiment_run *r, const train_job *job) {
    mw_sae_shape shape;
    int64_t part[MW_SITES_MAX];
    mw_sae_free(&r->sae);
    mw_status status = train_job_shape(job, r->e, part, &shape);
    if (status == MW_OK) status = run_sae_backend(r);
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(mw_sae_new_shard(r->sae_backend, &shape, r->comm, job->options.shards, &r->sae));
    return mw_comm_agree(r->comm, set_labels(r->sae, r->e));
}

/* ---- the stage ------------------------------------------------------------------------------------------- */

/* Reads the fingerprint of the SAE in a folder, after all of its files: weights must be whole, and match their
 * configuration. */
static mw_status read_record(const char *output, json_t **out) {
    mw_backend *backend = NULL;
    mw_sae *sae = NULL;
    char *folder = mw_path_directory(output);
    mw_status status = folder ? mw_backend_open("cpu", &backend) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_sae_load(folder, backend, &sae);
    json_t *record = status == MW_OK ? json_pack("{s:s}", "fingerprint", sae->fingerprint) : NULL;
    mw_sae_free(&sae);
    mw_backend_close(&backend);
    mw_free(folder);
    if (status == MW_OK && !record) status = MW_ERR_MEMORY;
    if (status == MW_OK) *out = record;
    return status;
}

static mw_status open_work(experiment_run *r, stage_work *w) {
    static const char *const sections[] = {"sae", "train"};
    char *activations = NULL;
    MW_TRY(mw_store_provenance(r->store, "fingerprint", &activations));
    mw_status status = stage_work_open(r, w, "train", mw_path_join(r->sae_folder, "sae.safetensors"), sections, 2,
                                       &(mw_pair){"activations", activations}, 1, read_record);
    mw_free(activations);
    return status;
}

/* Finishes a training that was killed after its SAE was complete: names of its files, checkpoints that are no longer
 * needed. */
static mw_status settle_files(const experiment_run *r, const stage_work *w) {
    mw_lock lock = {0};
    char *partial = mw_format("%s/training_history.json.%.8s.partial", r->sae_folder, w->fingerprint);
    mw_status status = partial ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mw_file_exists(partial)) {
        status = mw_lock_take(w->output, 0, r->steal_lock, &lock);
        if (status == MW_OK) status = mw_training_settle(r->sae_folder, w->fingerprint);
        mw_lock_release(&lock);
    }
    mw_free(partial);
    return status;
}

static mw_status set_options(const experiment_run *r, train_job *job) {
    mw_sae_shape shape;
    int64_t part[MW_SITES_MAX];
    MW_TRY(train_job_shape(job, r->e, part, &shape));
    job->options = settings_training(r->e, &shape, job->work.fingerprint);
    return MW_OK;
}

mw_status train_job_plan(experiment_run *r, train_job *job) {
    *job = (train_job){0};
    MW_TRY(run_site_views(r, &job->views));
    mw_status status = mw_comm_agree(r->comm, open_work(r, &job->work));
    if (status == MW_OK) status = stage_work_check(r, &job->work);
    if (status == MW_OK) status = mw_comm_agree(r->comm, set_options(r, job));
    job->complete = job->work.complete;
    if (status == MW_OK && job->complete)
        status = mw_comm_agree(r->comm, run_is_root(r) ? settle_files(r, &job->work) : MW_OK);
    if (status == MW_OK && job->complete && run_is_root(r)) printf("train: complete, %s\n", job->work.output);
    return status;
}

void train_job_free(train_job *job) {
    stage_work_free(&job->work);
}

mw_status train_job_verify(const experiment_run *r, const train_job *job) {
    if (!r->e->train.verify) return MW_OK;
    MW_TRY(mw_store_view_verify(&job->views.in, r->comm));
    return job->views.out ? mw_store_view_verify(job->views.out, r->comm) : MW_OK;
}

/* Bytes of the weights, and of checkpoints, which hold both moments of Adam too; one more exists while it is
 * written. */
static double bytes_written(const mw_sae *sae, const mw_train_options *o) {
    double weights = 4.0 * (double)sae->shard.total * (double)(sae->d + sae->d_out + 1);
    double saved = 3 + (o->ema > 0), kept = (double)o->keep_checkpoints + 1;
    bool saves = o->checkpoint_every > 0 || o->checkpoint_minutes > 0;
    return weights + (saves ? saved * kept * weights : 0);
}

/* Refuses to replace checkpoints of other settings: they are an unfinished training. */
static mw_status check_unfinished(const experiment_run *r, const stage_work *w) {
    mw_checkpoint_info c;
    char *path = NULL;
    MW_TRY(mw_checkpoint_newest(r->sae_folder, &path));
    mw_log_quiet(true);
    bool other =
        path && !r->overwrite && mw_checkpoint_head(path, &c) == MW_OK && strcmp(c.fingerprint, w->fingerprint) != 0;
    mw_log_quiet(false);
    mw_status status = MW_OK;
    if (other)
        status = mw_error(
            MW_ERR_STATE,
            "%s belongs to an unfinished training (step %lld) with other settings or activations: give the experiment "
            "another name (--set name=...), or pass --overwrite",
            path, (long long)c.step);
    mw_free(path);
    return status;
}

static void note_replaced(const experiment_run *r, train_job *job) {
    json_t *config = mw_json_load_optional(r->sae_folder, "cfg.json");
    const char *fingerprint = mw_json_text(config, "fingerprint");
    snprintf(job->replaced, sizeof job->replaced, "%s", fingerprint ? fingerprint : config ? "before" : "");
    json_decref(config);
}

/* Renames names.csv: it names latents of the SAE that is replaced. */
static mw_status set_names_aside(void *self) {
    const train_job *job = self;
    bool replaces = job->replaced[0] && strcmp(job->replaced, job->work.fingerprint) != 0;
    return replaces ? mw_names_set_aside(job->folder, job->replaced) : MW_OK;
}

static mw_status begin_work(experiment_run *r, train_job *job) {
    MW_TRY(stage_work_begin(r, &job->work));
    job->complete = job->work.complete;
    if (job->complete) return MW_OK;
    MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? check_unfinished(r, &job->work) : MW_OK));
    note_replaced(r, job);
    job->folder = r->sae_folder;
    job->options.before_save = set_names_aside;
    job->options.before_save_self = job;
    job->options.fingerprint = job->work.fingerprint; /* the job may have been moved since */
    job->options.lock = &job->work.lock;
    return MW_OK;
}

mw_status train_job_open(experiment_run *r, train_job *job, mw_training *out) {
    MW_TRY(run_backend(r));
    job->options.device = r->backend;
    MW_TRY(begin_work(r, job));
    if (job->complete) return MW_OK;
    mw_status status = new_sae(r, job);
    if (status == MW_OK) status = mw_put_text(&r->sae->fingerprint, job->work.fingerprint);
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(run_check_room(r, bytes_written(r->sae, &job->options), "the weights and checkpoints"));
    *out = (mw_training){.sae = r->sae, .options = &job->options, .folder = r->sae_folder};
    return MW_OK;
}

static mw_status print_result(const experiment_run *r, const train_job *job, const mw_training *done) {
    mw_text what = {0};
    const mw_step_report *last = &done->last;
    double rows = (double)(last->steps * job->options.batch), seconds = done->seconds > 0 ? done->seconds : 1;
    mw_status status = mw_sae_describe(r->sae, &what);
    if (status == MW_OK)
        printf("train: %s: FVU %s, explained variance %s, L0 %.1f, dead %.2f %% in %s (%.1f s, %.0f tokens/s, "
               "%.0f %% of the time waiting for rows)\n",
               what.data, mw_show(last->fvu, 4).text, mw_show(last->explained_variance, 4).text, last->l0,
               100.0 * (double)last->dead / (double)r->sae->shard.total, r->sae_folder, done->seconds, rows / seconds,
               100 * done->waiting / seconds);
    fflush(stdout);
    mw_text_free(&what);
    return status;
}

mw_status train_job_finish(experiment_run *r, train_job *job, const mw_training *done) {
    if (done->status != MW_OK) return done->status;
    MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? print_result(r, job, done) : MW_OK));
    if (r->sae->shard.peers) mw_sae_free(&r->sae); /* the next stage loads all shards */
    return stage_work_finish(r, &job->work);
}
