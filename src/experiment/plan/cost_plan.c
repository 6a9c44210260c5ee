/* microw plan: predicts the memory, disk space and time of an experiment at any number of ranks. */
#include "experiment/plan/rates.h"
#include "experiment/run/train_job.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the job ----------------------------------------------------------------------------------------------- */

typedef struct plan_job {
    const mw_experiment *e;
    mw_model *model; /* without weights */
    int64_t tokens;  /* of the dataset */
    const char *tokens_from;
    int64_t site_width; /* of all harvested sites together */
    int last_layer;     /* the last one with a harvested site */
    size_t stored;      /* bytes of a stored number */
    mw_sae_shape shape;
    int64_t part[MW_SITES_MAX];
    mw_train_options options;
    bool own_memory; /* devices from data sheets have their own */
} plan_job;

static mw_status width_of_site(const plan_job *j, const char *name, int64_t *out, int *layer) {
    mw_site site;
    MW_TRY(mw_site_parse(name, &site));
    *out = mw_model_site_width(j->model, site);
    if (layer && site.layer > *layer) *layer = site.layer;
    return *out ? MW_OK : mw_error(MW_ERR_CONFIG, "site %s is not in this model", name);
}

static mw_status add_sites(const plan_job *j, const char *list, int64_t *sum, int64_t *parts, int64_t *count) {
    char name[64];
    for (const char *p = list; *p; p += *p == ',') {
        size_t length = strcspn(p, ",");
        int64_t width;
        if (length >= sizeof name || *count == MW_SITES_MAX)
            return mw_error(MW_ERR_CONFIG, "sites '%s': too long", list);
        memcpy(name, p, length);
        name[length] = '\0';
        MW_TRY(width_of_site(j, name, &width, NULL));
        parts[(*count)++] = width;
        *sum += width;
        p += length;
    }
    return MW_OK;
}

static mw_status count_tokens(plan_job *j, int64_t given) {
    const dataset_settings *d = &j->e->dataset;
    j->tokens = given;
    j->tokens_from = "--tokens";
    if (given > 0) return MW_OK;
    j->tokens = d->options.limit_tokens;
    j->tokens_from = "dataset.limit_tokens";
    if (j->tokens > 0) return MW_OK;
    uint64_t bytes = 0, one = 0;
    for (int64_t i = 0; i < d->path.count; i++)
        if (mw_file_exists(d->path.items[i]) && mw_file_size(d->path.items[i], &one) == MW_OK) bytes += one;
    j->tokens = (int64_t)(bytes / 4);
    j->tokens_from = "one token per 4 bytes of dataset.path";
    return j->tokens ? MW_OK
                     : mw_error(MW_ERR_CONFIG,
                                "unknown number of tokens: give --tokens, or dataset.limit_tokens in the file");
}

static mw_status read_sae(plan_job *j) {
    const char *target = j->e->sae.target;
    char *sites = NULL;
    int64_t d = 0, out = 0, count = 0;
    MW_TRY(settings_sites(j->e, &sites));
    mw_status status = add_sites(j, sites, &d, j->part, &count);
    mw_free(sites);
    bool transcoder = target && target[0];
    if (transcoder) count = 0;
    if (status == MW_OK && transcoder) status = add_sites(j, target, &out, j->part, &count);
    if (status != MW_OK) return status;
    MW_TRY(settings_sae_shape(j->e, d, transcoder, j->part, count, &j->shape));
    j->options = settings_training(j->e, &j->shape, NULL);
    return MW_OK;
}

static mw_status read_job(const mw_experiment *e, int64_t tokens, plan_job *j) {
    *j = (plan_job){.e = e, .stored = mw_dtype_size(e->harvest.options.dtype)};
    MW_TRY(mw_model_outline(e->model.path, &j->model));
    MW_TRY(count_tokens(j, tokens));
    for (int64_t i = 0; i < e->harvest.sites.count; i++) {
        int64_t width;
        MW_TRY(width_of_site(j, e->harvest.sites.items[i], &width, &j->last_layer));
        j->site_width += width;
    }
    return settings_has(e, "sae") || settings_has(e, "train") ? read_sae(j) : MW_OK;
}

/* ---- the costs ----------------------------------------------------------------------------------------- */

