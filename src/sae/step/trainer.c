/* The life of a trainer: its memory, its copy of the SAE on a device, its communicators. */
#include "sae/shards.h"

#include <string.h>

static mw_status check_options(const mw_train_options *o) {
    if (o->batch < 1 || o->steps < 0 || o->batch > INT32_MAX / (SETS_MAX + 1))
        return mw_error(MW_ERR_CONFIG, "train.batch: expected 1 to %d rows and at least 0 steps, found %lld and %lld",
                        INT32_MAX / (SETS_MAX + 1), (long long)o->batch, (long long)o->steps);
    return MW_OK;
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

/* An array of the trainer. */
typedef struct array {
    void *slot; /* points to the member of mw_trainer */
    int64_t count;
    size_t item;
    bool host; /* in host memory; else in the device's */
} array;

enum { ARRAYS_MAX = 22 + 4 * P_COUNT + SETS_MAX + 1 };

static int list_parameter_memory(mw_trainer *t, array *out) {
    int n = 0;
    for (int i = 0; i < P_COUNT; i++) {
        parameter *p = &t->parameter[i];
        if (!p->value) continue;
        int64_t count = parameter_count(t, p);
        out[n++] = (array){&p->grad, count, sizeof(float), false};
        out[n++] = (array){&p->m, count, sizeof(float), false};
        out[n++] = (array){&p->v, count, sizeof(float), false};
        if (t->options.ema > 0) out[n++] = (array){&p->ema, count, sizeof(float), false};
    }
    return n;
}

static int list_set_memory(mw_trainer *t, array *out) {
    int n = 0;
    for (int p = 0; p < t->layout.n_sets; p++) {
        out[n++] = (array){&t->set[p].start, t->options.batch + 1, sizeof(int64_t), true};
    }
    out[n++] = (array){&t->aux.start, t->options.batch + 1, sizeof(int64_t), true};
    return n;
}

/* Lists all arrays but those of the sparse codes, which grow with the number of codes in a batch. */
static int list_memory(mw_trainer *t, array out[ARRAYS_MAX]) {
    int64_t n = t->sae->n, d = t->sae->d, d_out = t->sae->d_out, batch = t->options.batch, rows = t->end - t->begin;
    int64_t n_latent_blocks = latent_blocks(t), tiles = batch_tiles(t),
            out_blocks = t->layout.n_recons + (t->options.aux_k > 0);
    bool penalized = variant_of(t->sae)->penalty != NULL;
    const array fixed[] = {
        {&t->since_fired, n, 8, false},
        {&t->silent, n, 4, false},
        {&t->dead, n, 4, true},
        {&t->norms, penalized ? n : 0, 4, false},
        {&t->share_sums[0], penalized ? t->n_latents : 0, 8, true},
        {&t->share_sums[1], penalized ? t->n_latents : 0, 8, true},
        {&t->costs, penalized ? t->n_latents : 0, 8, true},
        {&t->pre_sum, t->n_latents, 8, false},
        {&t->input, batch * d, 4, false},
        {&t->out_grad, out_blocks * batch * d_out, 4, false},
        {&t->kept_error, keeps_error(&t->options) ? rows * d_out : 0, 4, false},
        {&t->lists.start, t->n_latents + 1, 8, false},
        {&t->tile_sums, 2 * tiles * (d_out + 1) + t->layout.n_recons * tiles, 8, false},
        {&t->sums, sums_width(t), 8, false},
        {&t->totals, sums_width(t), 8, true},
        {&t->encoder_sums, n_latent_blocks * d, 8, false},
        {&t->square_sums, n_latent_blocks, 8, false},
        {&t->block_sums, n_latent_blocks, 8, true},
        {&t->shard_entries, t->sae->shard.count + 1, 8, true},
        {&t->shard_sums, shard_sums(t), 8, true},
        {&t->tallies, (t->data ? mw_comm_size(t->data) : 1) * TALLIES, 8, true},
    };
    int count = sizeof fixed / sizeof *fixed;
    memcpy(out, fixed, sizeof fixed);
    count += list_parameter_memory(t, out + count);
    return count + list_set_memory(t, out + count);
}

static mw_status allocate(mw_trainer *t) {
    array all[ARRAYS_MAX];
    int count = list_memory(t, all);
    for (int i = 0; i < count; i++) {
        void *block = NULL;
        if (!all[i].host)
            MW_TRY(mw_backend_zeros(t->backend, all[i].count, all[i].item, &block));
        else if (!(block = mw_calloc((size_t)all[i].count, all[i].item)))
            return MW_ERR_MEMORY;
        memcpy(all[i].slot, &block, sizeof block);
    }
    return MW_OK;
}

static int64_t codes_bytes(const mw_trainer *t, bool own_memory) {
    int64_t n = t->sae->shard.total, shards = t->sae->shard.count;
    int64_t active = t->sae->k ? t->sae->k : n / 16; /* an estimate: early steps with a penalty may have more */
    if (t->options.k_anneal_steps && t->options.k_start > active) active = t->options.k_start;
    int64_t each = (2 * t->layout.n_sets * active + t->options.aux_k) / shards + 1;
    int64_t pre = t->sae->n * mw_chunk_rows(!own_memory, t->sae->n);
    return each * t->options.batch * 12 + pre * 4;
}

/* Copies of W_enc are in the memory of its gradient: that is made after rows are encoded, and used up before W_enc is
 * copied again. */
static encoder_choice choice_of(const mw_trainer *t) {
    const mw_train_options *o = &t->options;
    const parameter *w_enc = &t->parameter[P_W_ENC];
    return (encoder_choice){.precision = o->precision,
                            .screen = o->screen,
                            .rows = o->batch,
                            .room = {w_enc->grad, (size_t)parameter_count(t, w_enc) * sizeof(float)}};
}

/* Bytes of a batch on a device: two as stored, of which one arrives while the other is in use, and one scaled. */
static int64_t rows_bytes(const mw_trainer *t) {
    int64_t width = t->sae->d + (t->sae->transcoder ? t->sae->d_out : 0);
    return 3 * (t->end - t->begin) * width * (int64_t)sizeof(float);
}

static int64_t copied_bytes(int64_t bytes) {
    return bytes <= EXCHANGE_COPIED ? bytes : 0;
}

/* Memory for the messages of ranks whose arrays are in host memory: the largest exchanges are those of a batch and of
 * weights. */
static int64_t message_bytes(const mw_trainer *t, int64_t codes) {
    int64_t batch = t->options.batch, d = t->sae->d, out = t->sae->d_out, n = t->sae->n;
    int64_t rows = copied_bytes(batch * d * 4) + t->layout.n_recons * copied_bytes(batch * out * 4) + codes;
    int64_t weights = copied_bytes(n * d * 4) + copied_bytes(n * out * 4);
    return (rows > weights ? rows : weights) / 4 * 5;
}

int64_t mw_training_bytes(const mw_sae_shape *shape, const mw_train_options *options, int ranks, bool own_memory) {
    float present; /* its address stands for parameters that exist */
    mw_sae sae;
    array all[ARRAYS_MAX];
    mw_log_quiet(true);
    mw_status known = sae_set_shape(&sae, shape);
    mw_log_quiet(false);
    if (known != MW_OK) return 0;
    sae.w_enc = sae.b_enc = sae.w_dec = sae.b_dec = &present;
    if (shape->skip) sae.w_skip = &present;
    for (int i = 0; i < MW_EXTRAS; i++)
        if (variant_of(&sae)->extra[i].name) sae.extra[i] = &present;
    int64_t shards = shards_of(options);
    if (ranks % shards != 0) return 0;
    shard_assign(&sae, ranks - 1, ranks, shards);
    mw_trainer *t = mw_calloc(1, sizeof *t);
    if (!t) return 0;
    t->sae = &sae;
    t->options = *options;
    lay_out(t, ranks - 1, ranks); /* the last has the largest share */
    const encoder_choice choice = choice_of(t);
    int64_t codes = codes_bytes(t, own_memory), bytes = codes + encoder_bytes(t->sae, &choice, own_memory);
    if (ranks > 1 && !own_memory) bytes += message_bytes(t, codes / 2);
    if (own_memory) bytes += rows_bytes(t);
    int count = list_memory(t, all);
    for (int i = 0; i < count; i++) bytes += all[i].count * (int64_t)all[i].item;
    for (int i = 0; i < P_COUNT; i++)
        if (t->parameter[i].value) bytes += t->parameter[i].rows * t->parameter[i].columns * (int64_t)sizeof(float);
    mw_free(t);
    return bytes;
}

/* Codes are in the memory of the backend that steps run on. */
static void set_memory(mw_trainer *t) {
    mw_backend *memory = t->backend->ops->host_memory ? NULL : t->backend;
    for (int p = 0; p < SETS_MAX; p++) t->set[p].mine.memory = memory;
    t->aux.mine.memory = t->selection.memory = memory;
}

/* t->data: the ranks with the same shard. */
static mw_status split_data(mw_trainer *t) {
    const mw_shard *shard = &t->host->shard;
    t->data = t->comm;
    if (!shard->peers) return MW_OK;
    MW_TRY(mw_comm_split(t->comm, mw_comm_rank(shard->peers), &t->own_data));
    t->data = t->own_data;
    return MW_OK;
}

static mw_status prepare(mw_trainer *t) {
    if (t->backend->ops->host_memory) { /* steps change the caller's SAE in place */
        t->sae = t->host;
        t->backend = t->host->backend;
    } else {
        MW_TRY(sae_copy_to(t->host, t->backend, &t->sae));
    }
    lay_out(t, mw_comm_rank(t->comm), mw_comm_size(t->comm));
    set_memory(t);
    MW_TRY(allocate(t));
    const encoder_choice choice = choice_of(t);
    t->sae->centered = true;
    MW_TRY(sae_prepare(t->sae, &choice));
    t->sae->encoder.dots = &t->dots;
    return MW_OK;
}

/* The allgathers of a step need the same kind of memory on all ranks. */
static mw_status check_devices(const mw_comm *comm, const mw_backend *backend) {
    int64_t hosts = backend->ops->host_memory ? 1 : 0, size = mw_comm_size(comm);
    MW_TRY(mw_comm_allreduce_sum(comm, &hosts, 1));
    if (hosts == 0 || hosts == size) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%lld of %lld ranks have a GPU: give one to each, or set model.device to cpu",
                    (long long)(size - hosts), (long long)size);
}

