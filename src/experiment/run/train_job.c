#include "experiment/run/train_job.h"

#include <stdio.h>
#include <string.h>

static mw_status label(mw_sae *sae, const mw_experiment *e) {
    char *sites = NULL;
    MW_TRY(settings_sites(e, &sites));
    mw_status status = mw_put_text(&sae->site, sites);
    mw_free(sites);
    if (status == MW_OK) status = mw_put_text(&sae->target, e->sae.target);
    return status == MW_OK ? mw_put_text(&sae->model, e->given->model.path) : status;
}

mw_status training_shape(const mw_experiment *e, int64_t d, bool transcoder, const int64_t *part, int64_t n_targets,
                         mw_sae_shape *out) {
    const sae_settings *s = &e->sae;
    int64_t made = 0;
    for (int64_t i = 0; i < n_targets; i++) made += part[i];
    *out = (mw_sae_shape){.variant = settings_variant(e),
                          .n = s->n_latents == MW_AUTO_INT ? 8 * d : s->n_latents,
                          .d = d,
                          .k = s->k,
                          .d_out = transcoder ? made : 0,
                          .skip = s->skip,
                          .n_groups = s->groups.count,
                          .group = s->groups.items,
                          .n_targets = n_targets,
                          .target_width = part};
    return mw_sae_check(out);
}

mw_status training_shape_of(const train_job *job, const mw_experiment *e, int64_t part[MW_SITES_MAX],
                            mw_sae_shape *out) {
    const mw_store_view *made = rebuilt(&job->v);
    for (int64_t i = 0; i < made->n_sites; i++) part[i] = made->site[i].width;
    return training_shape(e, job->v.in.width, job->v.out != NULL, part, made->n_sites, out);
}

static mw_status new_sae(run *r, const train_job *job) {
    mw_sae_shape shape;
    int64_t part[MW_SITES_MAX];
    mw_sae_free(&r->sae);
    mw_status status = training_shape_of(job, r->e, part, &shape);
    if (status == MW_OK) status = run_sae_backend(r);
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(mw_sae_new_shard(r->sae_backend, &shape, r->comm, job->options.shards, &r->sae));
    return mw_comm_agree(r->comm, label(r->sae, r->e));
}

/* ---- the stage ------------------------------------------------------------------------------------------- */

/* What the SAE that is there says of itself. Its weights must be whole, and those that its configuration is of. */
static mw_status own_record(const char *output, json_t **out) {
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

static mw_status describe(run *r, work *w) {
    static const char *const sections[] = {"sae", "train"};
    char *activations = NULL;
    MW_TRY(mw_store_provenance(r->store, "fingerprint", &activations));
    mw_status status = work_new(r, w, "train", mw_path_join(r->sae_folder, "sae.safetensors"), sections, 2,
                                &(mw_pair){"activations", activations}, 1, own_record);
    mw_free(activations);
    return status;
}

/* A training may have been ended when its SAE was complete, and its record was not. */
static mw_status settle(const run *r, const work *w) {
    mw_lock lock = {0};
    char *left = mw_format("%s/training_history.json.%.8s.partial", r->sae_folder, w->fingerprint);
    mw_status status = left ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mw_file_exists(left)) {
        status = mw_lock_take(w->output, 0, r->steal_lock, &lock);
        if (status == MW_OK) status = mw_training_settle(r->sae_folder, w->fingerprint);
        mw_lock_release(&lock);
    }
    mw_free(left);
    return status;
}

mw_status training_plan(run *r, train_job *job) {
    *job = (train_job){0};
    MW_TRY(run_views(r, &job->v));
    mw_status status = mw_comm_agree(r->comm, describe(r, &job->w));
    if (status == MW_OK) status = work_look(r, &job->w);
    job->options = settings_training(r->e, job->v.in.width, job->w.fingerprint);
    job->complete = job->w.complete;
    if (status == MW_OK && job->complete) status = mw_comm_agree(r->comm, run_is_root(r) ? settle(r, &job->w) : MW_OK);
    if (status == MW_OK && job->complete && run_is_root(r)) printf("train: complete, %s\n", job->w.output);
    return status;
}

void training_free(train_job *job) {
    work_free(&job->w);
}

mw_status training_verify(const run *r, const train_job *job) {
    if (!r->e->train.verify) return MW_OK;
    MW_TRY(mw_store_view_verify(&job->v.in, r->comm));
    return job->v.out ? mw_store_view_verify(job->v.out, r->comm) : MW_OK;
}

/* The weights, and checkpoints of them with both moments of Adam, of which one more is there while it is written. */
static double bytes_written(const mw_sae *sae, const mw_train_options *o) {
    double weights = 4.0 * (double)sae->shard.total * (double)(sae->d + sae->d_out + 1);
    double saved = 3 + (o->ema > 0), kept = (double)o->keep_checkpoints + 1;
    bool saves = o->checkpoint_every > 0 || o->checkpoint_minutes > 0;
    return weights + (saves ? saved * kept * weights : 0);
}

/* Checkpoints of other settings are an unfinished training that somebody may want back. */
static mw_status look_for_unfinished(const run *r, const work *w) {
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
            "%s is of a training with other settings or activations, which is not finished (step %lld): give the "
            "experiment another name (--set name=...), or pass --overwrite",
            path, (long long)c.step);
    mw_free(path);
    return status;
}

static void note_former(const run *r, train_job *job) {
    json_t *config = mw_json_load_optional(r->sae_folder, "cfg.json");
    const char *mark = mw_json_text(config, "fingerprint");
    snprintf(job->former, sizeof job->former, "%s", mark ? mark : config ? "before" : "");
    json_decref(config);
}

/* They mean latents of the SAE that is replaced. */
static mw_status set_names_aside(void *self) {
    const train_job *job = self;
    bool replaces = job->former[0] && strcmp(job->former, job->w.fingerprint) != 0;
    return replaces ? mw_names_set_aside(job->folder, job->former) : MW_OK;
}

static mw_status begin(run *r, train_job *job) {
    MW_TRY(work_begin(r, &job->w));
    job->complete = job->w.complete;
    if (job->complete) return MW_OK;
    MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? look_for_unfinished(r, &job->w) : MW_OK));
    note_former(r, job);
    job->folder = r->sae_folder;
    job->options.before_save = set_names_aside;
    job->options.before_save_self = job;
    job->options.fingerprint = job->w.fingerprint; /* the job may have been moved since */
    job->options.lock = &job->w.lock;
    return MW_OK;
}

mw_status training_open(run *r, train_job *job, mw_training *out) {
    MW_TRY(run_backend(r));
    job->options.device = r->backend;
    MW_TRY(begin(r, job));
    if (job->complete) return MW_OK;
    mw_status status = new_sae(r, job);
    if (status == MW_OK) status = mw_put_text(&r->sae->fingerprint, job->w.fingerprint);
    MW_TRY(mw_comm_agree(r->comm, status));
    MW_TRY(run_room(r, bytes_written(r->sae, &job->options), "the weights and checkpoints"));
    *out = (mw_training){.sae = r->sae, .options = &job->options, .folder = r->sae_folder};
    return MW_OK;
}

static mw_status print_result(const run *r, const train_job *job, const mw_training *done) {
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

mw_status training_close(run *r, train_job *job, const mw_training *done) {
    if (done->status != MW_OK) return done->status;
    MW_TRY(mw_comm_agree(r->comm, run_is_root(r) ? print_result(r, job, done) : MW_OK));
    if (r->sae->shard.peers) mw_sae_free(&r->sae); /* who uses it next reads all of it */
    return work_done(r, &job->w);
}