typedef struct machine {
    int ranks, nodes;
} machine;

/* A run takes longer than the sum of the parts below, by these factors, measured by tools/check_plan.sh. */
static const double harvest_factor = 1.25, train_factor = 1.18;

static double smaller(double a, double b) {
    return a < b ? a : b;
}

/* Seconds of an allgather of so many bytes in all: rings through every rank, and through every port of a node. */
static double gather_seconds(const rates *r, machine p, double bytes) {
    if (p.ranks == 1) return 0;
    double each = (double)p.ranks / p.nodes, rate = p.nodes > 1 ? smaller(r->inside, each * r->between) : r->inside;
    return bytes * (p.ranks - 1) / p.ranks / rate + r->latency * ceil(log2(p.ranks));
}

static double numbers_of_sae(const mw_sae_shape *s) {
    return (double)s->n * (double)(s->d + (s->d_out ? s->d_out : s->d));
}

static double weight_bytes(const plan_job *j) {
    int dtype = j->e->model.dtype;
    size_t each = mw_dtype_size(dtype == MODEL_DTYPE_AUTO ? MW_F32 : (mw_dtype)dtype);
    return (double)mw_model_about(j->model)->parameters * (double)each;
}

/* Matrix products of the layers up to the last site, and half of the squared context for attention. */
static double harvest_seconds(const plan_job *j, const rates *r, machine p, bool *by_disk) {
    const mw_model_info *m = mw_model_about(j->model);
    double layers = j->last_layer + 1, embed = (double)(m->vocab * m->d_model);
    double each = 2 * ((double)m->parameters - embed) / (double)m->n_layers * layers;
    double scores = 2 * layers * (double)(j->e->dataset.options.context * m->n_heads * m->head_dim);
    double compute = harvest_factor * (double)j->tokens * (each / r->matmul + scores / r->attention) / p.ranks;
    double disk = (double)j->tokens * (double)j->site_width * (double)j->stored / (r->disk_write * p.nodes);
    *by_disk = disk > compute;
    return *by_disk ? disk : compute; /* computing and writing overlap */
}

typedef struct step_cost {
    double encode, select, sparse, update, passes, gather, read;
} step_cost;

static double total(const step_cost *c) {
    return train_factor * (c->encode + c->select + c->sparse + c->update + c->passes + c->gather + c->read);
}

/* Returns the number of shards, or 1 if the ranks are no multiple of it. */
static int shards_at(const plan_job *j, machine p) {
    int64_t shards = j->options.shards > 1 ? j->options.shards : 1;
    return p.ranks % shards == 0 ? (int)shards : 1;
}

/* Returns the group of ranks that share the rows of a batch. */
static machine group_at(const plan_job *j, machine p) {
    int ranks = p.ranks / shards_at(j, p), each = (p.ranks + p.nodes - 1) / p.nodes;
    return (machine){ranks, (ranks + each - 1) / each};
}

/* Between shards: an exchange of candidates, then of reconstructions, which are passed along and then sent to all. */
static double shards_seconds(const plan_job *j, const rates *r, machine p, double rows, double active, double out) {
    machine across = {shards_at(j, p), p.nodes < shards_at(j, p) ? p.nodes : shards_at(j, p)};
    return gather_seconds(r, across, rows * active * 4 * across.ranks) + 2 * gather_seconds(r, across, rows * out * 4);
}

/* A step as trainer.h describes it: each rank encodes its rows; codes, inputs and residuals are gathered; each rank
 * updates its latents, which are gathered too. */