mw_status mw_trainer_new(mw_sae *sae, const mw_comm *comm, const mw_train_options *options, double loss_scale,
                         mw_trainer **out) {
    MW_TRY(mw_comm_agree(comm, check_options(options)));
    MW_TRY(check_devices(comm, options->device ? options->device : sae->backend));
    mw_trainer *t = mw_calloc(1, sizeof *t);
    MW_TRY(mw_comm_agree(comm, t ? MW_OK : MW_ERR_MEMORY));
    *t = (mw_trainer){.host = sae,
                      .backend = options->device ? options->device : sae->backend,
                      .comm = comm,
                      .options = *options,
                      .loss_scale = loss_scale};
    mw_status status = mw_comm_agree(comm, split_data(t));
    if (status == MW_OK) status = mw_comm_agree(comm, prepare(t));
    if (status != MW_OK)
        mw_trainer_free(&t);
    else
        *out = t;
    return status;
}

static void free_sets(mw_trainer *t) {
    for (int p = 0; p < SETS_MAX; p++) codes_free(t->backend, &t->set[p]);
    codes_free(t->backend, &t->aux);
    mw_codes_free(&t->selection);
}

void mw_trainer_free(mw_trainer **slot) {
    mw_trainer *t = *slot;
    array all[ARRAYS_MAX];
    if (!t) return;
    if (t->data && end_gathers(t) != MW_OK) mw_log(MW_LOG_WARNING, "an allgather between GPUs did not end");
    if (t->sae) {
        t->sae->centered = false;
        sae_unprepare(t->sae);
    }
    int count = t->sae ? list_memory(t, all) : 0;
    for (int i = 0; i < count; i++) {
        void *block;
        memcpy(&block, all[i].slot, sizeof block);
        memset(all[i].slot, 0, sizeof block);
        if (all[i].host)
            mw_free(block);
        else if (block)
            t->backend->ops->free(t->backend, block);
    }
    free_sets(t);
    void *grown[] = {t->x, t->y, t->lists.row, t->lists.coefficient};
    for (size_t i = 0; i < sizeof grown / sizeof *grown; i++)
        if (grown[i]) t->backend->ops->free(t->backend, grown[i]);
    if (t->sae != t->host) sae_free_copy(&t->sae);
    if (t->comm) exchange_close(t->comm);
    if (t->comm) mw_comm_leave_device(t->comm, t->backend);
    if (t->own_data) mw_comm_leave_device(t->own_data, t->backend);
    if (t->own_data) mw_comm_leave_device(t->host->shard.peers, t->backend);
    mw_comm_free(&t->own_data);
    mw_free(t);
    *slot = NULL;
}

mw_status mw_trainer_pull(mw_trainer *t) {
    MW_TRY(t->local);
    if (t->sae == t->host) return MW_OK;
    MW_TRY(end_gathers(t));
    return sae_fetch(t->sae, t->host);
}

/* ---- progress -------------------------------------------------------------------------------------------- */

void mw_trainer_rows(const mw_trainer *t, int64_t *begin, int64_t *end) {
    *begin = t->begin;
    *end = t->end;
}

int64_t mw_trainer_steps_done(const mw_trainer *t) {
    return t->step;
}