static step_cost cost_of_step(const plan_job *j, const rates *r, machine p) {
    const mw_sae_shape *s = &j->shape;
    double batch = (double)j->options.batch, n = (double)s->n, d = (double)s->d;
    double out = (double)(s->d_out ? s->d_out : s->d), active = mw_variant_uses_k(s->variant) ? (double)s->k : n / 64;
    machine group = group_at(j, p);
    double ranks = p.ranks, shards = shards_at(j, p), weights = numbers_of_sae(s);
    step_cost c = {0};
    c.encode = 2 * batch * n * d / r->matmul / ranks;
    c.select = batch * n / r->select / ranks;
    /* decoding, products with the residuals, and the gradients of both matrices */
    c.sparse = 2 * batch * active * (3 * out + d) / r->sparse / ranks;
    c.update = weights / r->adam / ranks;
    c.passes = 10 * batch * (d + out) / 2 / r->passes / group.ranks;
    /* beside the messages with codes, inputs and residuals, and with weights: AuxK's two, numbers, sums over latents */
    static const double small_messages = 4;
    double code = (n > 65536 ? 4 : 2) + 4;
    c.gather = gather_seconds(r, group, batch * (active * code / shards + (d + out) * 4)) +
               gather_seconds(r, group, weights * 4 / shards) +
               shards_seconds(j, r, p, batch / group.ranks, active, out) + small_messages * gather_seconds(r, p, 0);
    static const double call = 5e-7; /* seconds to read a row from the page cache */
    c.read = (j->e->train.by_blocks ? 0 : batch * call / ranks) +
             batch * (double)j->stored * (d + (s->d_out ? out : 0)) / (r->disk_read * p.nodes);
    return c;
}

static double harvest_memory(const plan_job *j) {
    const mw_model_info *m = mw_model_about(j->model);
    double rows = (double)(j->e->dataset.batch * j->e->dataset.options.context), width = (double)j->site_width;
    double pass = rows * 4 * (double)(6 * m->d_model + 2 * m->d_mlp);
    if (m->dtype == MW_BF16) pass += rows * 2 * (double)m->d_mlp; /* rows rounded for products */
    return weight_bytes(j) + 3 * rows * width * (double)j->stored + pass +
           (double)j->tokens * 17; /* ids, and the origin of rows */
}

static double train_memory(const plan_job *j, machine p) {
    const mw_train_options *o = &j->options;
    double width = (double)(j->shape.d + j->shape.d_out), rows = (double)o->batch / group_at(j, p).ranks;
    double windows = o->shuffle_block ? rows / MW_ROW_TILE * (double)(o->shuffle_block * o->shuffle_window) * width *
                                            (double)j->stored
                                      : 0;
    mw_train_options options = *o;
    options.shards = shards_at(j, p);
    return (double)mw_training_bytes(&j->shape, &options, p.ranks, j->own_memory) + 2 * rows * width * 4 + windows;
}

/* ---- printing ------------------------------------------------------------------------------------------ */

static void print_job(const plan_job *j) {
    const mw_model_info *m = mw_model_about(j->model);
    printf("model      %s: %lld layers, width %lld, %.4g M parameters\n", m->family, (long long)m->n_layers,
           (long long)m->d_model, (double)m->parameters / 1e6);
    printf("dataset    %lld tokens (%s), context %lld\n", (long long)j->tokens, j->tokens_from,
           (long long)j->e->dataset.options.context);
    if (j->site_width)
        printf("harvest    %lld sites, %lld wide, %zu bytes a number: %.4g GB on disk, %.3g GB of memory a rank\n",
               (long long)j->e->harvest.sites.count, (long long)j->site_width, j->stored,
               (double)j->tokens * ((double)j->site_width * (double)j->stored + 12) / 1e9, harvest_memory(j) / 1e9);
    if (!j->options.batch) return;
    double weights = 4 * numbers_of_sae(&j->shape);
    printf(
        "train      %s, %lld latents, width %lld: %lld steps of %lld; SAE %.3g GB, a checkpoint %.3g GB, %lld kept\n",
        mw_variant_name(j->shape.variant), (long long)j->shape.n, (long long)j->shape.d, (long long)j->options.steps,
        (long long)j->options.batch, weights / 1e9, (3 + (j->options.ema > 0)) * weights / 1e9,
        (long long)j->options.keep_checkpoints);
}

static void print_row(const plan_job *j, const rates *r, machine p, double alone) {
    printf("%6d %6d", p.ranks, p.nodes);
    if (j->site_width) {
        bool by_disk;
        double seconds = harvest_seconds(j, r, p, &by_disk);
        printf(" %12.4g %9.3g%s", (double)j->tokens / seconds, seconds / 3600, by_disk ? " disk" : "     ");
    }
    if (j->options.batch) {
        step_cost c = cost_of_step(j, r, p);
        double step = total(&c), memory = train_memory(j, p);
        printf(" %10.4g %10.4g %9.3g %6.0f %% %5.0f %% %8.3g%s", step * 1e3, (double)j->options.batch / step,
               step * (double)j->options.steps / 3600, 100 * alone / step / p.ranks, 100 * c.gather / step,
               memory / 1e9, r->memory > 0 && memory > r->memory ? " !" : "");
    }
    printf("\n");
}

static void print_parts(const plan_job *j, const rates *r, machine p) {
    step_cost c = cost_of_step(j, r, p);
    printf("a step at %d rank%s: encoder %.3g ms, top-k %.3g, sparse %.3g, update %.3g, passes %.3g, gathers %.3g, "
           "reading %.3g\n",
           p.ranks, p.ranks > 1 ? "s" : "", c.encode * 1e3, c.select * 1e3, c.sparse * 1e3, c.update * 1e3,
           c.passes * 1e3, c.gather * 1e3, c.read * 1e3);
}

static void print_table(const plan_job *j, const rates *r, int ranks, int nodes) {
    int each = (ranks + nodes - 1) / nodes, fewest = shards_at(j, (machine){ranks, nodes});
    step_cost c = j->options.batch ? cost_of_step(j, r, (machine){1, 1}) : (step_cost){0};
    printf("%6s %6s%s%s\n", "ranks", "nodes", j->site_width ? " harvest tok/s     hours     " : "",
           j->options.batch ? "    step ms    train/s     hours  effic. comm.  GB/rank" : "");
    for (int n = fewest;; n = n * 2 < ranks ? n * 2 : ranks) {
        machine p = {n, (n + each - 1) / each};
        print_row(j, r, p, total(&c));
        if (n == ranks) break;
    }
    if (!j->options.batch) return;
    if (fewest == 1) print_parts(j, r, (machine){1, 1});
    if (ranks > 1) print_parts(j, r, (machine){ranks, nodes});
    bool too_much = r->memory > 0 && train_memory(j, (machine){fewest, (fewest + each - 1) / each}) > r->memory;
    if (too_much) printf("!: more than the %.3g GB that a rank has\n", r->memory / 1e9);
}

/* ---- the command --------------------------------------------------------------------------------------- */

static mw_status find_rates(plan_job *j, const mw_comm *comm, const char *device, rates *out) {
    const mw_model_info *m = mw_model_about(j->model);
    mw_backend *backend = NULL;
    j->own_memory = strcmp(device, "measured") != 0;
    if (j->own_memory) return mw_comm_agree(comm, rates_of_device(device, out));
    bool sae = j->options.batch > 0;
    const rate_sizes sizes = {.width = m->d_model,
                              .d_mlp = m->d_mlp,
                              .heads = m->n_heads,
                              .head_dim = m->head_dim,
                              .context = j->e->dataset.options.context,
                              .d = sae ? j->shape.d : m->d_model,
                              .n = sae ? j->shape.n : 4 * m->d_model,
                              .k = sae && j->shape.k ? j->shape.k : 32};
    mw_status status = mw_comm_agree(comm, mw_backend_open("cpu", &backend));
    if (status == MW_OK) status = rates_measure(backend, comm, &sizes, j->e->top.store, out);
    mw_backend_close(&backend);
    return status;
}

mw_status mw_experiment_plan(const mw_experiment *experiment, const mw_comm *comm, const mw_plan_options *options) {
    plan_job j = {0};
    rates r = {0};
    int ranks = options->ranks > 0 ? (int)options->ranks : mw_comm_size(comm);
    int nodes = options->nodes > 0 ? (int)options->nodes : 1;
    MW_TRY(settings_same(experiment, comm));
    mw_status status =
        nodes <= ranks
            ? read_job(experiment, options->tokens, &j)
            : mw_error(MW_ERR_CONFIG, "--nodes: expected at most %d, the number of ranks, found %d", ranks, nodes);
    if (status == MW_OK && j.options.batch && j.options.shards > 1)
        status = mw_sae_check_shards(&j.shape, ranks, j.options.shards);
    status = mw_comm_agree(comm, status);
    if (status == MW_OK) status = find_rates(&j, comm, options->device, &r);
    if (status == MW_OK && mw_comm_rank(comm) == 0) {
        print_job(&j);
        rates_print(&r);
        print_table(&j, &r, ranks, nodes);
        fflush(stdout);
    }
    mw_model_free(&j.model);
    return status;
}
